//! Reading logs: every line is verified and, where it is whole by itself, handed on as a record. Several logs become one
//! stream in the order of time, each with its own verdict.
//!
//! Each log is hashed on a thread of its own while its records are looked at here. What waits between the two is bounded,
//! so memory does not grow with the log.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use jiff::Timestamp;

use relay_log::ledger::entry::Entry;
use relay_log::ledger::log::LogFile;
use relay_log::threads::NoThread;
use relay_log::verify::log::{Foreign, Verified, VerifyError, verify_and_read};

/// Lines are handed over in batches of so many bytes.
const BATCH: usize = 256 * 1024;
/// Batches of one log that wait.
const WAITING: usize = 8;
/// Logs that are read together, each with a thread and its batches.
const LOGS: usize = 64;

/// Why logs can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// One of them can't be.
    #[error("{0}")]
    Verify(#[from] VerifyError),
    /// Two are copies of one.
    #[error("{0} and {1} are copies of one log, {2}; name the longer one alone")]
    Twice(PathBuf, PathBuf, String),
    /// More than are read together.
    #[error("{0} logs are more than the {LOGS} that are read together")]
    TooMany(usize),
    /// The system gives no thread.
    #[error("{0}")]
    Thread(#[from] NoThread),
}

/// Verifies these logs against these anchors and gives each record of them, with the place of its log in the list, for as
/// long as `each` gives `true`. Progress is told in records of all logs.
///
/// # Errors
/// See [`ReadError`]; what is wrong with a log itself is in its result.
pub fn read(
    logs: &[PathBuf],
    anchors: &[PathBuf],
    progress: impl FnMut(u64) + Send,
    each: impl FnMut(usize, &Entry<'_>) -> bool,
) -> Result<Vec<Verified>, ReadError> {
    read_up_to(logs, anchors, &[], progress, each)
}

/// The same, and gives of each log only so many records, the first ones, where that is told; all are verified.
///
/// # Errors
/// As [`read`].
pub fn read_up_to(
    logs: &[PathBuf],
    anchors: &[PathBuf],
    sizes: &[u64],
    progress: impl FnMut(u64) + Send,
    mut each: impl FnMut(usize, &Entry<'_>) -> bool,
) -> Result<Vec<Verified>, ReadError> {
    if logs.len() > LOGS {
        return Err(ReadError::TooMany(logs.len()));
    }
    are_different(logs)?;
    let progress = Mutex::new(Progress { each_log: vec![0; logs.len()], tell: progress });
    thread::scope(|scope| {
        let (mut feeds, mut readers) = (Vec::new(), Vec::new());
        for (log, directory) in logs.iter().enumerate() {
            let (send, receive) = sync_channel(WAITING);
            let size = sizes.get(log).copied().unwrap_or(u64::MAX);
            let progress = &progress;
            let told = move |records| {
                if let Ok(mut progress) = progress.lock() {
                    progress.note(log, records);
                }
            };
            let reader = thread::Builder::new()
                .name("verify".into())
                .spawn_scoped(scope, move || verify_into(directory, anchors, size, told, &send))
                .map_err(NoThread)?;
            readers.push(reader);
            feeds.push(Feed::new(receive));
        }
        let mut unreadable = vec![0; feeds.len()];
        merge(&mut feeds, &mut each, &mut unreadable);
        // Where nobody wants to read on, those who hash wait for nobody.
        drop(feeds);
        // A thread that has ended without a word is a fault of ours, and goes on as one.
        let results = readers
            .into_iter()
            .map(|reader| reader.join().unwrap_or_else(|why| std::panic::resume_unwind(why)));
        let mut verified = results.collect::<Result<Vec<_>, _>>()?;
        for (log, unreadable) in verified.iter_mut().zip(unreadable) {
            log.unreadable = unreadable;
        }
        give_back_anchors(&mut verified)?;
        Ok(verified)
    })
}

struct Progress<F> {
    each_log: Vec<u64>,
    tell: F,
}

impl<F: FnMut(u64)> Progress<F> {
    fn note(&mut self, log: usize, records: u64) {
        if let Some(known) = self.each_log.get_mut(log) {
            *known = records;
        }
        (self.tell)(self.each_log.iter().sum());
    }
}

/// A log that is there twice would count everything twice.
fn are_different(logs: &[PathBuf]) -> Result<(), ReadError> {
    let mut known: Vec<(String, &PathBuf)> = Vec::new();
    for log in logs {
        let path = LogFile::path(log);
        let about = LogFile::read(log).map_err(|cause| VerifyError::Io { path, cause })?;
        let about = about.ok_or_else(|| VerifyError::NotALog(log.clone()))?;
        if let Some((_, other)) = known.iter().find(|(vkey, _)| *vkey == about.vkey) {
            return Err(ReadError::Twice((*other).clone(), log.clone(), about.origin));
        }
        known.push((about.vkey, log));
    }
    Ok(())
}

fn verify_into(
    log: &Path,
    anchors: &[PathBuf],
    size: u64,
    progress: impl FnMut(u64),
    send: &SyncSender<Vec<u8>>,
) -> Result<Verified, VerifyError> {
    let mut batch = Vec::with_capacity(BATCH);
    let verified = verify_and_read(log, anchors, progress, |index, line| {
        if index >= size {
            return true;
        }
        let full = batch.len() + line.len() >= BATCH;
        if full && send.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).is_err() {
            return false;
        }
        batch.extend_from_slice(line);
        batch.push(b'\n');
        true
    });
    let _ = send.send(batch);
    verified
}

/// An anchor is of one of several logs; one that is of none must not pass for a check.
fn give_back_anchors(verified: &mut [Verified]) -> Result<(), VerifyError> {
    let Some((first, rest)) = verified.split_first_mut() else { return Ok(()) };
    let is_of_none = |foreign: &Foreign| {
        rest.iter().all(|log| log.foreign_anchors.iter().any(|other| other.anchor == foreign.anchor))
    };
    first.foreign_anchors.retain(is_of_none);
    rest.iter_mut().for_each(|log| log.foreign_anchors.clear());
    first.claim_foreign_anchors()
}

/// The lines of one log as they come.
struct Feed {
    batches: Receiver<Vec<u8>>,
    batch: Vec<u8>,
    next: usize,
    /// The time of the next line; never before that of one before it, whatever the clock did.
    time: Option<Timestamp>,
}

impl Feed {
    fn new(batches: Receiver<Vec<u8>>) -> Self {
        Self { batches, batch: Vec::new(), next: 0, time: None }
    }

    /// The next line, which is there after [`fill`](Self::fill) has said so.
    fn line(&self) -> &[u8] {
        let rest = self.batch.get(self.next..).unwrap_or_default();
        rest.split(|byte| *byte == b'\n').next().unwrap_or_default()
    }

    fn advance(&mut self) {
        self.next += self.line().len() + 1;
    }

    /// Waits until there is a line; `false` at the end.
    fn fill(&mut self) -> bool {
        while self.next >= self.batch.len() {
            let Ok(batch) = self.batches.recv() else { return false };
            (self.batch, self.next) = (batch, 0);
        }
        true
    }

    /// When the next line is due.
    fn due(&mut self) -> Option<Timestamp> {
        if !self.fill() {
            return None;
        }
        let time = Entry::at(self.line()).map(|entry| entry.time).or(self.time).unwrap_or(Timestamp::MIN);
        self.time = Some(self.time.map_or(time, |before| before.max(time)));
        self.time
    }
}

fn merge(feeds: &mut [Feed], each: &mut impl FnMut(usize, &Entry<'_>) -> bool, unreadable: &mut [u64]) {
    if let [feed] = feeds {
        while feed.fill() {
            for line in feed.batch.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                match Entry::at(line) {
                    Some(entry) if !each(0, &entry) => return,
                    Some(_) => {}
                    None => unreadable[0] += 1,
                }
            }
            feed.next = feed.batch.len();
        }
        return;
    }
    let mut due: Vec<Option<Timestamp>> = feeds.iter_mut().map(Feed::due).collect();
    loop {
        let first = due.iter().enumerate().filter_map(|(log, time)| Some(((*time)?, log))).min();
        let Some((_, log)) = first else { return };
        let Some(feed) = feeds.get_mut(log) else { return };
        match Entry::at(feed.line()) {
            Some(entry) if !each(log, &entry) => return,
            Some(_) => {}
            None => unreadable[log] += 1,
        }
        feed.advance();
        due[log] = feed.due();
    }
}
