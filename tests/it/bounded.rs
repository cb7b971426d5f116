//! Limits, and bad input: every wait, buffer and place has a limit, whoever meets it is told, and nobody else
//! notices.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use crate::common::wire::*;
use crate::common::*;

/// What a bystander sees meanwhile: an answer, soon.
#[track_caller]
fn serves(relay: &Relay) {
    let begun = SystemTime::now();
    assert_eq!(ask(&mut relay.inside(), good()).status, 404);
    assert!(begun.elapsed().unwrap() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// `CONNECT` that may be refused or find the port closed: the status, if there is one.
fn connect_status(relay: &Relay) -> Option<u16> {
    let mut stream = TcpStream::connect(relay.address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").ok()?;
    let mut start = [0; 12];
    stream.read_exact(&mut start).ok()?;
    String::from_utf8_lossy(&start[9..]).parse().ok()
}

#[test]
fn whoever_is_slow_is_answered_and_closed_in_time_and_whoever_only_rests_is_not() {
    let (stub, relay, _folder) = pair();
    // All wait at one time: each of them is a clock of its own.
    std::thread::scope(|scope| {
        scope.spawn(|| silence_is_answered_within_the_first_byte_deadline(&relay));
        scope.spawn(|| half_a_head_is_answered_however_it_trickles_in(&relay));
        scope.spawn(|| a_body_that_does_not_go_on_is_answered(&relay));
        scope.spawn(|| a_client_that_does_not_read_is_cut_off(&relay));
        scope.spawn(|| a_kept_connection_outlives_the_time_for_a_head(&relay));
    });
    serves(&relay);
    // Two of each kept connection, the long reply, and the bystander's: nothing of what was not whole.
    assert_eq!(stub.counters()["requests"], 6);
}

fn silence_is_answered_within_the_first_byte_deadline(relay: &Relay) {
    let begun = SystemTime::now();
    let mut silent = relay.connect();
    let mut half_hello = relay.connect();
    half_hello.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03half").unwrap();
    let mut tunnel = relay.tunnel();
    let mut tunnel_half = relay.tunnel();
    tunnel_half.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
    let mut inside = relay.inside();
    let quiet_from = SystemTime::now();

    let answer = Answer::read(&mut silent);
    answer.refuses(408, "http_request_error");
    assert!(answer.closes(), "{answer:?}");
    is_closed(&mut silent);
    for (what, stream) in [("hello", &mut half_hello), ("tunnel", &mut tunnel), ("both", &mut tunnel_half)] {
        assert_eq!(rest(stream)[..5], [21, 3, 3, 0, 2], "no alert: {what}");
    }
    let took = begun.elapsed().unwrap();
    assert!((Duration::from_secs(9)..Duration::from_secs(18)).contains(&took), "{took:?}");
    // A conversation opened ahead of need is closed later, and without a reply to nothing.
    is_closed(&mut inside);
    assert!(quiet_from.elapsed().unwrap() > Duration::from_secs(25));
}

fn half_a_head_is_answered_however_it_trickles_in(relay: &Relay) {
    let mut half = relay.connect();
    half.write_all(b"CONNECT license.qlikcloud.com:443 HT").unwrap();
    let mut inside = relay.inside();
    inside.write_all(b"POST /v1/sync HTTP/1.1\r\nHo").unwrap();
    // A byte now and then buys no time.
    let mut trickle = half.try_clone().unwrap();
    let trickling = std::thread::spawn(move || {
        while trickle.write_all(b"T").is_ok() {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    Answer::read(&mut half).refuses(408, "http_request_error");
    ends(&mut half);
    Answer::read(&mut inside).refuses(503, "http_request_error");
    is_closed(&mut inside);
    trickling.join().unwrap();
}

fn a_body_that_does_not_go_on_is_answered(relay: &Relay) {
    let bodies = ["Content-Length: 1000\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n5\r\nha"];
    let mut asked = bodies.map(|body| {
        let mut inside = relay.inside();
        write!(inside, "POST /v1/sync HTTP/1.1\r\nHost: {HOST}\r\n{body}").unwrap();
        inside
    });
    for inside in &mut asked {
        let answer = Answer::read(inside);
        answer.refuses(503, "http_request_error");
        assert!(answer.closes(), "{answer:?}");
        is_closed(inside);
    }
}

fn a_client_that_does_not_read_is_cut_off(relay: &Relay) {
    let mut inside = relay.inside();
    let fields = format!("Host: {HOST}\r\nAuthorization: Bearer {}", KEY.trim());
    write!(inside, "GET /stub/big?bytes=60000000 HTTP/1.1\r\n{fields}\r\n\r\n").unwrap();
    // The relay's end of this connection is gone once it has let go.
    let peer = inside.sock.local_addr().unwrap().to_string();
    let port = format!(":{}", relay.address.port());
    let held = || {
        let mut shown = tool("ss", "iproute2");
        let shown = run(shown.args(["-Htn", "state", "established", "sport", "=", &port]));
        assert!(shown.status.success(), "{shown:?}");
        String::from_utf8_lossy(&shown.stdout).contains(&peer)
    };
    let begun = SystemTime::now();
    assert!(held());
    while held() {
        assert!(begun.elapsed().unwrap() < Duration::from_secs(45), "a slow reader is held for ever");
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn a_kept_connection_outlives_the_time_for_a_head(relay: &Relay) {
    let requests = [good(), post("/v1/sync", IDLE)];
    let mut kept = requests.each_ref().map(|request| {
        let mut inside = relay.inside();
        ask(&mut inside, request);
        inside
    });
    // Longer than a head may take, shorter than Go's client keeps a connection: no event tells that nothing happens.
    std::thread::sleep(Duration::from_secs(33));
    for (inside, request) in kept.iter_mut().zip(requests) {
        assert!([200, 404].contains(&ask(inside, request).status));
    }
}

#[test]
fn bytes_that_are_neither_http_nor_tls_are_answered_and_closed() {
    let (stub, relay, _folder) = pair();
    for garbage in [
        &b"\0\0\0\0"[..],
        b"\xff\xff\r\n\r\n",
        b"\r\n\r\n",
        b"\x05\x01\x00",
        b"\x04\x01\x01\xbb\x7f\0\0\x01\0",
        b"\x80\x2e\x01\x03\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"get / http/1.1\r\n\r\n",
    ] {
        relay.says_last(garbage).refuses(400, "http_request_error");
    }
    for broken in [&b"\x16\x03\x01\x00\x05hello"[..], b"\x16\xff\xff\xff\xff", b"\x16\x03\x01\x00\x00"] {
        let mut stream = relay.connect();
        stream.write_all(broken).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let last = rest(&mut stream);
        assert!(last.is_empty() || last[0] == 21, "{last:?}");
    }
    serves(&relay);
    assert_eq!(stub.counters()["requests"], 1);
}

#[test]
fn a_head_that_does_not_end_is_refused_at_its_limit() {
    let (_stub, relay, _folder) = pair();
    let endless = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\nX: {}", "a".repeat(65 * 1024));
    relay.says_last(&endless).refuses(400, "http_request_error");
    let mut inside = relay.inside();
    let answer = ask(&mut inside, endless.replacen(&format!("CONNECT {HOST}:443"), "GET /", 1));
    answer.refuses(400, "http_request_error");
    is_closed(&mut inside);
}

#[test]
fn silent_connections_cost_a_bystander_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).with("[listen]", "[listen]\nmax_connections_per_address = 1000").start();
    let mut kept = relay.inside();
    assert_eq!(ask(&mut kept, good()).status, 404);
    let silent: Vec<_> = (0..100).flat_map(|_| [relay.connect(), relay.tunnel(), relay.connect()]).collect();
    for mut stream in silent.iter().skip(2).step_by(3) {
        stream.write_all(b"\x16\x03\x01").unwrap();
    }
    for _ in 0..10 {
        serves(&relay);
        assert_eq!(ask(&mut kept, good()).status, 404);
    }
    assert_eq!(silent.len(), 300);
}

#[test]
fn handshakes_of_one_address_are_counted_before_they_cost_anything() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let old = "per_address = { requests = 100000, per = \"1s\", burst = 100000 }";
    let new = "per_address = { requests = 1, per = \"1h\", burst = 3 }";
    let relay = Plan::new(&stub).with(old, new).start();
    let statuses: Vec<u16> = (0..6).map(|_| ask(&mut relay.direct(), good()).status).collect();
    assert_eq!(statuses, [404, 404, 404, 429, 429, 429], "who is served a handshake is told in HTTP");
    let mut stream = relay.connect();
    stream.write_all(b"\x16").unwrap();
    is_closed(&mut stream);
    eventually("it is in the log", || {
        let limited = relay.records("access.limited");
        limited.iter().any(|record| record["event"]["reason"].to_string().contains("TLS")).then_some(())
    });
    let mut other = relay.connect_from("127.0.0.9");
    other.write_all(b"\x16\x03\x01\x00\x01\x00").unwrap();
    assert!(!rest(&mut other).is_empty(), "another address has a handshake, and its alert");
}

#[test]
fn lines_of_one_client_that_is_refused_are_few_and_say_how_many_they_stand_for() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let mut relay = Plan::new(&stub).start();
    let lines = |relay: &Relay| -> Vec<String> {
        let said = relay.stderr();
        said.lines().filter(|line| line.contains(" access ")).map(ToOwned::to_owned).collect()
    };
    for n in 0..60 {
        // A handshake that fails, and a destination that is not listed.
        let mut stream = relay.connect();
        stream.write_all(b"\x16\x03\x01\x00\x01\x00").unwrap();
        ends(&mut stream);
        relay.refused_connect(&format!("host-{n}.example:443"));
    }
    let single = lines(&relay).len();
    assert!((1..=20).contains(&single), "{single} lines");
    serves(&relay);
    assert!(lines(&relay).len() > single, "who is served has its lines all the same");
    relay.stop();
    let last = lines(&relay);
    let counts = last.iter().filter_map(|line| {
        let (_, count) = line.split_once(" count=")?;
        count.split(' ').next()?.parse::<usize>().ok()
    });
    assert_eq!(single + counts.sum::<usize>(), 120);
}

#[test]
fn out_of_descriptors_it_goes_on_serving_and_accepts_again_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let mut few = tool("prlimit", "util-linux");
    few.arg("--nofile=80:80");
    let mut relay = Plan::new(&stub).start_under(few);
    let mut kept = relay.inside();
    assert_eq!(ask(&mut kept, good()).status, 404);
    let mut held: Vec<TcpStream> = (0..100).map(|_| relay.connect()).collect();
    eventually("descriptors run out", || {
        relay.stderr().contains("no connection can be accepted").then_some(())
    });
    for _ in 0..5 {
        assert_eq!(ask(&mut kept, good()).status, 404);
    }
    assert!(relay.is_running());
    // Those that say nothing give way, also before any of them closes.
    eventually("somebody else is accepted", || (connect_status(&relay) == Some(200)).then_some(()));
    held.clear();
    eventually("it accepts again", || (connect_status(&relay) == Some(200)).then_some(()));
    serves(&relay);
    assert!(relay.verb(&["check"]).status.success());
}

#[test]
fn passwords_that_take_long_to_check_keep_nobody_waiting_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = Plan::new(&stub);
    // The most rounds that a file may ask for, so that a few checks are as much as a flood.
    let hash = "pbkdf2-sha256$10000000$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    std::fs::write(plan.path("users"), format!("qlik:{hash}\n")).unwrap();
    let owner_alone = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(plan.path("users"), owner_alone).unwrap();
    let relay = plan.start();
    let begun = SystemTime::now();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..100)
            .map(|n: usize| {
                let mut stream = relay.connect_from(&format!("127.0.1.{n}"));
                let pair = ["cWxpazp4", "cWxpazp5"][n % 2];
                let connect = format!(
                    "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\nProxy-Authorization: Basic {pair}\r\n\r\n"
                );
                scope.spawn(move || ask(&mut stream, connect))
            })
            .collect();
        serves(&relay);
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(begun.elapsed().unwrap() < Duration::from_secs(40), "{:?}", begun.elapsed());
    let busy: Vec<_> = answers.iter().filter(|answer| answer.status != 407).collect();
    assert!(busy.len() > 30, "all were checked: {}", busy.len());
    for answer in busy {
        answer.refuses_for_a_while(503, "proxy_internal_error");
        assert!(answer.closes() && answer.reason.contains("passwords"), "{answer:?}");
    }
}

/// A body of which all but the end is sent: its head, and so much of it.
fn half_sent(relay: &Relay, from: &str, announced: usize, sent: usize) -> Inside {
    let mut inside = relay.inside_from(from, "");
    let body = "x".repeat(sent);
    write!(inside, "POST /v1/sync HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {announced}\r\n\r\n{body}")
        .unwrap();
    inside.flush().unwrap();
    inside
}

#[test]
fn bodies_that_are_announced_and_do_not_come_take_nothing_from_others() {
    let (_stub, relay, _folder) = pair();
    let _held: Vec<_> =
        (0..16).map(|n: usize| half_sent(&relay, &format!("127.0.0.{}", 2 + n % 8), 64 << 20, 1)).collect();
    for from in ["127.0.0.99", "127.0.0.2"] {
        let begun = SystemTime::now();
        let answer = ask(&mut relay.inside_from(from, ""), post("/v1/sync", IDLE));
        assert_eq!(answer.status, 200, "{from}: {answer:?}");
        assert!(begun.elapsed().unwrap() < Duration::from_secs(3), "{from}: {:?}", begun.elapsed());
    }
}

#[test]
fn one_address_can_fill_a_part_of_the_memory_for_bodies_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let limits = "[limits]\nmax_body = \"1MiB\"\nall_bodies = \"4MiB\"";
    let relay = Plan::new(&stub).with("[limits]", limits).start();
    let length = 1 << 20;
    let mut first = half_sent(&relay, "127.0.0.2", length, length - 1);
    let refused = eventually("the share of the address is taken", || {
        let answer = ask(&mut relay.inside_from("127.0.0.2", ""), post("/v1/sync", IDLE));
        (answer.status != 200).then_some(answer)
    });
    refused.refuses_for_a_while(503, "proxy_internal_error");
    assert!(refused.reason.contains("too many request bodies"), "{refused:?}");
    for _ in 0..3 {
        let answer = ask(&mut relay.inside_from("127.0.0.3", ""), post("/v1/sync", IDLE));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // The one that was there first is heard to its end; then there is room again.
    first.write_all(b"x").unwrap();
    assert_eq!(Answer::read(&mut first).status, 503);
    let answer = ask(&mut relay.inside_from("127.0.0.2", ""), post("/v1/sync", IDLE));
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn compressed_bodies_of_ten_thousand_changes_keep_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).start();
    let patch = r#"{"instance":"","version":0,"license":"9999000000001253","allotment":"professional","subject":"a\\b","created":""}"#;
    let body = format!(
        r#"{{"source":"{SOURCE}","bases":[{{"license":"9999000000001253","version":1}}],"patches":[{}]}}"#,
        vec![patch; 10_000].join(",")
    );
    let body = gzip(body.as_bytes());
    let head = format!(
        "POST /v1/sync HTTP/1.1\r\nHost: {HOST}\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let request = [head.as_bytes(), &body[..]].concat();
    let (done, begun) = (AtomicBool::new(false), SystemTime::now());
    let (slowest, asked) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let sent: Vec<_> = (2..7)
                .map(|n| {
                    let (relay, request) = (&relay, &request);
                    scope.spawn(move || {
                        ask(&mut relay.inside_from(&format!("127.0.0.{n}"), ""), request).status
                    })
                })
                .collect();
            let statuses: Vec<u16> = sent.into_iter().map(|sent| sent.join().unwrap()).collect();
            done.store(true, Ordering::Relaxed);
            statuses
        });
        let (mut slowest, mut asked) = (Duration::ZERO, 0);
        let mut kept = relay.inside();
        while !done.load(Ordering::Relaxed) {
            let asked_at = SystemTime::now();
            assert_eq!(ask(&mut kept, post("/v1/sync", IDLE)).status, 200);
            slowest = slowest.max(asked_at.elapsed().unwrap());
            asked += 1;
        }
        let statuses = flood.join().unwrap();
        assert!(statuses.iter().all(|status| *status < 500), "{statuses:?}");
        (slowest, asked)
    });
    let all = begun.elapsed().unwrap();
    println!("{asked} idle syncs in {all:?}, the slowest took {slowest:?}");
    assert!(slowest < all / 4, "{slowest:?} of {all:?}");
}

#[test]
fn bodies_for_which_the_machine_has_no_memory_are_refused_and_end_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let mut narrow = tool("prlimit", "util-linux");
    // glibc reserves 64 MiB of addresses for each thread, or not, as it finds them; then no thread could be started.
    narrow.arg("--as=300000000").env("MALLOC_ARENA_MAX", "1");
    let mut relay = Plan::new(&stub).start_under(narrow);
    serves(&relay);
    std::thread::scope(|scope| {
        for n in 2..6 {
            let mut inside = relay.inside_from(&format!("127.0.0.{n}"), "");
            scope.spawn(move || {
                let length = 60 << 20;
                let head =
                    format!("POST /v1/sync HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n");
                // One that is refused is not read to its end.
                let _ =
                    inside.write_all(head.as_bytes()).and_then(|()| inside.write_all(&vec![b'x'; length]));
                let _ = inside.read(&mut [0]);
            });
        }
    });
    assert!(relay.is_running());
    assert!(relay.stderr().contains("too many request bodies"), "{}", relay.stderr());
    serves(&relay);
}

#[test]
fn a_log_that_nobody_reads_holds_up_neither_requests_nor_the_end_and_what_it_lost_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let fifo = folder.path().join("fifo");
    assert!(run(tool("mkfifo", "coreutils").arg(&fifo)).status.success());
    let mut reader = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
    let through_fifo = || {
        let mut shell = tool("sh", "dash");
        shell.args(["-c", "exec \"$@\" 2>\"$0\""]).arg(&fifo);
        shell
    };
    let mut relay = Plan::new(&stub).start_under(through_fifo());
    let mut inside = relay.inside();
    // A pipe takes 64 KiB, the queue 4,096 lines.
    for _ in 0..5000 {
        assert_eq!(ask(&mut inside, good()).status, 404);
    }
    let mut all = String::new();
    let mut buffer = vec![0; 64 * 1024];
    while !all.contains(" lines of this log were dropped, because they could not be written\n") {
        let read = reader.read(&mut buffer).unwrap();
        all.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert_eq!(ask(&mut inside, good()).status, 404);

    // The pipe is full again, and it is told to stop.
    for _ in 0..1000 {
        assert_eq!(ask(&mut inside, good()).status, 404);
    }
    drop(inside);
    let begun = SystemTime::now();
    assert_eq!(relay.stop().code(), Some(0));
    assert!(begun.elapsed().unwrap() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn connections_to_the_admin_address_are_few_and_short() {
    let (_stub, relay, _folder) = pair();
    let before = relay.descriptors();
    if let Err(e) = &before {
        skip::skipped(&format!("the descriptors of the relay can't be counted, the rest is tested: {e}"));
    }
    // How many more than before; none where they can't be counted.
    let more = || before.as_ref().map_or(0, |before| relay.descriptors().unwrap().saturating_sub(*before));
    let begun = SystemTime::now();
    let mut half: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(relay.admin).unwrap();
            stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: re").unwrap();
            stream
        })
        .collect();
    // Those that have been silent for longest give way.
    for _ in 0..10 {
        let asked_at = SystemTime::now();
        assert_eq!(relay.admin("/readyz").0, 200);
        assert!(asked_at.elapsed().unwrap() < Duration::from_secs(2), "{:?}", asked_at.elapsed());
    }
    serves(&relay);
    let most = 64 + 8;
    assert!(more() <= most, "{} of at most {most}", more());
    let _ = half[0].read_to_end(&mut Vec::new());
    assert!(begun.elapsed().unwrap() < Duration::from_secs(8), "{:?}", begun.elapsed());
    // The last of them have their time, and no more.
    let _ = half[299].read_to_end(&mut Vec::new());
    assert!(begun.elapsed().unwrap() < Duration::from_secs(20), "{:?}", begun.elapsed());
    drop(half);
    eventually("descriptors are given back", || (more() <= 4).then_some(()));

    // One request a connection, and nothing is changed here.
    let mut stream = TcpStream::connect(relay.admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(ask(&mut stream, "GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n").closes());
    is_closed(&mut stream);
    for (method, status) in [("POST", 405), ("DELETE", 405), ("OPTIONS", 405)] {
        let mut stream = TcpStream::connect(relay.admin).unwrap();
        let asked = format!("{method} /readyz HTTP/1.1\r\nHost: relay\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(ask(&mut stream, asked).status, status, "{method}");
    }
    assert_eq!(relay.admin("/else").0, 404);
}

#[test]
fn memory_is_flat_over_many_requests() {
    let (stub, relay, _folder) = pair();
    let mut inside = relay.inside();
    let mut many = |count: usize| {
        for n in 0..count {
            let (request, status) = if n % 20 == 0 { (post("/v1/sync", IDLE), 200) } else { (good(), 404) };
            assert_eq!(ask(&mut inside, request).status, status);
        }
        relay.vital("VmRSS")
    };
    let before = many(1000);
    let after = many(4000);
    assert!(after < before + 16 * 1024, "{before} KiB grew to {after} KiB");
    assert_eq!(stub.counters()["requests"], 5000);
}
