//! Where all places are taken, the connection that has been idle longest gives way: nobody is refused who has something to
//! say, and nobody is closed of whom a request is in hand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use crate::common::clients::Deployment;
use crate::common::wire::*;
use crate::common::*;

/// Longer than it takes until a connection without a request counts as idle.
const IDLE_BY_THEN: Duration = Duration::from_millis(2_500);
const KEYS: [&str; 2] = ["max_connections", "max_connections_per_address"];

/// A relay with few places; time takes part in these tests, so each has its own.
fn narrow(stub: &Stub, key: &str, places: usize) -> Relay {
    Plan::new(stub).with("[listen]", &format!("[listen]\n{key} = {places}")).start()
}

/// Asks on connections of its own until it is served; a refusal must be the right one.
fn is_served_soon(relay: &Relay, from: &str) -> Inside {
    eventually(&format!("{from} is served"), || {
        let mut stream = relay.connect_from(from);
        write!(stream, "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").unwrap();
        let answer = Answer::read(&mut stream);
        if answer.status != 200 {
            answer.refuses_for_a_while(429, "connection_limit_reached");
            return None;
        }
        let mut inside = tls(stream, HOST, &relay.root());
        assert_eq!(ask(&mut inside, good()).status, 404);
        Some(inside)
    })
}

/// How many connections have given way, as the metrics say.
fn gave_way(relay: &Relay) -> u64 {
    let (_, metrics) = relay.admin("/metrics");
    let name = "license_relay_connections_gave_way_total ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
}

/// How many of these connections the relay still holds open.
fn open(streams: &[TcpStream]) -> usize {
    let is_open = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        stream.peek(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
    };
    streams.iter().filter(is_open).count()
}

#[test]
fn silent_connections_give_way_to_whoever_has_something_to_say() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    for key in KEYS {
        let mut relay = narrow(&stub, key, 9);
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.extend([relay.connect(), relay.tunnel(), relay.connect()]);
            silent.last_mut().unwrap().write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
        }
        let from = if key == KEYS[0] { "127.0.0.2" } else { "127.0.0.1" };
        let mut held: Vec<Inside> = (0..5).map(|_| is_served_soon(&relay, from)).collect();
        assert!(held.iter_mut().all(|inside| ask(inside, good()).status == 404));
        // Those whose time for a first byte was over are gone, too.
        assert!(open(&silent) <= 4, "{} of 9 are open", open(&silent));
        assert!(gave_way(&relay) >= 5, "{}", gave_way(&relay));
        let closed = gave_way(&relay);
        relay.stop();
        // With lines that stand for several.
        let said = relay.stderr();
        let lines = said
            .lines()
            .filter(|line| line.contains("client=127.0.0.1 ") && line.contains(" verdict=close "));
        let count = |line: &str| {
            line.split_once(" count=").map_or(1, |(_, rest)| rest.split(' ').next().unwrap().parse().unwrap())
        };
        assert_eq!(lines.map(count).sum::<u64>(), closed, "{said}");
    }
}

#[test]
fn of_kept_connections_the_one_that_has_been_idle_longest_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    for key in KEYS {
        let relay = narrow(&stub, key, 4);
        let mut kept = [relay.inside(), relay.direct(), relay.inside(), relay.direct()];
        for n in [0, 1, 2, 3, 0, 2, 1, 3] {
            assert_eq!(ask(&mut kept[n], good()).status, 404);
        }
        let mut newcomer = is_served_soon(&relay, "127.0.0.1");
        is_closed(&mut kept[0]);
        assert_eq!(gave_way(&relay), 1);
        for stays in kept.iter_mut().skip(1).chain([&mut newcomer]) {
            assert_eq!(ask(stays, good()).status, 404);
        }
        // Now the first of those has been idle longest.
        let _second = is_served_soon(&relay, "127.0.0.1");
        is_closed(&mut kept[1]);
        assert_eq!(gave_way(&relay), 2);
    }
}

#[test]
fn who_holds_many_places_gives_way_and_not_who_holds_few() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = narrow(&stub, KEYS[0], 8);
    // The few are older.
    let mut few = [relay.inside_from("127.0.0.2", ""), relay.inside_from("127.0.0.2", "")];
    assert!(few.iter_mut().all(|inside| ask(inside, good()).status == 404));
    let many: Vec<TcpStream> = (0..6).map(|_| relay.tunnel()).collect();
    // Until the many are idle as well, one of the few would have to go.
    std::thread::sleep(IDLE_BY_THEN);
    let _newcomers: Vec<Inside> = (3..6).map(|n| is_served_soon(&relay, &format!("127.0.0.{n}"))).collect();
    assert!(few.iter_mut().all(|inside| ask(inside, good()).status == 404));
    assert!(open(&many) <= 3, "{}", open(&many));
}

#[test]
fn a_request_in_hand_is_never_closed_and_the_newcomer_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    for key in KEYS {
        let relay = narrow(&stub, key, 4);
        stub.trouble("delay=6s*2");
        let before = stub.counters()["requests"].as_u64().unwrap();
        let mut in_hand = [relay.inside(), relay.direct()];
        for inside in &mut in_hand {
            inside.write_all(good().as_bytes()).unwrap();
            inside.flush().unwrap();
        }
        let mut half = relay.inside();
        half.write_all(b"GET / HT").unwrap();
        half.flush().unwrap();
        let mut connecting = relay.connect();
        connecting.write_all(b"CONNECT license.qlik").unwrap();
        eventually("both are in hand", || (stub.counters()["requests"] == before + 2).then_some(()));
        let begun = SystemTime::now();
        while begun.elapsed().unwrap() < IDLE_BY_THEN {
            let answer = relay.refused_connect(&format!("{HOST}:443"));
            answer.refuses_for_a_while(429, "connection_limit_reached");
            assert!(answer.reason.contains(&format!("listen.{key})")), "{answer:?}");
        }
        assert_eq!(gave_way(&relay), 0);
        half.write_all(&good().as_bytes()[8..]).unwrap();
        for inside in in_hand.iter_mut().chain([&mut half]) {
            assert_eq!(Answer::read(inside).status, 404);
        }
        // Once they are answered, they are idle like any other.
        is_served_soon(&relay, "127.0.0.1");
        assert_eq!(gave_way(&relay), 1);
    }
}

#[test]
fn behind_a_load_balancer_clients_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let places = "max_connections = 4\nmax_connections_per_address = 3";
    let behind = format!("[listen]\nproxy_protocol_from = [\"127.0.0.1/32\"]\n{places}");
    let relay = Plan::new(&stub).with("[listen]", &behind).start();
    let by = |last: u8, said: &str| {
        let header =
            [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &[10, 20, 0, last, 127, 0, 0, 1, 0, 9, 0, 9][..]]
                .concat();
        let mut stream = relay.connect();
        stream.write_all(&[&header, said.as_bytes()].concat()).unwrap();
        stream
    };
    let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let mut few = by(1, &connect);
    assert_eq!(Answer::read(&mut few).status, 200);
    let mut few = tls(few, HOST, &relay.root());
    let many = [by(2, ""), by(2, ""), by(2, "")];
    for last in [2, 3] {
        eventually("somebody of the many gives way", || {
            // Where all places are taken, nothing is read of what the balancer sends, so that nobody is told anything.
            let mut start = [0; 12];
            let answered = by(last, &connect).read_exact(&mut start);
            (answered.is_ok() && start.ends_with(b" 200")).then_some(())
        });
    }
    assert_eq!(ask(&mut few, good()).status, 404);
    assert!(open(&many) <= 2, "{}", open(&many));
}

#[test]
fn a_tunnel_in_use_is_not_closed() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub)
        .with("[listen]", "[listen]\nmax_connections = 1")
        .with("[[destination]]", "[[destination]]\nmode = \"tunnel\"")
        .sources("[[source]]\nname = \"by address\"\nnetworks = [\"127.0.0.0/8\"]\n")
        .start();
    let mut tunnel = tls(relay.tunnel(), HOST, &stub.ca);
    assert_eq!(ask(&mut tunnel, good()).status, 404);
    let begun = SystemTime::now();
    while begun.elapsed().unwrap() < IDLE_BY_THEN {
        relay.refused_connect(&format!("{HOST}:443")).refuses_for_a_while(429, "connection_limit_reached");
    }
    assert_eq!(ask(&mut tunnel, good()).status, 404);
}

#[test]
fn a_client_whose_idle_connection_was_closed_dials_again_and_notices_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = narrow(&stub, KEYS[1], 1);
    let mut deployment = Deployment::of(&relay);
    for reused in [false, true] {
        let answer = deployment.syncs(IDLE);
        assert_eq!((&answer["status"], &answer["reused"]), (&"200 OK".into(), &reused.into()), "{answer}");
    }
    for n in 1..=3 {
        // Somebody takes the only place, and keeps it.
        let other = is_served_soon(&relay, "127.0.0.1");
        assert_eq!(gave_way(&relay), 2 * n - 1);
        std::thread::sleep(IDLE_BY_THEN);
        let answer = deployment.syncs(IDLE);
        assert_eq!((&answer["status"], &answer["reused"]), (&"200 OK".into(), &false.into()), "{answer}");
        assert_eq!(gave_way(&relay), 2 * n);
        drop(other);
    }
    assert_eq!(stub.counters()["requests"], 2 + 3 + 3);
}
