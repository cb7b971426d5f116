//! How fast a log is verified, and in how much memory: `RECORDS=10000000 cargo bench --bench verify`.
//!
//! Makes a log of so many records (a million unless told), signed, in segments of a day's size, and verifies it twice:
//! the first half, and all of it. Time must grow with the records and memory must not.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use license_relay::ledger::log::LogFile;
use license_relay::ledger::merkle::{Frontier, leaf};
use license_relay::ledger::note::{CHECKPOINT, Checkpoint, Signer};
use license_relay::ledger::record::{Action, Direction, Observer, Outcome, Record};
use license_relay::ledger::segment;
use license_relay::report::verify::{Verdict, verify};
use uuid::Uuid;

const ORIGIN: &str = "license-relay/bench";
/// Records of one segment.
const SEGMENT: u64 = 100_000;

fn main() {
    let wanted = std::env::var("RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    for records in [wanted / 2, wanted] {
        let folder = tempfile::tempdir().expect("a folder");
        make(folder.path(), records);
        let begun = SystemTime::now();
        let verified = verify(folder.path(), &[], |_| {}).expect("a log");
        let took = begun.elapsed().unwrap_or_default().as_secs_f64();
        assert_eq!((verified.verdict(), verified.records), (Verdict::Fine, records), "{verified:?}");
        println!(
            "verify: {records} records in {took:.1} s, {:.0} records/s; peak memory of the process {}",
            records as f64 / took,
            peak()
        );
    }
}

/// A log as a relay would leave it: who held what, one record a person.
fn make(log: &Path, records: u64) {
    let signer = Signer::open_or_make(&log.join("log.key"), ORIGIN).expect("a signer");
    let about = LogFile::new(ORIGIN, signer.verifier.to_string(), None);
    fs::write(LogFile::path(log), about.to_bytes()).expect("a file");
    fs::create_dir(log.join(segment::FOLDER)).expect("a folder");
    let observer = Observer { name: ORIGIN.into(), version: "bench" };
    let begun = Timestamp::now() - SignedDuration::from_secs(records.cast_signed());
    let mut tree = Frontier::default();
    let mut file: Option<BufWriter<File>> = None;
    for n in 0..records {
        if n.is_multiple_of(SEGMENT) {
            file = Some(BufWriter::new(File::create(segment::path(log, n)).expect("a segment")));
        }
        let action = if n.is_multiple_of(7) { Action::AssignmentDelete } else { Action::AssignmentAdd };
        let mut record = Record::new(action, Uuid::from_u128(u128::from(n / 3)));
        record.outcome = Outcome::Success;
        record.qlik.direction = Some(Direction::In);
        record.qlik.source_id = Some(format!("{:08x}-6d24-4595-915e-c52ce76f2195", n % 5000));
        record.qlik.license = Some("9999000000001253".into());
        record.qlik.allotment = Some("professional".into());
        record.qlik.instance = Some(n.to_string());
        record.qlik.version = Some(n);
        record.subject = Some(format!("hmac-sha256:k2026:{n:064x}"));
        let time = begun + SignedDuration::from_secs(n.cast_signed());
        let line = record.line(n, time, &observer).expect("a line");
        tree.push(leaf(&line[..line.len() - 1]));
        file.as_mut().expect("a segment").write_all(&line).expect("a write");
    }
    drop(file);
    let (size, root) = (tree.size(), tree.root());
    let checkpoint = Checkpoint { origin: ORIGIN.into(), size, root, time: Some(Timestamp::now()) };
    fs::write(log.join(CHECKPOINT), signer.sign(&checkpoint)).expect("a file");
}

fn peak() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap_or(" unknown").trim().to_owned()
}
