//! A stream of any kind, plain or in TLS in TLS, with the bytes that were read to judge it put back in front.

pub mod socket;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

use crate::bounds;

/// What a stream must be able to do.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream of any kind, so that TLS in TLS in TCP is one type and compiled once.
pub struct AnyStream(Box<dyn Stream>);

impl AnyStream {
    /// Any stream.
    pub fn new(stream: impl Stream + 'static) -> Self {
        Self(Box::new(stream))
    }
}

impl fmt::Debug for AnyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyStream")
    }
}

/// A stream with bytes in front of it.
#[derive(Debug)]
pub struct Rewound<S> {
    front: Bytes,
    inner: S,
}

impl<S> Rewound<S> {
    /// Puts bytes in front.
    pub fn new(front: Bytes, inner: S) -> Self {
        Self { front, inner }
    }
}

impl<S> Rewound<S> {
    /// Puts back bytes that were read from it.
    pub fn put_back(&mut self, bytes: Bytes) {
        self.front =
            if self.front.is_empty() { bytes } else { [&bytes[..], &self.front[..]].concat().into() };
    }
}

impl<S: AsyncRead + Unpin> Rewound<S> {
    /// The first byte, which stays unread.
    pub async fn first_byte(&mut self, deadline: Instant) -> First {
        if let Some(first) = self.front.first() {
            return First::Byte(*first);
        }
        let mut first = [0; 1];
        match timeout_at(deadline, self.inner.read(&mut first)).await {
            Ok(Ok(1)) => {
                self.front = Bytes::copy_from_slice(&first);
                First::Byte(first[0])
            }
            Ok(Ok(_)) => First::Closed(None),
            Ok(Err(e)) => First::Closed(Some(e)),
            Err(_) => First::Silence,
        }
    }
}

/// How a stream begins.
#[derive(Debug)]
pub enum First {
    /// With this byte.
    Byte(u8),
    /// It was closed, or broke, without one.
    Closed(Option<io::Error>),
    /// With nothing, until the deadline.
    Silence,
}

/// Sends a last word and closes so that the client sees it: our side first, then its unread bytes for a moment.
pub async fn last_word(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), word: &[u8]) {
    let said = async {
        stream.write_all(word).await?;
        stream.shutdown().await
    };
    if !matches!(timeout(bounds::STALL, said).await, Ok(Ok(()))) {
        return;
    }
    let mut scratch = [0; 4096];
    let mut left = bounds::LINGER_BYTES;
    let unread = async {
        while left > 0 {
            match stream.read(&mut scratch).await {
                Ok(read) if read > 0 => left = left.saturating_sub(read as u64),
                _ => return,
            }
        }
        // Closing now would be a reset, which takes the word from the peer's hands.
        std::future::pending().await
    };
    // Whoever goes on sending for longer is cut off.
    let _ = timeout(bounds::LINGER, unread).await;
}

impl AsyncRead for AnyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for AnyStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.front.is_empty() {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        let length = self.front.len().min(buffer.remaining());
        buffer.put_slice(&self.front[..length]);
        self.front.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
