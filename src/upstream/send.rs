//! One request, one reply: the rule that nothing is sent twice.
//!
//! Consumption is a delta, so a request whose bytes may have reached the back end is never sent again. It is sent
//! once more only if the connection had been kept *and* hyper hands the request back unsent, and then on a fresh one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use super::dial::{ClientCertificateRequested, Dialer};
use super::error::UpstreamError;
use super::pool::{Connection, Pool};
use crate::bounds;
use crate::config::model::{Destination, Mode, Upstream};
use crate::memory::{Account, MemoryShare};
use crate::stream::AnyStream;
use relay_log::text::causes::whole_cause;

/// Sends requests to the back end.
#[derive(Debug)]
pub struct Sender {
    /// Makes connections.
    pub dialer: Dialer,
    pool: Arc<Pool>,
    response_timeout: Duration,
}

/// Where there is memory for a reply that is longer than [`bounds::QUICK_BODY`], and for what any reply tells.
#[derive(Clone, Copy)]
pub struct ReplyRoom<'r> {
    /// The account of replies.
    pub account: &'r Account,
    /// Whose request it is.
    pub client: IpAddr,
    /// How much is kept at most of what a body tells that has these headers and so many bytes.
    pub kept: &'r (dyn Fn(&HeaderMap, usize) -> u64 + Sync),
}

/// A reply, and how it came.
#[derive(Debug)]
pub struct Reply {
    /// Status, reason and headers, with an empty body.
    pub head: Response<()>,
    /// The body.
    pub body: ReplyBody,
    /// The memory for what it tells, or why it can't be read.
    pub memory: Result<MemoryShare, &'static str>,
    /// Where it came from.
    pub address: SocketAddr,
    /// The request was handed back unsent by a kept connection and went out on a fresh one.
    pub resent: bool,
}

/// The body of a reply.
#[derive(Debug)]
pub enum ReplyBody {
    /// Read to its end.
    Whole(Bytes),
    /// It is not read: what has come of it, and the rest as it comes.
    Streamed(Bytes, Incoming),
}

impl ReplyBody {
    /// How many bytes it has, as far as that is known.
    pub fn length(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Streamed(start, rest) => start.len() as u64 + rest.size_hint().exact().unwrap_or(0),
        }
    }
}

/// Why a reply is not read that is longer than is read.
const TOO_LONG: &str = "the reply is longer than 8388608 bytes";
const _: () = assert!(bounds::REPLY_BYTES == 8_388_608, "the words above name the bound");
/// Why one is not read for which there was no memory as long as it may take.
const NO_MEMORY: &str = "there was no memory to read the reply in (limits.all_bodies)";

/// A body that was read whole. Its memory is given back when the last of it is dropped.
struct WholeReply {
    bytes: Vec<u8>,
    _memory: Option<MemoryShare>,
}

impl AsRef<[u8]> for WholeReply {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why there is no reply, and whether the back end may have the request.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct SendError {
    /// Why.
    #[source]
    pub error: UpstreamError,
    /// `false` only where not one byte of the request can have reached the back end.
    pub sent: bool,
    /// Where the request went, if it went anywhere.
    pub address: Option<SocketAddr>,
}

impl Sender {
    /// A sender with an empty pool.
    pub fn new(dialer: Dialer, upstream: &Upstream) -> Self {
        Self { dialer, pool: Arc::default(), response_timeout: upstream.response_timeout }
    }

    /// Sends a request and reads its reply, where there is room to.
    ///
    /// # Errors
    /// There is no reply, or not all of it.
    pub async fn send(
        &self,
        to: &Destination,
        request: Request<Full<Bytes>>,
        room: ReplyRoom<'_>,
    ) -> Result<Reply, SendError> {
        let deadline = Instant::now() + self.response_timeout;
        let mut kept = self.pool.take(to);
        let (mut request, mut resent) = (request, false);
        loop {
            let reused = kept.is_some();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => self.connect(to).await?,
            };
            let sending = connection.sender.try_send_request(request);
            let mut refused = match timeout_at(deadline, sending).await {
                Ok(Ok(response)) => {
                    let (head, body, address, memory) =
                        self.read(to, connection, response, deadline, room).await?;
                    return Ok(Reply { head, body, memory, address, resent });
                }
                Ok(Err(refused)) => refused,
                Err(_) => return Err(self.late(to, &connection)),
            };
            match refused.take_message() {
                // The next connection is a fresh one, so this happens once at most.
                Some(unsent) if reused => (request, resent) = (unsent, true),
                unsent => return Err(incomplete(to, &connection, refused.into_error(), unsent.is_none())),
            }
        }
    }

    /// Closes all kept connections.
    pub fn close(&self) {
        self.pool.clear();
    }

    async fn connect(&self, to: &Destination) -> Result<Connection, SendError> {
        let unsent = |error| SendError { error, sent: false, address: None };
        let (stream, address, asked) = if to.mode == Mode::Http {
            let opened = self.dialer.open(to).await.map_err(unsent)?;
            (opened.stream, opened.address, ClientCertificateRequested::default())
        } else {
            let dialled = self.dialer.dial(to).await.map_err(unsent)?;
            (AnyStream::new(dialled.stream), dialled.address, dialled.asked)
        };
        let handshake = http1::Builder::new()
            .preserve_header_case(true)
            .max_buf_size(bounds::REPLY_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = handshake
            .map_err(|cause| unsent(UpstreamError::Incomplete { host: to.host.to_string(), cause }))?;
        // Ends by itself once the sender is gone or the back end closes.
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!("a connection to the back end ended: {}", whole_cause(&e));
            }
        });
        Ok(Connection { sender, address, born: Instant::now(), asked })
    }

    async fn read(
        &self,
        to: &Destination,
        connection: Connection,
        response: Response<Incoming>,
        deadline: Instant,
        room: ReplyRoom<'_>,
    ) -> Result<(Response<()>, ReplyBody, SocketAddr, Result<MemoryShare, &'static str>), SendError> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let error = UpstreamError::Switched { host: to.host.to_string() };
            return Err(SendError { error, sent: true, address: Some(connection.address) });
        }
        let (parts, mut incoming) = response.into_parts();
        let head = Response::from_parts(parts, ());
        let address = connection.address;
        let announced = incoming.size_hint().exact().map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let (mut bytes, mut memory, mut why) = (Vec::new(), None, None);
        if announced.is_some_and(|length| length > bounds::REPLY_BYTES) {
            why = Some(TOO_LONG);
        }
        while why.is_none()
            && let Some(frame) =
                timeout_at(deadline, incoming.frame()).await.map_err(|_| self.late(to, &connection))?
        {
            let frame = frame.map_err(|cause| incomplete(to, &connection, cause, true))?;
            // Trailers are dropped: the client was promised none (RFC 9110 §6.5.1).
            let Ok(data) = frame.into_data() else { continue };
            if memory.is_none() && bytes.len() + data.len() > bounds::QUICK_BODY {
                let most = announced.unwrap_or(bounds::REPLY_BYTES);
                memory = room.take(head.headers(), most, true, deadline).await;
                if memory.is_none() || bytes.try_reserve_exact(most).is_err() {
                    why = Some(NO_MEMORY);
                }
            }
            bytes.extend_from_slice(&data);
            if bytes.len() > bounds::REPLY_BYTES {
                why = Some(TOO_LONG);
            }
        }
        if let Some(why) = why {
            if let Some(memory) = &mut memory {
                memory.shrink_to(bytes.len() as u64);
            }
            let start = Bytes::from_owner(WholeReply { bytes, _memory: memory });
            return Ok((head, ReplyBody::Streamed(start, incoming), address, Err(why)));
        }
        self.pool.keep(to, connection);
        let length = bytes.len();
        let (memory, kept) = match memory {
            Some(mut memory) => {
                let kept = memory.split((room.kept)(head.headers(), length));
                memory.shrink_to(length as u64);
                (Some(memory), Ok(kept))
            }
            None => (None, room.take(head.headers(), length, false, deadline).await.ok_or(NO_MEMORY)),
        };
        let body = if bytes.is_empty() {
            Bytes::new()
        } else {
            Bytes::from_owner(WholeReply { bytes, _memory: memory })
        };
        Ok((head, ReplyBody::Whole(body), address, kept))
    }

    fn late(&self, to: &Destination, connection: &Connection) -> SendError {
        let error =
            UpstreamError::ResponseTimeout { host: to.host.to_string(), after: self.response_timeout };
        SendError { error, sent: true, address: Some(connection.address) }
    }
}

impl ReplyRoom<'_> {
    /// Memory for what a body tells that has so many bytes at most, and for these where they are `long`.
    async fn take(
        &self,
        headers: &HeaderMap,
        most: usize,
        long: bool,
        deadline: Instant,
    ) -> Option<MemoryShare> {
        let bytes = if long { most as u64 } else { 0 };
        self.account.take(self.client, bytes + (self.kept)(headers, most), deadline).await
    }
}

fn incomplete(to: &Destination, connection: &Connection, cause: hyper::Error, sent: bool) -> SendError {
    let host = to.host.to_string();
    // With TLS 1.3 the demand is only known once the first reply doesn't come.
    let error = match connection.asked.was_seen() {
        true => UpstreamError::WantsCertificate { host },
        false => UpstreamError::Incomplete { host, cause },
    };
    SendError { error, sent, address: Some(connection.address) }
}

#[cfg(test)]
mod tests;
