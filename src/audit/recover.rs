//! Opening the log at start-up: the lock, the newest checkpoint there is, the walk, the torn tail that a crash may
//! leave, and the tail that is not known to be on disk.
//!
//! A log that is behind its newest checkpoint, or of which that is no prefix, was rolled back or changed: nothing is
//! written to it any more.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;

use jiff::Timestamp;
use rustix::fs::IFlags;

use super::disk::{self, Disk};
use super::tree::{self, Tree};
use crate::bounds;
use relay_log::ledger::glance::Glance;
use relay_log::ledger::log::LogFile;
use relay_log::ledger::merkle::{Hash, leaf};
use relay_log::ledger::note::{CHECKPOINT, Checkpoint, KEPT, MAX_NOTE, Verifier, anchor_name};
use relay_log::ledger::segment::{self, Segment, Walk};
use relay_log::ledger::{regular_file, tiles};
use relay_log::text::hex::hex;
use relay_log::threads::NoThread;

/// A log that may be written from here on.
#[derive(Debug)]
pub(super) struct OpenedLog {
    /// Held for as long as the log is.
    pub(super) lock: File,
    /// The active segment, which is there.
    pub(super) segment: Segment,
    /// Its length: whole lines only.
    pub(super) length: u64,
    /// The tree over all records.
    pub(super) tree: Tree,
    /// What the last run has left.
    pub(super) found: LastRun,
}

/// What the last run has left.
#[derive(Debug, Default)]
pub(super) struct LastRun {
    /// The last record; `None` in a new log.
    pub(super) last: Option<Glance>,
    /// Bytes behind the last whole line, and where they are kept.
    pub(super) torn: Option<(u64, PathBuf)>,
    /// Records that no checkpoint covers.
    pub(super) unsigned: u64,
}

impl LastRun {
    /// Whether the last run ended as it should. What a verb has written since then says how it found the log.
    pub(super) fn is_clean(&self) -> bool {
        let stopped = self.last.as_ref().is_some_and(|last| match last.action.as_str() {
            "relay.stop" => true,
            "relay.start" => false,
            _ => last.previous_stop.as_deref() == Some("clean"),
        });
        stopped && self.torn.is_none() && self.unsigned == 0
    }
}

/// Why the log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another relay writes it.
    #[error(
        "another license-relay writes {directory} ({holder}); stop it first, or give this one a folder of its own"
    )]
    Locked {
        /// The log's folder.
        directory: PathBuf,
        /// What the holder wrote into the lock.
        holder: String,
    },
    /// The system refused.
    #[error("{path}: {cause}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// There is no thread to write it.
    #[error("{0}")]
    Thread(#[from] NoThread),
    /// It is behind a checkpoint, or not what that has signed.
    #[error(
        "{directory} {what}; it was restored from a copy, or changed. Put the newer log back; if there is none, run: license-relay \
         audit fork --reason \"...\""
    )]
    WentBack {
        /// The log's folder.
        directory: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Of what was pruned, the hashes are lost or changed, and they are the only copy.
    #[error(
        "{directory} can't be proven any more: the records before {pruned} were pruned, and their hashes are not right ({what}). Put \
         hashes/ back from a copy of the log; if there is none, run: license-relay audit fork --reason \"...\""
    )]
    Unproven {
        /// The log's folder.
        directory: PathBuf,
        /// The first record that is there.
        pruned: u64,
        /// What is wrong with the hashes.
        what: String,
    },
    /// What a crash has left can't be healed, because somebody has put a flag on the file.
    #[error(
        "{path} is {what}, and its end has to be written anew after a crash; as root run: chattr -{flag} {path}, and start again"
    )]
    Flagged {
        /// The active segment.
        path: PathBuf,
        /// The flag, as chattr(1) has it.
        flag: char,
        /// What it makes of the file.
        what: &'static str,
    },
    /// It was begun under another name or key.
    #[error("{directory} {what}")]
    Foreign {
        /// The log's folder.
        directory: PathBuf,
        /// What differs, and what to do.
        what: String,
    },
}

/// A checkpoint, and the file it was read from.
struct FoundCheckpoint {
    checkpoint: Checkpoint,
    file: PathBuf,
}

/// Locks the log of this verifier's name and key, where that is not done yet, makes what is missing of it, checks it
/// against every checkpoint in reach, and heals what a crash has left.
pub(super) fn open(
    lock: Option<File>,
    directory: &Path,
    anchors: &[PathBuf],
    verifier: &Verifier,
    disk: &dyn Disk,
) -> Result<OpenedLog, OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |cause| OpenError::Io { path, cause }
    };
    for folder in [directory.to_owned(), directory.join(segment::FOLDER), directory.join(KEPT)] {
        disk::make_folder(disk, &folder).map_err(io(&folder))?;
    }
    // Made by a run that was killed before it came to this, maybe.
    disk.sync_folder(directory).map_err(io(directory))?;
    let lock = match lock {
        Some(held) => held,
        None => self::lock(directory)?,
    };
    let log_file = LogFile::path(directory);
    match LogFile::read(directory).map_err(io(&log_file))? {
        Some(log) => is_this_log(directory, &log, verifier)?,
        None => {
            let bytes = LogFile::new(&verifier.name, verifier.to_string(), None).to_bytes();
            disk::put(disk, &log_file, &bytes)
                .and_then(|()| disk::make_read_only(&log_file))
                .map_err(io(&log_file))?;
        }
    }
    let pruned = segment::begin(directory).map_err(io(directory))?;
    let checkpoints = checkpoints(directory, anchors, verifier, pruned)?;
    let newest = segment::newest(directory).map_err(io(directory))?;
    let segment = newest.filter(|segment| !segment.compressed);
    let segment = match segment {
        Some(segment) => segment,
        None => begin(directory, disk, &checkpoints)?,
    };
    let signed = checkpoints.iter().map(|seen| seen.checkpoint.size).max().unwrap_or(0);

    let went_back = |what| OpenError::WentBack { directory: directory.to_owned(), what };
    let grown = grow(directory, &segment, &checkpoints, Leaves::Tiles);
    let grown = match grown {
        Ok(grown) if grown.holds(segment.first) => grown,
        // Tiles are only a copy, and one that was never synced: nothing is trusted that no checkpoint covers, and nothing
        // refused for them alone.
        _ => {
            let unproven = |e: io::Error| OpenError::Unproven {
                directory: directory.to_owned(),
                pruned,
                what: e.to_string(),
            };
            tiles::read_first(directory, pruned, drop).map_err(unproven)?;
            let grown = grow(directory, &segment, &checkpoints, Leaves::Segments).map_err(io(directory))?;
            if grown.differs.is_none() && grown.before == segment.first {
                Tree::rebuild(directory, segment.first).map_err(io(directory))?;
            }
            grown
        }
    };
    let Grown { tree, before, mut last, walk, differs, claimed, tiles, .. } = grown;
    let Walk { good, torn, .. } = walk;
    if before < segment.first {
        let active = segment.path.display();
        return Err(went_back(format!("holds {before} whole records before {active}: others are missing")));
    }
    match differs {
        Some((size, what)) if size <= pruned => {
            return Err(OpenError::Unproven { directory: directory.to_owned(), pruned, what });
        }
        Some((_, what)) => return Err(went_back(what)),
        None => {}
    }
    if let Some(ahead) = checkpoints.iter().find(|seen| seen.checkpoint.size > tree.size()) {
        let (has, wants) = (tree.size(), ahead.checkpoint.size);
        return Err(went_back(format!(
            "holds {has} whole records, and the checkpoint {} is over {wants}",
            ahead.file.display()
        )));
    }
    let newly_claimed = claimed.is_some_and(|claimed| claimed >= signed);
    if (newly_claimed || pruned > 0 && signed < segment.first)
        && !is_all_there(directory, signed).map_err(io(directory))?
    {
        let what = "lacks segments, and no record that a checkpoint covers says that they were pruned";
        return Err(went_back(what.to_owned()));
    }
    // Not before all of that: what a changed log hashes to must not take the place of what was written.
    for (tile, hashes) in tiles {
        // It can be made anew at the next start as well.
        let _ = tiles::write(directory, tile, &hashes);
    }
    if last.is_none() && segment.first > 0 {
        last = last_before(directory, segment.first).map_err(io(directory))?;
    }
    let mut found = LastRun { last, torn: None, unsigned: tree.size() - signed };
    if let Some((flag, what)) = locked_by(&segment.path) {
        let path = segment.path.clone();
        if torn > 0 || found.unsigned > 0 {
            return Err(OpenError::Flagged { path, flag, what });
        }
        tracing::warn!(
            "{0} is {what}: a write that fails can't be taken back then, and what a crash leaves can't be healed; run: \
             chattr -{flag} {0}",
            path.display()
        );
    }
    if torn > 0 {
        let kept = quarantine(disk, directory, &segment.path, good).map_err(io(&segment.path))?;
        found.torn = Some((torn, kept));
    }
    if torn > 0 || found.unsigned > 0 {
        // What was read may be in memory only: after a failed sync the kernel calls pages clean that it never wrote.
        rewrite(disk, &segment.path, good).map_err(io(&segment.path))?;
    }
    Ok(OpenedLog { lock, segment, length: good, tree, found })
}

impl FoundCheckpoint {
    fn went_back(&self) -> String {
        format!(
            "differs from the checkpoint {} at {} records (root {})",
            self.file.display(),
            self.checkpoint.size,
            hex(&self.checkpoint.root)
        )
    }
}

fn is_this_log(directory: &Path, log: &LogFile, verifier: &Verifier) -> Result<(), OpenError> {
    let foreign = |what| Err(OpenError::Foreign { directory: directory.to_owned(), what });
    if log.origin != verifier.name {
        return foreign(format!(
            "was begun as \"{}\", and audit.origin now makes it \"{}\"; put the old name back, or give the new one a folder \
             of its own",
            log.origin, verifier.name
        ));
    }
    if log.vkey != verifier.to_string() {
        return foreign(
            "was begun with another signing key (audit.signing_key); put that key back, or run: license-relay audit fork \
             --reason \"...\""
                .into(),
        );
    }
    Ok(())
}

/// All checkpoints of this log in reach: its own, and those of its anchors. One that can't be read because its disk is
/// away is only worth a warning; one that is not signed with the log's key is worth none of our trust.
fn checkpoints(
    directory: &Path,
    anchors: &[PathBuf],
    verifier: &Verifier,
    pruned: u64,
) -> Result<Vec<FoundCheckpoint>, OpenError> {
    let mut files = vec![directory.join(CHECKPOINT)];
    files.extend(newest_kept(directory));
    if pruned > 0 {
        // It tells whether the hashes are wrong, or the segments.
        files.push(directory.join(KEPT).join(format!("{pruned:020}.note")));
    }
    files.extend(anchors.iter().map(|anchor| anchor.join(anchor_name(&verifier.name))));
    let mut seen = Vec::new();
    for file in files {
        let note = match regular_file::read(&file, MAX_NOTE as u64) {
            Ok(note) => note,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => {
                tracing::warn!("the checkpoint {} can't be read: {e}", file.display());
                continue;
            }
        };
        match verifier.open(&note) {
            Ok(checkpoint) => seen.push(FoundCheckpoint { checkpoint, file }),
            Err(e) => {
                let what = format!("can't be trusted: its checkpoint {} {e}", file.display());
                return Err(OpenError::WentBack { directory: directory.to_owned(), what });
            }
        }
    }
    Ok(seen)
}

fn newest_kept(directory: &Path) -> Option<PathBuf> {
    let notes = fs::read_dir(directory.join(KEPT)).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    notes.filter(|path| path.extension().is_some_and(|extension| extension == "note")).max()
}

/// The file of the next record, where there is no plain segment: in a new log, or behind the last sealed one.
fn begin(directory: &Path, disk: &dyn Disk, checkpoints: &[FoundCheckpoint]) -> Result<Segment, OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |cause| OpenError::Io { path, cause }
    };
    let mut first = 0;
    for segment in segment::list(directory).map_err(io(directory))? {
        first = segment.first;
        let mut lines = segment::Lines::of(&segment).map_err(io(&segment.path))?;
        while lines.next_whole().map_err(io(&segment.path))?.is_some() {
            first += 1;
        }
    }
    if let Some(ahead) = checkpoints.iter().find(|seen| seen.checkpoint.size > first) {
        let what = format!("holds {first} records, and the checkpoint {} is over more", ahead.file.display());
        return Err(OpenError::WentBack { directory: directory.to_owned(), what });
    }
    let path = segment::path(directory, first);
    disk.create(&path)
        .and_then(|mut append_file| append_file.sync_all())
        .and_then(|()| disk.sync_folder(disk::folder(&path)))
        .map_err(io(&path))?;
    Ok(Segment { first, path, compressed: false })
}

/// Where the leaves below the active segment are read.
#[derive(Clone, Copy)]
enum Leaves {
    Tiles,
    Segments,
}

/// The tree over all whole records, grown leaf by leaf past every checkpoint.
struct Grown<'c> {
    checkpoints: &'c [FoundCheckpoint],
    tree: Tree,
    /// Records below the active segment.
    before: u64,
    last: Option<Glance>,
    walk: Walk,
    /// The largest checkpoint that it is the same as, and the first one that it differs from.
    same: u64,
    differs: Option<(u64, String)>,
    /// The last record in the active segment that says what was pruned.
    claimed: Option<u64>,
    /// Tiles that have become full in the active segment.
    tiles: Vec<(u64, Vec<Hash>)>,
}

impl Grown<'_> {
    fn push(&mut self, leaf: Hash) -> Option<(u64, Vec<Hash>)> {
        let full = self.tree.push(leaf);
        let size = self.tree.size();
        for seen in self.checkpoints.iter().filter(|seen| seen.checkpoint.size == size) {
            if seen.checkpoint.root == self.tree.root() {
                self.same = size;
            } else {
                self.differs.get_or_insert_with(|| (size, seen.went_back()));
            }
        }
        full
    }

    /// Whether a checkpoint says that the leaves below the active segment are right.
    fn holds(&self, first: u64) -> bool {
        self.differs.is_none() && self.before == first && self.same >= first
    }
}

fn grow<'c>(
    directory: &Path,
    segment: &Segment,
    checkpoints: &'c [FoundCheckpoint],
    leaves: Leaves,
) -> io::Result<Grown<'c>> {
    let walk = Walk { next: segment.first, good: 0, torn: 0 };
    let (tree, tiles) = (Tree::default(), Vec::new());
    let mut grown = Grown {
        checkpoints,
        tree,
        before: 0,
        last: None,
        walk,
        same: 0,
        differs: None,
        claimed: None,
        tiles,
    };
    let push = |leaf| drop(grown.push(leaf));
    match leaves {
        Leaves::Tiles => tiles::read_first(directory, segment.first, push)?,
        Leaves::Segments => tree::read_segments(directory, segment.first, push)?,
    }
    grown.before = grown.tree.size();
    grown.walk = segment::walk(segment, |line| {
        let full = grown.push(leaf(line));
        grown.tiles.extend(full);
        grown.last = Glance::at(line);
        if let Some(Glance { sequence, pruned: Some(_), .. }) = grown.last {
            grown.claimed = Some(sequence);
        }
    })?;
    Ok(grown)
}

/// Whether nothing is missing but what records say was pruned that a checkpoint over so many covers. A record at the end
/// that none covers yet may be anybody's, and is signed with the next one.
fn is_all_there(directory: &Path, signed: u64) -> io::Result<bool> {
    let (mut next, mut missing, mut pruned) = (0, 0, 0);
    for segment in segment::list(directory)? {
        if segment.first > next {
            missing = segment.first;
        }
        next = segment.first;
        let mut lines = segment::Lines::of(&segment)?;
        while let Some(line) = lines.next_whole()? {
            if next < signed
                && let Some(Glance { pruned: Some((0, last)), .. }) = Glance::at(line)
            {
                pruned = pruned.max(last.saturating_add(1));
            }
            next += 1;
        }
    }
    Ok(missing <= pruned)
}

/// The last record before an index, where the active segment is empty.
fn last_before(directory: &Path, first: u64) -> io::Result<Option<Glance>> {
    let before = segment::list(directory)?.into_iter().rfind(|segment| segment.first < first);
    let Some(segment) = before else { return Ok(None) };
    let (mut lines, mut last) = (segment::Lines::of(&segment)?, None);
    while let Some(line) = lines.next_whole()? {
        last = Some(line.to_vec());
    }
    Ok(last.and_then(|line| Glance::at(&line)))
}

/// Takes the lock of a log, which only one process has.
///
/// # Errors
/// Another one has it, or the system refuses.
pub(super) fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("LOCK");
    let io = |cause| OpenError::Io { path: path.clone(), cause };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io)?;
    let mut tries = 0;
    while file.try_lock().is_err() {
        // Whoever only asks for the holder has the lock for a moment.
        tries += 1;
        if tries == bounds::LOG_LOCK_TRIES {
            let holder = named_in(file).map_err(io)?;
            return Err(OpenError::Locked { directory: directory.to_owned(), holder });
        }
        sleep(relay_log::bounds::LOCK_TRY);
    }
    file.set_len(0).map_err(io)?;
    writeln!(file, "process {} since {:.0}", std::process::id(), Timestamp::now()).map_err(io)?;
    Ok(file)
}

/// Who has the lock of a log, in words; none where nobody has it.
///
/// # Errors
/// That can't be found out.
pub(crate) fn holder(directory: &Path) -> io::Result<Option<String>> {
    let file = match regular_file::open(&directory.join("LOCK")) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => named_in(file).map(Some),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// The holder that a lock names.
fn named_in(lock: File) -> io::Result<String> {
    let mut holder = String::new();
    lock.take(200).read_to_string(&mut holder)?;
    Ok(holder.trim().to_owned())
}

/// Keeps what is behind the last whole line, byte for byte.
fn quarantine(disk: &dyn Disk, directory: &Path, segment: &Path, good: u64) -> io::Result<PathBuf> {
    let folder = directory.join("quarantine");
    disk::make_folder(disk, &folder)?;
    let stem = segment.file_stem().unwrap_or_default().to_string_lossy();
    let kept = folder.join(format!("{stem}-{good}-{}.torn", Timestamp::now().as_nanosecond()));
    let mut from = File::open(segment)?;
    from.seek(SeekFrom::Start(good))?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&kept)?;
    let bytes = io::copy(&mut from, &mut to)?;
    to.sync_all()?;
    File::open(&folder)?.sync_all()?;
    tracing::warn!(
        "{} ended in {bytes} bytes that are no whole line, as after a crash; they are kept in {}",
        segment.display(),
        kept.display()
    );
    Ok(kept)
}

/// The flag of chattr(1) that keeps a file from being cut or removed; `None` on file systems that have no such flags.
pub(super) fn locked_by(path: &Path) -> Option<(char, &'static str)> {
    let flags = rustix::fs::ioctl_getflags(File::open(path).ok()?).ok()?;
    if flags.contains(IFlags::IMMUTABLE) {
        Some(('i', "immutable"))
    } else {
        flags.contains(IFlags::APPEND).then_some(('a', "append-only"))
    }
}

/// Writes the whole lines of a segment into a file of their own, which takes its name.
fn rewrite(disk: &dyn Disk, segment: &Path, good: u64) -> io::Result<()> {
    let mut bytes = Vec::new();
    File::open(segment)?.take(good).read_to_end(&mut bytes)?;
    disk::put(disk, segment, &bytes)
}
