//! The IO of a client's conversation, with the waits that hyper leaves to us.
//!
//! hyper's own head time-out also bounds idling, so it is off: here a kept connection may idle for
//! [`bounds::IDLE`], a head that has begun must end within [`bounds::HEAD`], a write must move within
//! [`bounds::STALL`]. While it idles, it may have to give way to another connection. A closed connection is read on for a
//! moment, so that the client sees the reply and no reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::bounds;
use crate::policy::places::ConnectionPlace;

/// Counts the beginnings and ends of requests: odd while one is in hand; its own waits then hold, and the idle clock
/// stands still. A count, because a short request may begin and end without a read in between.
#[derive(Clone, Debug, Default)]
pub struct Busy(Arc<AtomicUsize>);

impl Busy {
    /// A request has begun, or its reply is ready.
    pub fn turn(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    fn turns(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// A stream with waits.
#[derive(Debug)]
pub struct Guard<S> {
    inner: S,
    busy: Busy,
    place: Arc<ConnectionPlace>,
    /// As many as there were at the last read.
    turns: usize,
    read: Pin<Box<Sleep>>,
    reading: ReadState,
    /// Armed while a write can't move.
    write: Option<Pin<Box<Sleep>>>,
    closing: Option<Closing>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ReadState {
    /// A request is in hand.
    Request,
    /// Waiting for the first byte of a head.
    Idle,
    /// A head has begun.
    Head,
}

#[derive(Debug)]
struct Closing {
    until: Pin<Box<Sleep>>,
    left: u64,
}

impl<S> Guard<S> {
    /// Guards a stream whose first head has been read already.
    pub fn new(inner: S, busy: Busy, place: Arc<ConnectionPlace>) -> Self {
        let read = Box::pin(sleep_until(Instant::now() + bounds::HEAD));
        Self { inner, busy, place, turns: 0, read, reading: ReadState::Head, write: None, closing: None }
    }

    /// The stream, to be closed without what [`Guard::poll_shutdown`] does for a client that may still be sending.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn watch(&mut self, reading: ReadState, wait: std::time::Duration) {
        self.reading = reading;
        self.read.as_mut().reset(Instant::now() + wait);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let turns = self.busy.turns();
        if turns % 2 == 1 {
            self.reading = ReadState::Request;
        } else if turns != self.turns {
            self.watch(ReadState::Idle, bounds::IDLE);
            self.place.rest();
        }
        self.turns = turns;
        if polled.is_ready() {
            if buffer.filled().len() > before && self.reading == ReadState::Idle {
                self.watch(ReadState::Head, bounds::HEAD);
                if !self.place.work() {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
            }
            return polled;
        }
        if self.reading != ReadState::Request {
            ready!(self.read.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    /// A write that can't move for too long ends the connection.
    fn moved<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.write = None;
            if self.reading == ReadState::Idle {
                self.watch(ReadState::Idle, bounds::IDLE);
                self.place.rest();
            }
            return polled;
        }
        if self.write.is_none() && self.reading == ReadState::Idle && !self.place.work() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let stalled = self.write.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + bounds::STALL)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.moved(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(context, bytes);
        self.moved(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(context);
        self.moved(context, polled)
    }

    /// Closes our side, then reads on until the client closes its own, within [`bounds::LINGER`].
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            let polled = Pin::new(&mut self.inner).poll_shutdown(context);
            ready!(self.moved(context, polled))?;
            let until = Box::pin(sleep_until(Instant::now() + bounds::LINGER));
            self.closing = Some(Closing { until, left: bounds::LINGER_BYTES });
        }
        let this = &mut *self;
        let Some(closing) = &mut this.closing else { return Poll::Ready(Ok(())) };
        let mut scratch = [0; 4096];
        while closing.until.as_mut().poll(context).is_pending() {
            if closing.left == 0 {
                // No more is read, but closing now would be a reset, which takes the reply from the client's hands.
                return Poll::Pending;
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.inner).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    closing.left = closing.left.saturating_sub(buffer.filled().len() as u64);
                }
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
