//! Is this log whole, and is it what was signed: every line, every checkpoint, every anchor. Streams, and works while a
//! relay writes: what it finds is about the records that were there when it began.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use aws_lc_rs::digest::{Context, SHA256};
use jiff::{SignedDuration, Timestamp};
use rustix::io::Errno;
use serde::Serialize;

use crate::ledger::glance::Glance;
use crate::ledger::log::{LogFile, Predecessor};
use crate::ledger::merkle::{Frontier, Hash, leaf};
use crate::ledger::note::{self, CHECKPOINT, Checkpoint, KEPT, MAX_NOTE, NoteError, Verifier, anchor_name};
use crate::ledger::record::MAX_LINE;
use crate::ledger::regular_file::{self, MAX_SUMS};
use crate::ledger::segment::{self, Lines, SUMS, Segment};
use crate::ledger::tiles::{self, WIDTH};
use crate::text::hex::hex;

/// Faults that are told one by one; all are counted.
const TOLD: usize = 20;
/// A tail that no checkpoint covers may be so old; a relay signs every second.
const TAIL: SignedDuration = SignedDuration::from_mins(10);
/// How often progress is told, in records.
const PROGRESS: u64 = 1_000_000;

/// What a verification has found.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// Its folder.
    pub log: PathBuf,
    /// The log's name.
    pub origin: String,
    /// The key that its checkpoints were checked with.
    pub key: String,
    /// The log that it follows after a fork.
    pub predecessor: Option<Predecessor>,
    /// Whole records, pruned ones included.
    pub records: u64,
    /// Those that were pruned: the log says so itself, and the checkpoints hold with their hashes.
    pub pruned: u64,
    /// The root over them, in hex; absent where some are missing altogether.
    pub root: Option<String>,
    /// The newest checkpoint that holds.
    pub checkpoint: Option<Covered>,
    /// Checkpoints that hold, all kept ones among them.
    pub checkpoints: u64,
    /// Records behind the newest checkpoint.
    pub unsigned: u64,
    /// That tail is older than any that a running relay leaves.
    pub stale_tail: bool,
    /// Anchors that hold, and over how many records.
    pub anchors: Vec<Covered>,
    /// Anchors that this log is behind of, or that differ.
    pub rolled_back: Vec<String>,
    /// Anchors that hold no checkpoint of this log.
    #[serde(skip)]
    pub foreign_anchors: Vec<Foreign>,
    /// Checkpoints in the log's own folder that were named as anchors: they protect from nothing.
    pub own_anchors: Vec<PathBuf>,
    /// What is wrong with lines, segments and checkpoints, the first ones in full.
    pub damage: Vec<String>,
    /// How many of these there are.
    pub damages: u64,
    /// Exchanges that went through without being in the log, as the log itself says.
    pub gaps: u64,
    /// Bytes at the very end that are no whole line yet.
    pub half_a_line: u64,
    /// Whole lines that whoever reads on can't read as records: those of a newer program, say.
    pub unreadable: u64,
}

/// An anchor that holds no checkpoint of a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Foreign {
    /// As it was named.
    pub anchor: PathBuf,
    /// It holds one of another log.
    pub of_another: bool,
}

/// A checkpoint, and how far it reaches.
#[derive(Clone, Debug, Serialize)]
pub struct Covered {
    /// Where it was read.
    pub file: PathBuf,
    /// Records.
    pub size: u64,
    /// When it was signed.
    pub time: Option<Timestamp>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no log.
    #[error("{0} is not a log: it has no log.json; name the folder that has segments/ in it")]
    NotALog(PathBuf),
    /// Something can't be read.
    #[error("{path}: {cause}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// An anchor is none.
    #[error(
        "{0} holds no checkpoint of this log; name a checkpoint that was kept elsewhere, or what collects the relay's own log"
    )]
    NoAnchor(PathBuf),
    /// Nobody wants to read on.
    #[error("the reading was given up, because nobody takes what it gives")]
    Stopped,
    /// The key in log.json is none.
    #[error("{path} holds no key to verify with: {what}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// The verdict, worst first: the exit code of `audit verify`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Whole, signed, and no gaps.
    Fine = 0,
    /// A line, a segment or a checkpoint is not what it was.
    Damaged = 1,
    /// Behind an anchor, or another history than the anchor's.
    RolledBack = 2,
    /// The end is not covered by a checkpoint, and too old for that.
    StaleTail = 3,
    /// Whole, and it says itself that something is not in it.
    Gaps = 4,
}

impl Verified {
    /// Whoever names an anchor for one log means that one: a checkpoint of another log in its place is what somebody who has
    /// put another log there would leave.
    ///
    /// # Errors
    /// One holds no checkpoint at all: the wrong file was named.
    pub fn claim_foreign_anchors(&mut self) -> Result<(), VerifyError> {
        for Foreign { anchor, of_another } in std::mem::take(&mut self.foreign_anchors) {
            if !of_another {
                return Err(VerifyError::NoAnchor(anchor));
            }
            let what = "holds a checkpoint of another log, and none of this one";
            self.rolled_back.push(format!("the anchor {} {what}", anchor.display()));
        }
        Ok(())
    }

    /// The oldest anchor that covers anything, and the newest: what each covers can't have been changed since it was signed by
    /// whoever has the relay's own key, if it was kept out of reach since then.
    pub fn protection(&self) -> Option<(&Covered, &Covered)> {
        let covering = || self.anchors.iter().filter(|anchor| anchor.size > 0 && anchor.time.is_some());
        covering()
            .min_by_key(|anchor| (anchor.time, anchor.size))
            .zip(covering().max_by_key(|anchor| anchor.size))
    }

    /// When the oldest of them was signed.
    pub fn protected_since(&self) -> Option<Timestamp> {
        self.protection().and_then(|(oldest, _)| oldest.time)
    }

    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        if self.damages > 0 {
            Verdict::Damaged
        } else if !self.rolled_back.is_empty() {
            Verdict::RolledBack
        } else if self.stale_tail {
            Verdict::StaleTail
        } else if self.gaps > 0 {
            Verdict::Gaps
        } else {
            Verdict::Fine
        }
    }
}

/// Verifies a log against its own checkpoints and these anchors: a folder that has its newest one, a checkpoint, or any
/// text that a relay has written its own log into. Progress is told in records.
///
/// # Errors
/// See [`VerifyError`]; what is wrong with the log itself is in the result.
pub fn verify(log: &Path, anchors: &[PathBuf], progress: impl FnMut(u64)) -> Result<Verified, VerifyError> {
    let mut verified = verify_and_read(log, anchors, progress, |_, _| true)?;
    verified.claim_foreign_anchors()?;
    Ok(verified)
}

/// The same, and hands over every line that is whole by itself, with its place in the log, in order, without its line feed,
/// also behind one that is not, for as long as that gives `true`. Anchors that are of another log are told in
/// [`Verified::foreign_anchors`].
///
/// # Errors
/// As [`verify`]; or nobody wants to read on.
pub fn verify_and_read(
    log: &Path,
    anchors: &[PathBuf],
    mut progress: impl FnMut(u64),
    mut each: impl FnMut(u64, &[u8]) -> bool,
) -> Result<Verified, VerifyError> {
    let file = LogFile::path(log);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |cause| VerifyError::Io { path, cause }
    };
    let about = LogFile::read(log).map_err(io(&file))?.ok_or_else(|| VerifyError::NotALog(log.to_owned()))?;
    let key: Verifier =
        about.vkey.parse().map_err(|e| VerifyError::Key { path: file, what: format!("it {e}") })?;
    let mut run = Run::new(log, &about, key);
    // Before the lines: a relay that writes meanwhile only adds to what these cover.
    run.read_own().map_err(io(log))?;
    for anchor in anchors {
        run.read_anchor(anchor).map_err(io(anchor))?;
    }
    run.read_segments(&mut progress, &mut each).map_err(io(&log.join(segment::FOLDER)))?;
    if run.stopped {
        return Err(VerifyError::Stopped);
    }
    if let Some((path, cause)) = run.refused {
        return Err(VerifyError::Io { path, cause });
    }
    Ok(run.conclude(&about))
}

/// A checkpoint that the tree is held against once it has grown to its size.
struct Wanted {
    file: PathBuf,
    checkpoint: Checkpoint,
    anchor: bool,
}

struct Run<'l> {
    log: &'l Path,
    key: Verifier,
    wanted: BTreeMap<u64, Vec<Wanted>>,
    tree: Option<Frontier>,
    next: u64,
    last: Option<Glance>,
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

/// Records that are not there.
struct Hole {
    first: u64,
    /// The first one behind it that is.
    end: u64,
    /// From here to its end no record says that it was pruned.
    untold: u64,
    /// The record that says so of the others.
    by: u64,
}

impl<'l> Run<'l> {
    fn new(log: &'l Path, about: &LogFile, key: Verifier) -> Self {
        let mut run = Self {
            log,
            key,
            wanted: BTreeMap::new(),
            tree: Some(Frontier::default()),
            next: 0,
            last: None,
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
        if self.damage.len() < TOLD {
            self.damage.push(what);
        }
    }

    fn want(&mut self, file: &Path, checkpoint: Checkpoint, anchor: bool) {
        let wanted = Wanted { file: file.to_owned(), checkpoint, anchor };
        self.wanted.entry(wanted.checkpoint.size).or_default().push(wanted);
    }

    /// The log's own checkpoints.
    fn read_own(&mut self) -> io::Result<()> {
        let mut files = vec![self.log.join(CHECKPOINT)];
        match fs::read_dir(self.log.join(KEPT)) {
            Ok(kept) => {
                for entry in kept {
                    let path = entry?.path();
                    if path.extension().is_some_and(|extension| extension == "note") {
                        files.push(path);
                    }
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        files[1..].sort();
        for file in files {
            match regular_file::read(&file, MAX_NOTE as u64) {
                Ok(note) => match self.key.open(&note) {
                    Ok(checkpoint) => self.want(&file, checkpoint, false),
                    Err(e) => self.damaged(format!("the checkpoint {} {e}", file.display())),
                },
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    self.unread(&file, e, "");
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn read_anchor(&mut self, anchor: &Path) -> io::Result<()> {
        let file = if anchor.is_dir() { anchor.join(anchor_name(&self.key.name)) } else { anchor.to_owned() };
        let opened = match regular_file::open(&file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && anchor.is_dir() => {
                self.foreign_anchors.push(Foreign { anchor: anchor.to_owned(), of_another: false });
                return Ok(());
            }
            opened => opened?,
        };
        // What lies in the copy has come with it: whoever changed the one could change the other.
        if fs::canonicalize(&file).and_then(|file| Ok(file.starts_with(fs::canonicalize(self.log)?)))? {
            self.own_anchors.push(file);
            return Ok(());
        }
        let mut of_another = false;
        // A longer one is the log of a program.
        if let Ok(note) = regular_file::read_opened(opened, MAX_NOTE as u64) {
            match self.key.open(&note) {
                Ok(checkpoint) => {
                    self.want(&file, checkpoint, true);
                    return Ok(());
                }
                Err(NoteError::Forged) => {
                    self.rolled_back.push(format!("the anchor {} {}", file.display(), NoteError::Forged));
                    return Ok(());
                }
                Err(NoteError::NotOurs) => of_another = true,
                // The log of a program, maybe.
                Err(NoteError::Malformed) => {}
            }
        }
        let mut found = false;
        let mut lines = Lines::of_text(&file)?;
        loop {
            let line = lines.next_line()?;
            if line.is_empty() {
                break;
            }
            match note::in_line(line).map(|note| self.key.open(&note)) {
                Some(Ok(checkpoint)) => {
                    self.want(&file, checkpoint, true);
                    found = true;
                }
                Some(Err(_)) => of_another = true,
                None => {}
            }
        }
        if !found {
            self.foreign_anchors.push(Foreign { anchor: anchor.to_owned(), of_another });
        }
        Ok(())
    }

    fn read_segments(
        &mut self,
        progress: &mut impl FnMut(u64),
        each: &mut impl FnMut(u64, &[u8]) -> bool,
    ) -> io::Result<()> {
        self.check_root();
        let mut done: Option<u64> = None;
        // What comes after these is not there yet: of the newest, only as much is read as there is.
        let mut newest = segment::newest(self.log)?.map_or(0, |segment| segment.first);
        loop {
            let listed = segment::list(self.log)?;
            let left = |first: u64| done.is_none_or(|done| first > done) && first <= newest;
            let segment = listed.into_iter().find(|segment| left(segment.first));
            // One that is put away meanwhile is there under its other name, and a folder that changes while it is listed may
            // show neither.
            let plain = segment::path(self.log, self.next);
            let hidden = segment.as_ref().is_none_or(|segment| segment.first > self.next)
                && done != Some(self.next)
                && (plain.try_exists()? || segment::compressed_path(&plain).try_exists()?);
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
            let lines = match Lines::of(&segment) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    self.damaged(format!("{} can't be read: {e}", segment.path.display()));
                    done = Some(segment.first);
                    continue;
                }
                lines => lines?,
            };
            self.read_segment(&segment, lines, segment.first == newest, progress, each);
            if self.stopped {
                return Ok(());
            }
            done = Some(segment.first);
        }
    }

    fn read_segment(
        &mut self,
        segment: &Segment,
        mut lines: Lines,
        newest: bool,
        progress: &mut impl FnMut(u64),
        each: &mut impl FnMut(u64, &[u8]) -> bool,
    ) {
        let mut hash = Context::new(&SHA256);
        loop {
            let line = match lines.next_line() {
                Ok(line) => line,
                Err(e) => return self.unread(&segment.path, e, &format!(" at record {}", self.next)),
            };
            if line.is_empty() {
                break;
            }
            hash.update(line);
            let Some((b'\n', whole)) = line.split_last() else {
                let length = line.len() as u64;
                if line.len() > MAX_LINE {
                    let junk = line.to_vec();
                    self.read_line(&junk, &segment.path);
                    match lines.skip_line(|bytes| hash.update(bytes)) {
                        Ok(()) => continue,
                        Err(e) => return self.unread(&segment.path, e, &format!(" at record {}", self.next)),
                    }
                }
                if newest {
                    self.half = length;
                } else {
                    let next = self.next;
                    self.damaged(format!("record {next} ({}) is cut short", segment.path.display()));
                }
                break;
            };
            let index = self.next;
            if self.read_line(whole, &segment.path) && !each(index, whole) {
                self.stopped = true;
                return;
            }
            if self.next.is_multiple_of(PROGRESS) {
                progress(self.next);
            }
        }
        self.check_sums(segment, hash.finish().as_ref());
    }

    /// Whether the line is whole by itself.
    fn read_line(&mut self, line: &[u8], path: &Path) -> bool {
        let (index, hash) = (self.next, leaf(line));
        let whole = Glance::of_whole(line);
        let is_whole = whole.is_some();
        match whole.as_ref().map(|whole| whole.sequence) {
            Some(sequence) if sequence == index => {
                // Right by itself; but whoever can compute a sum can write a line.
                if let Some(stored) = self.stored_leaf(index)
                    && stored != hash
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
        if let Some(glance) = whole.or_else(|| Glance::at(line)) {
            if glance.action == "audit.gap" {
                self.gaps = self.gaps.saturating_add(glance.repeat.unwrap_or(1));
            }
            self.note_pruned(index, glance.pruned);
            self.last = Some(glance);
        }
        if let Some(tree) = &mut self.tree {
            tree.push(hash);
        }
        match self.next.checked_add(1) {
            Some(next) => self.next = next,
            None => self.damaged(format!("record {index} ({}) has the last number there is", path.display())),
        }
        self.check_root();
        is_whole
    }

    /// The hash of a record as it was kept when it was written; a tile at a time.
    fn stored_leaf(&mut self, index: u64) -> Option<Hash> {
        let tile = index / WIDTH;
        if self.tile.0 != tile {
            self.tile = (tile, tiles::read(self.log, tile, WIDTH).unwrap_or_default());
        }
        self.tile.1.get(usize::try_from(index % WIDTH).ok()?).copied()
    }

    /// Holds the tree against the checkpoints of its size.
    fn check_root(&mut self) {
        let Some(wanted) = self.wanted.remove(&self.next) else { return };
        let Some(root) = self.tree.as_ref().map(Frontier::root) else {
            for Wanted { file, anchor, .. } in wanted {
                self.differs(anchor, format!("{} can't be checked: records are missing", file.display()));
            }
            return;
        };
        for Wanted { file, checkpoint, anchor } in wanted {
            let Checkpoint { size, time, .. } = checkpoint;
            if root == checkpoint.root {
                let covered = Covered { file, size, time };
                if anchor { self.anchors.push(covered) } else { self.held.push(covered) }
            } else {
                let what = format!(
                    "the first {size} records are not those of the checkpoint {} (root {})",
                    file.display(),
                    hex(&checkpoint.root)
                );
                self.differs(anchor, what);
            }
        }
    }

    fn differs(&mut self, anchor: bool, what: String) {
        if anchor { self.rolled_back.push(what) } else { self.damaged(what) }
    }

    fn note_missing(&mut self, first: u64) {
        let next = self.next;
        if first < next {
            return self.damaged(format!(
                "the segment that starts with record {first} repeats records before {next}"
            ));
        }
        // Whether that is damage is told by what comes later.
        self.holes.push(Hole { first: next, end: first, untold: next, by: 0 });
        // Their hashes may be there still, and what comes after can be checked all the same.
        while self.next < first && self.tree.is_some() {
            let (tile, at) = (self.next / WIDTH, self.next % WIDTH);
            let Ok(hashes) = tiles::read(self.log, tile, WIDTH.min(first - tile * WIDTH)) else {
                self.tree = None;
                break;
            };
            for hash in hashes.into_iter().skip(usize::try_from(at).unwrap_or(usize::MAX)) {
                if let Some(tree) = &mut self.tree {
                    tree.push(hash);
                }
                self.next += 1;
                self.check_root();
            }
        }
        let unproven: Vec<u64> = self.wanted.range(self.next..=first).map(|(size, _)| *size).collect();
        for size in unproven {
            self.next = size;
            self.check_root();
        }
        self.next = first;
    }

    /// What a record says was pruned is not missing, if a checkpoint covers the record.
    fn note_pruned(&mut self, index: u64, pruned: Option<(u64, u64)>) {
        let Some((from, to)) = pruned else { return };
        for hole in &mut self.holes {
            let untold = hole.end.min(to.saturating_add(1));
            if from <= hole.first && untold > hole.untold {
                (hole.untold, hole.by) = (untold, index);
            }
        }
        // Where that happens while this runs, its checkpoint is newer than those that were read first.
        if self.wanted.last_key_value().is_none_or(|(size, _)| *size <= index)
            && let Ok(note) = regular_file::read(&self.log.join(CHECKPOINT), MAX_NOTE as u64)
            && let Ok(checkpoint) = self.key.open(&note)
            && checkpoint.size > index
        {
            self.want(&self.log.join(CHECKPOINT), checkpoint, false);
        }
    }

    /// How many records were pruned; all others that are not there are damage, and told first.
    fn judge_holes(&mut self, signed: u64) -> u64 {
        let mut pruned = 0;
        for hole in std::mem::take(&mut self.holes).into_iter().rev() {
            let Hole { first, end, untold, by } = hole;
            let told = if by < signed { untold } else { first };
            pruned += told - first;
            if told < end {
                let said = match told < untold {
                    true => format!(
                        "; that they were pruned is said by record {by}, which no checkpoint that holds covers: hashes/ is \
                         damaged, or somebody else wrote that"
                    ),
                    false => String::new(),
                };
                let what =
                    format!("records {told} to {} are missing: their segment is not there{said}", end - 1);
                self.damages += 1;
                self.damage.insert(0, what);
                self.damage.truncate(TOLD);
            }
        }
        pruned
    }

    /// Read anew for each segment: one that was put away meanwhile is listed by now.
    fn check_sums(&mut self, segment: &Segment, hash: &[u8]) {
        let file = self.log.join(segment::FOLDER).join(SUMS);
        let sums = match regular_file::read(&file, MAX_SUMS) {
            Ok(sums) => sums,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return self.unread(&file, e, ""),
        };
        let sums = String::from_utf8_lossy(&sums);
        let plain = segment::path(self.log, segment.first);
        let listed = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let mut lines = sums.split_inclusive('\n');
            lines.find_map(|line| {
                line.strip_suffix('\n')?.strip_suffix(&*name)?.strip_suffix("  ").map(str::to_owned)
            })
        };
        let mut wrong = Vec::new();
        let mut hold = |path: &Path, hash: &[u8]| match listed(path) {
            Some(sum) if sum == hex(hash) => {}
            Some(_) => wrong.push(format!("{} is not what {SUMS} says", segment.path.display())),
            None if segment.compressed => {
                wrong.push(format!("{} is not in {SUMS}", path.display()));
            }
            // Not put away yet.
            None => {}
        };
        hold(&plain, hash);
        if segment.compressed {
            match regular_file::open(&segment.path).and_then(|mut file| regular_file::hash_of(&mut file)) {
                Ok(packed) => hold(&segment.path, &packed),
                // Pruned meanwhile; what it held was right or not by then.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => self.unread(&segment.path, e, ""),
            }
        }
        wrong.into_iter().for_each(|what| self.damaged(what));
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
        let last_at = self.last.as_ref().map(|last| last.time);
        // Without a signature anybody may have written it, and dated it as they like.
        let newest = self.held.iter().chain(&self.anchors).max_by_key(|covered| covered.size);
        let stale_tail = match newest {
            Some(newest) if newest.size >= records => false,
            Some(Covered { time: signed_at, .. }) => last_at.is_some_and(|last| {
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
