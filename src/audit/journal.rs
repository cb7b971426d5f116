//! The one writer of the assignment log.
//!
//! A thread of its own takes all records that wait, writes them with one `write`, syncs once, and only then releases
//! whoever waits for them: one flush costs about 4 ms whatever it carries, so batching is the whole game. A write
//! that fails is rolled back and answered *blocked*; a sync that fails is final, because the kernel may have dropped
//! the pages it could not write and a second sync would lie.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use uuid::Uuid;

use super::recover::{self, OpenError, Opened};
use crate::bounds;
use crate::ledger::record::{Action, Observer, Outcome, Record, RecordError, Repeat};

/// A handle on the log; clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    queue: mpsc::Sender<Batch>,
    places: Arc<Semaphore>,
    state: watch::Receiver<State>,
    lost: Arc<Lost>,
}

/// The thread that writes; joined when all handles are gone.
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

#[derive(Debug)]
struct Batch {
    records: Vec<Record>,
    done: Option<oneshot::Sender<Result<(), CommitError>>>,
    _place: OwnedSemaphorePermit,
}

/// Exchanges that went through and could not be written whole: told as one gap once the log can be written again.
#[derive(Debug, Default)]
struct Lost {
    count: AtomicU64,
    since: Mutex<Option<Timestamp>>,
}

impl Lost {
    fn forget(&self, told: u64) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if told > 0 && self.count.fetch_sub(told, Ordering::Relaxed) == told {
            *since = None;
        }
    }
}

impl Journal {
    /// Opens the log in a folder, heals what a crash left, and starts its writer.
    ///
    /// # Errors
    /// Another relay holds the lock, or the folder can't be used.
    pub fn open(directory: &std::path::Path, observer: Observer) -> Result<(Self, Writer), OpenError> {
        let opened = recover::open(directory)?;
        let (queue, batches) = mpsc::channel();
        let (tell, state) = watch::channel(State::Writable);
        let lost = Arc::new(Lost::default());
        let mut pen = Pen::new(opened, observer, tell, lost.clone())?;
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || pen.write_all(&batches))
            .map_err(|cause| OpenError::Io { path: directory.to_owned(), cause })?;
        let places = Arc::new(Semaphore::new(bounds::JOURNAL_QUEUE));
        Ok((Self { queue, places, state, lost }, Writer { thread }))
    }

    /// Writes records as one unit and returns once they are on disk.
    ///
    /// # Errors
    /// They are not: nothing of them will be found in the log.
    pub async fn commit(&self, records: Vec<Record>) -> Result<(), CommitError> {
        if records.is_empty() {
            return Ok(());
        }
        let place = tokio::time::timeout(bounds::JOURNAL_WAIT, self.places.clone().acquire_owned());
        let Ok(Ok(place)) = place.await else { return Err(CommitError::Busy) };
        let (done, written) = oneshot::channel();
        let batch = Batch { records, done: Some(done), _place: place };
        let gone = || CommitError::Poisoned("its writer has ended".into());
        self.queue.send(batch).map_err(|_| gone())?;
        written.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Hands over records without waiting for the disk. `false` where the queue is half full: the caller counts
    /// them instead.
    pub fn note(&self, records: Vec<Record>) -> bool {
        if self.places.available_permits() < bounds::JOURNAL_QUEUE / 2 {
            return false;
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else { return false };
        self.queue.send(Batch { records, done: None, _place: place }).is_ok()
    }

    /// Counts an exchange that went through and is not, or not whole, in the log.
    pub fn count_lost(&self) {
        let mut since = self.lost.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.get_or_insert_with(Timestamp::now);
        self.lost.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the log can be written, now and as it changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }
}

impl Writer {
    /// Waits until everything handed over is written. Every [`Journal`] must have been dropped.
    pub fn finish(self) {
        let _ = self.thread.join();
    }
}

/// What the thread holds: the file, and how much of it is known to be on disk.
struct Pen {
    _lock: File,
    path: PathBuf,
    file: File,
    inode: u64,
    committed: u64,
    next: u64,
    observer: Observer,
    state: watch::Sender<State>,
    lost: Arc<Lost>,
    /// Of the lost exchanges, those that the lines about to be written tell of.
    told: u64,
    refused: u64,
    blocked_since: Option<Timestamp>,
}

impl Pen {
    fn new(
        opened: Opened,
        observer: Observer,
        state: watch::Sender<State>,
        lost: Arc<Lost>,
    ) -> Result<Self, OpenError> {
        let io = |cause| OpenError::Io { path: opened.path.clone(), cause };
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&opened.path)
            .and_then(|file| file.sync_all().map(|()| file))
            .map_err(io)?;
        if let Some(folder) = opened.path.parent() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        }
        let inode = file.metadata().map_err(io)?.ino();
        Ok(Self {
            _lock: opened.lock,
            file,
            inode,
            committed: opened.length,
            next: opened.next,
            path: opened.path,
            observer,
            state,
            lost,
            told: 0,
            refused: 0,
            blocked_since: None,
        })
    }

    fn write_all(&mut self, batches: &mpsc::Receiver<Batch>) {
        loop {
            let first = if self.blocked_since.is_some() {
                match batches.recv_timeout(bounds::JOURNAL_RETRY) {
                    Ok(batch) => batch,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        self.try_again();
                        continue;
                    }
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            } else {
                match batches.recv() {
                    Ok(batch) => batch,
                    Err(mpsc::RecvError) => return,
                }
            };
            self.write_group(first, batches);
        }
    }

    /// Natural group commit: whatever has gathered while the last sync ran goes out together.
    fn write_group(&mut self, first: Batch, batches: &mpsc::Receiver<Batch>) {
        let (mut bytes, mut next) = self.opening_lines();
        let mut waiters = Vec::new();
        let mut batch = Some(first);
        while let Some(Batch { records, done, _place }) = batch {
            match self.lines(&records, next) {
                Ok(lines) => {
                    next += records.len() as u64;
                    bytes.extend_from_slice(&lines);
                    waiters.extend(done);
                }
                Err(e) => answer(done, Err(CommitError::Blocked(e.to_string()))),
            }
            batch = if bytes.len() < bounds::JOURNAL_WRITE { batches.try_recv().ok() } else { None };
        }
        let result = self.append(&bytes, next);
        if result.is_err() {
            self.refused += waiters.len() as u64;
        }
        for waiter in waiters {
            answer(Some(waiter), result.clone());
        }
    }

    /// While the log is blocked nobody may be left to wait for a request that unblocks it.
    fn try_again(&mut self) {
        let (bytes, next) = self.opening_lines();
        let _ = self.append(&bytes, next);
    }

    /// What has to be told first: that the log was blocked, and what was answered meanwhile without being written.
    fn opening_lines(&mut self) -> (Vec<u8>, u64) {
        let mut records = Vec::new();
        if let Some(since) = self.blocked_since {
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
            let now = Timestamp::now();
            let since = *self.lost.since.lock().unwrap_or_else(PoisonError::into_inner);
            let mut record = Record::new(Action::AuditGap, Uuid::now_v7());
            record.reason = "exchanges went through that are not, or not whole, in the log".into();
            record.qlik.repeat = Some(Repeat { count: self.told, first: since.unwrap_or(now), last: now });
            records.push(record);
        }
        let bytes = self.lines(&records, self.next).unwrap_or_default();
        (bytes, self.next + records.len() as u64)
    }

    fn lines(&self, records: &[Record], first: u64) -> Result<Vec<u8>, RecordError> {
        let now = Timestamp::now();
        let mut bytes = Vec::new();
        for (record, sequence) in records.iter().zip(first..) {
            bytes.extend_from_slice(&record.line(sequence, now, &self.observer)?);
        }
        Ok(bytes)
    }

    /// All of it, synced, or none of it.
    fn append(&mut self, bytes: &[u8], next: u64) -> Result<(), CommitError> {
        if let State::Poisoned(why) = &*self.state.borrow() {
            return Err(CommitError::Poisoned(why.clone()));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if let Err(why) = self.undisturbed() {
            return Err(self.poison(why));
        }
        if let Err(cause) = self.file.write_all(bytes) {
            return Err(self.roll_back(&cause));
        }
        if let Err(cause) = self.file.sync_data() {
            return Err(self.poison(format!("{} can't be synced: {cause}", self.path.display())));
        }
        self.committed += bytes.len() as u64;
        self.next = next;
        self.refused = 0;
        self.lost.forget(std::mem::take(&mut self.told));
        if self.blocked_since.take().is_some() {
            tracing::info!("{} can be written again", self.path.display());
            self.state.send_replace(State::Writable);
        }
        Ok(())
    }

    /// Nobody else wrote to, cut, moved or removed the file.
    fn undisturbed(&self) -> Result<(), String> {
        let path = self.path.display();
        let ours = self.file.metadata().map_err(|e| format!("{path}: {e}"))?;
        if ours.len() != self.committed {
            return Err(format!("{path} has {} bytes, and {} were written", ours.len(), self.committed));
        }
        match std::fs::metadata(&self.path) {
            Ok(there) if there.ino() == self.inode && ours.nlink() == 1 => Ok(()),
            Ok(_) => Err(format!("{path} is no longer the file that is being written")),
            Err(e) => Err(format!("{path} was moved or removed: {e}")),
        }
    }

    fn roll_back(&mut self, cause: &io::Error) -> CommitError {
        let undone = self.file.set_len(self.committed).and_then(|()| self.file.sync_data());
        if let Err(e) = undone {
            return self.poison(format!("{} can't be rolled back: {e}", self.path.display()));
        }
        let why = format!("{}: {cause}", self.path.display());
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
}

fn answer(waiter: Option<oneshot::Sender<Result<(), CommitError>>>, result: Result<(), CommitError>) {
    if let Some(waiter) = waiter {
        // A waiter that is gone needs no answer: its request was cancelled before anything was forwarded.
        let _ = waiter.send(result);
    }
}
