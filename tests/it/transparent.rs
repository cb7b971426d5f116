//! Method, path, query, end-to-end headers and body reach the back end byte for byte, and its reply comes
//! back byte for byte. Only hop-by-hop and proxy headers go, and nothing is added.

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::common::tls::{Raw, Tls, fields};
use crate::common::*;

/// Everybody on loopback is let in, so that any bytes may be sent.
const ANYBODY: &str = "[[source]]\nnetworks = [\"127.0.0.0/8\"]\n";

fn open_pair() -> (Stub, Relay, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources(ANYBODY).start();
    (stub, relay, folder)
}

/// The last request that the stub got: its head and its body.
fn arrived(stub: &Stub) -> (String, Vec<u8>) {
    let requests = stub.requests();
    let last = requests.last().expect("nothing arrived");
    assert_eq!(last["bad"], serde_json::Value::Null, "{last}");
    (
        last["head"].as_str().unwrap().to_owned(),
        BASE64_STANDARD.decode(last["body_base64"].as_str().unwrap()).unwrap(),
    )
}

/// Asks the stub for a reply of these very bytes.
fn replied(tls: &mut Tls, reply: &str) -> Raw {
    tls.send(tls::post("/stub/reply", reply));
    tls.reply()
}

#[test]
fn a_requests_line_headers_and_body_arrive_as_they_were_sent() {
    let (stub, relay, _folder) = open_pair();
    let mut tls = Tls::new(&relay);
    for line in [
        "POST /v1/anything HTTP/1.1",
        "PUT //double/slash?q=%20%2F&x HTTP/1.1",
        "PATCH /a/../b/./%2e%2E/;p=1?a=b?c=/d&&=e+f HTTP/1.1",
        "DELETE /? HTTP/1.1",
        "OPTIONS /stub/echo?{a:[1|2]} HTTP/1.1",
        "PROPFIND /%C3%A9%00%7F HTTP/1.1",
        "fOO /lower/method HTTP/1.1",
    ] {
        let head = format!(
            "{line}\r\nX-zULU: 1\r\nhOST: {HOST}\r\nuser-AGENT: Licenses/1.6.4 (windows) QSEfW\r\n\
             X-Quotes: two  spaces, \"quotes\", ;=\r\nX-Empty:\r\naccept: */*\r\n\
             Content-length: 5\r\nCOOKIE: a=1; b=2\r\nX-Last: \u{e9}\u{ff}\t!\r\n\r\n"
        );
        let bytes: Vec<u8> = head.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        tls.ask([&bytes[..], b"\x00\r\n\xffz"].concat());
        assert_eq!(arrived(&stub), (head, b"\x00\r\n\xffz".to_vec()));
    }
}

#[test]
fn repeated_headers_keep_the_order_of_their_values_and_each_its_case() {
    let (stub, relay, _folder) = open_pair();
    Tls::new(&relay).ask(format!(
        "GET /stub/echo HTTP/1.1\r\nX-Many: 3\r\nHost: {HOST}\r\nx-MANY: 1\r\nX-One: -\r\nX-Many: 2, 4\r\n\r\n"
    ));
    let arrived = fields(&arrived(&stub).0);
    let many: Vec<_> = arrived.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-many")).collect();
    assert_eq!(format!("{many:?}"), r#"[("X-Many", "3"), ("x-MANY", "1"), ("X-Many", "2, 4")]"#);
    assert_eq!(arrived.len(), 5, "{arrived:?}");
}

#[test]
fn hop_by_hop_and_proxy_headers_go_and_nothing_is_added() {
    let (stub, relay, _folder) = open_pair();
    Tls::new(&relay).ask(format!(
        "GET /stub/echo HTTP/1.1\r\nHost: {HOST}\r\nX-First: 1\r\nConnection: keep-alive, X-Mine, Host\r\n\
         X-Mine: gone\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         Proxy-Authorization: Basic YTpi\r\nProxy-Authenticate: Basic\r\nTE: trailers\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\nX-Last: 2\r\n\r\n"
    ));
    let expected = format!("GET /stub/echo HTTP/1.1\r\nHost: {HOST}\r\nX-First: 1\r\nX-Last: 2\r\n\r\n");
    assert_eq!(arrived(&stub).0, expected);
}

#[test]
fn curl_through_each_face_arrives_with_its_own_headers_and_no_others() {
    let (stub, relay, _folder) = open_pair();
    let url = format!("https://{HOST}/stub/echo?a=%20b");
    let arguments = ["-A", "Licenses/1.6.4 (windows)", "-H", "Authorization: Bearer a.b.c", url.as_str()];
    let expected = format!(
        "GET /stub/echo?a=%20b HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: Licenses/1.6.4 (windows)\r\n\
         Accept: */*\r\nAuthorization: Bearer a.b.c\r\n\r\n"
    );
    for curl in [relay.curl(&arguments), relay.curl_tls_proxy(&arguments), relay.curl_direct(&arguments)] {
        assert_eq!((curl.exit, curl.status), (0, 200), "{curl:?}");
        assert_eq!(arrived(&stub).0, expected);
        assert_eq!(curl.text(), expected);
    }
}

#[test]
fn via_is_added_where_the_site_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources(ANYBODY).and("\n[http]\nvia = true\n").start();
    Tls::new(&relay).ask(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nVia: 1.1 first\r\n\r\n"));
    let values: Vec<_> = fields(&arrived(&stub).0)
        .into_iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("via"))
        .map(|(_, value)| value)
        .collect();
    assert_eq!(values, ["1.1 first", "1.1 license-relay"]);
}

#[test]
fn request_bodies_of_any_size_and_framing_arrive_whole() {
    let (stub, relay, _folder) = open_pair();
    let mut tls = Tls::new(&relay);
    let head = |more: &str| format!("POST /stub/echo HTTP/1.1\r\nHost: {HOST}\r\n{more}\r\n");

    tls.ask(head(""));
    assert_eq!(arrived(&stub), (head(""), vec![]), "no body, and no length that was not there");
    let million: Vec<u8> = (0..1u32 << 20).map(|n| (n % 251) as u8).collect();
    for body in [&b""[..], b"\x00", &million] {
        let head = head(&format!("Content-Length: {}\r\n", body.len()));
        tls.ask([head.as_bytes(), body].concat());
        assert!(arrived(&stub) == (head, body.to_vec()), "a body of {} bytes", body.len());
    }

    tls.ask(
        head("Transfer-Encoding: chunked\r\nX-After: 1\r\n")
            + "3\r\nab\n\r\n1;ext=1\r\n\0\r\n0\r\nX-Trailer: 1\r\n\r\n",
    );
    let (chunked, body) = arrived(&stub);
    assert_eq!(body, b"ab\n\0");
    let names: Vec<_> =
        fields(&chunked).into_iter().map(|(n, v)| format!("{}: {v}", n.to_lowercase())).collect();
    assert_eq!(names, [format!("host: {HOST}"), "x-after: 1".into(), "content-length: 4".into()]);
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_and_its_body_arrives() {
    let (stub, relay, _folder) = open_pair();
    let mut tls = Tls::new(&relay);
    tls.send(format!(
        "POST /stub/echo HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    ));
    assert!(tls.head().starts_with("HTTP/1.1 100 "));
    assert_eq!(tls.ask("abc").status(), 200);
    let (head, body) = arrived(&stub);
    assert_eq!(head, format!("POST /stub/echo HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 3\r\n\r\n"));
    assert_eq!(body, b"abc");
}

#[test]
fn replies_come_back_as_the_back_end_wrote_them() {
    let (_stub, relay, _folder) = open_pair();
    let mut tls = Tls::new(&relay);
    for (head, body) in [
        (
            "HTTP/1.1 200 OK\r\nx-ZULU: 1\r\nserver: nginx\r\nX-Alpha: \"q\"  two\r\nCONTENT-length: 3\r\neTag: \"odd\"\r\nX-empty: \r\n",
            "a\0b",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: Wed, 25 Nov 2026 08:00:00 GMT\r\nVia: 1.1 edge\r\n",
            "",
        ),
        ("HTTP/1.1 200 Very well, then!\r\nContent-Length: 1\r\n", "x"),
        ("HTTP/1.1 200 \r\nContent-Length: 1\r\n", "x"),
        (
            "HTTP/1.1 201 created\r\nLocation: /x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 1\r\n",
            "x",
        ),
        ("HTTP/1.1 204 No Content\r\nX-A: 1\r\n", ""),
        ("HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n", ""),
        ("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n", "no"),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n", "no"),
        ("HTTP/1.1 418 I'm a teapot\r\nContent-Length: 2\r\n", "no"),
        ("HTTP/1.1 429 Slow down\r\nRetry-After: 77\r\nContent-Length: 2\r\n", "no"),
        ("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n", "no"),
        ("HTTP/1.1 502 Bad Gateway\r\nProxy-Status: edge; error=dns_error\r\nContent-Length: 2\r\n", "no"),
        ("HTTP/1.1 503 Service Temporarily Unavailable\r\nRetry-After: 5\r\nContent-Length: 2\r\n", "no"),
        ("HTTP/1.1 599 Own\r\nContent-Length: 2\r\n", "no"),
    ] {
        let reply = replied(&mut tls, &format!("{head}\r\n{body}"));
        assert_eq!((reply.head, reply.body), (format!("{head}\r\n"), body.as_bytes().to_vec()));
        assert!(tls.is_quiet(), "bytes behind the reply to {head:?}");
    }
}

#[test]
fn generated_requests_and_replies_pass_byte_for_byte() {
    use proptest::collection::{hash_map, vec};
    use proptest::prelude::*;
    let (stub, relay, _folder) = open_pair();
    let fields = || {
        // Names that differ in more than case: repeated ones may be grouped.
        let named = hash_map("[xX]-[a-z0-9]{1,12}", "[!-~]([ -~]{0,40}[!-~])?", 0..12);
        let order = named.prop_map(|named| {
            let mut seen = std::collections::HashSet::new();
            named.into_iter().filter(|(name, _)| seen.insert(name.to_lowercase())).collect::<Vec<_>>()
        });
        order.prop_map(|named| {
            let line = |(at, (name, value)): (usize, (String, String))| {
                let name = if at % 2 == 0 { name } else { name.to_uppercase() };
                format!("{name}: {value}\r\n")
            };
            named.into_iter().enumerate().map(line).collect::<String>()
        })
    };
    let tls = std::cell::RefCell::new(Tls::new(&relay));
    let cases = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(cases, |(asked in fields(), told in fields(), status in 200u16..=599, reason in "([!-~]([ -~]{0,20}[!-~])?)?",
                       query in "[a-zA-Z0-9=&%._~-]{0,40}", body in vec(any::<u8>(), 0..3000))| {
        prop_assume!(![204, 205, 304].contains(&status));
        let body_text: String = body.iter().map(|byte| char::from(byte & 0x7f)).collect();
        let reply = format!("HTTP/1.1 {status} {reason}\r\n{told}Content-Length: {}\r\n\r\n{body_text}", body_text.len());
        let head = format!("POST /stub/reply?{query} HTTP/1.1\r\nHost: {HOST}\r\n{asked}Content-Length: {}\r\n\r\n", reply.len());
        let got = tls.borrow_mut().ask(format!("{head}{reply}"));
        prop_assert_eq!(format!("{}{}", got.head, got.text()), reply.as_str());
        prop_assert_eq!(arrived(&stub), (head, reply.into_bytes()));
    });
}

#[test]
fn the_connectivity_test_gets_the_back_ends_own_404() {
    let (stub, relay, _folder) = pair();
    let reply = relay.curl(&[&format!("https://{HOST}/")]);
    assert_eq!((reply.exit, reply.status, reply.reason().as_str()), (0, 404, "Not Found"), "{reply:?}");
    assert!(reply.text().contains("<center>nginx</center>"), "{reply:?}");
    assert_eq!(reply.header("Server").as_deref(), Some("nginx"));
    assert_eq!((reply.header("Proxy-Status"), reply.header("Via")), (None, None));
    assert_eq!(stub.counters()["by_kind"]["root"], 1);
}

#[test]
fn hop_by_hop_headers_of_a_reply_go() {
    let (_stub, relay, _folder) = open_pair();
    let reply = replied(
        &mut Tls::new(&relay),
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Authenticate: Basic\r\nContent-Length: 1\r\nX-Kept: 1\r\n\r\nx",
    );
    assert_eq!(reply.head, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-Kept: 1\r\n\r\n");
}

#[test]
fn a_reply_to_head_has_its_length_and_no_body() {
    let (_stub, relay, _folder) = open_pair();
    let mut tls = Tls::new(&relay);
    for (path, field) in
        [("/stub/big?bytes=12345", Some("12345")), ("/stub/chunked?n=3", None), ("/", Some("146"))]
    {
        tls.send(format!("HEAD {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        let reply = Raw { head: tls.head(), body: vec![] };
        assert_eq!(reply.header("Content-Length").as_deref(), field, "{}", reply.head);
        assert!(tls.is_quiet(), "a body behind {}", reply.head);
    }
    assert_eq!(tls.ask(format!("GET /stub/gzip HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).status(), 200);
}

#[test]
fn a_reply_without_a_length_stays_without_one() {
    let (_stub, relay, _folder) = open_pair();
    let mut tls = Tls::new(&relay);
    let nine_mebibytes = "y".repeat(9 << 20);
    let chunked = "HTTP/1.1 200 OK\r\nX-Before: 1\r\nTransfer-Encoding: chunked\r\nX-After: 2\r\n\r\n";
    for body in ["", "a", &nine_mebibytes] {
        let chunk = if body.is_empty() { String::new() } else { format!("{:x}\r\n{body}\r\n", body.len()) };
        let reply = replied(&mut tls, &format!("{chunked}{chunk}0\r\n\r\n"));
        assert_eq!(reply.header("Content-Length"), None, "{}", reply.head);
        assert!(reply.body == body.as_bytes(), "{} bytes of {}", reply.body.len(), body.len());
        let kept: Vec<_> =
            fields(&reply.head).into_iter().filter(|(name, _)| name.starts_with("X-")).collect();
        assert_eq!(format!("{kept:?}"), r#"[("X-Before", "1"), ("X-After", "2")]"#);
    }
    let reply = tls.ask(format!("GET /stub/until-close HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!((reply.header("Content-Length"), reply.text().as_str()), (None, "until close\n"));
    let curl = relay.curl(&["--http1.0", "--no-alpn", &format!("https://{HOST}/stub/until-close")]);
    assert_eq!((curl.exit, curl.status, curl.text().as_str()), (0, 200, "until close\n"), "{curl:?}");
}

#[test]
fn compressed_replies_are_passed_on_untouched() {
    let (_stub, relay, _folder) = open_pair();
    let reply = Tls::new(&relay)
        .ask(format!("GET /stub/gzip HTTP/1.1\r\nHost: {HOST}\r\nAccept-Encoding: gzip\r\n\r\n"));
    assert_eq!(reply.header("Content-Encoding").as_deref(), Some("gzip"));
    assert!(reply.body.starts_with(b"\x1f\x8b\x08") && reply.body.len() == 39, "{reply:?}");
}

#[test]
fn an_interim_reply_does_not_take_the_place_of_the_final_one() {
    let (_stub, relay, _folder) = open_pair();
    let mut tls = Tls::new(&relay);
    for _ in 0..2 {
        let reply = tls.ask(format!("GET /stub/early-hints HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert_eq!((reply.status(), reply.text().as_str()), (200, "after early hints\n"));
        assert_eq!(reply.header("Link"), None, "a header of the interim reply");
    }
}

#[test]
fn a_reply_larger_than_what_is_read_whole_arrives_intact() {
    let (_stub, relay, _folder) = open_pair();
    let mut tls = Tls::new(&relay);
    let size = 20 << 20;
    let reply = tls.ask(format!("GET /stub/big?bytes={size} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(reply.header("Content-Length"), Some(size.to_string()));
    assert!(reply.body.len() == size && reply.body.iter().all(|byte| *byte == b'x'));
    assert_eq!(tls.ask(format!("GET /stub/gzip HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).status(), 200);
}
