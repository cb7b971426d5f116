//! One request, one reply: the rule that nothing is sent twice.
//!
//! Consumption is a delta, so a request whose bytes may have reached the back end is never sent again. It is sent
//! once more only if the connection had been kept *and* hyper hands the request back unsent, and then on a fresh one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use super::UpstreamError;
use super::dial::{Asked, Dialer};
use super::pool::{Connection, Pool};
use crate::bounds;
use crate::config::model::{Destination, Mode, Upstream};
use crate::stream::AnyStream;

/// Sends requests to the back end.
#[derive(Debug)]
pub struct Sender {
    /// Makes connections.
    pub dialer: Dialer,
    pool: Arc<Pool>,
    response_timeout: Duration,
}

/// A reply, and how it came.
#[derive(Debug)]
pub struct Reply {
    /// Status, reason and headers, with an empty body.
    pub head: Response<()>,
    /// The body.
    pub body: ReplyBody,
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
    /// Longer than [`bounds::REPLY_BYTES`]: what was read, and the rest as it comes.
    Streamed(Bytes, Incoming),
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

    /// Sends a request and reads its reply.
    ///
    /// # Errors
    /// There is no reply, or not all of it.
    pub async fn send(&self, to: &Destination, request: Request<Full<Bytes>>) -> Result<Reply, SendError> {
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
                Ok(Ok(response)) => return self.read(to, connection, response, deadline, resent).await,
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
            (opened.stream, opened.address, Asked::default())
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
                tracing::debug!("a connection to the back end ended: {}", super::whole_cause(&e));
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
        resent: bool,
    ) -> Result<Reply, SendError> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let error = UpstreamError::Switched { host: to.host.to_string() };
            return Err(SendError { error, sent: true, address: Some(connection.address) });
        }
        let (parts, mut incoming) = response.into_parts();
        let head = Response::from_parts(parts, ());
        let address = connection.address;
        let expected = incoming.size_hint().exact().unwrap_or(0).min(bounds::REPLY_BYTES as u64);
        let mut read = BytesMut::with_capacity(usize::try_from(expected).unwrap_or(0));
        while let Some(frame) =
            timeout_at(deadline, incoming.frame()).await.map_err(|_| self.late(to, &connection))?
        {
            let frame = frame.map_err(|cause| incomplete(to, &connection, cause, true))?;
            // Trailers are dropped: the client was promised none (RFC 9110 §6.5.1).
            if let Ok(data) = frame.into_data() {
                read.extend_from_slice(&data);
            }
            if read.len() > bounds::REPLY_BYTES {
                return Ok(Reply {
                    head,
                    body: ReplyBody::Streamed(read.freeze(), incoming),
                    address,
                    resent,
                });
            }
        }
        self.pool.keep(to, connection);
        Ok(Reply { head, body: ReplyBody::Whole(read.freeze()), address, resent })
    }

    fn late(&self, to: &Destination, connection: &Connection) -> SendError {
        let error =
            UpstreamError::ResponseTimeout { host: to.host.to_string(), after: self.response_timeout };
        SendError { error, sent: true, address: Some(connection.address) }
    }
}

fn incomplete(to: &Destination, connection: &Connection, cause: hyper::Error, sent: bool) -> SendError {
    let host = to.host.to_string();
    // With TLS 1.3 the demand is only known once the first reply doesn't come.
    let error = match connection.asked.for_a_certificate() {
        true => UpstreamError::WantsCertificate { host },
        false => UpstreamError::Incomplete { host, cause },
    };
    SendError { error, sent, address: Some(connection.address) }
}
