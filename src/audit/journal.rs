//! The one writer of the assignment log.
//!
//! A thread of its own takes what waits in the `queue`, writes it with one `write`, syncs once, and only
//! then releases whoever waits for it: one flush costs about 4 ms whatever it carries, so batching is the whole game. A
//! write that fails is rolled back and answered *blocked*; a sync that fails is final, because the kernel may have dropped
//! the pages it could not write and a second sync would lie.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::archive::Archive;
use super::checkpointer::{Checkpointer, TreeHead};
use super::disk::{self, AppendFile, Disk, FileState};
use super::queue::{Batch, Done, Ending, Next, Queue};
pub use super::queue::{BatchKind, Lane};
use super::recover::{self, LastRun, OpenError, OpenedLog};
use super::reserve::Reserve;
use super::tree::Tree;
use crate::bounds;
use crate::config::model::Audit;
use crate::config::state_file;
use relay_log::ledger::action::{Action, Outcome};
use relay_log::ledger::merkle::{Hash, leaf};
use relay_log::ledger::note::Signer;
use relay_log::ledger::qlik::Repeat;
use relay_log::ledger::record::{Observer, Record, RecordError, stamp};
use relay_log::ledger::{segment, tiles};
use relay_log::{file_size, threads};

/// A handle on the log; clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    queue: Arc<Handle>,
    state: watch::Receiver<State>,
    committed: watch::Receiver<u64>,
    lost: Arc<Lost>,
    previous_stop: Option<&'static str>,
}

/// What a log is opened with.
#[derive(Debug)]
pub struct Opening {
    /// Its folder.
    pub directory: PathBuf,
    /// Where copies of its checkpoints go.
    pub anchors: Vec<PathBuf>,
    /// Who writes.
    pub observer: Observer,
    /// Signs its checkpoints, under its name.
    pub signer: Signer,
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// Where the count of exchanges goes that are not in the log, as long as the log takes nothing: not beside it.
    pub gap_file: PathBuf,
    /// A segment that has grown to this is sealed: [`bounds::SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// Bytes of records that wait to be written (`audit.queue`).
    pub queue: u64,
}

impl Opening {
    /// As `[audit]` says, for the log that this signs.
    pub fn new(audit: &Audit, signer: Signer, disk: Arc<dyn Disk>) -> Self {
        Self {
            directory: audit.directory.clone(),
            anchors: audit.anchors.clone(),
            observer: Observer { name: signer.verifier.name.clone(), version: env!("CARGO_PKG_VERSION") },
            signer,
            disk,
            gap_file: audit.gap_file(),
            segment_bytes: bounds::SEGMENT_BYTES,
            queue: audit.queue,
        }
    }
}

/// The thread that writes; joined when all handles are gone, or after [`Journal::close`].
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
}

/// Whether the log can be written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// It can.
    Writable,
    /// It can't for now (disk full); tried again every second.
    Blocked(String),
    /// It never will again: a sync failed, or the file was tampered with. The process must end.
    Poisoned(String),
}

/// Why records are not in the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// The log can't be written for now.
    #[error("the audit log can't be written: {0}")]
    Blocked(String),
    /// The log can't be written any more.
    #[error("the audit log is given up: {0}")]
    Poisoned(String),
    /// Too many wait.
    #[error("the audit log's queue is full")]
    Busy,
}

impl CommitError {
    pub(super) fn ended() -> Self {
        Self::Poisoned("its writer has ended".into())
    }
}

/// The way into the queue, which ends with the last handle on the log.
#[derive(Debug)]
struct Handle(Arc<Queue>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Exchanges that went through and could not be written whole: told as one gap once the log can be written again.
#[derive(Debug, Default)]
struct Lost {
    count: AtomicU64,
    since: Mutex<Option<Timestamp>>,
}

/// The same, in a file: what is told at the next start.
#[derive(Debug, Default, Deserialize, Serialize)]
struct GapFile {
    count: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Lost {
    fn forget(&self, told: u64) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if told > 0 && self.count.fetch_sub(told, Ordering::Relaxed) == told {
            *since = None;
        }
    }

    fn since(&self) -> Option<Timestamp> {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal {
    /// Opens the log, holds it against its checkpoints, heals what a crash left, and starts its writer.
    ///
    /// # Errors
    /// Another relay holds the lock, the folder can't be used, or the log went back.
    pub fn open(opening: Opening) -> Result<(Self, Writer), OpenError> {
        Self::open_with(None, opening)
    }

    /// The same for whoever holds the log's lock already. Nothing touches sealed segments meanwhile: the caller may have
    /// something to do with them, and the next start compresses what is left.
    pub(super) fn open_held(lock: File, opening: Opening) -> Result<(Self, Writer), OpenError> {
        Self::open_with(Some(lock), opening)
    }

    fn open_with(lock: Option<File>, opening: Opening) -> Result<(Self, Writer), OpenError> {
        let Opening { directory, anchors, signer, disk, .. } = &opening;
        let held = lock.is_some();
        let opened = recover::open(lock, directory, anchors, &signer.verifier, disk.as_ref())?;
        let previous_stop =
            opened.found.last.as_ref().map(|_| if opened.found.is_clean() { "clean" } else { "unclean" });
        let queue = Queue::new(opening.queue);
        let (tell, state) = watch::channel(State::Writable);
        let (commit, committed) = watch::channel(opened.tree.size());
        let lost = Arc::new(Lost::default());
        let archive = match held {
            true => Archive::idle(),
            false => Archive::start(directory, disk.clone())?,
        };
        let mut log_writer = LogWriter::new(opened, opening, archive, tell, commit, lost.clone())?;
        let batches = queue.clone();
        let thread = threads::start("journal", move || log_writer.write_all(&batches))?;
        let queue = Arc::new(Handle(queue));
        Ok((Self { queue, state, committed, lost, previous_stop }, Writer { thread }))
    }

    /// Writes what the relay itself is about to do and returns once it is on disk, as one unit: all of it or nothing. What
    /// may be more than one unit is cut into [`Turn`]s.
    ///
    /// # Errors
    /// It is not on disk, and nothing of it will be found in the log.
    pub async fn commit(&self, records: Vec<Record>) -> Result<u64, CommitError> {
        self.write(&Lane::Relay, BatchKind::Intent, records).await
    }

    /// The same for what has happened already: where the disk is full, the space that is reserved for it is used.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn commit_outcome(&self, records: Vec<Record>) -> Result<u64, CommitError> {
        self.write(&Lane::Relay, BatchKind::Outcome, records).await
    }

    /// Writes records of this kind in a lane, as one unit, and returns once they are on disk: how many bytes their lines have.
    ///
    /// # Errors
    /// They are not on disk, and nothing of them will be found in the log.
    pub async fn write(
        &self,
        lane: &Lane,
        kind: BatchKind,
        records: Vec<Record>,
    ) -> Result<u64, CommitError> {
        if records.is_empty() {
            return Ok(0);
        }
        let (done, written) = oneshot::channel();
        self.queue.0.put(lane, records, kind, Some(done)).await?;
        written.await.unwrap_or_else(|_| Err(CommitError::ended()))
    }

    /// Signs a checkpoint over all that is written, and waits for it within a bound.
    pub async fn sign(&self) {
        let _ = self.queue.0.sign().await;
    }

    /// Signs the last checkpoint and ends the writer; what is committed after that is refused.
    pub async fn close(&self) {
        let _ = self.queue.0.close().await;
    }

    /// Hands over records without waiting for the disk. `false` where the queue is half full: the caller counts
    /// them instead.
    pub fn note(&self, records: Vec<Record>) -> bool {
        self.queue.0.put_note(records)
    }

    /// The same for records that must not be lost: waits for room, however long the queue is.
    pub async fn note_in_turn(&self, records: Vec<Record>) {
        // Without a writer the process ends, and says so.
        let _ = self.queue.0.put(&Lane::Relay, records, BatchKind::Note, None).await;
    }

    /// Lets more or less wait from now on (`audit.queue`).
    pub(crate) fn resize_queue(&self, bytes: u64) {
        self.queue.0.resize(bytes);
    }

    /// How the last run ended: `clean`, or `unclean` after a crash; `None` in a new log.
    pub fn previous_stop(&self) -> Option<&'static str> {
        self.previous_stop
    }

    /// How many records are on disk, now and as they become more: those before are there to be read, by a shipper say
    /// ([`segment`] has the reader).
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.committed.clone()
    }

    /// Counts an exchange that went through and is not, or not whole, in the log.
    pub fn count_lost(&self) {
        let mut since = self.lost.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.get_or_insert_with(Timestamp::now);
        self.lost.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the log can be written now.
    ///
    /// # Errors
    /// It can't, and why.
    pub fn check(&self) -> Result<(), CommitError> {
        match &*self.state.borrow() {
            State::Writable => Ok(()),
            State::Blocked(why) => Err(CommitError::Blocked(why.clone())),
            State::Poisoned(why) => Err(CommitError::Poisoned(why.clone())),
        }
    }

    /// Whether the log can be written, now and as it changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }
}

/// Records that are written as one unit. Between two turns others have theirs.
#[derive(Debug)]
pub struct Turn {
    /// [`bounds::JOURNAL_TURN`] at most, or fewer where they are long.
    pub records: Vec<Record>,
    /// There are no more; `false` where that is not known.
    pub is_last: bool,
}

impl Turn {
    /// The next one of these records.
    pub fn of(from: &mut impl Iterator<Item = Record>) -> Self {
        let (mut records, mut weight) = (Vec::new(), 0);
        while records.len() < bounds::JOURNAL_TURN && weight < bounds::JOURNAL_TURN_BYTES {
            let Some(record) = from.next() else { return Self { records, is_last: true } };
            weight += record.weight();
            records.push(record);
        }
        Self { records, is_last: false }
    }
}

impl Writer {
    /// Waits until everything handed over is written. Every [`Journal`] must have been dropped, or one closed.
    pub fn finish(self) {
        let _ = self.thread.join();
    }
}

/// What the thread holds: the file, and how much of it is known to be on disk.
struct LogWriter {
    _lock: File,
    directory: PathBuf,
    path: PathBuf,
    append_file: Box<dyn AppendFile>,
    inode: u64,
    committed: u64,
    tree: Tree,
    /// The day that the active segment is of.
    day: i64,
    seal_failing: bool,
    /// The segment that was sealed last, until the one after it is on disk.
    sealed: Option<PathBuf>,
    clock: Option<(Timestamp, Option<Instant>)>,
    observer: Observer,
    disk: Arc<dyn Disk>,
    checkpointer: Checkpointer,
    archive: Archive,
    reserve: Reserve,
    state: watch::Sender<State>,
    size: watch::Sender<u64>,
    lost: Arc<Lost>,
    gap_file: PathBuf,
    segment_bytes: u64,
    /// Of the lost exchanges, those that the lines about to be written tell of, and those that the file tells of.
    told: u64,
    filed: u64,
    filed_at: Instant,
    refused: u64,
    blocked_since: Option<Timestamp>,
    /// What is written first, before the next batch.
    waiting: Vec<Record>,
    /// How long the last sync took.
    synced_in: Duration,
}

/// Lines that go out with one write.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    leaves: Vec<Hash>,
    /// Some of it has happened already.
    outcomes: bool,
    /// Some of it has not.
    others: bool,
    /// Tries whether a blocked log can be written again, and says so.
    probe: bool,
}

impl LogWriter {
    fn new(
        opened: OpenedLog,
        opening: Opening,
        archive: Archive,
        state: watch::Sender<State>,
        size: watch::Sender<u64>,
        lost: Arc<Lost>,
    ) -> Result<Self, OpenError> {
        let Opening { directory, anchors, observer, signer, disk, gap_file, segment_bytes, .. } = opening;
        let OpenedLog { lock, segment, length, tree, found } = opened;
        let io = |cause| OpenError::Io { path: segment.path.clone(), cause };
        let append_file = disk.append(&segment.path).map_err(io)?;
        let inode = append_file.state().map_err(io)?.inode;
        let checkpointer = Checkpointer::start(&directory, &anchors, signer, disk.clone())?;
        let reserve = Reserve::new(&directory);
        let last = found.last.as_ref().map(|last| last.time);
        let gap: GapFile = state_file::read_or_warn(&gap_file);
        let waiting = first_records(&found, &gap, length == 0 && segment.first > 0, segment.first);
        Ok(Self {
            _lock: lock,
            directory,
            path: segment.path,
            append_file,
            inode,
            committed: length,
            tree,
            day: day(last.unwrap_or_else(Timestamp::now)),
            seal_failing: false,
            sealed: None,
            clock: last.map(|last| (last, None)),
            observer,
            disk,
            checkpointer,
            archive,
            reserve,
            state,
            size,
            lost,
            gap_file,
            segment_bytes,
            told: 0,
            filed: gap.count,
            filed_at: Instant::now(),
            refused: 0,
            blocked_since: None,
            waiting,
            synced_in: Duration::ZERO,
        })
    }

    fn write_all(&mut self, queue: &Queue) {
        let _ending = Ending(queue);
        loop {
            match queue.next(bounds::JOURNAL_TICK) {
                Next::Batch(batch) => self.write_group(batch, queue),
                Next::Sign(done) => {
                    self.checkpointer.sign_now();
                    let _ = done.send(());
                }
                Next::Nothing => self.tick(),
                Next::End(done) => {
                    // Nothing may have been written since a start that has something to tell.
                    let group = self.opening_lines(false);
                    let _ = self.append(&group);
                    self.file_gap();
                    self.checkpointer.leave();
                    let _ = done.map(|done| done.send(()));
                    return;
                }
            }
        }
    }

    /// Natural group commit: whatever has gathered while the last sync ran goes out together. Lines are made for a sixteenth of
    /// the time that a sync takes, so that what comes meanwhile waits for one write and hardly longer, and whoever has just
    /// been answered may be in it with its next request.
    fn write_group(&mut self, first: Batch, queue: &Queue) {
        if self.blocked_since.is_some() && self.filed_at.elapsed() >= bounds::JOURNAL_TICK {
            self.tick();
        }
        let mut group = self.opening_lines(false);
        let mut written = Vec::new();
        let mut batch = Some(first);
        let begun = Instant::now();
        let patience = (self.synced_in / 16).max(bounds::JOURNAL_LINES);
        while let Some(next) = batch {
            match self.lines(&next.records, &mut group) {
                Ok(bytes) => {
                    group.outcomes |= next.kind == BatchKind::Outcome;
                    group.others |= next.kind != BatchKind::Outcome;
                    written.push((next, bytes));
                }
                Err(e) => answer(next.done, Err(CommitError::Blocked(e.to_string()))),
            }
            let has_room = group.bytes.len() < bounds::JOURNAL_WRITE && begun.elapsed() < patience;
            batch = if has_room { queue.more() } else { None };
        }
        let mut result = self.append(&group);
        if let Err(why) = &result
            && group.outcomes
            && group.others
        {
            // What is only about to happen must not keep what has happened out of the last of the space.
            let (kept, refused): (Vec<_>, Vec<_>) =
                written.into_iter().partition(|(batch, _)| batch.kind == BatchKind::Outcome);
            self.refuse(refused, why);
            written = kept;
            let mut outcomes = self.opening_lines(false);
            for (batch, _) in &written {
                let _ = self.lines(&batch.records, &mut outcomes);
            }
            outcomes.outcomes = true;
            result = self.append(&outcomes);
        }
        match result {
            Ok(()) => written.into_iter().for_each(|(batch, bytes)| answer(batch.done, Ok(bytes))),
            Err(why) => self.refuse(written, &why),
        }
    }

    /// Those that wait are told; notes are kept for later, within a bound.
    fn refuse(&mut self, batches: Vec<(Batch, u64)>, why: &CommitError) {
        for (Batch { records, kind, done, .. }, _) in batches {
            if kind == BatchKind::Note && self.waiting.len() + records.len() <= bounds::JOURNAL_NOTES {
                self.waiting.extend(records);
            } else {
                self.refused += 1;
            }
            answer(done, Err(why.clone()));
        }
        if self.filed_at.elapsed() >= bounds::JOURNAL_TICK {
            self.file_gap();
        }
    }

    /// Once a second while nothing is to be written: is the file still ours, has a day begun, is there space again?
    fn tick(&mut self) {
        if matches!(*self.state.borrow(), State::Poisoned(_)) {
            return self.file_gap();
        }
        if self.blocked_since.is_some() {
            self.file_gap();
            if !self.reserve.is_whole() {
                return;
            }
        } else if let Err(why) = self.undisturbed() {
            self.poison(why);
            return;
        }
        let group = self.opening_lines(true);
        let _ = self.append(&group);
    }

    /// What has to be told first: what a start has found, that the clock was set, that the log was blocked, and what was
    /// answered meanwhile without being written.
    fn opening_lines(&mut self, probe: bool) -> Group {
        let now = Timestamp::now();
        self.note_clock(now);
        self.seal_if_due(now);
        let mut records = self.waiting.clone();
        if let Some(since) = self.blocked_since.filter(|_| probe) {
            let mut record = Record::new(Action::RelayHeartbeat, Uuid::now_v7());
            record.outcome = Outcome::Success;
            record.reason = format!(
                "the log can be written again; it could not since {since:.3}, and {} batches of records were given up",
                self.refused
            );
            records.push(record);
        }
        self.told = self.lost.count.load(Ordering::Relaxed);
        if self.told > 0 {
            records.push(gap(self.told, self.lost.since().unwrap_or(now), now));
        }
        let mut group = Group { probe, ..Group::default() };
        if self.lines(&records, &mut group).is_err() {
            // One of them is longer than a line may be; each of the others stands.
            records.retain(|record| self.lines(std::slice::from_ref(record), &mut Group::default()).is_ok());
            group = Group { probe, ..Group::default() };
            let _ = self.lines(&records, &mut group);
        }
        group
    }

    /// Adds the lines of these records, and tells how many bytes they are.
    fn lines(&self, records: &[Record], group: &mut Group) -> Result<u64, RecordError> {
        let now = stamp(Timestamp::now());
        let (bytes, leaves) = (group.bytes.len(), group.leaves.len());
        for record in records {
            let sequence = self.tree.size() + group.leaves.len() as u64;
            let begin = group.bytes.len();
            if let Err(e) = record.write_line(&mut group.bytes, sequence, &now, &self.observer) {
                group.bytes.truncate(bytes);
                group.leaves.truncate(leaves);
                return Err(e);
            }
            group.leaves.push(leaf(&group.bytes[begin..group.bytes.len() - 1]));
        }
        Ok((group.bytes.len() - bytes) as u64)
    }

    /// All of it, synced, or none of it.
    fn append(&mut self, group: &Group) -> Result<(), CommitError> {
        if let State::Poisoned(why) = &*self.state.borrow() {
            return Err(CommitError::Poisoned(why.clone()));
        }
        if group.bytes.is_empty() {
            return Ok(());
        }
        if let Err(why) = self.undisturbed() {
            return Err(self.poison(why));
        }
        let only_outcomes = group.outcomes && !group.others;
        if let State::Blocked(why) = &*self.state.borrow()
            && !(group.probe || only_outcomes)
        {
            return Err(CommitError::Blocked(why.clone()));
        }
        if let Err(cause) = self.write(&group.bytes)? {
            let blocked = self.block(&cause);
            // From here on the space is for outcomes, until there is a reserve again.
            let again = only_outcomes && is_full(&cause) && self.reserve.give_up();
            if !again || self.write(&group.bytes)?.is_err() {
                return Err(blocked);
            }
        }
        let begun = Instant::now();
        if let Err(cause) = self.sync() {
            return Err(self.poison(format!("{} can't be synced: {cause}", self.path.display())));
        }
        self.synced_in = begun.elapsed();
        if let Some(sealed) = self.sealed.take() {
            // From here on nobody needs it as the newest one.
            let _ = disk::make_read_only(&sealed);
            self.archive.take(sealed);
        }
        self.committed += group.bytes.len() as u64;
        let tiles = group.leaves.iter().filter_map(|leaf| self.tree.push(*leaf)).collect();
        self.checkpointer.tell(self.head(), tiles);
        self.size.send_replace(self.tree.size());
        self.waiting.clear();
        self.lost.forget(std::mem::take(&mut self.told));
        if std::mem::take(&mut self.filed) > 0 {
            let _ = std::fs::remove_file(&self.gap_file);
        }
        if group.probe && self.blocked_since.is_some() {
            tracing::info!("{} can be written again", self.path.display());
            (self.blocked_since, self.refused) = (None, 0);
            self.state.send_replace(State::Writable);
        }
        Ok(())
    }

    /// Makes what was written lasting; of a segment that was begun for it, its name as well. The two go on side by side, so
    /// that a seal makes nobody wait for more than one.
    fn sync(&mut self) -> io::Result<()> {
        if self.sealed.is_none() {
            return self.append_file.sync();
        }
        let (disk, folder) = (self.disk.as_ref(), disk::folder(&self.path));
        let (named, written) = threads::beside(|| disk.sync_folder(folder), || self.append_file.sync());
        written.and(named)
    }

    /// All of it or nothing, and why nothing.
    fn write(&mut self, bytes: &[u8]) -> Result<io::Result<()>, CommitError> {
        let Err(cause) = disk::write_all(self.append_file.as_mut(), bytes) else { return Ok(Ok(())) };
        self.roll_back(&cause)?;
        match may_pass(&cause) {
            true => Ok(Err(cause)),
            false => Err(self.poison(format!("{} can't be written: {cause}", self.path.display()))),
        }
    }

    fn head(&self) -> TreeHead {
        TreeHead { size: self.tree.size(), root: self.tree.root() }
    }

    /// Nobody else wrote to, cut, moved or removed the file.
    fn undisturbed(&self) -> Result<(), String> {
        let path = self.path.display();
        let FileState { length, links, .. } = self.append_file.state().map_err(|e| format!("{path}: {e}"))?;
        if length != self.committed {
            return Err(format!("{path} has {length} bytes, and {} were written", self.committed));
        }
        match self.disk.inode(&self.path) {
            Ok(there) if there == self.inode && links == 1 => Ok(()),
            Ok(_) => Err(format!("{path} is no longer the file that is being written")),
            Err(e) => Err(format!("{path} was moved or removed: {e}")),
        }
    }

    fn roll_back(&mut self, cause: &io::Error) -> Result<(), CommitError> {
        let undone = self.append_file.cut(self.committed).and_then(|()| self.append_file.sync());
        undone.map_err(|e| {
            self.poison(format!("{} can't be rolled back after {cause}: {e}", self.path.display()))
        })
    }

    fn block(&mut self, cause: &io::Error) -> CommitError {
        let why = format!("{}: {cause}{}", self.path.display(), file_size::advice(cause));
        if self.blocked_since.is_none() {
            self.blocked_since = Some(Timestamp::now());
            tracing::error!("the audit log can't be written, nothing is forwarded until it can: {why}");
        }
        self.state.send_replace(State::Blocked(why.clone()));
        CommitError::Blocked(why)
    }

    fn poison(&self, why: String) -> CommitError {
        tracing::error!("the audit log is given up: {why}");
        self.state.send_replace(State::Poisoned(why.clone()));
        CommitError::Poisoned(why)
    }

    /// Wall time is kept as it is, and the order is that of the numbers; but that the clock was set is told.
    fn note_clock(&mut self, now: Timestamp) {
        let mono = Instant::now();
        if let Some((wall, then)) = self.clock {
            let moved = now.duration_since(wall);
            let passed = then.map(|then| SignedDuration::try_from(mono - then).unwrap_or_default());
            let step = moved - passed.unwrap_or(moved);
            let set = step.unsigned_abs() > bounds::CLOCK_STEP;
            if moved.is_negative() || set {
                let delta = if passed.is_some() { step } else { moved };
                let mut record = Record::new(Action::RelayClockStep, Uuid::now_v7());
                record.reason = format!("the clock was set by {:.3} s", delta.as_secs_f64());
                record.qlik.delta = serde_json::Number::from_f64((delta.as_secs_f64() * 1e3).round() / 1e3);
                if self.waiting.len() < bounds::JOURNAL_NOTES {
                    self.waiting.push(record);
                }
            }
        }
        self.clock = Some((now, Some(mono)));
    }

    /// A segment that is large enough, or of an earlier day, is closed, and the next one begun.
    fn seal_if_due(&mut self, now: Timestamp) {
        let due = self.committed >= self.segment_bytes || day(now) != self.day;
        if !due || self.committed == 0 || self.blocked_since.is_some() || self.undisturbed().is_err() {
            return;
        }
        let sealed = self.seal(now);
        if let Err(e) = &sealed
            && !self.seal_failing
        {
            tracing::warn!("{} can't be sealed yet: {e}", self.path.display());
        }
        self.seal_failing = sealed.is_err();
    }

    fn seal(&mut self, now: Timestamp) -> io::Result<()> {
        let next = segment::path(&self.directory, self.tree.size());
        let append_file = self.disk.create(&next)?;
        let inode = match append_file.state() {
            Ok(FileState { inode, .. }) => inode,
            Err(e) => {
                // Whether it is there after a power cut is not known, and behind it the old one must not grow.
                self.poison(format!("{} can't be begun: {e}", next.display()));
                return Ok(());
            }
        };
        if let Some((tile, part)) = self.tree.open_tile() {
            // It can be made anew from the segments.
            let _ = tiles::write(&self.directory, tile, &part);
        }
        self.checkpointer.keep(self.head());
        let sealed = std::mem::replace(&mut self.path, next);
        self.waiting.insert(0, sealed_record(self.tree.size(), &sealed));
        self.sealed = Some(sealed);
        (self.append_file, self.inode, self.committed, self.day) = (append_file, inode, 0, day(now));
        Ok(())
    }

    /// What can't be told in the log is told beside it, at the next start.
    fn file_gap(&mut self) {
        self.filed_at = Instant::now();
        let lost = self.lost.count.load(Ordering::Relaxed);
        if lost == 0 || lost == self.filed {
            return;
        }
        let gap = GapFile { count: lost, first: self.lost.since(), last: Some(Timestamp::now()) };
        if let Err(e) = state_file::write(&self.gap_file, &gap) {
            tracing::error!(
                "{lost} exchanges are not in the log, and {} can't say so: {e}",
                self.gap_file.display()
            );
        } else {
            self.filed = lost;
        }
    }
}

/// What a start has to tell before anything else.
fn first_records(found: &LastRun, filed: &GapFile, sealed: bool, first: u64) -> Vec<Record> {
    let mut records = Vec::new();
    if sealed {
        records.push(sealed_record(first, "the last segment".as_ref()));
    }
    if found.torn.is_some() || found.unsigned > 0 {
        let mut record = Record::new(Action::AuditRecovered, Uuid::now_v7());
        record.outcome = Outcome::Success;
        record.reason = format!("{} records were on disk that no checkpoint covered", found.unsigned);
        let (bytes, kept) = found.torn.clone().unzip();
        record.qlik.dropped_bytes = Some(bytes.unwrap_or(0));
        let name = kept.as_ref().and_then(|kept| kept.file_name());
        record.qlik.quarantine_file = name.map(|name| name.to_string_lossy().into_owned());
        records.push(record);
    }
    if filed.count > 0 {
        let now = Timestamp::now();
        records.push(gap(filed.count, filed.first.unwrap_or(now), filed.last.unwrap_or(now)));
    }
    records
}

fn gap(count: u64, first: Timestamp, last: Timestamp) -> Record {
    let mut record = Record::new(Action::AuditGap, Uuid::now_v7());
    record.reason = "exchanges went through that are not, or not whole, in the log".into();
    record.qlik.repeat = Some(Repeat { count, first, last });
    record
}

fn sealed_record(size: u64, path: &std::path::Path) -> Record {
    let mut record = Record::new(Action::AuditSealed, Uuid::now_v7());
    record.outcome = Outcome::Success;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    record.reason = format!("{name} is complete: the log has {size} records");
    record
}

/// The UTC day, counted from 1970.
fn day(time: Timestamp) -> i64 {
    time.as_second().div_euclid(24 * 3600)
}

/// Whether room for it may come; a disk that fails, or is read-only now, fails for good.
fn may_pass(cause: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, OutOfMemory, WriteZero};
    is_full(cause) || matches!(cause.kind(), FileTooLarge | OutOfMemory | WriteZero)
}

fn is_full(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn answer(waiter: Option<Done>, result: Result<u64, CommitError>) {
    if let Some(waiter) = waiter {
        // A waiter that is gone needs no answer: its request was cancelled before anything was forwarded.
        let _ = waiter.send(result);
    }
}

#[cfg(test)]
mod tests;
