//! What a relay waits for before it knows what a client wants, on a paused clock: a whole relay in this process, and
//! clients that are silent at one point or another. Nothing here waits for the log or the back end, whose threads don't go by
//! that clock.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::*;
use crate::config::file;

/// The relay's own clocks tick each second, and a step to the next tick may come before a byte does.
const SLACK: Duration = Duration::from_secs(3);

/// A relay with more in its `[listen]`, and where it listens. It is gone with its folder.
async fn relay(listen: &str) -> (tempfile::TempDir, Relay, SocketAddr) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config/relay.toml");
    fs::create_dir(folder.path().join("config")).unwrap();
    let config =
        format!("[listen]\naddress = \"127.0.0.1:0\"\n{listen}\n[admin]\naddress = \"127.0.0.1:0\"\n");
    fs::write(&path, config).unwrap();
    let (config, _) = file::load(&path).unwrap();
    let relay = Relay::start(config).await.unwrap();
    let address = relay.addresses()[0];
    (folder, relay, address)
}

/// What a client that sends this, and then nothing, is told until the relay closes, and after how long.
async fn told(address: SocketAddr, sent: &[u8]) -> (String, Duration) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let begun = Instant::now();
    stream.write_all(sent).await.unwrap();
    let mut told = Vec::new();
    stream.read_to_end(&mut told).await.unwrap();
    (String::from_utf8_lossy(&told).into_owned(), begun.elapsed())
}

#[track_caller]
fn lasted(took: Duration, wait: Duration) {
    assert!((wait..wait + SLACK).contains(&took), "{took:?}, and not {wait:?}");
}

const CONNECT: &[u8] =
    b"CONNECT license.qlikcloud.com:443 HTTP/1.1\r\nHost: license.qlikcloud.com:443\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn whoever_is_silent_is_told_what_was_waited_for_and_closed() {
    let (_folder, _relay, address) = relay("").await;
    for (sent, wait, words) in [
        (&b""[..], bounds::FIRST_BYTE, "nothing was sent; this port is an HTTP proxy"),
        (b"CONNECT", bounds::HEAD, "HTTP/1.1 408 "),
        (CONNECT, bounds::FIRST_BYTE, "HTTP/1.1 200 Connection established"),
        // An alert of TLS.
        (&[crate::tls::handshake::TLS], bounds::HANDSHAKE, "\u{15}\u{3}"),
        // The first record of a hello inside the tunnel.
        (&[CONNECT, &[crate::tls::handshake::TLS]].concat(), bounds::HANDSHAKE, "\r\n\r\n\u{15}\u{3}"),
    ] {
        let (told, took) = told(address, sent).await;
        assert!(told.contains(words), "{words}: {told}");
        lasted(took, wait);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_neither_http_nor_tls_is_told_at_once() {
    let (_folder, _relay, address) = relay("").await;
    let (told, took) = told(address, b"\x00").await;
    assert!(told.contains("neither HTTP nor TLS"), "{told}");
    // The client neither closes nor says more.
    lasted(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_has_no_place_is_told_so_if_it_speaks_and_closed_soon_if_it_does_not() {
    let (_folder, _relay, address) = relay("max_connections_per_address = 1").await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"C").await.unwrap();
    let (silent, took) = told(address, b"").await;
    assert_eq!(silent, "");
    lasted(took, bounds::OVER_LIMIT);
    let (told, _) = told(address, CONNECT).await;
    assert!(told.contains("too many connections of 127.0.0.1"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_that_does_not_say_who_its_client_is_is_closed() {
    let (_folder, _relay, address) = relay("proxy_protocol_from = [\"127.0.0.1/32\"]").await;
    let (told, took) = told(address, b"").await;
    assert_eq!(told, "");
    lasted(took, bounds::FIRST_BYTE);
}

#[tokio::test(start_paused = true)]
async fn the_admin_address_waits_for_a_request_for_so_long_and_no_longer() {
    let (_folder, relay, _) = relay("").await;
    for sent in [&b""[..], b"GET /healthz HTTP/1.1\r\n"] {
        let (_, took) = told(relay.admin(), sent).await;
        lasted(took, bounds::ADMIN);
    }
    let (told, took) = told(relay.admin(), b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 200 OK"), "{told}");
    lasted(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_admin_socket_waits_for_a_head_for_so_long_and_no_longer() {
    let (_folder, relay, _) = relay("").await;
    let mut stream = tokio::net::UnixStream::connect(relay.socket().unwrap()).await.unwrap();
    let begun = Instant::now();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    lasted(begun.elapsed(), bounds::SOCKET_HEAD);
}

/// A client inside TLS, which trusts the relay's root.
async fn inside(
    folder: &tempfile::TempDir,
    address: SocketAddr,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.path().join("certs/root.pem")).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "license.qlikcloud.com".try_into().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_conversation_waits_for_its_first_request_for_a_head_and_for_a_body() {
    let (folder, _relay, address) = relay("").await;
    let post = &b"POST /v1/sync HTTP/1.1\r\nHost: license.qlikcloud.com\r\nContent-Length: 9\r\n\r\nhalf"[..];
    for (sent, wait, words) in [
        // A connection that was opened ahead of need is closed without a word.
        (&b""[..], bounds::UNUSED, ""),
        (b"POST ", bounds::HEAD, "the request head did not arrive in time"),
        (post, bounds::STALL, "the request body did not arrive in time"),
    ] {
        let mut stream = inside(&folder, address).await;
        let begun = Instant::now();
        stream.write_all(sent).await.unwrap();
        let mut told = vec![0; 8192];
        let read = stream.read(&mut told).await.unwrap();
        let told = String::from_utf8_lossy(&told[..read]);
        assert!(told.contains(words) && words.is_empty() == told.is_empty(), "{words}: {told}");
        lasted(begun.elapsed(), wait);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_waits_so_long_for_the_memory_to_be_read_in_and_no_longer() {
    let (folder, relay, address) = relay("").await;
    // Others have it all.
    let messages = &relay.app.exchange.memory.messages;
    let (mut held, mut bytes) = (Vec::new(), 1_u64 << 40);
    for client in 0x0a00_0000_u32.. {
        match messages.take(Ipv4Addr::from(client).into(), bytes, Instant::now()).await {
            Some(memory) => held.push(memory),
            None if bytes == 1 => break,
            None => bytes /= 2,
        }
    }
    let mut stream = inside(&folder, address).await;
    let begun = Instant::now();
    let post = b"POST /v1/sync HTTP/1.1\r\nHost: license.qlikcloud.com\r\nContent-Length: 2\r\n\r\n{}";
    stream.write_all(post).await.unwrap();
    let mut told = vec![0; 8192];
    let read = stream.read(&mut told).await.unwrap();
    let told = String::from_utf8_lossy(&told[..read]);
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("limits.all_bodies"), "{told}");
    lasted(begun.elapsed(), bounds::READING_WAIT);
}
