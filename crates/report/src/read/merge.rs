//! Reading logs: every line is verified and, where it is whole by itself, handed on as a record. Several logs become one
//! stream in the order of time, each with its own verdict.
//!
//! One log is verified on the calling thread, which takes each record as it was parsed for that. Of several, each is verified
//! on a thread of its own, and its lines wait here for their turn. How many wait is bounded, so memory does not grow with the
//! log.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use jiff::Timestamp;

use relay_log::ledger::entry::Entry;
use relay_log::threads::NoThread;
use relay_log::verify::log::{Foreign, Verified, VerifyError, Whole, skim, verify_and_read};
use relay_log::verify::log_file;

/// Lines are handed over in batches of so many bytes.
const BATCH: usize = 256 * 1024;
/// Batches of one log that wait.
const WAITING: usize = 8;
/// Logs that are read together, each with a thread that judges, those that read and hash for it, and its batches.
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
pub(crate) fn read_up_to(
    logs: &[PathBuf],
    anchors: &[PathBuf],
    sizes: &[u64],
    progress: impl FnMut(u64) + Send,
    mut each: impl FnMut(usize, &Entry<'_>) -> bool,
) -> Result<Vec<Verified>, ReadError> {
    may_be_read_together(logs)?;
    if let [log] = logs {
        let size = sizes.first().copied().unwrap_or(u64::MAX);
        return read_one(log, anchors, size, progress, |entry| each(0, entry)).map(|verified| vec![verified]);
    }
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
                .spawn_scoped(scope, move || verify_into(directory, anchors, size, told, logs.len(), &send))
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

/// Looks for records, one log after the other, without verifying the logs: `wanted` says of a record by its looks whether it
/// is one, and `each` takes those whose sum is right as well. Progress is told in records.
///
/// # Errors
/// See [`ReadError`].
pub fn find(
    logs: &[PathBuf],
    mut progress: impl FnMut(u64),
    wanted: impl Fn(&Entry<'_>) -> bool,
    mut each: impl FnMut(&Entry<'_>),
) -> Result<(), ReadError> {
    may_be_read_together(logs)?;
    for log in logs {
        skim(log, &mut progress, |line| {
            if let Some(entry) = line.entry.as_ref().filter(|entry| wanted(entry))
                && line.sum_holds()
            {
                each(entry);
            }
        })?;
    }
    Ok(())
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
fn may_be_read_together(logs: &[PathBuf]) -> Result<(), ReadError> {
    if logs.len() > LOGS {
        return Err(ReadError::TooMany(logs.len()));
    }
    let mut known: Vec<(String, &PathBuf)> = Vec::new();
    for log in logs {
        let about = log_file(log).map_err(VerifyError::from)?;
        if let Some((_, other)) = known.iter().find(|(vkey, _)| *vkey == about.vkey) {
            return Err(ReadError::Twice((*other).clone(), log.clone(), about.origin));
        }
        known.push((about.vkey, log));
    }
    Ok(())
}

fn read_one(
    log: &Path,
    anchors: &[PathBuf],
    size: u64,
    progress: impl FnMut(u64),
    mut each: impl FnMut(&Entry<'_>) -> bool,
) -> Result<Verified, ReadError> {
    let mut unreadable = 0;
    let mut verified =
        verify_and_read(log, anchors, progress, 1, |index, Whole { entry, .. }| match entry {
            _ if index >= size => true,
            Some(entry) => each(entry),
            None => {
                unreadable += 1;
                true
            }
        })?;
    verified.unreadable = unreadable;
    verified.claim_foreign_anchors()?;
    Ok(verified)
}

fn verify_into(
    log: &Path,
    anchors: &[PathBuf],
    size: u64,
    progress: impl FnMut(u64),
    beside: usize,
    send: &SyncSender<Batch>,
) -> Result<Verified, VerifyError> {
    let mut batch = Batch::default();
    let verified = verify_and_read(log, anchors, progress, beside, |index, whole| {
        if index >= size {
            return true;
        }
        let full = batch.bytes.len() + whole.line.len() > BATCH;
        if full && send.send(std::mem::take(&mut batch)).is_err() {
            return false;
        }
        batch.bytes.extend_from_slice(whole.line);
        batch.lines.push((batch.bytes.len(), whole.entry.as_ref().map(|entry| entry.time)));
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

/// Lines, one behind the other.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each ends, and its time, if it can be read as a record.
    lines: Vec<(usize, Option<Timestamp>)>,
}

/// The lines of one log as they come.
struct Feed {
    batches: Receiver<Batch>,
    batch: Batch,
    /// The place in the batch of the next line, and where it begins.
    next: (usize, usize),
    /// The time of the next line; never before that of one before it, whatever the clock did.
    time: Option<Timestamp>,
}

impl Feed {
    fn new(batches: Receiver<Batch>) -> Self {
        Self { batches, batch: Batch::default(), next: (0, 0), time: None }
    }

    /// When the next line is due; waits until there is one. `None` at the end.
    fn due(&mut self) -> Option<Timestamp> {
        let time = loop {
            if let Some((_, time)) = self.batch.lines.get(self.next.0) {
                break *time;
            }
            (self.batch, self.next) = (self.batches.recv().ok()?, (0, 0));
        };
        let time = time.or(self.time).unwrap_or(Timestamp::MIN);
        self.time = Some(self.time.map_or(time, |before| before.max(time)));
        self.time
    }

    /// Takes the next line, which is there once [`due`](Self::due) has said when.
    fn take(&mut self) -> &[u8] {
        let (line, begin) = self.next;
        let end = self.batch.lines.get(line).map_or(begin, |(end, _)| *end);
        self.next = (line + 1, end);
        &self.batch.bytes[begin..end]
    }
}

fn merge(feeds: &mut [Feed], each: &mut impl FnMut(usize, &Entry<'_>) -> bool, unreadable: &mut [u64]) {
    let mut due: Vec<Option<Timestamp>> = feeds.iter_mut().map(Feed::due).collect();
    loop {
        let first = due.iter().enumerate().filter_map(|(log, time)| Some(((*time)?, log))).min();
        let Some((_, log)) = first else { return };
        let Some(feed) = feeds.get_mut(log) else { return };
        match Entry::at(feed.take()) {
            Some(entry) if !each(log, &entry) => return,
            Some(_) => {}
            None => unreadable[log] += 1,
        }
        due[log] = feed.due();
    }
}
