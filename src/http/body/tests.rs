//! The waits for a request body, on a paused clock: hyper reads it from a client that is slow in one way or another.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::Empty;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::time::sleep;

use super::*;
use crate::memory::{Memory, Parts};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const MOST: u64 = 1 << 20;

/// What becomes of a body of this length that a client sends in its own way, and how long that takes in seconds.
async fn read<F>(length: usize, send: impl FnOnce(DuplexStream) -> F) -> (Result<usize, String>, u64)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (mut client, ours) = duplex(1 << 16);
    client
        .write_all(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let found = Arc::new(Mutex::new(None));
    let (config, _) = crate::config::file::parse("", "/nowhere/relay.toml".as_ref()).unwrap();
    let account = Memory::new(Parts::of(&config)).bodies;
    let service = {
        let found = found.clone();
        service_fn(move |request: Request<Incoming>| {
            let (found, account) = (found.clone(), account.clone());
            async move {
                let begun = Instant::now();
                let body = WholeBody::read(&account, request.into_body(), MOST, CLIENT).await;
                let body = body.map(|body| body.bytes.len()).map_err(|e| e.to_string());
                *found.lock().unwrap() = Some((body, begun.elapsed().as_secs()));
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        })
    };
    let sending = tokio::spawn(send(client));
    let _ = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(ours), service).await;
    sending.abort();
    let found = found.lock().unwrap().take();
    found.unwrap()
}

fn late() -> String {
    BodyError::Late.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stands_still_is_given_up() {
    let (body, took) = read(10, async |mut client| {
        client.write_all(b"12345").await.unwrap();
        std::future::pending().await
    })
    .await;
    assert_eq!((body, took), (Err(late()), bounds::STALL.as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_is_given_up_once_its_head_start_is_over() {
    let (body, took) = read(1000, async |mut client| {
        loop {
            sleep(bounds::STALL / 2).await;
            client.write_all(b"1").await.unwrap();
        }
    })
    .await;
    assert_eq!((body, took), (Err(late()), bounds::BODY_HEAD_START.as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_at_the_least_rate_has_its_whole_time_and_no_more() {
    let piece = usize::try_from(bounds::BODY_RATE).unwrap();
    let send = async move |mut client: DuplexStream| {
        loop {
            client.write_all(&vec![b'1'; piece]).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
    };
    let seconds = usize::try_from(bounds::BODY.as_secs()).unwrap();
    let (body, took) = read(piece * seconds / 2, send).await;
    assert_eq!((body, took), (Ok(piece * seconds / 2), bounds::BODY.as_secs() / 2 - 1));
    let (body, took) = read(piece * seconds * 2, send).await;
    assert_eq!((body, took), (Err(late()), bounds::BODY.as_secs()));
}
