//! What changes assignments or reports consumption is on disk before it is forwarded, or it isn't
//! forwarded; its outcome is on disk before it is answered, or the log is given up.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Barrier;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::disk::{Disk, PAGE};
use crate::common::tls::Tls;
use crate::common::*;

const SEGMENT: &str = "audit/segments/00000000000000000000.jsonl";

/// A relay whose log is on a disk of its own, where one can be made. The disk outlives the relay.
fn on_a_small_disk(more: impl FnOnce(Plan) -> Plan) -> Option<(Stub, Disk, Relay, TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let disk = Disk::in_memory("1m")?;
    let plan = more(Plan::new(&stub));
    symlink(disk.path(), plan.path("audit")).unwrap();
    Some((stub, disk, plan.start(), folder))
}

/// Reports until the last page of the log has no room for the shortest record, and fills the disk up.
fn fill_up(disk: &Disk, relay: &Relay) {
    let mut tls = Tls::new(relay);
    while PAGE - fs::metadata(relay.path(SEGMENT)).unwrap().len() % PAGE > 400 {
        assert_eq!(tls.post("/v1/capacity", CAPACITY).status(), 200);
    }
    disk.fill();
}

fn is_refused_for_the_log(reply: &Curl) {
    assert_eq!((reply.exit, reply.status), (0, 503), "{reply:?}");
    assert!(reply.header("Retry-After").is_some(), "{reply:?}");
    assert!(reply.reason().starts_with("license-relay: the audit log"), "{reply:?}");
    let status = reply.header("Proxy-Status").unwrap_or_default();
    assert!(status.starts_with("license-relay; error=proxy_internal_error"), "{reply:?}");
}

fn becomes_ready(relay: &Relay) {
    eventually("the relay is ready", || (relay.admin("/readyz").0 == 200).then_some(()));
}

/// Starts it so that the so-manieth sync of a record fails: 1 is the start, 2 the first intent, 3 its outcome.
fn failing_sync(plan: Plan, number: u32) -> Option<Relay> {
    // -D: the relay is our child, and strace watches it from beside.
    let mut strace = strace(&["-D", "-f", "-qq", "-e", "trace=fdatasync", "-e"])?;
    strace.arg(format!("inject=fdatasync:error=EIO:when={number}")).arg("-o").arg(plan.path("strace"));
    Some(plan.start_under(strace))
}

/// No reply at all where it has stopped already.
fn ends_with_74(mut relay: Relay, stub: &Stub) -> Relay {
    let requests = stub.counters()["requests"].clone();
    for (path, body) in [("/v1/capacity", CAPACITY), ("/v1/sync", SYNC), ("/v1/sync", IDLE)] {
        let reply = relay.post(path, body);
        assert!(matches!(reply.status, 0 | 503), "{reply:?}");
    }
    assert_eq!(relay.wait().code(), Some(74), "{}", relay.stderr());
    assert!(relay.stderr().contains("the audit log is given up"), "{}", relay.stderr());
    assert_eq!(stub.counters()["requests"], requests, "something was forwarded after the log was lost");
    relay
}

fn sequences(log: &[Value]) -> Vec<u64> {
    log.iter().map(|record| record["event"]["sequence"].as_u64().unwrap()).collect()
}

/// The log counts without a gap, and has everything the back end was told.
fn holds_all_that_was_told(relay: &Relay, stub: &Stub) {
    let log = relay.log();
    assert_eq!(sequences(&log), (0..log.len() as u64).collect::<Vec<_>>());
    let reports = relay.records("license.consumption.report");
    let reported: i64 = reports.iter().map(|record| record["qlik"]["delta"].as_i64().unwrap()).sum();
    assert_eq!(reported, stub.consumption());
    let count = |action| relay.records(action).len() as u64;
    let kinds = stub.counters()["by_kind"].clone();
    assert_eq!(count("license.activation.request"), kinds["activation"].as_u64().unwrap());
    let out = relay.records("license.assignment.add").into_iter().filter(|r| r["qlik"]["direction"] == "out");
    assert_eq!(out.count(), stub.counters()["assignments"].as_array().unwrap().len());
}

#[test]
fn while_the_disk_is_full_nothing_is_forwarded_and_room_is_all_it_takes() {
    let Some((stub, disk, mut relay, _folder)) = on_a_small_disk(|plan| plan) else { return };
    assert_eq!(relay.admin("/readyz").0, 200);
    fill_up(&disk, &relay);
    let counters = stub.counters();
    for (path, body) in [("/v1/capacity", CAPACITY), ("/v1/sync", SYNC), ("/v1/activation", ACTIVATION)] {
        is_refused_for_the_log(&relay.post(path, body));
    }
    // What leaves no intent does not pass either: its outcome could not be written.
    is_refused_for_the_log(&relay.post("/v1/sync", IDLE));
    is_refused_for_the_log(&relay.curl(&[&format!("https://{HOST}/")]));
    assert_eq!(stub.counters(), counters);
    let (status, why) = relay.admin("/readyz");
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("audit log") && why.contains("No space left"), "{why}");
    assert_eq!(relay.admin("/healthz").0, 200);

    disk.free();
    becomes_ready(&relay);
    for (path, body) in [("/v1/capacity", CAPACITY), ("/v1/sync", SYNC), ("/v1/activation", ACTIVATION)] {
        assert_eq!(relay.post(path, body).status, 200);
    }
    holds_all_that_was_told(&relay, &stub);
    let told = relay.records("relay.heartbeat");
    assert_eq!(told.len(), 1);
    assert!(
        told[0]["event"]["reason"].as_str().unwrap().contains("the log can be written again"),
        "{told:?}"
    );
    assert!(relay.is_running());
}

#[test]
fn where_the_site_degrades_requests_pass_and_the_gap_is_counted_exactly() {
    let small = on_a_small_disk(|plan| {
        plan.with("directory = \"audit\"", "directory = \"audit\"\non_failure = \"degrade\"")
    });
    let Some((stub, disk, relay, _folder)) = small else { return };
    fill_up(&disk, &relay);
    let before = stub.consumption();
    for _ in 0..5 {
        assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    }
    // This leaves no record even on a good day, so none is missing.
    assert_eq!(relay.curl(&[&format!("https://{HOST}/")]).status, 404);
    assert_eq!(stub.consumption(), before + 5 * 242);
    assert!(relay.records("audit.gap").is_empty());

    disk.free();
    let gaps =
        eventually("the gap is told", || Some(relay.records("audit.gap")).filter(|gaps| !gaps.is_empty()));
    assert_eq!(gaps[0]["qlik"]["repeat"]["count"], 5, "{gaps:?}");
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    assert_eq!(relay.records("audit.gap").len(), 1);
    let log = relay.log();
    assert_eq!(sequences(&log), (0..log.len() as u64).collect::<Vec<_>>());
}

#[test]
fn an_intent_that_can_not_be_synced_is_not_forwarded_and_the_relay_ends_with_74() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let Some(relay) = failing_sync(Plan::new(&stub), 2) else { return };
    is_refused_for_the_log(&relay.post("/v1/capacity", CAPACITY));
    assert_eq!(stub.counters()["requests"], 0);
    let relay = ends_with_74(relay, &stub);
    // And the disk is not asked again: a second sync would lie.
    let syncs = fs::read_to_string(relay.path("strace")).unwrap();
    assert_eq!(syncs.lines().filter(|line| line.contains("fdatasync(")).count(), 2, "{syncs}");
}

#[test]
fn an_answer_already_given_is_passed_on_though_its_outcome_can_not_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let Some(relay) = failing_sync(Plan::new(&stub), 3) else { return };
    let reply = relay.post("/v1/capacity", CAPACITY);
    assert_eq!((reply.exit, reply.status), (0, 200), "{reply:?}");
    assert_eq!(reply.json()[0]["total"], 242);
    let relay = ends_with_74(relay, &stub);
    assert_eq!(stub.consumption(), 242);

    let relay = relay.into_plan().start();
    assert_eq!(relay.records("license.consumption.report").len(), 1);
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    holds_all_that_was_told(&relay, &stub);
}

#[test]
fn a_segment_that_is_removed_moved_cut_written_to_or_linked_ends_the_relay_with_74() {
    type Disturb = fn(&Path, &Path);
    let disturbances: [(&str, Disturb); 7] = [
        ("removed", |segment, _| fs::remove_file(segment).unwrap()),
        ("moved", |segment, aside| fs::rename(segment, aside).unwrap()),
        ("cut to nothing", |segment, _| drop(fs::File::create(segment).unwrap())),
        ("cut by a byte", |segment, _| {
            let file = OpenOptions::new().write(true).open(segment).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        }),
        ("replaced by its copy", |segment, aside| {
            fs::copy(segment, aside).unwrap();
            fs::rename(aside, segment).unwrap();
        }),
        ("written to", |segment, _| {
            OpenOptions::new().append(true).open(segment).unwrap().write_all(b"x").unwrap();
        }),
        ("linked", |segment, aside| fs::hard_link(segment, aside).unwrap()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    for (what, disturb) in disturbances {
        let relay = Plan::new(&stub).start();
        assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200, "{what}");
        let consumption = stub.consumption();
        disturb(&relay.path(SEGMENT), &relay.path("aside"));
        is_refused_for_the_log(&relay.post("/v1/capacity", CAPACITY));
        assert_eq!(stub.consumption(), consumption, "{what}");
        ends_with_74(relay, &stub);
    }
}

#[test]
fn what_a_crash_left_is_kept_aside_and_the_log_goes_on_at_the_next_number() {
    let (stub, mut relay, _folder) = pair();
    for tail in [&b"{\"@timestamp\":\"2026-11-25T08:"[..], b"\0\0\0\0\n", b"{\"event\":{\"sequence\":3}}\n"] {
        assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
        relay.signal("KILL");
        relay.wait();
        let whole = relay.log_text();
        let segment = relay.path(SEGMENT);
        OpenOptions::new().append(true).open(segment).unwrap().write_all(tail).unwrap();

        relay = relay.into_plan().start();
        assert!(relay.log_text().starts_with(&whole), "the log before the crash is untouched");
        let log = relay.log();
        assert_eq!(sequences(&log), (0..log.len() as u64).collect::<Vec<_>>());
        let recovered = relay.records("audit.recovered").pop().unwrap();
        assert_eq!(recovered["qlik"]["dropped_bytes"], tail.len());
        let torn = recovered["qlik"]["quarantine_file"].as_str().unwrap().to_owned();
        assert_eq!(fs::read(relay.path("audit/quarantine").join(torn)).unwrap(), tail);
        assert_eq!(relay.records("relay.start").pop().unwrap()["qlik"]["previous_stop"], "unclean");
        assert!(relay.stderr().contains("quarantine"), "{}", relay.stderr());
    }
    holds_all_that_was_told(&relay, &stub);
}

#[test]
fn a_second_relay_on_the_same_log_ends_with_75_and_names_the_holder() {
    let (stub, relay, _folder) = pair();
    let second =
        Plan::new(&stub).with("directory = \"audit\"", &format!("directory = {:?}", relay.path("audit")));
    let before = relay.log_text();
    let (status, said) = second.refuses_to_start();
    assert_eq!(status.code(), Some(75), "{said}");
    assert!(said.contains(&format!("process {}", relay.pid())), "{said}");
    assert_eq!(relay.log_text(), before);
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
}

#[test]
fn of_200_syncs_at_once_every_answered_one_has_its_intent_and_its_outcome() {
    let (stub, relay, _folder) = pair();
    let start = Barrier::new(200);
    std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                let mut tls = Tls::new(&relay);
                start.wait();
                let reply = tls.post("/v1/sync", SYNC);
                assert_eq!(reply.status(), 200, "{reply:?}");
            });
        }
    });
    let mut exchanges: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in relay.log() {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        exchanges.entry(text(&record["event"]["id"])).or_default().push(text(&record["event"]["action"]));
    }
    exchanges.retain(|_, actions| actions[0] != "relay.start");
    assert_eq!(
        exchanges.len(),
        200,
        "{:?}",
        exchanges.values().find(|actions| actions[0].starts_with("relay"))
    );
    for actions in exchanges.values() {
        assert_eq!(
            actions[..3],
            ["license.sync.request", "license.assignment.add", "license.assignment.add"]
        );
        assert_eq!(actions.iter().filter(|action| *action == "license.sync.response").count(), 1);
    }
    holds_all_that_was_told(&relay, &stub);
}
