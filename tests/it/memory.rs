//! Memory is bounded by what the configuration says: everything at once stays below the sum that `check` prints.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use license_relay::body_cost;
use license_relay::bounds;

use crate::common::backend::Backend;
use crate::common::wire::*;
use crate::common::*;

/// The most that the relay has had resident so far, in bytes.
fn peak(relay: &Relay) -> u64 {
    relay.vital("VmHWM") << 10
}

/// What `check` says that it takes at most.
fn at_most(relay: &Relay) -> u64 {
    let said = all_said(&relay.verb(&["check"]));
    let words = said.split("memory at most: ").nth(1).unwrap_or_else(|| panic!("no sum: {said}"));
    words.split(' ').next().unwrap().parse::<u64>().unwrap() << 20
}

fn asked(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/sync HTTP/1.1\r\nHost: {HOST}\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A sync with as many changes as are read, each as short as one can be.
fn sync(source: &str) -> Vec<u8> {
    let patches = vec![r#"{"subject":"a","allotment":"b"}"#; relay_log::bounds::CHANGES].join(",");
    let bases = format!(r#"[{{"license":"{LICENSE}","version":1}}]"#);
    gzip(format!(r#"{{"source":"{source}","bases":{bases},"patches":[{patches}]}}"#).as_bytes())
}

/// The dearest body that is known: objects of one member twice, and as much text as there is room for.
fn dearest() -> Vec<u8> {
    let pairs = vec![r#"{"a":1,"a":2}"#; (bounds::JSON_VALUES - 4) / 3].join(",");
    let text = "x".repeat(bounds::DECODED - pairs.len() - 10);
    gzip(format!(r#"["\n{text}",{pairs}]"#).as_bytes())
}

/// Tells as many changes as are read, whatever is asked.
fn told_much(_: &str) -> Vec<u8> {
    static TOLD: OnceLock<Vec<u8>> = OnceLock::new();
    let body = TOLD.get_or_init(|| sync("back end"));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn all_that_is_bounded_at_once_stays_below_the_sum_that_check_prints() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), told_much);
    told_much("");
    let (max_body, connections) = (4 << 20, 120);
    let least = body_cost::least(max_body, 1);
    let relay = Plan::leading_to(&backend.address.to_string(), &backend.ca)
        .with("[limits]", &format!("[limits]\nmax_body = {max_body}\nall_bodies = {least}"))
        .with("[listen]", &format!("[listen]\nmax_connections = {connections}"))
        .start();
    let sum = at_most(&relay);
    let quiet = peak(&relay);
    let (stranger, dear, known) = (asked(&sync("a stranger")), asked(&dearest()), post("/v1/sync", IDLE));
    let done = AtomicBool::new(false);
    let statuses = scope(|scope| {
        let relay = &relay;
        // Bodies that never end, until all of their memory is taken.
        let _held: Vec<_> = (2..6)
            .map(|n| {
                let mut inside = relay.inside_from(&format!("127.0.1.{n}"), "");
                let body = "x".repeat(max_body as usize - 1);
                let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {max_body}\r\n\r\n");
                let _ = inside.write_all(head.as_bytes()).and_then(|()| inside.write_all(body.as_bytes()));
                inside
            })
            .collect();
        let mut threads = Vec::new();
        for (from, request, times) in [(10, &stranger, 3), (20, &dear, 3)] {
            for n in 0..6 {
                threads.push(scope.spawn(move || {
                    let from = format!("127.0.2.{}", from + n);
                    (0..times)
                        .map(|_| ask(&mut relay.inside_from(&from, ""), request).status)
                        .collect::<Vec<_>>()
                }));
            }
        }
        for n in 0..4 {
            let known = &known;
            threads.push(
                scope.spawn(move || {
                    vec![ask(&mut relay.inside_from(&format!("127.0.3.{n}"), ""), known).status]
                }),
            );
        }
        let idle = scope.spawn(|| {
            let mut idle: Vec<Inside> = Vec::new();
            while !done.load(Ordering::Relaxed) {
                if idle.len() < connections - 30 {
                    idle.push(relay.inside_from(&format!("127.0.4.{}", 1 + idle.len() % 250), ""));
                } else {
                    sleep(Duration::from_millis(20));
                }
            }
            idle.len()
        });
        let statuses: Vec<Vec<u16>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        println!("{} idle connections", idle.join().unwrap());
        statuses
    });
    let most = peak(&relay);
    println!(
        "at most {} MiB, resident {} MiB, {} MiB before; {statuses:?}",
        sum >> 20,
        most >> 20,
        quiet >> 20
    );
    assert!(most < sum, "{most} of {sum}");
    let said = relay.stderr();
    for (what, at_least) in [("limits.all_bodies", 3), ("run license-relay sources allow", 6)] {
        let count = said.lines().filter(|line| line.contains(what)).count();
        println!("{count} answers with {what:?}");
        assert!(count >= at_least, "{count} answers with {what:?}: {said}");
    }
    // What the back end told is recorded whole.
    assert!(!said.contains("reply_unread"), "{said}");
}

/// Bodies that are beyond a bound, each with the words that name it.
fn beyond() -> &'static [(&'static str, Vec<u8>)] {
    static BEYOND: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    let list = |element: &str, count: usize| format!("[{}]", vec![element; count].join(","));
    let sync = |bases: &str, patches: &str| format!(r#"{{"bases":{bases},"patches":{patches}}}"#);
    let long = format!(r#"{{"subject":"a","allotment":"b","rejection":"{}"}}"#, "r".repeat(600));
    // Each byte is read as a character of three.
    let odd = [b"\"", &vec![0xff; bounds::JSON_TEXT / 3 + 1][..], b"\""].concat();
    BEYOND.get_or_init(|| {
        [
            ("more than 750000 values", list("0", bounds::JSON_VALUES)),
            ("an object of more than 50000 members", format!("{{{}}}", vec!["\"a\":0"; 50_001].join(","))),
            ("more than 10000 arrays and objects within each other", "[".repeat(bounds::JSON_LEVELS + 1)),
            ("longer than 16777216 bytes once it is decompressed", "0".repeat(bounds::DECODED + 1)),
            (
                "more than 50000 changes",
                sync("[{\"version\":1}]", &list("{}", relay_log::bounds::CHANGES + 1)),
            ),
            ("more than 50000 bases", sync(&list("{}", relay_log::bounds::CHANGES + 1), "[]")),
            (
                "the changes of the body take more than 20000000 bytes of memory",
                sync("[{\"version\":1}]", &list(&long, 25_500)),
            ),
        ]
        .map(|(words, body)| (words, body.into_bytes()))
        .into_iter()
        .chain([("more than 16777216 bytes of text that is not written as it is", odd)])
        .map(|(words, body)| (words, gzip(&body)))
        .collect()
    })
}

/// Tells one of these, whose number is the last part of the path.
fn told_beyond(request: &str) -> Vec<u8> {
    let path = request.split(' ').nth(1).unwrap();
    let Some((_, body)) = path.strip_prefix("/told/").map(|at| &beyond()[at.parse::<usize>().unwrap()])
    else {
        return b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn a_bound_is_named_where_a_request_is_refused_where_it_is_recorded_and_where_a_reply_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), told_beyond);
    let proven = "127.0.0.77";
    let list = format!(
        "[[source]]\nid = \"{SOURCE}\"\nlicenses = [\"{LICENSE}\"]\n[[source]]\nnetworks = [\"{proven}/32\"]\n"
    );
    let relay = Plan::leading_to(&backend.address.to_string(), &backend.ca).sources(&list).start();
    for (at, (words, body)) in beyond().iter().enumerate() {
        let count = |what: &[&str]| {
            let log = relay.log_text();
            let with = |line: &&str| line.contains(words) && what.iter().any(|what| line.contains(what));
            log.lines().filter(with).count()
        };
        let refused = ask(&mut relay.inside_from(&format!("127.0.0.{}", 100 + at), ""), asked(body));
        assert!(
            refused.refuses(503, "http_request_denied").contains("can't be read"),
            "{words}: {refused:?}"
        );
        eventually(words, || (count(&["access.denied", "access.invalid"]) == 1).then_some(()));
        assert_eq!(ask(&mut relay.inside_from(proven, ""), asked(body)).status, 204, "{words}");
        assert_eq!(count(&["license.unrecognised.request"]), 1, "{words}");
        let told = ask(&mut relay.inside(), post(&format!("/told/{at}"), IDLE));
        assert_eq!((told.status, &told.body), (200, body), "{words}");
        assert_eq!(count(&["the back end's reply could not be read"]), 1, "{words}");
    }
}

/// Tells nothing, in as many bytes as are read.
fn told_long(_: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bounds::REPLY_BYTES);
    [head.into_bytes(), vec![b'x'; bounds::REPLY_BYTES]].concat()
}

#[test]
fn a_reply_for_which_there_is_no_memory_is_passed_on_and_recorded_as_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start(folder.path(), told_long);
    let least = body_cost::least(1 << 20, 1);
    let relay = Plan::leading_to(&backend.address.to_string(), &backend.ca)
        .with("[limits]", &format!("[limits]\nmax_body = \"1MiB\"\nall_bodies = {least}"))
        .with("[upstream]", "[upstream]\nresponse_timeout = \"2s\"")
        .start();
    // Clients that read nothing keep their replies in memory.
    let _held: Vec<_> = (2..8)
        .map(|n| {
            let mut inside = relay.inside_from(&format!("127.0.0.{n}"), "");
            inside.write_all(post("/v1/sync", IDLE).as_bytes()).unwrap();
            inside.flush().unwrap();
            inside
        })
        .collect();
    let no_memory = || {
        let log = relay.log_text();
        log.lines().filter(|line| line.contains("no memory to read the reply in (limits.all_bodies)")).count()
    };
    eventually("a reply finds no memory", || (no_memory() > 0).then_some(()));
    let answer = ask(&mut relay.inside(), post("/v1/sync", IDLE));
    assert_eq!((answer.status, answer.body.len()), (200, bounds::REPLY_BYTES));
}

#[test]
fn thirty_dear_requests_of_one_source_stay_below_the_sum_with_default_limits() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub)
        .with("per_source = { requests = 100000, per = \"1s\", burst = 100000 }\n", "")
        .with("[listen]", "[listen]\nmax_connections = 40\nmax_connections_per_address = 40")
        .start();
    let (sum, request) = (at_most(&relay), asked(&sync(SOURCE)));
    let statuses: Vec<u16> = scope(|scope| {
        let all: Vec<_> = (0..30)
            .map(|_| {
                let (mut inside, request) = (relay.inside(), &request);
                scope.spawn(move || ask(&mut inside, request).status)
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let most = peak(&relay);
    println!("at most {} MiB, resident {} MiB; {statuses:?}", sum >> 20, most >> 20);
    assert!(most < sum, "{most} of {sum}");
    // The stub reads nothing that is compressed.
    assert!(statuses.contains(&404), "none was let in: {statuses:?}");
}
