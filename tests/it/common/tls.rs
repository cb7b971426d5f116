//! A client inside the relay's TLS that shows every byte: raw requests in, raw replies out.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{HOST, PATIENCE, Relay};

/// A conversation with the license host, through `CONNECT` and with the relay's root trusted.
pub struct Tls {
    stream: StreamOwned<ClientConnection, TcpStream>,
    /// Read, and not yet asked for.
    ahead: Vec<u8>,
}

/// A reply as it came.
#[derive(Debug)]
pub struct Raw {
    /// Status line and headers with the empty line, in Latin-1.
    pub head: String,
    /// The body without its framing.
    pub body: Vec<u8>,
}

impl Tls {
    pub fn new(relay: &Relay) -> Self {
        let mut tcp = TcpStream::connect(relay.address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        write!(tcp, "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n").unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            tcp.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));

        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(relay.root()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(license_relay::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), HOST.try_into().unwrap()).unwrap();
        Self { stream: StreamOwned::new(connection, tcp), ahead: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// Sends a request and reads its reply.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Raw {
        self.send(request);
        self.reply()
    }

    /// `POST`s JSON and reads the reply.
    pub fn post(&mut self, path: &str, body: &str) -> Raw {
        self.ask(post(path, body))
    }

    /// The next head, interim ones included.
    pub fn head(&mut self) -> String {
        let latin_1 = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect();
        loop {
            if let Some(end) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                return latin_1(&self.ahead.drain(..end + 4).collect::<Vec<u8>>());
            }
            assert!(self.fill(), "closed in a head: {:?}", String::from_utf8_lossy(&self.ahead));
        }
    }

    /// The next reply to anything but HEAD, interim ones passed over.
    pub fn reply(&mut self) -> Raw {
        let head = self.head();
        let raw = Raw { head, body: Vec::new() };
        let body = match (raw.status(), raw.header("content-length"), raw.header("transfer-encoding")) {
            (100..=199, ..) => return self.reply(),
            (204 | 304, ..) => Vec::new(),
            (_, Some(length), None) => self.exactly(length.parse().unwrap()),
            (_, None, Some(coding)) if coding == "chunked" => self.chunks(),
            (_, None, None) => self.rest(),
            _ => panic!("a body of two lengths: {raw:?}"),
        };
        Raw { body, ..raw }
    }

    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.ahead.len() < length {
            assert!(self.fill(), "closed with {} bytes to come", length - self.ahead.len());
        }
        self.ahead.drain(..length).collect()
    }

    /// Everything until the relay closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.ahead)
    }

    /// Nothing more has come, and the connection is still open.
    pub fn is_quiet(&mut self) -> bool {
        self.stream.sock.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let more = self.stream.read(&mut [0]);
        self.stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
        self.ahead.is_empty() && more.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Closes this side only, in order.
    pub fn half_close(&mut self) {
        self.stream.conn.send_close_notify();
        self.stream.flush().unwrap();
        self.stream.sock.shutdown(Shutdown::Write).unwrap();
    }

    /// Breaks off with a TCP reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream.sock).set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("chunk size {line:?}"));
            body.extend(self.exactly(size));
            assert_eq!(self.line(), "", "after a chunk");
            if size == 0 {
                return body;
            }
        }
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return String::from_utf8(line[..end].to_vec()).unwrap();
            }
            assert!(self.fill(), "closed in a line");
        }
    }

    /// Reads on; `false` at the end.
    fn fill(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                self.ahead.extend_from_slice(&buffer[..read]);
                true
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => panic!("nothing came in {PATIENCE:?}"),
            // Without a close_notify, or with a reset.
            Err(_) => false,
        }
    }
}

impl Raw {
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut fields = fields(&self.head).into_iter();
        fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The headers of a head, in order.
pub fn fields(head: &str) -> Vec<(String, String)> {
    let lines = head.trim_end().split("\r\n").skip(1);
    lines.map(|line| line.split_once(':').unwrap()).map(|(n, v)| (n.into(), v.trim().into())).collect()
}

/// A `POST` of JSON, as bytes.
pub fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
