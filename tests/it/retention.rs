//! Retention (`audit prune`): what is old enough goes for good, only that, and whatever is left is proven as before, by the
//! program and by whoever does not believe it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use relay_log::ledger::action::Action;
use relay_log::ledger::log::LogFile;
use relay_log::ledger::merkle::{self, Frontier, Hash, leaf};
use relay_log::ledger::note::{CHECKPOINT, Checkpoint, KEPT, Signer};
use relay_log::ledger::record::{Observer, Record};
use relay_log::ledger::{segment, tiles};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::common::disk::Disk;
use crate::common::*;

const ORIGIN: &str = "license-relay/old";
/// Records of a day: no multiple of a tile's width, so that every border is inside one.
const DAY: u64 = 150;
const DAYS: u64 = 6;

fn observer() -> Observer {
    Observer { name: ORIGIN.into(), version: "0" }
}

/// Noon of a day of the made log, which begins with that of 2024.
fn noon(day: u64) -> Timestamp {
    let first: Timestamp = "2024-01-01T12:00:00Z".parse().unwrap();
    first + SignedDuration::from_hours(24 * day.cast_signed())
}

/// A relay's folder with a log of some days in it, as they lie there once a relay has started and stopped on it.
fn made() -> (Stub, Relay, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let named = format!("directory = \"audit\"\norigin = \"{ORIGIN}\"");
    let plan = Plan::new(&stub).with("directory = \"audit\"", &named);
    let log = plan.path("audit");
    fs::create_dir(plan.path("certs")).unwrap();
    for folder in [segment::FOLDER, KEPT] {
        fs::create_dir_all(log.join(folder)).unwrap();
    }
    let signer = Signer::open_or_make(&plan.path("certs/log.key"), ORIGIN).unwrap();
    fs::write(LogFile::path(&log), LogFile::new(ORIGIN, signer.verifier.to_string(), None).to_bytes())
        .unwrap();
    let mut tree = Frontier::default();
    for day in 0..DAYS {
        let mut lines = Vec::new();
        for n in day * DAY..(day + 1) * DAY {
            let stop = n + 1 == DAYS * DAY;
            let action = if stop { Action::RelayStop } else { Action::ConsumptionReport };
            let record = Record::new(action, Uuid::from_u128(n.into()));
            let line = record.line(n, noon(day), &observer()).unwrap();
            tree.push(leaf(&line[..line.len() - 1]));
            lines.extend(line);
        }
        fs::write(segment::path(&log, day * DAY), lines).unwrap();
        let (size, root) = (tree.size(), tree.root());
        let note = Checkpoint { origin: ORIGIN.into(), size, root, time: Some(noon(day)) };
        let note = signer.sign(&note);
        fs::write(log.join(KEPT).join(format!("{size:020}.note")), &note).unwrap();
        fs::write(log.join(CHECKPOINT), &note).unwrap();
    }
    let mut relay = plan.start();
    eventually("all days are put away", || {
        let listed = segment::list(&log).unwrap();
        (listed.iter().filter(|segment| segment.compressed).count() == DAYS as usize).then_some(())
    });
    assert!(relay.stop().success());
    (stub, relay, folder)
}

fn firsts(log: &Path) -> Vec<u64> {
    segment::list(log).unwrap().iter().map(|segment| segment.first).collect()
}

/// Every file below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let found = run(tool("find", "findutils").arg(folder).args(["-type", "f"]));
    let names = String::from_utf8(found.stdout).unwrap();
    names.lines().map(|name| (name.into(), fs::read(name).unwrap())).collect()
}

fn copy(from: &Path, to: &Path) -> PathBuf {
    assert!(Command::new("cp").args(["-r", "--"]).args([from, to]).status().unwrap().success());
    to.to_owned()
}

#[track_caller]
fn prune(relay: &Relay, arguments: &[&str], code: i32) -> String {
    let output = relay.verb(&[&["audit", "prune"], arguments].concat());
    let said = all_said(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

#[track_caller]
fn verify(log: &Path, code: i32) -> Value {
    let output = run(program().args(["audit", "verify", "--json", "--log"]).arg(log));
    assert_eq!(output.status.code(), Some(code), "{}", all_said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Exit code and words of the auditor's own script.
fn by_script(log: &Path, notes: &[PathBuf]) -> (i32, String) {
    for (name, package) in [("openssl", "openssl"), ("python3", "python3"), ("zstd", "zstd")] {
        tool(name, package);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/auditor/verify.sh");
    let output = run(Command::new("sh").arg(script).arg(log).args(notes));
    (output.status.code().unwrap(), all_said(&output))
}

/// The leaves as a pruned log has them: hashes of what went, and the lines of what is left.
fn leaves(log: &Path) -> Vec<Hash> {
    let mut leaves = Vec::new();
    tiles::read_first(log, segment::begin(log).unwrap(), |leaf| leaves.push(leaf)).unwrap();
    for segment in segment::list(log).unwrap() {
        let mut lines = segment::Lines::of(&segment).unwrap();
        while let Some(line) = lines.next_whole().unwrap() {
            leaves.push(leaf(line));
        }
    }
    leaves
}

#[test]
fn a_dry_run_says_what_would_go_and_changes_not_one_byte() {
    let (_stub, relay, _folder) = made();
    let before = files(&relay.path("audit"));
    let bytes: u64 = [0, DAY]
        .map(|first| segment::compressed_path(&segment::path(&relay.path("audit"), first)))
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    let told = prune(&relay, &["--before", "2024-01-03", "--dry-run"], 0);
    for words in [
        "2 of 7 segments go, 300 records",
        &format!("{bytes} bytes"),
        "from 2024-01-01T12:00:00Z to 2024-01-02T12:00:00Z",
        "00000000000000000150.jsonl.zst  records 150 to 299",
        "what stays: 5 segments",
        "from 2024-01-03T12:00:00Z on",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // A record of exactly that time is not older than it.
    let told = prune(&relay, &["--before", "2024-01-02T13:00:00+01:00", "--dry-run"], 0);
    assert!(told.contains("1 of 7 segments go, 150 records"), "{told}");
    let told = prune(&relay, &["--before", "2024-01-01", "--dry-run"], 0);
    assert!(told.contains("nothing goes"), "{told}");
    assert_eq!(files(&relay.path("audit")), before);
    // While a relay runs it may be looked, and nothing goes.
    let relay = relay.again();
    prune(&relay, &["--before", "2024-01-03", "--dry-run"], 0);
    let told = prune(&relay, &["--before", "2024-01-03", "--yes"], 75);
    assert!(told.contains("another license-relay writes"), "{told}");
    assert_eq!(firsts(&relay.path("audit"))[0], 0);
}

#[test]
fn what_makes_no_sense_or_is_not_agreed_to_removes_nothing() {
    let (_stub, relay, _folder) = made();
    let log = relay.path("audit");
    let before = files(&log.join(segment::FOLDER));
    for (time, words) in [
        ("2099-01-01", "in the future"),
        ("yesterday", "no day"),
        ("2024-02-30", "no day"),
        ("2024-01-03T00:00:00", "with its offset"),
        ("", "no day"),
    ] {
        let told = prune(&relay, &["--before", time, "--yes"], 64);
        assert!(told.contains(words), "{time}: {told}");
    }
    prune(&relay, &["--yes"], 64);
    let told = prune(&relay, &["--before", "2024-01-03"], 64);
    assert!(told.contains("2 of 7 segments go") && told.contains("--yes"), "{told}");
    for (answer, code) in [("no\n", 0), ("y\n", 0), ("\n", 0)] {
        let mut command = program();
        command.arg("--config").arg(relay.path("relay.toml"));
        command.args(["audit", "prune", "--before", "2024-01-03"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert!(all_said(&output).contains("nothing was removed"), "{}", all_said(&output));
    }
    assert_eq!(files(&log.join(segment::FOLDER)), before);
    // A log that is not whole is evidence.
    let file = segment::compressed_path(&segment::path(&log, 3 * DAY));
    let whole = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    for arguments in [["--before", "2024-01-03", "--yes"], ["--before", "2024-01-03", "--dry-run"]] {
        let told = prune(&relay, &arguments, 1);
        assert!(told.contains("not whole: records 450 to 599 are missing"), "{told}");
    }
    fs::write(&file, whole).unwrap();
    assert_eq!(firsts(&log)[0], 0);
    fs::rename(&log, relay.path("elsewhere")).unwrap();
    let told = prune(&relay, &["--before", "2024-01-03", "--yes"], 78);
    assert!(told.contains("is not a log") && !log.exists(), "{told}");
}

#[test]
fn a_log_that_was_pruned_still_proves_what_is_left() {
    let (_stub, relay, _folder) = made();
    let log = relay.path("audit");
    let whole = leaves(&log);
    let notes: Vec<PathBuf> =
        [1, 2, 4].map(|day| log.join(KEPT).join(format!("{:020}.note", day * DAY))).to_vec();
    // They are a copy, and made anew where they are not there.
    fs::remove_dir_all(log.join(tiles::FOLDER)).unwrap();
    let told = prune(&relay, &["--before", "2024-01-03", "--yes"], 0);
    assert!(told.contains("2 of 7 segments go") && told.contains("removed"), "{told}");
    assert_eq!(firsts(&log)[..2], [2 * DAY, 3 * DAY]);
    let found = verify(&log, 0);
    assert_eq!((&found["pruned"], &found["verdict"]), (&300.into(), &"fine".into()), "{found:#}");
    assert_eq!(found["records"], whole.len() + 1, "{found:#}");
    let text = run(program().args(["audit", "verify", "--log"]).arg(&log));
    assert!(all_said(&text).contains("300 of them were pruned"), "{}", all_said(&text));
    let (code, told) = by_script(&log, &notes);
    assert!(code == 0 && told.contains("pruned       300 of them"), "{told}");
    for note in &notes {
        let anchored = run(program().args(["audit", "verify", "--log"]).arg(&log).arg("--anchor").arg(note));
        assert!(anchored.status.success(), "{}", all_said(&anchored));
    }
    // Proofs: of each that is left, and that the log has only grown since each checkpoint.
    let now = leaves(&log);
    assert_eq!(now[..whole.len()], whole);
    let (size, root) = (now.len() as u64, merkle::root(&now));
    for index in [2 * DAY, 2 * DAY + 1, 5 * DAY, size - 1] {
        let path = merkle::inclusion(&now, index).unwrap();
        assert!(merkle::includes(&root, size, index, &now[index as usize], &path), "{index}");
    }
    for old in [DAY, 2 * DAY, 3 * DAY, whole.len() as u64] {
        let path = merkle::consistency(&now, old).unwrap();
        assert!(merkle::grew((old, &merkle::root(&whole[..old as usize])), (size, &root), &path), "{old}");
    }

    // A relay goes on as before, and knows that the one before it had ended well.
    let mut relay = relay.again();
    assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
    assert!(relay.stop().success());
    let newest = segment::newest(&log).unwrap().unwrap().path;
    let text = fs::read_to_string(newest).unwrap();
    assert!(text.contains("\"action\":\"audit.pruned\"") && text.contains("\"to_index\":299"), "{text}");
    assert!(!text.contains("unclean") && text.matches("\"action\":\"relay.start\"").count() == 2, "{text}");
    verify(&log, 0);

    // Again, and again with nothing to do.
    prune(&relay, &["--before", "2024-01-05", "--yes"], 0);
    assert_eq!(firsts(&log)[0], 4 * DAY);
    let told = prune(&relay, &["--before", "2024-01-05", "--yes"], 0);
    assert!(told.contains("nothing goes"), "{told}");
    assert_eq!(verify(&log, 0)["pruned"], 600);
    let (code, told) = by_script(&log, &notes);
    assert_eq!(code, 0, "{told}");

    // Down to the active segment, which never goes.
    let tomorrow = (Timestamp::now() - SignedDuration::from_secs(1)).to_string();
    prune(&relay, &["--before", &tomorrow, "--yes"], 0);
    assert_eq!(firsts(&log), [DAYS * DAY]);
    assert_eq!(verify(&log, 0)["pruned"], DAYS * DAY);
    let (code, told) = by_script(&log, &notes);
    assert_eq!(code, 0, "{told}");
    let mut relay = relay.again();
    assert!(relay.stop().success());
    verify(&log, 0);
    let sums = fs::read_to_string(log.join("segments/SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count() as u64, 2 * DAYS, "{sums}");
}

#[test]
fn a_segment_that_goes_by_hand_is_missing_all_the_same_and_nobody_can_say_that_it_was_pruned() {
    let (_stub, relay, _folder) = made();
    let log = relay.path("audit");
    prune(&relay, &["--before", "2024-01-03", "--yes"], 0);
    let keep = copy(&log, &relay.path("keep"));
    for day in [2, 3] {
        fs::remove_file(segment::compressed_path(&segment::path(&log, day * DAY))).unwrap();
        let found = verify(&log, 1);
        let damage = found["damage"][0].as_str().unwrap();
        let missing = format!("records 300 to {} are missing", (day + 1) * DAY - 1);
        assert!(damage.starts_with(&missing) && found["pruned"] == 300, "{found:#}");
        let (code, told) = by_script(&log, &[]);
        assert_eq!(code, 1, "{told}");
    }
    let found = verify(&log, 1);

    // Who has no key adds a record that says so.
    let size = found["records"].as_u64().unwrap();
    let mut record = Record::new(Action::AuditPruned, Uuid::now_v7());
    (record.qlik.from_index, record.qlik.to_index) = (Some(0), Some(599));
    let forged = record.line(size, Timestamp::now(), &observer()).unwrap();
    let newest = segment::newest(&log).unwrap().unwrap().path;
    fs::OpenOptions::new().append(true).open(&newest).unwrap().write_all(&forged).unwrap();
    let found = verify(&log, 1);
    let damage = found["damage"][0].as_str().unwrap();
    assert!(damage.contains("no checkpoint that holds covers"), "{damage}");
    let (code, told) = by_script(&log, &[]);
    assert!(code == 1 && told.contains("no record that is signed says"), "{told}");
    let plan = relay.into_plan();
    let (status, told) = plan.refuses_to_start();
    assert_eq!(status.code(), Some(76), "{told}");
    assert!(told.contains("lacks segments"), "{told}");
    // Nor does that help in a segment that looks sealed.
    let next = Record::new(Action::AuditSealed, Uuid::now_v7());
    let next = next.line(size + 1, Timestamp::now(), &observer()).unwrap();
    fs::write(segment::path(&log, size + 1), next).unwrap();
    let (status, told) = plan.refuses_to_start();
    assert!(status.code() == Some(76) && told.contains("lacks segments"), "{told}");
    // Where nothing is missing, such a record is signed with the next checkpoint: a power cut has come before it.
    fs::remove_dir_all(&log).unwrap();
    copy(&keep, &log);
    fs::OpenOptions::new().append(true).open(&newest).unwrap().write_all(&forged).unwrap();
    let mut relay = plan.start();
    assert!(relay.stop().success());
    assert_eq!(verify(&log, 0)["pruned"], 300);
}

#[test]
fn hashes_of_what_was_pruned_that_are_lost_are_told_plainly_and_others_heal() {
    let (_stub, relay, _folder) = made();
    let log = relay.path("audit");
    prune(&relay, &["--before", "2024-01-03", "--yes"], 0);
    let keep = copy(&log, &relay.path("keep"));
    let restore = || {
        fs::remove_dir_all(&log).unwrap();
        copy(&keep, &log);
    };
    let mut relay = relay;
    // Of what is there in the segments as well.
    for tile in [tiles::path(&log, 1, None), tiles::path(&log, 2, None)] {
        fs::write(&tile, [0; 32 * 256]).unwrap();
        relay = relay.again();
        assert!(relay.stop().success());
        verify(&log, 0);
        restore();
    }
    let part = tiles::path(&log, 1, Some(2 * DAY - 256));
    assert!(part.exists(), "{}", part.display());
    let plan = relay.into_plan();
    let bend = |tile: &Path| {
        let mut bytes = fs::read(tile).unwrap();
        bytes[40] ^= 1;
        fs::write(tile, bytes).unwrap();
    };
    let cases: [(&str, &dyn Fn()); 3] = [
        ("all are gone", &|| fs::remove_dir_all(log.join(tiles::FOLDER)).unwrap()),
        ("a bit of a full one", &|| bend(&tiles::path(&log, 0, None))),
        ("a bit where they end", &|| {
            [&part, &tiles::path(&log, 1, None)].into_iter().for_each(|tile| bend(tile))
        }),
    ];
    for (what, damage) in cases {
        restore();
        damage();
        let found = verify(&log, 1);
        assert!(found["damage"].to_string().contains("hashes/ is damaged"), "{what}: {found:#}");
        let (code, told) = by_script(&log, &[]);
        assert_eq!(code, 1, "{what}: {told}");
        let (status, told) = plan.refuses_to_start();
        assert_eq!(status.code(), Some(76), "{what}: {told}");
        assert!(told.contains("can't be proven any more") && told.contains("before 300"), "{what}: {told}");
    }
    let forked = run(program().arg("--config").arg(plan.path("relay.toml")).args([
        "audit",
        "fork",
        "--reason",
        "hashes were lost",
    ]));
    assert!(forked.status.success(), "{}", all_said(&forked));
    let mut relay = plan.start();
    assert!(relay.stop().success());
    verify(&log, 0);
}

#[test]
fn a_kit_of_a_pruned_log_says_so_and_all_that_its_readme_promises_holds() {
    let (_stub, relay, folder) = made();
    prune(&relay, &["--before", "2024-01-03", "--yes"], 0);
    let to = folder.path().join("kit.zip");
    let packed = relay.verb(&["audit", "kit", "--out", to.to_str().unwrap()]);
    assert_eq!(packed.status.code(), Some(0), "{}", all_said(&packed));
    let unpacked = kit::unpack(&to);
    assert_eq!(kit::type_readme(&unpacked), Vec::<String>::new());
    let readme = fs::read_to_string(unpacked.join("README.txt")).unwrap();
    assert!(readme.contains("the lines before no. 300 are not in the log any more"), "{readme}");
    let report = fs::read_to_string(unpacked.join("report.html")).unwrap();
    assert!(report.contains("pruned"), "the report does not say it");
}

#[test]
fn a_full_disk_gets_room_by_it() {
    let (_stub, relay, _folder) = made();
    let Some(disk) = Disk::in_memory("6m") else { return };
    let log = copy(&relay.path("audit"), &disk.path().join("audit"));
    fs::remove_file(log.join("reserve")).unwrap();
    // As each seal leaves them.
    let leaves = leaves(&log);
    for end in [DAY, 2 * DAY] {
        let tile = end / tiles::WIDTH;
        tiles::write(&log, tile, &leaves[(tile * tiles::WIDTH) as usize..end as usize]).unwrap();
    }
    let plan = relay.into_plan().with("directory = \"audit\"", &format!("directory = {log:?}"));
    let mut relay = plan.start();
    assert!(relay.stop().success());
    disk.fill();
    prune(&relay, &["--before", "2024-01-03", "--yes"], 0);
    assert_eq!(firsts(&log)[0], 2 * DAY);
    assert_eq!(verify(&log, 0)["pruned"], 300);
    let mut relay = relay.again();
    assert!(relay.stop().success());
    verify(&log, 0);
}

#[test]
fn a_pruned_log_is_forked_whole() {
    let (_stub, relay, _folder) = made();
    let log = relay.path("audit");
    prune(&relay, &["--before", "2024-01-03", "--yes"], 0);
    let before = verify(&log, 0);
    let forked = relay.verb(&["audit", "fork", "--reason", "a test"]);
    assert!(forked.status.success(), "{}", all_said(&forked));
    let old = verify(&log.join("forks/1"), 0);
    assert_eq!((&old["root"], &old["pruned"]), (&before["root"], &300.into()));
    let new = verify(&log, 0);
    assert_eq!(
        (&new["predecessor"]["root"], &new["predecessor"]["size"]),
        (&before["root"], &before["records"])
    );
}
