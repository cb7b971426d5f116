//! The log's growth is bounded by values that an administrator wrote: whoever has used up its bytes of a day is told so
//! before anything is forwarded or written.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::time::Duration;

use common::wire::*;
use common::*;

/// An entry with a budget.
fn entry(id: &str, budget: &str) -> String {
    let limit = format!(
        "{{ requests = 100000, per = \"1s\", burst = 100000, records = 1000000000, log_per_day = \"{budget}\" }}"
    );
    format!("[[source]]\nid = \"{id}\"\nlimit = {limit}\n")
}

/// A version above all that the stub tells.
const NEWEST: u64 = 1 << 40;

/// A sync of so many changes, of a deployment that stands at this version.
fn changes(id: &str, version: u64, count: usize) -> String {
    let patch = r#"{"instance":"","version":0,"license":"9999000000001253","allotment":"professional","subject":"a\\b","created":"2019-04-18T10:01:35.024031Z"}"#;
    let patches = vec![patch; count].join(",");
    let base = format!(r#"{{"license":"9999000000001253","version":{version}}}"#);
    post("/v1/sync", &format!(r#"{{"source":"{id}","bases":[{base}],"patches":[{patches}]}}"#))
}

#[test]
fn a_dear_first_message_passes_a_full_budget_is_owed_and_refuses_the_next_before_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources(&entry(SOURCE, "256KiB")).start();
    let mut inside = relay.inside();
    let begun = relay.log_text().len();
    assert_eq!(ask(&mut inside, changes(SOURCE, 0, 300)).status, 200);
    let written = relay.log_text().len() - begun;
    assert!(written > 150_000, "more than half of the budget: {written}");
    let sent = stub.counters()["requests"].clone();
    let refused = ask(&mut inside, changes(SOURCE, NEWEST, 0));
    let wait = refused.refuses_for_a_while(429, "connection_limit_reached");
    // What is written beyond half a budget is worked off at half a budget a day, and then the next must fit.
    let beyond = written as f64 - 128.0 * 1024.0;
    let most = (beyond + 3000.0) / (128.0 * 1024.0) * 86_400.0;
    let least = (beyond + 1300.0) / (128.0 * 1024.0) * 86_400.0;
    assert!((least..=most).contains(&(wait as f64)), "{wait} s, and {least} to {most} are true");
    assert!(refused.reason.contains("limits.per_source.log_per_day"), "{refused:?}");
    assert_eq!(stub.counters()["requests"], sent, "it is refused before it is sent");
    let mut other = relay.inside_from("127.0.0.2", "");
    assert_eq!(
        ask(&mut other, changes(SOURCE, NEWEST, 0)).status,
        200,
        "another address has a budget of its own"
    );
    let limited = relay.records("access.limited");
    assert_eq!(limited.len(), 1);
    assert!(limited[0]["event"]["reason"].as_str().unwrap().contains("log_per_day"), "{limited:?}");
}

#[test]
fn whoever_waits_as_long_as_the_log_told_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources(&entry(SOURCE, "24MiB")).start();
    let mut inside = relay.inside();
    // Close to the end of the 12 MiB that may be written at once, and then on until it is reached.
    let mut count = 4000;
    let wait = loop {
        let answer = ask(&mut inside, changes(SOURCE, NEWEST, count));
        match (answer.status, count) {
            (200, _) => {}
            (429, 0) => break answer.refuses_for_a_while(429, "connection_limit_reached"),
            (429, _) => count /= 2,
            _ => panic!("{answer:?}"),
        }
    };
    // 12 MiB a day are 145 bytes a second.
    assert!((1..=21).contains(&wait), "{wait} s");
    // What is tried is that this very wait is enough: no event tells it.
    std::thread::sleep(Duration::from_secs(wait));
    assert_eq!(ask(&mut inside, changes(SOURCE, NEWEST, 0)).status, 200, "after {wait} s");
}

#[test]
fn what_the_back_end_tells_beyond_what_was_reserved_is_recorded_whole_and_owed() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).sources(&entry(SOURCE, "256KiB")).start();
    assert_eq!(ask(&mut relay.inside(), changes(SOURCE, NEWEST, 150)).status, 200);
    let mut other = relay.inside_from("127.0.0.2", "");
    let told = |relay: &Relay| {
        let adds = relay.records("license.assignment.add");
        adds.iter()
            .filter(|add| add["qlik"]["direction"] == "in" && add["source"]["ip"] == "127.0.0.2")
            .count()
    };
    // It asks for nothing and is told more than its budget: not reserved, and not refused.
    assert_eq!(ask(&mut other, changes(SOURCE, 0, 0)).status, 200);
    assert_eq!(told(&relay), 150);
    assert_eq!(ask(&mut other, changes(SOURCE, NEWEST, 0)).status, 200, "there is room for one more");
    assert_eq!(ask(&mut other, changes(SOURCE, 0, 0)).status, 200, "what is told is not known before");
    assert_eq!(told(&relay), 300, "and is written however much it is");
    let refused = ask(&mut other, changes(SOURCE, NEWEST, 0));
    let wait = refused.refuses_for_a_while(429, "connection_limit_reached");
    assert!(wait > 43_200, "it is hours until that is worked off: {wait} s");
}
