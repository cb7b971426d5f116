//! What a client shows of its trust in our root, decided in one place for all ways in.
//!
//! That a handshake ends well shows nothing: .NET, GnuTLS and Node check the certificate after it and leave without a
//! word, and a probe checks nothing. A client trusts the root once it asks for something. It refuses where it says so, or
//! leaves at once without having asked; one that leaves later had no need of us, and nothing is known of it.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::identities::Faces;
use super::trust::TrustTable;
use crate::bounds;

/// A client that was shown a root, and has not said yet what it thinks of it.
#[derive(Debug)]
pub(super) struct Undecided {
    trust: Arc<TrustTable>,
    client: IpAddr,
    root: Arc<str>,
    since: Instant,
}

impl Undecided {
    /// `None` where the company's own PKI made the leaf: its root is not known.
    pub(super) fn new(faces: &Faces, client: IpAddr, root: Arc<str>) -> Option<Self> {
        let trust = faces.trust().clone();
        (!root.is_empty()).then(|| Self { trust, client, root, since: Instant::now() })
    }

    /// It has asked for something.
    fn asked(self) {
        self.trust.note(self.client, &self.root, true);
    }

    /// It has said that it does not trust the root.
    pub(super) fn refused(self) {
        self.trust.note(self.client, &self.root, false);
    }

    /// It has gone, and asked for nothing.
    pub(super) fn left(self) {
        if self.since.elapsed() < bounds::TRUST_LEFT {
            self.refused();
        }
    }
}

/// A stream inside TLS that notes what its first bytes, or its end before any, show.
#[derive(Debug)]
pub struct Witness<S> {
    stream: S,
    undecided: Option<Undecided>,
}

impl<S> Witness<S> {
    pub(super) fn new(stream: S, undecided: Option<Undecided>) -> Self {
        Self { stream, undecided }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Witness<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining() > 0);
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if room && let Some(undecided) = self.undecided.take() {
            match read {
                Ok(()) if buffer.filled().len() > before => undecided.asked(),
                // Here come alerts, too: in TLS 1.3 a client checks our certificate when the handshake is over for us.
                _ => undecided.left(),
            }
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Witness<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::advance;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// What is known of a client that sends these bytes, and leaves after this time.
    async fn known(sent: &[u8], after: std::time::Duration) -> Option<bool> {
        let folder = tempfile::tempdir().unwrap();
        let trust = Arc::new(TrustTable::open(folder.path()));
        let undecided =
            Undecided { trust: trust.clone(), client: CLIENT, root: "root".into(), since: Instant::now() };
        let (mut client, ours) = duplex(64);
        let mut witness = Witness::new(ours, Some(undecided));
        client.write_all(sent).await.unwrap();
        advance(after).await;
        drop(client);
        witness.read_to_end(&mut Vec::new()).await.unwrap();
        trust.refuses(CLIENT, "root").map(|refuses| !refuses)
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_trusts_who_leaves_at_once_refuses_and_of_who_leaves_later_nothing_is_known() {
        let at_once = std::time::Duration::from_millis(1);
        assert_eq!(known(b"GET /", at_once).await, Some(true));
        assert_eq!(known(b"GET /", bounds::TRUST_LEFT).await, Some(true));
        assert_eq!(known(b"", at_once).await, Some(false));
        assert_eq!(known(b"", bounds::TRUST_LEFT).await, None);
    }
}
