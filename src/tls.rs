//! TLS on the relay's own side: the constrained authority, the leaves it signs, and whom the upstream leg believes.

pub mod authority;
pub(crate) mod constraints;
pub(crate) mod dates;
mod former;
pub(crate) mod generations;
pub mod handshake;
pub mod identities;
pub mod leaf;
pub(crate) mod readiness;
pub mod roots;
mod rotation;
mod tickets;
pub mod trust;
pub mod witness;

use std::io;
use std::sync::Arc;

use rustls::AlertDescription;
use rustls::crypto::CryptoProvider;

/// The one crypto provider, named explicitly so that nothing depends on a process-wide default.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// ALPN: HTTP/1.1 or nothing; `h2` is never selected: with an `https://` proxy Go offers `h2` and then speaks
/// HTTP/1.1 all the same.
pub const ALPN_HTTP_1_1: &[u8] = b"http/1.1";

/// An alert that is sent where rustls has no part: before it has a configuration, or without one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alert {
    /// 40: nothing can be agreed on.
    HandshakeFailure,
    /// 112: there is no certificate for this name (RFC 6066 §3).
    UnrecognizedName,
}

impl Alert {
    /// A fatal alert as a record in the clear, which is legal before the ServerHello (RFC 8446 §6).
    pub fn to_bytes(self) -> [u8; 7] {
        let description = match self {
            Self::HandshakeFailure => AlertDescription::HandshakeFailure,
            Self::UnrecognizedName => AlertDescription::UnrecognisedName,
        };
        [21, 3, 3, 0, 2, 2, u8::from(description)]
    }
}

/// What is known of a client that was shown our certificate and left. Some check it and say nothing: Node in the
/// middle of the handshake, GnuTLS after it.
pub fn left(error: Option<&io::Error>) -> &'static str {
    error.and_then(distrust).unwrap_or(
        "closed once it had our certificate, as some clients do that do not trust our root; install root.pem \
         where the product looks for it",
    )
}

/// What a client says that doesn't trust our root: the most common mistake of all, told in words.
pub fn distrust(error: &io::Error) -> Option<&'static str> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown,
        ) => Some("this client does not trust our root; install root.pem where the product looks for it"),
        _ => None,
    }
}
