//! The waits before there is a connection, on a paused clock.

use rustls::RootCertStore;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;
use crate::config::file;
use crate::config::model::Mode;

/// An address that takes no connection: its queue is full, so that further ones are dropped without an answer.
fn full() -> (Vec<Socket>, SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let waiting = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        waiting.set_nonblocking(true).unwrap();
        let _ = waiting.connect(&address);
        sockets.push(waiting);
    }
    (sockets, address.as_socket().unwrap())
}

/// One that takes a connection and says nothing.
async fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn dialer() -> Dialer {
    let (config, _) = file::parse("", "/nowhere/relay.toml".as_ref()).unwrap();
    let tls = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Dialer::new(Arc::new(tls), &config.upstream, Arc::default()).unwrap()
}

fn destination(at: SocketAddr) -> Destination {
    let connect_to = Some(Endpoint { host: Host::Address(at.ip()), port: at.port() });
    let host = "license.qlikcloud.com".parse().unwrap();
    Destination { host, port: 443, mode: Mode::Terminate, connect_to }
}

#[tokio::test(start_paused = true)]
async fn the_next_address_is_tried_while_the_first_one_still_does_not_answer() {
    let ((_full, first), (_silent, second)) = (full(), silent().await);
    let begun = Instant::now();
    let (_stream, address) = race(vec![first, second]).await.unwrap();
    assert_eq!(address, second);
    let took = begun.elapsed();
    assert!((bounds::ATTEMPT_DELAY..2 * bounds::ATTEMPT_DELAY).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_refuses_holds_nothing_up_and_the_families_take_turns() {
    let (_silent, second) = silent().await;
    let first = SocketAddr::new(second.ip(), 1);
    let (_stream, address) = race(vec![first, second]).await.unwrap();
    assert_eq!(address, second);
    let why = race(vec![first, "[::1]:1".parse().unwrap()]).await.unwrap_err().to_string();
    assert!(why.contains("127.0.0.1:1: ") && why.contains("[::1]:1: "), "{why}");
    assert_eq!(race(Vec::new()).await.unwrap_err().to_string(), "the name has no address");
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_connection_is_told_apart_from_who_does_not_finish_tls() {
    let dialer = dialer();
    let ((_full, first), (_silent, second)) = (full(), silent().await);
    let begun = Instant::now();
    let error = dialer.dial(&destination(first)).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::ConnectTimeout { after, .. } if after == dialer.connect_timeout),
        "{error}"
    );
    assert_eq!(begun.elapsed().as_secs(), dialer.connect_timeout.as_secs());
    let begun = Instant::now();
    let error = dialer.dial(&destination(second)).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::HandshakeTimeout { after, .. } if after == dialer.connect_timeout),
        "{error}"
    );
    assert_eq!(begun.elapsed().as_secs(), dialer.connect_timeout.as_secs());
}

#[tokio::test]
async fn nobody_is_dialled_where_that_leads_back_here() {
    let dialer = dialer();
    let (_silent, own) = silent().await;
    dialer.own.store(Arc::new(vec![own]));
    assert!(matches!(dialer.open(&destination(own)).await, Err(UpstreamError::Loop { .. })));
}
