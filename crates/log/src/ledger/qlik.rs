//! The members of a record that are Qlik's: licenses, versions and what was assigned.

use jiff::Timestamp;
use serde::Serialize;

use super::action::{Direction, IdentifiedBy};

/// The fields ECS has no name for, in the order they are written; absent ones are left out.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)] // The names are AUDIT's and the guide's own.
pub struct Qlik {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// The places of a source id that did not decide, with what stood there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_sources: Vec<String>,
    /// What let the request in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identified_by: Option<IdentifiedBy>,
    /// `false` where `observe` let a stranger in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listed: Option<bool>,
    /// The entry of the allow-list that let a tunnel in: its name, or what it lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The Basic user of a tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_user: Option<String>,
    /// Where a tunnel leads, as `host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allotment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_version: Option<u64>,
    /// The version that the deployment stood at when it asked, on the reply: an idle sync has no other record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_sent: Option<u64>,
    /// All bases of a sync, where they are not one of the record's own license.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<Base>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patches: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub month: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<serde_json::Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<serde_json::Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<serde_json::Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<String>,
    /// A number, `unlimited` or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The back end's `Date`, which bounds the error of our clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_date: Option<String>,
    /// Member names and types of a body that is not understood, or not in all its parts; no values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// Names of members that are doubled in one object of the body: which of the two counts, this relay can't know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doubled: Vec<String>,
    /// What a strict reader would have stumbled over in a body that a lenient one reads all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lenient: Vec<&'static str>,
    /// Where a site's vocabulary and the built-in one differ: what the other of the two reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_reading: Option<OtherReading>,
    /// The Basic user name that was tried and refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tried_user: Option<String>,
    /// The same person's pseudonym under a retired key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<String>,
    /// The key of pseudonyms that something was done to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// How the run before this one ended: `clean` or `unclean`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_stop: Option<&'static str>,
    /// Bytes behind the last whole line that a start has taken away, and the file in `quarantine/` that keeps them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine_file: Option<String>,
    /// The records that were pruned, the first and the last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Repeat>,
}

/// A license in a sync, and the versions that the two sides stand at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[allow(missing_docs)] // As in `Qlik`.
pub struct Base {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// What one of the two vocabularies reads where the other reads something else; what both read alike is left out.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[allow(missing_docs)] // As in `Qlik`.
pub struct OtherReading {
    /// Whose reading this is: `built-in` or `site`.
    pub vocabulary: &'static str,
    /// The kind of message it is under that vocabulary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// `add`, `delete` or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<&'static str>,
}

/// How often a folded record happened, and when first and last.
#[derive(Clone, Debug, Serialize)]
pub struct Repeat {
    /// The exact count.
    pub count: u64,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
}
