//! Retention: whole sealed segments of which every record is older than a time are removed. Their hashes stay, and so do
//! all checkpoints, so that whatever is left is proven as before.
//!
//! The order is such that a power cut at any point leaves a log that is whole: the hashes of what goes are on disk; then
//! a record that says what goes is, and is signed; only then the files go, oldest first. What was interrupted is
//! completed by the next try.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use jiff::Timestamp;
use uuid::Uuid;

use super::disk::{self, Disk, RealDisk};
use super::journal::{CommitError, Journal, Opening};
use super::recover::{self, OpenError};
use super::tree::Tree;
use super::{fork, reserve};
use crate::config::model::Audit;
use relay_log::files::regular;
use relay_log::ledger::action::{Action, Outcome};
use relay_log::ledger::glance::Glance;
use relay_log::ledger::log::LogFile;
use relay_log::ledger::merkle::{Frontier, Hash, leaf};
use relay_log::ledger::note::{CHECKPOINT, MAX_NOTE, Signer, SigningKeyError, Verifier, anchor_name};
use relay_log::ledger::record::Record;
use relay_log::ledger::regular_file;
use relay_log::ledger::segment::{self, Lines, Segment};
use relay_log::ledger::tiles::{self, WIDTH};
use relay_log::verify::LogError;
use relay_log::verify::log::{VerifyError, verify};

/// Why nothing, or not all, was removed.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// A relay writes the log, or it can't be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The signing key can't be used.
    #[error("{0}")]
    Key(#[from] SigningKeyError),
    /// There is no log, or it can't be read.
    #[error("{0}")]
    Read(#[from] VerifyError),
    /// The log is not what it was.
    #[error("nothing is removed from {log}, because it is not whole: {what}; see license-relay audit verify")]
    Damaged {
        /// The log's folder.
        log: PathBuf,
        /// The first thing that is wrong.
        what: String,
    },
    /// The log takes no record of it.
    #[error("nothing is removed, because the log takes no record of it: {0}")]
    Record(#[from] CommitError),
    /// The record of it is not signed.
    #[error("nothing is removed, because no checkpoint can be written to {0}; is its disk full?")]
    Unsigned(PathBuf),
    /// A segment can't be removed.
    #[error("{path} is {what}, and nothing is removed; as root run: chattr -{flag} {path}, and try again")]
    Flagged {
        /// The segment.
        path: PathBuf,
        /// The flag, as chattr(1) has it.
        flag: char,
        /// What it makes of the file.
        what: &'static str,
    },
    /// The system refused.
    #[error("{path}: {cause}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
}

/// What goes, and what stays.
#[derive(Debug)]
pub struct Plan {
    /// The log's folder.
    pub log: PathBuf,
    /// Segments that go, oldest first, without a hole.
    pub going: Vec<Going>,
    /// The first record that is there.
    pub from: u64,
    /// The first record that stays.
    pub end: u64,
    /// Segments that stay.
    pub segments: usize,
    /// All records, pruned ones included.
    pub records: u64,
    /// The time of the first record that stays; `None` in a log without records.
    pub since: Option<Timestamp>,
}

/// A segment that goes.
#[derive(Debug)]
pub struct Going {
    /// Which one.
    pub segment: Segment,
    /// The first record behind it.
    pub end: u64,
    /// Its bytes on disk.
    pub bytes: u64,
    /// The earliest time of its records.
    pub first: Timestamp,
    /// The latest one.
    pub last: Timestamp,
}

impl Plan {
    /// What a pruning of the log would remove, after all of it was verified. Reads only, and works while a relay writes.
    ///
    /// # Errors
    /// There is no log, it can't be read, or it is not whole.
    pub fn of(audit: &Audit, before: Timestamp) -> Result<Self, PruneError> {
        let name = fork::name(&audit.directory, &audit.origin);
        Self::make(&audit.directory, &audit.anchors, &name, before)
    }

    fn make(log: &Path, anchors: &[PathBuf], name: &str, before: Timestamp) -> Result<Self, PruneError> {
        // One that holds nothing of this log yet, or whose disk is away, says nothing about it.
        let notes = anchors.iter().map(|anchor| anchor.join(anchor_name(name)));
        let notes: Vec<PathBuf> = notes.filter(|note| note.exists()).collect();
        let verified = verify(log, &notes, |_| {})?;
        if let Some(what) = verified.damage.first().or_else(|| verified.rolled_back.first()) {
            return Err(PruneError::Damaged { log: log.to_owned(), what: what.clone() });
        }
        let io = |cause| PruneError::Io { path: log.to_owned(), cause };
        let listed = segment::list(log).map_err(io)?;
        let from = listed.first().map_or(0, |segment| segment.first);
        // The newest is being written.
        let sealed = listed.len().saturating_sub(1);
        let mut going: Vec<Going> = Vec::new();
        for segment in listed.iter().take(sealed) {
            match Going::of(segment, before).map_err(io)? {
                Some(goes) => going.push(goes),
                None => break,
            }
        }
        let since = match listed.get(going.len()) {
            Some(stays) => begin(stays).map_err(io)?,
            None => None,
        };
        Ok(Self {
            log: log.to_owned(),
            from,
            end: going.last().map_or(from, |last| last.end),
            segments: listed.len() - going.len(),
            going,
            records: verified.records,
            since,
        })
    }

    /// The bytes on disk of what goes.
    pub fn bytes(&self) -> u64 {
        self.going.iter().map(|going| going.bytes).sum()
    }

    /// How many records go.
    pub fn count(&self) -> u64 {
        self.end - self.from
    }
}

impl Going {
    /// A segment of which every record is older than a time; `None` where one is not.
    fn of(segment: &Segment, before: Timestamp) -> io::Result<Option<Self>> {
        let bytes = names(segment).iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum();
        let mut lines = lines(segment)?;
        let (mut end, mut first, mut last) = (segment.first, Timestamp::MAX, Timestamp::MIN);
        while let Some(line) = lines.next_whole()? {
            let Some(Glance { time, .. }) = Glance::at(line) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("record {end} is none")));
            };
            if time >= before {
                return Ok(None);
            }
            (first, last) = (first.min(time), last.max(time));
            end += 1;
        }
        Ok(Some(Self { segment: segment.clone(), end, bytes, first, last }))
    }
}

/// Removes what is older than a time, if that is agreed to: what was removed, or `None` where it wasn't.
///
/// # Errors
/// See [`PruneError`]. What was done until then is harmless, and completed by the next try.
pub async fn prune(
    audit: &Audit,
    before: Timestamp,
    agree: impl FnOnce(&Plan) -> bool,
) -> Result<Option<Plan>, PruneError> {
    let origin = fork::name(&audit.directory, &audit.origin);
    let signer = Signer::load(&audit.signing_key, &origin)?;
    prune_on(Opening::new(audit, signer, Arc::new(RealDisk)), before, agree).await
}

pub(super) async fn prune_on(
    opening: Opening,
    before: Timestamp,
    agree: impl FnOnce(&Plan) -> bool,
) -> Result<Option<Plan>, PruneError> {
    let log = opening.directory.clone();
    if regular::is_missing(&LogFile::path(&log)) {
        return Err(VerifyError::from(LogError::NotALog(log)).into());
    }
    let held = recover::lock(&log)?;
    let name = &opening.signer.verifier.name;
    let plan = Plan::make(&log, &opening.anchors, name, before)?;
    if plan.going.is_empty() {
        return Ok(Some(plan));
    }
    for path in plan.going.iter().flat_map(|going| names(&going.segment)) {
        if let Some((flag, what)) = recover::locked_by(&path) {
            return Err(PruneError::Flagged { path, flag, what });
        }
    }
    if !agree(&plan) {
        return Ok(None);
    }
    let disk = opening.disk.clone();
    keep_hashes(disk.as_ref(), &plan)
        .map_err(|cause| PruneError::Io { path: log.join(tiles::FOLDER), cause })?;
    let verifier = opening.signer.verifier.clone();
    let (journal, writer) = Journal::open_held(held, opening)?;
    let mut done = tell(&journal, &verifier, &plan, before).await;
    if done.is_ok() {
        done = remove(disk.as_ref(), &plan);
    }
    journal.close().await;
    writer.finish();
    done.map(|()| Some(plan))
}

/// Makes lasting, and reads back, the hashes of what goes.
fn keep_hashes(disk: &dyn Disk, plan: &Plan) -> io::Result<()> {
    let log = &plan.log;
    let mut tree = Tree::default();
    tiles::read_first(log, plan.from, |leaf| drop(tree.push(leaf)))?;
    let mut folders = BTreeSet::new();
    let mut keep = |(tile, hashes): (u64, Vec<Hash>)| {
        let count = hashes.len() as u64;
        let path = tiles::path(log, tile, (count < WIDTH).then_some(count));
        let above = path.ancestors().skip(1).take_while(|folder| folder.starts_with(log));
        folders.extend(above.map(Path::to_owned));
        make_lasting(disk, &path, hashes.as_flattened())
    };
    for going in &plan.going {
        let mut lines = lines(&going.segment)?;
        while let Some(line) = lines.next_whole()? {
            tree.push(leaf(line)).map_or(Ok(()), &mut keep)?;
        }
        // Whatever of the files goes before a crash: where the rest begins, a tile ends.
        tree.open_tile().map_or(Ok(()), &mut keep)?;
    }
    for folder in folders.iter().rev() {
        disk.sync_folder(folder)?;
    }
    let mut again = Frontier::default();
    tiles::read_first(log, plan.end, |leaf| again.push(leaf))?;
    if (again.size(), again.root()) != (tree.size(), tree.root()) || again.size() != plan.end {
        let words = "what was written does not read back the same";
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    Ok(())
}

/// What is there already and right is only synced.
fn make_lasting(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let same = fs::read(path).is_ok_and(|there| there == bytes);
    if same && disk.append(path).and_then(|mut append_file| append_file.sync_all()).is_ok() {
        return Ok(());
    }
    disk::make_folder(disk, disk::folder(path))?;
    disk::put(disk, path, bytes)
}

/// Records what goes, and sees to it that the record is signed.
async fn tell(
    journal: &Journal,
    verifier: &Verifier,
    plan: &Plan,
    before: Timestamp,
) -> Result<(), PruneError> {
    let mut record = Record::new(Action::AuditPruned, Uuid::now_v7());
    record.outcome = Outcome::Success;
    let last = plan.end.saturating_sub(1);
    record.reason = format!(
        "records 0 to {last} are removed, {} of them now, because they are older than {before}; their hashes stay",
        plan.count()
    );
    // All from the first one on: a record of an earlier pruning may be among what goes.
    (record.qlik.from_index, record.qlik.to_index) = (Some(0), Some(last));
    record.qlik.previous_stop = journal.previous_stop();
    // The last of the space may be used for it: it makes room.
    journal.commit_outcome(vec![record]).await?;
    let committed = *journal.committed().borrow();
    let is_signed = || {
        let note = regular_file::read(&plan.log.join(CHECKPOINT), MAX_NOTE as u64).unwrap_or_default();
        verifier.open(&note).is_ok_and(|signed| signed.size >= committed)
    };
    journal.sign().await;
    if !is_signed() {
        reserve::spend(&plan.log);
        journal.sign().await;
    }
    if is_signed() { Ok(()) } else { Err(PruneError::Unsigned(plan.log.clone())) }
}

/// One after the other, so that a power cut leaves no hole.
fn remove(disk: &dyn Disk, plan: &Plan) -> Result<(), PruneError> {
    for going in &plan.going {
        for path in names(&going.segment) {
            match disk.remove(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|cause| PruneError::Io { path, cause })?,
            }
        }
        let folder = plan.log.join(segment::FOLDER);
        disk.sync_folder(&folder).map_err(|cause| PruneError::Io { path: folder, cause })?;
    }
    Ok(())
}

/// The names that a segment may have, that of one half compressed among them.
fn names(segment: &Segment) -> [PathBuf; 3] {
    let folder = disk::folder(disk::folder(&segment.path));
    let plain = segment::path(folder, segment.first);
    let compressed = segment::compressed_path(&plain);
    [compressed.with_extension("zst.new"), compressed, plain]
}

/// The time of a segment's first record.
fn begin(segment: &Segment) -> io::Result<Option<Timestamp>> {
    Ok(lines(segment)?.next_whole()?.and_then(Glance::at).map(|glance| glance.time))
}

/// One that is put away meanwhile is there under its other name.
fn lines(segment: &Segment) -> io::Result<Lines> {
    match Lines::of(segment) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let path = segment::compressed_path(&segment.path.with_extension("jsonl"));
            Lines::of(&Segment { path, compressed: true, ..*segment })
        }
        lines => lines,
    }
}
