//! One line of the assignment log: ECS names, `qlik.*` for what ECS has no name for, keys in a fixed order,
//! `sum` last.
//!
//! A line is UTF-8 JSON without spaces, under 60,000 bytes, ended by one line feed. `sum` is the first 16 hex digits
//! of SHA-256 over the line without `,"sum":"…"`, so that a single line can be judged without any tree.

use std::fmt::Write as _;
use std::net::IpAddr;

use aws_lc_rs::digest::{Context, SHA256, digest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest line, in bytes without its line feed. tlog-tiles length-prefixes entries with 16 bits.
pub const MAX_LINE: usize = 59_999;
/// The longest value taken from a message, in characters; longer ones are cut, with an ellipsis.
pub const MAX_VALUE: usize = 200;
/// The longest word, date or number taken from a message.
const MAX_WORD: usize = 64;

const SUM_HEX: usize = 16;

/// What happened (`event.action`).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[allow(missing_docs)] // Each says by its own wire name what it is.
pub enum Action {
    #[serde(rename = "license.activation.request")]
    ActivationRequest,
    #[serde(rename = "license.activation.response")]
    ActivationResponse,
    #[serde(rename = "license.entitlement")]
    Entitlement,
    #[serde(rename = "license.sync.request")]
    SyncRequest,
    #[serde(rename = "license.sync.response")]
    SyncResponse,
    #[serde(rename = "license.assignment.add")]
    AssignmentAdd,
    #[serde(rename = "license.assignment.delete")]
    AssignmentDelete,
    #[serde(rename = "license.assignment.unknown")]
    AssignmentUnknown,
    #[serde(rename = "license.consumption.report")]
    ConsumptionReport,
    #[serde(rename = "license.consumption.response")]
    ConsumptionResponse,
    #[serde(rename = "license.unrecognised.request")]
    UnrecognisedRequest,
    #[serde(rename = "license.unrecognised.response")]
    UnrecognisedResponse,
    #[serde(rename = "license.unrecognised.lasting")]
    UnrecognisedLasting,
    #[serde(rename = "license.tunnel.open")]
    TunnelOpen,
    #[serde(rename = "license.tunnel.close")]
    TunnelClose,
    #[serde(rename = "access.denied")]
    AccessDenied,
    #[serde(rename = "access.limited")]
    AccessLimited,
    #[serde(rename = "access.invalid")]
    AccessInvalid,
    /// The connectivity test that people use (`GET /`), passed on.
    #[serde(rename = "access.test")]
    AccessTest,
    #[serde(rename = "upstream.error")]
    UpstreamError,
    #[serde(rename = "relay.start")]
    RelayStart,
    #[serde(rename = "relay.stop")]
    RelayStop,
    #[serde(rename = "relay.heartbeat")]
    RelayHeartbeat,
    #[serde(rename = "relay.config")]
    RelayConfig,
    #[serde(rename = "relay.clock_step")]
    RelayClockStep,
    #[serde(rename = "audit.sealed")]
    AuditSealed,
    #[serde(rename = "audit.fork")]
    AuditFork,
    #[serde(rename = "audit.alias")]
    AuditAlias,
    #[serde(rename = "audit.key")]
    AuditKey,
    #[serde(rename = "audit.recovered")]
    AuditRecovered,
    #[serde(rename = "audit.gap")]
    AuditGap,
    #[serde(rename = "audit.pruned")]
    AuditPruned,
}

impl Action {
    /// `event.category` and `event.type`: the two that ECS wants beside an action.
    fn class(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::AssignmentAdd => (&["iam"], &["user", "change"]),
            Self::AssignmentDelete => (&["iam"], &["user", "deletion"]),
            Self::AssignmentUnknown | Self::AuditAlias => (&["iam"], &["user", "info"]),
            Self::AccessDenied | Self::AccessLimited | Self::AccessInvalid => (&["network"], &["denied"]),
            Self::UpstreamError => (&["network"], &["error"]),
            Self::RelayStart => (&["process"], &["start"]),
            Self::RelayStop => (&["process"], &["end"]),
            Self::RelayHeartbeat
            | Self::RelayConfig
            | Self::RelayClockStep
            | Self::AuditKey
            | Self::AuditRecovered
            | Self::AuditGap
            | Self::AuditSealed
            | Self::AuditFork
            | Self::AuditPruned => (&["process"], &["info"]),
            _ => (&["api"], &["info"]),
        }
    }
}

/// How it ended (`event.outcome`), as ECS spells it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Done.
    Success,
    /// Refused, rejected or failed.
    Failure,
    /// Not known yet, or never.
    #[default]
    Unknown,
}

/// Whose wish or word a record is (`qlik.direction`).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Asked by this deployment.
    Out,
    /// Told by the back end.
    In,
}

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
    pub(crate) fn write_line(
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
pub(crate) fn stamp(time: Timestamp) -> String {
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
    /// What let the request in: `source`, `license`, `user`, `network`, `test` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identified_by: Option<&'static str>,
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

/// A value from a message, cut to [`MAX_VALUE`] characters.
pub fn clip(value: &str) -> String {
    match value.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// Bytes as people compare them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Why the outcome of an exchange is unknown though a whole reply came.
pub const UNREAD_REPLY: &str = "the back end's reply could not be read";

/// What stands for a value that may be a name or a key.
pub const HIDDEN: &str = "(other)";

/// A word of the vendor's, such as an allotment. What is no word may be a name or a key, and is not shown.
pub fn word(value: &str) -> String {
    only(value, |c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | ':'))
}

/// A date or a time, on the same terms.
pub fn date(value: &str) -> String {
    only(value, |c| c.is_ascii_digit() || matches!(c, 'T' | 'Z' | ':' | '.' | '+' | '-'))
}

/// A number that is written as text, on the same terms.
pub fn number(value: &str) -> String {
    only(value, |c| c.is_ascii_digit())
}

fn only(value: &str, fits: impl Fn(char) -> bool) -> String {
    if value.len() <= MAX_WORD && value.chars().all(fits) { value.to_owned() } else { HIDDEN.into() }
}

/// What recovery and readers look at first in a line.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(from = "Outline")]
pub struct Glance {
    /// Its number.
    pub sequence: u64,
    /// What happened.
    pub action: String,
    /// When.
    pub time: Timestamp,
    /// How often, where it stands for several.
    pub repeat: Option<u64>,
    /// The records that it says were pruned, the first and the last of them.
    pub pruned: Option<(u64, u64)>,
    /// How the run before it ended, where it says so.
    pub previous_stop: Option<String>,
}

#[derive(Deserialize)]
struct Outline {
    #[serde(rename = "@timestamp")]
    time: Timestamp,
    event: OutlineEvent,
    #[serde(default)]
    qlik: OutlineQlik,
}

#[derive(Default, Deserialize)]
struct OutlineQlik {
    repeat: Option<OutlineRepeat>,
    from_index: Option<u64>,
    to_index: Option<u64>,
    previous_stop: Option<String>,
}

#[derive(Deserialize)]
struct OutlineRepeat {
    count: u64,
}

#[derive(Deserialize)]
struct OutlineEvent {
    sequence: u64,
    action: String,
}

impl From<Outline> for Glance {
    fn from(outline: Outline) -> Self {
        let OutlineEvent { sequence, action } = outline.event;
        let OutlineQlik { repeat, from_index, to_index, previous_stop } = outline.qlik;
        let pruned = from_index.zip(to_index).filter(|_| action == "audit.pruned");
        let repeat = repeat.map(|repeat| repeat.count);
        Self { sequence, action, time: outline.time, repeat, pruned, previous_stop }
    }
}

impl Glance {
    /// At a line as it lies on disk, without its line feed; `None` where it is no record.
    pub fn at(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// The same; `None` as well where its sum does not match.
    pub fn of_whole(line: &[u8]) -> Option<Self> {
        let tail = line.len().checked_sub(SUM_HEX + 10)?;
        let claimed = line[tail..].strip_prefix(b",\"sum\":\"")?.strip_suffix(b"\"}")?;
        let mut context = Context::new(&SHA256);
        context.update(&line[..tail]);
        context.update(b"}");
        (sum_of(context.finish().as_ref()).as_bytes() == claimed).then(|| Self::at(line)).flatten()
    }
}

/// The sequence number of a line as it lies on disk (without its line feed), or `None` where the line is not whole:
/// no JSON, no sequence, or a sum that does not match.
pub fn sequence_of(line: &[u8]) -> Option<u64> {
    Some(Glance::of_whole(line)?.sequence)
}

fn sum_of(digest: &[u8]) -> String {
    hex(&digest[..SUM_HEX / 2])
}

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

    #[test]
    fn what_is_not_of_its_form_is_not_shown() {
        for shown in ["", "analyzer_time", "my assignments", "623aa9af-950f-47f7-8bf0-f4d39f42d96c"] {
            assert_eq!(word(shown), shown);
        }
        for hidden in ["ACME\\bob", "bob@acme", "CN=bob", "Zo\u{eb}", &"a".repeat(65)] {
            assert_eq!(word(hidden), "(other)");
        }
        assert_eq!((date("2018-11").as_str(), date("2019-04-18T10:01:35.024031Z").len()), ("2018-11", 27));
        assert_eq!((date("bob"), number("5382018630938057025").len()), ("(other)".into(), 19));
        assert_eq!(number("bob"), "(other)");
    }

    #[test]
    fn long_values_are_cut_on_a_character() {
        assert_eq!(clip("short"), "short");
        assert_eq!(clip(&"é".repeat(500)).chars().count(), MAX_VALUE + 1);
    }
}
