//! Why a request is refused.

use std::time::Duration;

use super::limits::Limited;

/// Why a request is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Denial {
    /// The source is not in the allow-list.
    #[error("source {0} is not allowed")]
    UnknownSource(String),
    /// The source is in the allow-list, for other addresses or users.
    #[error("source {0} is not allowed from this address or user")]
    WrongPlace(String),
    /// Its license is in the allow-list, for other addresses or users.
    #[error("license {0} is not allowed from this address or user")]
    LicenseElsewhere(String),
    /// Its license is in the allow-list, and it is neither an activation nor a definition.
    #[error("license {0} lets in activations alone, and no source is named")]
    LicenseAlone(String),
    /// Nothing in it is known.
    #[error("{}", match .0 { Some(n) => format!("license {n} is not allowed"), None => "no source or license to allow it by".into() })]
    Unidentified(Option<String>),
    /// Two sources in one message.
    #[error("the message names two different sources")]
    TwoSources,
    /// Two license keys at one place of a message.
    #[error("the message names two different license keys")]
    TwoKeys,
    /// Two license numbers at one place, or in a message that is about one license.
    #[error("the message names two different licenses")]
    TwoLicenses,
    /// The id can't be one.
    #[error("the source id {0}")]
    UnfitSource(String),
    /// The bytes have two readings.
    #[error("{0}")]
    Contradiction(&'static str),
    /// Nothing of the body can be read, and neither a user nor a network proves the client.
    #[error("the body can't be read ({0})")]
    Unreadable(String),
    /// No vocabulary entry matches the message, and neither a user, a network nor a listed id lets it in.
    #[error("the message is not recognised")]
    Unrecognised,
    /// `listen.credentials = "required"`, and direct TLS, in which nothing proves the client by its network.
    #[error(
        "direct TLS can't send the user name and password demanded here; set the proxy, or list its networks"
    )]
    DirectTls,
    /// `listen.credentials = "required"`, and a client that has no user any more.
    #[error(
        "a user name and password are demanded, and those of this connection are missing or no longer right"
    )]
    NoUser,
    /// Too many requests of this source.
    #[error("too many requests of this source")]
    SourceLimit(Duration),
    /// Too many changes of this source.
    #[error("too many changes of this source (limits.per_source.records)")]
    RecordLimit(Duration),
    /// Too much of the log for this source.
    #[error(
        "the log's share of this source is used up; wait, or raise log_per_day (its limit, or limits.per_source)"
    )]
    LogLimit(Duration),
    /// Too much of the log for those whom no entry lets in.
    #[error("the log's share of strangers is used up; wait, or raise limits.strangers_log_per_day")]
    StrangersLogLimit(Duration),
    /// Too many requests of this address.
    #[error("too many requests of this address")]
    AddressLimit(Duration),
}

impl From<Limited> for Denial {
    fn from(limited: Limited) -> Self {
        match limited {
            Limited::Requests(wait) => Self::SourceLimit(wait),
            Limited::Records(wait) => Self::RecordLimit(wait),
            Limited::Log(wait) => Self::LogLimit(wait),
            Limited::StrangersLog(wait) => Self::StrangersLogLimit(wait),
        }
    }
}

impl Denial {
    /// The wait until it would be let in, where it is refused because it asks too much.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::SourceLimit(wait)
            | Self::RecordLimit(wait)
            | Self::LogLimit(wait)
            | Self::StrangersLogLimit(wait)
            | Self::AddressLimit(wait) => Some(*wait),
            _ => None,
        }
    }
}
