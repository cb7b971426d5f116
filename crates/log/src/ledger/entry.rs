//! A line of the log as it is read back: borrowed from the line, so that a reader passes over millions of them without
//! keeping any. What a newer program has added is passed over; what a line does not have is empty or absent.

mod scan;

use std::borrow::Cow;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

/// One record.
#[derive(Debug, Deserialize)]
#[serde(from = "Written<'_>")]
#[serde(bound(deserialize = "'de: 'a"))]
pub struct Entry<'a> {
    /// When it was written, by the relay's clock.
    pub time: Timestamp,
    /// Its number.
    pub sequence: u64,
    /// The exchange, shared by all its records.
    pub exchange: Text<'a>,
    /// What happened (`event.action`).
    pub action: Text<'a>,
    /// How it ended.
    pub outcome: Ended,
    /// Why, in plain words.
    pub reason: Text<'a>,
    /// What ECS has no name for.
    pub qlik: QlikMembers<'a>,
    /// The person, as pseudonym.
    pub subject: Option<Text<'a>>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The client's `User-Agent`.
    pub user_agent: Option<Text<'a>>,
    /// The version of the relay that wrote it.
    pub written_by: Option<Text<'a>>,
}

impl<'a> Entry<'a> {
    /// The record of a line, without its line feed; `None` where it is none.
    pub fn at(line: &'a [u8]) -> Option<Self> {
        Self::as_written(line).or_else(|| Self::parsed(line))
    }

    /// The same of a line exactly as the relay usually writes one; `None` where that must be asked of a JSON parser.
    pub(crate) fn as_written(line: &'a [u8]) -> Option<Self> {
        scan::scan(line)
    }

    /// The same of any line, by a JSON parser.
    pub(crate) fn parsed(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

/// Text that is borrowed from the line where nothing in it is escaped.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// How an exchange or a change ended (`event.outcome`).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// Done.
    Success,
    /// Refused, rejected or failed.
    Failure,
    /// Not known yet, or never.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Ended {
    /// In answers, as it is recorded.
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Unknown => "unknown",
        }
    }
}

/// The members of `qlik` that readers look at; [`Qlik`](crate::ledger::qlik::Qlik) says what they are.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
#[allow(missing_docs)] // As in `Qlik`.
pub struct QlikMembers<'a> {
    /// `out` is asked by a deployment, `in` told by the back end.
    pub direction: Option<Text<'a>>,
    pub source_id: Option<Text<'a>>,
    pub identified_by: Option<Text<'a>>,
    pub license: Option<Text<'a>>,
    pub license_jti: Option<Text<'a>>,
    pub cause: Option<Text<'a>>,
    pub allotment: Option<Text<'a>>,
    pub instance: Option<Text<'a>>,
    pub version: Option<u64>,
    pub base_version: Option<u64>,
    pub base_sent: Option<u64>,
    pub bases: Vec<RecordedBase<'a>>,
    pub created: Option<Text<'a>>,
    pub rejection: Option<Text<'a>>,
    pub month: Option<Text<'a>>,
    #[serde(deserialize_with = "whole")]
    pub delta: Option<i64>,
    #[serde(deserialize_with = "whole")]
    pub total: Option<i64>,
    pub class: Option<Text<'a>>,
    pub access_type: Option<Text<'a>>,
    #[serde(deserialize_with = "whole")]
    pub count: Option<i64>,
    pub valid_from: Option<Text<'a>>,
    pub valid_to: Option<Text<'a>>,
    pub overage: Option<Text<'a>>,
    pub http_status: Option<u16>,
    pub server_date: Option<Text<'a>>,
    pub shape: Option<Text<'a>>,
    pub doubled: Vec<Text<'a>>,
    pub lenient: Vec<Text<'a>>,
    pub previous_stop: Option<Text<'a>>,
    pub repeat: Option<Repeated>,
    pub other_reading: Option<OtherSaid<'a>>,
    pub tried_user: Option<Text<'a>>,
    pub alias_of: Option<Text<'a>>,
    pub key_id: Option<Text<'a>>,
    pub from_index: Option<u64>,
    pub to_index: Option<u64>,
}

/// A license in a sync, and the versions that the two sides stand at.
#[derive(Debug, Deserialize)]
#[allow(missing_docs)] // As in `Base`.
pub struct RecordedBase<'a> {
    #[serde(borrow)]
    pub license: Option<Text<'a>>,
    pub sent: Option<u64>,
    pub version: Option<u64>,
}

/// What the other of two vocabularies reads, where it reads something else.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
#[allow(missing_docs)] // As in `OtherReading`.
pub struct OtherSaid<'a> {
    pub exchange: Option<Text<'a>>,
    pub source_id: Option<Text<'a>>,
    pub license: Option<Text<'a>>,
}

/// How often a folded record happened, and when first and last.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Repeated {
    /// The exact count.
    pub count: u64,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
}

/// Product and version, where a `User-Agent` is a license service's: `Licenses/1.6.4 (windows) QSEfW`.
pub fn product_of(user_agent: &str) -> Option<(&str, &str)> {
    let rest = user_agent.strip_prefix("Licenses/")?;
    let (version, rest) = rest.split_once(" (")?;
    let (_, product) = rest.split_once(") ")?;
    (!version.is_empty() && !product.is_empty()).then_some((product, version))
}

/// Numbers are recorded as they were told. What is no whole number that fits is none: it was never added to anything.
fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let number = Option::<serde_json::Number>::deserialize(from)?;
    Ok(number.and_then(|number| number.as_i64().or_else(|| fitting(number.as_f64()?))))
}

/// A number that is whole though it was written with a point or an exponent.
fn fitting(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Written<'a> {
    #[serde(rename = "@timestamp")]
    time: Timestamp,
    event: WrittenEvent<'a>,
    #[serde(default)]
    qlik: QlikMembers<'a>,
    user: Option<WrittenUser<'a>>,
    source: Option<WrittenSource>,
    user_agent: Option<WrittenAgent<'a>>,
    observer: Option<WrittenObserver<'a>>,
}

#[derive(Deserialize)]
struct WrittenEvent<'a> {
    sequence: u64,
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    action: Text<'a>,
    #[serde(default)]
    outcome: Ended,
    #[serde(borrow, default)]
    reason: Text<'a>,
}

#[derive(Deserialize)]
struct WrittenUser<'a> {
    #[serde(borrow)]
    target: Option<WrittenTarget<'a>>,
}

#[derive(Deserialize)]
struct WrittenTarget<'a> {
    #[serde(borrow)]
    hash: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct WrittenSource {
    ip: Option<IpAddr>,
}

#[derive(Deserialize)]
struct WrittenObserver<'a> {
    #[serde(borrow)]
    version: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct WrittenAgent<'a> {
    #[serde(borrow)]
    original: Option<Text<'a>>,
}

impl<'a> From<Written<'a>> for Entry<'a> {
    fn from(written: Written<'a>) -> Self {
        let WrittenEvent { sequence, id, action, outcome, reason } = written.event;
        Self {
            time: written.time,
            sequence,
            exchange: id,
            action,
            outcome,
            reason,
            qlik: written.qlik,
            subject: written.user.and_then(|user| user.target?.hash),
            client: written.source.and_then(|source| source.ip),
            user_agent: written.user_agent.and_then(|agent| agent.original),
            written_by: written.observer.and_then(|observer| observer.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Number;
    use uuid::Uuid;

    use super::*;
    use crate::ledger::action::{Action, Direction, Outcome};
    use crate::ledger::qlik::Base;
    use crate::ledger::record::{Observer, Record};

    fn line(record: &Record) -> Vec<u8> {
        let observer = Observer { name: "relay-01".into(), version: "0.1.0" };
        record.line(7, Timestamp::UNIX_EPOCH, &observer).unwrap()
    }

    #[test]
    fn what_was_written_is_read_back_without_being_copied() {
        let mut record = Record::new(Action::AssignmentAdd, Uuid::nil());
        record.outcome = Outcome::Success;
        record.reason = "said \"yes\"".into();
        record.subject = Some("hmac-sha256:k2026:00".into());
        record.client = Some([10, 0, 0, 7].into());
        record.user_agent = Some("Licenses/1.6.4 (windows) QSEfW".into());
        record.qlik.direction = Some(Direction::In);
        record.qlik.version = Some(14);
        record.qlik.count = Some(Number::from_f64(3.0).unwrap());
        record.qlik.delta = Some(Number::from_f64(3.5).unwrap());
        record.qlik.bases = vec![Base { license: Some("9999".into()), sent: Some(3), version: None }];
        let line = line(&record);
        let entry = Entry::at(&line[..line.len() - 1]).unwrap();
        assert!(matches!(entry.action.0, Cow::Borrowed("license.assignment.add")));
        assert!(matches!(&entry.subject, Some(Text(Cow::Borrowed("hmac-sha256:k2026:00")))));
        assert_eq!((&*entry.reason, entry.outcome, entry.sequence), ("said \"yes\"", Ended::Success, 7));
        assert_eq!((entry.qlik.version, entry.qlik.count, entry.qlik.delta), (Some(14), Some(3), None));
        assert_eq!(entry.qlik.bases[0].sent, Some(3));
        assert_eq!(entry.client, Some([10, 0, 0, 7].into()));
        assert_eq!(entry.user_agent.unwrap().0, "Licenses/1.6.4 (windows) QSEfW");
    }

    #[test]
    fn what_a_newer_program_has_added_is_passed_over_and_what_is_no_record_is_none() {
        let line = br#"{"@timestamp":"2027-01-01T00:00:00Z","event":{"sequence":1,"id":"x","action":"license.new","outcome":"maybe"},"qlik":{"new":[1],"direction":"in"},"more":1,"sum":"0"}"#;
        let entry = Entry::at(line).unwrap();
        assert_eq!((&*entry.action, entry.outcome), ("license.new", Ended::Unknown));
        assert!(Entry::at(b"{}").is_none() && Entry::at(b"junk").is_none());
    }
}
