//! A parent proxy that is out of order, or that quotes what it was told: each fault has words, a token and a kind of its
//! own, within `upstream.connect_timeout`, and our credentials appear nowhere.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::common::secrets::{Wanted, files};
use crate::common::wire::free_port;
use crate::common::*;

const USER: &str = "relay-of-ours";
const PASSWORD: &str = "Pa55-w0rd-of-ours";
/// `user:password` in base64, as it is sent.
const SENT: &str = "cmVsYXktb2Ytb3VyczpQYTU1LXcwcmQtb2Ytb3Vycw==";

/// What a parent does with a connection after it has read the `CONNECT`.
type Behaviour = dyn Fn(TcpStream) + Send + Sync;

/// A parent that behaves so with everybody, for as long as the test lasts.
fn parent(behaviour: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let behaviour: Arc<Behaviour> = Arc::new(behaviour);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let behaviour = behaviour.clone();
            std::thread::spawn(move || {
                let mut stream = stream;
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                assert!(String::from_utf8_lossy(&head).contains(SENT), "it is not told who asks");
                behaviour(stream);
            });
        }
    });
    address
}

/// One that answers these bytes, and keeps the connection open.
fn answers(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes = bytes.into();
    parent(move |mut stream| {
        let _ = stream.write_all(&bytes);
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

/// A relay behind this parent, which has our credentials. It waits for two seconds at most.
fn behind(parent: &str) -> Relay {
    let plan = Plan::leading_to("license.example:443", std::path::Path::new("none"))
        .with("trust = \"files\"\nextra_ca = [\"none\"]", "trust = \"bundled\"\nconnect_timeout = \"2s\"")
        .with(
            "[upstream]",
            &format!("[upstream]\nparent_proxy = \"{parent}\"\nparent_credentials = \"parent.txt\""),
        );
    fs::write(plan.path("parent.txt"), format!("{USER}:{PASSWORD}\n")).unwrap();
    fs::set_permissions(plan.path("parent.txt"), Permissions::from_mode(0o600)).unwrap();
    plan.start()
}

/// A sync through a relay behind this parent is refused so; its kind stands in the access line, a record and a metric.
#[track_caller]
fn refuses(parent: &str, status: u16, token: &str, kind: &str, words: &str) {
    let relay = behind(parent);
    let begun = SystemTime::now();
    let reply = relay.post("/v1/sync", SYNC);
    let took = begun.elapsed().unwrap_or_default();
    assert_eq!(reply.status, status, "{kind}: {reply:?}");
    assert!(took < Duration::from_secs(8), "{kind} took {took:?}");
    let sentence = reply.reason();
    let machine = parent.split_once("//").unwrap().1;
    assert!(sentence.contains(words) && sentence.contains(&format!("parent proxy {machine}")), "{sentence}");
    let told = reply.header("Proxy-Status").unwrap();
    assert!(told.contains(&format!("error={token};")), "{kind}: {told}");
    let said = relay.stderr();
    assert!(said.contains(&format!("error={kind} ")), "{kind}: {said}");
    let records = relay.records("upstream.error");
    assert!(records[0]["event"]["reason"].as_str().unwrap().starts_with(&format!("{kind}: ")), "{records:?}");
    let metrics = relay.admin("/metrics").1;
    assert!(metrics.contains(&format!("error=\"{kind}\"")), "{metrics}");
}

#[test]
fn a_parent_that_answers_nothing_is_told_apart_from_one_that_takes_no_connection() {
    let silent = parent(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    refuses(
        &format!("http://{silent}"),
        504,
        "connection_read_timeout",
        "parent_silent",
        "is silent for 2 s",
    );
    let nobody = format!("http://127.0.0.1:{}", free_port());
    refuses(&nobody, 502, "connection_refused", "connect", "can't be connected to");
    // A queue that is full: the system drops further SYNs, as a firewall does.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let full = socket.local_addr().unwrap().as_socket().unwrap();
    let soon = Duration::from_millis(300);
    let _queue: Vec<_> = (0..8).map_while(|_| TcpStream::connect_timeout(&full, soon).ok()).collect();
    let words = "did not take a connection within 2 s";
    refuses(&format!("http://{full}"), 504, "connection_timeout", "timeout", words);
    // It waits for a CONNECT in clear, and we for its side of TLS.
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let words = "took the connection, and did not finish TLS";
    refuses(&format!("https://{}", plain.local_addr().unwrap()), 504, "connection_timeout", "timeout", words);
}

#[test]
fn a_parent_that_stops_in_its_answer_is_told_so() {
    let half = "HTTP/1.1 200 Connection established\r\nVia: ";
    let (closed, wrong) = ("connection_terminated", "http_response_incomplete");
    let stalled = format!("http://{}", answers(half));
    refuses(&stalled, 504, "connection_read_timeout", "parent_stalled", "did not end within 2 s");
    let cut = format!("http://{}", parent(move |mut stream| stream.write_all(half.as_bytes()).unwrap()));
    refuses(&cut, 502, wrong, "parent_cut", "closed the connection in its answer");
    let closes = format!("http://{}", parent(drop));
    refuses(&closes, 502, closed, "parent_closed", "closed the connection before it answered");
    let endless = parent(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"More: and more\r\n").is_ok() {}
    });
    let size = "http_response_header_section_size";
    refuses(&format!("http://{endless}"), 502, size, "parent_head_size", "a head of more than");
}

#[test]
fn a_parent_that_speaks_another_protocol_is_told_which() {
    let is = |bytes: &[u8], kind, words| {
        refuses(&format!("http://{}", answers(bytes)), 502, "proxy_configuration_error", kind, words);
    };
    is(b"\x15\x03\x01\x00\x02\x02\x16", "parent_tls", "answered in TLS; write https://");
    is(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00", "parent_http2", "in HTTP/2");
    is(b"220 mail.example ESMTP\r\n", "parent_no_http", "no HTTP");
}

/// Nothing that the relay has written or shown holds our credentials in any form.
#[track_caller]
fn keeps_quiet(relay: &mut Relay, shown: &[u8]) {
    let wanted = Wanted::new([PASSWORD.to_owned(), format!("{USER}:{PASSWORD}"), SENT.to_owned()]);
    assert!(!wanted.found(format!("Basic {SENT}").as_bytes()).is_empty(), "it would not be found");
    assert_eq!(wanted.found(shown), [""; 0]);
    for path in ["/metrics", "/status", "/readyz?verbose"] {
        assert_eq!(wanted.found(relay.admin(path).1.as_bytes()), [""; 0], "{path}");
    }
    assert_eq!(wanted.found(relay.stderr().as_bytes()), [""; 0]);
    assert!(relay.stop().success());
    for file in files(relay.folder.path()).into_iter().filter(|file| !file.ends_with("parent.txt")) {
        assert_eq!(wanted.found(&fs::read(&file).unwrap()), [""; 0], "{}", file.display());
    }
}

/// All that a client sees of an answer.
fn seen(reply: &Curl) -> Vec<u8> {
    [reply.heads.as_bytes(), &reply.body, reply.stderr.as_bytes()].concat()
}

#[test]
fn a_parent_that_quotes_our_credentials_spreads_them_nowhere() {
    let pair = format!("{USER}:{PASSWORD}");
    let quotes = format!("{pair} Proxy-Authorization: Basic {SENT}");
    for (status, kind) in [(407, "parent_credentials"), (403, "parent_refused"), (502, "parent_refused")] {
        let answer = format!(
            "HTTP/1.1 {status} {quotes}\r\nProxy-Authenticate: {PASSWORD} realm=\"{quotes}\"\r\n\
             Proxy-Authenticate: Basic realm=\"{quotes}\"\r\nProxy-Authorization: Basic {SENT}\r\n\
             X-Told: {quotes}\r\nContent-Length: {}\r\n\r\n{quotes}",
            quotes.len()
        );
        let address = answers(answer);
        refuses(
            &format!("http://{address}"),
            502,
            "proxy_configuration_error",
            kind,
            &format!("answered {status}"),
        );
        let mut relay = behind(&format!("http://{address}"));
        let reply = relay.post("/v1/sync", SYNC);
        assert_eq!(reply.status, 502, "{reply:?}");
        keeps_quiet(&mut relay, &seen(&reply));
    }
    for answer in [pair.clone(), format!("{SENT}\r\n\r\n"), format!("HTTP/1.1 {pair} {SENT}\r\n\r\n")] {
        let mut relay = behind(&format!("http://{}", answers(answer)));
        let reply = relay.post("/v1/sync", SYNC);
        assert_eq!(reply.status, 502, "{reply:?}");
        keeps_quiet(&mut relay, &seen(&reply));
    }
}

/// A parent that signs TLS anew also chooses the names in its certificates.
#[test]
fn a_certificate_that_quotes_our_credentials_spreads_them_nowhere() {
    for name in [format!("{USER}:{PASSWORD}"), SENT.to_owned()] {
        let mut issuer = CertificateParams::default();
        issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        issuer.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(issuer, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([HOST.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let config = ServerConfig::builder_with_provider(license_relay::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let config = Arc::new(config);
        let address = parent(move |mut stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let connection = ServerConnection::new(config.clone()).unwrap();
            let _ = StreamOwned::new(connection, stream).read(&mut [0]);
        });
        let mut relay = behind(&format!("http://{address}"));
        let reply = relay.post("/v1/sync", SYNC);
        assert_eq!(reply.status, 502, "{reply:?}");
        assert!(reply.reason().contains("is of an issuer that is not trusted"), "{reply:?}");
        keeps_quiet(&mut relay, &seen(&reply));
    }
}
