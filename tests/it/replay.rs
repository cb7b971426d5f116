//! `check --replay`: what it says of exchanges in the log is what a relay under these settings then does to the same
//! requests, and where the log does not hold what decides it says so. Each case has a client address of its own, so that
//! its row is found.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::common::wire::*;
use crate::common::*;

const OPEN: &str = "\n[sources]\nunknown = \"observe\"\nunidentified = \"observe\"\n";
const PASSWORD: &str = "right";

/// A client and what it sends.
struct Case {
    shows: &'static str,
    address: &'static str,
    user: &'static str,
    request: String,
}

/// What a replay says of an exchange, or a relay does to a request.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Said {
    In,
    Out(String),
    Unknown(String),
}

fn sync(id: &str) -> String {
    post("/v1/sync", &SYNC.replace(SOURCE, id))
}

fn bearer() -> String {
    format!("Authorization: Bearer {}\r\n", KEY.trim())
}

fn cases() -> Vec<Case> {
    let mut nobody: Value = serde_json::from_str(SYNC).unwrap();
    nobody.as_object_mut().unwrap().remove("source");
    let case = |shows, address, user, request| Case { shows, address, user, request };
    vec![
        case("a sync", "127.0.0.11", "", sync("moved")),
        case("a sync of another", "127.0.0.12", "", sync("steady")),
        case("an idle sync", "127.0.0.13", "", post("/v1/sync", &IDLE.replace(SOURCE, "idle"))),
        case("an activation", "127.0.0.14", "", post("/v1/activation", ACTIVATION)),
        case("a message that nobody knows", "127.0.0.15", "", post("/v1/x", "{\"what\":1}")),
        case("a body that can't be read", "127.0.0.16", "", post("/v1/x", "{\"what\":")),
        case("a sync without an id", "127.0.0.17", "", post("/v1/sync", &nobody.to_string())),
        case("a sync of a user", "127.0.0.18", "qlik-prod", sync("with-user")),
        case(
            "a definition",
            "127.0.0.19",
            "",
            format!("GET /v1/definitions/portable/info HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n", bearer()),
        ),
        case(
            "an unknown message with an id",
            "127.0.0.20",
            "",
            post("/v1/x", "{\"source\":\"unread\",\"what\":1}"),
        ),
        case("a report", "127.0.0.21", "", post("/v1/capacity", &CAPACITY.replace(SOURCE, "reporter"))),
        case(
            "a sync of a license that can't be read",
            "127.0.0.23",
            "",
            sync("odd").replacen("9999 0000 0000 1253", "9999.0000.0000.1253", 1),
        ),
        case(
            "a message with no body",
            "127.0.0.22",
            "",
            format!("DELETE /v1/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n"),
        ),
    ]
}

fn basic(user: &str) -> String {
    match user {
        "" => String::new(),
        user => format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{PASSWORD}"))),
    }
}

/// What the relay does to it.
fn live(relay: &Relay, case: &Case) -> Said {
    let mut stream = relay.connect_from(case.address);
    let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n", basic(case.user));
    let connected = ask(&mut stream, connect);
    if connected.status != 200 {
        return Said::Out(connected.reason);
    }
    let answer = ask(&mut tls(stream, HOST, &relay.root()), &case.request);
    match answer.header("Proxy-Status") {
        Some(_) => Said::Out(answer.reason),
        None => Said::In,
    }
}

fn with_user(relay: Relay) -> Relay {
    relay.add_user("qlik-prod", PASSWORD);
    eventually("the user is known", || {
        let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n", basic("qlik-prod"));
        (ask(&mut relay.connect(), connect).status == 200).then_some(())
    });
    relay
}

/// What a replay says of the one exchange of a client.
fn replayed(found: &Value, address: &str) -> Option<Said> {
    let rows = found["deployments"].as_array().unwrap();
    let row = rows.iter().find(|row| row["addresses"][0] == address)?;
    let words = |list: &str| row[list][0]["reason"].as_str().unwrap().to_owned();
    let counts = ["let_in", "refused", "can_not_be_told"].map(|count| row[count].as_u64().unwrap());
    Some(match counts {
        [1, 0, 0] => Said::In,
        [0, 1, 0] => Said::Out(words("reasons")),
        [0, 0, 1] => Said::Unknown(words("why_not")),
        other => panic!("one exchange of {address} is {other:?}: {row:#}"),
    })
}

/// A relay that has let in all cases, and is stopped.
fn stopped_after_all(stub: &Stub) -> Relay {
    let plan = Plan::new(stub).sources("[[source]]\nid = \"nobody\"\n");
    let config = plan.config.replace("[audit]", &format!("{OPEN}\n[audit]"));
    let mut relay = with_user(Plan { config, ..plan }.start());
    for case in cases() {
        let said = live(&relay, &case);
        assert_eq!(said, Said::In, "{}", case.shows);
    }
    assert!(relay.stop().success());
    relay
}

#[test]
fn a_replay_says_what_a_relay_under_these_settings_then_does() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = stopped_after_all(&stub);
    let open = fs::read_to_string(relay.path("relay.toml")).unwrap();
    let tight = open.replace(OPEN, "");
    assert_ne!(open, tight);

    let entry = |id: &str, more: &str| format!("[[source]]\nname = \"{id}'s\"\nid = \"{id}\"\n{more}\n");
    let all: String =
        ["moved", "steady", "idle", "with-user", "unread", "reporter"].map(|id| entry(id, "")).concat();
    let network = |address: &str| format!("[[source]]\nnetworks = [\"{address}\"]\n");
    let licensed = format!("[[source]]\nlicenses = [\"{LICENSE}\"]\n");
    let with = |line: &str| tight.replace("[listen]", &format!("[listen]\n{line}"));
    let deny = format!("{tight}\n[licensing]\nunreadable = \"deny\"\nunrecognised = \"deny\"\n");
    // The settings, and of how many cases the log does not hold what decides.
    let settings: [(&str, &str, String, usize); 9] = [
        ("nobody", &tight, "[[source]]\nid = \"nobody\"\n".into(), 0),
        ("all ids", &tight, all.clone(), 0),
        (
            "a moved one",
            &tight,
            [
                entry("moved", "networks = [\"10.0.0.0/8\"]"),
                entry("steady", "networks = [\"127.0.0.12/32\"]"),
                licensed,
            ]
            .concat(),
            0,
        ),
        ("a user", &tight, entry("with-user", "users = [\"qlik-prod\"]"), 7),
        (
            "a user that nobody can be",
            &with("credentials = \"off\""),
            entry("with-user", "users = [\"qlik-prod\"]"),
            0,
        ),
        (
            "what is not understood, by network",
            &tight,
            ["127.0.0.15/32", "127.0.0.16/32"].map(network).concat(),
            0,
        ),
        ("what is not understood, by nothing", &deny, [network("127.0.0.0/8"), all.clone()].concat(), 0),
        ("a demanded password", &with("credentials = \"required\""), all, 6),
        ("all that there is", &open, network("127.0.0.0/8"), 0),
    ];
    for (shows, config, sources, open_cases) in settings {
        fs::write(relay.path("relay.toml"), config).unwrap();
        fs::write(relay.path("sources.toml"), &sources).unwrap();
        let output = relay.verb(&["check", "--replay", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{shows}: {}", all_said(&output));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["exchanges"], cases().len(), "{shows}: {found:#}");

        let copy = Plan { config: config.to_owned(), ..Plan::new(&stub).sources(&sources) };
        fs::copy(relay.path("users"), copy.path("users")).unwrap();
        let judge = copy.start();
        let (mut unknown, mut refused) = (Vec::new(), 0);
        for case in cases() {
            let said =
                replayed(&found, case.address).unwrap_or_else(|| panic!("no {}: {found:#}", case.shows));
            let done = live(&judge, &case);
            match (&said, &done) {
                (Said::In, Said::In) => {}
                (Said::Out(why), Said::Out(answer)) => {
                    refused += 1;
                    // The sentence is about what is wrong first; a demanded password is told before anything is read.
                    let same = answer.contains(why)
                        || shows == "a demanded password"
                        || why.starts_with("the body can't be read");
                    assert!(same, "{shows}, {}: {why:?} and {answer:?}", case.shows);
                }
                (Said::Unknown(_), _) => unknown.push(format!("{}: {said:?}", case.shows)),
                _ => panic!("{shows}, {}: {said:?}, and the relay did {done:?}", case.shows),
            }
        }
        assert_eq!(unknown.len(), open_cases, "{shows}: {unknown:#?}");
        assert_eq!(found["would_be_refused"], refused, "{shows}: {found:#}");
        assert_eq!(found["can_not_be_told"], unknown.len(), "{shows}");
    }
}

#[test]
fn it_names_deployments_and_reasons_and_says_what_it_can_not_know() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = stopped_after_all(&stub);
    let open = fs::read_to_string(relay.path("relay.toml")).unwrap();
    fs::write(relay.path("relay.toml"), open.replace(OPEN, "")).unwrap();
    let list = "[[source]]\nname = \"the old one\"\nid = \"steady\"\n[[source]]\nid = \"moved\"\nnetworks = [\"10.0.0.0/8\"]\n";
    fs::write(relay.path("sources.toml"), list).unwrap();

    let output = relay.verb(&["check", "--replay"]);
    ended(&output, 0, "relay.toml: fine");
    let said = all_said(&output);
    for words in [
        &format!(
            "source moved, license {LICENSE}, from 127.0.0.11: 0 let in, 1 refused, 0 can't be told; the last at "
        ) as &str,
        "  1 × refused: source moved is not allowed from this address or user",
        &format!("source steady \"the old one\", license {LICENSE}, from 127.0.0.12: 1 let in, 0 refused"),
        "12 of 13 exchanges would be refused by these settings, of 12 deployments",
        "It holds no bodies",
        "audit: fine",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }

    // A log that was changed is told by the exit code; a copy is replayed as well as the relay's own.
    let copy = folder.path().join("copy");
    assert!(
        tool("cp", "coreutils").arg("-r").arg(relay.path("audit")).arg(&copy).status().unwrap().success()
    );
    let segment = copy.join("segments/00000000000000000000.jsonl");
    fs::write(&segment, fs::read_to_string(&segment).unwrap().replacen("\"steady\"", "\"steadi\"", 1))
        .unwrap();
    ended(&relay.verb(&["check", "--replay", "--log", copy.to_str().unwrap()]), 1, "damaged");
    ended(&relay.verb(&["check", "--log", copy.to_str().unwrap()]), 64, "--replay");
    ended(&relay.verb(&["check", "--json"]), 64, "--replay");
    ended(&relay.verb(&["check", "--replay", "--log", "/etc"]), 64, "not a log");
    fs::write(relay.path("sources.toml"), "[[source]]\nidd = \"x\"\n").unwrap();
    ended(&relay.verb(&["check", "--replay"]), 78, "idd");
}

#[test]
fn where_two_vocabularies_differ_both_readings_are_judged_as_live() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub).sources("[[source]]\nid = \"nobody\"\n");
    let own = "\n[licensing]\nvocabulary = \"words.toml\"\n";
    let open = plan.config.replace("[audit]", &format!("{OPEN}{own}\n[audit]"));
    let words = "source = [\"client\"]\n";
    fs::write(plan.path("words.toml"), words).unwrap();
    let mut relay = Plan { config: open.clone(), ..plan }.start();
    let body = SYNC.replacen('{', "{\"client\": \"site\",", 1).replace(SOURCE, "built-in");
    let case = Case { shows: "a sync", address: "127.0.0.11", user: "", request: post("/v1/sync", &body) };
    assert_eq!(live(&relay, &case), Said::In);
    assert!(relay.stop().success());

    let tight = open.replace(OPEN, "");
    let entry = |id: &str| format!("[[source]]\nid = \"{id}\"\n");
    for (config, sources, let_in) in [
        (tight.clone(), entry("site"), false),
        (tight.clone(), entry("built-in"), false),
        (tight.clone(), entry("site") + &entry("built-in"), true),
        (tight.replace(own, ""), entry("built-in"), true),
        (tight.replace(own, ""), entry("site"), false),
    ] {
        fs::write(relay.path("relay.toml"), &config).unwrap();
        fs::write(relay.path("sources.toml"), &sources).unwrap();
        let found: Value =
            serde_json::from_slice(&relay.verb(&["check", "--replay", "--json"]).stdout).unwrap();
        let copy = Plan { config, ..Plan::new(&stub).sources(&sources) };
        fs::write(copy.path("words.toml"), words).unwrap();
        let done = live(&copy.start(), &case);
        let said = replayed(&found, case.address).unwrap();
        assert_eq!((said == Said::In, done == Said::In), (let_in, let_in), "{sources}: {said:?}, {done:?}");
    }
}
