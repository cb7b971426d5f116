//! For whoever does not believe us: openssl, Python and Go verify a log by themselves, with the scripts of
//! docs/auditor/, and find what was bent.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use license_relay::audit::disk::RealDisk;
use license_relay::audit::journal::{Journal, Opening};
use relay_log::ledger::action::Action;
use relay_log::ledger::log::LogFile;
use relay_log::ledger::note::Signer;
use relay_log::ledger::record::{Observer, Record};
use relay_log::ledger::segment;
use tempfile::TempDir;
use uuid::Uuid;

use crate::common::*;

const SEGMENT: &str = "segments/00000000000000000000.jsonl";

/// A key whose public half has a plus sign in its base64, as half of all have.
fn key_with_a_plus(path: &Path, origin: &str) -> Signer {
    loop {
        let signer = Signer::open_or_make(path, origin).unwrap();
        if signer.verifier.to_string().matches('+').count() > 2 {
            return signer;
        }
        fs::remove_file(path).unwrap();
    }
}

/// What a relay has logged, with its anchor beside it.
fn by_a_relay() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let anchor = folder.path().join("anchor");
    fs::create_dir(&anchor).unwrap();
    let anchors = format!("directory = \"audit\"\nanchors = [{anchor:?}]");
    let plan = Plan::new(&stub).with("directory = \"audit\"", &anchors);
    key_with_a_plus(&plan.path("certs/log.key"), "any");
    let mut relay = plan.start();
    for _ in 0..5 {
        assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
        assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
        assert_eq!(relay.post("/v1/activation", ACTIVATION).status, 200);
    }
    assert!(relay.stop().success());
    let log = folder.path().join("log");
    copy(&relay.path("audit"), &log);
    let note = fs::read_dir(&anchor).unwrap().next().unwrap().unwrap().path();
    (folder, log, note)
}

/// A log of many segments, most of them compressed, by the relay's own journal.
fn of_many_segments() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let signer = key_with_a_plus(&folder.path().join("log.key"), "license-relay/many");
    let (journal, writer) = Journal::open(Opening {
        directory: log.clone(),
        anchors: Vec::new(),
        observer: Observer { name: "license-relay/many".into(), version: "0" },
        signer,
        disk: Arc::new(RealDisk),
        gap_file: folder.path().join("gap.json"),
        segment_bytes: 40_000,
        queue: 32 << 20,
    })
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for n in 0..30u128 {
            let record = |m| Record::new(Action::ConsumptionReport, Uuid::from_u128(n * 50 + m));
            journal.commit((0..50).map(record).collect()).await.unwrap();
        }
        journal.close().await;
    });
    writer.finish();
    eventually("all that is sealed is put away", || {
        let listed = segment::list(&log).unwrap();
        listed.iter().rev().skip(1).all(|segment| segment.compressed).then_some(())
    });
    assert!(segment::list(&log).unwrap().len() > 5);
    (folder, log)
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args(["-r", "--"]).args([from, to]).status().unwrap().success());
}

fn auditor(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/auditor").join(name)
}

/// Exit code and words of `verify.sh`.
fn by_script(log: &Path, notes: &[&Path]) -> (i32, String) {
    for (name, package) in [("openssl", "openssl"), ("python3", "python3"), ("zstd", "zstd")] {
        tool(name, package);
    }
    let output = run(Command::new("sh").arg(auditor("verify.sh")).arg(log).args(notes));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().unwrap(), said)
}

/// All lines, as `cat` and `zstdcat` give them.
fn lines(log: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for segment in segment::list(log).unwrap() {
        let mut lines = segment::Lines::of(&segment).unwrap();
        loop {
            let line = lines.next_line().unwrap();
            if line.is_empty() {
                break;
            }
            all.extend_from_slice(line);
        }
    }
    all
}

/// The same by Go's `sumdb/note` and `sumdb/tlog`.
fn by_go(log: &Path, notes: &[&Path]) -> (i32, String) {
    let library = Path::new("/usr/share/gocode/src/golang.org/x/mod/sumdb/note");
    assert!(library.exists(), "Go's sumdb is not installed; run: apt-get install golang-golang-x-mod-dev");
    let program = clients::go("gonote");
    let vkey = LogFile::read(log).unwrap().unwrap().vkey;
    let mut kept: Vec<PathBuf> = vec![log.join("checkpoint")];
    kept.extend(fs::read_dir(log.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()));
    let mut command = Command::new(program);
    command.arg(vkey).args(kept).args(notes);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(&lines(log));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().unwrap(), said)
}

#[track_caller]
fn all_accept(log: &Path, notes: &[&Path], records: usize) {
    let (code, said) = by_script(log, notes);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("all is as it was signed"), "{said}");
    assert!(said.contains(&format!("records      {records}\n")), "{said}");
    let (code, said) = by_go(log, notes);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("accepted: {records} records")), "{said}");
}

fn sum_made_anew(line: &str) -> String {
    let body = format!("{}}}", &line[..line.rfind(",\"sum\"").unwrap()]);
    let sum: String =
        digest(&SHA256, body.as_bytes()).as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{},\"sum\":\"{sum}\"}}\n", &body[..body.len() - 1])
}

#[test]
fn openssl_python_and_go_accept_what_a_relay_logged_and_its_anchor() {
    let (_folder, log, anchor) = by_a_relay();
    let records = String::from_utf8(lines(&log)).unwrap().lines().count();
    assert!(records > 30, "{records}");
    all_accept(&log, &[&anchor], records);
    // With the key that the auditor was given, and with another one.
    let vkey = LogFile::read(&log).unwrap().unwrap().vkey;
    let with = |key: &str| run(Command::new("sh").arg(auditor("verify.sh")).args(["-k", key]).arg(&log));
    assert!(with(&vkey).status.success());
    let other = TempDir::new().unwrap();
    let origin = vkey.split('+').next().unwrap();
    let other = key_with_a_plus(&other.path().join("key"), origin).verifier.to_string();
    assert_eq!(with(&other).status.code(), Some(1));
    for no_key in ["", "name", "name+01234567+AAAA", "name+01234567+%%%%"] {
        assert_eq!(with(no_key).status.code(), Some(2), "{no_key}");
    }
}

#[test]
fn records_that_no_checkpoint_covers_are_told_from_those_that_are_as_they_were_signed() {
    let (folder, log, anchor) = by_a_relay();
    let whole = String::from_utf8(lines(&log)).unwrap();
    let records = whole.lines().count();
    let back = folder.path().join("back");
    copy(&log, &back);
    let kept = fs::read_dir(log.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let oldest = kept.min().unwrap();
    let signed: usize = oldest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    fs::remove_dir_all(back.join("checkpoints")).unwrap();
    fs::copy(&oldest, back.join("checkpoint")).unwrap();
    // Whoever has no key can change these as they like.
    let last = whole.lines().last().unwrap();
    let bent = sum_made_anew(&last.replacen("\"observer\"", "\"observes\"", 1));
    assert_ne!(bent.trim_end(), last);
    fs::write(back.join(SEGMENT), whole.replace(&format!("{last}\n"), &bent)).unwrap();
    let (code, said) = by_script(&back, &[]);
    let unsigned = records - signed;
    for words in [
        format!(
            "signed       {signed} of {records}; the last {unsigned} are NOT signed: anybody can have written them"
        ),
        format!("what is signed is as it was; {unsigned} records are not signed"),
    ] {
        assert!(code == 3 && said.contains(&words), "{code}: {said}");
    }
    assert!(!said.contains("all is as it was signed"), "{said}");
    // An anchor over them finds it.
    let (code, said) = by_script(&back, &[&anchor]);
    assert!(code == 1 && said.contains("are not those that it signs"), "{code}: {said}");
}

#[test]
fn what_is_no_note_is_no_alarm_and_a_line_of_the_relay_s_log_is_made_one_as_it_says() {
    let (folder, log, anchor) = by_a_relay();
    let records = String::from_utf8(lines(&log)).unwrap().lines().count();
    let own = folder.path().join("relay.log");
    let note = STANDARD.encode(fs::read(&anchor).unwrap());
    fs::write(
        &own,
        format!("starts\n2026-01-01 INFO audit checkpoint {note}\n{{\"m\":\"audit checkpoint {note}\"}}\n"),
    )
    .unwrap();
    let (code, said) = by_script(&log, &[&own]);
    assert!(
        code == 2 && said.contains("relay.log is not a note; make one: ") && !said.contains("FAULT"),
        "{said}"
    );
    let recipe = said.split_once("make one: ").unwrap().1;
    let made = run(Command::new("sh").args(["-c", recipe]).current_dir(folder.path()));
    assert!(made.status.success(), "{recipe}");
    all_accept(&log, &[&folder.path().join("ANCHOR.note")], records);
    let (code, said) = by_script(&log, &[anchor.parent().unwrap()]);
    assert!(code == 2 && said.contains("is a folder; name the file in it"), "{said}");
}

#[test]
fn openssl_python_and_go_find_what_was_bent() {
    let (folder, log, anchor) = by_a_relay();
    let text = fs::read_to_string(log.join(SEGMENT)).unwrap();
    let whole: Vec<&str> = text.split_inclusive('\n').collect();
    let last = whole.len() - 1;
    let edited = whole[6].replace("\"outcome\":\"", "\"outcome\":\"un");
    let with = |at: usize, line: &str| [&whole[..at], &[line], &whole[at + 1..]].concat().concat();
    let mut flipped = text.clone().into_bytes();
    flipped[text.len() / 2] ^= 1;
    let mut swapped = whole.clone();
    swapped.swap(7, 8);
    let bent: Vec<(&str, Vec<u8>, String)> = vec![
        ("a line edited", with(6, &edited).into(), "record 6 was changed".into()),
        (
            "a line edited, its sum made anew",
            with(6, &sum_made_anew(&edited)).into(),
            "are not those that it signs".into(),
        ),
        ("a bit flipped", flipped, "was changed".into()),
        ("two lines swapped", swapped.concat().into(), "record 7 has the number 8".into()),
        ("a line removed", with(9, "").into(), "record 9 has the number 10".into()),
        ("a line doubled", with(9, &whole[9].repeat(2)).into(), "record 10 has the number 9".into()),
        ("the last line removed", with(last, "").into(), format!("and the log has {last}")),
        ("everything removed", Vec::new(), "and the log has 0".into()),
    ];
    for (n, (what, text, names)) in bent.into_iter().enumerate() {
        let bent = folder.path().join(n.to_string());
        copy(&log, &bent);
        fs::write(bent.join(SEGMENT), text).unwrap();
        let (code, said) = by_script(&bent, &[]);
        assert_eq!(code, 1, "{what}: {said}");
        assert!(said.contains(&names) && !said.contains("all is as"), "{what}: {said}");
        let (code, said) = by_go(&bent, &[]);
        assert_eq!(code, 1, "{what}: {said}");
    }
    // A checkpoint that was changed, and one that was signed with nobody's key.
    let note = fs::read_to_string(log.join("checkpoint")).unwrap();
    let size = whole.len().to_string();
    for (what, note) in [
        ("another size", note.replacen(&size, &(whole.len() - 1).to_string(), 1)),
        ("no signature", note.split_once("\n\n").unwrap().0.to_owned() + "\n\n"),
        ("another's name", note.replace("\u{2014} ", "\u{2014} x")),
        ("half of it", note[..note.len() / 2].to_owned()),
    ] {
        let bent = folder.path().join(what);
        copy(&log, &bent);
        fs::write(bent.join("checkpoint"), note).unwrap();
        let (code, said) = by_script(&bent, &[]);
        assert!(code == 1 && said.contains("is not signed with this key"), "{what}: {said}");
        assert_eq!(by_go(&bent, &[]).0, 1, "{what}");
    }
    // A witness that has signed as well changes nothing.
    let witnessed = folder.path().join("witnessed");
    copy(&log, &witnessed);
    let line = "\u{2014} witness.example/w AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/QEFCQ0RF\n";
    fs::write(witnessed.join("checkpoint"), note + line).unwrap();
    all_accept(&witnessed, &[], whole.len());

    // Rolled back: whole by itself, and the anchor knows better.
    let kept: Vec<PathBuf> =
        fs::read_dir(log.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let oldest = kept.iter().min().unwrap();
    let size: usize = oldest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    assert!(size < whole.len());
    let back = folder.path().join("back");
    copy(&log, &back);
    fs::write(back.join(SEGMENT), whole[..size].concat()).unwrap();
    fs::copy(oldest, back.join("checkpoint")).unwrap();
    for note in &kept {
        if note != oldest {
            fs::remove_file(back.join("checkpoints").join(note.file_name().unwrap())).unwrap();
        }
    }
    all_accept(&back, &[], size);
    let (code, said) = by_script(&back, &[&anchor]);
    assert!(code == 1 && said.contains(&format!("and the log has {size}")), "{said}");
    assert_eq!(by_go(&back, &[&anchor]).0, 1);
}

#[test]
fn openssl_python_and_go_read_compressed_segments_and_miss_one_that_is_gone() {
    let (folder, log) = of_many_segments();
    let records = String::from_utf8(lines(&log)).unwrap().lines().count();
    assert!(records > 1500, "{records}");
    all_accept(&log, &[], records);
    let segments = segment::list(&log).unwrap();
    for (n, gone) in segments[..segments.len() - 1].iter().enumerate() {
        let bent = folder.path().join(n.to_string());
        copy(&log, &bent);
        fs::remove_file(bent.join("segments").join(gone.path.file_name().unwrap())).unwrap();
        let (code, said) = by_script(&bent, &[]);
        let named = match segments[n + 1].first {
            next if gone.first == 0 => format!("records 0 to {} are not there", next - 1),
            _ => format!("record {} has the number", gone.first),
        };
        assert!(code == 1 && said.contains(&named), "{said}");
        assert_eq!(by_go(&bent, &[]).0, 1);
    }
    // A flipped bit of a compressed one.
    let bent = folder.path().join("bent");
    copy(&log, &bent);
    let file = bent.join("segments").join(segments[1].path.file_name().unwrap());
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::remove_file(&file).unwrap();
    fs::write(&file, bytes).unwrap();
    let (code, said) = by_script(&bent, &[]);
    assert!(code == 1 && said.contains(&*segments[1].path.file_name().unwrap().to_string_lossy()), "{said}");
}
