//! What is passed on unread: tunnels for deployments that can't trust the root, and the legacy hosts over plain HTTP;
//! and who says so: credentials, load balancers, resolvers.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use crate::common::wire::Answer;
use crate::common::*;

/// curl through the relay that trusts the *stub's* root: what is tunnelled is the back end's own certificate.
fn through(relay: &Relay, stub: &Stub, more: &[&str]) -> Curl {
    let mut arguments = vec!["--cacert", stub.ca.to_str().unwrap()];
    arguments.extend(more);
    relay.curl(&arguments)
}

fn root_url() -> String {
    format!("https://{HOST}/")
}

#[test]
fn a_tunnel_is_opened_by_address_copied_unread_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub)
        .with("[[destination]]", "[[destination]]\nmode = \"tunnel\"")
        .sources("[[source]]\nname = \"by address\"\nnetworks = [\"127.0.0.0/8\"]\n")
        .start();
    let said = through(&relay, &stub, &[&root_url()]);
    assert_eq!((said.status, said.connect), (404, 200), "{said:?} {}", relay.stderr());
    let closed =
        eventually("the end of the tunnel is in the log", || relay.records("license.tunnel.close").pop());
    let opened = &relay.records("license.tunnel.open")[0];
    assert_eq!(opened["event"]["id"], closed["event"]["id"]);
    assert_eq!(opened["qlik"]["identified_by"], "network");
    for count in ["bytes_sent", "bytes_received"] {
        assert!(closed["qlik"][count].as_u64().unwrap() > 500, "{closed}");
    }

    let wrong = relay.connect();
    let mut wrong = wrong;
    write!(wrong, "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    wrong.read_to_end(&mut answer).unwrap();
    let (head, rest) = answer.split_at(answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4);
    assert!(head.starts_with(b"HTTP/1.1 200"));
    assert_eq!(rest.first(), Some(&0x15), "an alert, and not a byte of what was no TLS");
    assert_eq!(stub.counters()["requests"], 1);
}

#[test]
fn a_tunnel_of_nobody_is_refused_before_anything_is_dialled() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).with("[[destination]]", "[[destination]]\nmode = \"tunnel\"").start();
    let refused = through(&relay, &stub, &[&root_url()]);
    assert_eq!((refused.status, refused.connect), (0, 403), "{refused:?}");
    number_in(&refused.heads);
    assert_eq!(stub.counters()["connections"], 0);

    let private = Plan::new(&stub)
        .with("[[destination]]", "[[destination]]\nmode = \"tunnel\"")
        .with(
            &format!("host = \"{HOST}\"\nconnect_to = \"{}\"", stub.address),
            &format!("host = \"localhost\"\nport = {}", stub.address.port()),
        )
        .sources("[[source]]\nnetworks = [\"127.0.0.0/8\"]\n")
        .start();
    let refused = private.curl(&["-k", &format!("https://localhost:{}/", stub.address.port())]);
    assert_eq!(refused.connect, 403, "{refused:?}");
    assert!(refused.heads.contains("error=destination_ip_prohibited"), "{refused:?}");
    assert_eq!(stub.counters()["connections"], 0);
}

#[test]
fn one_deployment_is_tunnelled_and_the_others_are_terminated() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub);
    let sources = format!("{}\n[[source]]\nusers = [\"pinned\"]\nmode = \"tunnel\"\n", plan.sources);
    let relay = plan.sources(&sources).start();
    relay.add_user("pinned", "secret");
    eventually("the user counts", || {
        (through(&relay, &stub, &["-U", "pinned:secret", &root_url()]).status == 404).then_some(())
    });
    assert_eq!(relay.curl(&[&root_url()]).status, 404, "terminated, with the relay's own leaf");
    eventually("the tunnel is in the log", || relay.records("license.tunnel.close").pop());
}

#[test]
fn credentials_are_demanded_with_a_challenge_that_can_be_answered() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).with("[listen]", "[listen]\ncredentials = \"required\"").start();
    let refused = relay.curl(&[&root_url()]);
    assert_eq!((refused.status, refused.connect), (0, 407), "{refused:?}");
    assert_eq!(
        refused.header("Proxy-Authenticate").as_deref(),
        Some("Basic realm=\"license-relay\", charset=\"UTF-8\"")
    );

    relay.add_user("qlik-prod", "pass:word");
    eventually("the user may in", || {
        (relay.curl(&["-U", "qlik-prod:pass:word", &root_url()]).status == 404).then_some(())
    });
    assert_eq!(relay.curl(&["-U", "qlik-prod:wrong", &root_url()]).connect, 407);
    // --proxy-anyauth asks without credentials first, and answers the challenge on the same connection.
    let answered = relay.curl(&["-v", "--proxy-anyauth", "-U", "qlik-prod:pass:word", &root_url()]);
    assert_eq!(answered.status, 404, "{answered:?}");
    assert!(
        answered.stderr.contains("Re-using existing")
            || !answered.stderr.contains("Connected to 127.0.0.1 (127.0.0.1) port 0 (#1)")
    );
    assert_eq!(answered.heads.matches("HTTP/1.1 407").count(), 1, "{answered:?}");

    let mut stream = relay.connect();
    let head = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n");
    write!(stream, "{head}\r\n").unwrap();
    let challenge = Answer::read(&mut stream);
    challenge.refuses(407, "http_request_denied");
    assert!(!challenge.closes());
    write!(stream, "{head}Proxy-Authorization: Basic cWxpay1wcm9kOnBhc3M6d29yZA==\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut stream).status, 200, "the challenged connection is kept");

    assert!(relay.verb(&["sources", "user", "remove", "qlik-prod"]).status.success());
    eventually("the user is out", || {
        (relay.curl(&["-U", "qlik-prod:pass:word", &root_url()]).connect == 407).then_some(())
    });
    assert!(!relay.stderr().contains("pass:word") && !relay.stderr().contains("cWxpay1wcm9k"));
}

#[test]
fn guessing_passwords_is_limited_by_address_and_holds_nobody_else_up() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).start();
    relay.add_user("qlik", "right");
    eventually("the user may in", || {
        (relay.curl(&["-U", "qlik:right", &root_url()]).status == 404).then_some(())
    });
    let guessed: Vec<u16> =
        (0..20).map(|n| relay.curl(&["-U", &format!("qlik:{n}"), &root_url()]).connect).collect();
    assert!(guessed.contains(&407) && guessed.contains(&429), "{guessed:?}");
    assert_eq!(
        relay.curl(&["-U", "qlik:right", &root_url()]).status,
        404,
        "a pair that is known to be right"
    );
    assert_eq!(relay.curl(&[&root_url()]).status, 404, "credentials are optional here");
}

#[test]
fn a_balancers_word_for_the_client_is_believed_and_demanded_from_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub)
        .with(
            "[listen]",
            "[listen]\nproxy_protocol_from = [\"127.0.0.1/32\"]\nallow_from = [\"10.20.0.0/24\"]",
        )
        .start();
    let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let by = |source: [u8; 4]| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        header.extend(source);
        header.extend([127, 0, 0, 1, 0, 9, 0, 9]);
        let mut stream = relay.connect();
        stream.write_all(&[&header, connect.as_bytes()].concat()).unwrap();
        Answer::read(&mut stream)
    };
    assert_eq!(by([10, 20, 0, 7]).status, 200);
    let refused = by([10, 99, 0, 7]);
    assert!(refused.refuses(403, "http_request_denied").contains("10.99.0.7"), "{refused:?}");
    // Without a header it is no balancer.
    let mut stream = relay.connect();
    stream.write_all(connect.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
}

#[test]
fn legacy_hosts_are_reached_in_absolute_form_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plain_folder = tempfile::tempdir().unwrap();
    let plain = Plain::start();
    drop(plain_folder);
    let relay = Plan::new(&stub)
        .and(&format!(
            "\n[[destination]]\nhost = \"lef1.qliktech.com\"\nmode = \"http\"\nconnect_to = \"{}\"\n",
            plain.address
        ))
        .sources("[[source]]\nnetworks = [\"127.0.0.0/8\"]\n")
        .start();
    let asked = relay.curl(&[
        "-H",
        "X-Odd-Case: 1",
        "http://lef1.qliktech.com/lefupdate/update_lef.asp?serial=1&user=ACME%5Cbob",
    ]);
    assert_eq!((asked.status, asked.text().as_str()), (200, "LEF"), "{asked:?} {}", relay.stderr());
    let seen = plain.seen.join().unwrap();
    assert!(
        seen.starts_with("GET /lefupdate/update_lef.asp?serial=1&user=ACME%5Cbob HTTP/1.1\r\n"),
        "{seen}"
    );
    assert!(
        seen.contains("\r\nHost: lef1.qliktech.com\r\n") && seen.contains("\r\nX-Odd-Case: 1\r\n"),
        "{seen}"
    );
    assert!(!seen.contains("Proxy-"), "{seen}");
    assert!(!relay.stderr().contains("bob") && !relay.log_text().contains("bob"));

    for other in ["http://lef2.qliktech.com/", &format!("http://{HOST}/"), "http://lef1.qliktech.com:81/"] {
        assert_eq!(relay.curl(&[other]).status, 403, "{other}");
    }
    assert_eq!(relay.curl(&["-p", "http://lef1.qliktech.com/"]).connect, 403, "no tunnel to a plain host");
}

/// A plain HTTP server for one request.
struct Plain {
    address: std::net::SocketAddr,
    seen: std::thread::JoinHandle<String>,
}

impl Plain {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = std::thread::spawn(move || {
            let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nLEF").unwrap();
            String::from_utf8(head).unwrap()
        });
        Self { address, seen }
    }
}

#[test]
fn names_are_asked_of_the_resolvers_that_are_set() {
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = resolver.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, peer)) = resolver.recv_from(&mut query) {
            // The question, with an address that the guard must refuse: so the test sees whose answer it was.
            let mut answer = query[..length].to_vec();
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[7] = 1;
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 11, 12, 13]);
            let _ = resolver.send_to(&answer, peer);
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub)
        .with(&format!("connect_to = \"{}\"\n", stub.address), "")
        .with("[upstream]", &format!("[upstream]\ndns = [\"{address}\"]"))
        .start();
    let refused = relay.curl(&[&root_url()]);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(
        refused.header("Proxy-Status").unwrap().contains("error=destination_ip_prohibited"),
        "{refused:?}"
    );
    assert!(refused.reason().contains("10.11.12.13"), "{refused:?}");
}
