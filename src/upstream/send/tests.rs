//! The wait for a reply, on a paused clock, and what is known of a request that has none.

use http_body_util::Full;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::file;
use crate::config::names::{Endpoint, Host};
use crate::memory::{Memory, Parts};

/// Sends one request to a back end that does this with its connection: how that ends, and how long it takes in seconds.
async fn sent<F>(serve: impl FnOnce(TcpStream) -> F) -> (Result<Reply, SendError>, u64, Duration)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (config, _) = file::parse("", "/nowhere/relay.toml".as_ref()).unwrap();
    let tls = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let dialer = Dialer::new(Arc::new(tls), &config.upstream, Arc::default()).unwrap();
    let sender = Sender::new(dialer, &config.upstream);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let to = Destination {
        host: "lef.qliktech.com".parse().unwrap(),
        port: 80,
        mode: Mode::Http,
        connect_to: Some(Endpoint { host: Host::Address(at.ip()), port: at.port() }),
    };
    let memory = Memory::new(Parts::of(&config));
    let room = ReplyRoom { account: &memory.replies, client: at.ip(), kept: &|_, _| 0 };
    let begun = Instant::now();
    let (reply, ()) =
        tokio::join!(sender.send(&to, Request::get("/").body(Full::default()).unwrap(), room), async {
            let serving = serve(listener.accept().await.unwrap().0);
            tokio::spawn(serving);
        });
    (reply, begun.elapsed().as_secs(), config.upstream.response_timeout)
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_does_not_come_is_late_and_the_request_was_sent() {
    let (reply, took, wait) = sent(async |_stream| std::future::pending().await).await;
    let error = reply.unwrap_err();
    assert!(error.sent && error.address.is_some());
    assert!(matches!(error.error, UpstreamError::ResponseTimeout { after, .. } if after == wait), "{error}");
    assert_eq!(took, wait.as_secs());
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_for_the_whole_reply() {
    let (reply, took, wait) = sent(async |mut stream: TcpStream| {
        assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await.unwrap();
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stream.write_all(b"x").await.unwrap();
        }
    })
    .await;
    let error = reply.unwrap_err();
    assert!(matches!(error.error, UpstreamError::ResponseTimeout { .. }), "{error}");
    assert_eq!(took, wait.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_read_to_its_end() {
    let (reply, ..) = sent(async |mut stream: TcpStream| {
        let mut request = [0; 4096];
        let read = stream.read(&mut request).await.unwrap();
        assert!(request[..read].starts_with(b"GET / HTTP/1.1\r\n"));
        stream.write_all(b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        std::future::pending().await
    })
    .await;
    let reply = reply.unwrap();
    assert!(matches!(&reply.body, ReplyBody::Whole(body) if body == "ok"));
    assert!(!reply.resent && reply.memory.is_ok());
}
