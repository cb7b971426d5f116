//! Five invented dialects (tests/dialects, each with its own NOTES.md), made by somebody who had not seen the samples:
//! what a site writes into its vocabulary is enough for all of each to be read, and without it nothing is misread.

use std::fs;
use std::path::PathBuf;

use http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use license_relay::licensing::asker::ClaimedSource;
use license_relay::licensing::message::{Change, Message, MessageKind, Patch};
use license_relay::licensing::reply::{ReplyFacts, What};
use license_relay::licensing::shape::Shape;
use license_relay::licensing::suggest::{Met, suggest};
use license_relay::licensing::vocabulary::{Vocabulary, Words};
use relay_log::ledger::subject::Subject;
use serde_json::Value;

const KEY: &str = include_str!("../samples/signed-license-key.jwt");

struct Dialect {
    folder: PathBuf,
    words: Words,
    headers: HeaderMap,
    expected: Value,
}

impl Dialect {
    fn all() -> Vec<Self> {
        (1..=5).map(Self::open).collect()
    }

    fn open(number: u8) -> Self {
        let folder = PathBuf::from(format!("{}/tests/dialects/{number}", env!("CARGO_MANIFEST_DIR")));
        let words = Words::load(Some(&folder.join("vocabulary.toml"))).unwrap_or_else(|e| panic!("{e}"));
        let json = |name: &str| -> Value {
            serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap()
        };
        let mut headers = HeaderMap::new();
        for (name, value) in json("headers.json").as_object().unwrap() {
            let value = value.as_str().unwrap().replace("JWT", KEY.trim());
            headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let expected = json("expected.json");
        Self { folder, words, headers, expected }
    }

    fn body(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap().replace("JWT", KEY.trim())
    }

    fn ask(&self, name: &str) -> Message {
        self.ask_in(name, self.words.clone())
    }

    fn ask_in(&self, name: &str, words: impl TryInto<Words, Error: std::fmt::Debug>) -> Message {
        let words = words.try_into().unwrap();
        let mut headers = self.headers.clone();
        if name == "activation.json" {
            headers.remove("X-Deployment-Source");
        }
        let body = self.body(name);
        Message::read(&Method::POST, &Uri::from_static("/x"), &headers, body.as_bytes(), &words)
    }

    fn told(&self, asked: &MessageKind, name: &str) -> ReplyFacts {
        ReplyFacts::read(asked, StatusCode::OK, &HeaderMap::new(), self.body(name).as_bytes(), &self.words)
    }

    /// What is expected under a name, in lower case: dialect 3 writes allotments in capitals.
    fn rows(&self, name: &str) -> Vec<Vec<Value>> {
        let rows = self.expected[name].as_array().unwrap();
        rows.iter().map(|row| row.as_array().unwrap().clone()).collect()
    }

    /// The patches, each with the row that it should be. Their order is the dialect's own.
    fn are(&self, patches: &[Patch], rows: &[Vec<Value>]) {
        assert_eq!(patches.len(), rows.len(), "{}: {patches:?}", self.folder.display());
        for row in rows {
            let subject = Some(Subject::new(row[2].as_str().unwrap()));
            let patch = patches.iter().find(|patch| patch.subject == subject);
            self.is(patch.unwrap_or_else(|| panic!("{row:?} is not among {patches:?}")), row);
        }
    }

    fn is_from_source(&self, message: &Message) {
        let id = self.expected["source"].as_str().unwrap();
        assert_eq!(message.source, ClaimedSource::Source(id.parse().unwrap()), "{}", self.folder.display());
        self.is_about_license(message);
    }

    fn is_about_license(&self, message: &Message) {
        let license = message.license().unwrap().as_str();
        assert_eq!(license, self.expected["license"].as_str().unwrap(), "{}", self.folder.display());
        assert_eq!((&message.unread, message.doubled.len()), (&None, 0), "{}", self.folder.display());
    }

    fn is(&self, patch: &Patch, row: &[Value]) {
        let change = match patch.change {
            Change::Add => "add",
            Change::Delete => "delete",
            Change::Unknown => "unknown",
        };
        let place = format!("{}: {patch:?} instead of {row:?}", self.folder.display());
        assert_eq!(change, row[0], "{place}");
        assert_eq!(patch.allotment.as_deref().unwrap().to_lowercase(), row[1].as_str().unwrap(), "{place}");
        assert_eq!(patch.subject, Some(Subject::new(row[2].as_str().unwrap())), "{place}");
        let license = patch.license.as_ref().unwrap().as_str();
        assert_eq!(license, self.expected["license"].as_str().unwrap(), "{place}");
        if let [_, _, _, instance, version, rejection] = row {
            assert_eq!(patch.instance.as_deref(), instance.as_str(), "{place}");
            assert_eq!(patch.version, version.as_u64(), "{place}");
            assert_eq!(
                patch.rejection.as_deref().unwrap_or_default(),
                rejection.as_str().unwrap(),
                "{place}"
            );
        }
    }
}

#[test]
fn assignments_that_are_asked_for_and_told_are_read_in_every_dialect() {
    for dialect in Dialect::all() {
        let message = dialect.ask("sync.json");
        dialect.is_from_source(&message);
        let MessageKind::Sync(asked) = &message.kind else { panic!("{message:?}") };
        assert_eq!(asked.bases[0].1, Some(13), "{message:?}");
        let rows = dialect.rows("asked");
        dialect.are(&asked.patches, &rows);

        let told = dialect.told(&message.kind, "sync-reply.json");
        let What::Sync(sync) = &told.what else { panic!("{}: {told:?}", dialect.folder.display()) };
        assert_eq!((sync.bases[0].1, &told.unread), (Some(17), &None), "{told:?}");
        let rows = dialect.rows("told");
        dialect.are(&sync.patches, &rows);
    }
}

#[test]
fn a_sync_with_nothing_to_change_is_idle_in_every_dialect() {
    for dialect in Dialect::all() {
        let message = dialect.ask("sync-idle.json");
        dialect.is_from_source(&message);
        assert_eq!(message.kind.name(), "sync-idle", "{message:?}");
        assert!(!message.changes_something(), "{message:?}");
    }
}

#[test]
fn consumption_and_totals_are_read_in_every_dialect() {
    for dialect in Dialect::all() {
        let message = dialect.ask("capacity.json");
        dialect.is_from_source(&message);
        let MessageKind::Capacity(report) = &message.kind else { panic!("{message:?}") };
        let told = dialect.told(&message.kind, "capacity-reply.json");
        let What::Totals(totals) = &told.what else { panic!("{}: {told:?}", dialect.folder.display()) };
        assert_eq!(told.unread, None);
        let rows = dialect.rows("consumption");
        let expected = dialect.expected["totals"].as_array().unwrap();
        assert_eq!((report.len(), totals.len()), (rows.len(), expected.len()), "{told:?}");
        for (row, expected) in rows.iter().zip(expected) {
            let (allotment, month) = (row[0].as_str().unwrap(), row[1].as_str().unwrap());
            let element = report.iter().find(|e| e.allotment.to_lowercase() == allotment).unwrap();
            assert_eq!(
                (element.month.as_str(), element.delta.as_ref().unwrap().as_u64()),
                (month, row[2].as_u64())
            );
            let total = totals.iter().find(|total| total.allotment.to_lowercase() == allotment).unwrap();
            assert_eq!(
                (total.month.as_str(), total.total.as_ref().unwrap().as_u64()),
                (month, expected.as_u64())
            );
        }
    }
}

#[test]
fn entitlements_are_read_from_activations_and_definitions_in_every_dialect() {
    for dialect in Dialect::all() {
        let message = dialect.ask("activation.json");
        assert_eq!(message.source, ClaimedSource::Nobody, "{message:?}");
        dialect.is_about_license(&message);
        assert!(
            matches!(&message.kind, MessageKind::Activation { cause } if ["Initial", "Update"].contains(&cause.as_str())),
            "{message:?}"
        );
        let key = KEY.trim();
        let target: Uri = format!("/x?slk={key}&license_key={key}").parse().unwrap();
        let get = Message::read(&Method::GET, &target, &dialect.headers, b"", &dialect.words);
        dialect.is_about_license(&get);
        assert!(matches!(get.kind, MessageKind::Definition), "{get:?}");
        for (asked, reply) in
            [(&message.kind, "activation-reply.json"), (&MessageKind::Definition, "definition-reply.json")]
        {
            let told = dialect.told(asked, reply);
            let What::Entitlements(all) = &told.what else {
                panic!("{}: {told:?}", dialect.folder.display())
            };
            assert_eq!(told.unread, None, "{told:?}");
            let rows = dialect.rows("entitlements");
            // A unit with several access types is one record, so that its count is one.
            let read = all.iter().flat_map(|unit| {
                unit.access_type.as_deref().unwrap().split(", ").map(|access_type| {
                    vec![
                        unit.name.to_lowercase(),
                        unit.class.clone().unwrap(),
                        access_type.to_owned(),
                        unit.count.as_ref().unwrap().to_string(),
                        unit.valid.0.clone(),
                        unit.valid.1.clone(),
                    ]
                })
            });
            let text = |value: &Value| match value {
                Value::Null => String::new(),
                value => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
            };
            let expected = rows.iter().map(|row| row.iter().map(text).collect::<Vec<_>>());
            assert_eq!(
                read.collect::<Vec<_>>(),
                expected.collect::<Vec<_>>(),
                "{}",
                dialect.folder.display()
            );
            for unit in all {
                assert_eq!(
                    unit.license.as_ref().unwrap().as_str(),
                    dialect.expected["license"].as_str().unwrap()
                );
            }
        }
    }
}

#[test]
fn without_its_vocabulary_no_dialect_is_misread() {
    let built_in = Vocabulary::built_in().unwrap();
    for dialect in Dialect::all() {
        for name in ["sync.json", "capacity.json", "activation.json"] {
            let message = dialect.ask_in(name, built_in.clone());
            // Understood as with it, or said not to be.
            let same = format!("{:?}", message.kind) == format!("{:?}", dialect.ask(name).kind);
            assert!(same || message.changes_something(), "{} {name}: {message:?}", dialect.folder.display());
            if let (false, MessageKind::Sync(sync)) = (same, &message.kind) {
                let wrong = sync.patches.iter().any(|patch| patch.change != Change::Unknown);
                assert!(
                    !wrong || message.unread.is_some(),
                    "{} {name}: {message:?}",
                    dialect.folder.display()
                );
            }
        }
    }
}

/// Not all of a dialect can be guessed from its shapes; what is guessed must be usable.
#[test]
fn what_is_suggested_for_a_dialect_is_a_vocabulary_that_recognises_more_of_it() {
    let built_in = Vocabulary::built_in().unwrap();
    for dialect in Dialect::all() {
        let shape = |name: &str| {
            let body = dialect.body(name);
            let json = license_relay::licensing::json::Json::parse(body.as_bytes()).unwrap();
            Shape::of(&json)
        };
        let shapes =
            ["sync.json", "sync-idle.json", "capacity.json", "activation.json"].map(|n| (shape(n), false));
        let replies =
            ["sync-reply.json", "capacity-reply.json", "definition-reply.json"].map(|n| (shape(n), true));
        let all: Vec<_> = shapes.iter().chain(&replies).collect();
        let met = all.iter().map(|(shape, is_reply)| Met { shape, is_reply: *is_reply });
        let text = suggest(met, &built_in).to_toml();
        let suggested = Vocabulary::parse(&text, "v.toml".as_ref()).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let recognised = |words: &Vocabulary| {
            ["sync.json", "capacity.json", "activation.json"]
                .into_iter()
                .filter(|name| {
                    !matches!(dialect.ask_in(name, words.clone()).kind, MessageKind::Unrecognised { .. })
                })
                .count()
        };
        // A key in a header of its own, as in dialect 3, is nothing that a shape shows.
        assert!(recognised(&suggested) >= 2 && recognised(&suggested) >= recognised(&built_in), "{text}");
        // What is a delete must not become an add by a guess.
        if let MessageKind::Sync(sync) = dialect.ask_in("sync.json", suggested.clone()).kind {
            let carol = sync.patches.iter().find(|patch| patch.subject == Some(Subject::new("ACME\\carol")));
            assert!(carol.is_none_or(|patch| patch.change != Change::Add), "{text}");
        }
    }
}
