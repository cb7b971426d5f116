//! Folders that somebody means harm with: whoever reads a log hangs on nothing in it, is shown nothing that takes over a
//! terminal or a spreadsheet, and counts nothing that turns over.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::{SignedDuration, Timestamp};
use relay_log::ledger::action::{Action, Outcome};
use relay_log::ledger::log::{LogFile, Predecessor};
use relay_log::ledger::note::{CHECKPOINT, Checkpoint, Signer};
use relay_log::ledger::qlik::Repeat;
use relay_log::ledger::record::Record;
use relay_log::ledger::{segment, tiles};
use tempfile::TempDir;
use uuid::Uuid;

use crate::common::made::Made;
use crate::common::*;

/// The program, which has failed where it has not ended by then, and may take so much memory.
fn bounded(arguments: &[&str]) -> Command {
    let mut command = tool("timeout", "coreutils");
    command.args(["-s", "KILL", "20", "sh", "-c", "ulimit -v 4000000; exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_license-relay")).args(arguments).env_remove("LICENSE_RELAY_CONFIG");
    command
}

fn ask(verb: &str, log: &Path, more: &[&str]) -> Output {
    run(bounded(&["audit", verb, "--log"]).arg(log).args(more))
}

fn start() -> Timestamp {
    "2026-03-01T08:00:00Z".parse().unwrap()
}

fn record(action: Action, n: u64) -> Record {
    let mut record = Record::new(action, Uuid::from_u128(n.into()));
    record.outcome = Outcome::Success;
    record
}

/// A log of 400 records in four compressed segments and the one that is written, with its hashes.
fn log() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit");
    let mut made = Made::begin(&log, "license-relay/hostile").segments_of(90).compressed();
    for n in 0..396 {
        let at = start() + SignedDuration::from_secs(60 * n);
        made.write(at, &[record(Action::RelayHeartbeat, n.unsigned_abs())]);
    }
    assert_eq!(made.end(), 400);
    let mut leaves = Vec::new();
    for segment in segment::list(&log).unwrap() {
        let mut lines = segment::Lines::of(&segment).unwrap();
        while let Some(line) = lines.next_whole().unwrap() {
            leaves.push(relay_log::ledger::merkle::leaf(line));
        }
    }
    for (tile, hashes) in (0..).zip(leaves.chunks(256)) {
        tiles::write(&log, tile, hashes).unwrap();
    }
    (folder, log)
}

/// What is said of a file, and what it is replaced by.
type Replaced = (&'static str, fn(&Path));

const REPLACED: [Replaced; 4] = [
    ("it is no regular file", |path| {
        assert!(run(tool("mkfifo", "coreutils").arg(path)).status.success());
    }),
    ("it is no regular file", |path| symlink("/dev/zero", path).unwrap()),
    ("it is a link that leads nowhere", |path| symlink("nowhere", path).unwrap()),
    ("it is no regular file", |path| fs::create_dir(path).unwrap()),
];

#[test]
fn nothing_in_a_folder_holds_a_reader_up_or_has_no_end_for_it() {
    let files = [
        "log.json",
        "checkpoint",
        "checkpoints/00000000000000000001.note",
        "segments/00000000000000000000.jsonl.zst",
        "segments/00000000000000000360.jsonl",
        "segments/SHA256SUMS",
    ];
    for file in files {
        for (words, replace) in REPLACED {
            let (folder, log) = log();
            let path = log.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let _ = fs::remove_file(&path);
            replace(&path);
            let verified = ask("verify", &log, &[]);
            ended(&verified, 1, words);
            let zip = folder.path().join("kit.zip");
            ended(&ask("kit", &log, &["--out", zip.to_str().unwrap()]), 1, "");
            assert!(!zip.exists(), "{file}");
            let proof = folder.path().join("p.tlog-proof");
            let proved = ask("prove", &log, &["--seq", "5", "--out", proof.to_str().unwrap()]);
            assert!(proved.status.code().is_some(), "{file}: {proved:?}");
            assert!(ask("gaps", &log, &[]).status.code().is_some(), "{file}");
        }
    }
}

#[test]
fn hashes_that_are_no_files_are_made_anew_from_the_lines() {
    for (_, replace) in REPLACED {
        let (folder, log) = log();
        let tile = tiles::path(&log, 0, None);
        fs::remove_file(&tile).unwrap();
        replace(&tile);
        ended(&ask("verify", &log, &[]), 0, ": fine");
        let proof = folder.path().join("p.tlog-proof");
        ended(&ask("prove", &log, &["--seq", "5", "--out", proof.to_str().unwrap()]), 0, "is in the log");
    }
}

#[test]
fn an_anchor_a_list_or_a_proof_that_has_no_end_is_refused() {
    let (folder, log) = log();
    let proof = folder.path().join("p.tlog-proof");
    let made = ask("prove", &log, &["--seq", "5", "--out", proof.to_str().unwrap()]);
    ended(&made, 0, "is in the log");
    for (n, (words, replace)) in REPLACED.into_iter().enumerate() {
        let folder = folder.path().join(n.to_string());
        fs::create_dir(&folder).unwrap();
        let path = folder.join("license-relay_hostile.note");
        replace(&path);
        let name = path.to_str().unwrap();
        // A folder is one that anchors lie in.
        if !path.is_dir() {
            ended(&ask("verify", &log, &["--anchor", name]), 1, words);
            ended(&ask("prove", &log, &["--seq", "1", "--json", "--anchor", name]), 1, words);
            let zip = folder.join("kit.zip");
            assert_eq!(
                ask("kit", &log, &["--out", zip.to_str().unwrap(), "--anchor", name]).status.code(),
                Some(1)
            );
        }
        ended(&ask("verify", &log, &["--anchor", folder.to_str().unwrap()]), 1, words);
        ended(&ask("changes", &log, &["--names", name]), 64, words);
        ended(&ask("state", &log, &["--opening", name]), 64, words);
        ended(&run(&mut bounded(&["audit", "prove", "--check", name])), 64, words);
        let check = ["audit", "prove", "--check", proof.to_str().unwrap(), "--record", name];
        ended(&run(&mut bounded(&check)), 64, words);
    }
}

#[test]
fn a_small_file_that_is_large_is_told_and_not_read_whole() {
    for (file, words) in [
        ("log.json", "larger than 65536 bytes"),
        ("checkpoint", "larger than 65536 bytes"),
        ("segments/SHA256SUMS", "larger than 16777216 bytes"),
    ] {
        let (folder, log) = log();
        // More than there is memory, and no disk.
        let sparse = fs::File::create(log.join(file)).unwrap();
        sparse.set_len(1 << 40).unwrap();
        ended(&ask("verify", &log, &[]), 1, words);
        let zip = folder.path().join("kit.zip");
        assert_eq!(ask("kit", &log, &["--out", zip.to_str().unwrap()]).status.code(), Some(1), "{file}");
    }
}

/// All that a terminal would do something else with than to show it.
#[track_caller]
fn shows_only(output: &Output) {
    let text = all_said(output);
    assert!(text.contains('\u{fffd}'), "{text}");
    let acts = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!text.contains(acts), "{text:?}");
}

#[test]
fn what_a_log_says_is_shown_and_does_nothing_to_the_terminal() {
    const EVIL: &str = "old\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}\u{9b}31m\nforged: fine\r";
    let (folder, log) = log();
    let mut about = LogFile::read(&log).unwrap().unwrap();
    about.predecessor = Some(Predecessor { origin: EVIL.into(), size: 1, root: EVIL.into() });
    fs::write(LogFile::path(&log), about.to_bytes()).unwrap();
    for verb in ["verify", "changes", "gaps", "state", "denied"] {
        let output = ask(verb, &log, &[]);
        shows_only(&output);
        assert!(!all_said(&output).contains("\nforged"), "{}", all_said(&output));
    }
    // Names of files, in what is damaged and in a message.
    fs::create_dir(log.join("checkpoints")).unwrap();
    let note = log.join("checkpoints/\u{1b}[2J\u{202e}.note");
    fs::write(&note, "none").unwrap();
    let output = ask("verify", &log, &[]);
    ended(&output, 1, "damaged: the checkpoint");
    shows_only(&output);
    let zip = folder.path().join("kit\u{1b}[2J.zip");
    let output = ask("kit", &log, &["--out", zip.to_str().unwrap()]);
    ended(&output, 1, "begin with README.txt");
    shows_only(&output);
    let proof = folder.path().join("p\u{1b}[2J'; false '.tlog-proof");
    let output = ask("prove", &log, &["--seq", "5", "--out", proof.to_str().unwrap()]);
    ended(&output, 0, "'\\''; false '\\''.tlog-proof' --key ");
    shows_only(&output);
    let output = ask("verify", &folder.path().join("no\u{1b}[2J"), &[]);
    ended(&output, 64, "is not a log");
    shows_only(&output);
}

#[test]
fn a_spreadsheet_that_splits_at_semicolons_finds_no_formula_in_what_a_log_says() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit");
    let mut made = Made::begin(&log, "license-relay/hostile");
    let mut refused = record(Action::AccessDenied, 1);
    refused.outcome = Outcome::Failure;
    refused.reason = "x;=cmd()\ty\n@SUM(1)".into();
    made.write(start(), &[refused]);
    made.end();
    let output = ask("export", &log, &[]);
    ended(&output, 0, "x;'=cmd()\ty\n'@SUM(1)");
}

#[test]
fn counts_and_clocks_that_are_absurd_turn_nothing_over() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit");
    let mut made = Made::begin(&log, "license-relay/hostile");
    let at = |minute: i64| start() + SignedDuration::from_mins(minute);
    let mut minute = 0;
    made.write(at(minute), &[record(Action::RelayStart, 1)]);
    for delta in [i64::MAX, i64::MIN, i64::MAX, i64::MIN, i64::MIN, i64::MAX] {
        let mut sync = record(Action::SyncResponse, 2);
        sync.qlik.source_id = Some(SOURCE.into());
        sync.qlik.license = Some(LICENSE.into());
        let mut step = record(Action::RelayClockStep, 3);
        step.qlik.delta = Some(delta.into());
        made.write(at(minute), &[sync.clone()]);
        made.write(at(minute + 1), &[step]);
        made.write(at(minute + 90), &[sync, record(Action::RelayHeartbeat, 4)]);
        minute += 100;
    }
    for n in 0..2 {
        let mut gap = record(Action::AuditGap, 5 + n);
        gap.qlik.repeat = Some(Repeat { count: 1 << 63, first: at(minute), last: at(minute) });
        made.write(at(minute), &[gap]);
    }
    made.end();
    ended(&ask("verify", &log, &[]), 4, "gaps: 18446744073709551615 exchanges");
    ended(&ask("gaps", &log, &[]), 4, "18446744073709551615");
    ended(&ask("report", &log, &[]), 4, "</html>");

    // A segment at the last number there is, with two records of it.
    let (_folder, log) = self::log();
    fs::copy(segment::path(&log, 360), segment::path(&log, u64::MAX)).unwrap();
    ended(&ask("verify", &log, &[]), 1, "has the last number there is");
    let zip = folder.path().join("kit.zip");
    ended(&ask("kit", &log, &["--out", zip.to_str().unwrap()]), 1, "begin with README.txt");
    // A signed size that no log has.
    let signer = Signer::open_or_make(&log.with_extension("key"), "license-relay/hostile").unwrap();
    let (origin, root) = ("license-relay/hostile".into(), [0; 32]);
    let checkpoint = Checkpoint { origin, size: u64::MAX, root, time: Some(start()) };
    fs::write(log.join(CHECKPOINT), signer.sign(&checkpoint)).unwrap();
    ended(&ask("verify", &log, &[]), 1, "can't be checked: records are missing");
    ended(&ask("kit", &log, &["--force", "--out", zip.to_str().unwrap()]), 1, "begin with README.txt");
}
