//! Why a request is refused, and what follows from that: what the log calls it, and who could be let in by an entry.

use std::time::Duration;

use super::limits::Limited;
use crate::config::model::{Licensing, Unread};
use crate::licensing::asker::Understanding;
use relay_log::ledger::action::Action;

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

    /// What the log calls the refusal.
    pub fn action(&self) -> Action {
        match self {
            Self::SourceLimit(_)
            | Self::RecordLimit(_)
            | Self::LogLimit(_)
            | Self::StrangersLogLimit(_)
            | Self::AddressLimit(_) => Action::AccessLimited,
            Self::Unreadable(_)
            | Self::Unrecognised
            | Self::TwoSources
            | Self::TwoKeys
            | Self::TwoLicenses
            | Self::UnfitSource(_)
            | Self::Contradiction(_) => Action::AccessInvalid,
            Self::UnknownSource(_)
            | Self::WrongPlace(_)
            | Self::LicenseElsewhere(_)
            | Self::LicenseAlone(_)
            | Self::Unidentified(_)
            | Self::DirectTls
            | Self::NoUser => Action::AccessDenied,
        }
    }

    /// Whether an entry of the allow-list could let in the client that is refused, so that it belongs among the pending ones.
    pub fn is_about_who(&self, licensing: &Licensing) -> bool {
        match self {
            // Where the site refuses such bodies from everybody, no entry helps.
            Self::Unreadable(_) => licensing.unreadable != Unread::Deny,
            Self::Unrecognised => licensing.unrecognised != Unread::Deny,
            // Credentials are missing, and no entry stands in for them.
            Self::DirectTls | Self::NoUser => false,
            Self::UnknownSource(_)
            | Self::WrongPlace(_)
            | Self::LicenseElsewhere(_)
            | Self::LicenseAlone(_)
            | Self::Unidentified(_) => true,
            Self::TwoSources
            | Self::TwoKeys
            | Self::TwoLicenses
            | Self::UnfitSource(_)
            | Self::Contradiction(_)
            | Self::SourceLimit(_)
            | Self::RecordLimit(_)
            | Self::LogLimit(_)
            | Self::StrangersLogLimit(_)
            | Self::AddressLimit(_) => false,
        }
    }

    /// Whether an entry of the allow-list names the client already, but for other addresses or users.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::WrongPlace(_) | Self::LicenseElsewhere(_))
    }

    /// By which of the names in a refused message an entry could let its client in: source id and license. A license alone
    /// lets in activations and definitions (`sourceless`), and no name counts where nothing of the body was read. With
    /// neither, a user or a network has to.
    pub fn names<'m>(
        &self,
        understanding: Understanding<'_>,
        source: Option<&'m str>,
        license: Option<&'m str>,
        sourceless: bool,
    ) -> (Option<&'m str>, Option<&'m str>) {
        match understanding {
            Understanding::Unreadable(_) => (None, None),
            _ if sourceless || matches!(self, Self::LicenseElsewhere(_)) => (source, license),
            _ => (source, license.filter(|_| source.is_some())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LICENSING: Licensing =
        Licensing { vocabulary: None, unreadable: Unread::Proven, unrecognised: Unread::Deny };

    #[test]
    fn only_a_client_that_an_entry_could_let_in_is_pending() {
        let is_pending = |denial: Denial| denial.is_about_who(&LICENSING);
        assert!(is_pending(Denial::UnknownSource("a".into())));
        assert!(is_pending(Denial::Unidentified(None)));
        assert!(is_pending(Denial::Unreadable("why".into())));
        for nobody in [
            Denial::Unrecognised,
            Denial::NoUser,
            Denial::DirectTls,
            Denial::TwoSources,
            Denial::LogLimit(Duration::ZERO),
        ] {
            assert!(!is_pending(nobody.clone()), "{nobody}");
        }
    }

    #[test]
    fn a_license_alone_lets_in_what_names_no_source_by_nature() {
        let unknown = Denial::Unidentified(Some("1234".into()));
        let names = |understanding, source, sourceless| {
            unknown.names(understanding, source, Some("1234"), sourceless)
        };
        assert_eq!(names(Understanding::Message, None, false), (None, None));
        assert_eq!(names(Understanding::Message, None, true), (None, Some("1234")));
        assert_eq!(names(Understanding::Message, Some("a"), false), (Some("a"), Some("1234")));
        assert_eq!(names(Understanding::Unreadable("why"), Some("a"), true), (None, None));
        let elsewhere = Denial::LicenseElsewhere("1234".into());
        assert_eq!(elsewhere.names(Understanding::Message, None, Some("1234"), false), (None, Some("1234")));
    }
}
