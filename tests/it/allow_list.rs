//! Who may ask, and how often: every way in which the allow-list lets a deployment in, what it keeps out, and
//! whose requests a limit counts.

use std::fs;
use std::time::Duration;

use base64::Engine;
use serde_json::Value;

use crate::common::wire::*;
use crate::common::*;

const STRANGER: &str = "11111111-2222-3333-4444-555555555555";

/// Every kind of entry. The key of the samples has the license of the third.
const LIST: &str = r#"
[[source]]
id = "fbe89d02-6d24-4595-915e-c52ce76f2195"

[[source]]
id = "sha256:1a06df824ed741b53c785079a6347f00eec5af82f9850775409ca69dff4068a6"

[[source]]
id = "placed"
licenses = ["9999-0000-0000 1253"]
networks = ["127.0.0.2/32"]
users = ["qlik-prod"]

[[source]]
users = ["alone"]

[[source]]
networks = ["127.0.0.8/31"]
"#;

const PASSWORD: &str = "right";

/// A message without an id, a license or a key.
const NAMELESS: &str = "{\"what\":1}";

/// What becomes of a request.
enum Then {
    /// It reaches the back end; what it was identified by.
    In(&'static str),
    /// It is refused, in these words.
    Out(&'static str),
}

fn sync(id: &str) -> String {
    post("/v1/sync", &IDLE.replace(SOURCE, id))
}

fn get(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")
}

/// A `POST` with the license key in front.
fn with_key(path: &str, body: &str) -> String {
    post(path, body).replacen("Content-Length", &format!("{}Content-Length", bearer()), 1)
}

fn bearer() -> String {
    format!("Authorization: Bearer {}\r\n", KEY.trim())
}

/// The `CONNECT` fields of a Basic user.
fn basic(user: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{PASSWORD}"));
    format!("Proxy-Authorization: Basic {pair}\r\n")
}

/// A relay with this list and these users, with more tables in its configuration.
fn relay(stub: &Stub, list: &str, more: &str) -> Relay {
    let relay = Plan::new(stub).sources(list).and(more).start();
    for user in ["qlik-prod", "alone"] {
        relay.add_user(user, PASSWORD);
        eventually("the user is known", || {
            let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n", basic(user));
            let mut stream = relay.connect();
            (ask(&mut stream, connect).status == 200).then_some(())
        });
    }
    relay
}

/// One request of a client; what became of it is as it should be, in the answer, at the back end and in the access
/// line.
#[track_caller]
fn holds(stub: &Stub, relay: &Relay, shows: &str, (from, user): (&str, &str), request: &str, then: &Then) {
    let before = stub.counters()["requests"].as_u64().unwrap();
    let fields = if user.is_empty() { String::new() } else { basic(user) };
    let mut inside = relay.inside_from(from, &fields);
    inside.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    let lines = relay.stderr().lines().filter(|line| line.contains(" access ")).count();
    std::io::Write::write_all(&mut inside, request.as_bytes()).unwrap();
    // An answer to HEAD has a length and no body: its head is enough.
    let answer = if request.starts_with("HEAD") { head_of(&mut inside) } else { Answer::read(&mut inside) };
    let line = eventually("its access line", || {
        let line = relay.stderr().lines().filter(|line| line.contains(" access ")).nth(lines)?.to_owned();
        Some(line)
    });
    let reached = stub.counters()["requests"].as_u64().unwrap() - before;
    match then {
        Then::In(by) => {
            assert!(answer.header("Proxy-Status").is_none(), "{shows}: {answer:?}");
            assert!(line.contains(&format!(" identified_by={by} ")), "{shows}: {line}");
            assert_eq!(reached, 1, "{shows}");
        }
        Then::Out(words) => {
            answer.refuses_for_a_while(503, "http_request_denied");
            assert!(answer.reason.contains(words), "{shows}: {answer:?}");
            assert!(line.contains(" verdict=refuse "), "{shows}: {line}");
            assert_eq!(reached, 0, "{shows}");
        }
    }
}

fn head_of(inside: &mut Inside) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        std::io::Read::read_exact(inside, &mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = "Content-Length";
    let bodiless: Vec<&str> = head
        .split("\r\n")
        .filter(|line| !line.get(..length.len()).is_some_and(|name| name.eq_ignore_ascii_case(length)))
        .collect();
    Answer::parse(bodiless.join("\r\n").as_bytes())
}

#[test]
fn the_list_lets_in_whom_it_names_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = relay(&stub, LIST, "");
    let definition = get("GET /v1/definitions/portable/info", &bearer());
    let activation = post("/v1/activation", ACTIVATION);
    let nameless = post("/v1/x", NAMELESS);
    let wrapped = post("/v1/sync", include_str!("../samples/sync-request-wrapped.json"));
    let capacity = post("/v1/capacity", CAPACITY);
    let without_id = |body: &str| {
        let mut body: Value = serde_json::from_str(body).unwrap();
        let elements =
            if body.is_array() { body.as_array_mut().unwrap() } else { std::slice::from_mut(&mut body) };
        for element in elements {
            element.as_object_mut().unwrap().remove("source").unwrap();
        }
        body.to_string()
    };
    let anonymous_sync = post("/v1/sync", &without_id(SYNC));
    let anonymous = post("/v1/x", &format!("{{\"license\":\"{LICENSE}\",\"what\":1}}"));
    let report = without_id(CAPACITY);
    let anonymous_report = with_key("/v1/capacity", &report);
    let hashed = "sha256:1a06df824ed741b53c785079a6347f00eec5af82f9850775409ca69dff4068a6";
    use Then::{In, Out};
    #[rustfmt::skip]
    let table: &[(&str, (&str, &str), &str, Then)] = &[
        ("an id in clear, from anywhere",            ("127.0.0.3", ""),          &sync(SOURCE),              In("source")),
        ("in a report of consumption as well",       ("127.0.0.3", ""),          &capacity,                  In("source")),
        ("with white space around it",               ("127.0.0.3", ""),          &sync(&format!(" {SOURCE} ")), In("source")),
        ("the best place for an id decides alone",   ("127.0.0.3", ""),          &wrapped,                   In("source")),
        ("an id is opaque: its case counts",         ("127.0.0.3", ""),          &sync(&SOURCE.to_uppercase()), Out("is not allowed")),
        ("an id of which the list has the hash",     ("127.0.0.3", ""),          &sync("hashed"),            In("source")),
        ("the hash itself is no id",                 ("127.0.0.3", ""),          &sync(hashed),              Out("is not allowed")),
        ("a named id from its network",              ("127.0.0.2", ""),          &sync("placed"),            In("source")),
        ("a named id of its user, from anywhere",    ("127.0.0.3", "qlik-prod"), &sync("placed"),            In("source")),
        ("a named id from elsewhere",                ("127.0.0.3", ""),          &sync("placed"),            Out("from this address or user")),
        ("a named id of another user",               ("127.0.0.3", "alone"),     &sync("placed"),            Out("from this address or user")),
        ("a license vouches for an activation",      ("127.0.0.3", ""),          &activation,                In("license")),
        ("and for a definition, by its key",         ("127.0.0.3", ""),          &definition,                In("license")),
        ("not from elsewhere for a sync without id", ("127.0.0.3", ""),          &anonymous_sync,            Out("9999000000001253 is not allowed from this address or user")),
        ("nor for a report of consumption",          ("127.0.0.3", ""),          &anonymous_report,          Out("from this address or user")),
        ("nor for what is not recognised",           ("127.0.0.3", "alone"),     &anonymous,                 Out("from this address or user")),
        ("nor from another entry's network",         ("127.0.0.9", ""),          &anonymous_sync,            Out("from this address or user")),
        ("it does from the network of its entry",    ("127.0.0.2", ""),          &anonymous_sync,            In("license")),
        ("or of a user of its entry",                ("127.0.0.3", "qlik-prod"), &anonymous,                 In("license")),
        ("not for an id that is not listed",         ("127.0.0.3", ""),          &sync(STRANGER),            Out(STRANGER)),
        ("nor does a network",                       ("127.0.0.9", ""),          &sync(STRANGER),            Out(STRANGER)),
        ("nor does a user",                          ("127.0.0.3", "alone"),     &sync(STRANGER),            Out(STRANGER)),
        ("an entry without an id, by its user",      ("127.0.0.3", "alone"),     &nameless,                  In("user")),
        ("an entry without an id, by its network",   ("127.0.0.9", ""),          &nameless,                  In("network")),
        ("a message that nothing vouches for",       ("127.0.0.3", ""),          &nameless,                  Out("no source or license")),
        ("the connectivity test, from anybody",      ("127.0.0.3", ""),          &get("GET /", ""),          In("test")),
        ("with HEAD as well",                        ("127.0.0.3", ""),          &get("HEAD /", ""),         In("test")),
        ("another path is no test",                  ("127.0.0.3", ""),          &get("GET /x", ""),         Out("no source or license")),
        ("nor is one with a query",                  ("127.0.0.3", ""),          &get("GET /?x", ""),        Out("no source or license")),
        ("or with a cookie",                         ("127.0.0.3", ""),          &get("GET /", "Cookie: a=b\r\n"), Out("no source or license")),
        ("or with credentials",                      ("127.0.0.3", ""),          &get("GET /", "Authorization: Basic YTpi\r\n"), Out("no source or license")),
        ("or with a body",                           ("127.0.0.3", ""),          &get("GET /", "Content-Length: 2\r\n").replacen("\r\n\r\n", "\r\n\r\n{}", 1), Out("no source or license")),
        ("or with another method",                   ("127.0.0.3", ""),          &get("DELETE /", ""),       Out("no source or license")),
    ];
    for (shows, who, request, then) in table {
        holds(&stub, &relay, shows, *who, request, then);
    }
}

#[test]
fn strangers_are_observed_where_the_site_says_so_and_recorded_as_unlisted() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let nameless = post("/v1/x", NAMELESS);
    use Then::{In, Out};
    let placed =
        ("a listed id from elsewhere is no stranger", sync("placed"), Out("from this address or user"));
    let tables = [
        (
            "unknown",
            [
                ("an unknown id", sync(STRANGER), In("none")),
                ("a nameless one", nameless.clone(), Out("no source")),
            ],
        ),
        (
            "unidentified",
            [("an unknown id", sync(STRANGER), Out(STRANGER)), ("a nameless one", nameless, In("none"))],
        ),
    ];
    for (key, rows) in tables {
        let relay = relay(&stub, LIST, &format!("\n[sources]\n{key} = \"observe\"\n"));
        for (shows, request, then) in rows.iter().chain([&placed]) {
            holds(&stub, &relay, &format!("{key}: {shows}"), ("127.0.0.3", ""), request, then);
        }
        let unlisted = |record: &&Value| record["qlik"]["listed"] == false;
        eventually("what passed is recorded as unlisted", || {
            relay
                .log()
                .iter()
                .find(unlisted)
                .map(|record| assert_eq!(record["qlik"]["identified_by"], "none"))
        });
        let line =
            relay.stderr().lines().find(|line| line.contains("identified_by=none")).unwrap().to_owned();
        assert!(line.contains("verdict=observe"), "{line}");
    }
}

#[test]
fn an_id_that_can_not_be_one_is_refused_and_recorded_as_invalid() {
    let (stub, relay, _folder) = pair();
    let ids = ["x".repeat(10 * 1024), "a\\u0000b".into(), "\\u001b[2J".into(), "a\\r\\nb".into(), " ".into()];
    for (n, id) in ids.iter().enumerate() {
        let answer = ask(&mut relay.inside(), sync(id));
        answer.refuses_for_a_while(503, "http_request_denied");
        let recorded = eventually("it is recorded", || relay.records("access.invalid").get(n).cloned());
        assert!(
            recorded["event"]["reason"].as_str().is_some_and(|why| why.contains("source id")),
            "{recorded}"
        );
        assert!(
            recorded["qlik"]["source_id"].is_null(),
            "what can't be an id is not recorded as one: {recorded}"
        );
    }
    assert_eq!(stub.counters()["requests"], 0);
    assert_eq!(ask(&mut relay.inside(), good()).status, 404);
}

#[test]
fn a_list_that_says_a_thing_twice_or_allows_nothing_is_refused_with_its_line() {
    let (_stub, relay, _folder) = pair();
    let twice = format!("[[source]]\nid = \"{SOURCE}\"\n\n[[source]]\nname = \"b\"\nid = \"{SOURCE}\"\n");
    let zero = |limit: &str| {
        format!("[[source]]\nid = \"a\"\n\n# ours\n[[source]]\nid = \"b\"\nlimit = {{ {limit} }}\n")
    };
    for (list, words) in [
        (twice, ["sources.toml:6: ", "same as on line 2"]),
        (zero("requests = 0, per = \"1m\", burst = 1"), ["sources.toml:7: ", "a limit of 0"]),
        (zero("requests = 1, per = \"1m\", burst = 0"), ["sources.toml:7: ", "a limit of 0"]),
        (zero("requests = 1, per = \"0s\", burst = 1"), ["sources.toml:7: ", "limit"]),
    ] {
        fs::write(relay.path("sources.toml"), &list).unwrap();
        let said = relay.verb(&["check"]);
        let words_of = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(78), "{list}: {words_of}");
        assert!(words.iter().all(|word| words_of.contains(word)), "{list}: {words_of}");
    }
}

#[test]
fn of_two_entries_that_wait_with_one_license_the_id_is_written_into_the_one_whose_place_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let entry = |name: &str, address: &str| {
        format!(
            "[[source]]\nname = \"{name}\"\nlicenses = [\"{LICENSE}\"]\nnetworks = [\"{address}/32\"]\n\
             learn = {{ until = \"2999-01-01T00:00:00Z\" }}\n\n"
        )
    };
    let list = [entry("first", "127.0.0.2"), entry("second", "127.0.0.3")].concat();
    let relay = Plan::new(&stub).sources(&list).start();
    let sync = post("/v1/sync", SYNC);
    assert_eq!(ask(&mut relay.inside_from("127.0.0.3", ""), &sync).status, 200);
    let written = eventually("the id is written", || {
        let list = fs::read_to_string(relay.path("sources.toml")).unwrap();
        list.contains(SOURCE).then_some(list)
    });
    let (first, second) = written.split_once("name = \"second\"").unwrap();
    assert!(first.contains("learn = ") && !first.contains(SOURCE), "the wrong entry has it: {written}");
    assert!(second.contains(SOURCE) && !second.contains("learn = "), "{written}");
    relay.signal("HUP");
    eventually("the deployment is known by it", || {
        (ask(&mut relay.inside_from("127.0.0.3", ""), self::sync(SOURCE)).status == 200).then_some(())
    });
}

// === how often ===

/// A list whose entries let so many requests through, and refill in an hour.
fn limited(entry: &str, burst: u32) -> String {
    format!("[[source]]\n{entry}\nlimit = {{ requests = {burst}, per = \"{burst}h\", burst = {burst} }}\n")
}

/// The statuses that one request a client gets from these addresses, one after the other.
fn statuses<'a>(relay: &Relay, request: &str, from: impl IntoIterator<Item = &'a str>) -> Vec<u16> {
    from.into_iter().map(|address| ask(&mut relay.inside_from(address, ""), request).status).collect()
}

#[test]
fn where_nothing_proves_an_id_each_address_has_a_share_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources(&limited(&format!("id = \"{SOURCE}\""), 2)).start();
    let ours = sync(SOURCE);
    assert_eq!(
        statuses(&relay, &ours, ["127.0.0.2"; 4]),
        [200, 200, 429, 429],
        "a stranger who knows the id"
    );
    assert_eq!(statuses(&relay, &ours, ["127.0.0.3"; 3]), [200, 200, 429], "the deployment");
    // 14 more have a share of their own; those after them have one together.
    let more: Vec<String> = (4..=17).map(|n| format!("127.0.0.{n}")).collect();
    assert!(statuses(&relay, &ours, more.iter().map(String::as_str)).iter().all(|status| *status == 200));
    assert_eq!(statuses(&relay, &ours, ["127.0.0.18", "127.0.0.19", "127.0.0.20"]), [200, 200, 429]);
    assert_eq!(statuses(&relay, &ours, ["127.0.0.17", "127.0.0.17"]), [200, 429]);
}

/// The limit of sources in the configuration of a test.
const LIMIT: &str = "per_source = { requests = 100000, per = \"1s\", burst = 100000 }\n";

#[test]
fn a_first_sync_of_a_large_site_gets_in_and_one_after_the_other_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let entry = |id: &str| format!("[[source]]\nid = \"{id}\"\n");
    // Without a limit that is written, the one that the program has.
    let plan = Plan::new(&stub).with(LIMIT, "");
    let relay = plan.sources(&(entry(SOURCE) + &entry(STRANGER))).start();
    let mut inside = relay.inside();
    assert_eq!(ask(&mut inside, changes(SOURCE, 1, 5_000)).status, 200);
    let sent = stub.counters()["requests"].clone();
    let refused = ask(&mut inside, changes(SOURCE, 1, 5_000));
    let wait = refused.refuses_for_a_while(429, "connection_limit_reached");
    assert!((30..=45).contains(&wait), "{wait} s");
    assert!(refused.reason.contains("limits.per_source.records"), "{refused:?}");
    assert_eq!(stub.counters()["requests"], sent, "it is refused before it is sent");
    assert_eq!(ask(&mut inside, sync(SOURCE)).status, 200, "what is cheap passes");
    // More than the limit once, where nothing is owed.
    assert_eq!(ask(&mut inside, changes(STRANGER, 1, 7_000)).status, 200);
    let wait = ask(&mut inside, sync(STRANGER)).refuses_for_a_while(429, "connection_limit_reached");
    assert!((1..=11).contains(&wait), "{wait} s");
}

#[test]
fn strangers_who_are_let_in_are_limited_by_their_records_for_each_address() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub).and("[sources]\nunknown = \"observe\"\n");
    let limit = "per_source = { requests = 1000, per = \"1h\", burst = 1000, records = 100 }\n";
    let relay = plan.with(LIMIT, limit).start();
    assert_eq!(statuses(&relay, &changes("stranger-1", 1, 200), ["127.0.0.2", "127.0.0.3"]), [200, 200]);
    assert_eq!(statuses(&relay, &changes("stranger-2", 1, 1), ["127.0.0.2", "127.0.0.4"]), [429, 200]);
}

#[test]
fn twenty_one_addresses_that_have_learned_an_id_do_not_push_its_deployment_out_of_its_share() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let entry =
        format!("[[source]]\nid = \"{SOURCE}\"\nlimit = {{ requests = 1, per = \"1s\", burst = 2 }}\n");
    let relay = Plan::new(&stub).sources(&entry).start();
    let ours = sync(SOURCE);
    assert_eq!(statuses(&relay, &ours, ["127.0.0.200"]), [200]);
    // While they flood, the limiter of the deployment refills, and theirs do not.
    let others: Vec<String> = (1..=21).map(|n| format!("127.0.1.{n}")).collect();
    let mut others: Vec<Inside> = others.iter().map(|address| relay.inside_from(address, "")).collect();
    let begun = tokio::time::Instant::now();
    let mut last = vec![];
    while begun.elapsed() < Duration::from_secs(3) {
        last = others.iter_mut().map(|inside| ask(inside, &ours).status).collect();
    }
    assert!(last[16..].contains(&429), "those without a place share one, and use it up: {last:?}");
    assert_eq!(statuses(&relay, &ours, ["127.0.0.200"; 2]), [200, 200]);
}

#[test]
fn where_a_network_proves_it_there_is_one_share_and_a_stranger_with_the_license_can_not_touch_it() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let entry = format!("id = \"{SOURCE}\"\nlicenses = [\"{LICENSE}\"]\nnetworks = [\"127.0.0.2/31\"]");
    let relay = Plan::new(&stub).sources(&limited(&entry, 2)).start();
    let definition = get("GET /v1/definitions/portable/info", &bearer());
    assert_eq!(statuses(&relay, &definition, ["127.0.0.9"; 3]), [200, 200, 429], "a stranger");
    assert_eq!(statuses(&relay, &sync(SOURCE), ["127.0.0.2", "127.0.0.3", "127.0.0.2"]), [200, 200, 429]);
}

#[test]
fn activations_and_syncs_starve_each_other_neither_way() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    for networks in ["", "networks = [\"127.0.0.2/31\"]"] {
        let entry = format!("id = \"{SOURCE}\"\nlicenses = [\"{LICENSE}\"]\n{networks}");
        let relay = Plan::new(&stub).sources(&limited(&entry, 1)).start();
        let activation = post("/v1/activation", ACTIVATION);
        assert_eq!(statuses(&relay, &activation, ["127.0.0.2"; 2]), [200, 429]);
        assert_eq!(statuses(&relay, &sync(SOURCE), ["127.0.0.2"; 2]), [200, 429]);
        assert_eq!(statuses(&relay, &activation, ["127.0.0.3"; 2]), [200, 429], "another node of the site");
    }
}

#[test]
fn whoever_waits_as_long_as_told_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let limit = "limit = { requests = 4, per = \"5s\", burst = 3 }";
    let list = format!("[[source]]\nid = \"{SOURCE}\"\nlicenses = [\"{LICENSE}\"]\n{limit}\n");
    let relay = Plan::new(&stub).sources(&list).start();
    for request in [sync(SOURCE), post("/v1/activation", ACTIVATION)] {
        let mut inside = relay.inside();
        for round in 0..2 {
            let refused = loop {
                let answer = ask(&mut inside, &request);
                if answer.status != 200 {
                    break answer;
                }
            };
            let wait = refused.refuses_for_a_while(429, "connection_limit_reached");
            assert!(wait <= 2, "one comes back in 1.25 s: {refused:?}");
            // What is tried is that this very wait is enough: no event tells it.
            std::thread::sleep(Duration::from_secs(wait));
            assert_eq!(ask(&mut inside, &request).status, 200, "round {round}");
        }
    }
}

#[test]
fn ids_that_nobody_knows_are_limited_by_their_address_alone() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let all = "per_address = { requests = 100000, per = \"1s\", burst = 100000 }";
    // Two of them are its CONNECTs.
    let plan = Plan::new(&stub).with(all, "per_address = { requests = 1, per = \"1h\", burst = 52 }");
    let relay = plan.start();
    let mut strangers = relay.inside_from("127.0.0.2", "");
    let mut second = relay.inside_from("127.0.0.2", "");
    for n in 0..50 {
        assert_eq!(ask(&mut strangers, sync(&format!("stranger-{n}"))).status, 503);
    }
    let limited = ask(&mut strangers, sync("stranger-50"));
    limited.refuses_for_a_while(429, "connection_limit_reached");
    assert!(limited.reason.contains("this address"), "{limited:?}");
    assert_eq!(ask(&mut second, good()).status, 429, "the connectivity test as well");
    assert_eq!(statuses(&relay, &sync(SOURCE), ["127.0.0.3"]), [200], "another address has its own");
}

#[test]
fn counts_are_kept_over_a_reload_for_each_address_and_for_activations() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let entry = |name: &str| format!("id = \"{SOURCE}\"\nname = \"{name}\"\nlicenses = [\"{LICENSE}\"]");
    let relay = Plan::new(&stub).sources(&limited(&entry("a"), 1)).start();
    let activation = post("/v1/activation", ACTIVATION);
    assert_eq!(statuses(&relay, &sync(SOURCE), ["127.0.0.2", "127.0.0.3"]), [200, 200]);
    assert_eq!(statuses(&relay, &activation, ["127.0.0.2"]), [200]);
    let renamed = format!("{}{}", limited(&entry("b"), 1), limited(&format!("id = \"{STRANGER}\""), 9));
    fs::write(relay.path("sources.toml"), renamed).unwrap();
    relay.signal("HUP");
    eventually("the new list is in force", || {
        (statuses(&relay, &sync(STRANGER), ["127.0.0.4"]) == [200]).then_some(())
    });
    assert_eq!(statuses(&relay, &sync(SOURCE), ["127.0.0.2", "127.0.0.3", "127.0.0.4"]), [429, 429, 200]);
    assert_eq!(statuses(&relay, &activation, ["127.0.0.2", "127.0.0.3"]), [429, 200]);
}
