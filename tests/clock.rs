//! A clock that is set while the relay runs: the log keeps the time as it was told, its order by number, and says by how
//! much the clock was set.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::*;
use license_relay::ledger::segment::{self, Lines};
use license_relay::report::verify::{Verdict, verify};
use serde_json::Value;

const HOUR: f64 = 3600.0;
const YEAR: f64 = 365.0 * 24.0 * HOUR;

/// Debian's libfaketime, wherever its architecture puts it.
fn library() -> PathBuf {
    tool("faketime", "faketime");
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found =
        folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists());
    found.next().expect("libfaketime is not installed; run: apt-get install faketime")
}

fn set(clock: &Path, offset: &str) {
    // Put there whole: it is read at every look at the clock.
    let new = clock.with_extension("new");
    fs::write(&new, offset).unwrap();
    fs::rename(new, clock).unwrap();
}

/// All records, of whichever segment.
fn all(relay: &Relay) -> Vec<Value> {
    let mut all = Vec::new();
    for segment in segment::list(&relay.path("audit")).unwrap() {
        // One that is put away meanwhile has another name.
        let Ok(mut lines) = Lines::of(&segment) else { return self::all(relay) };
        while let Some((b'\n', line)) = lines.next_line().unwrap().split_last() {
            all.push(serde_json::from_slice(line).unwrap());
        }
    }
    all
}

/// By how much the clock was set, each time.
fn steps(relay: &Relay) -> Vec<f64> {
    let steps = all(relay).into_iter().filter(|record| record["event"]["action"] == "relay.clock_step");
    steps.map(|record| record["qlik"]["delta"].as_f64().unwrap()).collect()
}

#[track_caller]
fn about(step: f64, wanted: f64) {
    assert!((step - wanted).abs() < 5.0, "{step} and not {wanted}");
}

#[test]
fn a_clock_set_back_an_hour_and_ahead_a_year_is_told_with_the_difference_and_the_order_stays() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let clock = folder.path().join("clock");
    set(&clock, "+0");
    let mut env = tool("env", "coreutils");
    env.arg(format!("LD_PRELOAD={}", library().display()));
    env.arg(format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()));
    // The other clock goes on as it does when somebody sets the time.
    env.args(["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"]);
    let mut relay = Plan::new(&stub).start_under(env);
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    assert!(steps(&relay).is_empty());

    set(&clock, "-1h");
    eventually("the first step is told", || (steps(&relay).len() == 1).then_some(()));
    about(steps(&relay)[0], -HOUR);
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    set(&clock, "+365d");
    eventually("the second step is told", || (steps(&relay).len() == 2).then_some(()));
    about(steps(&relay)[1], YEAR + HOUR);
    assert!(relay.stop().success());

    // At the next start, by the right time: the last record is a year ahead.
    let mut relay = relay.again();
    eventually("the third step is told", || (steps(&relay).len() == 3).then_some(()));
    about(steps(&relay)[2], -YEAR);
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    assert!(relay.stop().success());

    let log = all(&relay);
    let sequences: Vec<u64> =
        log.iter().map(|record| record["event"]["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (0..log.len() as u64).collect::<Vec<_>>());
    let times: Vec<&str> = log.iter().map(|record| record["@timestamp"].as_str().unwrap()).collect();
    assert!(!times.is_sorted(), "the time is not kept as it was told");
    // Each day that was, and no other, has its segments: also after the clock was set back.
    let firsts = segment::list(&relay.path("audit")).unwrap();
    assert!(firsts.len() >= 3, "{firsts:?}");
    let reports = log.iter().filter(|record| record["event"]["action"] == "license.consumption.report");
    let reported: i64 = reports.map(|record| record["qlik"]["delta"].as_i64().unwrap()).sum();
    assert_eq!(reported, stub.consumption());
    let end = verify(&relay.path("audit"), &[], |_| {}).unwrap();
    assert_eq!((end.verdict(), end.unsigned), (Verdict::Fine, 0), "{end:#?}");
}
