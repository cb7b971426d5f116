//! One line of the assignment log: ECS names, `qlik.*` for what ECS has no name for, keys in a fixed order,
//! `sum` last.
//!
//! A line is UTF-8 JSON without spaces, under 60,000 bytes, ended by one line feed. `sum` is the first 16 hex digits
//! of SHA-256 over the line without `,"sum":"…"`, so that a single line can be judged without any tree.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::action::{Action, Outcome};
use super::glance::sum_of;
use super::qlik::{Base, Qlik};

/// The longest line, in bytes without its line feed. tlog-tiles length-prefixes entries with 16 bits.
pub const MAX_LINE: usize = 59_999;
/// Everything of a record but its sequence, time and sum, which the writer adds.
#[derive(Clone, Debug)]
pub struct Record {
    /// What happened.
    pub action: Action,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in plain words; empty where the outcome says it all.
    pub reason: String,
    /// The exchange, shared by all its records.
    pub exchange: Uuid,
    /// What ECS has no name for.
    pub qlik: Qlik,
    /// The person, as pseudonym: `hmac-sha256:<key id>:<64 hex>`.
    pub subject: Option<String>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
}

impl Record {
    /// A record of something that happened, with nothing known about it but that.
    pub fn new(action: Action, exchange: Uuid) -> Self {
        Self {
            action,
            outcome: Outcome::Unknown,
            reason: String::new(),
            exchange,
            qlik: Qlik::default(),
            subject: None,
            client: None,
            user_agent: None,
        }
    }

    /// What it takes of memory, in bytes, as far as that is not the same for all: about as much as its line on disk, and
    /// never less than half of it.
    pub fn weight(&self) -> usize {
        let Qlik { other_sources, bases, doubled, shape, .. } = &self.qlik;
        let texts = [&self.subject, &self.user_agent, shape];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let lists: usize = other_sources.iter().chain(doubled).map(String::len).sum();
        size_of::<Self>() + self.reason.len() + texts + lists + bases.len() * size_of::<Base>()
    }

    /// The finished line, with its line feed.
    ///
    /// # Errors
    /// The line would be longer than [`MAX_LINE`].
    pub fn line(&self, sequence: u64, now: Timestamp, observer: &Observer) -> Result<Vec<u8>, RecordError> {
        let mut line = Vec::with_capacity(1024);
        self.write_line(&mut line, sequence, &stamp(now), observer)?;
        Ok(line)
    }

    /// Adds the finished line to others; `now` is a [`stamp`].
    ///
    /// # Errors
    /// The line would be longer than [`MAX_LINE`]; what is in `lines` behind those that were there is none then.
    pub fn write_line(
        &self,
        lines: &mut Vec<u8>,
        sequence: u64,
        now: &str,
        observer: &Observer,
    ) -> Result<(), RecordError> {
        let (category, kind) = self.action.class();
        let line = Line {
            timestamp: now,
            ecs: Ecs { version: "8.17" },
            event: Event {
                kind: "event",
                sequence,
                id: self.exchange,
                category,
                r#type: kind,
                action: self.action,
                outcome: self.outcome,
                reason: &self.reason,
            },
            qlik: &self.qlik,
            user: self.subject.as_deref().map(|hash| User { target: Target { hash } }),
            source: self.client.map(|ip| Source { ip }),
            user_agent: self.user_agent.as_deref().map(|original| UserAgent { original }),
            observer,
        };
        let begin = lines.len();
        serde_json::to_writer(&mut *lines, &line).map_err(|_| RecordError::Unserialisable)?;
        let sum = sum_of(digest(&SHA256, &lines[begin..]).as_ref());
        lines.pop();
        lines.extend_from_slice(b",\"sum\":\"");
        lines.extend_from_slice(sum.as_bytes());
        lines.extend_from_slice(b"\"}\n");
        match lines.len() - begin {
            0..=MAX_LINE => Ok(()),
            length => Err(RecordError::TooLong(length)),
        }
    }
}

/// A time as it stands in a line.
pub fn stamp(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// Why a record can't become a line.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordError {
    /// It is longer than [`MAX_LINE`].
    #[error("a record of {0} bytes is longer than {MAX_LINE}")]
    TooLong(usize),
    /// It isn't JSON; can't happen for these types.
    #[error("a record can't be written as JSON")]
    Unserialisable,
}

/// Who writes: the relay's name and version.
#[derive(Clone, Debug, Serialize)]
pub struct Observer {
    /// The log's origin.
    pub name: String,
    /// The program's version.
    pub version: &'static str,
}

/// Why the outcome of an exchange is unknown though a whole reply came.
pub const UNREAD_REPLY: &str = "the back end's reply could not be read";

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: &'a str,
    ecs: Ecs,
    event: Event<'a>,
    qlik: &'a Qlik,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<UserAgent<'a>>,
    observer: &'a Observer,
}

#[derive(Serialize)]
struct Ecs {
    version: &'static str,
}

#[derive(Serialize)]
struct Event<'a> {
    kind: &'static str,
    sequence: u64,
    id: Uuid,
    category: &'static [&'static str],
    r#type: &'static [&'static str],
    action: Action,
    outcome: Outcome,
    reason: &'a str,
}

#[derive(Serialize)]
struct User<'a> {
    target: Target<'a>,
}

#[derive(Serialize)]
struct Target<'a> {
    hash: &'a str,
}

#[derive(Serialize)]
struct Source {
    ip: IpAddr,
}

#[derive(Serialize)]
struct UserAgent<'a> {
    original: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::action::Direction;
    use crate::ledger::glance::sequence_of;

    fn line() -> Vec<u8> {
        let observer = Observer { name: "relay-01".into(), version: "0.1.0" };
        let mut record = Record::new(Action::AssignmentAdd, Uuid::nil());
        record.qlik.direction = Some(Direction::In);
        record.qlik.instance = Some("5382018630938057025".into());
        record.subject = Some("hmac-sha256:k2026:00".into());
        record.line(7, Timestamp::UNIX_EPOCH, &observer).unwrap()
    }

    #[test]
    fn a_line_keeps_the_fixed_order_and_ends_with_its_sum() {
        let text = String::from_utf8(line()).unwrap();
        assert!(text.starts_with(
            r#"{"@timestamp":"1970-01-01T00:00:00.000000Z","ecs":{"version":"8.17"},"event":{"kind":"event","sequence":7,"id":"#
        ));
        assert!(text.contains(r#""action":"license.assignment.add","outcome":"unknown","reason":""},"qlik":{"direction":"in","instance":"5382018630938057025"},"user":{"target":{"hash":"#));
        assert!(text.ends_with("\"}\n"));
    }

    #[test]
    fn a_record_is_less_than_60_000_bytes_or_none() {
        let observer = Observer { name: "relay-01".into(), version: "0.1.0" };
        let mut record = Record::new(Action::AssignmentAdd, Uuid::nil());
        let length = record.line(0, Timestamp::UNIX_EPOCH, &observer).unwrap().len();
        record.reason = "x".repeat(MAX_LINE - length);
        assert_eq!(record.line(0, Timestamp::UNIX_EPOCH, &observer).unwrap().len(), MAX_LINE);
        record.reason.push('x');
        assert!(matches!(record.line(0, Timestamp::UNIX_EPOCH, &observer), Err(RecordError::TooLong(_))));
        const { assert!(MAX_LINE < 60_000) }
    }

    /// A turn and a queue that are bounded by weights are bounded in lines.
    #[test]
    fn a_record_weighs_at_least_half_of_its_line() {
        let observer = Observer { name: "relay-01".into(), version: "0.1.0" };
        let mut record = Record::new(Action::AssignmentAdd, Uuid::nil());
        let holds = |record: &Record| {
            let line = record.line(7, Timestamp::UNIX_EPOCH, &observer).unwrap().len();
            println!("{} for a line of {line}", record.weight());
            assert!(2 * record.weight() >= line, "{} for a line of {line}", record.weight());
        };
        holds(&record);
        record.subject = Some(format!("hmac-sha256:k2026:{}", "0".repeat(64)));
        record.user_agent = Some("Licenses/1.6.4 (windows) QSEfW".into());
        record.client = Some([10, 20, 30, 40].into());
        record.qlik.source_id = Some("fbe89d02-6d24-4595-915e-c52ce76f2195".into());
        record.qlik.license = Some("9999000000001253".into());
        record.qlik.license_jti = Some("5c8d5b2e-8a7b-4d59-9b0e-3d1c1a0e8a11".into());
        record.qlik.allotment = Some("professional".into());
        record.qlik.instance = Some("5382018630938057025".into());
        record.qlik.created = Some("2026-11-30T12:00:00Z".into());
        holds(&record);
        record.qlik.bases =
            vec![Base { license: record.qlik.license.clone(), sent: Some(1), version: Some(2) }; 16];
        record.qlik.shape = Some("x".repeat(8192));
        holds(&record);
    }

    #[test]
    fn any_flipped_bit_of_a_line_is_noticed() {
        let whole = line();
        let whole = &whole[..whole.len() - 1];
        assert_eq!(sequence_of(whole), Some(7));
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bent = whole.to_vec();
                bent[at] ^= 1 << bit;
                assert_eq!(sequence_of(&bent), None, "byte {at} bit {bit}");
            }
        }
        for end in 0..whole.len() {
            assert_eq!(sequence_of(&whole[..end]), None, "cut at {end}");
        }
    }
}
