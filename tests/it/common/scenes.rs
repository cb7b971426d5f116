//! Exchanges that never took place, as the records that the relay's own code would have left of them.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Method, Response, Uri, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use license_relay::config::model::{Destination, Mode};
use license_relay::exchange::records::{self, Scene};
use license_relay::exchange::request::ReadRequest;
use license_relay::licensing::asker::ClaimedSource;
use license_relay::licensing::message::{Change, Consumption, Message, MessageKind, Patch, Sync};
use license_relay::licensing::reply::{Entitlement, Total, What};
use license_relay::policy::Admission;
use license_relay::policy::identity::ClientIdentity;
use license_relay::upstream::error::UpstreamError;
use relay_log::ledger::action::{Action, IdentifiedBy, Outcome};
use relay_log::ledger::qlik::Repeat;
use relay_log::ledger::record::Record;
use relay_log::ledger::subject::{Pseudonyms, Subject};
use uuid::Uuid;

/// Whoever asks.
#[derive(Clone, Debug)]
pub struct Deployment {
    pub source: String,
    pub license: String,
    pub address: IpAddr,
    pub agent: String,
}

impl Deployment {
    /// The nth, with a license.
    pub fn new(number: u32, license: &str) -> Self {
        let [_, a, b, c] = number.to_be_bytes();
        Self {
            source: format!("{number:08x}-6d24-4595-915e-c52ce76f2195"),
            license: license.to_owned(),
            address: Ipv4Addr::new(10, a, b, c).into(),
            agent: format!("Licenses/1.6.{} (windows) QSEfW", number % 5),
        }
    }
}

/// A change of an assignment, asked or told.
#[derive(Clone, Debug)]
pub struct Assignment {
    pub change: Change,
    pub allotment: String,
    /// As it is spelled.
    pub person: Option<String>,
    pub instance: Option<String>,
    pub version: Option<u64>,
    pub rejection: Option<String>,
}

impl Assignment {
    /// Without instance and version, as a deployment asks.
    pub fn new(change: Change, allotment: &str, person: &str) -> Self {
        let (allotment, person) = (allotment.to_owned(), Some(person.to_owned()));
        Self { change, allotment, person, instance: None, version: None, rejection: None }
    }

    /// As the back end tells it.
    pub fn told(mut self, version: u64) -> Self {
        self.instance = Some((5_382_018_630_938_000_000 + version).to_string());
        self.version = Some(version);
        self.rejection = Some(String::new());
        self
    }

    /// As the back end tells that it is not to be.
    pub fn rejected(mut self, words: &str) -> Self {
        self.rejection = Some(words.to_owned());
        self
    }

    fn patch(&self, license: &str) -> Patch {
        Patch {
            change: self.change,
            license: license.parse().ok(),
            allotment: Some(self.allotment.clone()),
            subject: self.person.as_deref().map(Subject::new),
            instance: self.instance.clone(),
            version: self.version,
            created: Some("2026-01-01T00:00:00.000Z".into()),
            rejection: self.rejection.clone(),
            unfit_license: false,
        }
    }
}

/// A unit of a definition: allotment, access type, class, count, from, to, overage.
#[derive(Clone, Debug)]
pub struct Unit {
    pub allotment: String,
    pub access_type: String,
    pub class: String,
    pub count: i64,
    pub valid: (String, String),
    pub overage: Option<String>,
}

/// One exchange.
pub struct Exchange {
    asked: ReadRequest,
    message: Message,
    license: String,
}

impl Exchange {
    fn new(number: u128, by: &Deployment, path: &'static str, kind: MessageKind) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_str(&by.agent).unwrap());
        let to = Destination {
            host: "license.qlikcloud.com".parse().unwrap(),
            port: 443,
            mode: Mode::Terminate,
            connect_to: None,
        };
        let asked = ReadRequest {
            id: Uuid::from_u128(number),
            identity: ClientIdentity::direct(by.address),
            to,
            method: Method::POST,
            target: Uri::from_static(path),
            headers,
            extensions: Extensions::new(),
            body: Bytes::new(),
        };
        let message = Message {
            kind,
            source: ClaimedSource::Source(by.source.parse().unwrap()),
            other_sources: vec![],
            licenses: vec![by.license.parse().unwrap()],
            claims: None,
            doubled: vec![],
            unread: None,
            shape: None,
            lenient: vec![],
            holds_change: false,
            other: None,
        };
        Self { asked, message, license: by.license.clone() }
    }

    /// A sync that stands at this version and asks for these changes.
    pub fn sync(number: u128, by: &Deployment, base: u64, changes: &[Assignment]) -> Self {
        Self::new(number, by, "/v1/sync", MessageKind::Sync(said(&by.license, base, changes)))
    }

    /// A definition asked for.
    pub fn definition(number: u128, by: &Deployment) -> Self {
        Self::new(number, by, "/v1/definition", MessageKind::Definition)
    }

    /// Capacity used: allotment, month, how much.
    pub fn capacity(number: u128, by: &Deployment, used: &[(&str, &str, i64)]) -> Self {
        let report = |(allotment, month, delta): &(&str, &str, i64)| Consumption {
            id: None,
            allotment: (*allotment).to_owned(),
            month: (*month).to_owned(),
            delta: Some((*delta).into()),
        };
        Self::new(number, by, "/v1/capacity", MessageKind::Capacity(used.iter().map(report).collect()))
    }

    /// What is written before it is sent.
    pub fn intent(&self, names: &Pseudonyms) -> Vec<Record> {
        all(records::intent(&self.scene(), names))
    }

    /// The reply stands at this version and tells these changes.
    pub fn told(&self, at: Timestamp, base: u64, changes: &[Assignment], names: &Pseudonyms) -> Vec<Record> {
        self.answered(at, 200, What::Sync(said(&self.license, base, changes)), names)
    }

    /// The reply is a definition.
    pub fn defined(&self, at: Timestamp, units: &[Unit], names: &Pseudonyms) -> Vec<Record> {
        let entitlement = |unit: &Unit| Entitlement {
            license: self.license.parse().ok(),
            name: unit.allotment.clone(),
            class: Some(unit.class.clone()),
            access_type: Some(unit.access_type.clone()),
            count: Some(unit.count.into()),
            valid: unit.valid.clone(),
            overage: unit.overage.clone(),
        };
        self.answered(at, 200, What::Entitlements(units.iter().map(entitlement).collect()), names)
    }

    /// The reply tells totals: allotment, month, how much.
    pub fn totals(&self, at: Timestamp, totals: &[(&str, &str, i64)], names: &Pseudonyms) -> Vec<Record> {
        let total = |(allotment, month, total): &(&str, &str, i64)| Total {
            allotment: (*allotment).to_owned(),
            month: (*month).to_owned(),
            total: Some((*total).into()),
        };
        self.answered(at, 200, What::Totals(totals.iter().map(total).collect()), names)
    }

    /// The back end answers that it can't.
    pub fn failed(&self, at: Timestamp, status: u16, names: &Pseudonyms) -> Vec<Record> {
        self.answered(at, status, What::Nothing, names)
    }

    /// The back end answers something that can't be read.
    pub fn unreadable(&self, at: Timestamp, names: &Pseudonyms) -> Vec<Record> {
        self.answered(at, 200, What::Unread { why: "the body is no JSON".into() }, names)
    }

    /// No reply came; `sent` where the request may have reached the back end.
    pub fn lost(&self, sent: bool) -> Vec<Record> {
        let cause = std::io::Error::other("connection refused");
        let error = UpstreamError::Connect { host: "license.qlikcloud.com".into(), cause };
        all(records::failure(&self.scene(), &error, sent))
    }

    fn answered(&self, at: Timestamp, status: u16, what: What, names: &Pseudonyms) -> Vec<Record> {
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap();
        let reply = Response::builder().status(status).header(header::DATE, date).body(()).unwrap();
        all(records::outcome(&self.scene(), &reply, &what.into(), names))
    }

    fn scene(&self) -> Scene<'_> {
        let admission = Admission {
            identified_by: IdentifiedBy::Source,
            listed: true,
            name: String::new(),
            learned: None,
            room: std::sync::Arc::default(),
        };
        Scene::new(&self.asked, &self.message, admission)
    }
}

fn said(license: &str, base: u64, changes: &[Assignment]) -> Sync {
    let mut sync = Sync::default();
    sync.bases.push((license.parse().ok(), Some(base)));
    sync.patches.extend(changes.iter().map(|change| change.patch(license)));
    sync
}

/// A refusal; `fold` where the record stands for so many.
pub fn refused(number: u128, action: Action, by: &Deployment, reason: &str, fold: Option<Repeat>) -> Record {
    let mut record = Record::new(action, Uuid::from_u128(number));
    record.outcome = Outcome::Failure;
    record.reason = reason.to_owned();
    record.client = Some(by.address);
    if fold.is_none() {
        record.qlik.source_id = Some(by.source.clone());
        record.qlik.license = Some(by.license.clone());
        record.user_agent = Some(by.agent.clone());
    }
    record.qlik.repeat = fold;
    record
}

/// The relay begins, after a stop (`clean`, `unclean`) or for the first time.
pub fn started(number: u128, previous_stop: Option<&'static str>) -> Record {
    let mut record = Record::new(Action::RelayStart, Uuid::from_u128(number));
    record.outcome = Outcome::Success;
    record.qlik.previous_stop = previous_stop;
    record.reason =
        "unknown sources: deny, unidentified: deny, on failure: block, subjects: hmacsha256".into();
    record
}

/// The relay ends.
pub fn stopped(number: u128) -> Record {
    let mut record = Record::new(Action::RelayStop, Uuid::from_u128(number));
    record.outcome = Outcome::Success;
    record
}

/// Nothing else was written for a minute.
pub fn heartbeat(number: u128) -> Record {
    Record::new(Action::RelayHeartbeat, Uuid::from_u128(number))
}

/// A name as a message has it.
pub fn subject(name: &str) -> Subject {
    Subject::new(name)
}

/// So many exchanges are not in the log.
pub fn gap(number: u128, count: u64, first: Timestamp, last: Timestamp) -> Record {
    let mut record = Record::new(Action::AuditGap, Uuid::from_u128(number));
    record.reason = "exchanges went through that are not, or not whole, in the log".into();
    record.qlik.repeat = Some(Repeat { count, first, last });
    record
}

/// One person has two pseudonyms.
pub fn alias(number: u128, newest: String, older: String) -> Record {
    let mut record = Record::new(Action::AuditAlias, Uuid::from_u128(number));
    record.outcome = Outcome::Success;
    record.subject = Some(newest);
    record.qlik.alias_of = Some(older);
    record
}

fn all(records: records::Records<'_>) -> Vec<Record> {
    records.map(|named| named.record).collect()
}
