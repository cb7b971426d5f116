//! Who says it is asking, and how much of what it says is understood.

use relay_log::names::SourceId;

/// How much of a request is understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Understanding<'a> {
    /// The connectivity test that people use.
    Test,
    /// A message.
    Message,
    /// A message that no vocabulary entry matches.
    Unrecognised,
    /// A body that can't be read, and why.
    Unreadable(&'a str),
}

/// Who says it is asking.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClaimedSource {
    /// Nobody says.
    Nobody,
    /// This source.
    Source(SourceId),
    /// Two different ids stand at one place.
    Conflict,
    /// Two different license keys stand at one place, or keys of two licenses.
    TwoKeys,
    /// Two different license numbers stand at one place, or in a message that is about one license.
    TwoLicenses,
    /// What stands there can't be an id.
    Unfit(String),
    /// The bytes have two readings, and why.
    Contradiction(&'static str),
}

impl ClaimedSource {
    /// The id that is said, where one is.
    pub fn id(&self) -> Option<&SourceId> {
        match self {
            Self::Source(id) => Some(id),
            _ => None,
        }
    }

    /// Whether what is said contradicts itself.
    pub fn is_contradiction(&self) -> bool {
        matches!(self, Self::Conflict | Self::TwoKeys | Self::TwoLicenses | Self::Contradiction(_))
    }
}
