//! Under a mixed load that goes on, the relay grows in nothing: memory, descriptors and threads are as many at the end as
//! they were after the warm-up.

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::common::wire::*;
use crate::common::*;

/// How long it goes on, and what is looked at.
struct Form {
    /// Until then tables fill, and threads and buffers are made.
    warm_up: Duration,
    /// From then on it must be flat.
    flat: Duration,
    /// Between two samples.
    every: Duration,
    /// Between two reloads.
    reload: Duration,
    /// By how much resident memory may grow, in KiB; a short run says nothing about it.
    memory: Option<u64>,
}

const LONG: Form = Form {
    warm_up: Duration::from_secs(120),
    flat: Duration::from_secs(480),
    every: Duration::from_secs(3),
    reload: Duration::from_secs(15),
    memory: Some(MEMORY),
};
const SHORT: Form = Form {
    warm_up: Duration::from_secs(5),
    flat: Duration::from_secs(12),
    every: Duration::from_millis(200),
    reload: Duration::from_secs(2),
    memory: None,
};

/// By how many KiB of resident memory: the allocator gives pages back late, so that it moves by several MiB at any time.
const MEMORY: u64 = 12 * 1024;
/// By how many descriptors the medians may differ: connections come and go.
const DESCRIPTORS: u64 = 8;
/// By how many threads: those for blocking work stay once they are made, as many as ever had work at one time.
const THREADS: u64 = 3;
/// Places of one client; the silent one wants more.
const PLACES: usize = 24;
const DEPLOYMENTS: usize = 4;
/// Fewer than any table of them holds, so that it is full in the warm-up.
const STRANGERS: usize = 40;
/// Changes of one compressed body, which is read off the workers.
const MANY: usize = 300;

#[derive(Clone, Copy, Debug)]
struct Sample {
    memory: u64,
    descriptors: u64,
    threads: u64,
}

/// A part of a sample.
type Part = fn(&Sample) -> u64;

/// The relay under load, and how often each part of it has got what it must get.
struct Load {
    relay: Relay,
    over: AtomicBool,
    syncs: AtomicU64,
    dialled: AtomicU64,
    refused: AtomicU64,
    silent: AtomicU64,
    reloads: AtomicU64,
}

#[test]
fn for_some_seconds_of_mixed_load_descriptors_and_threads_are_flat() {
    soak(&SHORT);
}

#[test]
#[ignore = "takes ten minutes: tests/run --all"]
fn for_ten_minutes_of_mixed_load_memory_descriptors_and_threads_are_flat() {
    soak(&LONG);
}

fn soak(form: &Form) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub)
        .with("[listen]", &format!("[listen]\nmax_connections_per_address = {PLACES}"))
        .sources(&sources(0))
        .start();
    let zero = || AtomicU64::new(0);
    let load = Load {
        relay,
        over: AtomicBool::new(false),
        syncs: zero(),
        dialled: zero(),
        refused: zero(),
        silent: zero(),
        reloads: zero(),
    };
    let samples = std::thread::scope(|scope| {
        for n in 0..DEPLOYMENTS {
            let load = &load;
            scope.spawn(move || load.until_over(|| load.a_deployment(n)));
        }
        scope.spawn(|| load.until_over(|| load.whoever_dials_anew()));
        scope.spawn(|| load.until_over(|| load.strangers()));
        scope.spawn(|| load.until_over(|| load.whoever_is_silent()));
        scope.spawn(|| load.until_over(|| load.reloads(form.reload)));
        let samples = load.until_over(|| load.samples(form));
        load.over.store(true, Ordering::Relaxed);
        samples
    });
    load.tells();
    judge(form, &samples);
}

/// Each deployment is one entry of its own; the last line changes with each reload.
fn sources(generation: usize) -> String {
    let mut text = String::new();
    for n in 0..DEPLOYMENTS {
        text.push_str(&format!("[[source]]\nid = \"deployment-{n}\"\nlicenses = [\"{LICENSE}\"]\n\n"));
    }
    text + &format!("[[source]]\nid = \"none-{generation}\"\n")
}

/// The medians of the first and of the last quarter after the warm-up, which it prints.
fn judge(form: &Form, samples: &[Sample]) {
    let quarter = samples.len() / 4;
    let medians = |of: Part| {
        let median = |part: &[Sample]| {
            let mut values: Vec<u64> = part.iter().map(of).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        (median(&samples[..quarter]), median(&samples[samples.len() - quarter..]))
    };
    let what: [(&str, Part, Option<u64>); 3] = [
        ("KiB of memory", |sample| sample.memory, form.memory),
        ("descriptors", |sample| sample.descriptors, Some(DESCRIPTORS)),
        ("threads", |sample| sample.threads, Some(THREADS)),
    ];
    let all = what.map(|(what, of, most)| (what, medians(of), most));
    for (what, (first, last), most) in &all {
        let most = most.map_or("and may".to_owned(), |most| format!("by at most {most}"));
        println!("{what}: {first} at first, {last} in the end, to grow {most}");
    }
    for (what, (first, last), most) in all {
        assert!(most.is_none_or(|most| last <= first + most), "{what}: {first} grew to {last}");
    }
}

impl Load {
    /// A part that fails ends all of it.
    fn until_over<T>(&self, part: impl FnOnce() -> T) -> T {
        struct Ends<'a>(&'a AtomicBool);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.store(std::thread::panicking() || self.0.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        let _ends = Ends(&self.over);
        part()
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Keeps its connection, half of them through `CONNECT`: idle syncs, some with changes, some of them long and compressed.
    fn a_deployment(&self, n: usize) {
        let id = format!("deployment-{n}");
        let many = compressed(&id);
        let mut inside = self.dial(&format!("127.0.0.{}", 10 + n), n.is_multiple_of(2));
        let mut base = 0;
        // All at the same time, so that whatever takes the most is there from the start.
        for turn in 0.. {
            if !self.goes_on() {
                return;
            }
            let (request, status) = match turn % 50 {
                // The stub does not unpack it.
                0 => (many.clone(), 404),
                10 | 20 | 30 | 40 => (sync(SYNC, &id, base), 200),
                _ => (sync(IDLE, &id, base), 200),
            };
            let answer = ask(&mut inside, request);
            assert_eq!(answer.status, status, "{answer:?}");
            if status == 200 {
                // What it has been told once it is not told again.
                let told: Value = serde_json::from_slice(&answer.body).unwrap();
                base = told["bases"][0]["version"].as_u64().unwrap();
            }
            self.syncs.fetch_add(1, Ordering::Relaxed);
            // The pace is a part of the load.
            sleep(Duration::from_millis(100));
        }
    }

    fn dial(&self, address: &str, connect: bool) -> Inside {
        if connect {
            self.relay.inside_from(address, "")
        } else {
            tls(self.relay.connect_from(address), HOST, &self.relay.root())
        }
    }

    /// A connection for each request, by turns through `CONNECT` and without; some break off in the middle.
    fn whoever_dials_anew(&self) {
        for turn in 0.. {
            if !self.goes_on() {
                return;
            }
            let mut inside = self.dial("127.0.0.20", turn % 2 == 0);
            if turn % 5 == 0 {
                inside.write_all(b"POST /v1/sync HTTP/1.1\r\nContent-Le").unwrap();
                inside.flush().unwrap();
            } else {
                let answer = ask(&mut inside, good());
                assert_eq!(answer.status, 404, "{answer:?}");
                self.dialled.fetch_add(1, Ordering::Relaxed);
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// Nobody knows them, or what they want, or what they say.
    fn strangers(&self) {
        for turn in 0.. {
            if !self.goes_on() {
                return;
            }
            let address = format!("127.0.1.{}", 1 + turn % STRANGERS);
            let mut stream = self.relay.connect_from(&address);
            match turn % 4 {
                0 => {
                    let mut inside = self.dial(&address, true);
                    let body = IDLE.replace(SOURCE, &format!("stranger-{}", turn % STRANGERS));
                    assert_eq!(ask(&mut inside, post("/v1/sync", &body)).status, 503);
                }
                1 => {
                    let asked = "CONNECT other.example:443 HTTP/1.1\r\nHost: other.example\r\n\r\n";
                    assert_eq!(ask(&mut stream, asked).status, 403);
                }
                2 => assert_eq!(ask(&mut stream, "SSH-2.0-OpenSSH_9\r\n\r\n").status, 400),
                _ => {
                    stream.write_all(b"\x16\x03\x01\x00\x01\x00").unwrap();
                    ends(&mut stream);
                }
            }
            self.refused.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(100));
        }
    }

    /// Wants twice as many places as one client has, and says nothing on any of them.
    fn whoever_is_silent(&self) {
        let mut held: VecDeque<TcpStream> = VecDeque::new();
        while self.goes_on() {
            let mut stream = self.relay.connect_from("127.0.0.30");
            if held.len().is_multiple_of(2) {
                // Over the limit it is closed already.
                let _ = stream.write_all(b"\x16\x03\x01\x02\x00\x01");
            }
            held.push_back(stream);
            if held.len() > 2 * PLACES {
                held.pop_front();
            }
            self.silent.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(150));
        }
    }

    fn reloads(&self, every: Duration) {
        let mut last = SystemTime::now();
        while self.goes_on() {
            sleep(Duration::from_millis(100));
            if last.elapsed().unwrap_or_default() >= every {
                last = SystemTime::now();
                let reloads = self.reloads.fetch_add(1, Ordering::Relaxed);
                fs::write(self.relay.path("sources.toml"), sources(reloads as usize + 1)).unwrap();
                self.relay.signal("HUP");
            }
        }
    }

    fn samples(&self, form: &Form) -> Vec<Sample> {
        let count = self.relay.descriptors().map(drop);
        if let Err(e) = &count {
            skip::skipped(&format!("the descriptors of the relay can't be counted, the rest is tested: {e}"));
        }
        let begun = SystemTime::now();
        let mut samples = Vec::new();
        while begun.elapsed().unwrap_or_default() < form.warm_up + form.flat {
            sleep(form.every);
            assert!(self.goes_on(), "a part of the load has failed");
            if begun.elapsed().unwrap_or_default() > form.warm_up {
                let sample = Sample {
                    memory: self.relay.vital("VmRSS"),
                    descriptors: self.relay.descriptors().map_or(0, |count| count as u64),
                    threads: self.relay.vital("Threads"),
                };
                println!("after {} s: {sample:?}", begun.elapsed().unwrap_or_default().as_secs());
                samples.push(sample);
            }
        }
        samples
    }

    /// All of the load was there.
    fn tells(&self) {
        let parts = [
            ("syncs", &self.syncs),
            ("requests on connections of their own", &self.dialled),
            ("refusals", &self.refused),
            ("silent connections", &self.silent),
            ("reloads", &self.reloads),
        ];
        for (what, count) in parts {
            let count = count.load(Ordering::Relaxed);
            println!("{count} {what}");
            assert!(count > 2, "{count} {what}");
        }
        let (_, metrics) = self.relay.admin("/metrics");
        let gave_way =
            metrics.lines().find(|line| line.starts_with("license_relay_connections_gave_way_total"));
        println!("{}", gave_way.unwrap());
    }
}

/// A sync of this deployment that knows all changes up to a version.
fn sync(sample: &str, id: &str, base: u64) -> Vec<u8> {
    let mut body: Value = serde_json::from_str(sample).unwrap();
    body["source"] = id.into();
    body["bases"][0]["version"] = base.into();
    post("/v1/sync", &body.to_string()).into_bytes()
}

/// A sync of many changes, as gzip.
fn compressed(source: &str) -> Vec<u8> {
    let patch = |n: usize| {
        format!(
            r#"{{"instance":"","version":0,"license":"{LICENSE}","allotment":"professional","subject":"acme\\person{n}","created":""}}"#
        )
    };
    let patches: Vec<String> = (0..MANY).map(patch).collect();
    let body = format!(
        r#"{{"source":"{source}","bases":[{{"license":"{LICENSE}","version":1}}],"patches":[{}]}}"#,
        patches.join(",")
    );
    let body = gzip(body.as_bytes());
    let head = format!(
        "POST /v1/sync HTTP/1.1\r\nHost: {HOST}\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}
