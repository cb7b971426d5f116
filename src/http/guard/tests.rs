//! The waits of a conversation, on a paused clock: an idle connection, a head that has begun, a write that doesn't move, the
//! moment after a close.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::policy::places::{Most, Places};
use crate::stream::socket::ClientSocket;

/// A guarded stream, its client's end, and what is to live as long.
struct Guarded {
    client: DuplexStream,
    ours: Guard<DuplexStream>,
    busy: Busy,
    _socket: TcpStream,
}

async fn guarded() -> Guarded {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let socket = ClientSocket::new(listener.accept().await.unwrap().0);
    let most = Most { in_all: 1, of_client: 1 };
    let places = Arc::new(Places::new(Arc::default()));
    let place = Arc::new(places.enter(&socket, Some([10, 0, 0, 1].into()), most).unwrap());
    let (client, ours) = duplex(64);
    let busy = Busy::default();
    Guarded { client, ours: Guard::new(ours, busy.clone(), place), busy, _socket }
}

/// A request has been read, and its reply is ready.
fn served(busy: &Busy) {
    busy.turn();
    busy.turn();
}

#[tokio::test(start_paused = true)]
async fn a_head_that_has_begun_must_end_in_time() {
    let mut g = guarded().await;
    let begun = Instant::now();
    assert_eq!(g.ours.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), bounds::HEAD.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_may_idle_and_the_next_head_has_its_own_time() {
    let mut g = guarded().await;
    served(&g.busy);
    let begun = Instant::now();
    let late = tokio::spawn(async move {
        tokio::time::sleep(bounds::IDLE - Duration::from_secs(1)).await;
        g.client.write_all(b"G").await.unwrap();
        g.client
    });
    assert_eq!(g.ours.read(&mut [0]).await.unwrap(), 1);
    let _client = late.await.unwrap();
    assert_eq!(g.ours.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), (bounds::IDLE + bounds::HEAD).as_secs() - 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_only_idles_is_ended() {
    let mut g = guarded().await;
    served(&g.busy);
    let begun = Instant::now();
    assert_eq!(g.ours.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), bounds::IDLE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn while_a_request_is_in_hand_its_own_waits_hold_and_no_other() {
    let mut g = guarded().await;
    g.busy.turn();
    let read = tokio::time::timeout(10 * bounds::IDLE, g.ours.read(&mut [0])).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_does_not_move_ends_the_connection_and_a_slow_one_does_not() {
    let mut g = guarded().await;
    g.busy.turn();
    g.ours.write_all(&[7; 64]).await.unwrap();
    let slow = tokio::spawn(async move {
        for _ in 0..64 {
            tokio::time::sleep(bounds::STALL / 2).await;
            g.client.read_u8().await.unwrap();
        }
        g.client
    });
    g.ours.write_all(&[7; 64]).await.unwrap();
    let _client = slow.await.unwrap();
    let begun = Instant::now();
    assert_eq!(g.ours.write(&[7]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), bounds::STALL.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_is_read_on_for_a_moment_and_no_longer() {
    let mut g = guarded().await;
    let begun = Instant::now();
    g.ours.shutdown().await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), bounds::LINGER.as_secs());

    let mut g = guarded().await;
    let begun = Instant::now();
    g.client.shutdown().await.unwrap();
    g.ours.shutdown().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO, "the client has closed as well");

    // Whoever sends more than is read is not reset before the time is over.
    let mut g = guarded().await;
    let begun = Instant::now();
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        while g.client.write_all(&[7; 64]).await.is_ok() {
            sent += 64;
        }
        sent
    });
    g.ours.shutdown().await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), bounds::LINGER.as_secs());
    drop(g.ours);
    let sent = sending.await.unwrap();
    assert!((bounds::LINGER_BYTES..bounds::LINGER_BYTES + 8192).contains(&sent), "{sent}");
}
