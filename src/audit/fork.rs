//! The way out of a log that can't be written to any more: it is put aside as it is, and a new one begins that names it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{self, RealDisk};
use super::journal::{Journal, Opening};
use super::recover::{OpenError, lock};
use crate::bounds;
use crate::config::model::Audit;
use crate::ledger::log::{LogFile, Predecessor};
use crate::ledger::merkle::{Frontier, hex, leaf};
use crate::ledger::note::{CHECKPOINT, KEPT, Signer, SigningKeyError};
use crate::ledger::record::{Action, Observer, Outcome, Record, clip};
use crate::ledger::{segment, tiles};

/// What stands between the name of a log and the number of its fork.
const FORK: &str = "/fork-";
/// The folder, below the log's own, of logs that were given up.
const FORKS: &str = "forks";

/// Why there is no fork.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// A relay writes the log, or it can't be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The signing key can't be used.
    #[error("{0}")]
    Key(#[from] SigningKeyError),
    /// There is nothing to fork.
    #[error("{0} has no log to fork; a relay makes one when it starts")]
    NoLog(PathBuf),
    /// The system refused.
    #[error("{path}: {cause}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
    /// The new log takes no first record.
    #[error("{0}")]
    FirstRecord(#[from] super::journal::CommitError),
}

/// What was done.
#[derive(Debug)]
pub struct Forked {
    /// The new log's name.
    pub origin: String,
    /// The old one.
    pub predecessor: Predecessor,
    /// Where it lies now.
    pub kept: PathBuf,
}

/// The name of the log in a folder: as configured, or a fork of that.
pub fn name(directory: &Path, configured: &str) -> String {
    let stored = LogFile::read(directory).ok().flatten().map(|log| log.origin);
    let fork =
        stored.filter(|stored| stored.strip_prefix(configured).is_some_and(|rest| rest.starts_with(FORK)));
    fork.unwrap_or_else(|| configured.to_owned())
}

/// Puts the log aside and begins a new one, whose first record says why.
///
/// # Errors
/// See [`ForkError`]; what was done until then can be done again.
pub async fn fork(audit: &Audit, reason: &str) -> Result<Forked, ForkError> {
    let directory = &audit.directory;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |cause| ForkError::Io { path, cause }
    };
    if !directory.join(segment::FOLDER).exists() {
        return Err(ForkError::NoLog(directory.clone()));
    }
    let held = lock(directory)?;
    let old = LogFile::read(directory).map_err(io(directory))?;
    let origin = old.map_or_else(|| audit.origin.clone(), |old| old.origin);
    let frontier = read_all(directory).map_err(io(directory))?;
    let predecessor = Predecessor { origin, size: frontier.size(), root: hex(&frontier.root()) };
    let (number, kept) = next_fork(directory);
    let origin = format!("{}{FORK}{number}", audit.origin);
    let signer = Signer::load(&audit.signing_key, &origin)?;
    put_aside(directory, &kept).map_err(io(&kept))?;
    let file = LogFile::path(directory);
    let about = LogFile::new(&origin, signer.verifier.to_string(), Some(predecessor.clone()));
    disk::put(&RealDisk, &file, &about.to_bytes())
        .and_then(|()| disk::make_read_only(&file))
        .map_err(io(&file))?;
    drop(held);

    let (journal, _writer) = Journal::open(Opening {
        directory: directory.clone(),
        anchors: audit.anchors.clone(),
        observer: Observer { name: origin.clone(), version: env!("CARGO_PKG_VERSION") },
        signer,
        disk: Arc::new(RealDisk),
        gap_file: audit.gap_file(),
        segment_bytes: bounds::SEGMENT_BYTES,
    })?;
    let mut record = Record::new(Action::AuditFork, uuid::Uuid::now_v7());
    record.outcome = Outcome::Success;
    record.reason = clip(&format!(
        "goes on from {} at {} records, root {}: {reason}",
        predecessor.origin, predecessor.size, predecessor.root
    ));
    journal.commit(vec![record]).await?;
    journal.close().await;
    Ok(Forked { origin, predecessor, kept })
}

fn read_all(directory: &Path) -> io::Result<Frontier> {
    let mut frontier = Frontier::default();
    for segment in segment::list(directory)? {
        let mut lines = segment::Lines::of(&segment)?;
        while let Some((b'\n', line)) = lines.next_line()?.split_last() {
            frontier.push(leaf(line));
        }
    }
    Ok(frontier)
}

fn next_fork(directory: &Path) -> (u32, PathBuf) {
    let folder = |number: u32| directory.join(FORKS).join(number.to_string());
    let number = (1..).find(|number| !folder(*number).exists()).unwrap_or(u32::MAX);
    (number, folder(number))
}

/// `log.json` goes last: without it what is left is no log, and the next try finds it as it was.
fn put_aside(directory: &Path, kept: &Path) -> io::Result<()> {
    disk::make_folder(&RealDisk, kept)?;
    for name in [segment::FOLDER, tiles::FOLDER, KEPT, CHECKPOINT, "quarantine", "log.json"] {
        match fs::rename(directory.join(name), kept.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    fs::File::open(kept)?.sync_all()?;
    fs::File::open(directory)?.sync_all()
}
