//! The way to the back end: one send, one reply, or why not.

pub mod address;
pub mod dial;
pub mod pool;
pub mod send;

use std::net::IpAddr;
use std::time::Duration;

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
    /// No address took a connection, or finished TLS, in time.
    #[error("{host} did not take a connection within {} s", .after.as_secs())]
    ConnectTimeout {
        /// The name.
        host: String,
        /// `upstream.connect_timeout`.
        after: Duration,
    },
    /// Its certificate is not believed.
    #[error("the certificate of {host} is not valid: {cause}")]
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
    /// The class that the log records: `dns`, `connect`, `tls`, `timeout`, `reply`, `policy`.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Dns { .. } => "dns",
            Self::Prohibited { .. } | Self::Loop { .. } => "policy",
            Self::Connect { .. } => "connect",
            Self::ConnectTimeout { .. } | Self::ResponseTimeout { .. } => "timeout",
            Self::Certificate { .. } | Self::Tls { .. } => "tls",
            Self::Incomplete { .. } => "reply",
        }
    }
}

/// An error with all its causes, in one line: what the log shows, and clients don't.
pub fn whole_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let line = cause.to_string();
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        next = cause.source();
    }
    text
}
