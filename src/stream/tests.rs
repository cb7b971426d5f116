//! The waits of a stream that begins or ends, on a paused clock.

use std::time::Duration;

use tokio::io::duplex;

use super::*;

#[tokio::test(start_paused = true)]
async fn the_first_byte_is_waited_for_until_the_deadline_and_stays_unread() {
    let (mut client, ours) = duplex(64);
    let mut ours = Rewound::new(Bytes::new(), ours);
    let begun = Instant::now();
    assert!(matches!(ours.first_byte(begun + bounds::FIRST_BYTE).await, First::Silence));
    assert_eq!(begun.elapsed().as_secs(), bounds::FIRST_BYTE.as_secs());
    client.write_all(b"ab").await.unwrap();
    for _ in 0..2 {
        assert!(matches!(ours.first_byte(Instant::now()).await, First::Byte(b'a')));
    }
    let mut read = [0; 2];
    ours.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"ab");
    drop(client);
    assert!(matches!(ours.first_byte(Instant::now() + bounds::FIRST_BYTE).await, First::Closed(None)));
}

#[tokio::test(start_paused = true)]
async fn a_last_word_waits_for_a_client_that_reads_it_and_not_for_ever() {
    let (mut client, mut ours) = duplex(64);
    let begun = Instant::now();
    last_word(&mut ours, b"no").await;
    assert_eq!(begun.elapsed().as_secs(), bounds::LINGER.as_secs(), "it neither closes nor sends");
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"no");

    let (client, mut ours) = duplex(64);
    drop(client);
    let begun = Instant::now();
    last_word(&mut ours, b"no").await;
    assert_eq!(begun.elapsed(), Duration::ZERO, "it has closed");

    let (_client, mut ours) = duplex(64);
    let begun = Instant::now();
    last_word(&mut ours, &[b'x'; 65]).await;
    assert_eq!(begun.elapsed().as_secs(), bounds::STALL.as_secs(), "it reads nothing");
}
