//! Bodies: a request's, read whole within limits and wiped after use; a reply's, framed as the back end framed it.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::bounds;
use crate::memory::{Account, MemoryShare};
use crate::upstream::send::ReplyBody;

/// A request body that was read whole. Its memory is given back, and wiped, when the last of it is dropped.
#[derive(Debug)]
pub struct WholeBody {
    /// The bytes.
    pub bytes: Bytes,
    _memory: MemoryShare,
}

/// Why a request body can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Longer than `limits.max_body`.
    #[error("the request body is longer than limits.max_body ({0} bytes)")]
    TooLarge(u64),
    /// Not whole in time.
    #[error("the request body did not arrive in time")]
    Late,
    /// The memory for bodies is taken.
    #[error("too many request bodies at once (limits.all_bodies)")]
    NoMemory,
    /// The client closed, or the body's framing is wrong.
    #[error("the request body is not whole")]
    Broken(#[source] hyper::Error),
}

impl WholeBody {
    /// Reads a body of at most `max_body` bytes, of a client at this address, to its end. What has arrived counts, not what
    /// was announced, so that a place costs its bytes.
    ///
    /// # Errors
    /// See [`BodyError`]; what was read is wiped.
    pub async fn read(
        memory: &Account,
        mut body: Incoming,
        max_body: u64,
        address: IpAddr,
    ) -> Result<Self, BodyError> {
        let announced = body.size_hint().exact();
        if announced.is_some_and(|length| length > max_body) {
            return Err(BodyError::TooLarge(max_body));
        }
        let mut memory = memory.hold(address);
        let mut bytes = Zeroizing::new(Vec::new());
        let begun = Instant::now();
        loop {
            let due = bounds::BODY_HEAD_START + Duration::from_secs(bytes.len() as u64 / bounds::BODY_RATE);
            let stalled = (begun + due.min(bounds::BODY)).min(Instant::now() + bounds::STALL);
            let frame = timeout_at(stalled, body.frame()).await.map_err(|_| BodyError::Late)?;
            let Some(frame) = frame else { break };
            let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
            let length = bytes.len() as u64 + data.len() as u64;
            if length > max_body {
                return Err(BodyError::TooLarge(max_body));
            }
            if length > bytes.capacity() as u64 {
                let room = (2 * bytes.capacity() as u64).max(bounds::BODY_PIECE);
                let capacity = room.min(announced.unwrap_or(max_body)).max(length);
                if !memory.grow_to(capacity, Instant::now() + bounds::BODY_MEMORY).await {
                    return Err(BodyError::NoMemory);
                }
                grow(&mut bytes, capacity)?;
            }
            bytes.extend_from_slice(&data);
        }
        let bytes = if bytes.is_empty() { Bytes::new() } else { Bytes::from_owner(bytes) };
        Ok(Self { bytes, _memory: memory })
    }
}

/// A plain `Vec` would leave a copy of the token behind when it grows, and end the process where the system has no memory.
fn grow(bytes: &mut Zeroizing<Vec<u8>>, capacity: u64) -> Result<(), BodyError> {
    let mut larger = Zeroizing::new(Vec::new());
    let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
    larger.try_reserve_exact(capacity).map_err(|_| BodyError::NoMemory)?;
    larger.extend_from_slice(bytes);
    *bytes = larger;
    Ok(())
}

/// The body of what is sent to a client.
#[derive(Debug)]
pub enum Outgoing {
    /// Sent with its length.
    Sized(Option<Bytes>),
    /// Sent without a length, because the back end sent it so.
    Unsized(Option<Bytes>),
    /// The start of a long reply, and the rest as it comes.
    Streamed(Option<Bytes>, Incoming),
}

impl Outgoing {
    /// A reply's body; `sized` where its head has a Content-Length.
    pub fn new(body: ReplyBody, sized: bool) -> Self {
        match body {
            ReplyBody::Whole(bytes) if sized => Self::Sized(Some(bytes)),
            ReplyBody::Whole(bytes) => Self::Unsized(Some(bytes)),
            ReplyBody::Streamed(start, rest) => Self::Streamed(Some(start), rest),
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let take = |bytes: &mut Option<Bytes>| {
            bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes)))
        };
        match &mut *self {
            Self::Sized(bytes) | Self::Unsized(bytes) => Poll::Ready(take(bytes)),
            Self::Streamed(start, rest) => match take(start) {
                Some(frame) => Poll::Ready(Some(frame)),
                None => Pin::new(rest).poll_frame(context),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Sized(None) | Self::Unsized(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Sized(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Unsized(_) => SizeHint::default(),
            Self::Streamed(start, rest) => match rest.size_hint().exact() {
                Some(length) => {
                    SizeHint::with_exact(length + start.as_ref().map_or(0, |bytes| bytes.len() as u64))
                }
                None => SizeHint::default(),
            },
        }
    }
}

#[cfg(test)]
mod tests;
