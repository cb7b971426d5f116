//! One identity for all ways in: what one way demands, all demand, and whoever is refused is told why. What a client
//! tries to prove stands in the log, with the user name and never with a password.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::StreamOwned;

use crate::common::backend::Backend;
use crate::common::clients::{file, tls_client};
use crate::common::wire::{ask, good, post, tls};
use crate::common::*;

const PASSWORD: &str = "a:b@c12345678";
const LEGACY: &str = "lef1.qliktech.com";
const TUNNELLED: &str = "tunnelled.example";

/// The value of a `Proxy-Authorization` field with a line end.
fn basic(pair: impl AsRef<[u8]>) -> String {
    format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(pair))
}

fn connect(fields: &str) -> String {
    format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{fields}\r\n")
}

/// A relay with this setting, whose users have the one password before it starts.
fn relay(plan: Plan, credentials: &str, users: &[&str]) -> Relay {
    let plan = plan.with("[listen]", &format!("[listen]\ncredentials = \"{credentials}\""));
    let hash = license_relay::policy::users::PasswordHash::new(PASSWORD).unwrap();
    let lines: String = users.iter().map(|user| format!("{user}:{hash}\n")).collect();
    relay_log::files::private::write_private(&plan.path("users"), lines.as_bytes()).unwrap();
    plan.start()
}

/// The last access line, once there are more than before.
fn line_after(relay: &Relay, before: usize) -> String {
    eventually("an access line", || access(relay).into_iter().nth(before))
}

fn access(relay: &Relay) -> Vec<String> {
    let log = relay.stderr();
    log.lines().filter(|line| line.contains(" access ")).map(str::to_owned).collect()
}

/// The refusals of credentials: the reason and the user that was tried.
fn refused(relay: &Relay) -> Vec<(String, Option<String>)> {
    let mut records = relay.records("access.denied");
    records.retain(|record| record["event"]["reason"].as_str().unwrap().starts_with("credentials: "));
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    records
        .iter()
        .map(|record| (text(&record["event"]["reason"]).unwrap(), text(&record["qlik"]["tried_user"])))
        .collect()
}

// === the matrix ===

/// What a row of the matrix expects: through the proxy (`CONNECT` in the clear and in TLS, absolute form), in direct
/// TLS, and of a tunnel.
type Then = (u16, u16, u16);

/// A kind of entry, where the client is, the user that it sends the password of, what it asks; and what comes of it
/// where credentials are off, optional, required. `0` is a way that can't send what the row sends.
type Row = (&'static str, &'static str, Option<&'static str>, String, [Then; 3]);

const LIST: &str = r#"
[[source]]
id = "alone"

[[source]]
id = "here"
networks = ["127.0.1.0/24"]

[[source]]
id = "elsewhere"
networks = ["127.0.2.0/24"]

[[source]]
id = "with-user"
users = ["site"]

[[source]]
licenses = ["9999000000001253"]

[[source]]
users = ["user-alone"]

[[source]]
networks = ["127.0.3.0/24"]
"#;

fn matrix() -> Vec<Row> {
    const ANYWHERE: &str = "127.0.9.9";
    let id = |id: &str| IDLE.replace(SOURCE, id);
    let listed = || ACTIVATION.to_owned();
    let unlisted = || {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let key = [part("{\"alg\":\"RS512\"}"), part("{\"license\":8888000000004242}"), part("x")].join(".");
        format!("{{\"signedLicenseKey\": \"{key}\", \"cause\": \"Initial\"}}")
    };
    let all = |then: Then| [then; 3];
    // Whoever is refused by the list, and before that where credentials are demanded.
    let refused = [(503, 503, 403), (503, 503, 403), (407, 503, 407)];
    let from_anywhere = [(200, 200, 403), (200, 200, 403), (407, 503, 407)];
    let by_network = [(200, 200, 200), (200, 200, 200), (407, 200, 407)];
    let by_user = [(503, 0, 403), (200, 0, 200), (200, 0, 200)];
    vec![
        ("id alone", ANYWHERE, None, id("alone"), from_anywhere),
        ("id alone", ANYWHERE, Some("in-no-entry"), id("alone"), all((200, 0, 403))),
        ("id alone", "127.0.9.8", Some("nobody"), id("alone"), [(200, 0, 403), (407, 0, 407), (407, 0, 407)]),
        ("id and its network", "127.0.1.7", None, id("here"), by_network),
        ("id and its network", "127.0.1.7", Some("in-no-entry"), id("here"), all((200, 0, 200))),
        ("id and another network", ANYWHERE, None, id("elsewhere"), refused),
        ("id and another network", ANYWHERE, Some("in-no-entry"), id("elsewhere"), all((503, 0, 403))),
        ("id and user", ANYWHERE, None, id("with-user"), refused),
        ("id and user", ANYWHERE, Some("site"), id("with-user"), by_user),
        ("license alone", ANYWHERE, None, listed(), from_anywhere),
        ("license alone", ANYWHERE, Some("in-no-entry"), listed(), all((200, 0, 403))),
        ("user alone", ANYWHERE, None, unlisted(), refused),
        ("user alone", ANYWHERE, Some("user-alone"), unlisted(), by_user),
        ("network alone", "127.0.3.7", None, unlisted(), by_network),
        ("network alone", "127.0.3.7", Some("in-no-entry"), unlisted(), all((200, 0, 200))),
        ("nothing listed", ANYWHERE, None, id("nobody"), refused),
        ("nothing listed", ANYWHERE, Some("in-no-entry"), id("nobody"), all((503, 0, 403))),
    ]
}

#[test]
fn every_way_in_demands_what_all_demand() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let legacy = plain_http();
    for (column, credentials) in ["off", "optional", "required"].into_iter().enumerate() {
        let more = format!(
            "\n[[destination]]\nhost = \"{LEGACY}\"\nmode = \"http\"\nconnect_to = \"{legacy}\"\n\n\
             [[destination]]\nhost = \"{TUNNELLED}\"\nmode = \"tunnel\"\nconnect_to = \"{legacy}\"\n"
        );
        let plan = Plan::new(&stub).sources(LIST).and(&more);
        let relay = relay(plan, credentials, &["site", "user-alone", "in-no-entry"]);
        for (kind, from, user, body, then) in matrix() {
            let (proxy, direct, tunnel) = then[column];
            let fields = user.map(|user| basic(format!("{user}:{PASSWORD}"))).unwrap_or_default();
            let ways = [
                ("CONNECT", proxy, by_connect(&relay, from, &fields, &body, false)),
                ("CONNECT in TLS", proxy, by_connect(&relay, from, &fields, &body, true)),
                ("absolute form", proxy, by_absolute_form(&relay, from, &fields, &body)),
                ("direct TLS", direct, user.map_or_else(|| by_direct(&relay, from, &body), |_| 0)),
                ("a tunnel", tunnel, by_tunnel(&relay, from, &fields)),
            ];
            for (way, expected, status) in ways {
                assert_eq!(status, expected, "{kind}, {user:?}, {credentials}, {way}");
            }
        }
    }
}

fn by_connect(relay: &Relay, from: &str, fields: &str, body: &str, in_tls: bool) -> u16 {
    let stream = relay.connect_from(from);
    if in_tls {
        return connected(relay, StreamOwned::new(tls_client(relay, "localhost", &[]), stream), fields, body);
    }
    connected(relay, stream, fields, body)
}

fn connected(relay: &Relay, mut stream: impl Read + Write, fields: &str, body: &str) -> u16 {
    match ask(&mut stream, connect(fields)).status {
        200 => inside(relay, stream, body),
        status => status,
    }
}

fn by_direct(relay: &Relay, from: &str, body: &str) -> u16 {
    inside(relay, relay.connect_from(from), body)
}

fn inside(relay: &Relay, stream: impl Read + Write, body: &str) -> u16 {
    ask(&mut StreamOwned::new(tls_client(relay, HOST, &[]), stream), post("/v1/any", body)).status
}

fn by_absolute_form(relay: &Relay, from: &str, fields: &str, body: &str) -> u16 {
    let length = body.len();
    let head = format!("POST http://{LEGACY}/v1/any HTTP/1.1\r\nHost: {LEGACY}\r\n{fields}");
    ask(&mut relay.connect_from(from), format!("{head}Content-Length: {length}\r\n\r\n{body}")).status
}

fn by_tunnel(relay: &Relay, from: &str, fields: &str) -> u16 {
    let asked = format!("CONNECT {TUNNELLED}:443 HTTP/1.1\r\nHost: {TUNNELLED}\r\n{fields}\r\n");
    ask(&mut relay.connect_from(from), asked).status
}

/// A back end in the clear that answers whatever comes.
fn plain_http() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream: TcpStream = stream.unwrap();
                let _ = stream.read(&mut [0; 16 * 1024]);
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
            });
        }
    });
    address
}

// === credentials are demanded ===

#[test]
fn a_password_that_connect_demands_is_demanded_in_direct_tls_even_of_those_who_are_observed() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let list = format!("[[source]]\nid = \"{SOURCE}\"\n\n[[source]]\nnetworks = [\"127.0.3.0/24\"]\n");
    for more in ["", "unknown = \"observe\"\nunidentified = \"observe\"\n"] {
        let plan = Plan::new(&stub).sources(&list).and(&format!("\n[sources]\n{more}"));
        let relay = relay(plan, "required", &["site"]);
        let before = stub.counters()["requests"].as_u64().unwrap();
        for id in [SOURCE, "stranger"] {
            let mut direct = relay.direct();
            let answer = ask(&mut direct, post("/v1/sync", &IDLE.replace(SOURCE, id)));
            answer.refuses_for_a_while(503, "http_request_denied");
            assert_eq!(
                answer.reason,
                "license-relay: direct TLS can't send the user name and password demanded here; \
                 set the proxy, or list its networks"
            );
            assert!(answer.header("Proxy-Authenticate").is_none(), "{answer:?}");
        }
        assert_eq!(stub.counters()["requests"], before);
        // What is asked there of nobody's business is the connectivity test.
        assert_eq!(ask(&mut relay.direct(), good()).status, 404);
        let mut near = tls(relay.connect_from("127.0.3.1"), HOST, &relay.root());
        assert_eq!(ask(&mut near, post("/v1/activation", ACTIVATION)).status, 200);
    }
}

#[test]
fn a_kept_conversation_does_not_go_on_with_a_password_that_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    for removed in [true, false] {
        let relay = relay(Plan::new(&stub), "required", &["site", "other"]);
        let mut stream = relay.connect();
        assert_eq!(ask(&mut stream, connect(&basic(format!("site:{PASSWORD}")))).status, 200);
        let mut inside = tls(stream, HOST, &relay.root());
        assert_eq!(ask(&mut inside, post("/v1/sync", IDLE)).status, 200);
        match removed {
            true => assert!(relay.verb(&["sources", "user", "remove", "site"]).status.success()),
            false => relay.add_user("site", "another one"),
        }
        let answer = eventually("the users are read", || {
            let answer = ask(&mut inside, post("/v1/sync", IDLE));
            (answer.status != 200).then_some(answer)
        });
        answer.refuses_for_a_while(503, "http_request_denied");
        assert!(answer.reason.contains("no longer right"), "{answer:?}");
    }
}

#[test]
fn each_request_in_absolute_form_proves_its_own_user() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let more =
        format!("\n[[destination]]\nhost = \"{LEGACY}\"\nmode = \"http\"\nconnect_to = \"127.0.0.1:9\"\n");
    let plan = Plan::new(&stub).and(&more).sources("[[source]]\nusers = [\"site\"]\n");
    let relay = relay(plan, "optional", &["site"]);
    let mut stream = relay.connect();
    let asked = |fields: &str| format!("GET http://{LEGACY}/x HTTP/1.1\r\nHost: {LEGACY}\r\n{fields}\r\n");
    let right = basic(format!("site:{PASSWORD}"));
    // 502: let in, and nobody listens there.
    assert_eq!(ask(&mut stream, asked(&right)).status, 502);
    assert_eq!(ask(&mut stream, asked("")).status, 503, "the next one proves nothing by the one before");
    assert_eq!(ask(&mut stream, asked(&right)).status, 502);
    ask(&mut stream, asked(&basic("site:wrong"))).refuses(407, "http_request_denied");
}

// === what is wrong with credentials ===

#[test]
fn whoever_sends_wrong_credentials_is_told_what_is_wrong_and_the_log_names_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = relay(Plan::new(&stub), "required", &["site1"]);
    assert_eq!(ask(&mut relay.connect(), connect(&basic(format!("site1:{PASSWORD}")))).status, 200);
    let wrong = "user name or password is wrong";
    let scheme = |scheme: &str, value: &str| format!("Proxy-Authorization: {scheme} {value}\r\n");
    let cases = [
        (String::new(), "this relay demands a user name and password", "no user name and password", None),
        (
            scheme("NTLM", "TlRMTVNTUAABAAAA"),
            "this relay takes Basic credentials only (NTLM was sent)",
            "(NTLM was sent)",
            None,
        ),
        (
            scheme("Negotiate", "YIIHKQYGKwYBBQUC"),
            "this relay takes Basic credentials only (Negotiate was sent)",
            "(Negotiate was sent)",
            None,
        ),
        (scheme("Basic", "!!!"), "the Basic credentials are not base64", "not base64", None),
        (basic(b"site1:p\xe4ss"), "the Basic credentials are not UTF-8", "not UTF-8", Some("site1")),
        (basic("site1"), "the Basic credentials have no colon behind the user name", "no colon", None),
        (basic("site1:a%3Ab%40c12345678"), wrong, "percent-encoded", Some("site1")),
        (basic("site1:tried-in-vain"), wrong, "the password is wrong", Some("site1")),
        (basic("site9:tried-in-vain"), wrong, "no such user", Some("site9")),
    ];
    for (n, (fields, told, logged, user)) in cases.into_iter().enumerate() {
        let before = access(&relay).len();
        let mut stream = relay.connect_from(&format!("127.0.4.{}", n + 1));
        let answer = ask(&mut stream, connect(&fields));
        answer.refuses(407, "http_request_denied");
        assert_eq!(answer.reason, format!("license-relay: {told}"));
        assert!(answer.header("Proxy-Authenticate").unwrap().starts_with("Basic "), "{answer:?}");
        let line = line_after(&relay, before);
        let shown = user.map(|user| format!(" tried_user={user} "));
        assert_eq!(line.contains("tried_user"), shown.is_some(), "{line}");
        assert!(shown.is_none_or(|shown| line.contains(&shown)) && line.contains(logged), "{line}");
        let (reason, tried) = eventually("its record", || refused(&relay).into_iter().nth(n));
        assert!(reason.contains(logged), "{reason}");
        assert_eq!(tried.as_deref(), user);
        // The challenge can be answered on the same connection.
        assert_eq!(ask(&mut stream, connect(&basic(format!("site1:{PASSWORD}")))).status, 200);
    }
    let denied = relay.verb(&["audit", "denied"]);
    let said = all_said(&denied);
    assert!(said.contains("site1") && said.contains("site9") && said.contains("no such user"), "{said}");
    let everything = [relay.stderr(), relay.log_text(), said].concat();
    for secret in ["tried-in-vain", "c12345678", "TlRMTVNT"] {
        assert!(!everything.contains(secret), "{secret}");
    }
}

#[test]
fn an_unknown_user_can_not_be_told_from_a_wrong_password_by_words_or_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = relay(Plan::new(&stub), "optional", &["site"]);
    let took = |pair: &str| {
        let begun = SystemTime::now();
        let answer = ask(&mut relay.connect(), connect(&basic(pair)));
        assert_eq!((answer.status, &*answer.reason), (407, "license-relay: user name or password is wrong"));
        begun.elapsed().unwrap()
    };
    let shortest = |pair: &str| (0..3).map(|n| took(&format!("{pair}{n}"))).min().unwrap();
    let (unknown, wrong) = (shortest("nobody:x"), shortest("site:x"));
    // Neither is answered without a hash; the machine may be busy with other things.
    assert!(unknown * 3 > wrong && wrong * 3 > unknown, "{unknown:?}, {wrong:?}");
    assert!(unknown.min(wrong) > Duration::from_millis(5), "{unknown:?}, {wrong:?}");
}

#[test]
fn a_tried_user_name_can_not_write_fields_or_lines_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = relay(Plan::new(&stub), "required", &["site"]);
    for name in ["a status=200 x", "a\" x=\"y", "\u{202e}a", &"n".repeat(500)] {
        let before = access(&relay).len();
        assert_eq!(ask(&mut relay.connect(), connect(&basic(format!("{name}:x")))).status, 407);
        let line = line_after(&relay, before);
        assert!(!line.contains(&format!("={name}")) && !line.contains('\u{202e}'), "{line}");
        assert!(line.len() < 900, "{line}");
    }
}

// === Host and the authority ===

#[test]
fn a_client_that_sends_the_proxys_own_name_as_host_of_connect_is_let_in() {
    let (_stub, relay, _folder) = pair();
    let own = relay.address.to_string();
    let script = "const q = require('http').request({ host: '127.0.0.1', port: process.argv[1], method: 'CONNECT', \
                  path: process.argv[2] }); q.on('connect', (r) => { console.log('CONNECT', r.statusCode); \
                  process.exit(0) }); q.end()";
    let mut node = tool("node", "nodejs");
    node.args(["-e", script, &relay.address.port().to_string(), &format!("{HOST}:443")]);
    assert_eq!(all_said(&run(&mut node)).trim(), "CONNECT 200");
    // proxytunnel of Debian 12.
    let mut stream = relay.connect();
    let asked = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {own}\r\nProxy-Connection: Keep-Alive\r\n\r\n");
    assert_eq!(ask(&mut stream, asked).status, 200);
    let before = access(&relay).len();
    let mut inside = tls(stream, HOST, &relay.root());
    assert_eq!(ask(&mut inside, post("/v1/sync", IDLE)).status, 200);
    let line = line_after(&relay, before);
    assert!(line.contains(&format!(" authority={HOST}:443 host={own} ")), "{line}");
    // Inside, Host must agree as before.
    let other = format!("GET / HTTP/1.1\r\nHost: {own}\r\n\r\n");
    assert_eq!(ask(&mut inside, other).status, 400);
}

#[test]
fn a_scheme_in_the_target_of_connect_is_refused_and_shown_as_it_was_sent() {
    let (_stub, relay, _folder) = pair();
    // px 0.13.
    let asked = format!(
        "CONNECT http://{HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\nproxy-connection: Keep-Alive\r\n\r\n"
    );
    let answer = relay.says_last(asked);
    assert!(answer.refuses(400, "http_request_error").contains("without a scheme"), "{answer:?}");
    let line = line_after(&relay, 0);
    assert!(line.contains(&format!(" authority=http://{HOST}:443 ")), "{line}");
}

#[test]
fn an_https_url_that_is_sent_to_the_proxy_is_told_of_connect() {
    let (stub, relay, _folder) = pair();
    let asked = format!("POST https://{HOST}/v1/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\n{{}}");
    let answer = relay.says_last(asked);
    assert!(answer.refuses(403, "http_request_error").contains("CONNECT"), "{answer:?}");
    assert!(!answer.reason.contains("not a listed"), "{answer:?}");
    assert_eq!(stub.counters()["requests"], 0);
}

// === around it ===

#[test]
fn the_connectivity_test_of_a_stranger_carries_nothing_out_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let list = format!("[[source]]\nid = \"{SOURCE}\"\n\n[[source]]\nnetworks = [\"127.0.3.0/24\"]\n");
    let relay = Plan::new(&stub).sources(&list).start();
    let asked = format!(
        "GET / HTTP/1.1\r\nUser-Agent: c2VjcmV0\r\nHost: {HOST}\r\nX-Out: c2VjcmV0\r\nIf-None-Match: \"c2VjcmV0\"\r\n\r\n"
    );
    let mut stranger = relay.inside_from("127.0.9.9", "");
    for n in 1..=30 {
        assert_eq!(ask(&mut stranger, &asked).status, 404);
        assert_eq!(stub.counters()["requests"], n);
    }
    let seen = stub.requests();
    let head = seen.last().unwrap()["head"].as_str().unwrap().to_owned();
    assert_eq!(head.trim_end(), format!("GET / HTTP/1.1\r\nHost: {HOST}"));
    let mut known = tls(relay.connect_from("127.0.3.1"), HOST, &relay.root());
    assert_eq!(ask(&mut known, &asked).status, 404);
    let head = stub.requests().last().unwrap()["head"].as_str().unwrap().to_owned();
    assert!(head.contains("User-Agent: c2VjcmV0\r\n"), "{head}");
    let mut relay = relay;
    assert!(relay.stop().success());
    let tests = relay.records("access.test");
    let count = |record: &serde_json::Value| record["qlik"]["repeat"]["count"].as_u64().unwrap_or(1);
    assert_eq!(tests.iter().map(count).sum::<u64>(), 30, "{tests:?}");
    assert!(
        tests.len() <= 21 && tests.iter().all(|record| record["source"]["ip"] == "127.0.9.9"),
        "{tests:?}"
    );
    let denied = all_said(&relay.verb(&["audit", "denied"]));
    assert!(!denied.contains("access.test") && denied.contains("0 refusals in all"), "{denied}");
}

#[test]
fn a_back_end_that_switches_protocols_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), |_| {
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfrom-behind"
            .to_vec()
    });
    let relay = Plan::leading_to(&backend.address.to_string(), &backend.ca).start();
    let asked = post("/v1/sync", IDLE).replacen(
        "Content-Length",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length",
        1,
    );
    let mut inside = relay.inside();
    let answer = ask(&mut inside, asked);
    assert!(answer.refuses(502, "http_protocol_error").contains("switched"), "{answer:?}");
    assert!(!String::from_utf8_lossy(&answer.body).contains("from-behind"));
    let error = relay.records("upstream.error");
    assert!(error[0]["event"]["reason"].as_str().unwrap().contains("switched"), "{error:?}");
    let outcome = relay.records("license.sync.response");
    assert_eq!(outcome[0]["event"]["outcome"], "unknown", "{outcome:?}");
}

#[test]
fn a_network_of_many_addresses_writes_no_more_refusals_than_its_share() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub).with("[listen]", "[listen]\nproxy_protocol_from = [\"127.0.0.1/32\"]");
    let mut relay = plan.start();
    for n in 0..40_u8 {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
        header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, n]);
        header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
        header.extend([0, 9, 0, 9]);
        let mut stream = relay.connect();
        let asked = b"CONNECT else.example:443 HTTP/1.1\r\nHost: else.example\r\n\r\n".as_slice();
        assert_eq!(ask(&mut stream, [&header, asked].concat()).status, 403);
    }
    assert!(relay.stop().success());
    let denied = relay.records("access.denied");
    assert_eq!(denied.len(), 21, "{denied:?}");
    let last = denied.last().unwrap();
    assert_eq!(last["qlik"]["repeat"]["count"], 20, "{last}");
    assert_eq!(last["source"]["ip"], "2001:db8:0:1::", "{last}");
    assert!(last["event"]["reason"].as_str().unwrap().contains("this network, a /64"), "{last}");
}

#[test]
fn check_and_start_name_the_entries_that_can_not_work() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let list = format!("[[source]]\nid = \"{SOURCE}\"\n\n[[source]]\nid = \"other\"\nusers = [\"gone\"]\n");
    let relay = relay(Plan::new(&stub).sources(&list), "optional", &["there"]);
    let words = "sources.toml:4: nobody can be the user \"gone\", because";
    let check = relay.verb(&["check"]);
    ended(&check, 0, words);
    assert!(all_said(&check).contains("run: license-relay sources user add gone"), "{}", all_said(&check));
    assert_eq!(all_said(&check).matches("sources.toml:").count(), 1, "{}", all_said(&check));
    assert!(relay.stderr().contains(words), "{}", relay.stderr());
}

#[test]
fn a_password_that_is_typed_is_not_shown_and_the_terminal_is_as_before_whatever_happens() {
    let (_stub, relay, _folder) = pair();
    let mut typed = tool("python3", "python3");
    typed
        .arg(file("probes/typed_password.py"))
        .arg(env!("CARGO_BIN_EXE_license-relay"))
        .arg(relay.path("relay.toml"));
    let output = run(&mut typed);
    assert!(output.status.success(), "{}", all_said(&output));
    let users = fs::read_to_string(relay.path("users")).unwrap();
    assert!(users.starts_with("typed:pbkdf2-sha256$") && !users.contains("interrupted:"), "{users}");
}
