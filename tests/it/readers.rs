//! Every verb that reads the log, on logs that nobody wants to be given: damaged, cut, too new, on media that can't be
//! written, while a relay writes. What is left is listed, the exit code tells, and nothing in the folder changes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::common::scenes::Deployment;
use crate::common::story::{Story, add, answer, audit, bytes_of, columns, delete, units};
use crate::common::*;

const PRO: &str = "professional";

/// All verbs that read; `history` and `subject` are of one person.
const VERBS: [&[&str]; 12] = [
    &["verify"],
    &["state"],
    &["changes"],
    &["history", "--hash", "hmac-sha256:none:00"],
    &["churn"],
    &["reconcile"],
    &["consumption"],
    &["gaps"],
    &["denied"],
    &["deployments"],
    &["export"],
    &["report"],
];

/// A log of three segments, five minutes each, in which a bit of everything happens.
fn log() -> (TempDir, PathBuf) {
    let (folder, story) = Story::alone("2026-05-01T00:00:00Z");
    let mut story = story.segments_of(12);
    let by = Deployment::new(1, LICENSE);
    story.started(0, None);
    story.defined(0, &by, &[units(PRO, 2, "", "", None)]);
    for n in 0..8 {
        let change = add(PRO, &format!("ACME\\user{n}"));
        let told = change.clone().told(n + 1);
        story.sync(i64::try_from(n).unwrap() * 10, &by, n, &[change], n + 1, &[told]);
    }
    story.sync(80, &by, 8, &[], 9, &[delete(PRO, "ACME\\user0").told(9)]);
    story.used(81, &by, "2026-05", 7, Some(7));
    story.refused(82, &Deployment::new(2, LICENSE));
    story.stopped(83);
    let log = story.end();
    assert!(segments(&log).len() > 2);
    (folder, log)
}

fn segments(log: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        fs::read_dir(log.join("segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

fn copy(log: &Path, to: &Path) {
    assert!(Command::new("cp").args(["-r", "--"]).args([log, to]).status().unwrap().success());
}

/// Exit code and all that is said.
fn said(logs: &[&Path], verb: &[&str]) -> (i32, String) {
    let output = audit(logs, verb);
    let words = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&words).into_owned())
}

/// Lists that have a row for this log, each with columns that name one.
fn lists() -> [&'static [&'static str]; 4] {
    [&["state"], &["changes"], &["deployments"], &["export", "--format", "jsonl"]]
}

#[test]
fn on_a_log_that_is_fine_every_verb_ends_with_what_it_rests_on() {
    let (_folder, log) = log();
    for verb in VERBS {
        let (code, words) = said(&[&log], verb);
        assert_eq!(code, 0, "{verb:?}: {words}");
        assert!(words.contains("license-relay/log"), "{verb:?} does not say of which log: {words}");
        if verb[0] != "verify" {
            assert!(words.contains("license-relay audit"), "{verb:?} does not say who made it: {words}");
        }
    }
}

#[test]
fn of_a_log_with_a_bent_line_the_rest_is_listed_and_the_exit_code_says_so() {
    let (_folder, log) = log();
    let whole = columns(&answer(&[&log], &["changes"]), &["version"]);
    let middle = &segments(&log)[1];
    let text = fs::read_to_string(middle).unwrap();
    let bent: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(n, line)| if n == 5 { line.replace("qlik", "qIik") } else { line.to_owned() })
        .collect();
    fs::write(middle, bent.join("\n") + "\n").unwrap();
    for verb in VERBS {
        let (code, words) = said(&[&log], verb);
        assert_eq!(code, 1, "{verb:?}: {words}");
        assert!(words.contains("damaged"), "{verb:?}: {words}");
    }
    let output = audit(&[&log], &["changes", "--json"]);
    let changes: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let left = columns(&changes, &["version"]);
    assert!(left.len() >= whole.len() - 1 && left.last() == whole.last(), "{left:?} of {whole:?}");
    assert_eq!(changes["evidence"][0]["verdict"], "damaged");
}

#[test]
fn a_line_that_is_no_record_at_all_hides_none_of_the_others() {
    let (_folder, log) = log();
    let middle = &segments(&log)[1];
    let text = fs::read_to_string(middle).unwrap();
    for junk in ["", "{}", "{\"@timestamp\":\"2026\"}", "\u{0}\u{0}\u{0}", "[1,2", &"x".repeat(70_000)] {
        let mut lines: Vec<&str> = text.lines().collect();
        lines[3] = junk;
        fs::write(middle, lines.join("\n") + "\n").unwrap();
        for verb in lists() {
            let (code, words) = said(&[&log], verb);
            assert_eq!(code, 1, "{verb:?} with {:.20}: {words}", junk);
        }
        let now = String::from_utf8(audit(&[&log], &["changes", "--csv"]).stdout).unwrap();
        assert!(now.matches(",done,").count() >= 8, "{now}");
    }
}

#[test]
fn of_a_log_without_one_of_its_segments_the_others_are_listed() {
    let (_folder, log) = log();
    fs::remove_file(&segments(&log)[1]).unwrap();
    for verb in VERBS {
        let (code, words) = said(&[&log], verb);
        assert_eq!(code, 1, "{verb:?}: {words}");
        assert!(words.contains("are missing"), "{verb:?} does not say what is missing: {words}");
    }
    let output = audit(&[&log], &["changes", "--json"]);
    let changes: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let versions = columns(&changes, &["version"]);
    assert!(versions.contains(&"1".to_owned()) && versions.contains(&"9".to_owned()), "{versions:?}");
    assert!(!changes["coverage"][0]["holes"].as_array().unwrap().is_empty(), "{:#}", changes["coverage"]);
}

#[test]
fn a_log_that_was_cut_or_rolled_back_says_so_with_every_verb() {
    let (folder, log) = log();
    let anchor = folder.path().join("anchor.note");
    fs::copy(log.join("checkpoint"), &anchor).unwrap();
    fs::remove_file(segments(&log).last().unwrap()).unwrap();
    fs::remove_file(log.join("checkpoint")).unwrap();
    let anchor = anchor.display().to_string();
    for verb in VERBS {
        let (code, words) = said(&[&log], &[verb, &["--anchor", &anchor]].concat());
        assert_eq!(code, 2, "{verb:?}: {words}");
        // Without the anchor, nothing shows what was cut; but that the end is not signed does.
        let (code, words) = said(&[&log], verb);
        assert_eq!(code, 3, "{verb:?}: {words}");
    }
}

#[test]
fn gaps_that_the_log_itself_tells_of_are_exit_code_4() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    story.idle(0..=20, &Deployment::new(1, LICENSE), 3);
    let record = scenes::gap(77, 5, story.time(3), story.time(9));
    story.write(21, &[record]);
    let log = story.end();
    for verb in VERBS {
        let (code, words) = said(&[&log], verb);
        assert_eq!(code, 4, "{verb:?}: {words}");
        assert!(words.contains('5'), "{verb:?} does not say how many: {words}");
    }
}

#[test]
fn what_is_no_log_is_a_wrong_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no log").unwrap();
    let (_log_folder, log) = log();
    for path in [folder.path(), &folder.path().join("not-there"), &file, &log.join("segments")] {
        for verb in &VERBS[1..] {
            let (code, words) = said(&[path], verb);
            assert_eq!(code, 64, "{verb:?} of {}: {words}", path.display());
            assert!(words.contains(&path.display().to_string()), "{verb:?} does not name it: {words}");
            for form in ["--json", "--csv"] {
                let output = audit(&[path], &[verb, &[form][..]].concat());
                assert!(output.stdout.is_empty(), "{verb:?} {form} leaves half an answer");
            }
        }
    }
}

#[test]
fn a_log_that_is_newer_than_the_program_is_told_as_that() {
    let (_folder, log) = log();
    let about = fs::read_to_string(log.join("log.json")).unwrap();
    fs::write(log.join("log.json"), about.replace("\"format\": 1", "\"format\": 2")).unwrap();
    for verb in VERBS {
        let (code, words) = said(&[&log], verb);
        assert_ne!(code, 0, "{verb:?}: {words}");
        assert!(words.contains("form 2"), "{verb:?} does not say why: {words}");
    }
}

#[test]
fn times_that_make_no_sense_are_refused_in_words() {
    let (_folder, log) = log();
    for nonsense in
        ["yesterday", "2026-13-01", "2026-02-30", "2026-5-1", "1777593600", "", "2026-05-01T25:00:00Z"]
    {
        for verb in [["state", "--at"], ["changes", "--from"], ["changes", "--to"], ["denied", "--from"]] {
            let (code, words) = said(&[&log], &[verb[0], verb[1], nonsense]);
            assert_eq!(code, 64, "{verb:?} {nonsense}: {words}");
            assert!(words.contains("2026-"), "no example of a right one: {words}");
        }
    }
    for verb in ["changes", "reconcile", "denied"] {
        let (code, words) = said(&[&log], &[verb, "--from", "2026-05-02", "--to", "2026-05-01"]);
        assert_eq!(code, 64, "{verb}: {words}");
    }
    for month in ["2026-13", "2026", "may", "2026-05-01"] {
        let (code, words) = said(&[&log], &["consumption", "--month", month]);
        assert_eq!(code, 64, "{month}: {words}");
    }
    for within in ["7", "d", "-7d", "seven days", "99999999999999999999d"] {
        let (code, words) = said(&[&log], &["churn", &format!("--within={within}")]);
        assert_eq!(code, 64, "{within}: {words}");
    }
}

#[test]
fn without_the_key_pseudonyms_are_shown_and_that_is_said() {
    let (folder, log) = log();
    let names = folder.path().join("names.csv");
    fs::write(&names, "ACME\\user1\nACME\\user2\n").unwrap();
    let (names, gone) = (names.display().to_string(), folder.path().join("gone.key").display().to_string());
    for key in [None, Some(&gone)] {
        let mut verb = vec!["state", "--names", &names];
        verb.extend(key.iter().flat_map(|key| ["--subject-key", key.as_str()]));
        let (code, words) = said(&[&log], &verb);
        assert_eq!(code, 0, "{words}");
        assert!(words.contains("hmac-sha256:") && !words.contains("user1"), "{words}");
        assert!(words.contains("key"), "it does not say that the key is missing: {words}");
    }
    let key = folder.path().join("subject.key").display().to_string();
    let (code, words) = said(&[&log], &["state", "--names", &names, "--subject-key", &key]);
    assert!(code == 0 && words.contains("ACME\\user1"), "{words}");
    // Of seven holders two are in the list; the rest are counted.
    assert!(words.contains('5'), "{words}");
}

#[test]
fn names_and_keys_leave_nothing_in_the_folder_of_the_log() {
    let (folder, log) = log();
    let names = folder.path().join("names.csv");
    fs::write(&names, "ACME\\user1\nACME\\user2\n").unwrap();
    let before = bytes_of(&log);
    let (names, key) = (names.display().to_string(), folder.path().join("subject.key").display().to_string());
    for verb in &VERBS[1..] {
        let verb = [verb, &["--names", &names, "--subject-key", &key][..]].concat();
        let (code, words) = said(&[&log], &verb);
        assert_eq!(code, 0, "{verb:?}: {words}");
    }
    let (code, words) = said(&[&log], &["history", "--subject", "acme\\USER1", "--subject-key", &key]);
    assert!(code == 0 && words.contains("add"), "{words}");
    let (code, words) = said(&[&log], &["subject", "acme\\USER1", "--subject-key", &key]);
    assert!(code == 0 && words.contains("hmac-sha256:"), "{words}");
    assert_eq!(bytes_of(&log), before, "a reader has written into the log's folder");
}

#[test]
fn readers_need_no_right_to_write() {
    let (folder, log) = log();
    let bare = folder.path().join("read-only");
    copy(&log, &bare);
    assert!(Command::new("chmod").args(["-R", "a-w"]).arg(&bare).status().unwrap().success());
    for verb in VERBS {
        assert_eq!(said(&[&bare], verb).0, 0, "{verb:?}");
    }
    assert!(Command::new("chmod").args(["-R", "u+w"]).arg(&bare).status().unwrap().success());

    // Permissions don't bind root; a mount does.
    let Some(disk) = disk::Disk::in_memory("4m") else { return };
    copy(&log, &disk.path().join("audit"));
    let mut mount = tool("mount", "mount");
    assert!(run(mount.args(["-o", "remount,ro"]).arg(disk.path())).status.success());
    for verb in VERBS {
        let (code, words) = said(&[&disk.path().join("audit")], verb);
        assert_eq!(code, 0, "{verb:?}: {words}");
    }
}

#[test]
fn readers_tell_of_what_was_there_while_a_relay_writes() {
    let (_stub, mut relay, _folder) = pair();
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    let log = relay.path("audit");
    std::thread::scope(|scope| {
        let relay = &relay;
        let writing = scope.spawn(move || {
            for _ in 0..25 {
                relay.post("/v1/sync", IDLE);
            }
        });
        let mut rounds = 0;
        while rounds < 2 || !writing.is_finished() {
            for verb in VERBS {
                let (code, words) = said(&[&log], verb);
                // The stub tells of versions that no deployment has seen, which is a gap.
                assert!(code == 0 || (verb[0] == "gaps" && code == 4), "{verb:?}: {code} {words}");
            }
            rounds += 1;
        }
    });
    assert!(relay.stop().success());
    assert!(!columns(&answer(&[&log], &["changes"]), &["version"]).is_empty());
}

#[test]
fn a_spreadsheet_takes_nothing_for_a_formula() {
    let (folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let evil = "=HYPERLINK(\"http://x\",\"a,b\")";
    let by = Deployment { agent: "@SUM(1+1)*cmd|' /C calc'!A0".into(), ..Deployment::new(1, LICENSE) };
    let by = Deployment { source: "+deployment".into(), ..by };
    let person = format!("ACME\\{evil}");
    story.sync(0, &by, 0, &[], 1, &[add("=1+1", &person).told(1)]);
    story.sync(9, &by, 1, &[], 2, &[add("-2", "-2+3\\bob").told(2).rejected("=cmd|'/C calc'!A0")]);
    story.refused(10, &by);
    let log = story.end();
    let names = folder.path().join("names.csv");
    fs::write(&names, "\"ACME\\=HYPERLINK(\"\"http://x\"\",\"\"a,b\"\")\"\n-2+3\\bob\n").unwrap();
    let (names, key) = (names.display().to_string(), folder.path().join("subject.key").display().to_string());
    for verb in ["state", "changes", "deployments", "denied", "export"] {
        let verb = [verb, "--csv", "--names", &names, "--subject-key", &key];
        let verb: &[&str] = if verb[0] == "export" { &[&verb[..1], &verb[2..]].concat() } else { &verb };
        let output = audit(&[&log], verb);
        assert_eq!(output.status.code(), Some(0), "{verb:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with('\u{feff}'), "{verb:?} has no byte order mark");
        let python = "import csv,sys\n\
            rows = list(csv.reader(open(sys.argv[1], newline='', encoding='utf-8-sig'), strict=True))\n\
            cells = [cell for row in rows for cell in row]\n\
            numbers = [cell for cell in cells if cell[:1] == '-' and cell[1:].replace('.', '').isdigit()]\n\
            bad = [cell for cell in cells if cell[:1] in ('=', '+', '-', '@', '\\t', '\\r') and cell not in numbers]\n\
            print(bad)\n\
            width = len(rows[0])\n\
            data = rows[1:rows.index([])]\n\
            assert data and all(len(row) == width for row in data), data\n\
            sys.exit(bool(bad))";
        let file = folder.path().join("answer.csv");
        fs::write(&file, &text).unwrap();
        let checked = run(tool("python3", "python3").args(["-c", python]).arg(&file));
        let words = [checked.stdout, checked.stderr].concat();
        assert!(checked.status.success(), "{verb:?}: {}\n{text}", String::from_utf8_lossy(&words));
        let head = text.lines().next().unwrap();
        assert!(text[..text.find("\r\n\r\n").unwrap()].matches("\r\n").count() >= 1, "{verb:?}: {head}");
    }
}

#[test]
fn one_log_named_twice_is_refused_and_so_is_its_copy() {
    let (folder, log) = log();
    let again = folder.path().join("again");
    copy(&log, &again);
    for verb in &VERBS[1..] {
        for logs in [[log.as_path(), log.as_path()], [&log, &again]] {
            let (code, words) = said(&logs, verb);
            assert_ne!(code, 0, "{verb:?} counts everything twice: {words}");
            assert!(words.contains("copies of one log"), "{verb:?}: {words}");
        }
    }
}

#[test]
fn of_two_logs_the_worse_one_gives_the_exit_code() {
    let (folder, good) = log();
    let mut other = Story::begin(folder.path(), "other", "2026-05-01T00:00:00Z");
    other.idle(0..=20, &Deployment::new(7, LICENSE), 3);
    let bad = other.end();
    let segment = &segments(&bad)[0];
    fs::write(segment, fs::read_to_string(segment).unwrap().replace("QSEfW", "QSEfV")).unwrap();
    for verb in &VERBS[1..] {
        for logs in [[good.as_path(), bad.as_path()], [&bad, &good]] {
            let (code, words) = said(&logs, verb);
            assert_eq!(code, 1, "{verb:?}: {words}");
            assert!(words.contains("license-relay/log") && words.contains("license-relay/other"), "{words}");
        }
    }
}

#[test]
fn what_is_written_to_a_file_is_its_owners_alone_and_nothing_is_overwritten_halfway() {
    let (folder, log) = log();
    let page = folder.path().join("report.html");
    let export = folder.path().join("export.csv");
    for (verb, file) in [("report", &page), ("export", &export)] {
        let (code, words) = said(&[&log], &[verb, "--out", &file.display().to_string()]);
        assert_eq!(code, 0, "{verb}: {words}");
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{verb}");
        assert!(fs::read_to_string(file).unwrap().contains("license-relay/log"), "{verb}");
        let nowhere = folder.path().join("not-there/file").display().to_string();
        let (code, words) = said(&[&log], &[verb, "--out", &nowhere]);
        assert!(code != 0 && words.contains("not-there"), "{verb}: {code} {words}");
    }
}
