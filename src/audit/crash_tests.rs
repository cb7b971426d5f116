//! Proofs about the log as a whole, over a file system that is traced, fails when told to, and loses what a power cut
//! would lose.

mod corruption;
mod disk_full;
mod group_commit;
#[path = "../../tests/it/common/length.rs"]
#[allow(unreachable_pub, reason = "shared with the integration tests")]
mod length;
mod power_cut;
mod prune;
mod seal;
pub(super) mod trace_disk;

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use uuid::Uuid;

use super::disk::{Disk, RealDisk};
use super::journal::{Journal, Opening, Writer};
use super::recover::{self, OpenError};
use crate::bounds;
use relay_log::ledger::action::Action;
use relay_log::ledger::note::Signer;
use relay_log::ledger::record::{Observer, Record};
use relay_log::ledger::segment::{self, Lines};
use relay_log::verify::log::{Verified, verify};

pub(super) const ORIGIN: &str = "license-relay/proof";
/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with a key, a log and an anchor.
pub(super) struct Site(TempDir);

impl Site {
    pub(super) fn new() -> Self {
        // In memory where there is such a place: what is on disk is the model's affair, not this machine's.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Signer::open_or_make(&folder.path().join("log.key"), ORIGIN).unwrap();
        fs::create_dir(folder.path().join("anchor")).unwrap();
        Self(folder)
    }

    /// Another folder with the same key, and this as its log.
    pub(super) fn with_log(&self, log: &FileTree) -> Self {
        let site = Self(tempfile::tempdir_in(self.0.path().parent().unwrap()).unwrap());
        fs::copy(self.0.path().join("log.key"), site.0.path().join("log.key")).unwrap();
        fs::create_dir(site.anchor()).unwrap();
        plant(&site.log(), log);
        site
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }

    pub(super) fn key(&self) -> PathBuf {
        self.0.path().join("log.key")
    }

    pub(super) fn anchor(&self) -> PathBuf {
        self.0.path().join("anchor")
    }

    pub(super) fn gap_file(&self) -> PathBuf {
        self.0.path().join("gap.json")
    }

    pub(super) fn active(&self) -> PathBuf {
        segment::newest(&self.log()).unwrap().unwrap().path
    }

    pub(super) fn signer(&self) -> Signer {
        Signer::load(&self.key(), ORIGIN).unwrap()
    }

    pub(super) fn opening(&self) -> Opening {
        Opening {
            directory: self.log(),
            anchors: Vec::new(),
            observer: Observer { name: ORIGIN.into(), version: "0" },
            signer: self.signer(),
            disk: Arc::new(RealDisk),
            gap_file: self.gap_file(),
            segment_bytes: bounds::SEGMENT_BYTES,
            queue: 32 << 20,
        }
    }

    pub(super) fn open(&self) -> Running {
        Running::open(self.opening()).unwrap()
    }

    pub(super) fn open_on(&self, disk: Arc<dyn Disk>) -> Running {
        Running::open(Opening { disk, ..self.opening() }).unwrap()
    }

    /// Recovery alone, without a writer.
    pub(super) fn recover(&self) -> Result<recover::OpenedLog, OpenError> {
        recover::open(None, &self.log(), &[], &self.signer().verifier, &RealDisk)
    }

    pub(super) fn verify(&self) -> Verified {
        verify(&self.log(), &[], |_| {}).unwrap()
    }

    /// Everything below the log but the lock, which every start writes its process into, and the reserve.
    pub(super) fn tree(&self) -> FileTree {
        let mut tree = tree(&self.log());
        tree.retain(|path, _| !path.ends_with("LOCK") && !path.ends_with("reserve"));
        tree
    }

    /// All lines in order, without line feeds.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut all = Vec::new();
        for segment in segment::list(&self.log()).unwrap() {
            // One that is put away meanwhile has another name.
            let Ok(mut lines) = Lines::of(&segment) else { return self.lines() };
            while let Some(line) = lines.next_whole().unwrap() {
                all.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        all
    }

    /// The numbers of [`record`]s, in the order of the log.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.lines().iter().filter_map(|line| number_of(line)).collect()
    }

    pub(super) fn actions(&self) -> Vec<String> {
        let action = |line: &String| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            record["event"]["action"].as_str().unwrap().to_owned()
        };
        self.lines().iter().map(action).collect()
    }
}

/// A log that is open.
pub(super) struct Running {
    pub(super) journal: Journal,
    writer: Writer,
}

impl Running {
    pub(super) fn open(opening: Opening) -> Result<Self, OpenError> {
        Journal::open(opening).map(|(journal, writer)| Self { journal, writer })
    }

    /// Commits these as one batch.
    pub(super) fn commit(&self, numbers: impl IntoIterator<Item = u64>) {
        wait(self.journal.commit(numbers.into_iter().map(record).collect())).unwrap();
    }

    pub(super) fn close(self) {
        wait(self.journal.close());
        self.writer.finish();
    }
}

/// Files by their path below a folder.
pub(super) type FileTree = BTreeMap<PathBuf, Vec<u8>>;

pub(super) fn tree(folder: &Path) -> FileTree {
    fn walk(base: &Path, folder: &Path, tree: &mut FileTree) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(base, &path, tree);
            } else if let Ok(bytes) = fs::read(&path) {
                tree.insert(path.strip_prefix(base).unwrap().to_owned(), bytes);
            }
        }
    }
    let mut files = FileTree::new();
    walk(folder, folder, &mut files);
    files
}

pub(super) fn plant(folder: &Path, tree: &FileTree) {
    fs::create_dir_all(folder).unwrap();
    for (path, bytes) in tree {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A record that carries a number of its own.
pub(super) fn record(number: u64) -> Record {
    let mut record = Record::new(Action::ConsumptionReport, Uuid::from_u128(number.into()));
    record.reason = "a record of a test".into();
    record
}

pub(super) fn number_of(line: &str) -> Option<u64> {
    let record: serde_json::Value = serde_json::from_str(line).unwrap();
    let id: Uuid = record["event"]["id"].as_str().unwrap().parse().unwrap();
    u64::try_from(id.as_u128()).ok()
}

pub(super) fn wait<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(what)
}

/// Asks again until there is an answer.
pub(super) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = SystemTime::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed().unwrap_or_default() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
