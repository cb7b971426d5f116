//! Copies bytes in both directions, unread: half-close is kept, and nothing waits for ever.
//!
//! The end of one side is passed on to the other; the direction that is left then lives for as long as bytes come, and
//! [`bounds::HALF_CLOSED`] more. A buffer is borrowed only while bytes flow, so that an idle tunnel holds none.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, split};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::bounds;
use crate::exchange::tunnel::EndedBy;
use crate::stream::AnyStream;

/// Buffers that tunnels share.
#[derive(Debug, Default)]
pub struct Buffers(Mutex<Vec<Box<[u8]>>>);

/// What a tunnel did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Copied {
    /// Bytes from the client to the destination.
    pub sent: u64,
    /// Bytes from the destination to the client.
    pub received: u64,
    /// What ended it.
    pub ended_by: EndedBy,
}

/// Copies until both sides have ended, one breaks, a wait does, or something else ends it and says what.
pub async fn copy(
    client: AnyStream,
    destination: AnyStream,
    buffers: &Buffers,
    stop: &CancellationToken,
    ended: impl Future<Output = EndedBy>,
) -> Copied {
    let (client_read, client_write) = split(client);
    let (destination_read, destination_write) = split(destination);
    let (moved, mut last) = watch::channel(Instant::now());
    let (mut sent, mut received) = (0, 0);
    let ended_by = {
        let mut up = std::pin::pin!(one_way(client_read, destination_write, buffers, &moved, &mut sent));
        let mut down =
            std::pin::pin!(one_way(destination_read, client_write, buffers, &moved, &mut received));
        let (mut up_ended, mut down_ended) = (false, false);
        let mut first = None;
        let oldest = Instant::now() + bounds::TUNNEL_AGE;
        let mut ended = std::pin::pin!(ended);
        loop {
            let patience = if first.is_some() { bounds::HALF_CLOSED } else { bounds::TUNNEL_IDLE };
            let idle = *last.borrow_and_update() + patience;
            tokio::select! {
                ended = &mut up, if !up_ended => {
                    up_ended = true;
                    first.get_or_insert(EndedBy::Client);
                    if ended.is_err() {
                        break first.unwrap_or(EndedBy::Client);
                    }
                }
                ended = &mut down, if !down_ended => {
                    down_ended = true;
                    first.get_or_insert(EndedBy::Destination);
                    if ended.is_err() {
                        break first.unwrap_or(EndedBy::Destination);
                    }
                }
                _ = last.changed() => {}
                () = sleep_until(idle) => break first.unwrap_or(EndedBy::Idle),
                () = sleep_until(oldest) => break EndedBy::Age,
                () = stop.cancelled() => break EndedBy::Stop,
                by = &mut ended => break by,
            }
            if up_ended && down_ended {
                break first.unwrap_or(EndedBy::Client);
            }
        }
    };
    Copied { sent, received, ended_by }
}

/// Copies one direction to its end and tells the other side that it has ended.
async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    buffers: &Buffers,
    moved: &watch::Sender<Instant>,
    count: &mut u64,
) -> io::Result<()> {
    loop {
        let (buffer, length) = buffers.fill(&mut from).await?;
        if length == 0 {
            buffers.give_back(buffer);
            return to.shutdown().await;
        }
        let written = timeout(bounds::STALL, async {
            to.write_all(&buffer[..length]).await?;
            to.flush().await
        })
        .await;
        buffers.give_back(buffer);
        written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        *count += length as u64;
        moved.send_replace(Instant::now());
    }
}

impl Buffers {
    /// Waits for bytes without holding a buffer, then reads them into one.
    async fn fill(&self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<(Box<[u8]>, usize)> {
        poll_fn(|context| {
            let mut buffer = self.borrow();
            let mut filled = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *from).poll_read(context, &mut filled) {
                Poll::Ready(Ok(())) => {
                    let length = filled.filled().len();
                    Poll::Ready(Ok((buffer, length)))
                }
                Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
                Poll::Pending => {
                    self.give_back(buffer);
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn borrow(&self) -> Box<[u8]> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| vec![0; bounds::TUNNEL_BUFFER].into_boxed_slice())
    }

    fn give_back(&self, buffer: Box<[u8]>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < bounds::TUNNEL_BUFFERS {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    struct Tunnel {
        client: DuplexStream,
        destination: DuplexStream,
        copied: tokio::task::JoinHandle<(Copied, usize)>,
        stop: CancellationToken,
    }

    fn tunnel() -> Tunnel {
        let (client, inner_client) = duplex(1024);
        let (destination, inner_destination) = duplex(1024);
        let stop = CancellationToken::new();
        let token = stop.clone();
        let copied = tokio::spawn(async move {
            let buffers = Buffers::default();
            let [a, b] = [inner_client, inner_destination].map(AnyStream::new);
            let copied = copy(a, b, &buffers, &token, std::future::pending()).await;
            let kept = buffers.0.lock().unwrap().len();
            (copied, kept)
        });
        Tunnel { client, destination, copied, stop }
    }

    #[tokio::test]
    async fn a_half_closed_client_gets_all_of_its_answer() {
        let mut t = tunnel();
        t.client.write_all(b"ask").await.unwrap();
        t.client.shutdown().await.unwrap();
        let mut asked = Vec::new();
        t.destination.read_to_end(&mut asked).await.unwrap();
        assert_eq!(asked, b"ask");
        let answer = vec![7; 200_000];
        let (_, got) = tokio::join!(
            async {
                t.destination.write_all(&answer).await.unwrap();
                t.destination.shutdown().await.unwrap();
            },
            async {
                let mut got = Vec::new();
                t.client.read_to_end(&mut got).await.unwrap();
                got
            }
        );
        assert_eq!(got, answer);
        let (copied, kept) = t.copied.await.unwrap();
        assert_eq!(copied, Copied { sent: 3, received: 200_000, ended_by: EndedBy::Client });
        assert!(kept <= 2, "{kept} buffers for one tunnel");
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_tunnel_that_falls_silent_is_ended() {
        let mut t = tunnel();
        t.client.shutdown().await.unwrap();
        let begun = Instant::now();
        let (copied, _) = t.copied.await.unwrap();
        assert_eq!(copied.ended_by, EndedBy::Client);
        assert!(begun.elapsed() <= bounds::HALF_CLOSED + std::time::Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_tunnel_is_ended_and_a_busy_one_is_not() {
        let mut t = tunnel();
        for _ in 0..10 {
            tokio::time::sleep(bounds::TUNNEL_IDLE / 2).await;
            t.client.write_all(b"x").await.unwrap();
            assert_eq!(t.destination.read_u8().await.unwrap(), b'x');
        }
        let (copied, _) = t.copied.await.unwrap();
        assert_eq!((copied.sent, copied.ended_by), (10, EndedBy::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_is_ended_at_its_age_however_busy_it_is() {
        let mut t = tunnel();
        let begun = Instant::now();
        while !t.copied.is_finished() {
            tokio::time::sleep(bounds::TUNNEL_IDLE / 2).await;
            let _ = t.client.write_all(b"x").await;
            let _ = timeout(bounds::HALF_CLOSED, t.destination.read_u8()).await;
        }
        let (copied, _) = t.copied.await.unwrap();
        assert_eq!(copied.ended_by, EndedBy::Age);
        assert!((bounds::TUNNEL_AGE..bounds::TUNNEL_AGE + bounds::TUNNEL_IDLE).contains(&begun.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_takes_nothing_ends_a_tunnel() {
        let mut t = tunnel();
        let begun = Instant::now();
        // Nobody reads at the other end.
        while t.client.write_all(&[7; 1024]).await.is_ok() {}
        let (copied, _) = t.copied.await.unwrap();
        assert_eq!(copied.ended_by, EndedBy::Client);
        assert_eq!(begun.elapsed().as_secs(), bounds::STALL.as_secs());
    }

    #[tokio::test]
    async fn a_stop_ends_a_tunnel_at_once() {
        let t = tunnel();
        t.stop.cancel();
        assert_eq!(t.copied.await.unwrap().0.ended_by, EndedBy::Stop);
    }
}
