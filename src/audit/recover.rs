//! Opening the log at start-up: the lock, the newest checkpoint there is, the walk, the torn tail that a crash may
//! leave, and the tail that is not known to be on disk.
//!
//! A log that is behind its newest checkpoint, or of which that is no prefix, was rolled back or changed: nothing is
//! written to it any more.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::disk::{self, Disk};
use super::tree::Tree;
use crate::ledger::log::LogFile;
use crate::ledger::merkle::{hex, leaf};
use crate::ledger::note::{CHECKPOINT, Checkpoint, KEPT, Verifier, anchor_name};
use crate::ledger::record::Glance;
use crate::ledger::segment::{self, Segment, Walk};

/// A log that may be written from here on.
#[derive(Debug)]
pub(super) struct Opened {
    /// Held for as long as the log is.
    pub(super) lock: File,
    /// The active segment, which is there.
    pub(super) segment: Segment,
    /// Its length: whole lines only.
    pub(super) length: u64,
    /// The tree over all records.
    pub(super) tree: Tree,
    /// What the last run has left.
    pub(super) found: Found,
}

/// What the last run has left.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The last record; `None` in a new log.
    pub(super) last: Option<Glance>,
    /// Bytes behind the last whole line, and where they are kept.
    pub(super) torn: Option<(u64, PathBuf)>,
    /// Records that no checkpoint covers.
    pub(super) unsigned: u64,
}

impl Found {
    /// Whether the last run ended as it should.
    pub(super) fn is_clean(&self) -> bool {
        let stopped = self.last.as_ref().is_some_and(|last| last.action == "relay.stop");
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
struct Seen {
    checkpoint: Checkpoint,
    file: PathBuf,
}

/// Locks the log of this verifier's name and key, makes what is missing of it, checks it against every checkpoint in
/// reach, and heals what a crash has left.
pub(super) fn open(
    directory: &Path,
    anchors: &[PathBuf],
    verifier: &Verifier,
    disk: &dyn Disk,
) -> Result<Opened, OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |cause| OpenError::Io { path, cause }
    };
    for folder in [directory.to_owned(), directory.join(segment::FOLDER), directory.join(KEPT)] {
        disk::make_folder(&folder).map_err(io(&folder))?;
    }
    let lock = lock(directory)?;
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
    let checkpoints = checkpoints(directory, anchors, verifier)?;
    let newest = segment::newest(directory).map_err(io(directory))?;
    let segment = newest.filter(|segment| !segment.compressed);
    let segment = match segment {
        Some(segment) => segment,
        None => begin(directory, disk, &checkpoints)?,
    };
    let signed = checkpoints.iter().map(|seen| seen.checkpoint.size).max().unwrap_or(0);

    let tree = Tree::load(directory, segment.first);
    let tree = tree.and_then(|tree| check_below(directory, tree, &checkpoints, segment.first));
    let mut tree = tree.map_err(io(directory))??;
    let (mut checked, mut last) = (Vec::new(), None);
    let Walk { good, torn, .. } = segment::walk(&segment, |line| {
        if let Some((tile, hashes)) = tree.push(leaf(line)) {
            // It can be made anew at the next start as well.
            let _ = crate::ledger::tiles::write(directory, tile, &hashes);
        }
        last = Glance::at(line);
        let of_this_size = checkpoints.iter().filter(|seen| seen.checkpoint.size == tree.size());
        checked.extend(
            of_this_size.filter(|seen| seen.checkpoint.root != tree.root()).map(|seen| seen.went_back()),
        );
    })
    .map_err(io(&segment.path))?;
    let went_back = |what| OpenError::WentBack { directory: directory.to_owned(), what };
    if let Some(what) = checked.into_iter().next() {
        return Err(went_back(what));
    }
    if let Some(ahead) = checkpoints.iter().find(|seen| seen.checkpoint.size > tree.size()) {
        let (has, wants) = (tree.size(), ahead.checkpoint.size);
        return Err(went_back(format!(
            "holds {has} whole records, and the checkpoint {} is over {wants}",
            ahead.file.display()
        )));
    }
    if last.is_none() && segment.first > 0 {
        last = last_before(directory, segment.first).map_err(io(directory))?;
    }
    let mut found = Found { last, torn: None, unsigned: tree.size() - signed };
    if torn > 0 {
        let kept = quarantine(directory, &segment.path, good).map_err(io(&segment.path))?;
        found.torn = Some((torn, kept));
    }
    if torn > 0 || found.unsigned > 0 {
        // What was read may be in memory only: after a failed sync the kernel calls pages clean that it never wrote.
        rewrite(disk, &segment.path, good).map_err(io(&segment.path))?;
    }
    Ok(Opened { lock, segment, length: good, tree, found })
}

impl Seen {
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
fn checkpoints(directory: &Path, anchors: &[PathBuf], verifier: &Verifier) -> Result<Vec<Seen>, OpenError> {
    let mut files = vec![directory.join(CHECKPOINT)];
    files.extend(newest_kept(directory));
    files.extend(anchors.iter().map(|anchor| anchor.join(anchor_name(&verifier.name))));
    let mut seen = Vec::new();
    for file in files {
        let note = match fs::read(&file) {
            Ok(note) => note,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => {
                tracing::warn!("the checkpoint {} can't be read: {e}", file.display());
                continue;
            }
        };
        match verifier.open(&note) {
            Ok(checkpoint) => seen.push(Seen { checkpoint, file }),
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
fn begin(directory: &Path, disk: &dyn Disk, checkpoints: &[Seen]) -> Result<Segment, OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |cause| OpenError::Io { path, cause }
    };
    let mut first = 0;
    for segment in segment::list(directory).map_err(io(directory))? {
        first = segment.first;
        let mut lines = segment::Lines::of(&segment).map_err(io(&segment.path))?;
        while lines.next_line().map_err(io(&segment.path))?.ends_with(b"\n") {
            first += 1;
        }
    }
    if let Some(ahead) = checkpoints.iter().find(|seen| seen.checkpoint.size > first) {
        let what = format!("holds {first} records, and the checkpoint {} is over more", ahead.file.display());
        return Err(OpenError::WentBack { directory: directory.to_owned(), what });
    }
    let path = segment::path(directory, first);
    disk.create(&path)
        .and_then(|mut tape| tape.sync_all())
        .and_then(|()| disk.sync_folder(disk::folder(&path)))
        .map_err(io(&path))?;
    Ok(Segment { first, path, compressed: false })
}

/// Holds what lies below the active segment against the checkpoints over it. Tiles that don't fit are made anew once,
/// because they are only a copy.
fn check_below(
    directory: &Path,
    tree: Tree,
    checkpoints: &[Seen],
    first: u64,
) -> io::Result<Result<Tree, OpenError>> {
    let fits = |tree: &Tree| -> io::Result<Option<String>> {
        for seen in checkpoints.iter().filter(|seen| (1..=first).contains(&seen.checkpoint.size)) {
            let root = match seen.checkpoint.size == first {
                true => tree.root(),
                false => Tree::load(directory, seen.checkpoint.size)?.root(),
            };
            if root != seen.checkpoint.root {
                return Ok(Some(seen.went_back()));
            }
        }
        Ok(None)
    };
    if fits(&tree)?.is_none() {
        return Ok(Ok(tree));
    }
    let tree = Tree::rebuild(directory, first)?;
    Ok(match fits(&tree)? {
        None => Ok(tree),
        Some(what) => Err(OpenError::WentBack { directory: directory.to_owned(), what }),
    })
}

/// The last record before an index, where the active segment is empty.
fn last_before(directory: &Path, first: u64) -> io::Result<Option<Glance>> {
    let before = segment::list(directory)?.into_iter().rfind(|segment| segment.first < first);
    let Some(segment) = before else { return Ok(None) };
    let (mut lines, mut last) = (segment::Lines::of(&segment)?, None);
    while let Some((b'\n', line)) = lines.next_line()?.split_last() {
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
    if file.try_lock().is_err() {
        let mut holder = String::new();
        file.take(200).read_to_string(&mut holder).map_err(io)?;
        return Err(OpenError::Locked { directory: directory.to_owned(), holder: holder.trim().to_owned() });
    }
    file.set_len(0).map_err(io)?;
    writeln!(file, "process {} since {:.0}", std::process::id(), Timestamp::now()).map_err(io)?;
    Ok(file)
}

/// Keeps what is behind the last whole line, byte for byte.
fn quarantine(directory: &Path, segment: &Path, good: u64) -> io::Result<PathBuf> {
    let folder = directory.join("quarantine");
    disk::make_folder(&folder)?;
    let stem = segment.file_stem().unwrap_or_default().to_string_lossy();
    let kept = folder.join(format!("{stem}-{good}-{}.torn", Timestamp::now().as_millisecond()));
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

/// Writes the whole lines of a segment into a file of their own, which takes its name.
fn rewrite(disk: &dyn Disk, segment: &Path, good: u64) -> io::Result<()> {
    let mut bytes = Vec::new();
    File::open(segment)?.take(good).read_to_end(&mut bytes)?;
    disk::put(disk, segment, &bytes)
}
