//! HTTP/1.1 on the wire, by hand: the stub records the very bytes it got and sends the very bytes it means,
//! right or wrong, which a library would mend.
//!
//! Strict on what comes in: whatever a relay lets through is one clean request, or it is refused and recorded
//! as bad. Trailers are checked and dropped.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

/// A byte stream over a TCP connection that can be broken off.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {
    /// The connection below.
    fn tcp(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// One connection, and what was read from it but belongs to no request yet.
pub(super) struct Connection<S> {
    socket: S,
    buffer: BytesMut,
}

/// One request, body and all.
#[derive(Debug)]
pub(super) struct Request {
    /// The head as it came, with its empty line.
    pub(super) head: Bytes,
    pub(super) method: String,
    pub(super) target: String,
    headers: Vec<(String, String)>,
    /// The body, without chunk framing.
    pub(super) body: Bytes,
    /// The client expects the connection to stay.
    pub(super) keep: bool,
}

/// What came in place of a request.
#[derive(Debug)]
pub(super) struct Bad {
    /// The head, or as much as there is of it.
    pub(super) head: Bytes,
    pub(super) fault: Fault,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Fault(&'static str);

/// How the end of a request's body is told.
#[derive(Debug, Eq, PartialEq)]
enum Length {
    Exactly(usize),
    Chunked,
}

impl<S: Socket> Connection<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, buffer: BytesMut::new() }
    }

    /// Waits for the first byte of a request; false if none comes.
    pub(super) async fn ready(&mut self, idle: Duration) -> bool {
        !self.buffer.is_empty() || matches!(timeout(idle, self.fill()).await, Ok(Ok(())))
    }

    /// Reads one request.
    pub(super) async fn read(&mut self) -> Result<Request, Bad> {
        let mut head = Bytes::new();
        let outcome = timeout(PATIENCE, self.read_parts(&mut head)).await;
        outcome.unwrap_or(Err(Fault("too slow"))).map_err(|fault| {
            let head = if head.is_empty() { self.buffer.split().freeze() } else { head };
            Bad { head, fault }
        })
    }

    async fn read_parts(&mut self, head: &mut Bytes) -> Result<Request, Fault> {
        *head = self.read_head().await?;
        let (mut request, length) = parse(head)?;
        if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(|_| Fault("broken off"))?;
        }
        request.body = match length {
            Length::Exactly(length) => self.take(length).await?,
            Length::Chunked => self.read_chunked().await?,
        };
        Ok(request)
    }

    async fn read_head(&mut self) -> Result<Bytes, Fault> {
        loop {
            let end = find(&self.buffer, b"\r\n\r\n").map(|at| at + 4);
            let head = &self.buffer[..end.unwrap_or(self.buffer.len())];
            if head.len() > MAX_HEAD {
                return Err(Fault("head over the limit"));
            }
            if stray(head) {
                return Err(Fault("bare CR, LF or NUL in the head"));
            }
            if let Some(end) = end {
                return self.take(end).await;
            }
            self.fill().await?;
        }
    }

    async fn read_chunked(&mut self) -> Result<Bytes, Fault> {
        let mut body = BytesMut::new();
        loop {
            let line = self.take_line().await?;
            // `from_str_radix` alone would take a sign.
            let is_hex = line.iter().all(u8::is_ascii_hexdigit);
            let hex = std::str::from_utf8(&line).ok().filter(|_| is_hex);
            let size = hex.and_then(|hex| usize::from_str_radix(hex, 16).ok());
            let size = size.ok_or(Fault("chunk size is not plain hexadecimal"))?;
            if size == 0 {
                break;
            }
            if size > MAX_BODY - body.len() {
                return Err(Fault("body over the limit"));
            }
            body.extend_from_slice(&self.take(size).await?);
            if !self.take_line().await?.is_empty() {
                return Err(Fault("chunk not ended by CRLF"));
            }
        }
        for _ in 0..=MAX_HEADERS {
            if self.take_line().await?.is_empty() {
                return Ok(body.freeze());
            }
        }
        Err(Fault("too many trailers"))
    }

    /// A line without its CRLF.
    async fn take_line(&mut self) -> Result<Bytes, Fault> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = self.take(end).await?;
                self.buffer.advance(2);
                return if stray(&line) { Err(Fault("bare CR, LF or NUL in a line")) } else { Ok(line) };
            }
            if self.buffer.len() > MAX_LINE {
                return Err(Fault("line over the limit"));
            }
            self.fill().await?;
        }
    }

    async fn take(&mut self, length: usize) -> Result<Bytes, Fault> {
        while self.buffer.len() < length {
            self.fill().await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn fill(&mut self) -> Result<(), Fault> {
        self.buffer.reserve(16 * 1024);
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(1..) => Ok(()),
            Ok(0) => Err(Fault("cut short")),
            Err(_) => Err(Fault("broken off")),
        }
    }

    /// Sends these bytes, all of them or for as long as patience lasts.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await
        })
        .await?
    }

    /// Reads on, and forgets what it reads, until the client closes.
    pub(super) async fn drain(&mut self, patience: Duration) {
        let read_on = async {
            while self.fill().await.is_ok() {
                self.buffer.clear();
            }
        };
        // It makes no difference who lost patience.
        let _ = timeout(patience, read_on).await;
    }

    /// Closes in order: with data unread, the system would send a reset that overtakes the last reply.
    pub(super) async fn close(mut self) -> io::Result<()> {
        self.socket.shutdown().await?;
        self.drain(LINGER).await;
        Ok(())
    }

    /// Breaks off, with a TCP reset.
    pub(super) fn reset(self) -> io::Result<()> {
        self.socket.tcp().set_zero_linger()
    }
}

impl Request {
    /// The value of the first header of this name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The target up to its query.
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of this name in the query, empty if it has none.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

fn parse(head: &Bytes) -> Result<(Request, Length), Fault> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    if head.starts_with(b"\r\n") || !matches!(parsed.parse(head), Ok(httparse::Status::Complete(_))) {
        return Err(Fault("head is not HTTP"));
    }
    let latin_1 = |value: &[u8]| value.iter().map(|byte| char::from(*byte)).collect::<String>();
    let mut request = Request {
        head: head.clone(),
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        headers: parsed.headers.iter().map(|h| (h.name.to_owned(), latin_1(h.value))).collect(),
        body: Bytes::new(),
        keep: true,
    };
    let is_1_1 = parsed.version == Some(1);
    let all = |name: &str| -> Vec<&str> {
        let named = request.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    };
    if !request.target.starts_with('/')
        && (request.method.as_str(), request.target.as_str()) != ("OPTIONS", "*")
    {
        return Err(Fault("target is not in origin form"));
    }
    if all("host").len() > 1 || (is_1_1 && all("host").is_empty()) {
        return Err(Fault("not exactly one Host"));
    }
    let length = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Length::Exactly(0),
        ([], [coding]) if is_1_1 && coding.eq_ignore_ascii_case("chunked") => Length::Chunked,
        ([length], []) if length.len() <= 15 && length.bytes().all(|b| b.is_ascii_digit()) => {
            Length::Exactly(length.parse().map_err(|_| Fault("Content-Length is no number"))?)
        }
        _ => return Err(Fault("body length is ambiguous")),
    };
    if matches!(length, Length::Exactly(length) if length > MAX_BODY) {
        return Err(Fault("body over the limit"));
    }
    let mut options = request.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("connection"));
    let close = options.any(|(_, v)| v.split(',').any(|option| option.trim().eq_ignore_ascii_case("close")));
    request.keep = is_1_1 && !close;
    Ok((request, length))
}

/// A CR or LF that is not part of a CRLF, or a NUL. A CR at the very end may still get its LF.
fn stray(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().any(|(at, byte)| match byte {
        b'\n' => at == 0 || bytes[at - 1] != b'\r',
        b'\r' => bytes.get(at + 1).is_some_and(|next| *next != b'\n'),
        0 => true,
        _ => false,
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// A reply, before it is bytes.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) body: Vec<u8>,
    pub(super) framing: Framing,
    /// What is sent ahead of the reply.
    pub(super) preface: &'static str,
    /// How long it is held back.
    pub(super) wait: Duration,
}

/// How the end of a reply's body is told.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Framing {
    Length,
    /// A Content-Length that is this much too large; then the connection is closed.
    Overstated(usize),
    /// Chunks of this many bytes.
    Chunks(usize),
    /// No length: the end of the connection is the end of the body.
    UntilClose,
    /// The body is all there is, status line and headers included.
    Verbatim,
}

impl Reply {
    pub(super) fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type", content_type)],
            body: body.into(),
            framing: Framing::Length,
            preface: "",
            wait: Duration::ZERO,
        }
    }

    /// A JSON reply.
    pub(super) fn json(status: u16, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => Self::new(status, "application/json", body),
            Err(e) => Self::new(500, "text/plain", e.to_string()),
        }
    }

    /// The error envelope of Qlik's licenses API.
    pub(super) fn error(status: u16, title: &str) -> Self {
        let error = serde_json::json!({"code": "LICENSES-000", "title": title});
        Self::json(status, &serde_json::json!({"errors": [error]}))
    }

    /// The reply as bytes, in the manner and the order of nginx.
    pub(super) fn render(&self, head_only: bool, keep: bool) -> Vec<u8> {
        if self.framing == Framing::Verbatim {
            return self.body.clone();
        }
        // The phrase comes from a table that is at hand; nothing else here is of that crate.
        let status = StatusCode::from_u16(self.status).ok();
        let phrase = status.and_then(|status| status.canonical_reason()).unwrap_or("Stub");
        let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
        let has_body = !matches!(self.status, 100..=199 | 204 | 304);
        let mut head = self.preface.to_owned();
        // Writing to a String does not fail.
        let _ = write!(head, "HTTP/1.1 {} {phrase}\r\nServer: nginx\r\nDate: {date}\r\n", self.status);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = match self.framing {
            _ if !has_body => Ok(()),
            Framing::Length => write!(head, "Content-Length: {}\r\n", self.body.len()),
            Framing::Overstated(surplus) => write!(head, "Content-Length: {}\r\n", self.body.len() + surplus),
            Framing::Chunks(_) => write!(head, "Transfer-Encoding: chunked\r\n"),
            Framing::UntilClose | Framing::Verbatim => Ok(()),
        };
        let keep = keep && self.framing != Framing::UntilClose;
        let _ = write!(head, "Connection: {}\r\n\r\n", if keep { "keep-alive" } else { "close" });

        let mut bytes = head.into_bytes();
        if head_only || !has_body {
            return bytes;
        }
        let Framing::Chunks(size) = self.framing else {
            bytes.extend_from_slice(&self.body);
            return bytes;
        };
        for chunk in self.body.chunks(size.max(1)) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }
}

const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;
const MAX_LINE: usize = 8 * 1024;
const MAX_BODY: usize = 64 * 1024 * 1024;
/// For a request that has begun, and for a reply to be taken.
const PATIENCE: Duration = Duration::from_secs(60);
/// For the client to close after us.
const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn read(bytes: &[u8]) -> Result<Request, Bad> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        Connection::new(listener.accept().await.unwrap().0).read().await
    }

    #[tokio::test]
    async fn one_length_or_one_chunked_is_read() {
        let sized = b"POST /a?b=1&c HTTP/1.1\r\nhOsT: x\r\nContent-Length: 3\r\n\r\nabc";
        let request = read(sized).await.unwrap();
        assert_eq!((&request.body[..], request.keep, request.path()), (&b"abc"[..], true, "/a"));
        assert_eq!((request.query("b"), request.query("c"), request.query("d")), (Some("1"), Some(""), None));
        assert_eq!(&request.head[..], &sized[..sized.len() - 3]);
        let chunked =
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: x, Close\r\n\r\n\
            3\r\nabc\r\n1\r\nd\r\n0\r\nT: 1\r\n\r\n";
        let request = read(chunked).await.unwrap();
        assert_eq!((&request.body[..], request.keep), (&b"abcd"[..], false));
    }

    #[tokio::test]
    async fn what_is_ambiguous_is_refused() {
        for (bytes, why) in [
            ("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "not HTTP"),
            ("GET / HTTP/1.1\nHost: x\n\n", "bare"),
            ("GET / HTTP/1.1\r\nHost: x\r\n\tfolded\r\n\r\n", "not HTTP"),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", "not HTTP"),
            ("GET / HTTP/1.1\r\n\r\n", "one Host"),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "one Host"),
            ("GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "origin form"),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "ambiguous"),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na", "ambiguous"),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n", "no number"),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "ambiguous",
            ),
            ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "ambiguous"),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "ambiguous"),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
                "hexadecimal",
            ),
            ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", "CRLF"),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", "limit"),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc", "cut short"),
            ("GET / HT", "cut short"),
        ] {
            let bad = read(bytes.as_bytes()).await.unwrap_err();
            assert!(bad.fault.to_string().contains(why), "{bytes:?}: {}", bad.fault);
            assert!(!bad.head.is_empty());
        }
    }

    #[test]
    fn a_reply_is_framed_as_asked() {
        let mut reply = Reply::new(200, "text/plain", "abcde");
        let text = |reply: &Reply, head_only| String::from_utf8(reply.render(head_only, true)).unwrap();
        assert!(text(&reply, false).ends_with("Content-Length: 5\r\nConnection: keep-alive\r\n\r\nabcde"));
        assert!(text(&reply, true).ends_with("Content-Length: 5\r\nConnection: keep-alive\r\n\r\n"));
        reply.framing = Framing::Chunks(3);
        assert!(text(&reply, false).ends_with("\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"));
        reply.framing = Framing::UntilClose;
        assert!(text(&reply, false).ends_with("Connection: close\r\n\r\nabcde"));
        reply.status = 204;
        assert!(text(&reply, false).ends_with("\r\n\r\n"));
    }
}
