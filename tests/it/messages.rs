//! What is made of messages that are not quite the known ones (through the library): every member of the samples missing,
//! renamed, null, doubled, of every other type; and whatever JSON there can be.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, Uri};
use license_relay::bounds;
use license_relay::licensing::asker::ClaimedSource;
use license_relay::licensing::message::{Change, Message, MessageKind, Sync};
use license_relay::licensing::reply::{ReplyFacts, What};
use license_relay::licensing::vocabulary::{Vocabulary, Words};
use proptest::prelude::*;
use serde_json::{Value, json};

const SYNC: &str = include_str!("../samples/sync-request.json");
const CAPACITY: &str = include_str!("../samples/capacity-request.json");
const ACTIVATION: &str = include_str!("../samples/activation-request.json");
const SYNC_REPLY: &str = include_str!("../samples/sync-reply.json");
const CAPACITY_REPLY: &str = include_str!("../samples/capacity-reply.json");
const ACTIVATION_REPLY: &str = include_str!("../samples/activation-reply.json");

const SOURCE: &str = "fbe89d02-6d24-4595-915e-c52ce76f2195";

fn read(body: &str) -> Message {
    let words = Words::load(None).unwrap();
    Message::read(&Method::POST, &Uri::from_static("/x"), &HeaderMap::new(), body.as_bytes(), &words)
}

fn told(asked: &MessageKind, body: &str) -> ReplyFacts {
    ReplyFacts::read(asked, StatusCode::OK, &HeaderMap::new(), body.as_bytes(), &Words::load(None).unwrap())
}

/// Kind, who asks, a letter a change or the number reported, and whether something was left unread.
fn summary(message: &Message) -> String {
    let source = match &message.source {
        ClaimedSource::Nobody => "nobody",
        ClaimedSource::Source(id) if id.as_str() == SOURCE => "id",
        ClaimedSource::Source(id) => id.as_str(),
        ClaimedSource::Contradiction(_) => "two readings",
        ClaimedSource::Conflict => "two-sources",
        ClaimedSource::TwoKeys => "two-keys",
        ClaimedSource::TwoLicenses => "two-licenses",
        ClaimedSource::Unfit(_) => "unfit",
    };
    let what = match &message.kind {
        MessageKind::Sync(sync) => changes(sync),
        MessageKind::Capacity(report) => report
            .iter()
            .map(|element| element.delta.as_ref().map_or_else(|| "?".into(), ToString::to_string))
            .collect(),
        _ => String::new(),
    };
    let unread = if message.unread.is_some() { " unread" } else { "" };
    format!("{} {source} {what}{unread}", message.kind.name())
}

fn changes(sync: &Sync) -> String {
    let letter = |change| match change {
        Change::Add => 'A',
        Change::Delete => 'D',
        Change::Unknown => 'U',
    };
    sync.patches.iter().map(|patch| letter(patch.change)).collect()
}

/// What can be done to one member.
const DEEDS: [&str; 9] =
    ["removed", "renamed", "null", "doubled", "text", "number", "bool", "list", "object"];

/// The sample with one member changed.
fn changed(sample: &str, pointer: &str, deed: &str) -> String {
    let mut body: Value = serde_json::from_str(sample).unwrap();
    let (holder, name) = pointer.rsplit_once('/').unwrap();
    let holder = body.pointer_mut(holder).unwrap().as_object_mut().unwrap();
    let value = holder.remove(name).unwrap();
    let (name, value) = match deed {
        "removed" => return body.to_string(),
        "renamed" => ("renamed", value),
        "null" => (name, Value::Null),
        "doubled" => {
            let other = match &value {
                Value::String(_) => json!("88880000"),
                Value::Number(_) => json!(7),
                other => other.clone(),
            };
            holder.insert("DOUBLE".into(), other);
            (name, value)
        }
        "text" => (name, json!("x")),
        "number" => (name, json!(7)),
        "bool" => (name, json!(true)),
        "list" => (name, json!(["x"])),
        _ => (name, json!({ "x": 1 })),
    };
    holder.insert(name.to_owned(), value);
    // Sorted before all small letters, so the double is the first of the two; and in capitals, as Go would take it.
    body.to_string().replace("\"DOUBLE\"", &format!("\"{}\"", name.to_uppercase()))
}

#[test]
fn every_member_of_a_request_may_be_missing_renamed_null_doubled_or_of_another_type() {
    let same = |expected: &'static str| [expected; 9];
    let with = |all: &'static str, others: &[(&str, &'static str)]| {
        let mut expected = same(all);
        for (deed, other) in others {
            expected[DEEDS.iter().position(|known| known == deed).unwrap()] = other;
        }
        expected
    };
    // A member of a change that is not who or what: of no weight for what the change is, unless it is doubled.
    let detail = with(
        "sync id AA",
        &[("doubled", "sync id AU"), ("list", "sync id AA unread"), ("object", "sync id AA unread")],
    );
    let person = with(
        "sync id AU",
        &[
            ("text", "sync id AA"),
            ("number", "sync id AA"),
            ("list", "sync id AU unread"),
            ("object", "sync id AU unread"),
        ],
    );
    // A name that is no text is one all the same, and was not read.
    let mut subject = person;
    subject[DEEDS.iter().position(|deed| *deed == "bool").unwrap()] = "sync id AU unread";
    // What is there and can't be read must not pass for a change of the license that the message is about.
    let license = with(
        "sync id AU",
        &[
            ("removed", "sync id AA"),
            ("renamed", "sync id AA"),
            ("null", "sync id AA"),
            ("list", "sync id AU unread"),
            ("object", "sync id AU unread"),
        ],
    );
    let table = [
        (
            SYNC,
            "/source",
            [
                "sync nobody AA",
                "sync nobody AA",
                "sync nobody AA",
                "sync two-sources AA",
                "sync x AA",
                "sync 7 AA",
                "sync unfit AA",
                "sync unfit AA unread",
                "sync unfit AA unread",
            ],
        ),
        (
            SYNC,
            "/bases",
            [
                "unrecognised id ",
                "unrecognised id ",
                "sync id AA",
                "sync id AA",
                "unrecognised id ",
                "unrecognised id ",
                "unrecognised id ",
                "sync id AA",
                "sync id AA unread",
            ],
        ),
        (
            SYNC,
            "/patches",
            [
                "unrecognised id ",
                "unrecognised id ",
                "sync-idle id ",
                "sync id AA",
                "unrecognised id ",
                "unrecognised id ",
                "unrecognised id ",
                "sync id U",
                "sync id U unread",
            ],
        ),
        (
            SYNC,
            "/bases/0/license",
            with(
                "sync id AA",
                &[
                    ("doubled", "sync two-licenses AA"),
                    ("list", "sync id AA unread"),
                    ("object", "sync id AA unread"),
                ],
            ),
        ),
        (
            SYNC,
            "/bases/0/version",
            with("sync id AA", &[("list", "sync id AA unread"), ("object", "sync id AA unread")]),
        ),
        (SYNC, "/patches/1/subject", subject),
        (SYNC, "/patches/1/allotment", person),
        (SYNC, "/patches/1/license", license),
        (SYNC, "/patches/1/instance", detail),
        (SYNC, "/patches/1/version", detail),
        (SYNC, "/patches/1/created", detail),
        (
            CAPACITY,
            "/0/source",
            [
                "capacity nobody 242",
                "capacity nobody 242",
                "capacity nobody 242",
                "capacity two-sources 242",
                "capacity x 242",
                "capacity 7 242",
                "capacity unfit 242",
                "capacity unfit 242 unread",
                "capacity unfit 242 unread",
            ],
        ),
        (
            CAPACITY,
            "/0/id",
            with(
                "capacity id 242",
                &[("list", "capacity id 242 unread"), ("object", "capacity id 242 unread")],
            ),
        ),
        (
            CAPACITY,
            "/0/allotment",
            with(
                "unrecognised id ",
                &[("doubled", "capacity id ?"), ("text", "capacity id 242"), ("number", "capacity id 242")],
            ),
        ),
        (
            CAPACITY,
            "/0/month",
            with(
                "unrecognised id ",
                &[("doubled", "capacity id ?"), ("text", "capacity id 242"), ("number", "capacity id 242")],
            ),
        ),
        (
            CAPACITY,
            "/0/consumption",
            [
                "unrecognised id ",
                "unrecognised id ",
                "capacity id ?",
                "capacity id ?",
                "capacity id ?",
                "capacity id 7",
                "capacity id ?",
                "capacity id ? unread",
                "capacity id ? unread",
            ],
        ),
        (
            ACTIVATION,
            "/cause",
            with(
                "unrecognised nobody ",
                &[("doubled", "activation nobody "), ("text", "activation nobody ")],
            ),
        ),
        (ACTIVATION, "/signedLicenseKey", with("unrecognised nobody ", &[("doubled", "activation nobody ")])),
    ];
    let mut wrong = Vec::new();
    for (sample, pointer, expected) in table {
        for (deed, expected) in DEEDS.into_iter().zip(expected) {
            let body = changed(sample, pointer, deed);
            let found = summary(&read(&body));
            // What is read of a doubled member with two values has two readings, whatever else it says; a list that is
            // doubled as it is has one.
            let has_two = deed == "doubled" && !["/patches", "/bases"].contains(&pointer);
            if has_two {
                if !found.contains("two readings") {
                    wrong.push(format!("{pointer} doubled: {found:?}"));
                }
            } else if found != expected {
                wrong.push(format!("{pointer} {deed}: {found:?} instead of {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_member_of_a_reply_may_be_anything_and_nothing_that_it_hides_goes_unsaid() {
    let asked = [
        (MessageKind::Sync(Sync::default()), SYNC_REPLY),
        (MessageKind::Capacity(vec![]), CAPACITY_REPLY),
        (MessageKind::Activation { cause: "Initial".into() }, ACTIVATION_REPLY),
    ];
    for (asked, sample) in asked {
        let mut pointers = Vec::new();
        members(&serde_json::from_str(sample).unwrap(), String::new(), &mut pointers);
        assert!(pointers.len() >= 4);
        for pointer in pointers {
            for deed in DEEDS {
                let body = changed(sample, &pointer, deed);
                let told = told(&asked, &body);
                let place = format!("{pointer} {deed}: {told:?}");
                let (name, is_list) = (
                    pointer.rsplit('/').next().unwrap(),
                    body.contains("\"renamed\":[") || body.contains("\"renamed\":{"),
                );
                match &told.what {
                    What::Unread { why } => assert!(!why.is_empty(), "{place}"),
                    What::Nothing => panic!("{place}"),
                    _ if deed == "renamed" && is_list => assert!(told.unread.is_some(), "{place}"),
                    _ if matches!(deed, "list" | "object") && name != "minimum" => {
                        let lists = ["bases", "patches", "allotments", "units", "provisions", "usage"];
                        assert!(told.unread.is_some() || lists.contains(&name), "{place}");
                    }
                    _ => {}
                }
                if deed == "doubled" {
                    assert_eq!(told.doubled, [name], "{place}");
                }
            }
        }
    }
}

fn members(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members_of) => {
            for (name, value) in members_of {
                found.push(format!("{path}/{name}"));
                members(value, format!("{path}/{name}"), found);
            }
        }
        Value::Array(elements) => {
            for (at, value) in elements.iter().enumerate() {
                members(value, format!("{path}/{at}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn whatever_moves_is_found_again_with_the_place_it_moved_to() {
    // Every list with a member of the sync sample: moved into an object, and named so by the site.
    let places = [
        ("/source", "source = [\"/in/source\"]"),
        ("/bases", "[sync]\nbases = [\"/in/bases\"]"),
        ("/patches", "[sync]\npatches = [\"/in/patches\"]"),
        ("/bases/0/license", "[sync]\nlicense = [\"/in/license\"]"),
        ("/bases/0/version", "[sync]\nversion = [\"/in/version\"]"),
        ("/patches/0/subject", "[sync]\nsubject = [\"/in/subject\"]"),
        ("/patches/0/allotment", "[sync]\nallotment = [\"/in/allotment\"]"),
        ("/patches/0/license", "[sync]\nlicense = [\"/in/license\"]"),
        ("/patches/0/instance", "[sync]\ninstance = [\"/in/instance\"]"),
        ("/patches/0/version", "[sync]\nversion = [\"/in/version\"]"),
        ("/patches/0/created", "[sync]\ncreated = [\"/in/created\"]"),
    ];
    // Only how the body is made differs.
    let expected = Message { shape: None, ..read(SYNC) };
    let words = |own: &str| Vocabulary::parse(own, "v.toml".as_ref()).unwrap();
    for (pointer, own) in places {
        let mut body: Value = serde_json::from_str(SYNC).unwrap();
        let (holder, name) = pointer.rsplit_once('/').unwrap();
        let holder = body.pointer_mut(holder).unwrap().as_object_mut().unwrap();
        let value = holder.remove(name).unwrap();
        holder.insert("in".into(), json!({ name: value }));
        let body = body.to_string();
        let read = |words: &Vocabulary| {
            let words = words.clone().try_into().unwrap();
            Message::read(&Method::POST, &Uri::from_static("/x"), &HeaderMap::new(), body.as_bytes(), &words)
        };
        let found = Message { shape: None, ..read(&words(own)) };
        assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{pointer}");
        // Without it, nothing of this goes by as if it were understood.
        let unknown = read(&words(""));
        let unrecognised = matches!(unknown.kind, MessageKind::Unrecognised { .. });
        assert!(unrecognised || unknown.unread.is_some(), "{pointer}: {unknown:?}");
    }
}

#[test]
fn nothing_of_a_message_that_is_as_it_should_be_is_unread() {
    let wrapped = include_str!("../samples/sync-request-wrapped.json");
    let idle = include_str!("../samples/sync-request-idle.json");
    for body in [SYNC, CAPACITY, ACTIVATION, wrapped, idle] {
        let message = read(body);
        assert!(message.unread.is_none() && message.doubled.is_empty(), "{message:?}");
    }
    assert!(told(&MessageKind::Sync(Sync::default()), SYNC_REPLY).unread.is_none());
    assert!(told(&MessageKind::Definition, ACTIVATION_REPLY).unread.is_none());
    assert!(
        told(&MessageKind::Definition, include_str!("../samples/definition-reply.json")).unread.is_none()
    );
}

#[test]
fn a_body_of_very_many_values_is_read_in_a_moment_whatever_it_holds() {
    let each = |element: &str, count: usize| vec![element; count].join(",");
    let patch = r#"{"subject":"a","allotment":"b","license":"9999","version":0}"#;
    let members: String = (0..100_000).map(|n| format!("\"m{n}\":[{n}],")).collect();
    let bodies = [
        format!(r#"{{"bases":[],"patches":[{}]}}"#, each(patch, 90_000)),
        format!("[{}]", each(r#"{"source":"a","license":"9999"}"#, 150_000)),
        format!("[{}]", each(r#"{"bases":[],"patches":[]}"#, 150_000)),
        format!(r#"{{{members}"bases":[],"patches":[]}}"#),
        format!(r#"{{{}}}"#, each(r#""patches":[{}],"bases":[]"#, 100_000)),
        format!(r#"{{{}}}"#, each(r#""metadata":{"source":"a","bases":[]}"#, 100_000)),
    ];
    let own = "[sync]\nwithin = [\"/*\", \"/patches/*\"]\n[capacity]\nelement = [\"/\", \"/patches/*\"]\n";
    let words = Vocabulary::parse(own, "v.toml".as_ref()).unwrap().try_into().unwrap();
    for body in bodies {
        assert!(body.len() < bounds::DECODED);
        let started = tokio::time::Instant::now();
        let headers = HeaderMap::new();
        let message =
            Message::read(&Method::POST, &Uri::from_static("/x"), &headers, body.as_bytes(), &words);
        ReplyFacts::read(
            &MessageKind::Sync(Sync::default()),
            StatusCode::OK,
            &headers,
            body.as_bytes(),
            &words,
        );
        // Seconds, without optimisation, on a busy machine; what is not linear takes hours.
        let took = started.elapsed();
        assert!(took < Duration::from_secs(60), "{took:?} for {:.60}: {}", body, message.kind.name());
    }
}

/// Any JSON, and JSON that is full of names which are looked for.
fn any_json() -> impl Strategy<Value = Value> {
    let names = proptest::sample::select(vec![
        "source",
        "sourceId",
        "metadata",
        "bases",
        "patches",
        "license",
        "version",
        "instance",
        "allotment",
        "subject",
        "created",
        "rejection",
        "deleted",
        "operation",
        "op",
        "month",
        "consumption",
        "total",
        "name",
        "cause",
        "key",
        "sld",
        "signedDef",
        "definition",
        "allotments",
        "units",
        "count",
        "valid",
        "usage",
        "class",
        "provisions",
        "accessType",
        "overage",
        "Source",
        "\u{17f}ource",
        "x",
        "",
    ]);
    let texts = proptest::sample::select(vec![
        "",
        "a",
        "acme\\bob",
        "delete",
        "9999 0000 0000 1253",
        "5382018630938057025",
        "2018-11",
        "e30.e30.e30",
        "eyJhbGxvdG1lbnRzIjpbXX0",
        "2018-06-01/2018-12-31",
        "\u{130}\u{0}\u{1f600}",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        texts.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 256, 8, move |inner| {
        let known = proptest::collection::vec((names.clone(), inner.clone()), 0..8);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            known.prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
            proptest::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_json_makes_reading_panic_and_nothing_unread_passes_as_idle(body in any_json()) {
        let text = body.to_string();
        let message = read(&text);
        if message.unread.is_some() {
            prop_assert!(message.changes_something());
        }
        for asked in [MessageKind::Sync(Sync::default()), MessageKind::Capacity(vec![]), MessageKind::Definition, message.kind] {
            told(&asked, &text);
        }
    }

    #[test]
    fn a_sync_with_anything_beside_it_is_a_sync_still(extra in any_json(), name in "[a-z]{1,3}x") {
        let mut body: Value = serde_json::from_str(SYNC).unwrap();
        let is_list = matches!(&extra, Value::Array(a) if !a.is_empty()) || matches!(&extra, Value::Object(o) if !o.is_empty());
        body[&name] = extra;
        let message = read(&body.to_string());
        prop_assert_eq!(message.kind.name(), "sync");
        prop_assert_eq!(message.unread.is_some(), is_list);
    }
}
