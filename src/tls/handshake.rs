//! One TLS handshake with a client, answered with the face that its name asks for.

use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
use std::net::IpAddr;

use bytes::BytesMut;
use rustls::server::Acceptor;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use uuid::Uuid;

use super::identities::{Chosen, Faces};
use super::witness::{Undecided, Witness};
use super::{ALPN_HTTP_1_1, Alert, distrust, left};
use crate::bounds;
use crate::observe::facts::{Access, Arrival};
use crate::observe::labels::WayIn;
use crate::stream::{AnyStream, Rewound, last_word};

/// The first byte of a TLS record that holds a handshake (RFC 8446 §5.1).
pub const TLS: u8 = 0x16;

/// Reads a ClientHello without taking it: the name in it, with all its bytes put back.
///
/// # Errors
/// What comes is no ClientHello, or not whole in time.
pub async fn read_hello(stream: &mut Rewound<AnyStream>) -> Result<Option<String>, Failed> {
    let failed = |why: String| Failed { sni: None, why };
    let deadline = Instant::now() + bounds::HANDSHAKE;
    let mut acceptor = Acceptor::default();
    let mut bytes = BytesMut::new();
    loop {
        let known = bytes.len();
        match timeout_at(deadline, stream.read_buf(&mut bytes)).await {
            Ok(Ok(read)) if read > 0 && bytes.len() <= bounds::HEAD_BYTES => {}
            _ => return Err(failed("the ClientHello was not whole in time".into())),
        }
        let mut fresh = &bytes[known..];
        while !fresh.is_empty() {
            acceptor
                .read_tls(&mut fresh)
                .map_err(|e| failed(format!("the ClientHello can't be read: {e}")))?;
            if let Some(accepted) =
                acceptor.accept().map_err(|(e, _)| failed(format!("the ClientHello can't be read: {e}")))?
            {
                let sni = accepted.client_hello().server_name().map(str::to_owned);
                stream.put_back(bytes.freeze());
                return Ok(sni);
            }
        }
    }
}

/// Why a handshake came to nothing.
#[derive(Debug)]
pub struct Failed {
    sni: Option<String>,
    why: String,
}

impl Failed {
    /// Its access line.
    pub fn access(&self, client: IpAddr, way: WayIn, authority: Option<String>) -> Access {
        let arrival = Arrival { sni: self.sni.clone(), authority, host: None };
        let mut access = Access::new(Uuid::now_v7(), client, Some(way), arrival);
        access.no_tls(self.why.clone());
        access
    }
}

/// Reads the ClientHello, in any number of segments and records, and answers it with the face that is chosen; a
/// name that has no face, and a hello that isn't whole in time, are answered with an alert.
///
/// # Errors
/// There is no TLS with this client, and why.
pub async fn handshake(
    stream: Rewound<AnyStream>,
    client: IpAddr,
    faces: &Faces,
    choose: impl FnOnce(Option<&str>) -> Option<Chosen>,
) -> Result<(Witness<TlsStream<Rewound<AnyStream>>>, Option<String>), Failed> {
    let deadline = Instant::now() + bounds::HANDSHAKE;
    let failed = |sni: Option<String>, why: String| Failed { sni, why };
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let start = match timeout_at(deadline, &mut acceptor).await {
        Ok(Ok(start)) => start,
        Ok(Err(e)) => return Err(failed(None, format!("the ClientHello can't be read: {e}"))),
        Err(_) => {
            if let Some(mut stream) = acceptor.take_io() {
                last_word(&mut stream, &Alert::HandshakeFailure.to_bytes()).await;
            }
            return Err(failed(None, "the ClientHello was not whole in time".into()));
        }
    };
    let sni = start.client_hello().server_name().map(str::to_owned);
    let speaks_http_1_1 = start
        .client_hello()
        .alpn()
        .is_none_or(|mut offered| offered.any(|protocol| protocol == ALPN_HTTP_1_1));
    let Some(Chosen { face, config, config_without_alpn, root }) = choose(sni.as_deref()) else {
        let mut stream = start.io;
        last_word(&mut stream, &Alert::UnrecognizedName.to_bytes()).await;
        return Err(failed(sni, "no certificate for this name is served here".into()));
    };
    // Where that takes too long, what there is may still do.
    let _ = timeout(bounds::RENEWAL_WAIT, face.freshen()).await;
    let undecided = Undecided::new(faces, client, root);
    match timeout_at(deadline, start.into_stream(if speaks_http_1_1 { config } else { config_without_alpn }))
        .await
    {
        Ok(Ok(stream)) => Ok((Witness::new(stream, undecided), sni)),
        Ok(Err(e)) => {
            let distrust = distrust(&e);
            let gone = matches!(e.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe);
            match undecided {
                Some(undecided) if distrust.is_some() => undecided.refused(),
                Some(undecided) if gone => undecided.left(),
                _ => {}
            }
            let why = match distrust {
                _ if gone => left(Some(&e)).into(),
                Some(distrust) => distrust.into(),
                None => format!("the handshake failed: {e}"),
            };
            Err(failed(sni, why))
        }
        Err(_) => Err(failed(sni, "the handshake was not over in time".into())),
    }
}

#[cfg(test)]
mod tests;
