//! A tunnel through the company's own proxy: our own `CONNECT`, because hyper-util's takes 200 only, throws early bytes
//! away, and swallows what an administrator needs to see.
//!
//! Any 2xx opens the tunnel and a length on it means nothing (RFC 9110 §9.3.6); 1xx are passed over; bytes behind the
//! head belong to the tunnel. The parent gets the host's *name*: nothing is resolved here.

use std::fmt;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::bounds;
use crate::config::names::Endpoint;
use crate::config::private::read_private;
use crate::stream::Rewound;

/// What the parent is told who we are: `user:password`, in base64. It can't be printed, and is wiped when dropped.
#[derive(Clone)]
pub struct ParentCredentials(Zeroizing<String>);

/// Why the parent opens no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// It refused.
    #[error("answered {status} {reason}{}", wants(.challenges))]
    Refused {
        /// The status.
        status: u16,
        /// The reason phrase.
        reason: String,
        /// The schemes of its `Proxy-Authenticate`, where it wants credentials.
        challenges: Vec<String>,
    },
    /// It answered what is no HTTP.
    #[error("answered what is no HTTP")]
    NoHttp,
    /// It closed before it answered.
    #[error("closed the connection before it answered")]
    Closed,
    /// The stream broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
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
}

impl fmt::Debug for ParentCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParentCredentials(…)")
    }
}

/// Asks for a tunnel to `to`, and gives it.
///
/// # Errors
/// See [`ParentError`].
pub async fn connect<S>(
    mut stream: S,
    to: &Endpoint,
    credentials: Option<&ParentCredentials>,
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
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;

    let mut bytes = BytesMut::with_capacity(1024);
    loop {
        match answer(&bytes)? {
            Some(Answer { length, status: 100..=199, .. }) => bytes.advance(length),
            Some(Answer { length, status: 200..=299, .. }) => {
                bytes.advance(length);
                return Ok(Rewound::new(bytes.freeze(), stream));
            }
            Some(Answer { status, reason, challenges, .. }) => {
                return Err(ParentError::Refused { status, reason, challenges });
            }
            None if bytes.len() > bounds::REPLY_HEAD_BYTES => return Err(ParentError::NoHttp),
            None if stream.read_buf(&mut bytes).await? == 0 => return Err(ParentError::Closed),
            None => {}
        }
    }
}

struct Answer {
    length: usize,
    status: u16,
    reason: String,
    challenges: Vec<String>,
}

/// The head at the start of these bytes; `None` while it is not whole.
fn answer(bytes: &[u8]) -> Result<Option<Answer>, ParentError> {
    let mut fields = [httparse::EMPTY_HEADER; bounds::HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ParentError::NoHttp),
    };
    let challenges = response
        .headers
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("proxy-authenticate"))
        .filter_map(|field| std::str::from_utf8(field.value).ok()?.split([' ', ',']).next().map(printable))
        .collect();
    Ok(Some(Answer {
        length,
        status: response.code.unwrap_or_default(),
        reason: printable(response.reason.unwrap_or_default()),
        challenges,
    }))
}

/// Words of another program, fit for a log line and a reason phrase.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(60).collect()
}

fn wants(challenges: &[String]) -> String {
    if challenges.is_empty() { String::new() } else { format!(" (it wants {})", challenges.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// The parent's answer in pieces of this size, and what is made of it: early bytes, or the error's words.
    async fn told(answer: &[u8], piece: usize) -> Result<Vec<u8>, String> {
        let (ours, mut theirs) = duplex(64 * 1024);
        let answer = answer.to_vec();
        tokio::spawn(async move {
            for bytes in answer.chunks(piece) {
                theirs.write_all(bytes).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let to = "license.qlikcloud.com:443".parse().unwrap();
        let mut tunnel = connect(ours, &to, None).await.map_err(|e| e.to_string())?;
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
    async fn a_refusal_tells_status_reason_and_what_is_wanted() {
        let answer = b"HTTP/1.1 407 Auth Required\r\nProxy-Authenticate: Negotiate\r\n\
            Proxy-Authenticate: Basic realm=\"x\"\r\n\r\n";
        assert_eq!(
            told(answer, 7).await.unwrap_err(),
            "answered 407 Auth Required (it wants Negotiate or Basic)"
        );
        assert_eq!(told(b"SSH-2.0-x\r\n", 3).await.unwrap_err(), "answered what is no HTTP");
        assert_eq!(
            told(b"HTTP/1.1 200 OK\r\n", 3).await.unwrap_err(),
            "closed the connection before it answered"
        );
        assert_eq!(
            told(&b"HTTP/1.1 200 OK\r\nA: b\r\n".repeat(9000), 4096).await.unwrap_err(),
            "answered what is no HTTP"
        );
    }

    #[tokio::test]
    async fn the_parent_gets_the_name_and_the_credentials_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("parent.txt");
        crate::config::private::write_private(&path, b"relay:secret\n").unwrap();
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
        connect(ours, &to, Some(&credentials)).await.unwrap();
        assert_eq!(
            asked.await.unwrap(),
            "CONNECT license.qlikcloud.com:443 HTTP/1.1\r\nHost: license.qlikcloud.com:443\r\n\
             Proxy-Authorization: Basic cmVsYXk6c2VjcmV0\r\n\r\n"
        );
    }
}
