//! A tunnel through the company's own proxy: our own `CONNECT`, because hyper-util's takes 200 only, throws early bytes
//! away, and swallows what an administrator needs to see.
//!
//! Nothing that the parent writes goes into an error: it knows our credentials, and some proxies quote them.
//!
//! Any 2xx opens the tunnel and a length on it means nothing (RFC 9110 §9.3.6); 1xx are passed over; bytes behind the
//! head belong to the tunnel. The parent gets the host's *name*: nothing is resolved here.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::bounds;
use crate::config::names::Endpoint;
use crate::observe::labels::ErrorClass;
use crate::stream::Rewound;
use relay_log::files::private::read_private;

/// The schemes that a parent may want, as they are told (the registry of RFC 9110 §16.4.1, and NTLM).
const SCHEMES: [&str; 8] =
    ["Basic", "Digest", "Negotiate", "NTLM", "Kerberos", "Bearer", "SCRAM-SHA-256", "HOBA"];

/// What the parent is told who we are: `user:password`, in base64. It can't be printed, and is wiped when dropped.
#[derive(Clone)]
pub struct ParentCredentials(Zeroizing<String>);

/// Why the parent opens no tunnel. These are words of ours and nothing else: what a parent says may hold the credentials
/// that it was given.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// It refused.
    #[error("answered {status}{}; {}", wants(.schemes), advice(*.status))]
    Refused {
        /// The status.
        status: u16,
        /// The schemes that its `Proxy-Authenticate` lists, where it wants credentials.
        schemes: Vec<&'static str>,
    },
    /// It took the connection and sent nothing.
    #[error("took the connection and is silent for {} s; is upstream.parent_proxy a proxy?", .0.as_secs())]
    Silent(Duration),
    /// It sent a part of an answer, and then nothing more.
    #[error("began to answer and did not end within {} s; look at its own log", .0.as_secs())]
    Stalled(Duration),
    /// It closed before it answered.
    #[error("closed the connection before it answered; may this machine use it?")]
    Closed,
    /// It closed in the middle of its answer.
    #[error("closed the connection in its answer; look at its own log")]
    Cut,
    /// Its answer has no end.
    #[error("answered with a head of more than {} KiB", bounds::REPLY_HEAD_BYTES >> 10)]
    TooLarge,
    /// It answered in TLS.
    #[error("answered in TLS; write https:// in upstream.parent_proxy")]
    Tls,
    /// It answered in HTTP/2.
    #[error("answered in HTTP/2; upstream.parent_proxy must lead to its port for HTTP/1.1")]
    Http2,
    /// It answered what is no HTTP.
    #[error("answered what is no HTTP; is upstream.parent_proxy right?")]
    NoHttp,
    /// The stream broke.
    #[error("the connection broke")]
    Io(#[source] io::Error),
}

impl ParentError {
    /// The kind, as access lines, metrics and records have it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Refused { status: 407, .. } => ErrorClass::ParentCredentials,
            Self::Refused { .. } => ErrorClass::ParentRefused,
            Self::Silent(_) => ErrorClass::ParentSilent,
            Self::Stalled(_) => ErrorClass::ParentStalled,
            Self::Closed => ErrorClass::ParentClosed,
            Self::Cut => ErrorClass::ParentCut,
            Self::TooLarge => ErrorClass::ParentHeadSize,
            Self::Tls => ErrorClass::ParentTls,
            Self::Http2 => ErrorClass::ParentHttp2,
            Self::NoHttp => ErrorClass::ParentNoHttp,
            Self::Io(_) => ErrorClass::ParentIo,
        }
    }
}

impl ParentCredentials {
    /// Reads `user:password` from a file that its owner alone may read.
    ///
    /// # Errors
    /// It can't be read, others may read it, or there is no colon in it; the text is never part of the error.
    pub fn load(path: &Path) -> io::Result<Self> {
        let text = read_private(path)?;
        let pair = text.trim_end_matches(['\r', '\n']);
        if !pair.contains(':') || pair.contains(['\r', '\n']) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "does not hold one line, user:password"));
        }
        Ok(Self(Zeroizing::new(STANDARD.encode(pair))))
    }

    /// Whether a text tells a part of them that is worth hiding, as they are or as they are sent. It may have been cut off.
    pub fn are_in(&self, text: &str) -> bool {
        let pair = Zeroizing::new(STANDARD.decode(self.0.as_bytes()).unwrap_or_default());
        // Where the user's name ends: the rest is the secret.
        let colon = pair.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1);
        let password = pair.get(colon..).unwrap_or_default();
        [password, self.0.as_bytes()].into_iter().filter(|secret| !secret.is_empty()).any(|secret| {
            let length = secret.len().min(bounds::SECRET_PART);
            let mut parts = secret.windows(length);
            parts.any(|part| text.as_bytes().windows(length).any(|there| there == part))
        })
    }
}

impl fmt::Debug for ParentCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParentCredentials(…)")
    }
}

/// Asks for a tunnel to `to`, and gives it. The parent has this long to answer.
///
/// # Errors
/// See [`ParentError`].
pub async fn connect<S>(
    mut stream: S,
    to: &Endpoint,
    credentials: Option<&ParentCredentials>,
    within: Duration,
) -> Result<Rewound<S>, ParentError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = Zeroizing::new(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n"));
    if let Some(ParentCredentials(pair)) = credentials {
        request.push_str("Proxy-Authorization: Basic ");
        request.push_str(pair);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    let mut has_begun = false;
    match timeout(within, ask(&mut stream, request.as_bytes(), &mut has_begun)).await {
        Ok(Ok(early)) => Ok(Rewound::new(early, stream)),
        Ok(Err(e)) => Err(e),
        Err(_) if has_begun => Err(ParentError::Stalled(within)),
        Err(_) => Err(ParentError::Silent(within)),
    }
}

/// Sends the request and reads the answer; gives the bytes that came behind it.
async fn ask<S>(stream: &mut S, request: &[u8], has_begun: &mut bool) -> Result<Bytes, ParentError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broke = |has_begun: bool, cause: io::Error| match cause.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
            closed(has_begun)
        }
        _ => ParentError::Io(cause),
    };
    stream.write_all(request).await.map_err(|e| broke(false, e))?;
    stream.flush().await.map_err(|e| broke(false, e))?;
    let mut bytes = BytesMut::with_capacity(1024);
    loop {
        match answer(&bytes)? {
            Some(ParentAnswer { length, status: 100..=199, .. }) => bytes.advance(length),
            Some(ParentAnswer { length, status: 200..=299, .. }) => {
                bytes.advance(length);
                return Ok(bytes.freeze());
            }
            Some(ParentAnswer { status, schemes, .. }) => {
                return Err(ParentError::Refused { status, schemes });
            }
            None if bytes.len() > bounds::REPLY_HEAD_BYTES => return Err(ParentError::TooLarge),
            None => {
                if stream.read_buf(&mut bytes).await.map_err(|e| broke(*has_begun, e))? == 0 {
                    return Err(closed(*has_begun));
                }
                *has_begun = true;
            }
        }
    }
}

fn closed(has_begun: bool) -> ParentError {
    if has_begun { ParentError::Cut } else { ParentError::Closed }
}

struct ParentAnswer {
    length: usize,
    status: u16,
    schemes: Vec<&'static str>,
}

/// The head at the start of these bytes; `None` while it is not whole.
fn answer(bytes: &[u8]) -> Result<Option<ParentAnswer>, ParentError> {
    let mut fields = [httparse::EMPTY_HEADER; bounds::HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(ParentError::TooLarge),
        Err(_) => return Err(other_than_http(bytes)),
    };
    let mut schemes = Vec::new();
    for field in response.headers.iter().filter(|f| f.name.eq_ignore_ascii_case("proxy-authenticate")) {
        let scheme = scheme(field.value);
        if !schemes.contains(&scheme) {
            schemes.push(scheme);
        }
    }
    Ok(Some(ParentAnswer { length, status: response.code.unwrap_or_default(), schemes }))
}

/// By the first byte: a TLS alert or handshake record, or the length of an HTTP/2 frame, of which the first is short.
fn other_than_http(bytes: &[u8]) -> ParentError {
    match bytes.first() {
        Some(0x15 | 0x16) => ParentError::Tls,
        Some(0) => ParentError::Http2,
        _ => ParentError::NoHttp,
    }
}

/// The scheme of a challenge, in our own spelling.
fn scheme(challenge: &[u8]) -> &'static str {
    let name = challenge.split(|byte| matches!(byte, b' ' | b',' | b'\t')).next().unwrap_or_default();
    SCHEMES
        .into_iter()
        .find(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        .unwrap_or("an unknown scheme")
}

fn wants(schemes: &[&str]) -> String {
    if schemes.is_empty() { String::new() } else { format!(" (it wants {})", schemes.join(" or ")) }
}

/// What to look at, by the status.
fn advice(status: u16) -> &'static str {
    match status {
        407 => "check upstream.parent_credentials",
        401 | 403 | 405 => "it must allow this machine the destination",
        500..=599 => "look at its own log",
        _ => "is upstream.parent_proxy a proxy?",
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// The parent's answer in pieces of this size, and what is made of it: early bytes, or the error's words.
    async fn told(answer: &[u8], piece: usize) -> Result<Vec<u8>, String> {
        let (ours, mut theirs) = duplex(64 * 1024);
        let answer = answer.to_vec();
        tokio::spawn(async move {
            for bytes in answer.chunks(piece) {
                if theirs.write_all(bytes).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
        let to = "license.qlikcloud.com:443".parse().unwrap();
        let mut tunnel = connect(ours, &to, None, PATIENCE).await.map_err(|e| e.to_string())?;
        let mut early = Vec::new();
        tunnel.read_to_end(&mut early).await.unwrap();
        Ok(early)
    }

    #[tokio::test]
    async fn an_answer_is_understood_however_it_arrives() {
        let answer = b"HTTP/1.1 103 Hints\r\nX: y\r\n\r\nHTTP/1.0 299 Fine\r\nContent-Length: 5\r\n\r\nearly";
        for piece in 1..answer.len() {
            assert_eq!(told(answer, piece).await.unwrap(), b"early", "in pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn a_refusal_tells_the_status_and_what_is_wanted_and_no_word_of_the_parent() {
        let answer = b"HTTP/1.1 407 relay:secret\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: negotiate x\r\n\
            Proxy-Authenticate: relay:secret\r\nProxy-Authenticate: Basic realm=\"relay:secret\"\r\n\r\nrelay:secret";
        assert_eq!(
            told(answer, 7).await.unwrap_err(),
            "answered 407 (it wants Negotiate or an unknown scheme or Basic); check upstream.parent_credentials"
        );
    }

    #[tokio::test]
    async fn what_is_no_whole_answer_has_its_own_words() {
        let endless = [&b"HTTP/1.1 200 OK\r\nA: "[..], &vec![b'b'; 1 << 20]].concat();
        for (answer, words) in [
            (&b"SSH-2.0-x\r\n"[..], "what is no HTTP"),
            (b"\x15\x03\x01\x00\x02\x02\x28", "in TLS"),
            (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "in HTTP/2"),
            (b"", "closed the connection before it answered"),
            (b"HTTP/1.1 200 OK\r\n", "closed the connection in its answer"),
            (b"HTTP/1.1 103 Hints\r\n\r\n", "closed the connection in its answer"),
            (
                &[&b"HTTP/1.1 200 OK\r\n"[..], &b"A: b\r\n".repeat(9000)].concat(),
                "answered with a head of more than",
            ),
            (&endless, "answered with a head of more than"),
        ] {
            let said = told(answer, 4096).await.unwrap_err();
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_says_nothing_is_told_apart_from_one_that_stops_in_its_answer() {
        for (answer, words) in [(&b""[..], "is silent for 30 s"), (b"HTTP/1.1 1", "did not end within 30 s")]
        {
            let (ours, mut theirs) = duplex(1024);
            theirs.write_all(answer).await.unwrap();
            let to = "license.qlikcloud.com:443".parse().unwrap();
            let said = connect(ours, &to, None, PATIENCE).await.unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn a_text_that_tells_the_credentials_is_recognised() {
        let credentials = ParentCredentials(Zeroizing::new(STANDARD.encode("relay:s3cret")));
        for text in ["CN relay:s3cret", "s3cret", "Basic cmVsYXk6czNjcmV0", "cut off: cmVsYXk6"] {
            assert!(credentials.are_in(text), "{text}");
        }
        assert!(!credentials.are_in("Corporate Inspection CA of relay"));
    }

    #[tokio::test]
    async fn the_parent_gets_the_name_and_the_credentials_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("parent.txt");
        relay_log::files::private::write_private(&path, b"relay:secret\n").unwrap();
        let credentials = ParentCredentials::load(&path).unwrap();
        assert_eq!(format!("{credentials:?}"), "ParentCredentials(…)");
        let (ours, mut theirs) = duplex(1024);
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(theirs.read_u8().await.unwrap());
            }
            theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        let to = "license.qlikcloud.com:443".parse().unwrap();
        connect(ours, &to, Some(&credentials), PATIENCE).await.unwrap();
        assert_eq!(
            asked.await.unwrap(),
            "CONNECT license.qlikcloud.com:443 HTTP/1.1\r\nHost: license.qlikcloud.com:443\r\n\
             Proxy-Authorization: Basic cmVsYXk6c2VjcmV0\r\n\r\n"
        );
    }
}
