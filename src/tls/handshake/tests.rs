//! The wait for a ClientHello that is only read, on a paused clock. That of a whole handshake is in `relay::wait_tests`.

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, duplex};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_hello_that_is_only_read_must_be_whole_in_time() {
    // A record of 512 bytes that never come; one that comes byte after byte has no more time.
    for pause in [None, Some(bounds::HANDSHAKE / 4)] {
        let (mut client, ours) = duplex(64);
        let mut ours = Rewound::new(Bytes::new(), AnyStream::new(ours));
        let sending = tokio::spawn(async move {
            client.write_all(&[TLS, 3, 1, 2, 0, 1]).await.unwrap();
            while let Some(pause) = pause {
                tokio::time::sleep(pause).await;
                if client.write_all(&[0]).await.is_err() {
                    return;
                }
            }
            std::future::pending().await
        });
        let begun = Instant::now();
        let failed = read_hello(&mut ours).await.unwrap_err();
        assert_eq!(failed.why, "the ClientHello was not whole in time");
        assert_eq!(begun.elapsed().as_secs(), bounds::HANDSHAKE.as_secs());
        sending.abort();
    }
}

#[tokio::test]
async fn what_is_no_hello_is_told_at_once() {
    let mut ours = Rewound::new(Bytes::from_static(b"GET / HTTP/1.1\r\n"), AnyStream::new(duplex(64).0));
    let failed = read_hello(&mut ours).await.unwrap_err();
    assert!(failed.why.contains("can't be read"), "{}", failed.why);
}
