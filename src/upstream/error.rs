//! Why there is no reply of the back end.

use std::net::IpAddr;
use std::time::Duration;

use crate::observe::labels::ErrorClass;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The name gave no address.
    #[error("{host} can't be resolved")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        cause: std::io::Error,
    },
    /// The name leads inside.
    #[error("{host} resolves to {address}, {why}")]
    Prohibited {
        /// The name.
        host: String,
        /// The address.
        address: IpAddr,
        /// What it is.
        why: &'static str,
    },
    /// The name leads to the relay itself.
    #[error("{host} resolves to this relay; set connect_to for it in relay.toml")]
    Loop {
        /// The name.
        host: String,
    },
    /// No address takes a connection.
    #[error("{host} can't be connected to")]
    Connect {
        /// The name.
        host: String,
        /// What each address said.
        #[source]
        cause: std::io::Error,
    },
    /// No address took a connection in time.
    #[error("{host} did not take a connection within {} s", .after.as_secs())]
    ConnectTimeout {
        /// The name.
        host: String,
        /// `upstream.connect_timeout`.
        after: Duration,
    },
    /// An address took the connection, and then TLS took too long.
    #[error("{host} took the connection, and did not finish TLS within {} s", .after.as_secs())]
    HandshakeTimeout {
        /// The name.
        host: String,
        /// `upstream.connect_timeout`.
        after: Duration,
    },
    /// The parent proxy opens no tunnel.
    #[error("the parent proxy {proxy} {cause}")]
    Parent {
        /// The parent.
        proxy: String,
        /// What it answered.
        #[source]
        cause: super::parent::ParentError,
    },
    /// It demands a certificate of ours; usually something in between does.
    #[error("{host} demands a client certificate, which this relay has not")]
    WantsCertificate {
        /// The name.
        host: String,
    },
    /// Its certificate is not believed.
    #[error("the certificate of {host} {}", fault(.cause))]
    Certificate {
        /// The name.
        host: String,
        /// What the verifier said.
        cause: rustls::CertificateError,
    },
    /// TLS failed for another reason.
    #[error("TLS with {host} failed")]
    Tls {
        /// The name.
        host: String,
        /// What the library said.
        #[source]
        cause: std::io::Error,
    },
    /// It closed, or sent what is no HTTP, before the reply was whole.
    #[error("{host} closed the connection before its reply was whole")]
    Incomplete {
        /// The name.
        host: String,
        /// What the library said.
        #[source]
        cause: hyper::Error,
    },
    /// It switched to another protocol (101), which nothing that is sent asks for.
    #[error("{host} switched to another protocol, which nobody asked for")]
    Switched {
        /// The name.
        host: String,
    },
    /// The reply took too long.
    #[error("{host} did not reply within {} s", .after.as_secs())]
    ResponseTimeout {
        /// The name.
        host: String,
        /// `upstream.response_timeout`.
        after: Duration,
    },
}

impl UpstreamError {
    /// The class that the log records.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Dns { .. } => ErrorClass::Dns,
            Self::Parent { cause, .. } => cause.class(),
            Self::Prohibited { .. } | Self::Loop { .. } => ErrorClass::Policy,
            Self::Connect { .. } => ErrorClass::Connect,
            Self::ConnectTimeout { .. } | Self::HandshakeTimeout { .. } | Self::ResponseTimeout { .. } => {
                ErrorClass::Timeout
            }
            Self::Certificate { .. } | Self::WantsCertificate { .. } | Self::Tls { .. } => ErrorClass::Tls,
            Self::Incomplete { .. } | Self::Switched { .. } => ErrorClass::Reply,
        }
    }
}

/// What is wrong with a certificate, in words that fit a reason phrase.
fn fault(cause: &rustls::CertificateError) -> String {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidForName, NotValidForNameContext, Other};
    use rustls::CertificateError::{NotValidYet, NotValidYetContext, UnknownIssuer};
    match cause {
        // The verifier of `tls::roots` names the issuer.
        Other(other) => other.to_string(),
        UnknownIssuer => "is of an issuer that is not trusted".into(),
        Expired | ExpiredContext { .. } => "has expired".into(),
        NotValidYet | NotValidYetContext { .. } => "is not valid yet; is this machine's clock right?".into(),
        NotValidForName | NotValidForNameContext { .. } => "is for another name".into(),
        other => format!("is not valid: {other}"),
    }
}
