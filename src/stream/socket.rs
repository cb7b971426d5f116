//! The TCP socket of a client: a stream that also knows since when no bytes have moved, so that a connection that has
//! nothing to say can be told from one whose request is just arriving.

use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A handle to the socket; the connection is closed when the last one is dropped.
#[derive(Clone, Debug)]
pub struct ClientSocket(Arc<SocketState>);

#[derive(Debug)]
struct SocketState {
    stream: TcpStream,
    opened: Instant,
    /// When bytes last moved, in milliseconds since it was opened.
    moved: AtomicU64,
}

impl ClientSocket {
    /// A connection that was opened just now.
    pub fn new(stream: TcpStream) -> Self {
        Self(Arc::new(SocketState { stream, opened: Instant::now(), moved: AtomicU64::new(0) }))
    }

    /// Since when no bytes have moved; `None` where bytes have arrived that are still unread.
    pub fn quiet_since(&self) -> Option<Instant> {
        // Looked at first: a reader notes the time before it takes the bytes, so either they are seen here or that time is.
        let unread = SockRef::from(&self.0.stream).peek(&mut [MaybeUninit::uninit()]);
        if unread.is_ok_and(|bytes| bytes > 0) {
            return None;
        }
        Some(self.0.opened + Duration::from_millis(self.0.moved.load(Ordering::SeqCst)))
    }

    fn note_moved(&self) {
        let since = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.moved.store(since, Ordering::SeqCst);
    }

    /// Tries to write whenever the socket is ready, until it takes something.
    fn poll_to_write(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.stream.poll_write_ready(context))?;
            match write(&self.0.stream) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.note_moved();
                    return Poll::Ready(written);
                }
            }
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(context))?;
            self.note_moved();
            match self.0.stream.try_read_buf(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_to_write(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_to_write(context, |stream| stream.try_write_vectored(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match SockRef::from(&self.0.stream).shutdown(Shutdown::Write) {
            // The client has gone before us.
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(()),
            done => done,
        })
    }
}
