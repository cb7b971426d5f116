//! Is this log whole, and is it what was signed: every line, every checkpoint, every anchor. Streams, and works while a
//! relay writes: what it finds is about the records that were there when it began.
//!
//! The calling thread judges the lines in their order and parses each once; the hashes of lines and files are made ahead of it
//! (`hashed`).

mod checkpoints;
mod hashed;
mod holes;
mod sums;
mod verdict;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use jiff::{SignedDuration, Timestamp};
use rustix::io::Errno;

use self::checkpoints::Wanted;
use self::hashed::{Hashed, HashedLine, Reader, Step};
use self::holes::Hole;
pub use self::verdict::{Covered, Foreign, Verdict, Verified, VerifyError};
use super::{LogError, log_file};
use crate::bounds;
use crate::ledger::entry::Entry;
use crate::ledger::glance::{Glance, sum_holds};
use crate::ledger::log::LogFile;
use crate::ledger::merkle::{Frontier, Hash};
use crate::ledger::note::{CHECKPOINT, MAX_NOTE, Verifier};
use crate::ledger::regular_file;
use crate::ledger::segment::{self, Segment};
use crate::ledger::tiles::{self, WIDTH};
use crate::text::hex::hex;

/// A tail that no checkpoint covers may be so old; a relay signs every second.
const TAIL: SignedDuration = SignedDuration::from_mins(10);
/// How often progress is told, in records.
const PROGRESS: u64 = 1_000_000;

/// Verifies a log against its own checkpoints and these anchors: a folder that has its newest one, a checkpoint, or any
/// text that a relay has written its own log into. Progress is told in records.
///
/// # Errors
/// See [`VerifyError`]; what is wrong with the log itself is in the result.
pub fn verify(log: &Path, anchors: &[PathBuf], progress: impl FnMut(u64)) -> Result<Verified, VerifyError> {
    let mut verified = verify_and_read(log, anchors, progress, 1, |_, _| true)?;
    verified.claim_foreign_anchors()?;
    Ok(verified)
}

/// As [`verify`], and gives `each` every line that is whole by itself, with its place in the log, in order, also behind one
/// that is not, for as long as `each` returns `true`. Anchors that are of another log are told in
/// [`Verified::foreign_anchors`]. `beside` is how many logs are read at the same time: they share the processors.
///
/// # Errors
/// As [`verify`]; or nobody wants to read on.
pub fn verify_and_read(
    log: &Path,
    anchors: &[PathBuf],
    mut progress: impl FnMut(u64),
    beside: usize,
    mut each: impl FnMut(u64, &Whole<'_>) -> bool,
) -> Result<Verified, VerifyError> {
    let (about, key) = open(log)?;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |cause| LogError::Io { path, cause }
    };
    let mut run = Run::new(log, &about, key, hashers(beside));
    // Before the lines: a relay that writes meanwhile only adds to what these cover.
    run.read_own().map_err(io(log))?;
    for anchor in anchors {
        run.read_anchor(anchor).map_err(io(anchor))?;
    }
    run.read_segments(&mut progress, &mut each)?;
    run.is_read()?;
    Ok(run.conclude(&about))
}

/// Gives `each` every line that looks like a record, in order, without asking whether the log is what was signed: whoever
/// takes anything from one must see for itself that its [sum](Whole::sum_holds) is right.
///
/// # Errors
/// As [`verify`].
pub fn skim(
    log: &Path,
    mut progress: impl FnMut(u64),
    mut each: impl FnMut(&Whole<'_>),
) -> Result<(), VerifyError> {
    let (about, key) = open(log)?;
    let mut run = Run::new(log, &about, key, 0);
    run.tree = None;
    run.read_segments(&mut progress, &mut |_, line| {
        each(line);
        true
    })?;
    run.is_read()
}

/// What a log says of itself, and the key to verify it with.
fn open(log: &Path) -> Result<(LogFile, Verifier), VerifyError> {
    let about = log_file(log)?;
    match about.vkey.parse() {
        Ok(key) => Ok((about, key)),
        Err(e) => Err(VerifyError::Key { path: LogFile::path(log), what: format!("it {e}") }),
    }
}

/// The threads that hash the lines of one of so many logs.
fn hashers(beside: usize) -> usize {
    (available_parallelism().map_or(1, NonZero::get) / beside.max(1)).clamp(1, bounds::HASHERS)
}

/// A line that is whole by itself: its sum is right (for [`skim`], whoever takes it looks at that), and it shows where it
/// belongs.
#[derive(Debug)]
pub struct Whole<'a> {
    /// As it lies on disk, without its line feed.
    pub line: &'a [u8],
    /// Its record; absent where it is one of a newer program that can't be read.
    pub entry: Option<Entry<'a>>,
    shown: Shown,
}

impl<'a> Whole<'a> {
    /// Whether its sum is right, for one that was not verified.
    pub fn sum_holds(&self) -> bool {
        sum_holds(self.line)
    }

    fn of(line: &'a [u8]) -> Option<Self> {
        if let Some(entry) = Entry::as_written(line) {
            return Some(Self { line, shown: Shown::from(&entry), entry: Some(entry) });
        }
        // What is no outline of a record is none, however much of one can be read in it.
        let shown = Shown::at(line)?;
        Some(Self { line, entry: Entry::parsed(line), shown })
    }
}

/// What the verdict needs of a line.
#[derive(Clone, Copy, Debug)]
struct Shown {
    sequence: u64,
    time: Timestamp,
    /// Exchanges that went through without being in the log, as it says.
    gaps: u64,
    /// The records that it says were pruned, the first and the last of them.
    pruned: Option<(u64, u64)>,
}

impl Shown {
    /// Also of a line that was changed, or that is no record which this program can read.
    fn at(line: &[u8]) -> Option<Self> {
        let Glance { sequence, action, time, repeat, pruned, .. } = Glance::at(line)?;
        Some(Self { sequence, time, gaps: gaps(&action, repeat), pruned })
    }
}

impl From<&Entry<'_>> for Shown {
    fn from(entry: &Entry<'_>) -> Self {
        let said = &entry.qlik;
        Self {
            sequence: entry.sequence,
            time: entry.time,
            gaps: gaps(&entry.action, said.repeat.map(|repeat| repeat.count)),
            pruned: said.from_index.zip(said.to_index).filter(|_| &*entry.action == "audit.pruned"),
        }
    }
}

fn gaps(action: &str, repeat: Option<u64>) -> u64 {
    if action == "audit.gap" { repeat.unwrap_or(1) } else { 0 }
}

struct Run<'l> {
    log: &'l Path,
    key: Verifier,
    /// Threads that hash; where there are none, lines are given as they come, and nothing is judged.
    hashers: usize,
    wanted: BTreeMap<u64, Vec<Wanted>>,
    tree: Option<Frontier>,
    next: u64,
    /// The time of the last record.
    last_at: Option<Timestamp>,
    held: Vec<Covered>,
    anchors: Vec<Covered>,
    rolled_back: Vec<String>,
    foreign_anchors: Vec<Foreign>,
    own_anchors: Vec<PathBuf>,
    damage: Vec<String>,
    damages: u64,
    gaps: u64,
    half: u64,
    tile: (u64, Vec<Hash>),
    stopped: bool,
    /// The first file that the system would not let be read.
    refused: Option<(PathBuf, io::Error)>,
    holes: Vec<Hole>,
}

impl<'l> Run<'l> {
    fn new(log: &'l Path, about: &LogFile, key: Verifier, hashers: usize) -> Self {
        let mut run = Self {
            log,
            key,
            hashers,
            wanted: BTreeMap::new(),
            tree: Some(Frontier::default()),
            next: 0,
            last_at: None,
            held: Vec::new(),
            anchors: Vec::new(),
            rolled_back: Vec::new(),
            foreign_anchors: Vec::new(),
            own_anchors: Vec::new(),
            damage: Vec::new(),
            damages: 0,
            gaps: 0,
            half: 0,
            tile: (u64::MAX, Vec::new()),
            stopped: false,
            refused: None,
            holes: Vec::new(),
        };
        if about.origin != run.key.name {
            run.damaged("log.json names one log and the key of another".into());
        }
        run
    }

    /// Whether all was read that there is.
    fn is_read(&mut self) -> Result<(), VerifyError> {
        match self.refused.take() {
            _ if self.stopped => Err(VerifyError::Stopped),
            Some((path, cause)) => Err(LogError::Io { path, cause }.into()),
            None => Ok(()),
        }
    }

    /// Notes a file that can't be read. That is damage, unless the system refuses: then nothing is known about the log.
    fn unread(&mut self, path: &Path, e: io::Error, place: &str) {
        use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
        let is_other = matches!(e.kind(), IsADirectory | NotADirectory | NotFound)
            || e.raw_os_error() == Some(Errno::LOOP.raw_os_error());
        match e.raw_os_error() {
            Some(_) if !is_other => drop(self.refused.get_or_insert_with(|| (path.to_owned(), e))),
            _ => self.damaged(format!("{} can't be read{place}: {e}", path.display())),
        }
    }

    fn damaged(&mut self, what: String) {
        self.damages += 1;
        if self.damage.len() < bounds::FAULTS_LISTED {
            self.damage.push(what);
        }
    }

    fn read_segments(
        &mut self,
        progress: &mut impl FnMut(u64),
        each: &mut impl FnMut(u64, &Whole<'_>) -> bool,
    ) -> Result<(), VerifyError> {
        let folder = self.log.join(segment::FOLDER);
        let io = |cause| LogError::Io { path: folder.clone(), cause };
        self.check_root();
        let mut done: Option<u64> = None;
        // What comes after these is not there yet: of the newest, only as much is read as there is.
        let mut newest = segment::newest(self.log).map_err(io)?.map_or(0, |segment| segment.first);
        loop {
            let listed = segment::list(self.log).map_err(io)?;
            let left = |first: u64| done.is_none_or(|done| first > done) && first <= newest;
            let segment = listed.into_iter().find(|segment| left(segment.first));
            // One that is put away meanwhile is there under its other name, and a folder that changes while it is listed may
            // show neither.
            let plain = segment::path(self.log, self.next);
            let hidden = segment.as_ref().is_none_or(|segment| segment.first > self.next)
                && done != Some(self.next)
                && (plain.try_exists().map_err(io)?
                    || segment::compressed_path(&plain).try_exists().map_err(io)?);
            let segment = match segment {
                Some(_) if hidden => continue,
                None if hidden && !self.wanted.is_empty() => {
                    newest = self.next;
                    continue;
                }
                None => return Ok(()),
                Some(segment) => segment,
            };
            if segment.first != self.next {
                self.note_missing(segment.first);
            }
            let reader = match Reader::open(&segment) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    self.damaged(format!("{} can't be read: {e}", segment.path.display()));
                    done = Some(segment.first);
                    continue;
                }
                reader => reader.map_err(io)?,
            };
            let hashed = Hashed::start(reader, self.hashers)?;
            self.read_segment(&segment, hashed, segment.first == newest, progress, each);
            if self.stopped {
                return Ok(());
            }
            done = Some(segment.first);
        }
    }

    fn read_segment(
        &mut self,
        segment: &Segment,
        mut hashed: Hashed,
        newest: bool,
        progress: &mut impl FnMut(u64),
        each: &mut impl FnMut(u64, &Whole<'_>) -> bool,
    ) {
        loop {
            let batch = match hashed.next() {
                Step::Lines(batch) => batch,
                Step::CaughtUp => continue,
                Step::Failed(e) => {
                    return self.unread(&segment.path, e, &format!(" at record {}", self.next));
                }
                Step::End(_) if self.hashers == 0 => return,
                Step::End(end) => {
                    match end.torn {
                        0 => {}
                        length if newest => self.half = length as u64,
                        _ => self.damaged(format!(
                            "record {} ({}) is cut short",
                            self.next,
                            segment.path.display()
                        )),
                    }
                    return self.check_sums(segment, &end);
                }
            };
            for line in batch.lines() {
                let index = self.next;
                let whole = match self.hashers {
                    0 => self.pass_over(&line),
                    _ => self.read_line(&line, &segment.path),
                };
                if line.too_long {
                    continue;
                }
                if whole.is_some_and(|whole| !each(index, &whole)) {
                    self.stopped = true;
                    return;
                }
                if self.next.is_multiple_of(PROGRESS) {
                    progress(self.next);
                }
            }
        }
    }

    /// Gives the next line if it looks like a record.
    fn pass_over<'b>(&mut self, line: &HashedLine<'b>) -> Option<Whole<'b>> {
        self.next = self.next.saturating_add(1);
        Whole::of(line.bytes)
    }

    /// Judges the next line, and gives it if it is whole by itself.
    fn read_line<'b>(&mut self, line: &HashedLine<'b>, path: &Path) -> Option<Whole<'b>> {
        let index = self.next;
        let whole = line.sum_holds.then(|| Whole::of(line.bytes)).flatten();
        let shown = match &whole {
            Some(whole) => Some(whole.shown),
            None => Shown::at(line.bytes),
        };
        match whole.as_ref().map(|whole| whole.shown.sequence) {
            Some(sequence) if sequence == index => {
                // Right by itself; but whoever can compute a sum can write a line.
                if let Some(stored) = self.stored_leaf(index)
                    && stored != line.leaf
                {
                    self.damaged(format!(
                        "record {index} ({}) is not the one that was written: its hash differs from the one kept in hashes/",
                        path.display()
                    ));
                }
            }
            Some(sequence) => self.damaged(format!(
                "record {index} ({}) has the number {sequence}: records were removed, added or moved",
                path.display()
            )),
            None => self.damaged(format!(
                "record {index} ({}) was changed: its sum does not match what it says",
                path.display()
            )),
        }
        if let Some(Shown { time, gaps, pruned, .. }) = shown {
            self.gaps = self.gaps.saturating_add(gaps);
            self.note_pruned(index, pruned);
            self.last_at = Some(time);
        }
        if let Some(tree) = &mut self.tree {
            tree.push(line.leaf);
        }
        match self.next.checked_add(1) {
            Some(next) => self.next = next,
            None => self.damaged(format!("record {index} ({}) has the last number there is", path.display())),
        }
        self.check_root();
        whole
    }

    /// The hash of a record as it was kept when it was written; a tile at a time.
    fn stored_leaf(&mut self, index: u64) -> Option<Hash> {
        let tile = index / WIDTH;
        if self.tile.0 != tile {
            self.tile = (tile, tiles::read(self.log, tile, WIDTH).unwrap_or_default());
        }
        self.tile.1.get(usize::try_from(index % WIDTH).ok()?).copied()
    }

    fn is_signed_by_now(&self) -> bool {
        let note = regular_file::read(&self.log.join(CHECKPOINT), MAX_NOTE as u64);
        note.is_ok_and(|note| self.key.open(&note).is_ok())
    }

    fn conclude(mut self, about: &LogFile) -> Verified {
        let records = self.next;
        for (size, wanted) in std::mem::take(&mut self.wanted) {
            for Wanted { file, anchor, .. } in wanted {
                let what = format!(
                    "the log has {records} whole records, and the checkpoint {} is over {size}: {} are missing at the end",
                    file.display(),
                    size - records.min(size)
                );
                self.differs(anchor, what);
            }
        }
        let checkpoint = self.held.iter().max_by_key(|covered| covered.size).cloned();
        let signed = checkpoint.as_ref().map_or(0, |covered| covered.size);
        let unsigned = records - signed;
        let pruned = self.judge_holes(signed);
        // Without a signature anybody may have written it, and dated it as they like.
        let newest = self.held.iter().chain(&self.anchors).max_by_key(|covered| covered.size);
        let stale_tail = match newest {
            Some(newest) if newest.size >= records => false,
            Some(Covered { time: signed_at, .. }) => self.last_at.is_some_and(|last| {
                signed_at.is_some_and(|signed| last.duration_since(signed) > TAIL)
                    || Timestamp::now().duration_since(last).abs() > TAIL
            }),
            // A relay that has just begun signs its first one while this reads.
            None => records > 0 && !self.is_signed_by_now(),
        };
        Verified {
            log: self.log.to_owned(),
            origin: about.origin.clone(),
            key: about.vkey.clone(),
            predecessor: about.predecessor.clone(),
            records,
            pruned,
            root: self.tree.as_ref().map(|tree| hex(&tree.root())),
            checkpoint,
            checkpoints: self.held.len() as u64,
            unsigned,
            stale_tail,
            anchors: self.anchors,
            rolled_back: self.rolled_back,
            foreign_anchors: self.foreign_anchors,
            own_anchors: self.own_anchors,
            damage: self.damage,
            damages: self.damages,
            gaps: self.gaps,
            half_a_line: self.half,
            unreadable: 0,
        }
    }
}

#[cfg(test)]
mod tests;
