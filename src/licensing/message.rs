//! One request, as a licensing message: what kind it is, who says it is asking, about which license.
//!
//! Nothing here is proof, and nothing here is changed: the bytes that were read are the bytes that are forwarded.

use std::borrow::Cow;

use http::{HeaderMap, Method, Uri, header};

use super::coding;
use super::json::Json;
use super::key::{Claims, Token};
use super::shape::Shape;
use super::subject::Subject;
use super::vocabulary::{Vocabulary, member};
use crate::config::names::LicenseNumber;
use crate::ledger::record::{date, number, word};
use crate::policy::{Asking, Said};

/// Different licenses of one message that are kept; the rest are not looked at.
const LICENSES: usize = 16;
/// Places of a source id that did not decide and are recorded.
const OTHER_SOURCES: usize = 4;

/// What a request says.
#[derive(Debug)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Who says it is asking.
    pub source: Asking,
    /// What stood at lower-ranked places.
    pub other_sources: Vec<String>,
    /// The licenses it names, the key's own first.
    pub licenses: Vec<LicenseNumber>,
    /// What the signed license key says of itself.
    pub claims: Option<Claims>,
}

/// The kind of a message.
#[derive(Debug)]
pub enum Kind {
    /// `GET` or `HEAD` of exactly `/`: the test that people use.
    ConnectivityTest,
    /// A license is activated or updated.
    Activation {
        /// `Initial` or `Update`, as sent.
        cause: String,
    },
    /// The license definition is fetched.
    Definition,
    /// Analyzer capacity that was used since the last report.
    Capacity(Vec<Consumption>),
    /// Assignments asked for; no patches: an idle sync.
    Sync(Sync),
    /// A safe request without a body that is none of the above.
    Bare,
    /// JSON that no vocabulary entry matches.
    Unrecognised {
        /// Its member names and types.
        shape: String,
    },
    /// A body that can't be read.
    Unreadable {
        /// Why, without a value of it.
        why: String,
    },
}

/// One element of a capacity report.
#[derive(Debug)]
pub struct Consumption {
    /// `analyzer_time`, `core_time`.
    pub allotment: String,
    /// `YYYY-MM`.
    pub month: String,
    /// Used since the last report.
    pub delta: Option<serde_json::Number>,
}

/// An assignment sync, asked or told.
#[derive(Debug, Default)]
pub struct Sync {
    /// License and version each side stands at.
    pub bases: Vec<(Option<LicenseNumber>, Option<u64>)>,
    /// The changes.
    pub patches: Vec<Patch>,
}

/// One change of an assignment.
#[derive(Debug)]
pub struct Patch {
    /// Added, deleted, or not told.
    pub change: Change,
    /// The license.
    pub license: Option<LicenseNumber>,
    /// `professional`, `analyzer`.
    pub allotment: Option<String>,
    /// The person.
    pub subject: Option<Subject>,
    /// The back end's number for it, a string of 19 digits; empty while it is new.
    pub instance: Option<String>,
    /// The version it came with; 0 while it is new.
    pub version: Option<u64>,
    /// When the deployment made it.
    pub created: Option<String>,
    /// Why the back end refused it; empty where it did not.
    pub rejection: Option<String>,
}

/// What a patch does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// A person gets access.
    Add,
    /// A person loses it.
    Delete,
    /// Neither can be told.
    Unknown,
}

impl Message {
    /// Reads a request. Never fails: what can't be understood is a kind of its own.
    pub fn read(method: &Method, target: &Uri, headers: &HeaderMap, body: &[u8], words: &Vocabulary) -> Self {
        let mut message = Self {
            kind: Kind::Bare,
            source: Asking::Nobody,
            other_sources: vec![],
            licenses: vec![],
            claims: None,
        };
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        message.claims = authorization.and_then(Token::bearer).map(Token::claims);
        if body.is_empty() {
            message.note_licenses([]);
            message.kind = bare_kind(method, target, headers, message.claims.is_some());
            return message;
        }
        let plain = match coding::plain(headers, body) {
            Ok(plain) => plain,
            Err(why) => {
                message.note_licenses([]);
                message.kind = Kind::Unreadable { why: why.into() };
                return message;
            }
        };
        let json = match Json::parse(plain.bytes()) {
            Ok(json) => json,
            Err(e) => {
                message.note_licenses([]);
                message.kind = Kind::Unreadable { why: e.to_string() };
                return message;
            }
        };
        let in_body = words.key.iter().flat_map(|place| place.find(&json)).filter_map(Json::as_str);
        if let Some(token) = in_body.filter_map(Token::new).next() {
            message.claims = Some(token.claims());
        }
        message.note_licenses(
            words
                .license
                .iter()
                .flat_map(|place| place.find(&json))
                .filter_map(Json::to_text)
                .map(Cow::into_owned),
        );
        message.note_source(&json, words);
        message.kind = kind_of(&json, words, message.claims.is_some());
        message
    }

    /// Whether it changes assignments or reports consumption, so that it must be on disk before it is forwarded.
    /// What is not understood may do either.
    pub fn changes_something(&self) -> bool {
        match &self.kind {
            Kind::ConnectivityTest | Kind::Definition | Kind::Bare => false,
            Kind::Sync(sync) => !sync.patches.is_empty(),
            Kind::Activation { .. }
            | Kind::Capacity(_)
            | Kind::Unrecognised { .. }
            | Kind::Unreadable { .. } => true,
        }
    }

    /// How much of it is understood, for policy.
    pub fn said(&self) -> Said<'_> {
        match &self.kind {
            Kind::ConnectivityTest => Said::Test,
            Kind::Unrecognised { .. } => Said::Unrecognised,
            Kind::Unreadable { why } => Said::Unreadable(why),
            _ => Said::Message,
        }
    }

    /// The license it is about: the key's own, else the first it names.
    pub fn license(&self) -> Option<&LicenseNumber> {
        self.licenses.first()
    }

    fn note_licenses(&mut self, in_body: impl IntoIterator<Item = String>) {
        let of_key = self.claims.as_ref().and_then(|claims| claims.license.clone());
        let in_body = in_body.into_iter().filter_map(|text| text.parse().ok());
        for license in of_key.into_iter().chain(in_body) {
            if self.licenses.len() < LICENSES && !self.licenses.contains(&license) {
                self.licenses.push(license);
            }
        }
    }

    /// The best place that is present decides; only different values at that one place are a conflict.
    fn note_source(&mut self, json: &Json<'_>, words: &Vocabulary) {
        for place in &words.source {
            let mut values: Vec<&Json<'_>> = place.find(json);
            values.retain(|value| !matches!(value, Json::Null));
            let Some(first) = values.first() else { continue };
            if self.source != Asking::Nobody {
                if let Some(other) = first.to_text()
                    && self.other_sources.len() < OTHER_SOURCES
                {
                    self.other_sources.push(word(&other));
                }
            } else if values.iter().any(|value| value != first) {
                self.source = Asking::Conflict;
            } else {
                self.source = match first.to_text().map(|text| text.parse()) {
                    Some(Ok(id)) => Asking::Source(id),
                    Some(Err(e)) => Asking::Unfit(format!("{e}")),
                    None => Asking::Unfit("is neither text nor a number".into()),
                };
            }
        }
    }
}

impl Kind {
    /// Its name in log lines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ConnectivityTest => "test",
            Self::Activation { .. } => "activation",
            Self::Definition => "definition",
            Self::Capacity(_) => "capacity",
            Self::Sync(sync) if sync.patches.is_empty() => "sync-idle",
            Self::Sync(_) => "sync",
            Self::Bare => "bare",
            Self::Unrecognised { .. } => "unrecognised",
            Self::Unreadable { .. } => "unreadable",
        }
    }
}

/// Reads the sync that a request or a reply is; `None` where it is none.
pub(super) fn sync_of(json: &Json<'_>, words: &Vocabulary) -> Option<Sync> {
    let names = &words.sync;
    let inside = names.within.iter().filter_map(|name| json.get(name));
    let (bases, patches) = std::iter::once(json).chain(inside).find_map(|holder| {
        match (member(holder, &names.bases)?, member(holder, &names.patches)?) {
            (Json::Array(bases), Json::Array(patches)) => Some((bases, patches)),
            // Go writes an empty list as null.
            (Json::Array(bases), Json::Null) => Some((bases, const { &Vec::new() })),
            _ => None,
        }
    })?;
    let license =
        |json| member(json, &names.license).and_then(Json::to_text).and_then(|text| text.parse().ok());
    let base = |json| (license(json), member(json, &names.version).and_then(Json::as_u64));
    let text =
        |json, spellings: &[String]| member(json, spellings).and_then(Json::to_text).map(Cow::into_owned);
    let patch = |json| Patch {
        change: change(json, words),
        license: license(json),
        allotment: text(json, &names.allotment).map(|text| word(&text)),
        subject: member(json, &names.subject).and_then(Json::as_str).map(Subject::new),
        instance: text(json, &names.instance).map(|text| number(&text)),
        version: member(json, &names.version).and_then(Json::as_u64),
        created: text(json, &names.created).map(|text| date(&text)),
        rejection: text(json, &names.rejection),
    };
    Some(Sync { bases: bases.iter().map(base).collect(), patches: patches.iter().map(patch).collect() })
}

fn bare_kind(method: &Method, target: &Uri, headers: &HeaderMap, has_key: bool) -> Kind {
    let carries = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];
    let plain =
        target.path() == "/" && target.query().is_none() && !carries.iter().any(|h| headers.contains_key(h));
    match *method {
        Method::GET | Method::HEAD if plain => Kind::ConnectivityTest,
        Method::GET if has_key => Kind::Definition,
        // Only what is safe (RFC 9110 §9.2.1) can be known to change nothing.
        _ if method.is_safe() => Kind::Bare,
        _ => Kind::Unrecognised { shape: "no body".into() },
    }
}

fn kind_of(json: &Json<'_>, words: &Vocabulary, has_key: bool) -> Kind {
    if let Some(sync) = sync_of(json, words) {
        return Kind::Sync(sync);
    }
    if let Some(report) = consumption_of(json, words) {
        return Kind::Capacity(report);
    }
    if has_key && let Some(cause) = member(json, &words.activation.cause).and_then(Json::as_str) {
        return Kind::Activation { cause: word(cause) };
    }
    Kind::Unrecognised { shape: Shape::of(json).to_string() }
}

fn consumption_of(json: &Json<'_>, words: &Vocabulary) -> Option<Vec<Consumption>> {
    let names = &words.capacity;
    let element = |json| {
        Some(Consumption {
            allotment: word(&member(json, &names.allotment)?.to_text()?),
            month: date(&member(json, &names.month)?.to_text()?),
            delta: match member(json, &names.consumption)? {
                Json::Number(number) => Some(number.clone()),
                other => other.as_u64().map(Into::into),
            },
        })
    };
    let elements = json.elements();
    (!elements.is_empty()).then(|| elements.iter().map(element).collect()).flatten()
}

fn change(patch: &Json<'_>, words: &Vocabulary) -> Change {
    let names = &words.sync;
    if member(patch, &names.subject).and_then(Json::as_str).is_none()
        || member(patch, &names.allotment).and_then(Json::as_str).is_none()
    {
        return Change::Unknown;
    }
    let mut change = Change::Add;
    for marker in &names.marker {
        let Some(value) = patch.get(&marker.member) else { continue };
        let value = match value {
            Json::Bool(value) => value.to_string(),
            Json::Null => "null".into(),
            other => other.to_text().unwrap_or_default().to_lowercase(),
        };
        if marker.delete.contains(&value) {
            change = Change::Delete;
        } else if !marker.add.contains(&value) {
            return Change::Unknown;
        }
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(body: &[u8]) -> Message {
        let words = Vocabulary::built_in().unwrap();
        Message::read(&Method::POST, &Uri::from_static("/v1/any"), &HeaderMap::new(), body, &words)
    }

    fn id(text: &str) -> Asking {
        Asking::Source(text.parse().unwrap())
    }

    const SOURCE: &str = "fbe89d02-6d24-4595-915e-c52ce76f2195";

    #[test]
    fn the_guides_samples_are_recognised() {
        let activation = post(include_bytes!("../../tests/samples/activation-request.json"));
        assert!(matches!(&activation.kind, Kind::Activation { cause } if cause == "Initial"));
        assert_eq!(activation.source, Asking::Nobody);
        assert_eq!(activation.license().unwrap().as_str(), "9999000000001253");

        let capacity = post(include_bytes!("../../tests/samples/capacity-request.json"));
        assert!(matches!(&capacity.kind, Kind::Capacity(report) if report[0].delta == Some(242.into())));
        assert_eq!(capacity.source, id(SOURCE));

        let sync = post(include_bytes!("../../tests/samples/sync-request.json"));
        let Kind::Sync(asked) = &sync.kind else { panic!("{:?}", sync.kind) };
        assert_eq!((asked.patches.len(), asked.patches[1].change), (2, Change::Add));
        assert!(sync.changes_something());

        let idle = post(include_bytes!("../../tests/samples/sync-request-idle.json"));
        assert_eq!(idle.kind.name(), "sync-idle");
        assert!(!idle.changes_something());
    }

    #[test]
    fn of_two_places_called_source_the_id_decides_and_the_other_is_recorded() {
        let wrapped = post(include_bytes!("../../tests/samples/sync-request-wrapped.json"));
        assert_eq!(wrapped.source, id(SOURCE));
        assert_eq!(wrapped.other_sources, ["my assignments"]);
        assert!(matches!(&wrapped.kind, Kind::Sync(sync) if sync.patches.len() == 2));
    }

    #[test]
    fn two_ids_at_one_place_are_a_conflict_and_the_same_id_twice_is_not() {
        assert_eq!(post(br#"[{"source":"a"},{"source":"b"}]"#).source, Asking::Conflict);
        assert_eq!(post(br#"{"source":"a","source":"b"}"#).source, Asking::Conflict);
        assert_eq!(post(br#"[{"source":"a"},{"source":"a"},{"source":null}]"#).source, id("a"));
        assert!(matches!(post(br#"{"source":["a"]}"#).source, Asking::Unfit(_)));
    }

    #[test]
    fn a_delete_is_only_told_by_a_known_marker() {
        let patch = |extra: &str| {
            let body =
                format!(r#"{{"bases":[],"patches":[{{"subject":"a\\b","allotment":"analyzer"{extra}}}]}}"#);
            let Kind::Sync(sync) = post(body.as_bytes()).kind else { panic!("{body}") };
            sync.patches[0].change
        };
        assert_eq!(patch(""), Change::Add);
        assert_eq!(patch(r#","deleted":true"#), Change::Delete);
        assert_eq!(patch(r#","deleted":false"#), Change::Add);
        assert_eq!(patch(r#","operation":"Remove""#), Change::Delete);
        assert_eq!(patch(r#","operation":"swap""#), Change::Unknown);
    }

    #[test]
    fn the_connectivity_test_is_exactly_the_bare_root() {
        let words = Vocabulary::built_in().unwrap();
        let get = |target: &'static str, headers: &HeaderMap| {
            Message::read(&Method::GET, &Uri::from_static(target), headers, b"", &words).kind.name()
        };
        let mut with_cookie = HeaderMap::new();
        with_cookie.insert(header::COOKIE, "a=b".parse().unwrap());
        assert_eq!(get("/", &HeaderMap::new()), "test");
        assert_eq!(get("/?x", &HeaderMap::new()), "bare");
        assert_eq!(get("/", &with_cookie), "bare");
        assert_eq!(get("/x", &HeaderMap::new()), "bare");
    }

    #[test]
    fn what_is_not_safe_may_change_something_though_it_has_no_body() {
        let words = Vocabulary::built_in().unwrap();
        let target = Uri::from_static("/v1/assignments/7");
        let read = |method| Message::read(&method, &target, &HeaderMap::new(), b"", &words);
        for method in [Method::DELETE, Method::POST, Method::PUT] {
            assert!(read(method).changes_something());
        }
        assert!(!read(Method::GET).changes_something());
    }

    #[test]
    fn subjects_do_not_show_in_debug_output() {
        let shown = format!("{:?}", post(include_bytes!("../../tests/samples/sync-request.json")));
        assert!(!shown.to_lowercase().contains("bob"), "{shown}");
    }

    proptest::proptest! {
        #[test]
        fn no_json_makes_the_reader_panic(body in r#"[\[\]{}",:a-z0-9.\\ ]{0,80}"#) {
            let _ = post(body.as_bytes());
        }
    }
}
