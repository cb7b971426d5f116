//! A changed, removed, reordered or added line, a cut end and a restored copy are found, by the
//! program's own `audit verify` and at the next start.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::common::*;

const SEGMENT: &str = "segments/00000000000000000000.jsonl";

/// A relay with an anchor that has made some records.
fn lived(anchor: &Path) -> (Stub, Relay, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let anchors = format!("directory = \"audit\"\nanchors = [{anchor:?}]");
    let relay = Plan::new(&stub).with("directory = \"audit\"", &anchors).start();
    for _ in 0..3 {
        assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
        assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    }
    (stub, relay, folder)
}

fn verify(log: &Path, anchors: &[&Path]) -> Output {
    let mut command = program();
    command.args(["audit", "verify", "--log"]).arg(log);
    for anchor in anchors {
        command.arg("--anchor").arg(anchor);
    }
    run(&mut command)
}

#[track_caller]
fn verdict(log: &Path, anchors: &[&Path], code: i32) -> String {
    let output = verify(log, anchors);
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn copy(from: &Path, to: &Path) -> PathBuf {
    assert!(Command::new("cp").args(["-r", "--"]).args([from, to]).status().unwrap().success());
    to.to_owned()
}

#[test]
fn a_whole_log_verifies_while_it_is_written_and_after_a_stop_and_by_its_anchor() {
    let anchor = tempfile::tempdir().unwrap();
    let (_stub, mut relay, _folder) = lived(anchor.path());
    verdict(&relay.path("audit"), &[], 0);
    assert!(relay.stderr().contains("on the same file system"), "{}", relay.stderr());
    assert!(relay.stop().success());
    let said = verdict(&relay.path("audit"), &[anchor.path()], 0);
    assert!(said.contains("0 behind it") && said.contains("anchors      1 hold"), "{said}");
    let relay = relay.again();
    assert_eq!(relay.records("relay.start")[1]["qlik"]["previous_stop"], "clean");
    assert!(relay.records("audit.recovered").is_empty());
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    // The program's own log is an anchor as well.
    assert!(relay.stderr().contains("audit checkpoint "), "{}", relay.stderr());
    verdict(&relay.path("audit"), &[&relay.path("stderr")], 0);
}

#[test]
fn a_changed_removed_moved_or_added_line_is_found_and_named() {
    let anchor = tempfile::tempdir().unwrap();
    let (_stub, mut relay, folder) = lived(anchor.path());
    assert!(relay.stop().success());
    let text = relay.log_text();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat().concat();
    let swapped = {
        let mut lines = lines.clone();
        lines.swap(3, 4);
        lines.concat()
    };
    let changed = text.replacen("\"outcome\":\"success\"", "\"outcome\":\"failure\"", 1);
    let twice = [&lines[..5], &lines[4..]].concat().concat();
    for (n, (what, text, names)) in [
        ("changed", changed, "record 0"),
        ("removed", without(5), "record 5"),
        ("swapped", swapped, "record 3"),
        ("doubled", twice, "record 5"),
        ("first removed", without(0), "record 0"),
        ("last removed", without(lines.len() - 1), "1 are missing at the end"),
        ("three removed at the end", lines[..lines.len() - 3].concat(), "3 are missing at the end"),
        ("all removed", String::new(), "are missing at the end"),
    ]
    .into_iter()
    .enumerate()
    {
        let bent = copy(&relay.path("audit"), &folder.path().join(n.to_string()));
        fs::write(bent.join(SEGMENT), text).unwrap();
        let said = verdict(&bent, &[], 1);
        assert!(said.contains(names), "{what}: {said}");
    }
}

/// Sets a flag of chattr(1); `false`, and noted, where the file system has none or this is not root.
fn chattr(flag: &str, file: &Path) -> bool {
    let done = run(tool("chattr", "e2fsprogs").arg(flag).arg(file));
    if !done.status.success() {
        skip::skipped(&format!("no flags of chattr here: {}", String::from_utf8_lossy(&done.stderr)));
    }
    done.status.success()
}

#[test]
fn an_active_segment_that_was_made_append_only_or_immutable_is_told_with_the_command_that_helps() {
    let anchor = tempfile::tempdir().unwrap();
    let (_stub, mut relay, _folder) = lived(anchor.path());
    assert!(relay.stop().success());
    let segment = relay.path("audit").join(SEGMENT);
    if !chattr("+a", &segment) {
        return;
    }
    let advice = format!("chattr -a {}", segment.display());
    let mut relay = relay.again();
    assert!(relay.stderr().contains("append-only") && relay.stderr().contains(&advice), "{}", relay.stderr());
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200, "lines can be added");
    relay.signal("KILL");
    relay.wait();
    fs::OpenOptions::new().append(true).open(&segment).unwrap().write_all(b"{\"half").unwrap();
    let plan = relay.into_plan();
    let before = fs::read(&segment).unwrap();
    let (status, said) = plan.refuses_to_start();
    let changed = fs::read(&segment).unwrap() != before;
    assert!(chattr("-a", &segment));
    assert_eq!((status.code(), changed), (Some(74), false), "{said}");
    assert!(said.contains(&advice), "{said}");
    let mut relay = plan.start();
    assert_eq!(relay.records("audit.recovered").len(), 1);
    assert!(chattr("+i", &segment));
    let reply = relay.post("/v1/sync", SYNC);
    assert!(chattr("-i", &segment));
    assert!(matches!(reply.status, 0 | 503), "{reply:?}");
    assert_eq!(relay.wait().code(), Some(74), "{}", relay.stderr());
}

#[test]
fn a_log_that_went_back_is_not_started_on_until_it_is_forked() {
    let anchor = tempfile::tempdir().unwrap();
    let (_stub, mut relay, folder) = lived(anchor.path());
    assert!(relay.stop().success());
    let old = copy(&relay.path("audit"), &folder.path().join("backup"));
    let mut relay = relay.again();
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    assert!(relay.stop().success());
    fs::remove_dir_all(relay.path("audit")).unwrap();
    copy(&old, &relay.path("audit"));
    // By itself it is whole: only the anchor knows better.
    verdict(&relay.path("audit"), &[], 0);
    let said = verdict(&relay.path("audit"), &[anchor.path()], 2);
    assert!(said.contains("missing at the end"), "{said}");
    let plan = relay.into_plan();
    let (status, said) = plan.refuses_to_start();
    assert_eq!(status.code(), Some(76), "{said}");
    assert!(said.contains("audit fork --reason") && said.contains("checkpoint"), "{said}");
    let forked = run(program().arg("--config").arg(plan.path("relay.toml")).args([
        "audit",
        "fork",
        "--reason",
        "the disk was restored",
    ]));
    assert!(forked.status.success(), "{forked:?}");
    let relay = plan.start();
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    let first = &relay.log()[0];
    assert_eq!(first["event"]["action"], "audit.fork");
    assert!(first["event"]["reason"].as_str().unwrap().contains("the disk was restored"), "{first}");
    let said = verdict(&relay.path("audit"), &[], 0);
    assert!(said.contains("goes on from license-relay/"), "{said}");
    verdict(&relay.path("audit/forks/1"), &[], 0);
    // While a relay runs nothing is put aside under it.
    let forked = relay.verb(&["audit", "fork", "--reason", "again"]);
    assert_eq!(forked.status.code(), Some(75), "{forked:?}");
}

/// Vault #11946: one entry that was too long for a sink made the request fail.
#[test]
fn a_sync_of_20_000_people_is_one_exchange_with_a_record_for_each_of_them() {
    let (_stub, mut relay, _folder) = pair();
    let patch = |n: u32| {
        serde_json::json!({"version": 0, "license": LICENSE, "allotment": "analyzer", "subject": format!("ACME\\user{n}"),
            "created": "2019-04-18T10:01:35.024Z"})
    };
    let sync = serde_json::json!({"source": SOURCE, "bases": [{"license": LICENSE, "version": 0}],
        "patches": (0..20_000).map(patch).collect::<Vec<_>>()});
    let body = relay.path("body");
    fs::write(&body, sync.to_string()).unwrap();
    let reply = relay.post("/v1/sync", &format!("@{}", body.display()));
    assert_eq!((reply.exit, reply.status), (0, 200), "{}", reply.heads);
    let out = |record: &&serde_json::Value| record["qlik"]["direction"] == "out";
    let asked = relay.records("license.assignment.add");
    let asked: Vec<_> = asked.iter().filter(out).collect();
    assert_eq!(asked.len(), 20_000);
    assert!(asked.iter().all(|record| record["event"]["id"] == asked[0]["event"]["id"]));
    let people: BTreeSet<&str> =
        asked.iter().map(|record| record["user"]["target"]["hash"].as_str().unwrap()).collect();
    assert_eq!(people.len(), 20_000);
    assert_eq!(relay.records("license.sync.response").len(), 1);
    assert!(relay.stop().success());
    verdict(&relay.path("audit"), &[], 0);
}

/// Teleport #16137: one corrupt line, and nothing else could be looked at any more.
#[test]
fn one_corrupt_line_is_named_and_all_others_are_looked_at_all_the_same() {
    let anchor = tempfile::tempdir().unwrap();
    let (_stub, mut relay, folder) = lived(anchor.path());
    assert!(relay.stop().success());
    let text = relay.log_text();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for (n, corrupt) in
        ["\n", "{}\n", "\0\0\0\0\0\0\0\n", "not json at all, and \u{fffd}\n"].into_iter().enumerate()
    {
        let bent = copy(&relay.path("audit"), &folder.path().join(n.to_string()));
        fs::write(bent.join(SEGMENT), [&lines[..4], &[corrupt], &lines[5..]].concat().concat()).unwrap();
        let output = run(program().args(["audit", "verify", "--json", "--log"]).arg(&bent));
        assert_eq!(output.status.code(), Some(1));
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["records"], lines.len(), "{found:#}");
        let damage: Vec<&str> =
            found["damage"].as_array().unwrap().iter().map(|what| what.as_str().unwrap()).collect();
        let named: Vec<&&str> = damage.iter().filter(|what| what.starts_with("record ")).collect();
        assert!(named.len() == 1 && named[0].starts_with("record 4 "), "{damage:#?}");
    }
}
