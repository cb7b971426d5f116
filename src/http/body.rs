//! Bodies: a request's, read whole within limits and wiped after use; a reply's, framed as the back end framed it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

use crate::bounds;
use crate::upstream::send::ReplyBody;

/// Memory is counted in pieces of this many bytes.
const PIECE: u64 = 16 * 1024;

/// The memory for all request bodies together.
#[derive(Clone, Debug)]
pub struct BodyMemory {
    pieces: Arc<ArcSwap<Semaphore>>,
}

/// A request body that was read whole. Its memory is given back, and wiped, when the last of it is dropped.
#[derive(Debug)]
pub struct WholeBody {
    /// The bytes.
    pub bytes: Bytes,
    _memory: Option<OwnedSemaphorePermit>,
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
    /// The memory for bodies is taken (`limits.all_bodies`).
    #[error("too many request bodies at once")]
    NoMemory,
    /// The client closed, or the body's framing is wrong.
    #[error("the request body is not whole")]
    Broken(#[source] hyper::Error),
}

impl BodyMemory {
    /// As many bytes as `limits.all_bodies` gives.
    pub fn new(all_bodies: u64) -> Self {
        Self { pieces: Arc::new(ArcSwap::from_pointee(semaphore(all_bodies))) }
    }

    /// Gives more or less from now on; bodies that are held already count under what was before.
    pub fn resize(&self, all_bodies: u64) {
        self.pieces.store(Arc::new(semaphore(all_bodies)));
    }

    /// Reads a body of at most `max_body` bytes to its end.
    ///
    /// # Errors
    /// See [`BodyError`]; what was read is wiped.
    pub async fn read(&self, mut body: Incoming, max_body: u64) -> Result<WholeBody, BodyError> {
        let pieces = self.pieces.load_full();
        let announced = body.size_hint().exact();
        if announced.is_some_and(|length| length > max_body) {
            return Err(BodyError::TooLarge(max_body));
        }
        let mut memory = None;
        take(&pieces, &mut memory, announced.unwrap_or(0)).await?;
        let mut bytes =
            Zeroizing::new(Vec::with_capacity(usize::try_from(announced.unwrap_or(0)).unwrap_or(0)));
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
            take(&pieces, &mut memory, length).await?;
            if bytes.capacity() - bytes.len() < data.len() {
                grow(&mut bytes, data.len());
            }
            bytes.extend_from_slice(&data);
        }
        let bytes = if bytes.is_empty() { Bytes::new() } else { Bytes::from_owner(bytes) };
        Ok(WholeBody { bytes, _memory: memory })
    }
}

fn semaphore(bytes: u64) -> Semaphore {
    let pieces = usize::try_from(bytes.div_ceil(PIECE)).unwrap_or(usize::MAX);
    Semaphore::new(pieces.min(Semaphore::MAX_PERMITS))
}

/// Takes memory until `held` covers so many bytes.
async fn take(
    pieces: &Arc<Semaphore>,
    held: &mut Option<OwnedSemaphorePermit>,
    bytes: u64,
) -> Result<(), BodyError> {
    let have = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
    let want = usize::try_from(bytes.div_ceil(PIECE)).unwrap_or(usize::MAX);
    let Ok(more) = u32::try_from(want.saturating_sub(have)) else { return Err(BodyError::NoMemory) };
    if more == 0 {
        return Ok(());
    }
    let waiting = timeout(bounds::BODY_MEMORY, pieces.clone().acquire_many_owned(more)).await;
    let Ok(Ok(permit)) = waiting else { return Err(BodyError::NoMemory) };
    match held {
        Some(held) => held.merge(permit),
        None => *held = Some(permit),
    }
    Ok(())
}

/// A plain `Vec` would leave a copy of the token behind when it grows.
fn grow(bytes: &mut Zeroizing<Vec<u8>>, more: usize) {
    let mut larger = Zeroizing::new(Vec::with_capacity((2 * bytes.capacity()).max(bytes.len() + more)));
    larger.extend_from_slice(bytes);
    *bytes = larger;
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
