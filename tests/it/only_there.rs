//! No byte leaves for a destination that is not listed; the address dialled is the address that was
//! checked.

use crate::common::wire::*;
use crate::common::*;

/// Asserts that the back end has seen nothing at all.
#[track_caller]
fn untouched(stub: &Stub) {
    let counters = stub.counters();
    assert_eq!((&counters["connections"], &counters["requests"]), (&0.into(), &0.into()), "{counters}");
}

#[test]
fn an_unlisted_host_is_refused_by_name() {
    let (stub, relay, _folder) = pair();
    for authority in [
        "example.com:443",
        "license.qlikcloud.com.evil.example:443",
        "xlicense.qlikcloud.com:443",
        "qlikcloud.com:443",
        "sub.license.qlikcloud.com:443",
        "localhost:443",
    ] {
        let answer = relay.refused_connect(authority);
        let sentence = answer.refuses(403, "http_request_denied");
        assert!(sentence.contains(authority), "{sentence}");
    }
    untouched(&stub);
}

#[test]
fn an_unlisted_port_of_the_listed_host_is_refused() {
    let (stub, relay, _folder) = pair();
    for port in ["80", "8443", "1", "65535", &stub.address.port().to_string()] {
        relay.refused_connect(&format!("{HOST}:{port}")).refuses(403, "http_request_denied");
    }
    untouched(&stub);
}

#[test]
fn an_address_is_never_a_destination_even_the_back_ends_own() {
    let (stub, relay, _folder) = pair();
    for authority in [
        stub.address.to_string().as_str(),
        relay.address.to_string().as_str(),
        relay.admin.to_string().as_str(),
        "127.0.0.1:443",
        "169.254.169.254:80",
        "[::1]:443",
        "[::ffff:127.0.0.1]:443",
        "[2600:1f18::1]:443",
    ] {
        relay.refused_connect(authority).refuses(403, "http_request_denied");
    }
    untouched(&stub);
}

#[test]
fn an_authority_that_is_not_exactly_host_and_port_is_no_request() {
    let (stub, relay, _folder) = pair();
    for authority in [
        "license.qlikcloud.com",
        "license.qlikcloud.com:",
        "license.qlikcloud.com:0",
        "license.qlikcloud.com:00000443",
        "license.qlikcloud.com:65536",
        "license.qlikcloud.com:65979",
        "license.qlikcloud.com:+443",
        "license.qlikcloud.com:443:443",
        "license.qlikcloud.com:443/",
        "license.qlikcloud.com:443?x",
        "license.qlikcloud.com:443#x",
        "license.qlikcloud.com/:443",
        "license.qlikcloud.com?:443",
        "license.qlikcloud.com#:443",
        "user@license.qlikcloud.com:443",
        "user:secret@license.qlikcloud.com:443",
        "example.com@license.qlikcloud.com:443",
        "license.qlikcloud.com:443@example.com:443",
        "license%2Eqlikcloud.com:443",
        "license.qlikcloud.com%00.example:443",
        "license.qlikcloud.com..:443",
        "license..qlikcloud.com:443",
        ".license.qlikcloud.com:443",
        "license_qlikcloud.com:443",
        "*.qlikcloud.com:443",
        "https://license.qlikcloud.com:443",
        "//license.qlikcloud.com:443",
        "[license.qlikcloud.com]:443",
        "[::1:443",
        "[::1%25lo]:443",
        "::1:443",
        "0x7f000001:443",
        "2130706433:443",
        "127.1:443",
        "0177.0.0.1:443",
        "/",
        "*",
        ":443",
        "-:443",
    ] {
        let raw = format!("CONNECT {authority} HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n");
        relay.says_last(raw).refuses(400, "http_request_error");
    }
    untouched(&stub);
}

#[test]
fn a_name_is_the_same_in_any_case_and_with_a_final_dot() {
    let (_stub, relay, _folder) = pair();
    for authority in ["LICENSE.QlikCloud.COM:443", "license.qlikcloud.com.:443"] {
        let mut inside = tls(relay.tunnel_to(authority), HOST, &relay.root());
        let answer = ask(&mut inside, good());
        assert_eq!(answer.status, 404, "{answer:?}");
    }
}

#[test]
fn the_authority_of_connect_decides_and_a_host_field_that_is_none_is_no_request() {
    let (stub, relay, _folder) = pair();
    for host in ["", "user@license.qlikcloud.com:443", "\u{fc}", "a b", "http://a", "a:b", "::1", "[::1"] {
        let raw = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {host}\r\n\r\n");
        relay.says_last(raw).refuses(400, "http_request_error");
    }
    for fields in ["", "Host: a\r\nHost: a\r\n"] {
        let raw = format!("CONNECT {HOST}:443 HTTP/1.1\r\n{fields}\r\n");
        relay.says_last(raw).refuses(400, "http_request_error");
    }
    // Another host in Host leads nowhere else, and lets nobody in who is not.
    for host in ["example.com:443", "license.qlikcloud.com:80", "proxy_1.corp:3128", "[::1]:8888"] {
        let raw = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut stream = relay.connect();
        assert_eq!(ask(&mut stream, raw).status, 200, "{host}");
        let raw = format!("CONNECT {host} HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n");
        let answer = relay.says_last(raw);
        assert!([400, 403].contains(&answer.status), "{answer:?}");
    }
    untouched(&stub);
}

#[test]
fn a_request_in_origin_form_on_the_proxy_face_is_told_that_this_is_a_proxy() {
    let (stub, relay, _folder) = pair();
    for line in ["GET /", "POST /v1/activation", "OPTIONS *", "GET license.qlikcloud.com:443", "PRI *"] {
        let answer = relay.says_last(format!("{line} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert!(answer.refuses(400, "http_request_error").contains("proxy"), "{answer:?}");
    }
    untouched(&stub);
}

#[test]
fn a_request_in_absolute_form_leads_nowhere() {
    let (stub, relay, _folder) = pair();
    let own = format!("http://{}/", relay.address);
    let back_end = format!("http://{}/", stub.address);
    for target in [
        "http://example.com/",
        "http://license.qlikcloud.com/",
        "https://license.qlikcloud.com/",
        "http://license.qlikcloud.com:443/",
        "http://license.qlikcloud.com@example.com/",
        "ftp://license.qlikcloud.com/",
        &own,
        &back_end,
    ] {
        let answer = relay.says_last(format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        answer.refuses(403, "http_request_error");
    }
    untouched(&stub);
}

#[test]
fn a_tunnel_whose_tls_names_another_host_ends_in_an_alert() {
    let (stub, relay, _folder) = pair();
    for other in ["example.com", "localhost", "sub.license.qlikcloud.com"] {
        let through = format!("{other}:443:{HOST}:443");
        let said = relay.curl(&["--connect-to", &through, &format!("https://{other}/")]);
        assert_eq!((said.connect, said.status, said.exit), (200, 0, 35), "{said:?}");
        assert!(said.stderr.contains("alert") || said.stderr.contains("unrecognized name"), "{said:?}");
    }
    untouched(&stub);
}

#[test]
fn tls_straight_to_the_port_for_a_name_that_is_not_served_ends_in_an_alert() {
    let (stub, relay, _folder) = pair();
    let through = format!("example.com:443:{}", relay.address);
    let said = relay.curl(&["-x", "", "--connect-to", &through, "https://example.com/"]);
    assert_eq!((said.status, said.exit), (0, 35), "{said:?}");
    assert!(said.stderr.contains("alert") || said.stderr.contains("unrecognized name"), "{said:?}");
    untouched(&stub);
}

#[test]
fn what_is_not_tls_inside_a_tunnel_is_not_passed_on() {
    let (stub, relay, _folder) = pair();
    for early in [good().as_bytes(), b"SSH-2.0-x\r\n", b"\x00\x01\x02", b"\x80\x2e\x01"] {
        let mut tunnel = relay.tunnel();
        let answer = ask(&mut tunnel, early);
        answer.refuses(400, "http_request_error");
        is_closed(&mut tunnel);
    }
    untouched(&stub);
}

#[test]
fn inside_a_conversation_no_other_host_can_be_named() {
    let (stub, relay, _folder) = pair();
    for request in [
        "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: license.qlikcloud.com:8443\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@license.qlikcloud.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: license.qlikcloud.com/\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET https://example.com/ HTTP/1.1\r\nHost: license.qlikcloud.com\r\n\r\n",
        "GET http://license.qlikcloud.com/ HTTP/1.1\r\nHost: license.qlikcloud.com\r\n\r\n",
        "GET https://x@license.qlikcloud.com/ HTTP/1.1\r\nHost: license.qlikcloud.com\r\n\r\n",
        "CONNECT license.qlikcloud.com:443 HTTP/1.1\r\nHost: license.qlikcloud.com:443\r\n\r\n",
        "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: license.qlikcloud.com\r\n\r\n",
    ] {
        for mut inside in [relay.inside(), relay.direct()] {
            let answer = ask(&mut inside, request);
            answer.refuses(400, "http_request_error");
            assert!(answer.closes(), "{answer:?}");
            is_closed(&mut inside);
        }
    }
    untouched(&stub);
}

#[test]
fn a_name_that_leads_inside_is_not_dialled() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    for (address, what) in [
        ("10.1.2.3", "private"),
        ("127.0.0.1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("::1", "loopback"),
        ("::ffff:10.1.2.3", "private"),
    ] {
        let port = stub.address.port();
        let plan = Plan::new(&stub).with("connect_to = ", "# connect_to = ");
        let plan = plan.with("\n[upstream]", &format!("port = {port}\n\n[upstream]"));
        let Some(hosts) = with_hosts(&plan, &format!("{address} {HOST}\n")) else { return };
        let relay = plan.start_under(hosts);
        let mut inside = tls(relay.tunnel_to(&format!("{HOST}:{port}")), HOST, &relay.root());
        let answer = ask(&mut inside, format!("GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n"));
        let sentence = answer.refuses(503, "destination_ip_prohibited");
        assert!(sentence.contains(what), "{sentence}");
    }
    untouched(&stub);
}

#[test]
fn the_relay_does_not_dial_itself_and_says_what_to_set() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let port = free_port();
    // The first of two addresses is nobody's; the second is the relay.
    for (connect_to, hosts) in [
        (format!("127.0.0.1:{port}"), ""),
        (format!("itself.example:{port}"), "127.0.0.1 itself.example\n"),
        (format!("itself.example:{port}"), "127.0.0.9 itself.example\n127.0.0.1 itself.example\n"),
        (format!("itself.example:{port}"), "127.0.0.1 itself.example\n127.0.0.9 itself.example\n"),
        (format!("itself.example:{port}"), "::1 itself.example\n127.0.0.1 itself.example\n"),
    ] {
        let plan = Plan::leading_to(&connect_to, &stub.ca);
        let plan =
            plan.with("address = \"127.0.0.1:0\"\nhost", &format!("address = \"127.0.0.1:{port}\"\nhost"));
        let Some(hosts) = with_hosts(&plan, hosts) else { return };
        let relay = plan.start_under(hosts);
        let answer = ask(&mut relay.inside(), good());
        let sentence = answer.refuses(502, "proxy_loop_detected");
        assert!(sentence.contains("connect_to"), "{sentence}");
        assert_eq!(relay.stderr().matches(" access ").count(), 1, "{}", relay.stderr());
    }
}
