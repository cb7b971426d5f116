//! Bodies: a request's, read whole within limits and wiped after use; a reply's, framed as the back end framed it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::bounds;
use crate::policy::limits::client;
use crate::upstream::send::ReplyBody;

/// The memory for all request bodies together, and how much of it each client address holds: what has arrived counts,
/// not what was announced, so that a place costs its bytes.
#[derive(Clone, Debug)]
pub struct BodyMemory(Arc<Account>);

#[derive(Debug)]
struct Account {
    taken: Mutex<Taken>,
    given_back: Notify,
}

#[derive(Debug)]
struct Taken {
    /// `limits.all_bodies`.
    most: u64,
    sum: u64,
    by_address: HashMap<IpAddr, u64>,
}

/// A part of the memory, given back when it is dropped.
#[derive(Debug)]
struct Held {
    account: Arc<Account>,
    address: IpAddr,
    bytes: u64,
}

/// A request body that was read whole. Its memory is given back, and wiped, when the last of it is dropped.
#[derive(Debug)]
pub struct WholeBody {
    /// The bytes.
    pub bytes: Bytes,
    _memory: Held,
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
        let taken = Taken { most: all_bodies, sum: 0, by_address: HashMap::new() };
        Self(Arc::new(Account { taken: Mutex::new(taken), given_back: Notify::new() }))
    }

    /// Gives more or less from now on; bodies that are held already stay.
    pub fn resize(&self, all_bodies: u64) {
        self.0.lock().most = all_bodies;
        self.0.given_back.notify_waiters();
    }

    /// Reads a body of at most `max_body` bytes, of a client at this address, to its end.
    ///
    /// # Errors
    /// See [`BodyError`]; what was read is wiped.
    pub async fn read(
        &self,
        mut body: Incoming,
        max_body: u64,
        address: IpAddr,
    ) -> Result<WholeBody, BodyError> {
        let announced = body.size_hint().exact();
        if announced.is_some_and(|length| length > max_body) {
            return Err(BodyError::TooLarge(max_body));
        }
        let mut memory = Held { account: self.0.clone(), address: client(address), bytes: 0 };
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
            if length > memory.bytes {
                let room = (2 * memory.bytes).max(bounds::BODY_PIECE).min(announced.unwrap_or(max_body));
                memory.grow_to(room.max(length), max_body).await?;
                grow(&mut bytes, memory.bytes)?;
            }
            bytes.extend_from_slice(&data);
        }
        let bytes = if bytes.is_empty() { Bytes::new() } else { Bytes::from_owner(bytes) };
        Ok(WholeBody { bytes, _memory: memory })
    }
}

impl Account {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Takes more, once it is there. Whoever needs little is not kept waiting by one who needs much.
    async fn grow_to(&mut self, bytes: u64, max_body: u64) -> Result<(), BodyError> {
        let deadline = Instant::now() + bounds::BODY_MEMORY;
        loop {
            let account = self.account.clone();
            let given_back = account.given_back.notified();
            if self.take(bytes, max_body) {
                return Ok(());
            }
            timeout_at(deadline, given_back).await.map_err(|_| BodyError::NoMemory)?;
        }
    }

    fn take(&mut self, bytes: u64, max_body: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let mut taken = self.account.lock();
        let Taken { most, sum, by_address } = &mut *taken;
        let share = (*most / bounds::BODIES_SHARE).max(max_body);
        let of_address = by_address.get(&self.address).copied().unwrap_or(0);
        if *sum + more > *most || of_address + more > share {
            return false;
        }
        *sum += more;
        by_address.insert(self.address, of_address + more);
        self.bytes += more;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut taken = self.account.lock();
        taken.sum -= self.bytes;
        if let Some(held) = taken.by_address.get_mut(&self.address) {
            *held -= self.bytes;
            if *held == 0 {
                taken.by_address.remove(&self.address);
            }
        }
        drop(taken);
        self.account.given_back.notify_waiters();
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
mod tests {
    use super::*;

    fn held(memory: &BodyMemory, address: &str) -> Held {
        Held { account: memory.0.clone(), address: client(address.parse().unwrap()), bytes: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_holds_a_quarter_and_gives_back_what_it_held() {
        let memory = BodyMemory::new(400);
        let mut one = held(&memory, "2001:db8::1");
        one.grow_to(60, 50).await.unwrap();
        let mut same_machine = held(&memory, "2001:db8::2");
        assert!(same_machine.grow_to(41, 50).await.is_err(), "a /64 is one machine");
        same_machine.grow_to(40, 50).await.unwrap();
        let mut others = Vec::new();
        for n in 1..4 {
            let mut other = held(&memory, &format!("10.0.0.{n}"));
            other.grow_to(100, 50).await.unwrap();
            others.push(other);
        }
        let mut last = held(&memory, "10.0.0.9");
        assert!(last.grow_to(1, 50).await.is_err(), "all of it is taken");
        drop(others.pop());
        last.grow_to(100, 50).await.unwrap();
        drop((one, same_machine, others, last));
        let left = memory.0.lock();
        assert_eq!((left.sum, left.by_address.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_alone_gets_its_longest_body_and_waits_for_what_is_given_back() {
        let memory = BodyMemory::new(100);
        let mut one = held(&memory, "10.0.0.1");
        one.grow_to(80, 80).await.unwrap();
        let mut second = held(&memory, "10.0.0.1");
        let waiting = tokio::spawn(async move { second.grow_to(80, 80).await.map(|()| second.bytes) });
        tokio::time::sleep(bounds::BODY_MEMORY / 2).await;
        // One that needs little passes by the one that waits for much.
        let mut small = held(&memory, "10.0.0.2");
        small.grow_to(20, 80).await.unwrap();
        drop(one);
        assert_eq!(waiting.await.unwrap().unwrap(), 80);
    }
}
