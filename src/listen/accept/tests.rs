//! Which failures of `accept` are the peer's, how long others are waited out, and what a listening socket takes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn a_peer_that_is_gone_is_no_reason_to_pause_and_a_lack_of_descriptors_is() {
    use rustix::io::Errno;
    for peers in [Errno::CONNABORTED, Errno::CONNRESET, Errno::INTR] {
        assert!(is_the_peers(&peers.into()), "{peers}");
    }
    for ours in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
        assert!(!is_the_peers(&ours.into()), "{ours}");
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_and_one_of_a_past_run_is_not() {
    let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.local_addr().unwrap();
    assert_eq!(bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    // A connection of the run before is still there, and its end waits for the client.
    let client = TcpStream::connect(address).await.unwrap();
    drop(first.accept().await.unwrap());
    drop(first);
    bind(address).unwrap();
    drop(client);
}

#[test]
fn who_has_no_place_is_told_which_limit_that_is() {
    let client = IpAddr::from([10, 0, 0, 1]);
    let in_all = no_place(Full::InAll, client);
    assert!(in_all.sentence.contains("(listen.max_connections)"), "{}", in_all.sentence);
    let own = no_place(Full::OfClient, client);
    assert!(own.sentence.contains("10.0.0.1 (listen.max_connections_per_address)"), "{}", own.sentence);
}

#[tokio::test(start_paused = true)]
async fn where_no_connection_can_be_accepted_the_pauses_grow_up_to_a_limit_and_room_is_made() {
    let (tried, room) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    let accept = || async {
        let mut tried = tried.lock().unwrap();
        tried.push(Instant::now());
        match tried.len() {
            // The peer's own errors cost no pause.
            1 => Err(io::ErrorKind::ConnectionAborted.into()),
            2..=9 => Err(io::Error::other("no descriptor is left")),
            _ => Ok(7),
        }
    };
    let accepted = next(accept, || {
        room.fetch_add(1, Ordering::Relaxed);
    })
    .await;
    assert_eq!((accepted, room.into_inner()), (7, 8));
    let tried = tried.into_inner().unwrap();
    let pauses: Vec<_> = tried.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(pauses, [0, 50, 100, 200, 400, 800, 1000, 1000, 1000]);
}
