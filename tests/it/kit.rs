//! The kit stands alone: what its README says is typed, word for word, in the folder that it was unpacked into, with
//! openssl, Python and zstd, and gives the answers that it promises; what was bent is found.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use license_relay::audit::disk::RealDisk;
use license_relay::audit::journal::{Journal, Opening};
use relay_log::ledger::action::Action;
use relay_log::ledger::log::LogFile;
use relay_log::ledger::note::Signer;
use relay_log::ledger::record::{Observer, Record};
use relay_log::ledger::segment;
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::common::kit::{type_readme, unpack};
use crate::common::*;

const SEGMENT: &str = "segments/00000000000000000000.jsonl";

/// A relay with an anchor that has made some records and still runs.
fn lived() -> (Stub, Relay, TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path(), &[]);
    let anchor = folder.path().join("anchor");
    fs::create_dir(&anchor).unwrap();
    let anchors = format!("directory = \"audit\"\nanchors = [{anchor:?}]");
    let relay = Plan::new(&stub).with("directory = \"audit\"", &anchors).start();
    for _ in 0..3 {
        assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
        assert_eq!(relay.post("/v1/capacity", CAPACITY).status, 200);
    }
    (stub, relay, folder, anchor)
}

/// A log of many small segments that is written as long as this is told, by the relay's own journal.
fn write_many(folder: &Path, origin: &str, enough: impl Fn(u128) -> bool) -> PathBuf {
    let log = folder.join(origin.replace('/', "-"));
    let signer = Signer::open_or_make(&folder.join(format!("{}.key", log.display())), origin).unwrap();
    let (journal, writer) = Journal::open(Opening {
        directory: log.clone(),
        anchors: Vec::new(),
        observer: Observer { name: origin.into(), version: "0" },
        signer,
        disk: Arc::new(RealDisk),
        gap_file: folder.join(format!("{}.gap", log.display())),
        segment_bytes: 40_000,
        queue: 32 << 20,
    })
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for n in 0.. {
            if enough(n) {
                break;
            }
            let record = |m| Record::new(Action::ConsumptionReport, Uuid::from_u128(n * 50 + m));
            journal.commit((0..50).map(record).collect()).await.unwrap();
        }
        journal.close().await;
    });
    writer.finish();
    log
}

fn kit(to: &Path, logs: &[&Path], anchors: &[&Path]) -> Output {
    let mut command = program();
    command.args(["audit", "kit", "--out"]).arg(to);
    for log in logs {
        command.arg("--log").arg(log);
    }
    for anchor in anchors {
        command.arg("--anchor").arg(anchor);
    }
    run(&mut command)
}

/// All files below a folder, with what they hold and when they were written.
fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let written = fs::metadata(&path).unwrap().modified().unwrap();
                    all.push((path.clone(), fs::read(&path).unwrap(), written));
                }
            }
        }
    }
    all.sort();
    all
}

#[test]
fn the_readme_of_a_kit_is_followed_word_for_word_and_gives_the_promised_answers() {
    let (_stub, mut relay, folder, anchor) = lived();
    assert!(relay.stop().success());
    let log = relay.path("audit");
    let records = relay.log_text().lines().count();
    let to = folder.path().join("kit.zip");
    let output = kit(&to, &[&log], &[&anchor, &relay.path("stderr")]);
    ended(&output, 0, "begin with README.txt");
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    let unpacked = unpack(&to);
    assert_eq!(type_readme(&unpacked), Vec::<String>::new());

    let readme = fs::read_to_string(unpacked.join("README.txt")).unwrap();
    let about = LogFile::read(&log).unwrap().unwrap();
    for words in [&*about.origin, &*about.vkey, &*format!("{records}, numbered from 0"), "when packed   fine"]
    {
        assert!(readme.contains(words), "{words}: {readme}");
    }
    // The folder's checkpoint, and the first and the last one of the relay's own log.
    assert!(readme.contains("anchors/3.note, over") && !readme.contains("without an anchor"), "{readme}");
    assert_eq!(too_wide(&readme), Vec::<&str>::new());
    // What the page says of the program is true as well.
    let packed = unpacked.join(about.origin.replace('/', "_"));
    let verified = run(program().args(["audit", "verify", "--log"]).arg(packed.join("log")));
    ended(&verified, 0, "0 behind it");

    // Without an anchor it says what that means.
    let bare = folder.path().join("bare.zip");
    ended(&kit(&bare, &[&log], &[]), 0, "fingerprint");
    let bare = unpack(&bare);
    assert_eq!(type_readme(&bare), Vec::<String>::new());
    let readme = fs::read_to_string(bare.join("README.txt")).unwrap();
    assert!(readme.contains("without an anchor nothing here is protected against"), "{readme}");
}

/// The lines that are too wide to read. Names and paths, of whatever length, have lines of their own, which are indented.
fn too_wide(readme: &str) -> Vec<&str> {
    readme.lines().filter(|line| line.chars().count() > 130 && !line.starts_with("    ")).collect()
}

/// The name of a log holds the relay's host name, and an anchor lies where the site wants it: neither widens the page.
#[test]
fn the_readme_is_as_wide_on_a_machine_with_a_long_name() {
    let folder = tempfile::tempdir().unwrap();
    let origin = format!("license-relay/{}", "dmz-relay-of-the-second-site-".repeat(6));
    let log = write_many(folder.path(), &origin, |n| n == 2);
    let anchor = folder.path().join("a".repeat(120)).join("b".repeat(120));
    fs::create_dir_all(anchor.parent().unwrap()).unwrap();
    fs::copy(log.join("checkpoint"), &anchor).unwrap();
    for (name, anchors) in [("with.zip", &[&*anchor][..]), ("without.zip", &[])] {
        let to = folder.path().join(name);
        ended(&kit(&to, &[&log], anchors), 0, "fingerprint");
        let unpacked = unpack(&to);
        assert_eq!(type_readme(&unpacked), Vec::<String>::new());
        let readme = fs::read_to_string(unpacked.join("README.txt")).unwrap();
        assert!(readme.contains(&origin), "{readme}");
        assert_eq!(readme.contains(&*anchor.to_string_lossy()), !anchors.is_empty(), "{readme}");
        assert_eq!(too_wide(&readme), Vec::<&str>::new());
    }
}

#[test]
fn several_logs_with_compressed_segments_have_a_folder_each() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (
        write_many(folder.path(), "license-relay/one", |n| n == 30),
        write_many(folder.path(), "license-relay/two", |n| n == 12),
    );
    for log in [&one, &two] {
        eventually("all that is sealed is put away", || {
            let listed = segment::list(log).unwrap();
            listed.iter().rev().skip(1).all(|segment| segment.compressed).then_some(())
        });
    }
    let to = folder.path().join("kit.zip");
    let mut command = program();
    command.args(["audit", "kit", "--json", "--out"]).arg(&to).arg("--log").arg(&one).arg("--log").arg(&two);
    let output = run(&mut command);
    ended(&output, 0, "");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["logs"][1]["folder"], "license-relay_two");
    let unpacked = unpack(&to);
    assert_eq!(type_readme(&unpacked), Vec::<String>::new());
    // As they lie: the compressed ones, their sums, the hashes.
    for name in fs::read_dir(one.join("segments")).unwrap().map(|entry| entry.unwrap().file_name()) {
        let packed = unpacked.join("license-relay_one/log/segments").join(&name);
        assert_eq!(fs::read(packed).unwrap(), fs::read(one.join("segments").join(&name)).unwrap());
    }
    assert!(unpacked.join("license-relay_one/log/hashes/0/000").exists());

    // A byte of a compressed segment, of a plain one, of the checkpoint, and of the key.
    let newest = segment::newest(&one).unwrap().unwrap();
    let plain = format!("log/segments/{}", newest.path.file_name().unwrap().to_str().unwrap());
    let zst = format!("log/{SEGMENT}.zst");
    for (n, file) in [&*zst, &plain, "log/checkpoint", "key.vkey"].into_iter().enumerate() {
        let bent = folder.path().join(format!("bent{n}.zip"));
        fs::copy(&to, &bent).unwrap();
        let bent = unpack(&bent);
        let path = bent.join("license-relay_one").join(file);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 4;
        fs::write(&path, bytes).unwrap();
        let wrong = type_readme(&bent);
        let found = |command: &str| wrong.iter().any(|wrong| wrong.contains(command));
        assert!(found("sha256sum -c --quiet SHA256SUMS"), "{file}: {wrong:?}");
        assert!(found("license-relay_one/log\n"), "{file}: {wrong:?}");
        assert!(!found("license-relay_two/log\n"), "{file}: {wrong:?}");
    }
}

#[test]
fn kits_made_while_a_relay_writes_seals_and_compresses_verify() {
    let (_stub, relay, folder, anchor) = lived();
    let log = relay.path("audit");
    for n in 0..3 {
        assert_eq!(relay.post("/v1/sync", SYNC).status, 200);
        let to = folder.path().join(format!("{n}.zip"));
        ended(&kit(&to, &[&log], &[&anchor]), 0, "begin with README.txt");
        assert_eq!(type_readme(&unpack(&to)), Vec::<String>::new());
    }

    let stop = AtomicBool::new(false);
    let log = folder.path().join("license-relay-busy");
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            write_many(folder.path(), "license-relay/busy", |_| {
                // A segment is full every few of these.
                std::thread::sleep(std::time::Duration::from_millis(10));
                stop.load(Ordering::Relaxed)
            })
        });
        eventually("some segments", || (segment::list(&log).ok()?.len() > 3).then_some(()));
        let mut kits = Vec::new();
        for n in 0..6 {
            let to = folder.path().join(format!("busy{n}.zip"));
            let output = kit(&to, &[&log], &[]);
            kits.push((to, output));
        }
        stop.store(true, Ordering::Relaxed);
        writing.join().unwrap();
        for (to, output) in kits {
            ended(&output, 0, "begin with README.txt");
            let unpacked = unpack(&to);
            assert_eq!(type_readme(&unpacked), Vec::<String>::new());
            let packed = unpacked.join("license-relay_busy/log");
            ended(&run(program().args(["audit", "verify", "--log"]).arg(packed)), 0, " 0 behind it");
        }
    });
}

#[test]
fn no_private_key_gets_into_a_kit_wherever_it_lies() {
    let (_stub, mut relay, folder, anchor) = lived();
    assert!(relay.stop().success());
    let log = relay.path("audit");
    let keys = [relay.path("certs/log.key"), relay.path("certs/subject.key")];
    for key in &keys {
        for place in ["", "segments", "checkpoints", "hashes", "hashes/0"] {
            let folder = log.join(place);
            fs::create_dir_all(&folder).unwrap();
            fs::copy(key, folder.join(key.file_name().unwrap())).unwrap();
        }
    }
    let to = folder.path().join("kit.zip");
    ended(&kit(&to, &[&log], &[&anchor]), 0, "begin with README.txt");
    let secrets: Vec<String> = keys
        .iter()
        .flat_map(|key| fs::read_to_string(key).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.len() > 20 && !line.starts_with("-----"))
        .collect();
    assert!(secrets.len() >= 2, "{secrets:?}");
    for (path, bytes, _) in snapshot(&unpack(&to)) {
        assert_ne!(path.extension().and_then(|extension| extension.to_str()), Some("key"));
        let text = String::from_utf8_lossy(&bytes);
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "{}", path.display());
    }
    // Under the name of a checkpoint: a link is refused.
    let link = log.join("checkpoints/99999999999999999999.note");
    std::os::unix::fs::symlink(&keys[0], &link).unwrap();
    let linked = folder.path().join("linked.zip");
    ended(&kit(&linked, &[&log], &[]), 1, "99999999999999999999.note");
    assert!(!linked.exists());
}

#[test]
fn a_kit_is_not_written_over_anything_nor_into_a_log_and_leaves_nothing_when_it_fails() {
    let (_stub, mut relay, folder, anchor) = lived();
    assert!(relay.stop().success());
    let (log, place) = (relay.path("audit"), tempfile::tempdir().unwrap());
    let to = place.path().join("kit.zip");
    let listed = || fs::read_dir(place.path()).unwrap().count();
    ended(&kit(&to, &[folder.path()], &[]), 64, "is not a log");
    ended(&kit(&to, &[&log], &[&anchor, place.path()]), 64, "holds no checkpoint of what is packed");
    ended(&kit(&to, &[&log], &[&place.path().join("gone")]), 64, "gone");
    ended(&kit(&log.join("kit.zip"), &[&log], &[]), 64, "where readers write nothing");
    ended(&kit(&place.path().join("no/kit.zip"), &[&log], &[]), 64, "no");
    assert_eq!(listed(), 0);
    ended(&kit(&to, &[&log], &[]), 0, "begin");
    fs::write(&to, "mine").unwrap();
    ended(&kit(&to, &[&log], &[]), 64, "is there already");
    assert_eq!((fs::read_to_string(&to).unwrap().as_str(), listed()), ("mine", 1));
    let mut again = program();
    again.args(["audit", "kit", "--force", "--out"]).arg(&to).arg("--log").arg(&log);
    ended(&run(&mut again), 0, "begin");
    assert_eq!(type_readme(&unpack(&to)), Vec::<String>::new());
    // What lies in the log itself is no anchor.
    let own = place.path().join("checkpoint.zip");
    ended(&kit(&own, &[&log], &[&log.join("checkpoint")]), 0, "begin");
    let readme = fs::read_to_string(unpack(&own).join("README.txt")).unwrap();
    assert!(readme.contains("anchors       none in this kit"), "{readme}");
    // With the configuration's own log and anchors.
    let to = place.path().join("own.zip");
    let output = relay.verb(&["audit", "kit", "--out", to.to_str().unwrap()]);
    ended(&output, 0, "begin");
    let readme = fs::read_to_string(unpack(&to).join("README.txt")).unwrap();
    assert!(readme.contains("anchors/1.note"), "{readme}");
}

#[test]
fn a_damaged_log_is_packed_as_it_is_and_the_kit_says_so_first() {
    let (_stub, mut relay, folder, anchor) = lived();
    assert!(relay.stop().success());
    let log = relay.path("audit");
    let file = log.join(SEGMENT);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, relay.log_text().replacen("\"outcome\":\"", "\"outcome\":\"un", 1)).unwrap();
    let to = folder.path().join("kit.zip");
    ended(&kit(&to, &[&log], &[&anchor]), 1, "was changed: its sum does not match");
    let unpacked = unpack(&to);
    let readme = fs::read_to_string(unpacked.join("README.txt")).unwrap();
    assert!(readme.contains("when packed   DAMAGED") && readme.contains("was changed"), "{readme}");
    let wrong = type_readme(&unpacked);
    assert!(wrong.len() == 1 && wrong[0].contains("FAULT: record"), "{wrong:?}");
}

#[test]
fn a_kit_says_what_it_leaves_out_and_its_report_is_made_of_what_it_holds() {
    let (_stub, mut relay, folder, _anchor) = lived();
    assert!(relay.stop().success());
    let log = relay.path("audit");
    let records = relay.log_text().lines().count();
    let notes = fs::read_dir(log.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let oldest = fs::read(notes.min().unwrap()).unwrap();
    fs::remove_dir_all(log.join("checkpoints")).unwrap();
    fs::write(log.join("checkpoint"), &oldest).unwrap();
    let size: usize = String::from_utf8(oldest).unwrap().lines().nth(1).unwrap().parse().unwrap();
    let to = folder.path().join("kit.zip");
    let left = format!("the last {} are not signed and are NOT in here", records - size);
    ended(&kit(&to, &[&log], &[]), 0, &format!("{size} of {records} records of "));
    let mut again = program();
    again.args(["audit", "kit", "--force", "--out"]).arg(&to).arg("--log").arg(&log);
    ended(&run(&mut again), 0, &left);

    let unpacked = unpack(&to);
    assert_eq!(type_readme(&unpacked), Vec::<String>::new());
    let readme = fs::read_to_string(unpacked.join("README.txt")).unwrap();
    assert!(readme.contains(&format!("{size} of {records}, numbered from 0; {left}")), "{readme}");
    let page = fs::read_to_string(unpacked.join("report.html")).unwrap();
    assert!(page.contains(&left) && !page.contains(LICENSE), "{page}");
    let whole = run(program().args(["audit", "report", "--log"]).arg(&log));
    assert!(String::from_utf8_lossy(&whole.stdout).contains(LICENSE));
}

#[test]
fn readers_leave_no_trace_and_work_where_nothing_can_be_written() {
    let (_stub, mut relay, folder, _anchor) = lived();
    assert!(relay.stop().success());
    let log = relay.path("audit");
    let before = snapshot(&log);
    let (to, proof) = (folder.path().join("kit.zip"), folder.path().join("1.tlog-proof"));
    // On a mount that is read-only for them alone, where the system lets us make one.
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && ! touch \"$1/x\" 2>/dev/null || exit 99\n\
                  \"$2\" audit kit --log \"$1\" --out \"$3\" && \"$2\" audit prove --log \"$1\" --seq 1 --out \"$4\"";
    let read_only = |script: &str| {
        let mut command = tool("unshare", "util-linux");
        command.args(["-m", "sh", "-c", script, "sh"]).arg(&log).arg(program().get_program());
        run(command.arg(&to).arg(&proof))
    };
    let output = read_only(script);
    if matches!(output.status.code(), Some(1 | 99)) && !to.exists() {
        skip::skipped(&format!("no mounts here: {}", all_said(&output)));
        ended(&kit(&to, &[&log], &[]), 0, "begin");
    } else {
        ended(&output, 0, "is in the log");
    }
    assert_eq!(type_readme(&unpack(&to)), Vec::<String>::new());
    assert_eq!(snapshot(&log), before);
}
