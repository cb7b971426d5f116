//! One deployment that asks without end takes nothing from another: its refusals are cheap, and the other is neither
//! refused nor kept waiting.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use common::wire::*;
use common::*;

const FLOODING: &str = "127.0.0.2";
const STEADY: &str = "127.0.0.3";
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
