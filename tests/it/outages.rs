//! What keeps the relay from an answer of the back end: each cause has its status, its token
//! and its sentence, soon enough that the product does not give up first, and nothing is sent twice.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

use crate::common::wire::*;
use crate::common::*;

/// The answer to a sync through a relay made from this plan; the conversation goes on after it.
#[track_caller]
fn asked(plan: Plan, status: u16, token: &str, words: &str) -> Relay {
    let relay = plan.start();
    let mut inside = relay.inside();
    for _ in 0..2 {
        let answer = ask(&mut inside, post("/v1/sync", SYNC));
        let sentence = answer.refuses(status, token);
        assert!(sentence.contains(words) && sentence.contains(HOST), "{sentence}");
        assert!(!answer.closes(), "{answer:?}");
    }
    relay
}

fn stub(folder: &Path) -> Stub {
    Stub::start(folder, &[])
}

/// A stub whose certificate, of a CA of the test's own, is valid until this year.
fn stub_until(year: i32, folder: &Path, listen: &str) -> Stub {
    let path = |name: &str| folder.join(name).display().to_string();
    let files = [path("leaf.pem"), path("leaf.key")];
    let ca = folder.join("ca.pem");
    if !ca.exists() {
        let mut issuer = CertificateParams::default();
        issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(issuer, KeyPair::generate().unwrap()).unwrap();
        let mut leaf = CertificateParams::new([HOST.to_owned()]).unwrap();
        (leaf.not_before, leaf.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().unwrap();
        std::fs::write(&files[0], leaf.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        std::fs::write(&files[1], key.serialize_pem()).unwrap();
        std::fs::write(&ca, issuer.pem()).unwrap();
    }
    let mut stub = Stub::with(&["--listen", listen, "--cert", &files[0], "--key", &files[1]]);
    stub.ca = ca;
    stub
}

#[test]
fn a_back_end_that_is_down_is_502_and_is_asked_again_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut stub = stub_until(2999, folder.path(), "127.0.0.1:0");
    let plan = Plan::new(&stub);
    stub.kill();
    let relay = asked(plan, 502, "connection_refused", "can't be connected to");
    let _back = stub_until(2999, folder.path(), &stub.address.to_string());
    assert_eq!(ask(&mut relay.inside(), post("/v1/sync", SYNC)).status, 200);
}

#[test]
fn a_name_that_can_not_be_resolved_is_502() {
    let folder = tempfile::tempdir().unwrap();
    let stub = stub(folder.path());
    let relay = Plan::leading_to("nonexistent.invalid:443", &stub.ca).start();
    let answer = ask(&mut relay.inside(), good());
    let sentence = answer.refuses(502, "dns_error");
    assert!(sentence.contains("nonexistent.invalid can't be resolved"), "{sentence}");
}

#[test]
fn an_address_that_takes_no_connection_in_time_is_504() {
    let folder = tempfile::tempdir().unwrap();
    let stub = stub(folder.path());
    // A queue that is full: the system drops further SYNs, as a firewall does.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let soon = Duration::from_millis(300);
    let full: Vec<_> =
        (0..8).map_while(|_| std::net::TcpStream::connect_timeout(&address, soon).ok()).collect();
    assert!(full.len() < 8, "the queue takes more than it is told to");
    let plan = Plan::leading_to(&address.to_string(), &stub.ca);
    let begun = SystemTime::now();
    asked(
        plan.with("[upstream]", "[upstream]\nconnect_timeout = \"1s\""),
        504,
        "connection_timeout",
        "within 1 s",
    );
    assert!(begun.elapsed().unwrap() < Duration::from_secs(10));
}

#[test]
fn a_peer_that_never_finishes_tls_is_504() {
    let folder = tempfile::tempdir().unwrap();
    let stub = stub(folder.path());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let plan = Plan::leading_to(&silent.local_addr().unwrap().to_string(), &stub.ca);
    asked(
        plan.with("[upstream]", "[upstream]\nconnect_timeout = \"1s\""),
        504,
        "connection_timeout",
        "within 1 s",
    );
}

#[test]
fn a_peer_that_does_not_speak_tls_is_502() {
    let folder = tempfile::tempdir().unwrap();
    let stub = stub(folder.path());
    let plan = Plan::leading_to(&stub.control.to_string(), &stub.ca);
    asked(plan, 502, "tls_protocol_error", "TLS with");
}

#[test]
fn a_certificate_for_another_name_is_502() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &["--name", "example.com"]);
    asked(Plan::new(&stub), 502, "tls_certificate_error", "certificate of license.qlikcloud.com");
    assert_eq!(stub.counters()["requests"], 0);
}

#[test]
fn a_certificate_of_an_untrusted_ca_is_502() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [stub, other] = folders.each_ref().map(|folder| stub(folder.path()));
    let plan = Plan::leading_to(&stub.address.to_string(), &other.ca);
    asked(plan, 502, "tls_certificate_error", "certificate of license.qlikcloud.com");
    assert_eq!(stub.counters()["requests"], 0);
}

#[test]
fn an_expired_certificate_is_502() {
    let folder = tempfile::tempdir().unwrap();
    let stub = stub_until(2021, folder.path(), "127.0.0.1:0");
    asked(Plan::new(&stub), 502, "tls_certificate_error", "certificate of license.qlikcloud.com");
    assert_eq!(stub.counters()["requests"], 0);
}

/// Something in between that demands a client certificate is named as such, in both versions of TLS.
#[test]
fn a_back_end_that_demands_a_client_certificate_is_502_and_named_so() {
    let folder = tempfile::tempdir().unwrap();
    let made = stub_until(2090, folder.path(), "127.0.0.1:0");
    for version in ["-tls1_2", "-tls1_3"] {
        let port = free_port();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let mut server = tool("openssl", "openssl");
        server.args(["s_server", "-quiet", "-www", version, "-Verify", "1", "-verify_return_error"]);
        server.args([
            "-accept",
            &format!("127.0.0.1:{port}"),
            "-cert",
            &at("leaf.pem"),
            "-key",
            &at("leaf.key"),
        ]);
        let server = server.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn();
        let mut server = server.unwrap();
        eventually("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        let relay = Plan::leading_to(&format!("127.0.0.1:{port}"), &made.ca).start();
        let answer = ask(&mut relay.inside(), post("/v1/sync", SYNC));
        let sentence = answer.refuses(502, "tls_certificate_error");
        assert!(sentence.contains("demands a client certificate"), "{version}: {sentence}");
        server.kill().unwrap();
        server.wait().unwrap();
    }
}

#[test]
fn a_reply_that_is_cut_short_or_is_no_http_is_502_and_is_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let stub = stub(folder.path());
    let relay = Plan::new(&stub).start();
    let mut inside = relay.inside();
    let troubles =
        ["close-before", "reset-before", "close-middle", "wrong-length", "garbage", "endless-header"];
    for (done, trouble) in troubles.iter().enumerate() {
        stub.trouble(trouble);
        let answer = ask(&mut inside, post("/v1/capacity", CAPACITY));
        answer.refuses(502, "http_response_incomplete");
        assert!(!answer.closes(), "{trouble}: {answer:?}");
        assert_eq!(stub.consumption(), 242 * (done as i64 + 1), "{trouble}");
    }
    stub.trouble("");
    assert_eq!(ask(&mut inside, post("/v1/capacity", CAPACITY)).status, 200);
    let outcomes = relay.records("license.consumption.response");
    let outcomes: Vec<_> =
        outcomes.iter().map(|record| record["event"]["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, [&["unknown"; 6][..], &["success"]].concat());
}

#[test]
fn a_reply_that_comes_too_late_is_504_and_is_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let stub = stub(folder.path());
    let plan = Plan::new(&stub).with("[upstream]", "[upstream]\nresponse_timeout = \"1s\"");
    let relay = plan.start();
    let mut inside = relay.inside();
    for (trouble, sum) in [("no-answer", 242), ("delay=20s", 484)] {
        stub.trouble(trouble);
        let begun = SystemTime::now();
        let answer = ask(&mut inside, post("/v1/capacity", CAPACITY));
        let sentence = answer.refuses(504, "http_response_timeout");
        assert!(sentence.contains("within 1 s"), "{sentence}");
        assert!(begun.elapsed().unwrap() < Duration::from_secs(8));
        assert_eq!(stub.consumption(), sum, "{trouble}");
    }
}

#[test]
fn what_the_back_end_itself_refuses_is_passed_on_as_its_own() {
    let (stub, relay, _folder) = pair();
    let mut inside = relay.inside();
    for status in [401, 403, 404, 429, 500, 503] {
        stub.trouble(&format!("status={status}*1"));
        let answer = ask(&mut inside, post("/v1/sync", SYNC));
        assert_eq!((answer.status, answer.header("Proxy-Status")), (status, None), "{answer:?}");
        assert!(!answer.reason.contains("license-relay"), "{answer:?}");
    }
}

#[test]
fn a_log_that_can_not_be_written_stops_what_would_have_to_be_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let stub = stub(folder.path());
    let mut limited = tool("sh", "dash");
    // Files may not grow beyond 2 KiB (in blocks of 512 bytes); SIGXFSZ is ignored, so that the write fails instead.
    limited.args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$@\"", "sh"]);
    let relay = Plan::new(&stub).start_under(limited);
    let mut inside = relay.inside();
    let refused = eventually("the file is full", || {
        let answer = ask(&mut inside, post("/v1/capacity", CAPACITY));
        (answer.status != 200).then_some(answer)
    });
    let sentence = refused.refuses(503, "proxy_internal_error");
    assert!(sentence.contains("audit log can't be written"), "{sentence}");
    assert!(!sentence.contains(relay.folder.path().to_str().unwrap()), "{sentence}");
    let before = stub.counters()["requests"].clone();
    ask(&mut inside, post("/v1/capacity", CAPACITY)).refuses_for_a_while(503, "proxy_internal_error");
    assert_eq!(stub.counters()["requests"], before);
    assert_eq!(relay.admin("/readyz").0, 503);
}
