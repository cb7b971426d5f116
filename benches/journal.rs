//! What the log costs an exchange: `cargo bench --bench journal`.
//!
//! Exchanges a second, how long one waits for the disk (its intent and its outcome, one after the other), and how many
//! syncs that took, with 1, 16, 64 and 256 in flight; on the disk that `TMPDIR` lies on.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use license_relay::audit::disk::{AppendFile, Disk, FileState, RealDisk};
use license_relay::audit::journal::{Journal, Opening};
use license_relay::bounds;
use relay_log::ledger::action::Action;
use relay_log::ledger::note::Signer;
use relay_log::ledger::record::{Observer, Record};
use tokio::time::Instant;
use uuid::Uuid;

const FOR: Duration = Duration::from_secs(4);

/// The real disk, with the syncs of segments counted.
#[derive(Debug, Default)]
struct Counting(Arc<AtomicU64>);

struct CountingFile(Box<dyn AppendFile>, Arc<AtomicU64>);

impl Counting {
    fn counted(&self, path: &Path, append_file: Box<dyn AppendFile>) -> Box<dyn AppendFile> {
        match path.extension().is_some_and(|extension| extension == "jsonl") {
            true => Box::new(CountingFile(append_file, self.0.clone())),
            false => append_file,
        }
    }
}

impl Disk for Counting {
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        Ok(self.counted(path, RealDisk.create(path)?))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        Ok(self.counted(path, RealDisk.append(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn inode(&self, path: &Path) -> io::Result<u64> {
        RealDisk.inode(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_folder(path)
    }
}

impl AppendFile for CountingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.sync()
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.0.cut(length)
    }

    fn state(&self) -> io::Result<FileState> {
        self.0.state()
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    println!("in flight   exchanges/s      p50      p99   exchanges a sync");
    for in_flight in [1, 16, 64, 256] {
        runtime.block_on(measure(in_flight));
    }
}

async fn measure(in_flight: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("log.key");
    let disk = Counting::default();
    let syncs = disk.0.clone();
    let (journal, writer) = Journal::open(Opening {
        directory: folder.path().join("log"),
        anchors: Vec::new(),
        observer: Observer { name: "license-relay/bench".into(), version: "0" },
        signer: Signer::open_or_make(&key, "license-relay/bench").expect("a key"),
        disk: Arc::new(disk),
        gap_file: folder.path().join("gap.json"),
        segment_bytes: bounds::SEGMENT_BYTES,
        queue: 32 << 20,
    })
    .expect("a log");

    let begun = Instant::now();
    let lanes: Vec<_> =
        (0..in_flight).map(|_| tokio::spawn(exchange(journal.clone(), begun + FOR))).collect();
    let mut waits = Vec::new();
    for lane in lanes {
        waits.extend(lane.await.expect("a lane"));
    }
    let (took, syncs) = (begun.elapsed(), syncs.load(Ordering::Relaxed));
    journal.close().await;
    writer.finish();
    waits.sort_unstable();
    let at = |part: usize| waits[(waits.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!(
        "{in_flight:9} {:13.0} {:5.1} ms {:5.1} ms {:18.1}",
        waits.len() as f64 / took.as_secs_f64(),
        at(50),
        at(99),
        waits.len() as f64 / syncs as f64
    );
}

/// A sync with two assignments, over and over: its intent, then its outcome.
async fn exchange(journal: Journal, until: Instant) -> Vec<Duration> {
    let mut waits = Vec::new();
    while Instant::now() < until {
        let begun = Instant::now();
        let id = Uuid::now_v7();
        let record = |action| {
            let mut record = Record::new(action, id);
            record.subject = Some(format!("hmac-sha256:k2026:{:064x}", id.as_u128()));
            record.user_agent = Some("Licenses/1.6.4 (windows) QSEfW".into());
            record
        };
        let assignments = [Action::AssignmentAdd, Action::AssignmentAdd];
        let intent = [Action::SyncRequest].into_iter().chain(assignments).map(record).collect();
        journal.commit(intent).await.expect("an intent");
        let outcome = [Action::SyncResponse].into_iter().chain(assignments).map(record).collect();
        journal.commit_outcome(outcome).await.expect("an outcome");
        waits.push(begun.elapsed());
    }
    waits
}
