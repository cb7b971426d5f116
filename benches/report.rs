//! How fast auditors get their answers, and in how much memory: `cargo bench --bench report`, or with `RECORDS=1000000`
//! before it.
//!
//! Makes a log as thousands of deployments leave it (ten million records unless told), signed, in compressed segments,
//! and lets the program verify it, say who held what at three times, and make the report: of half of it, and of all. Each
//! answer is a process of its own, so that its memory is. Time must grow with the records, and memory must not.

#![allow(missing_docs, reason = "nobody stands on a benchmark")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a benchmark may fail")]

#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
#[path = "../tests/it/common/made.rs"]
mod made;
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
#[path = "../tests/it/common/scenes.rs"]
mod scenes;

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use license_relay::licensing::message::Change;
use made::Made;
use relay_log::ledger::action::Action;
use relay_log::ledger::subject::Pseudonyms;
use relay_log::ledger::subject::{SubjectCase, SubjectForm};
use scenes::{Assignment, Deployment, Exchange, Unit};

/// Records, unless `RECORDS` says otherwise.
const RECORDS: u64 = 10_000_000;
/// Records of a segment: about 64 MiB.
const SEGMENT: u64 = 150_000;
/// Deployments, each of which syncs every ten minutes.
const SOURCES: u32 = 5_000;
/// Deployments of one license.
const OF_A_LICENSE: u32 = 5;
/// People of one license: 50,000 in all.
const PEOPLE: u64 = 50;
/// Of a thousand syncs, so many ask for a change, which is then told to all deployments of the license: of a hundred
/// records, three are of changes.
const CHANGES: u64 = 5;
/// Below this many records, starting a process counts for more than reading them.
const JUDGED: u64 = 1_000_000;
/// Twice the records may take so much more than twice the time, and than the same memory.
const SLOWER: f64 = 1.30;
const LARGER: f64 = 1.25;

fn main() {
    let wanted = std::env::var("RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(RECORDS);
    println!("{:>12}  {:<22}  {:>8}  {:>10}  {:>9}", "records", "answer", "seconds", "records/s", "peak MiB");
    let half = measure(wanted / 2);
    let whole = measure(wanted);
    for (half, whole) in half.iter().zip(&whole) {
        let (slower, larger) = (whole.each() / half.each(), whole.peak / half.peak);
        println!(
            "{:<36}  twice the records: {slower:.2} of the time for each, {larger:.2} of the memory",
            whole.what
        );
        if wanted >= JUDGED {
            assert!(slower < SLOWER, "{}: time grows faster than the log", whole.what);
            assert!(larger < LARGER, "{}: memory grows with the log", whole.what);
        }
    }
}

/// What one answer took.
struct Taken {
    what: &'static str,
    records: u64,
    seconds: f64,
    /// In MiB.
    peak: f64,
}

impl Taken {
    /// Seconds for each record.
    fn each(&self) -> f64 {
        self.seconds / self.records as f64
    }
}

/// Makes a log and asks for all answers.
fn measure(records: u64) -> Vec<Taken> {
    // Beside the build: a folder in memory is no disk, and may be too small.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let log = folder.path().join("audit");
    let begun = SystemTime::now();
    let (records, times) = make(&log, records);
    println!("{records:>12}  {:<22}  {:>8.1}", "(made)", begun.elapsed().unwrap_or_default().as_secs_f64());
    let page = folder.path().join("report.html").display().to_string();
    let [early, middle, late] = times.map(|time| time.to_string());
    let answers: [(&str, &[&str]); 5] = [
        ("verify", &["verify"]),
        ("state, a quarter in", &["state", "--csv", "--at", &early]),
        ("state, in the middle", &["state", "--csv", "--at", &middle]),
        ("state, at the end", &["state", "--csv", "--at", &late]),
        ("report", &["report", "--out", &page]),
    ];
    answers
        .into_iter()
        .map(|(what, verb)| {
            let taken = ask(what, verb, &log, records);
            let (seconds, speed) = (taken.seconds, 1.0 / taken.each());
            println!("{records:>12}  {what:<22}  {seconds:>8.1}  {speed:>10.0}  {:>9.0}", taken.peak);
            taken
        })
        .collect()
}

/// Runs one answer as a process of its own.
fn ask(what: &'static str, verb: &[&str], log: &Path, records: u64) -> Taken {
    let mut command = Command::new(env!("CARGO_BIN_EXE_license-relay"));
    command.arg("audit").args(verb).arg("--log").arg(log).stdout(Stdio::null());
    let begun = SystemTime::now();
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0;
    // The kernel keeps the highest mark, and gives it away as long as the process is there.
    let ended = loop {
        let line = fs::read_to_string(&status).unwrap_or_default();
        let mark = line.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak = mark.and_then(|mark| mark.parse().ok()).unwrap_or(peak);
        match child.try_wait().unwrap() {
            Some(ended) => break ended,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    assert!(ended.success(), "{what}: {ended}");
    Taken { what, records, seconds: begun.elapsed().unwrap_or_default().as_secs_f64(), peak: peak / 1024.0 }
}

/// What the back end knows of one license, and what some deployment has not been told yet.
#[derive(Default)]
struct License {
    version: u64,
    held: Vec<bool>,
    recent: VecDeque<Assignment>,
    used: i64,
}

/// A log of about so many records, up to now; gives their number, and three times: a quarter in, in the middle, the end.
fn make(log: &Path, records: u64) -> (u64, [Timestamp; 3]) {
    let key = log.with_extension("subject.key");
    let names = Pseudonyms::open_or_make(&key, SubjectForm::HmacSha256, SubjectCase::Fold).unwrap();
    let mut made = Made::begin(log, "license-relay/bench").segments_of(SEGMENT).compressed();
    let deployments: Vec<Deployment> =
        (0..SOURCES).map(|n| Deployment::new(n, &format!("9999{:012}", n / OF_A_LICENSE))).collect();
    let mut licenses: Vec<License> = (0..SOURCES / OF_A_LICENSE)
        .map(|_| License { held: vec![false; usize::try_from(PEOPLE).unwrap()], ..License::default() })
        .collect();
    let mut stands = vec![0u64; deployments.len()];
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |end: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % end
    };
    // A record a sync and some, each of five thousand in ten minutes.
    let length = i64::try_from(records).unwrap() * 600 / i64::from(SOURCES);
    let begin = Timestamp::now() - SignedDuration::from_secs(length + 3600);
    made.write(begin, &[scenes::started(1, None)]);
    let mut exchange = 1u128;
    let mut syncs = 0u64;
    let mut now = begin;
    'all: loop {
        for (n, by) in deployments.iter().enumerate() {
            if made.size() >= records {
                break 'all;
            }
            now = begin
                + SignedDuration::from_millis(i64::try_from(syncs * 600_000 / u64::from(SOURCES)).unwrap());
            syncs += 1;
            exchange += 1;
            let license = &mut licenses[n / OF_A_LICENSE as usize];
            let from = stands[n];
            let mut asked = Vec::new();
            if below(1000) < CHANGES {
                let person = below(PEOPLE);
                let held = &mut license.held[usize::try_from(person).unwrap()];
                let change = if *held { Change::Delete } else { Change::Add };
                *held = !*held;
                license.version += 1;
                let allotment = if person % 3 == 0 { "professional" } else { "analyzer" };
                let name = format!("ACME\\user-{}-{person}", n / OF_A_LICENSE as usize);
                asked.push(Assignment::new(change, allotment, &name));
                license.recent.push_back(asked[0].clone().told(license.version));
            }
            let sync = Exchange::sync(exchange, by, from, &asked);
            made.write(now, &sync.intent(&names));
            let new = usize::try_from(license.version - from).unwrap();
            let told: Vec<Assignment> = license.recent.range(license.recent.len() - new..).cloned().collect();
            made.write(now, &sync.told(now, license.version, &told, &names));
            stands[n] = license.version;
            let all_have = |stands: &[u64]| {
                let first = n / OF_A_LICENSE as usize * OF_A_LICENSE as usize;
                stands[first..first + OF_A_LICENSE as usize].iter().min().copied().unwrap_or(0)
            };
            let unseen = usize::try_from(license.version - all_have(&stands)).unwrap();
            license.recent.drain(..license.recent.len() - unseen);
            match below(2_000) {
                0..60 => {
                    let month = now.to_string()[..7].to_owned();
                    let delta = i64::try_from(below(30)).unwrap();
                    license.used += delta;
                    exchange += 1;
                    let used = Exchange::capacity(exchange, by, &[("analyzer_time", &month, delta)]);
                    made.write(now, &used.intent(&names));
                    made.write(now, &used.totals(now, &[("analyzer_time", &month, license.used)], &names));
                }
                60..62 => {
                    exchange += 1;
                    made.write(now, &Exchange::definition(exchange, by).defined(now, &units(), &names));
                }
                62..64 => {
                    exchange += 1;
                    made.write(
                        now,
                        &[scenes::refused(exchange, Action::AccessDenied, by, "is not allowed", None)],
                    );
                }
                _ => {}
            }
        }
    }
    let length = now.duration_since(begin);
    (made.end(), [begin + length / 4, begin + length / 2, now])
}

fn units() -> [Unit; 2] {
    ["professional", "analyzer"].map(|allotment| Unit {
        allotment: allotment.to_owned(),
        access_type: allotment.to_owned(),
        class: "assigned".to_owned(),
        count: 20,
        valid: ("2020-01-01".to_owned(), String::new()),
        overage: None,
    })
}
