//! The first head of a connection, read and judged before hyper sees it.
//!
//! hyper accepts two Hosts, `chunked, chunked`, both lengths, and answers what it refuses with a bare 400. The first
//! head is where smuggling starts and where people mistype, so it is refused here, in our own words. The bytes
//! themselves are never changed.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

use crate::bounds;
use crate::policy::places::ConnectionPlace;
use crate::stream::{First, Rewound};

/// A head, and what came after it.
#[derive(Clone, Debug)]
pub struct Head {
    /// Everything that was read: the head, and bytes behind it.
    pub bytes: Bytes,
    /// Where the head ends.
    pub end: usize,
    /// The method.
    pub method: String,
    /// The request target, as written.
    pub target: String,
    /// HTTP/1.0 or HTTP/1.1.
    pub minor: u8,
    fields: Vec<(String, Vec<u8>)>,
}

/// Why there is no head.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The peer closed without a byte.
    #[error("the connection was closed before a request")]
    Closed,
    /// The peer closed, or the stream broke, in the middle.
    #[error("the connection was closed within a request")]
    Cut,
    /// Nothing came in time.
    #[error("nothing was sent")]
    Silent,
    /// Not all of it came in time.
    #[error("the request head did not arrive in time")]
    Late,
    /// It is longer than [`bounds::HEAD_BYTES`] or has more fields than [`bounds::HEADERS`].
    #[error("the request head is too large")]
    TooLarge,
    /// It is not valid HTTP/1.1.
    #[error("the request is not valid HTTP/1.1: {0}")]
    Malformed(&'static str),
    /// The stream broke without a byte.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl HeadError {
    /// What the stream said when it broke.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl Head {
    /// Reads a head: its first byte until `first_byte`, the rest within [`bounds::HEAD`] of that.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub async fn read(stream: &mut (impl AsyncRead + Unpin), first_byte: Instant) -> Result<Self, HeadError> {
        let mut bytes = BytesMut::with_capacity(2048);
        let mut deadline = first_byte;
        let mut searched = 0;
        loop {
            let read = timeout_at(deadline, stream.read_buf(&mut bytes)).await;
            let read = match read {
                Ok(Ok(0) | Err(_)) if !bytes.is_empty() => return Err(HeadError::Cut),
                Ok(read) => read?,
                Err(_) if bytes.is_empty() => return Err(HeadError::Silent),
                Err(_) => return Err(HeadError::Late),
            };
            if read == 0 {
                return Err(HeadError::Closed);
            }
            if searched == 0 {
                if !bytes[0].is_ascii_graphic() && bytes[0] != b'\r' {
                    return Err(HeadError::Malformed("its first byte"));
                }
                deadline = Instant::now() + bounds::HEAD;
            }
            match end_of_head(&bytes, searched) {
                Some(end) if end <= bounds::HEAD_BYTES => return Self::judge(bytes.freeze(), end),
                None if bytes.len() <= bounds::HEAD_BYTES => searched = bytes.len(),
                _ => return Err(HeadError::TooLarge),
            }
        }
    }

    /// The values of a field, in order.
    pub fn values<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
        self.fields
            .iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_slice())
    }

    fn judge(bytes: Bytes, end: usize) -> Result<Self, HeadError> {
        let head = &bytes[..end];
        check_line_ends(head)?;
        let mut fields = [httparse::EMPTY_HEADER; bounds::HEADERS];
        let mut request = httparse::Request::new(&mut fields);
        request.parse(head).map_err(|e| match e {
            httparse::Error::TooManyHeaders => HeadError::TooLarge,
            httparse::Error::Token => HeadError::Malformed("its request line"),
            httparse::Error::Version => HeadError::Malformed("its version is not 1.0 or 1.1"),
            httparse::Error::HeaderName => HeadError::Malformed("a header name"),
            httparse::Error::HeaderValue => HeadError::Malformed("a header value"),
            _ => HeadError::Malformed("its line ends"),
        })?;
        let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
        else {
            return Err(HeadError::Malformed("its request line"));
        };
        let fields =
            request.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
        let (method, target) = (method.to_owned(), target.to_owned());
        let head = Self { method, target, minor, fields, end, bytes };
        head.check_framing()?;
        Ok(head)
    }

    /// What two parsers could read in two ways is refused.
    fn check_framing(&self) -> Result<(), HeadError> {
        check_hosts(self.values("host").count(), self.minor == 0).map_err(HeadError::Malformed)?;
        let lengths: Vec<&[u8]> = self.values("content-length").collect();
        let codings: Vec<&[u8]> = self.values("transfer-encoding").collect();
        check_framing(&lengths, &codings).map_err(HeadError::Malformed)?;
        if self.minor == 0 && !codings.is_empty() {
            return Err(HeadError::Malformed(NOT_CHUNKED));
        }
        if lengths.iter().all(|length| is_length(length)) {
            Ok(())
        } else {
            Err(HeadError::Malformed("its Content-Length is not a number"))
        }
    }
}

const NOT_CHUNKED: &str = "its Transfer-Encoding is not exactly one chunked";

/// A request has one Host (RFC 9112 §3.2); only one of HTTP/1.0 may have none.
pub(super) fn check_hosts(count: usize, is_1_0: bool) -> Result<(), &'static str> {
    match count {
        1 => Ok(()),
        0 if is_1_0 => Ok(()),
        0 => Err("it has no Host"),
        _ => Err("it has more than one Host"),
    }
}

/// A request has one length or one coding, which is `chunked`, or neither (RFC 9112 §6). These are the values of its
/// Content-Length and Transfer-Encoding fields.
pub(super) fn check_framing(lengths: &[&[u8]], codings: &[&[u8]]) -> Result<(), &'static str> {
    match (lengths, codings) {
        ([] | [_], []) => Ok(()),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(()),
        ([], _) => Err(NOT_CHUNKED),
        (_, []) => Err("it has more than one Content-Length"),
        _ => Err("it has both Content-Length and Transfer-Encoding"),
    }
}

/// Waits for the first byte of a request, which stays unread; from then on the connection keeps its place. Never returns
/// where the place was given away just before: whoever serves the connection closes it then.
///
/// # Errors
/// The stream ended, or nothing came in time.
pub(crate) async fn begun<S>(
    stream: &mut Rewound<S>,
    place: &ConnectionPlace,
    deadline: Instant,
) -> Result<(), HeadError>
where
    S: AsyncRead + Unpin,
{
    match stream.first_byte(deadline).await {
        First::Byte(_) if place.work() => Ok(()),
        First::Byte(_) => std::future::pending().await,
        First::Closed(None) => Err(HeadError::Closed),
        First::Closed(Some(e)) => Err(HeadError::Io(e)),
        First::Silence => Err(HeadError::Silent),
    }
}

/// A length that every parser reads alike (RFC 9110 §8.6): digits only, small enough for any integer.
fn is_length(value: &[u8]) -> bool {
    (1..=15).contains(&value.len()) && value.iter().all(u8::is_ascii_digit)
}

/// The end of the first empty line, however it is written: a head with bare line feeds is to be refused, not waited
/// for.
fn end_of_head(bytes: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(3);
    let tail = &bytes[from..];
    (0..tail.len()).find_map(|at| match &tail[at..] {
        [b'\n', b'\n', ..] => Some(from + at + 2),
        [b'\n', b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// Lines end in CRLF and nowhere else (RFC 9112 §2.2), none starts with white space (§5.2), no NUL anywhere. One empty
/// line in front is passed over, as §2.2 asks for; two are no request.
fn check_line_ends(head: &[u8]) -> Result<(), HeadError> {
    for (at, byte) in head.iter().enumerate() {
        let (before, after) = (at.checked_sub(1).map(|at| head[at]), head.get(at + 1));
        match byte {
            b'\n' if before != Some(b'\r') => {
                return Err(HeadError::Malformed("a line ends in a bare line feed"));
            }
            b'\n' if matches!(after, Some(b' ' | b'\t')) => {
                return Err(HeadError::Malformed("a line starts with white space"));
            }
            b'\r' if after != Some(&b'\n') => return Err(HeadError::Malformed("a bare carriage return")),
            0 => return Err(HeadError::Malformed("a NUL byte")),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Head, HeadError> {
        Head::read(&mut &bytes[..], Instant::now() + bounds::FIRST_BYTE).await
    }

    #[tokio::test]
    async fn a_plain_head_is_read_and_its_bytes_are_kept() {
        let raw = b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
        let head = read(raw).await.unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str(), head.minor), ("POST", "/a?b", 1));
        assert_eq!((&head.bytes[..], head.end), (&raw[..], raw.len() - 3));
        assert!(read(b"CONNECT a:443 HTTP/1.0\r\n\r\n").await.is_ok());
        assert_eq!(read(b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap().method, "GET");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_byte_and_the_rest_of_a_head_have_a_time_each() {
        use tokio::io::{AsyncWriteExt, duplex};
        let (mut client, mut ours) = duplex(64);
        let begun = Instant::now();
        let silent = Head::read(&mut ours, begun + bounds::FIRST_BYTE).await;
        assert!(matches!(silent, Err(HeadError::Silent)), "{silent:?}");
        assert_eq!(begun.elapsed().as_secs(), bounds::FIRST_BYTE.as_secs());
        let begun = Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let late = Head::read(&mut ours, begun + bounds::FIRST_BYTE).await;
        assert!(matches!(late, Err(HeadError::Late)), "{late:?}");
        assert_eq!(begun.elapsed().as_secs(), bounds::HEAD.as_secs());
    }

    #[tokio::test]
    async fn ambiguous_heads_are_refused() {
        let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(bounds::HEAD_BYTES));
        for bad in [
            "GET / HTTP/1.1\nHost: x\n\n",
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: x\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "\x05\x01\x00",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "\x16\x03\x01\n\n",
            long.as_str(),
        ] {
            assert!(read(bad.as_bytes()).await.is_err(), "{:?} was accepted", &bad[..bad.len().min(80)]);
        }
    }

    proptest::proptest! {
        #[test]
        fn the_end_of_a_head_does_not_depend_on_how_it_arrives(cut in 0usize..60) {
            let raw = b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n\r\n";
            let cut = cut.min(raw.len());
            let whole = end_of_head(raw, 0);
            let parts = end_of_head(&raw[..cut], 0).or_else(|| end_of_head(raw, cut));
            proptest::prop_assert_eq!(whole, parts);
        }
    }
}
