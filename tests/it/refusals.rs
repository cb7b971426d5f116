//! What the relay refuses by itself: an outage, not a verdict, with its cause in the reason
//! phrase; and not one byte of it reaches the back end.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, SystemTime};

use crate::common::wire::*;
use crate::common::*;

const STRANGER: &str = "11111111-2222-3333-4444-555555555555";

#[track_caller]
fn seen_by(stub: &Stub, requests: u64) {
    assert_eq!(stub.counters()["requests"], requests, "{}", stub.counters());
}

/// A relay with these sources, refused one request; the same connection goes on to serve, and the back end has
/// seen the second request alone.
#[track_caller]
fn refused_and_kept(sources: &str, change: impl FnOnce(Plan) -> Plan, body: &str, words: &[&str]) -> Answer {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = change(Plan::new(&stub).sources(sources)).start();
    let mut inside = relay.inside();
    let answer = ask(&mut inside, post("/v1/x", body));
    answer.refuses_for_a_while(503, "http_request_denied");
    assert!(words.iter().all(|word| answer.reason.contains(word)), "{answer:?}");
    assert!(!answer.closes(), "{answer:?}");
    assert_eq!(ask(&mut inside, good()).status, 404);
    seen_by(&stub, 1);
    answer
}

fn as_it_is(plan: Plan) -> Plan {
    plan
}

const NOBODY: &str = "# nobody\n";

#[test]
fn an_unknown_source_is_told_its_id_and_the_command_that_lets_it_in() {
    let body = SYNC.replace(SOURCE, STRANGER);
    let words = [STRANGER, "; run license-relay sources allow "];
    refused_and_kept(NOBODY, as_it_is, &body, &words);
}

#[test]
fn a_message_that_names_no_source_and_no_known_license_is_refused() {
    refused_and_kept(NOBODY, as_it_is, ACTIVATION, &[LICENSE, "; run license-relay sources allow "]);
    refused_and_kept(NOBODY, as_it_is, "{\"cause\":\"Initial\"}", &["no source or license"]);
}

#[test]
fn two_different_sources_at_one_place_are_refused() {
    let two = CAPACITY.trim_end().trim_end_matches(']').to_owned()
        + &format!(
            ",{{\"id\":2,\"allotment\":\"analyzer_time\",\"month\":\"2018-11\",\"consumption\":1,\"source\":\"{STRANGER}\"}}]"
        );
    let allowed = format!("[[source]]\nid = \"{SOURCE}\"\n[[source]]\nid = \"{STRANGER}\"\n");
    refused_and_kept(&allowed, as_it_is, &two, &["two different sources"]);
    let doubled = SYNC.replacen('{', &format!("{{\"source\": \"{STRANGER}\","), 1);
    refused_and_kept(&allowed, as_it_is, &doubled, &["a member twice"]);
}

#[test]
fn two_license_keys_or_two_licenses_under_one_name_are_refused() {
    let allowed = format!("[[source]]\nid = \"{SOURCE}\"\nlicenses = [\"{LICENSE}\"]\n");
    let doubled = |member: &str| ACTIVATION.replacen('{', &format!("{{{member},"), 1);
    let key = "\"SignedLicenseKey\": \"e30.e30.c2ln\"";
    refused_and_kept(&allowed, as_it_is, &doubled(key), &["a member twice"]);
    let licenses = format!("\"license\": \"{LICENSE}\", \"license\": \"8888000000000000\"");
    refused_and_kept(&allowed, as_it_is, &doubled(&licenses), &["two different licenses"]);
}

#[test]
fn a_listed_source_from_another_network_or_user_is_refused() {
    for place in ["networks = [\"10.20.0.0/24\"]", "users = [\"qlik-prod\"]"] {
        let sources = format!("[[source]]\nid = \"{SOURCE}\"\nlicenses = [\"{LICENSE}\"]\n{place}\n");
        refused_and_kept(&sources, as_it_is, SYNC, &[SOURCE, "from this address or user"]);
    }
}

#[test]
fn what_can_not_be_read_or_recognised_is_refused_where_the_site_wants_it() {
    let listed = "[[source]]\nnetworks = [\"127.0.0.0/8\"]\n";
    let deny = |key: &'static str| move |plan: Plan| plan.and(&format!("\n[licensing]\n{key} = \"deny\"\n"));
    refused_and_kept(listed, deny("unreadable"), "no json", &["can't be read"]);
    refused_and_kept(listed, deny("unrecognised"), "{\"what\":1}", &["not recognised"]);
}

#[test]
fn an_id_that_can_not_be_one_never_breaks_the_reply() {
    for id in ["", "a\\r\\nX-Forged: 1", "\\u0000", "\u{fc}\\\"\\\\", &"x".repeat(128), &"x".repeat(129)] {
        let answer = refused_and_kept(NOBODY, as_it_is, &SYNC.replace(SOURCE, id), &["license-relay: "]);
        assert_eq!(answer.header("X-Forged"), None);
    }
}

#[test]
fn a_source_over_its_limit_is_told_the_true_wait() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let limit = "limit = { requests = 1, per = \"2s\", burst = 1 }";
    let relay = Plan::new(&stub).sources(&format!("[[source]]\nid = \"{SOURCE}\"\n{limit}\n")).start();
    limited(&stub, &relay, post("/v1/sync", SYNC), 200);
}

#[test]
fn an_address_over_its_limit_is_told_the_true_wait() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let all = "per_address = { requests = 100000, per = \"1s\", burst = 100000 }";
    // The CONNECT counts as one, and the connectivity test like any other request.
    let plan = Plan::new(&stub).with(all, "per_address = { requests = 1, per = \"2s\", burst = 2 }");
    limited(&stub, &plan.start(), good(), 404);
}

#[test]
fn an_address_over_its_limit_is_told_so_at_its_connect_and_at_its_first_request_in_absolute_form() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let all = "per_address = { requests = 100000, per = \"1s\", burst = 100000 }";
    let absolute = "GET http://else.example/ HTTP/1.1\r\nHost: else.example\r\n\r\n".to_owned();
    let listed = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let asked = [listed.clone(), listed.replace(HOST, "else.example"), absolute];
    for (first, second) in asked.iter().zip(asked.iter().rev()) {
        let plan = Plan::new(&stub).with(all, "per_address = { requests = 1, per = \"1h\", burst = 1 }");
        let relay = plan.start();
        let answer = ask(&mut relay.connect(), first);
        assert!([200, 403].contains(&answer.status), "{answer:?}");
        for _ in 0..2 {
            let answer = relay.says_last(second);
            answer.refuses_for_a_while(429, "connection_limit_reached");
            assert!(answer.reason.contains("this address"), "{answer:?}");
        }
        let mut other = relay.connect_from("127.0.0.9");
        assert_ne!(ask(&mut other, first).status, 429, "another address has its own");
    }
    seen_by(&stub, 0);
}

#[test]
fn a_request_in_absolute_form_counts_once_for_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let all = "per_address = { requests = 100000, per = \"1s\", burst = 100000 }";
    let plain =
        "\n[[destination]]\nhost = \"lef1.qliktech.com\"\nmode = \"http\"\nconnect_to = \"127.0.0.1:9\"\n";
    let plan =
        Plan::new(&stub).with(all, "per_address = { requests = 1, per = \"1h\", burst = 2 }").and(plain);
    let relay = plan.sources("[[source]]\nnetworks = [\"127.0.0.0/8\"]\n").start();
    let mut stream = relay.connect();
    let asked = "GET http://lef1.qliktech.com/ HTTP/1.1\r\nHost: lef1.qliktech.com\r\n\r\n";
    assert_eq!([0; 3].map(|_| ask(&mut stream, asked).status), [502, 502, 429]);
}

fn limited(stub: &Stub, relay: &Relay, request: String, status: u16) {
    let mut inside = relay.inside();
    assert_eq!(ask(&mut inside, &request).status, status);
    let answer = ask(&mut inside, &request);
    let wait = answer.refuses_for_a_while(429, "connection_limit_reached");
    assert!(wait <= 2 && !answer.closes(), "{answer:?}");
    seen_by(stub, 1);
    // What is tried is that this very wait is enough: no event tells it.
    std::thread::sleep(Duration::from_secs(wait));
    assert_eq!(ask(&mut inside, &request).status, status);
    seen_by(stub, 2);
}

#[test]
fn a_body_over_the_limit_is_refused_whether_announced_or_found() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub).with("[limits]", "[limits]\nmax_body = \"64KiB\"\nall_bodies = \"1MiB\"");
    let relay = plan.start();
    let body = "x".repeat(64 * 1024 + 1);
    let chunked = format!(
        "POST /v1/x HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    for request in [post("/v1/x", &body), chunked] {
        let mut inside = relay.inside();
        let answer = ask(&mut inside, request);
        let sentence = answer.refuses(503, "http_request_error");
        assert!(sentence.contains("max_body"), "{sentence}");
        assert!(answer.closes(), "{answer:?}");
        is_closed(&mut inside);
    }
    seen_by(&stub, 0);
}

#[test]
fn a_refusal_is_seen_by_a_client_that_is_still_sending() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).with("[limits]", "[limits]\nmax_body = \"1MiB\"").start();
    let mebibytes = |n: usize| "x".repeat(n << 20);
    let request = |host: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    // A client that sends it all before it reads: within what is drained it sees no break at all.
    let mut inside = relay.inside();
    let answer = ask(&mut inside, request("example.com", &mebibytes(1)[..900 << 10]));
    answer.refuses(400, "http_request_error");
    is_closed(&mut inside);
    // Clients that read while they send, as all real ones do.
    let body = folder.path().join("body");
    std::fs::write(&body, mebibytes(8)).unwrap();
    let body = format!("@{}", body.display());
    let url = format!("https://{HOST}/");
    for _ in 0..5 {
        let said = relay.curl(&["--data-binary", &body, "-H", "Expect:", &url]);
        assert_eq!((said.status, said.exit), (503, 0), "{said:?}");
        let said = relay.curl(&["--data-binary", &body, "-H", "Expect:", "-H", "Host: example.com", &url]);
        assert_eq!((said.status, said.exit), (400, 0), "{said:?}");
    }
    // Clients that send until the system takes no more, and only then look: no reset has come before.
    let huge = request("example.com", &mebibytes(64));
    let mut raw = relay.connect();
    raw.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    sends_until_it_stalls(&mut raw, &huge);
    Answer::read(&mut raw).refuses(400, "http_request_error");
    let mut inside = relay.inside();
    inside.sock.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    sends_until_it_stalls(&mut inside, &huge);
    inside.conn.read_tls(&mut inside.sock).unwrap();
    inside.conn.process_new_packets().unwrap();
    Answer::read(&mut inside.conn.reader()).refuses(400, "http_request_error");
    seen_by(&stub, 0);
}

fn sends_until_it_stalls(stream: &mut impl Write, request: &str) {
    for piece in request.as_bytes().chunks(16 * 1024) {
        match stream.write_all(piece) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return,
            Err(e) => panic!("the refusal is lost: {e}"),
        }
    }
    panic!("64 MiB were taken");
}

#[test]
fn what_is_not_http_is_refused_in_words_on_both_faces() {
    let (stub, relay, _folder) = pair();
    let long = format!("X-Long: {}\r\n", "a".repeat(70_000));
    let many = "X: y\r\n".repeat(101);
    for fields in [
        "",
        "Host: license.qlikcloud.com\r\nHost: license.qlikcloud.com\r\n",
        "Host: license.qlikcloud.com\r\nA : b\r\n",
        "Host: license.qlikcloud.com\r\nA: b\r\n folded\r\n",
        "Host: license.qlikcloud.com\r\nA: b\0\r\n",
        "Host: license.qlikcloud.com\nA: b\r\n",
        "Host: license.qlikcloud.com\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
        "Host: license.qlikcloud.com\r\nContent-Length: -1\r\n",
        "Host: license.qlikcloud.com\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Host: license.qlikcloud.com\r\nTransfer-Encoding: chunked, chunked\r\n",
        "Host: license.qlikcloud.com\r\nTransfer-Encoding: gzip, chunked\r\n",
        &format!("Host: license.qlikcloud.com\r\n{long}"),
        &format!("Host: license.qlikcloud.com\r\n{many}"),
    ] {
        let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\n{fields}\r\n");
        relay.says_last(connect).refuses(400, "http_request_error");
        let mut inside = relay.inside();
        let answer = ask(&mut inside, format!("POST / HTTP/1.1\r\n{fields}\r\n"));
        answer.refuses(400, "http_request_error");
        assert!(answer.closes(), "{answer:?}");
        is_closed(&mut inside);
    }
    for line in ["GET / HTTP/2.0", "GET  / HTTP/1.1", "GET /", "G\u{e9}T / HTTP/1.1"] {
        relay.says_last(format!("{line}\r\nHost: x\r\n\r\n")).refuses(400, "http_request_error");
    }
    seen_by(&stub, 0);
}

#[test]
fn a_later_request_that_is_not_http_is_refused_as_well() {
    let (stub, relay, _folder) = pair();
    for fields in [
        "",
        "Host: example.com\r\n",
        "Host: license.qlikcloud.com\r\nHost: license.qlikcloud.com\r\n",
        "Host: license.qlikcloud.com\r\nHost: example.com\r\n",
        "Host: license.qlikcloud.com\r\nTransfer-Encoding: gzip, chunked\r\n",
        "Host: license.qlikcloud.com\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        "Host: license.qlikcloud.com\r\nA: b\0\r\n",
    ] {
        let mut inside = relay.inside();
        assert_eq!(ask(&mut inside, good()).status, 404);
        inside.write_all(format!("POST / HTTP/1.1\r\n{fields}\r\nx").as_bytes()).unwrap();
        let answer = Answer::parse(&rest(&mut inside));
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    seen_by(&stub, 7);
}

/// What hyper has straightened before we see it: the first head of a conversation is refused for this, a later one is
/// not, and reaches the back end in the one way in which it was read.
#[test]
fn a_later_request_with_two_equal_lengths_or_a_length_beside_chunks_reaches_the_back_end_with_one() {
    let (stub, relay, _folder) = pair();
    let chunks = format!("{:x}\r\n{IDLE}\r\n0\r\n\r\n", IDLE.len());
    let length = IDLE.len();
    let mut inside = relay.inside();
    for (n, request) in [
        format!("POST /v1/sync HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\nContent-Length: {length}\r\n\r\n{IDLE}"),
        format!("POST /v1/sync HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
        format!("POST /v1/sync HTTP/1.1\nHost: {HOST}\nContent-Length: {length}\n\n{IDLE}"),
    ]
    .into_iter()
    .enumerate()
    {
        ask(&mut relay.inside(), &request).refuses(400, "http_request_error");
        assert_eq!(ask(&mut inside, good()).status, 404);
        let answer = ask(&mut inside, &request);
        assert_eq!(answer.status, 200, "{request}: {answer:?}");
        let seen = stub.requests();
        let head = seen.last().unwrap()["head"].as_str().unwrap().to_lowercase();
        assert_eq!(seen.len(), 2 * (n + 1));
        let lengths: Vec<_> = head.lines().filter(|line| line.starts_with("content-length:")).collect();
        assert_eq!(lengths, [format!("content-length: {length}")], "{head}");
        assert!(!head.contains("transfer-encoding"), "{head}");
        // Where it ended is where it was read to end.
        if answer.closes() {
            inside = relay.inside();
        }
    }
}

#[test]
fn connections_over_the_limit_are_told_so_where_nobody_is_idle() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    for key in ["max_connections", "max_connections_per_address"] {
        let relay = Plan::new(&stub).with("[listen]", &format!("[listen]\n{key} = 2")).start();
        // Of idle ones, one would give way.
        let mut held = [relay.connect(), relay.connect()];
        for stream in &mut held {
            stream.write_all(b"CONNECT license.qlik").unwrap();
        }
        let answer = relay.refused_connect(&format!("{HOST}:443"));
        answer.refuses_for_a_while(429, "connection_limit_reached");
        assert!(answer.reason.contains(&format!("listen.{key})")), "{answer:?}");
        is_noted(&relay, "access.limited", key);
        ends(&mut held[0]);
        eventually("the place is given back", || {
            let mut stream = relay.connect();
            let asked = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
            (ask(&mut stream, asked).status == 200).then_some(())
        });
    }
    seen_by(&stub, 0);
}

#[test]
fn a_client_from_a_network_that_may_not_connect_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).with("[listen]", "[listen]\nallow_from = [\"10.20.0.0/16\"]").start();
    let answer = relay.refused_connect(&format!("{HOST}:443"));
    answer.refuses_for_a_while(403, "http_request_denied");
    assert!(answer.reason.contains("allow_from"), "{answer:?}");
    is_noted(&relay, "access.denied", "listen.allow_from");
    seen_by(&stub, 0);
}

/// One who is turned away at the door is in the log, in an access line, and in the metrics.
fn is_noted(relay: &Relay, action: &str, key: &str) {
    eventually("it is in the log", || {
        let records = relay.records(action);
        let reason = records.first()?["event"]["reason"].as_str()?.to_owned();
        assert!(reason.contains(key), "{reason}");
        Some(())
    });
    let said = relay.stderr();
    assert!(said.lines().any(|line| line.contains(" access ") && line.contains(key)), "{said}");
    let (_, metrics) = relay.admin("/metrics");
    assert!(metrics.contains("mode=\"none\",exchange=\"none\",verdict=\"refuse\""), "{metrics}");
}

#[test]
fn whoever_is_in_the_middle_of_asking_when_the_relay_stops_is_told_so() {
    let (stub, mut relay, _folder) = pair();
    stub.trouble("delay=1s");
    let mut in_hand = relay.inside();
    in_hand.write_all(good().as_bytes()).unwrap();
    eventually("it is in hand", || (stub.counters()["requests"] == 1).then_some(()));

    let mut silent = relay.connect();
    let mut connecting = relay.connect();
    connecting.write_all(b"CONNECT license.qlik").unwrap();
    let mut first = relay.inside();
    first.write_all(b"GET / HT").unwrap();
    let mut kept = relay.inside();
    stub.trouble("");
    assert_eq!(ask(&mut kept, good()).status, 404);

    let begun = SystemTime::now();
    relay.signal("TERM");
    for answer in [Answer::read(&mut silent), Answer::read(&mut connecting), Answer::read(&mut first)] {
        answer.refuses_for_a_while(503, "proxy_internal_error");
        assert!(answer.closes(), "{answer:?}");
    }
    is_closed(&mut kept);
    let mut all = Vec::new();
    in_hand.read_to_end(&mut all).unwrap();
    assert_eq!(Answer::parse(&all).status, 404);
    assert_eq!(relay.wait().code(), Some(0));
    assert!(begun.elapsed().unwrap() < Duration::from_secs(20));
}
