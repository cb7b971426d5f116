//! Under `kill -9`: whatever was acknowledged is in the log, whenever the process was killed, and the log goes on
//! without a gap. And while a process is only stopped, nobody else writes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use license_relay::audit::disk::RealDisk;
use license_relay::audit::journal::{Journal, Opening, Writer};
use relay_log::ledger::action::Action;
use relay_log::ledger::note::Signer;
use relay_log::ledger::record::{Observer, Record};
use relay_log::ledger::segment;
use relay_log::verify::log::{Verdict, verify};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::common::length::by_length;
use crate::common::*;

/// In the environment of a child: its folder, and the number of its first record.
const CHILD: &str = "LICENSE_RELAY_TEST_CHILD";
const NAME: &str = "license-relay/killed";

fn open(folder: &Path) -> (Journal, Writer) {
    Journal::open(Opening {
        directory: folder.join("log"),
        anchors: vec![folder.join("anchor")],
        observer: Observer { name: NAME.into(), version: "0" },
        signer: Signer::open_or_make(&folder.join("log.key"), NAME).unwrap(),
        disk: Arc::new(RealDisk),
        gap_file: folder.join("gap.json"),
        // Small, so that many a kill meets a seal.
        segment_bytes: 100_000,
        queue: 32 << 20,
    })
    .unwrap()
}

/// Not a test of its own: what a child does that is killed. It prints each number once that is acknowledged.
#[test]
#[allow(clippy::disallowed_methods, reason = "the test reads whole lines, and no `cli` prints them here")]
fn as_a_child_it_appends_until_it_is_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (first, folder) = told.split_once(' ').unwrap();
    let first: u128 = first.parse().unwrap();
    let (journal, _writer) = open(Path::new(folder));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Four at a time, so that batches gather.
        let appending = (0..4).map(|lane| {
            let journal = journal.clone();
            async move {
                for n in 0u128.. {
                    let number = first + n * 4 + lane;
                    let record = Record::new(Action::ConsumptionReport, Uuid::from_u128(number));
                    journal.commit(vec![record]).await.unwrap();
                    // One write, so that it is there whole or not at all.
                    std::io::stdout().write_all(format!("\nacknowledged {number}\n").as_bytes()).unwrap();
                    std::io::stdout().flush().unwrap();
                }
            }
        });
        let [a, b, c, d] = appending.collect::<Vec<_>>().try_into().unwrap_or_else(|_| unreachable!());
        tokio::join!(a, b, c, d);
    });
}

fn spawn(folder: &Path, first: u128) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "kill::as_a_child_it_appends_until_it_is_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, format!("{first} {}", folder.display()))
        .stdout(Stdio::piped())
        .stderr(fs::File::options().append(true).create(true).open(folder.join("stderr")).unwrap())
        .spawn()
        .unwrap()
}

fn acknowledged(line: &str) -> Option<u128> {
    line.strip_prefix("acknowledged ")?.parse().ok()
}

/// The numbers in the log, in its order.
fn numbers_in(log: &Path) -> Vec<u128> {
    let mut numbers = Vec::new();
    for segment in segment::list(log).unwrap() {
        // One that is put away meanwhile has another name.
        let Ok(mut lines) = segment::Lines::of(&segment) else { return numbers_in(log) };
        while let Some((b'\n', line)) = lines.next_line().unwrap().split_last() {
            let record: Value = serde_json::from_slice(line).unwrap();
            let id: Uuid = record["event"]["id"].as_str().unwrap().parse().unwrap();
            // The relay's own records have ids with the time in them, which is a larger number by far.
            numbers.extend(Some(id.as_u128()).filter(|number| *number < 1 << 64));
        }
    }
    numbers
}

fn folder() -> TempDir {
    // What a kill leaves is the same on any disk, and in memory it is there sooner.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    fs::create_dir(folder.path().join("anchor")).unwrap();
    folder
}

#[test]
fn after_many_kills_at_random_moments_every_acknowledged_record_is_in_the_log_and_it_verifies() {
    let folder = folder();
    let log = folder.path().join("log");
    let mut random = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("random moments from {random}");
    let (mut printed, mut without) = (BTreeSet::new(), 0);
    let kills = by_length(60, 300, 300);
    for kill in 0..kills {
        let mut child = spawn(folder.path(), u128::from(kill) * 1_000_000);
        let stdout = child.stdout.take().unwrap();
        let (came, coming) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let numbers = lines.filter_map(|line| acknowledged(&line));
            numbers
                .inspect(|_| {
                    let _ = came.send(());
                })
                .collect()
        });
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // A third of them while it starts and heals, the others while it appends.
        if kill % 3 > 0 {
            coming.recv_timeout(PATIENCE).unwrap();
        }
        std::thread::sleep(Duration::from_micros(random % 25_000));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), None, "it ended by itself: {}", said(folder.path()));
        let acknowledged: BTreeSet<u128> = reader.join().unwrap();
        without += u32::from(acknowledged.is_empty());
        printed.extend(acknowledged);
        if kill % 50 == 49 {
            let there: BTreeSet<u128> = numbers_in(&log).into_iter().collect();
            assert!(printed.is_subset(&there), "lost: {:?}", printed.difference(&there).collect::<Vec<_>>());
            let verified = verify(&log, &[folder.path().join("anchor")], |_| {}).unwrap();
            assert_eq!(verified.verdict(), Verdict::Fine, "{verified:#?}");
        }
    }
    assert!(printed.len() > 300, "only {} were acknowledged", printed.len());
    assert!(without < kills, "no child came so far");

    // A last start heals what the last kill has left.
    let (journal, writer) = open(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(journal.close());
    writer.finish();
    let numbers = numbers_in(&log);
    let there: BTreeSet<u128> = numbers.iter().copied().collect();
    assert_eq!(there.len(), numbers.len(), "a record is there twice");
    assert!(printed.is_subset(&there), "lost: {:?}", printed.difference(&there).collect::<Vec<_>>());
    let verified = verify(&log, &[folder.path().join("anchor")], |_| {}).unwrap();
    assert_eq!((verified.verdict(), verified.unsigned), (Verdict::Fine, 0), "{verified:#?}");
    assert_eq!(verified.half_a_line, 0);
    println!(
        "{} acknowledged, {} in the log, {} segments, {without} kills before the first",
        printed.len(),
        numbers.len(),
        segment::list(&log).unwrap().len()
    );
}

fn said(folder: &Path) -> String {
    fs::read_to_string(folder.join("stderr")).unwrap_or_default()
}

#[test]
fn while_the_holder_is_only_stopped_a_second_process_is_refused_and_changes_nothing() {
    let folder = folder();
    let mut holder = spawn(folder.path(), 0);
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let came = lines.by_ref().map_while(Result::ok).find_map(|line| acknowledged(&line));
    assert!(came.is_some(), "{}", said(folder.path()));
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &holder.id().to_string()]).status().unwrap().success());
    };
    signal("-STOP");
    let stat = format!("/proc/{}/stat", holder.id());
    eventually("it is stopped", || fs::read_to_string(&stat).unwrap().contains(" T ").then_some(()));
    let log = folder.path().join("log");
    let before = fs::read(segment::newest(&log).unwrap().unwrap().path).unwrap();
    let second = run(Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::as_a_child_it_appends_until_it_is_killed", "--nocapture"])
        .env(CHILD, format!("1000000 {}", folder.path().display())));
    let text = String::from_utf8_lossy(&[second.stdout, second.stderr].concat()).into_owned();
    assert!(!second.status.success() && text.contains("Locked"), "{text}");
    assert!(text.contains(&format!("process {}", holder.id())), "{text}");
    assert_eq!(fs::read(segment::newest(&log).unwrap().unwrap().path).unwrap(), before);
    signal("-CONT");
    let more = lines.map_while(Result::ok).filter_map(|line| acknowledged(&line)).take(20).count();
    assert_eq!(more, 20, "it goes on");
    holder.kill().unwrap();
    holder.wait().unwrap();
}
