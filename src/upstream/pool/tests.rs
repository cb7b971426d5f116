//! Which kept connections are still good, on a paused clock.

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{DuplexStream, duplex};
use tokio::time::advance;

use super::*;
use crate::config::model::Mode;

fn destination() -> Destination {
    let host = "license.qlikcloud.com".parse().unwrap();
    Destination { host, port: 443, mode: Mode::Terminate, connect_to: None }
}

/// A connection to a back end that is silent, and the back end's end of it.
async fn connection() -> (Connection, DuplexStream) {
    let (ours, theirs) = duplex(64);
    let (mut sender, connection) = http1::handshake(TokioIo::new(ours)).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap();
    let address = ([127, 0, 0, 1], 443).into();
    (
        Connection { sender, address, born: Instant::now(), asked: ClientCertificateRequested::default() },
        theirs,
    )
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_not_used_for_long_is_not_used_again() {
    let (pool, to) = (Pool::default(), destination());
    let (connection, _theirs) = connection().await;
    pool.keep(&to, connection);
    advance(bounds::UPSTREAM_IDLE - std::time::Duration::from_millis(1)).await;
    let connection = pool.take(&to).expect("it is still good");
    assert!(pool.take(&to).is_none(), "it is taken");
    pool.keep(&to, connection);
    advance(bounds::UPSTREAM_IDLE).await;
    assert!(pool.take(&to).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_not_used_for_ever() {
    let (pool, to) = (Pool::default(), destination());
    let (mut connection, _theirs) = connection().await;
    let begun = Instant::now();
    loop {
        pool.keep(&to, connection);
        advance(bounds::UPSTREAM_IDLE / 2).await;
        match pool.take(&to) {
            Some(kept) => connection = kept,
            None => break,
        }
    }
    assert_eq!(begun.elapsed(), bounds::UPSTREAM_AGE);
}

#[tokio::test(start_paused = true)]
async fn the_one_that_was_used_last_comes_first_and_too_many_are_not_kept() {
    let (pool, to) = (Pool::default(), destination());
    let mut theirs = Vec::new();
    for port in 0..=u16::try_from(bounds::UPSTREAM_KEPT).unwrap() {
        let (mut connection, end) = connection().await;
        connection.address.set_port(port);
        pool.keep(&to, connection);
        theirs.push(end);
    }
    let ports: Vec<u16> = std::iter::from_fn(|| Some(pool.take(&to)?.address.port())).collect();
    assert_eq!(ports, (1..=u16::try_from(bounds::UPSTREAM_KEPT).unwrap()).rev().collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn one_that_the_back_end_has_closed_is_not_used() {
    let (pool, to) = (Pool::default(), destination());
    let (connection, theirs) = connection().await;
    pool.keep(&to, connection);
    drop(theirs);
    tokio::task::yield_now().await;
    advance(std::time::Duration::from_millis(1)).await;
    assert!(pool.take(&to).is_none());
}
