//! Disks that fill up, fail or turn read-only under load: nothing is forwarded that is not on disk, the file is
//! whole at every step, and room is all it takes to go on. With `degrade`: how many exchanges are missing, exactly.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use relay_log::verify::log::{Verdict, Verified, verify};
use serde_json::json;
use tempfile::TempDir;

use crate::common::disk::{Disk, PAGE};
use crate::common::tls::Tls;
use crate::common::*;

const SEGMENT: &str = "audit/segments/00000000000000000000.jsonl";
const REPORTED: i64 = 242;

fn on(disk: &Disk, more: impl FnOnce(Plan) -> Plan) -> (Stub, Relay, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let plan = more(Plan::new(&stub));
    symlink(disk.path(), plan.path("audit")).unwrap();
    (stub, plan.start(), folder)
}

fn degrade(plan: Plan) -> Plan {
    plan.with("directory = \"audit\"", "directory = \"audit\"\non_failure = \"degrade\"")
}

fn verified(relay: &Relay) -> Verified {
    verify(&relay.path("audit"), &[], |_| {}).unwrap()
}

#[track_caller]
fn is_refused(reply: &Curl) {
    assert_eq!((reply.exit, reply.status), (0, 503), "{reply:?}");
    assert!(reply.header("Retry-After").is_some(), "{reply:?}");
    assert!(reply.reason().starts_with("license-relay: the audit log"), "{reply:?}");
}

fn becomes_ready(relay: &Relay) {
    eventually("the relay is ready", || (relay.admin("/readyz").0 == 200).then_some(()));
}

/// What the log says was reported.
fn reported(relay: &Relay) -> i64 {
    let reports = relay.records("license.consumption.report");
    reports.iter().map(|record| record["qlik"]["delta"].as_i64().unwrap()).sum()
}

/// Reports from four sides until each has been refused ten times in a row, the log being verified all the time. How many
/// were answered.
fn load_until_full(relay: &Relay, stub: &Stub, fills: impl Fn() + Sync) -> i64 {
    let (answered, full, ends) = (AtomicI64::new(0), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let (mut tls, mut refused) = (Tls::new(relay), 0);
                while refused < 10 {
                    let reply = tls.post("/v1/capacity", CAPACITY);
                    match reply.status() {
                        200 => {
                            refused = 0;
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        503 => {
                            refused += 1;
                            assert!(reply.header("Retry-After").is_some(), "{reply:?}");
                            full.store(true, Ordering::Relaxed);
                        }
                        _ => panic!("{reply:?}"),
                    }
                    if reply.header("Connection").as_deref() == Some("close") {
                        tls = Tls::new(relay);
                    }
                }
                ends.fetch_add(1, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            let mut looks = 0;
            while ends.load(Ordering::Relaxed) < 4 {
                // Not before all of them are at it.
                if answered.load(Ordering::Relaxed) > 40 && !full.load(Ordering::Relaxed) {
                    fills();
                }
                let now = verified(relay);
                assert_eq!(now.verdict(), Verdict::Fine, "{now:#?}");
                looks += 1;
            }
            assert!(looks > 1, "{looks}");
        });
    });
    let answered = answered.into_inner();
    assert_eq!(stub.consumption(), answered * REPORTED, "something was forwarded that was not answered");
    answered
}

/// Vault #3725, #18943: with the audit disk full it hung, stayed in charge, and said nothing clear.
#[test]
fn a_disk_of_64_kib_fills_up_under_load_and_the_relay_says_so_and_goes_on_once_there_is_room() {
    let Some(disk) = Disk::in_memory("64k") else { return };
    let (stub, mut relay, _folder) = on(&disk, |plan| plan);
    let answered = load_until_full(&relay, &stub, || {});
    assert!(answered > 3, "{answered}");
    let counters = stub.counters();
    for (path, body) in [("/v1/capacity", CAPACITY), ("/v1/sync", SYNC), ("/v1/activation", ACTIVATION)] {
        is_refused(&relay.post(path, body));
    }
    assert_eq!(stub.counters(), counters);
    let (status, why) = relay.admin("/readyz");
    assert!(status == 503 && why.contains(SEGMENT) && why.contains("No space left"), "{why}");
    assert_eq!(relay.admin("/healthz").0, 200);

    disk.resize("2m");
    becomes_ready(&relay);
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    assert_eq!(reported(&relay), stub.consumption());
    assert!(relay.stop().success());
    let end = verified(&relay);
    assert_eq!((end.damages, end.unsigned), (0, 0), "{end:#?}");
    assert_eq!(relay.records("relay.stop").len(), 1);
    // So small a disk has no room for a reserve: an outcome may be missing, and is then counted.
    let ids = |action| -> BTreeSet<String> {
        relay.records(action).iter().map(|record| record["event"]["id"].to_string()).collect()
    };
    let (intents, outcomes) = (ids("license.consumption.report"), ids("license.consumption.response"));
    assert!(outcomes.is_subset(&intents) && end.gaps <= 4, "{end:#?}");
    assert_eq!(outcomes.len() as u64 + end.gaps, intents.len() as u64);
}

#[test]
fn ext4_fills_up_under_load_and_its_last_mebibyte_is_for_outcomes_and_the_stop() {
    let Some(disk) = Disk::ext4() else { return };
    let (stub, mut relay, _folder) = on(&disk, |plan| plan);
    let reserve = relay.path("audit/reserve");
    assert_eq!(fs::metadata(&reserve).unwrap().len(), 1 << 20);
    let before = load_until_full(&relay, &stub, || disk.fill());
    // Intents are not worth it; of the exchanges that were under way, an outcome may have been.
    let used = !reserve.exists();
    disk.free();
    becomes_ready(&relay);
    assert!(reserve.exists(), "it is not taken again (used: {used})");
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    assert_eq!(reported(&relay), (before + 1) * REPORTED);

    // Full while the back end thinks: the answer is large, and has to be written.
    let patch = |n: u32| {
        json!({"version": 0, "license": LICENSE, "allotment": "analyzer", "subject": format!("ACME\\user{n}"),
            "created": "2019-04-18T10:01:35.024Z"})
    };
    let sync = json!({"source": SOURCE, "bases": [{"license": LICENSE, "version": 0}],
        "patches": (0..60).map(patch).collect::<Vec<_>>()});
    stub.trouble("delay=3s*1");
    let intents = relay.records("license.sync.request").len();
    let reply = std::thread::scope(|scope| {
        let sent = scope.spawn(|| relay.post("/v1/sync", &sync.to_string()));
        eventually("the intent is there", || {
            (relay.records("license.sync.request").len() > intents).then_some(())
        });
        disk.fill();
        sent.join().unwrap()
    });
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(relay.records("license.sync.response").len(), 1, "the outcome is not written");
    assert!(!reserve.exists());
    let counters = stub.counters();
    for _ in 0..5 {
        is_refused(&relay.post("/v1/capacity", CAPACITY));
    }
    assert_eq!(stub.counters(), counters);
    assert_eq!(relay.admin("/readyz").0, 503);
    // And the stop, with the disk as full as before.
    assert!(relay.stop().success(), "{}", relay.stderr());
    assert_eq!(relay.log().last().unwrap()["event"]["action"], "relay.stop");
    let end = verified(&relay);
    assert_eq!((end.verdict(), end.gaps), (Verdict::Fine, 0), "{end:#?}");
}

#[test]
fn a_file_system_that_turns_read_only_ends_the_relay_with_74_and_what_is_there_is_whole() {
    let Some(disk) = Disk::ext4() else { return };
    let (stub, mut relay, _folder) = on(&disk, |plan| plan);
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    let counters = stub.counters();
    disk.fail();
    let reply = relay.post("/v1/capacity", CAPACITY);
    assert!(matches!(reply.status, 0 | 503), "{reply:?}");
    assert_eq!(relay.wait().code(), Some(74), "{}", relay.stderr());
    assert!(relay.stderr().contains("the audit log is given up"), "{}", relay.stderr());
    assert_eq!(stub.counters(), counters);
    assert_eq!(verified(&relay).verdict(), Verdict::Fine);
    assert_eq!(reported(&relay), stub.consumption());
}

#[test]
fn where_the_site_degrades_a_full_disk_leaves_a_gap_of_exactly_so_many() {
    let Some(disk) = Disk::in_memory("1m") else { return };
    let (stub, relay, _folder) = on(&disk, degrade);
    let mut tls = Tls::new(&relay);
    while PAGE - fs::metadata(relay.path(SEGMENT)).unwrap().len() % PAGE > 400 {
        assert_eq!(tls.post("/v1/capacity", CAPACITY).status(), 200);
    }
    disk.fill();
    let logged = reported(&relay);
    // Longer than it takes to file a count, from four sides.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut tls = Tls::new(&relay);
                for _ in 0..8 {
                    assert_eq!(tls.post("/v1/capacity", CAPACITY).status(), 200);
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
        }
    });
    assert_eq!(reported(&relay), logged);
    assert_eq!(stub.consumption(), logged + 32 * REPORTED);
    eventually("the count is filed", || {
        let filed = fs::read_to_string(relay.path("certs/gap.json")).ok()?;
        filed.contains("\"count\": 32").then_some(())
    });
    disk.free();
    becomes_ready(&relay);
    eventually("the gap is told", || (relay.records("audit.gap").len() == 1).then_some(()));
    assert_eq!(relay.records("audit.gap")[0]["qlik"]["repeat"]["count"], 32);
    assert!(!relay.path("certs/gap.json").exists());
    assert_eq!(verified(&relay).gaps, 32);
}

#[test]
fn where_the_site_degrades_a_log_that_is_given_up_is_served_past_and_the_gap_told_at_the_next_start() {
    for kill in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let stub = Stub::start(folder.path(), &[]);
        let mut relay = degrade(Plan::new(&stub)).start();
        assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
        let logged = reported(&relay);
        // A foreign writer.
        let segment = relay.path(SEGMENT);
        OpenOptions::new().append(true).open(segment).unwrap().write_all(b"not ours").unwrap();
        let mut tls = Tls::new(&relay);
        for _ in 0..9 {
            assert_eq!(tls.post("/v1/capacity", CAPACITY).status(), 200);
        }
        assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
        let (status, why) = relay.admin("/readyz");
        assert!(status == 503 && why.contains("given up"), "{why}");
        assert_eq!(stub.consumption(), logged + 9 * REPORTED);
        if kill {
            eventually("the count is filed", || {
                let filed = fs::read_to_string(relay.path("certs/gap.json")).ok()?;
                filed.contains("\"count\": 10").then_some(())
            });
            relay.signal("KILL");
            relay.wait();
        } else {
            assert!(relay.stop().success(), "{}", relay.stderr());
        }
        assert!(Path::new(&relay.path("certs/gap.json")).exists());

        let relay = relay.again();
        let gaps = relay.records("audit.gap");
        assert_eq!((gaps.len(), &gaps[0]["qlik"]["repeat"]["count"]), (1, &json!(10)), "{gaps:?}");
        assert!(!relay.path("certs/gap.json").exists());
        assert_eq!(relay.records("audit.recovered").len(), 1);
        assert_eq!(verified(&relay).gaps, 10);
        let code = relay.verb(&["audit", "verify"]).status.code();
        assert_eq!(code, Some(4));
        assert_eq!(reported(&relay), logged);
    }
}
