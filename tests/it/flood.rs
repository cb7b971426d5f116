//! Whoever asks without end, or with few bytes for much, takes nothing from another: its refusals are cheap, what it causes
//! is bounded, and the other is neither refused nor kept waiting.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::common::backend::Backend;
use crate::common::wire::*;
use crate::common::*;

const FLOODING: &str = "127.0.0.2";
const STEADY: &str = "127.0.0.3";
/// Addresses that know an id: more than have a place of their own at an entry.
const OTHERS: usize = 21;
/// As many changes as a message may have.
const CHANGES: usize = 50_000;
/// Syncs of the steady one with the flood, and as many without.
const SYNCS: usize = 200;
const PACE: Duration = Duration::from_millis(15);
/// More than this the flood does not ask, should the other take for ever.
const MOST: u64 = 20_000;
/// Between two requests of a flooding connection: what is tried is the relay, not how a test that never rests starves
/// another of a small machine's two cores.
const BREATH: Duration = Duration::from_millis(1);

/// How long each sync of the steady deployment takes, in order of length. None is refused.
fn steady(inside: &mut Inside) -> Vec<Duration> {
    let mut took: Vec<Duration> = (0..SYNCS)
        .map(|n| {
            let begun = SystemTime::now();
            let answer = ask(inside, post("/v1/sync", &IDLE.replace(SOURCE, "steady")));
            assert_eq!(answer.status, 200, "sync {n}: {answer:?}");
            let took = begun.elapsed().unwrap();
            // The pace is what is tried, not a wait for something.
            std::thread::sleep(PACE.saturating_sub(took));
            took
        })
        .collect();
    took.sort();
    took
}

fn p99(took: &[Duration]) -> Duration {
    took[took.len() * 99 / 100 - 1]
}

#[test]
fn a_deployment_that_floods_takes_nothing_from_another() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    // The defaults for a source; the steady one, which is a busy one, has a limit of its own above its pace.
    let all = "{ requests = 100000, per = \"1s\", burst = 100000 }";
    let sources = "[[source]]\nid = \"flooding\"\n\n\
                   [[source]]\nid = \"steady\"\nlimit = { requests = 6000, per = \"1m\", burst = 600 }\n";
    let plan = Plan::new(&stub)
        .with(&format!("per_source = {all}"), "per_source = { requests = 60, per = \"1m\", burst = 30 }")
        .with(
            &format!("per_address = {all}"),
            "per_address = { requests = 6000, per = \"1m\", burst = 600 }",
        );
    let relay = plan.sources(sources).start();

    let mut inside = relay.inside_from(STEADY, "");
    let without = steady(&mut inside);
    let (over, asked, statuses) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    let flood = || {
        let mut inside = relay.inside_from(FLOODING, "");
        while !over.load(Ordering::Relaxed) && asked.fetch_add(1, Ordering::Relaxed) < MOST {
            let answer = ask(&mut inside, post("/v1/sync", &IDLE.replace(SOURCE, "flooding")));
            *statuses.lock().unwrap().entry(answer.status).or_insert(0) += 1;
            std::thread::sleep(BREATH);
        }
    };
    let with = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(flood);
        }
        eventually("the flood is over its limit", || (asked.load(Ordering::Relaxed) > 1000).then_some(()));
        let with = steady(&mut inside);
        over.store(true, Ordering::Relaxed);
        with
    });

    let statuses = statuses.into_inner().unwrap();
    let (passed, refused) =
        (statuses.get(&200).copied().unwrap_or(0), statuses.get(&429).copied().unwrap_or(0));
    assert_eq!(statuses.values().sum::<u64>(), passed + refused, "{statuses:?}");
    assert!(passed <= 30 + 60 && refused > 1000, "its limit was in force: {statuses:?}");
    // Room for a busy machine on which the flood's own clients take their share: five times, or 50 ms more.
    let (without, with) = (p99(&without), p99(&with));
    let most = (5 * without).max(without + Duration::from_millis(50));
    println!("p99 without a flood {without:?}, with it {with:?} at {refused} refusals");
    assert!(with <= most, "p99 without a flood {without:?}, with it {with:?}");
}

#[test]
fn ten_short_requests_for_fifty_thousand_records_each_cause_those_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = br#"{"bases":[],"patches":[]}"#;
    let told = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", nothing.len());
    let told: Arc<[u8]> = [told.as_bytes(), nothing].concat().into();
    let backend = Backend::keeping(folder.path(), move |_| told.clone());
    let plan = Plan::leading_to(&backend.address.to_string(), &backend.ca);
    let relay = plan.with_default_limits().start();
    let body = format!(
        r#"{{"source":"{SOURCE}","bases":[{{"license":"{LICENSE}","version":1}}],"patches":[{}]}}"#,
        vec![r#"{"subject":""}"#; CHANGES].join(",")
    );
    let body = gzip(body.as_bytes());
    let fields = format!("Host: {HOST}\r\nContent-Encoding: gzip\r\nContent-Length: {}", body.len());
    let request = [format!("POST /v1/sync HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes(), &body].concat();
    assert!(request.len() < 2000, "{}", request.len());

    let before = (relay.vital("VmHWM"), relay.log_text().len());
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let asked = || ask(&mut relay.inside_from(FLOODING, ""), &request);
        let asked: Vec<_> = (0..10).map(|_| scope.spawn(asked)).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let (passed, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(passed.len(), 1, "{refused:?}");
    // Those that came while it was read may have found no room for their bodies.
    assert!(refused.iter().all(|answer| [429, 503].contains(&answer.status)), "{refused:?}");
    let refused = ask(&mut relay.inside_from(FLOODING, ""), &request);
    let wait = refused.refuses_for_a_while(429, "connection_limit_reached");
    assert!((400..=500).contains(&wait), "50,000 records at 6,000 a minute, and not {wait} s");
    let memory = relay.vital("VmHWM") - before.0;
    println!("{} bytes of log, {memory} KiB of memory", relay.log_text().len() - before.1);
    let log = relay.log();
    let asked = log.iter().filter(|record| record["qlik"]["direction"] == "out").count();
    assert_eq!(asked, 1 + CHANGES, "one message and its changes, and no more");
    assert!(memory < 200 * 1024, "{memory} KiB: more than one of them was read at a time");
}

#[test]
fn many_who_have_learned_an_id_do_not_use_up_the_limit_of_the_deployment_itself() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let sources = format!("[[source]]\nid = \"{SOURCE}\"\n");
    let relay = Plan::new(&stub).sources(&sources).with_default_limits().start();
    let mut itself = relay.inside_from("127.0.0.200", "");
    assert_eq!(ask(&mut itself, post("/v1/sync", IDLE)).status, 200);
    let mut others: Vec<Inside> =
        (1..=OTHERS).map(|n| relay.inside_from(&format!("127.0.1.{n}"), "")).collect();
    let mut statuses = BTreeMap::new();
    for round in 0..30 {
        for other in &mut others {
            *statuses.entry(ask(other, post("/v1/sync", IDLE)).status).or_insert(0) += 1;
        }
        if round % 3 == 0 {
            let answer = ask(&mut itself, post("/v1/sync", IDLE));
            assert_eq!(answer.status, 200, "in round {round}: {answer:?}");
        }
    }
    assert!(statuses.keys().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert!(statuses[&429] > 100, "those who have no place share one limit: {statuses:?}");
}
