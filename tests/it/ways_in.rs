//! Three ways in, real clients through each: trusted, they work; not trusted, they refuse, and the relay says why.
//! However a hello is cut into segments it is read; `h2` is never selected; a name that isn't ours gets an alert.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustls::{AlertDescription, ClientConnection, StreamOwned};

use crate::common::clients::*;
use crate::common::wire::Answer;
use crate::common::*;

#[test]
fn real_clients_work_once_they_trust_the_root_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path());
    let relay = origin.open_relay().start();
    let root = relay.root();
    for way in Way::ALL {
        for (name, command) in CLIENTS {
            let ask = |ca| Ask { way, relay: "localhost", port: relay.address.port(), ca };
            let Some(mut trusting) = command(ask(&root)) else { continue };
            let before = origin.requests().len();
            let (worked, words) = said(&mut trusting);
            assert!(worked, "{name}, {way:?}: {words}");
            assert!(origin.requests().len() > before, "{name}, {way:?}: nothing arrived; {words}");

            let (forwarded, before) = (origin.requests().len(), refused(&relay));
            let mut doubting = command(ask(&origin.ca)).unwrap();
            let (worked, words) = said(&mut doubting);
            assert!(!worked, "{name}, {way:?}, believed us without our root: {words}");
            assert!(
                ["certificate", "CERT", "UNABLE_TO_", "unknown authority", "PKIX"]
                    .iter()
                    .any(|w| words.contains(w)),
                "{name}, {way:?}: {words}"
            );
            assert_eq!(origin.requests().len(), forwarded, "{name}, {way:?}");
            eventually(&format!("{name}, {way:?}: it is counted as refused"), || {
                (refused(&relay) > before).then_some(())
            });
        }
    }
    assert!(relay.stderr().contains("this client does not trust our root"));
    assert!(origin.requests().iter().all(|request| request["bad"].is_null()));
}

/// How many clients were refused in or right after the handshake. Not each of them has an access line of its own.
fn refused(relay: &Relay) -> u64 {
    let (_, metrics) = relay.admin("/metrics");
    let of_tls = metrics.lines().filter(|line| line.contains("verdict=\"refuse\"") && line.contains("tls_"));
    of_tls.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[test]
fn the_outer_certificate_may_be_trusted_and_the_inner_not() {
    let (stub, relay, _folder) = pair();
    let proxy = format!("https://localhost:{}", relay.address.port());
    let mut command = tool("curl", "curl");
    command.args(["-sS", "-m", "30", "-x", &proxy, "--proxy-cacert"]).arg(relay.root());
    let (worked, words) = said(command.arg("--cacert").arg(&stub.ca).arg(format!("https://{HOST}/")));
    assert!(!worked, "{words}");
    let line = eventually("an access line says why", || {
        relay.stderr().lines().find(|line| line.contains("does not trust our root")).map(str::to_owned)
    });
    assert!(line.contains("authority=license.qlikcloud.com:443"), "{line}");
    assert_eq!(stub.counters()["requests"], 0);
}

#[test]
fn a_client_that_has_begun_to_ask_is_not_taken_for_one_that_does_not_trust_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).with("[listen]", "[listen]\ncredentials = \"required\"").start();
    let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n");
    for (asked, challenged) in [(connect.as_str(), true), ("CONNECT license.qlik", false)] {
        let mut outer = StreamOwned::new(tls_client(&relay, "localhost", &[b"http/1.1"]), dial(&relay));
        outer.write_all(asked.as_bytes()).unwrap();
        if challenged {
            assert_eq!(Answer::read(&mut outer).status, 407);
        }
        // Our side ends first; the relay closes once it has said what it has to say about it.
        outer.conn.send_close_notify();
        outer.flush().unwrap();
        outer.sock.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = outer.read_to_end(&mut Vec::new());
        let log = relay.stderr();
        assert!(!log.contains("trust our root"), "{asked:?}: {log}");
    }
    let log = relay.stderr();
    assert!(log.contains("status=407"), "{log}");
    // The same close without a word is what such a client does.
    let mut silent = StreamOwned::new(tls_client(&relay, "localhost", &[b"http/1.1"]), dial(&relay));
    silent.flush().unwrap();
    silent.conn.complete_io(&mut silent.sock).unwrap();
    drop(silent);
    eventually("it is told of one that left at once", || (refused(&relay) == 1).then_some(()));
}

#[test]
fn a_proxy_uri_may_hold_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path());
    let relay = origin.open_relay().start();
    let root = relay.root();
    for (name, command) in CLIENTS {
        let ask = Ask { way: Way::Https, relay: "127.0.0.1", port: relay.address.port(), ca: &root };
        let Some(mut command) = command(ask) else { continue };
        let (worked, words) = said(&mut command);
        assert!(worked, "{name}: {words}");
    }
}

#[test]
fn a_go_client_shows_the_sentence_of_a_refused_connect() {
    let (_stub, relay, _folder) = pair();
    for scheme in ["http", "https"] {
        let mut command = std::process::Command::new(go("goclient"));
        command.args(["127.0.0.1", &relay.address.port().to_string(), "-target", "https://evil.example/x"]);
        command.args(["-scheme", scheme, "-want", "no", "-n", "1", "-ca"]).arg(relay.root());
        let (refused, words) = said(&mut command);
        assert!(refused, "{words}");
        let line = words.lines().find(|line| line.contains("get #1")).unwrap();
        let sentence = "license-relay: evil.example:443 is not in the list of destinations";
        assert!(line.ends_with(&format!("Get \"https://evil.example/x\": {sentence}")), "{line}");
    }
}

// === in pieces ===

#[test]
fn a_client_hello_may_come_in_any_number_of_segments() {
    let (_stub, relay, _folder) = pair();
    let length = Hello::new(&relay, HOST).bytes.len();
    for cut in 1..length {
        let hello = Hello::new(&relay, HOST);
        let (front, back) = hello.bytes.split_at(cut);
        let mut stream = dial(&relay);
        stream.write_all(front).unwrap();
        stream.write_all(back).unwrap();
        hello.expect_answer(stream, &format!("cut at {cut} of {length}"));
    }
    let hello = Hello::new(&relay, HOST);
    let mut stream = dial(&relay);
    byte_by_byte(&mut stream, &hello.bytes);
    hello.expect_answer(stream, "byte by byte");
}

#[test]
fn a_client_hello_may_come_in_any_number_of_records() {
    let (_stub, relay, _folder) = pair();
    let length = Hello::new(&relay, HOST).bytes.len() - 5;
    for cut in 1..length {
        let hello = Hello::new(&relay, HOST);
        let (front, back) = hello.bytes[5..].split_at(cut);
        let mut stream = dial(&relay);
        stream.write_all(&[record(front), record(back)].concat()).unwrap();
        hello.expect_answer(stream, &format!("cut at {cut} of {length}"));
    }
    let hello = Hello::new(&relay, HOST);
    let records: Vec<u8> = hello.bytes[5..].chunks(1).flat_map(record).collect();
    let mut stream = dial(&relay);
    stream.write_all(&records).unwrap();
    hello.expect_answer(stream, "a record for each byte");
}

/// A handshake record.
fn record(part: &[u8]) -> Vec<u8> {
    let length = u16::try_from(part.len()).unwrap().to_be_bytes();
    [&[0x16, 3, 1, length[0], length[1]], part].concat()
}

#[test]
fn connect_and_the_hello_behind_it_may_be_cut_anywhere() {
    let (_stub, relay, _folder) = pair();
    let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n");
    // Glued together and cut once: the end of the head, and of the hello, may lie in either part.
    let length = connect.len() + Hello::new(&relay, HOST).bytes.len();
    for cut in 1..=length {
        let hello = Hello::new(&relay, HOST);
        let all = [connect.as_bytes(), &hello.bytes].concat();
        let mut stream = dial(&relay);
        stream.write_all(&all[..cut]).unwrap();
        stream.write_all(&all[cut..]).unwrap();
        assert_established(&mut stream);
        hello.expect_answer(stream, &format!("cut at {cut} of {length}"));
    }
    // One after the other, byte by byte.
    let hello = Hello::new(&relay, HOST);
    let mut stream = dial(&relay);
    byte_by_byte(&mut stream, connect.as_bytes());
    assert_established(&mut stream);
    byte_by_byte(&mut stream, &hello.bytes);
    hello.expect_answer(stream, "byte by byte");
}

/// A client of which only the hello is made yet. The shortest that is: one key share, no tickets.
struct Hello {
    connection: ClientConnection,
    bytes: Vec<u8>,
}

impl Hello {
    fn new(relay: &Relay, name: &str) -> Self {
        let mut connection = tls_client(relay, name, &[b"http/1.1"]);
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        Self { connection, bytes }
    }

    /// The handshake ends, and a request is answered by the back end: 404, as it does for `GET /`.
    fn expect_answer(self, stream: TcpStream, how: &str) {
        let status = status_of_root(StreamOwned::new(self.connection, stream));
        assert!(status.as_ref().is_ok_and(|line| line.starts_with("HTTP/1.1 404 ")), "{how}: {status:?}");
    }
}

fn dial(relay: &Relay) -> TcpStream {
    let stream = TcpStream::connect(relay.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn byte_by_byte(stream: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes.chunks(1) {
        stream.write_all(byte).unwrap();
    }
}

fn status_of_root(mut tls: impl Read + Write) -> std::io::Result<String> {
    write!(tls, "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    // The relay closes with close_notify; how rustls takes it is no matter here.
    let _ = tls.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}

// === ALPN and SNI ===

/// Every face: the port itself (direct, and the proxy in TLS), and inside a tunnel.
fn faces() -> [(&'static str, &'static str, bool); 3] {
    [("direct", HOST, false), ("https proxy", "localhost", false), ("inside", HOST, true)]
}

fn to_face(relay: &Relay, inside: bool) -> TcpStream {
    let mut stream = dial(relay);
    if inside {
        write!(stream, "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n").unwrap();
        assert_established(&mut stream);
    }
    stream
}

#[test]
fn h2_is_never_selected() {
    let (_stub, relay, _folder) = pair();
    for (face, name, inside) in faces() {
        for (offered, selected) in [
            (&[b"h2".as_slice(), b"http/1.1"][..], Some(b"http/1.1".as_slice())),
            (&[b"http/1.1"], Some(b"http/1.1")),
            (&[], None),
            // Whoever speaks nothing that is served is told so in HTTP, which an alert could not explain.
            (&[b"h2"], None),
            (&[b"http/1.0"], None),
        ] {
            let mut connection = tls_client(&relay, name, offered);
            let mut stream = to_face(&relay, inside);
            while connection.is_handshaking() {
                connection.complete_io(&mut stream).unwrap_or_else(|e| panic!("{face}: {e}"));
            }
            assert_eq!(connection.alpn_protocol(), selected, "{face}");
        }
        let h2 = tls_client(&relay, name, &[b"h2"]);
        let mut h2 = StreamOwned::new(h2, to_face(&relay, inside));
        h2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        h2.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 400", "{face}");
    }
}

#[test]
fn a_name_that_is_not_ours_gets_an_alert() {
    let (_stub, relay, _folder) = pair();
    let name_of = |name, inside| alert_of(tls_client(&relay, name, &[]), to_face(&relay, inside));
    for name in ["evil.example", "www.license.qlikcloud.com", "qlikcloud.com"] {
        assert_eq!(name_of(name, false), AlertDescription::UnrecognisedName, "{name}");
    }
    // Inside a tunnel the authority has the word, even against a name that is ours.
    for name in ["evil.example", "localhost"] {
        assert_eq!(name_of(name, true), AlertDescription::UnrecognisedName, "{name} inside");
    }
    let line = eventually("access lines", || {
        let log = relay.stderr();
        log.lines()
            .find(|line| line.contains("authority=") && line.contains("sni=localhost"))
            .map(str::to_owned)
    });
    assert!(line.contains("no certificate for this name is served here"), "{line}");
}

fn alert_of(mut connection: ClientConnection, mut stream: TcpStream) -> AlertDescription {
    let error = loop {
        match connection.complete_io(&mut stream) {
            Ok(_) if connection.is_handshaking() => {}
            Ok(_) => panic!("the handshake succeeded"),
            Err(e) => break e,
        }
    };
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("no alert: {error}"),
    }
}

#[test]
fn plain_http_inside_a_tunnel_is_told_so() {
    let (_stub, relay, _folder) = pair();
    let mut stream = to_face(&relay, true);
    write!(stream, "GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let sentence = "license-relay: inside the tunnel to this host only TLS is served";
    assert!(answer.starts_with(&format!("HTTP/1.1 400 {sentence}\r\n")), "{answer}");
}

#[test]
fn a_name_sent_to_the_relay_in_tls_inside_tls_is_judged_by_the_inner_one() {
    let (_stub, relay, _folder) = pair();
    let mut outer = StreamOwned::new(tls_client(&relay, "localhost", &[b"http/1.1"]), dial(&relay));
    write!(outer, "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n").unwrap();
    assert_established(&mut outer);
    let inner = StreamOwned::new(tls_client(&relay, HOST, &[b"http/1.1"]), outer);
    assert!(status_of_root(inner).unwrap().starts_with("HTTP/1.1 404 "));
}
