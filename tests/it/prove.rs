//! One record is handed over without any other: `audit prove`, held against openssl, Python and Go, on logs as relays
//! leave them, write them, and have pruned them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use relay_log::ledger::log::LogFile;
use relay_log::ledger::segment;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::*;

/// A relay that has made some records and still runs.
fn lived() -> (Stub, Relay, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let relay = Plan::new(&stub).start();
    for _ in 0..3 {
        assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
        assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    }
    (stub, relay, folder)
}

fn prove(log: &Path, sequence: u64, to: &Path) -> Output {
    let mut command = program();
    command.args(["audit", "prove", "--seq", &sequence.to_string(), "--log"]).arg(log);
    run(command.arg("--out").arg(to))
}

fn check(proof: &Path, record: Option<&Path>, key: Option<&str>) -> Output {
    let mut command = program();
    command.args(["audit", "prove", "--check"]).arg(proof);
    record.map(|record| command.arg("--record").arg(record));
    key.map(|key| command.args(["--key", key]));
    run(&mut command)
}

fn by_python(proof: &Path, record: &Path, key: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/auditor/check_proof.py");
    tool("openssl", "openssl");
    run(tool("python3", "python3").arg(script).args([proof, record]).arg(key))
}

fn by_go(proof: &Path, record: &Path, key: &str) -> Output {
    run(Command::new(clients::go("goproof")).arg(key).args([proof, record]))
}

/// Our own check, Python's and Go's: all of them hold it, or none does.
#[track_caller]
fn all_say(proof: &Path, record: &Path, key: &str, holds: bool) {
    let code = if holds { 0 } else { 1 };
    for (who, output) in [
        ("ours", check(proof, Some(record), Some(key))),
        ("python", by_python(proof, record, key)),
        ("go", by_go(proof, record, key)),
    ] {
        assert_eq!(output.status.code(), Some(code), "{who}: {}", all_said(&output));
    }
}

fn key(log: &Path) -> String {
    LogFile::read(log).unwrap().unwrap().vkey
}

#[test]
fn every_record_of_a_log_that_is_being_written_is_proven_and_others_check_it() {
    let (_stub, relay, folder) = lived();
    let log = relay.path("audit");
    let lines: Vec<String> = relay.log_text().lines().map(str::to_owned).collect();
    eventually("all of that is signed", || {
        let to = folder.path().join("last.tlog-proof");
        prove(&log, lines.len() as u64 - 1, &to).status.success().then_some(())
    });
    let key = key(&log);
    for (sequence, line) in lines.iter().enumerate() {
        let proof = folder.path().join(format!("{sequence}.tlog-proof"));
        ended(&prove(&log, sequence as u64, &proof), 0, "is in the log");
        let record = proof.with_extension("json");
        assert_eq!(fs::read_to_string(&record).unwrap(), format!("{line}\n"));
        for file in [&proof, &record] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        all_say(&proof, &record, &key, true);
        // Nothing of another record is in it.
        let text = fs::read_to_string(&proof).unwrap();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra "), "{text}");
        assert!(!text.contains("hmac-sha256") && text.len() < 2000, "{text}");
    }
    let proof = folder.path().join("3.tlog-proof");
    ended(&check(&proof, None, None), 0, "from the proof itself: compare it");
    assert!(!all_said(&check(&proof, None, Some(&key))).contains("from the proof itself"));
    // As somebody's editor has saved it.
    let saved = folder.path().join("saved.json");
    fs::write(&saved, format!("{}\r\n", lines[3])).unwrap();
    ended(&check(&proof, Some(&saved), Some(&key)), 0, "this is record 3 of");
    ended(&by_python(&proof, &saved, &key), 0, "this is record 3 of");
}

#[test]
fn a_proof_of_another_record_or_log_or_with_anything_bent_is_refused_by_all() {
    let (_stub, mut relay, folder) = lived();
    assert!(relay.stop().success());
    let (log, key) = (relay.path("audit"), key(&relay.path("audit")));
    let proof = folder.path().join("5.tlog-proof");
    ended(&prove(&log, 5, &proof), 0, "is in the log");
    let record = proof.with_extension("json");
    all_say(&proof, &record, &key, true);

    let text = fs::read_to_string(&proof).unwrap();
    let bent = folder.path().join("bent.tlog-proof");
    let path = text.lines().nth(3).unwrap();
    for (what, from, to) in [
        ("another index", "index 5\n", "index 6\n"),
        ("an index beyond", "index 5\n", "index 500\n"),
        ("a hash less", &*format!("{path}\n"), ""),
        ("a hash more", &*format!("{path}\n"), &*format!("{path}\n{path}\n")),
        ("another form", "proof@v1", "proof@v2"),
    ] {
        assert!(text.contains(from), "{what}: {text}");
        fs::write(&bent, text.replacen(from, to, 1)).unwrap();
        all_say(&bent, &record, &key, false);
    }
    let line = fs::read_to_string(&record).unwrap();
    let other = folder.path().join("other.json");
    fs::write(&other, line.replacen("\"outcome\":\"", "\"outcome\":\"un", 1)).unwrap();
    all_say(&proof, &other, &key, false);
    // The same name and another key.
    let (_other_stub, other_relay, _other_folder) = lived();
    let other_key = self::key(&other_relay.path("audit"));
    all_say(&proof, &record, &other_key, false);
    ended(&check(&proof, Some(&record), Some("no+key")), 64, "--key is no key");
    ended(&check(&record, Some(&record), None), 1, "is no proof");
}

#[test]
fn the_auditor_s_own_check_runs_as_its_page_says_and_tells_how_where_the_key_is_missing() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/auditor/check_proof.py");
    for arguments in [&["p", "r"][..], &["p", "r", ""], &[]] {
        ended(&run(Command::new(&script).args(arguments)), 2, "usage: check_proof.py PROOF RECORD VKEY");
    }
}

#[test]
fn what_can_t_be_proven_is_said_with_what_to_do_and_nothing_is_written_over_or_into_the_log() {
    let (_stub, mut relay, folder) = lived();
    assert!(relay.stop().success());
    let log = relay.path("audit");
    let to = folder.path().join("p.tlog-proof");
    ended(&prove(&log, 100_000, &to), 64, "is not covered");
    ended(&prove(&log.join("segments"), 0, &to), 64, "is not a log");
    ended(&prove(&log, 0, &log.join("p.tlog-proof")), 64, "where readers write nothing");
    ended(&prove(&log, 0, &folder.path().join("p.json")), 64, "proof and record in one");
    ended(&prove(&log, 0, &to), 0, "is in the log");
    ended(&prove(&log, 1, &to), 64, "is there already");
    let mut again = program();
    again.args(["audit", "prove", "--force", "--seq", "1", "--log"]).arg(&log).arg("--out").arg(&to);
    ended(&run(&mut again), 0, "record 1 of");
    ended(&run(program().args(["audit", "prove"])), 64, "--seq");

    // Against an anchor; and an older checkpoint is one as well.
    let oldest = fs::read_dir(log.join("checkpoints")).unwrap().map(|e| e.unwrap().path()).min().unwrap();
    let mut command = program();
    command.args(["audit", "prove", "--json", "--seq", "0", "--log"]).arg(&log).arg("--anchor").arg(&oldest);
    let output = run(&mut command);
    ended(&output, 0, "");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let size: u64 = oldest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    assert_eq!((json["records"].as_u64(), json["sequence"].as_u64()), (Some(size), Some(0)));
    assert!(json["proof"].as_str().unwrap().contains("index 0\n"));
    assert_eq!(json["record"].as_str().unwrap(), relay.log_text().lines().next().unwrap());
    assert!(!Path::new("record-0.tlog-proof").exists(), "--json writes no files");

    // A line changed: nothing of the log can be shown any more, and the words say how to see why.
    let file = segment::path(&log, 0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, relay.log_text().replacen("\"outcome\":\"", "\"outcome\":\"un", 1)).unwrap();
    let output = prove(&log, 3, &folder.path().join("q.tlog-proof"));
    ended(&output, 1, "license-relay audit verify --log");
}

#[test]
fn a_record_whose_segment_is_gone_is_proven_by_its_hash_to_whoever_has_its_line() {
    let (_stub, mut relay, folder) = lived();
    assert!(relay.stop().success());
    let log = relay.path("audit");
    let text = relay.log_text();
    let lines: Vec<&str> = text.lines().collect();
    // As pruning leaves it: the hashes of all, and no line.
    let leaves: Vec<_> = lines.iter().map(|line| relay_log::ledger::merkle::leaf(line.as_bytes())).collect();
    assert!(leaves.len() < 256);
    relay_log::ledger::tiles::write(&log, 0, &leaves).unwrap();
    fs::remove_file(segment::path(&log, 0)).unwrap();

    let proof: PathBuf = folder.path().join("4.tlog-proof");
    ended(&prove(&log, 4, &proof), 0, "is not in the log any more");
    let record = folder.path().join("mine.json");
    fs::write(&record, lines[4]).unwrap();
    assert!(!proof.with_extension("json").exists());
    all_say(&proof, &record, &key(&log), true);
    let with = |record: &Path| {
        let mut command = program();
        command.args(["audit", "prove", "--force", "--seq", "4", "--log"]).arg(&log);
        run(command.arg("--out").arg(&proof).arg("--record").arg(record))
    };
    ended(&with(&record), 0, "is in the log");
    assert_eq!(fs::read_to_string(proof.with_extension("json")).unwrap(), format!("{}\n", lines[4]));
    fs::write(&record, lines[5]).unwrap();
    ended(&with(&record), 64, "is not record 4");
}
