//! At the limit of file sizes (`ulimit -f`, `LimitFSIZE=`) the relay blocks as on a full disk, says why, and goes on once the
//! limit is raised; a verb says so and leaves everything as it was. Neither is ended by the system's signal.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use relay_log::verify::log::{Verdict, verify};

use crate::common::secrets::files;
use crate::common::*;

const HINT: &str = "raise ulimit -f";

/// A command that runs the rest of its arguments under this limit, which may be raised again.
fn limited(bytes: u64) -> Command {
    let mut command = tool("prlimit", "util-linux");
    command.arg(format!("--fsize={bytes}:unlimited"));
    command
}

/// Raises the limit of a process that runs.
fn raise(pid: u32) {
    let mut command = tool("prlimit", "util-linux");
    let done = run(command.args(["--pid", &pid.to_string(), "--fsize=unlimited:unlimited"]));
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn a_relay_at_the_limit_forwards_nothing_and_goes_on_once_it_is_raised() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let mut relay = Plan::new(&stub).start_under(limited(64 << 10));
    let mut posts = 0;
    let refused = loop {
        let reply = relay.post("/v1/capacity", CAPACITY);
        if reply.status != 200 {
            break reply;
        }
        posts += 1;
        assert!(posts < 200, "the limit does nothing");
    };
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.reason().contains("the audit log can't be written"), "{refused:?}");
    let counters = stub.counters();
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 503);
    assert_eq!(stub.counters(), counters, "something is forwarded that is not on disk");
    let (status, why) = relay.admin("/readyz");
    assert!(status == 503 && why.contains("File too large") && why.contains(HINT), "{why}");
    assert_eq!(relay.admin("/healthz").0, 200);
    assert_eq!(verify(&relay.path("audit"), &[], |_| {}).unwrap().verdict(), Verdict::Fine);

    raise(relay.pid());
    eventually("the relay is ready", || (relay.admin("/readyz").0 == 200).then_some(()));
    assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    assert!(relay.stop().success(), "{}", relay.stderr());
    let end = verify(&relay.path("audit"), &[], |_| {}).unwrap();
    // An outcome that found no room is a gap, and the log says so.
    assert!((end.damages, end.unsigned) == (0, 0) && end.gaps <= 1, "{end:#?}");
}

#[test]
fn a_program_log_that_reaches_the_limit_stops_nothing_and_tells_how_much_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let mut plan = Plan::new(&stub);
    // A long line at the start, so that this file reaches the limit long before the audit log does.
    plan.config.push_str("\n[log]\nformat = \"text\"\n");
    let stderr = plan.path("all");
    fs::write(&stderr, " ".repeat(60 << 10) + "\n").unwrap();
    let mut shell = limited(64 << 10);
    shell.args(["sh", "-c", "exec \"$@\" 2>>\"$0\""]).arg(&stderr);
    let mut relay = plan.start_under(shell);
    let said = || fs::read_to_string(&stderr).unwrap();
    let mut posts = 0;
    while said().len() < 64 << 10 {
        assert_eq!(relay.post("/v1/sync", IDLE).status, 200);
        posts += 1;
        assert!(posts < 30, "the file does not grow");
    }
    assert_eq!(relay.post("/v1/sync", IDLE).status, 200);
    raise(relay.pid());
    assert_eq!(relay.post("/v1/sync", IDLE).status, 200);
    eventually("it is told", || said().contains(" lines of this log were dropped, because").then_some(()));
    let told = said().lines().find(|line| line.contains(" lines of this log")).unwrap().to_owned();
    assert!(told.starts_with("20"), "the line before it has no end: {told}");
    assert!(relay.stop().success());
}

/// All files below a folder but for locks, with what is in them.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let is_lock = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "lock");
    files(folder)
        .into_iter()
        .filter(|file| !is_lock(file))
        .map(|file| (file.clone(), fs::read(file).unwrap()))
        .collect()
}

/// A relay that has seen something and has ended.
fn ended_relay() -> (Stub, Relay, tempfile::TempDir) {
    let (stub, mut relay, folder) = pair();
    for (path, body) in [("/v1/activation", ACTIVATION), ("/v1/sync", SYNC), ("/v1/capacity", CAPACITY)] {
        assert_eq!(relay.post(path, body).status, 200);
    }
    assert!(relay.stop().success());
    (stub, relay, folder)
}

fn under(relay: &Relay, bytes: u64, arguments: &[&str]) -> Output {
    let mut command = limited(bytes);
    command.arg(env!("CARGO_BIN_EXE_license-relay")).arg("--config").arg(relay.path("relay.toml"));
    run(command.args(arguments))
}

#[test]
fn a_verb_that_reaches_the_limit_says_so_and_leaves_everything_as_it_was() {
    let (_stub, relay, folder) = ended_relay();
    let out = |name: &str| folder.path().join(name).display().to_string();
    let before = contents(relay.folder.path());
    let outside = files(folder.path());
    for arguments in [
        &["sources", "allow", "another", "--name", "another deployment"][..],
        &["audit", "export", "--format", "jsonl", "--out", &out("export")],
        &["audit", "report", "--out", &out("report.html")],
        &["audit", "kit", "--out", &out("kit.zip")],
        &["audit", "prove", "--seq", "1", "--out", &out("proof")],
        &["vocabulary", "capture", "--out", &out("shapes")],
        &["ca", "rotate"],
    ] {
        ended(&under(&relay, 50, arguments), 74, HINT);
        assert!(contents(relay.folder.path()) == before, "{arguments:?} changed something");
        assert_eq!(files(folder.path()), outside, "{arguments:?} left something");
    }
    // A kit has many places where it can break off.
    let kit = out("kit.zip");
    ended(&relay.verb(&["audit", "kit", "--out", &kit]), 0, "fine");
    let whole = fs::metadata(&kit).unwrap().len();
    fs::remove_file(&kit).unwrap();
    for part in 1..8 {
        ended(&under(&relay, whole * part / 8, &["audit", "kit", "--out", &kit]), 74, HINT);
    }
    assert_eq!(files(folder.path()), outside);
    // What adds to the log finds no room in it; the log is as it was, but for its end.
    let length = fs::metadata(relay.path("audit/segments/00000000000000000000.jsonl")).unwrap().len();
    ended(&under(&relay, length, &["audit", "key", "new"]), 74, HINT);
    ended(&under(&relay, length, &["serve"]), 74, HINT);
    let log = verify(&relay.path("audit"), &[], |_| {}).unwrap();
    assert_eq!((log.damages, log.unsigned), (0, 0), "{log:#?}");
    // What writes nothing needs nothing.
    assert_eq!(under(&relay, 0, &["check"]).status.code(), Some(0));
    assert_eq!(under(&relay, 0, &["audit", "verify"]).status.code(), Some(0));
}

#[test]
fn an_answer_that_reaches_the_limit_on_standard_output_is_no_answer() {
    let (_stub, relay, folder) = ended_relay();
    let mut command = limited(100);
    command.arg(env!("CARGO_BIN_EXE_license-relay")).args(["audit", "export", "--format", "jsonl", "--log"]);
    let mut command = command.arg(relay.path("audit"));
    command = command.stdout(File::create(folder.path().join("answer")).unwrap()).stderr(Stdio::piped());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    ended(&output, 74, "the answer can't be written");
    ended(&output, 74, HINT);
}
