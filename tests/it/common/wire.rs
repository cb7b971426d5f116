//! Raw conversations: every byte of a request as the test wrote it, every byte of an answer as it came.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::{HOST, PATIENCE, Plan, Relay, tool};

/// TLS to the relay, inside a tunnel or straight.
pub type Inside = StreamOwned<ClientConnection, TcpStream>;

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub reason: String,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first answer in these bytes.
    pub fn parse(bytes: &[u8]) -> Self {
        Self::read(&mut &bytes[..])
    }

    /// Reads one answer whose length is told, and nothing after it.
    #[track_caller]
    pub fn read(stream: &mut impl Read) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            let read = stream.read(&mut byte);
            let so_far = String::from_utf8_lossy(&head);
            assert!(matches!(read, Ok(1)), "no whole answer but {so_far:?}, then {read:?}");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut line = head.lines().next().unwrap().splitn(3, ' ');
        assert!(line.next().unwrap().starts_with("HTTP/1."), "{head}");
        let status = line.next().unwrap().parse().unwrap();
        let reason = line.next().unwrap_or_default().to_owned();
        let mut answer = Self { status, reason, head, body: Vec::new() };
        let length = answer.header("Content-Length").map_or(0, |length| length.parse().unwrap());
        answer.body = vec![0; length];
        stream.read_exact(&mut answer.body).unwrap_or_else(|e| panic!("half a body: {e}: {answer:?}"));
        answer
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value.trim().to_owned())
    }

    pub fn closes(&self) -> bool {
        self.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Checks all that a refusal of the relay owes its reader, and gives the sentence.
    #[track_caller]
    pub fn refuses(&self, status: u16, token: &str) -> &str {
        let sentence = &self.reason;
        assert_eq!(self.status, status, "{self:?}");
        assert!(sentence.starts_with("license-relay: ") && sentence.len() <= 120, "{self:?}");
        assert!(sentence.bytes().all(|b| (0x20..0x7f).contains(&b)), "{self:?}");
        let details = sentence.replace('\\', "\\\\").replace('"', "\\\"");
        let proxy_status = format!("license-relay; error={token}; details=\"{details}\"");
        assert_eq!(self.header("Proxy-Status").as_deref(), Some(proxy_status.as_str()), "{self:?}");
        let content_type = self.header("Content-Type");
        assert_eq!(content_type.as_deref(), Some("application/problem+json"), "{self:?}");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["title"], sentence.as_str(), "{self:?}");
        assert_eq!(problem["status"], status, "{self:?}");
        sentence
    }

    /// As [`Self::refuses`], with a time after which it is worth trying again.
    #[track_caller]
    pub fn refuses_for_a_while(&self, status: u16, token: &str) -> u64 {
        self.refuses(status, token);
        let wait = self.header("Retry-After").unwrap_or_else(|| panic!("no Retry-After: {self:?}"));
        let wait = wait.parse().unwrap();
        assert!(wait > 0, "{self:?}");
        wait
    }
}

impl Relay {
    /// A connection, with nothing said.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        stream.set_write_timeout(Some(2 * PATIENCE)).unwrap();
        stream
    }

    /// Raw bytes on a fresh connection; the one answer, after which the relay must close in order.
    #[track_caller]
    pub fn says_last(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes.as_ref()).unwrap();
        let answer = Answer::read(&mut stream);
        assert!(answer.closes(), "{answer:?}");
        is_closed(&mut stream);
        answer
    }

    /// The answer to `CONNECT` of an authority, after which the relay must close in order.
    #[track_caller]
    pub fn refused_connect(&self, authority: &str) -> Answer {
        self.says_last(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"))
    }

    /// An open tunnel to the license host, TLS not yet begun.
    pub fn tunnel(&self) -> TcpStream {
        self.tunnel_to(&format!("{HOST}:443"))
    }

    pub fn tunnel_to(&self, authority: &str) -> TcpStream {
        let mut stream = self.connect();
        write!(stream, "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
        let answer = Answer::read(&mut stream);
        assert_eq!(answer.status, 200, "{answer:?}");
        stream
    }

    /// A conversation inside a tunnel.
    pub fn inside(&self) -> Inside {
        tls(self.tunnel(), HOST, &self.root())
    }

    /// A connection of a client with this address (`127.0.0.0/8` is all ours), with nothing said.
    pub fn connect_from(&self, address: &str) -> TcpStream {
        connect_from(address, self.address).unwrap()
    }

    /// A conversation inside a tunnel of a client with this address, and these fields in its `CONNECT`.
    pub fn inside_from(&self, address: &str, fields: &str) -> Inside {
        let mut stream = self.connect_from(address);
        write!(stream, "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n").unwrap();
        let answer = Answer::read(&mut stream);
        assert_eq!(answer.status, 200, "{answer:?}");
        tls(stream, HOST, &self.root())
    }

    /// A conversation without a proxy: the host's name leads to the relay.
    pub fn direct(&self) -> Inside {
        tls(self.connect(), HOST, &self.root())
    }
}

/// A connection from one address to another, with nothing said.
pub fn connect_from(address: &str, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    let from: SocketAddr = format!("{address}:0").parse().unwrap();
    socket.bind(&from.into())?;
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(2 * PATIENCE))?;
    stream.set_write_timeout(Some(2 * PATIENCE))?;
    Ok(stream)
}

/// TLS over a stream, its handshake done, trusting this root.
pub fn tls<S: Read + Write>(mut stream: S, name: &str, root: &Path) -> StreamOwned<ClientConnection, S> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).unwrap();
    }
    StreamOwned::new(connection, stream)
}

/// Sends a request and reads its answer.
#[track_caller]
pub fn ask(stream: &mut (impl Read + Write), request: impl AsRef<[u8]>) -> Answer {
    stream.write_all(request.as_ref()).unwrap();
    stream.flush().unwrap();
    Answer::read(stream)
}

/// `GET /stub/echo` on a kept connection: what shows that it still serves.
pub fn good() -> String {
    format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

/// `POST` of a body.
pub fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A sync of so many changes, of a deployment that stands at this version.
pub fn changes(id: &str, version: u64, count: usize) -> String {
    let patch = r#"{"instance":"","version":0,"license":"9999000000001253","allotment":"professional","subject":"a\\b","created":"2019-04-18T10:01:35.024031Z"}"#;
    let patches = vec![patch; count].join(",");
    let base = format!(r#"{{"license":"9999000000001253","version":{version}}}"#);
    post("/v1/sync", &format!(r#"{{"source":"{id}","bases":[{base}],"patches":[{patches}]}}"#))
}

/// The relay closes in order: an end, not a reset.
#[track_caller]
pub fn is_closed(stream: &mut impl Read) {
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    assert!(end.is_ok() && rest.is_empty(), "{end:?} after {:?}", String::from_utf8_lossy(&rest));
}

/// All that comes until the relay closes in order, on a connection of which our side is open.
pub fn rest(stream: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    let end = stream.read_to_end(&mut all);
    assert!(end.is_ok(), "{end:?} after {:?}", String::from_utf8_lossy(&all));
    all
}

/// The connection is of no more use: it ends, with or without a last word.
pub fn ends(stream: &mut TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let mut scratch = [0; 4096];
    loop {
        match stream.read(&mut scratch) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the connection stays open")
            }
            Err(_) => return,
        }
    }
}

/// A command in whose eyes `/etc/hosts` says this, for a relay that resolves names. `None`, and noted, where the system
/// gives us no mounts of our own.
pub fn with_hosts(plan: &Plan, hosts: &str) -> Option<Command> {
    let file = plan.path("hosts");
    std::fs::write(&file, format!("127.0.0.1 localhost\n{hosts}")).unwrap();
    let mut command = tool("unshare", "util-linux");
    command.args(["--map-root-user", "--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]);
    command.arg(file);
    let mut probe = Command::new(command.get_program());
    probe.args(command.get_args()).arg("true");
    super::can("no mounts of our own here", &mut probe).then_some(command)
}

/// A port that nobody listens on just now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
