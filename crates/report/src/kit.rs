//! A kit for the auditor: one zip with all that is needed to check logs, and nothing that is secret. It takes what it
//! names and no other file, up to the newest checkpoint, so that one made while a relay writes verifies as well.

mod readme;
mod zip;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use relay_log::ledger::log::LogFile;
use relay_log::ledger::merkle::Hash;
use relay_log::ledger::note::{
    self, CHECKPOINT, Checkpoint, KEPT, MAX_NOTE, NoteError, Verifier, anchor_name,
};
use relay_log::ledger::regular_file::{self, MAX_ABOUT, MAX_SUMS, open_no_link};
use relay_log::ledger::segment::{self, FOLDER, Lines, SUMS, Segment};
use relay_log::ledger::tiles::{self, WIDTH};
use relay_log::verify::log::Verified;
use relay_log::verify::proof::{ProveError, key_of};
use zip::Archive;

/// Of a log with more tiles than this, only those go along that its own lines don't give anew: each is an entry of the
/// zip, whose list is kept in memory until it is written.
const TILES: u64 = 100_000;

/// What checks a log with no program of ours.
const SCRIPTS: [(&str, &str); 3] = [
    ("verify.sh", include_str!("../../../docs/auditor/verify.sh")),
    ("recompute.py", include_str!("../../../docs/auditor/recompute.py")),
    ("check_proof.py", include_str!("../../../docs/auditor/check_proof.py")),
];

/// What a kit holds of one log.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Its folder in the kit.
    pub folder: String,
    /// Its key.
    pub key: Verifier,
    /// The records, as they are signed.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// When that was signed.
    pub time: Option<Timestamp>,
    /// What a verification of the log has found just before.
    pub verified: Verified,
    /// The first record whose line is there: those before it were pruned.
    pub first: u64,
    /// The checkpoint over these records, below the log's folder.
    checkpoint: String,
    anchors: Vec<Anchor>,
    plain: bool,
    compressed: bool,
}

/// A checkpoint that was kept elsewhere.
#[derive(Debug)]
struct Anchor {
    note: Vec<u8>,
    from: PathBuf,
    /// `None` where the log's key has not signed it.
    checkpoint: Option<Checkpoint>,
}

/// Why there is no kit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KitError {
    /// A log can't be packed.
    #[error(transparent)]
    Log(#[from] ProveError),
    /// Something can't be read.
    #[error("{path}: {cause}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// An anchor is none.
    #[error(
        "the anchor {0} holds no checkpoint of what is packed; name a folder or file that does, or leave it out"
    )]
    Anchor(PathBuf),
    /// The kit can't be written.
    #[error("the kit can't be written: {0}")]
    Write(#[from] io::Error),
}

/// What a kit will hold: of each log, all up to its newest checkpoint. That is settled first, so that what is said of the
/// records, beside them, is made of the same ones.
#[derive(Debug)]
pub(crate) struct Contents(Vec<Signed>);

impl Contents {
    /// Looks for the newest checkpoint of each log, its own or an anchor.
    ///
    /// # Errors
    /// See [`KitError`].
    pub(crate) fn look(logs: &[PathBuf], anchors: &[PathBuf]) -> Result<Self, KitError> {
        let mut used = vec![false; anchors.len()];
        let mut signed = Vec::new();
        for log in logs {
            let key = key_of(log)?;
            let mut own = Vec::new();
            for (anchor, used) in anchors.iter().zip(&mut used) {
                let found = anchors_in(anchor, &key)?;
                *used |= !found.is_empty();
                // What lies in the log has come with it, and protects from nothing.
                own.extend(found.into_iter().filter(|anchor| !lies_in(&anchor.from, log)));
            }
            signed.push(Signed::look(log, key, own)?);
        }
        match anchors.iter().zip(used).find(|(_, used)| !used) {
            Some((anchor, _)) => Err(KitError::Anchor(anchor.clone())),
            None => Ok(Self(signed)),
        }
    }

    /// How many records of each log.
    pub(crate) fn sizes(&self) -> Vec<u64> {
        self.0.iter().map(|log| log.newest.size).collect()
    }

    /// Writes the kit, each log in a folder of its own, with the anchors that belong to it; with a report on these records,
    /// and what a verification of each log has found.
    ///
    /// # Errors
    /// See [`KitError`]. A log that is not fine is packed as it is: that is evidence as well.
    pub(crate) fn pack(
        self,
        to: File,
        report: &[u8],
        verified: Vec<Verified>,
        made: Timestamp,
    ) -> Result<Vec<Packed>, KitError> {
        let mut names = BTreeMap::<String, u64>::new();
        let logs = self.0.into_iter().zip(verified);
        let mut sources = logs
            .map(|(signed, verified)| {
                let folder = folder_of(&signed.key.name, &mut names);
                PackedLog::of(signed, folder, verified)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut kit = Archive::new(to, made);
        for (name, script) in SCRIPTS {
            kit.put(name, script.as_bytes())?;
        }
        kit.put("report.html", report)?;
        for source in &mut sources {
            source.pack(&mut kit)?;
        }
        let text = readme::text(sources.iter().map(|source| &source.packed), made);
        kit.put("README.txt", text.as_bytes())?;
        kit.finish()?;
        Ok(sources.into_iter().map(|source| source.packed).collect())
    }
}

/// A log, as far as it is signed.
#[derive(Debug)]
struct Signed {
    log: PathBuf,
    key: Verifier,
    anchors: Vec<Anchor>,
    about: Vec<u8>,
    own: Option<Vec<u8>>,
    kept: Vec<PathBuf>,
    /// Where the newest checkpoint lies, below the log's folder in the kit.
    file: String,
    newest: Checkpoint,
}

impl Signed {
    /// Anchors were read before the log's own checkpoints, these are read before the lines, and the lines before the list
    /// of sums: each tells of all that the one before is about.
    fn look(log: &Path, key: Verifier, anchors: Vec<Anchor>) -> Result<Self, KitError> {
        let about = read(&LogFile::path(log), MAX_ABOUT)?.unwrap_or_default();
        let own = read(&log.join(CHECKPOINT), MAX_NOTE as u64)?;
        let kept = kept_notes(log)?;
        let mut best: Option<(String, Checkpoint)> = None;
        let mut better = |name: String, checkpoint: Option<Checkpoint>| {
            if let Some(checkpoint) = checkpoint
                && best.as_ref().is_none_or(|(_, so_far)| so_far.size < checkpoint.size)
            {
                best = Some((name, checkpoint));
            }
        };
        better(format!("log/{CHECKPOINT}"), own.as_ref().and_then(|note| key.open(note).ok()));
        for file in &kept {
            let checkpoint = small(file)?.and_then(|note| key.open(&note).ok());
            better(format!("log/{KEPT}/{}", name_of(file)), checkpoint);
        }
        for (n, anchor) in anchors.iter().enumerate() {
            better(readme::anchor(n), anchor.checkpoint.clone());
        }
        let Some((file, newest)) = best else {
            return Err(ProveError::NoCheckpoint(log.to_owned()).into());
        };
        Ok(Self { log: log.to_owned(), key, anchors, about, own, kept, file, newest })
    }
}

/// One log, and what is taken of it.
struct PackedLog {
    log: PathBuf,
    packed: Packed,
    about: Vec<u8>,
    newest: Option<Vec<u8>>,
    kept: Vec<PathBuf>,
    segments: Vec<Segment>,
}

impl PackedLog {
    fn of(signed: Signed, folder: String, verified: Verified) -> Result<Self, KitError> {
        let Signed { log, key, anchors, about, own, kept, file, newest } = signed;
        let Checkpoint { size, root, time, .. } = newest;
        let segments = segments(&log, size)?;
        let first = segments.first().map_or(size, |segment| segment.first);
        let packed = Packed {
            folder,
            key,
            size,
            root,
            time,
            verified,
            first,
            checkpoint: file,
            anchors,
            plain: false,
            compressed: false,
        };
        Ok(Self { log, packed, about, newest: own, kept, segments })
    }

    fn pack(&mut self, kit: &mut Archive) -> Result<(), KitError> {
        let folder = self.packed.folder.clone();
        kit.put(&format!("{folder}/key.vkey"), format!("{}\n", self.packed.key).as_bytes())?;
        kit.put(&format!("{folder}/key.pem"), self.packed.key.pem().as_bytes())?;
        for (n, anchor) in self.packed.anchors.iter().enumerate() {
            kit.put(&format!("{folder}/{}", readme::anchor(n)), &anchor.note)?;
        }
        kit.put(&format!("{folder}/log/log.json"), &self.about)?;
        if let Some(note) = &self.newest {
            kit.put(&format!("{folder}/log/{CHECKPOINT}"), note)?;
        }
        for file in &self.kept {
            self.copy(kit, file)?;
        }
        let cut = self.pack_segments(kit)?;
        let sums = read(&self.log.join(FOLDER).join(SUMS), MAX_SUMS)?.map(|sums| before(&sums, cut));
        if let Some(sums) = sums.filter(|sums| !sums.is_empty()) {
            kit.put(&format!("{folder}/log/{FOLDER}/{SUMS}"), &sums)?;
        }
        self.pack_hashes(kit)
    }

    /// All segments as they lie, but the one that the checkpoint ends in, whose first record is given: of that, the lines
    /// that are signed, as they are.
    fn pack_segments(&mut self, kit: &mut Archive) -> Result<u64, KitError> {
        let mut cut = u64::MAX;
        let next = self.segments.iter().skip(1).map(|segment| segment.first).chain([u64::MAX]);
        for (segment, next) in self.segments.iter().zip(next) {
            let (path, mut file) = open(segment)?;
            if next <= self.packed.size {
                self.add(kit, &path, &mut file)?;
                // Under which name it lies may have changed since it was listed.
                let plain = path.extension().is_some_and(|extension| extension == "jsonl");
                self.packed.plain |= plain;
                self.packed.compressed |= !plain;
                continue;
            }
            let plain = segment::path(&self.log, segment.first);
            let read = |cause| KitError::Read { path: path.clone(), cause };
            let lines: Box<dyn Read> = match path == plain {
                true => Box::new(file),
                false => Box::new(zstd::Decoder::new(file).map_err(read)?),
            };
            let mut lines = FirstLines { from: lines, left: self.packed.size - segment.first };
            // How long they are is known at their end only.
            kit.copy(&self.name(&plain), &mut lines, u64::MAX, &plain)?;
            self.packed.plain = true;
            cut = segment.first;
        }
        Ok(cut)
    }

    fn pack_hashes(&self, kit: &mut Archive) -> Result<(), KitError> {
        let tiles = self.packed.size.div_ceil(WIDTH);
        let pruned = self.packed.first.div_ceil(WIDTH);
        let mut missing = 0;
        for tile in 0..if tiles > TILES { pruned } else { tiles } {
            // Whoever signs may sign any size: behind so many that are not there, there are none.
            if missing > TILES {
                break;
            }
            let full = tiles::path(&self.log, tile, None);
            match open_no_link(&full) {
                Ok(mut file) => {
                    missing = 0;
                    self.add(kit, &full, &mut file)?;
                }
                // A tile that is not full is there in parts.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    missing += 1;
                    let part = tiles::path(&self.log, tile, Some(0));
                    for path in files_in(part.parent().unwrap_or(&part))? {
                        let count = name_of(&path).parse().unwrap_or(u64::MAX);
                        if count <= self.packed.size - tile * WIDTH {
                            self.copy(kit, &path)?;
                        }
                    }
                }
                Err(cause) => return Err(KitError::Read { path: full, cause }),
            }
        }
        Ok(())
    }

    /// A file of the log as it lies; one that is not there (any more) is left out.
    fn copy(&self, kit: &mut Archive, path: &Path) -> Result<(), KitError> {
        match open_no_link(path) {
            Ok(mut file) => self.add(kit, path, &mut file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(KitError::Read { path: path.to_owned(), cause }),
        }
    }

    fn add(&self, kit: &mut Archive, path: &Path, file: &mut File) -> Result<(), KitError> {
        let length = file.metadata().map_err(|cause| KitError::Read { path: path.to_owned(), cause })?.len();
        kit.copy(&self.name(path), file, length, path)
    }

    /// The name in the kit of a file of the log.
    fn name(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.log).unwrap_or(path);
        format!("{}/log/{}", self.packed.folder, inside.display())
    }
}

/// The first so many lines.
struct FirstLines<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for FirstLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let read = self.from.read(buffer)?;
        for (at, _) in buffer[..read].iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            self.left -= 1;
            if self.left == 0 {
                return Ok(at + 1);
            }
        }
        Ok(read)
    }
}

/// The segments that begin before this record. A folder that changes while it is listed may not show one that is put away
/// just then: it shows it the second time.
fn segments(log: &Path, size: u64) -> Result<Vec<Segment>, KitError> {
    let mut all = BTreeMap::new();
    for _ in 0..2 {
        let listed = segment::list(log).map_err(|cause| KitError::Read { path: log.join(FOLDER), cause })?;
        all.extend(listed.into_iter().map(|segment| (segment.first, segment)));
    }
    Ok(all.into_values().filter(|segment| segment.first < size).collect())
}

/// Opens a segment under the name that it has by now.
fn open(segment: &Segment) -> Result<(PathBuf, File), KitError> {
    let path = match open_no_link(&segment.path) {
        Ok(file) => return Ok((segment.path.clone(), file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound && !segment.compressed => {
            segment::compressed_path(&segment.path)
        }
        Err(cause) => return Err(KitError::Read { path: segment.path.clone(), cause }),
    };
    let file = open_no_link(&path).map_err(|cause| KitError::Read { path: segment.path.clone(), cause })?;
    Ok((path, file))
}

/// The checkpoints of a log that are kept, by size.
fn kept_notes(log: &Path) -> Result<Vec<PathBuf>, KitError> {
    let mut kept = files_in(&log.join(KEPT))?;
    kept.retain(|path| path.extension().is_some_and(|extension| extension == "note"));
    Ok(kept)
}

/// What is in a folder, by name; nothing where there is no such folder.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, KitError> {
    let fault = |cause| KitError::Read { path: folder.to_owned(), cause };
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fault)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(fault)?.path());
    }
    files.sort();
    Ok(files)
}

/// What an anchor has of the log with this key: of a program's own log, the oldest and the newest checkpoint.
fn anchors_in(anchor: &Path, key: &Verifier) -> Result<Vec<Anchor>, KitError> {
    let from = if anchor.is_dir() { anchor.join(anchor_name(&key.name)) } else { anchor.to_owned() };
    if anchor.is_dir() && !from.exists() {
        return Ok(Vec::new());
    }
    let fault = |cause| KitError::Read { path: from.clone(), cause };
    if let Some(note) = small(&from)? {
        match key.open(&note) {
            Ok(checkpoint) => return Ok(vec![Anchor { note, from, checkpoint: Some(checkpoint) }]),
            Err(NoteError::Forged) => return Ok(vec![Anchor { note, from, checkpoint: None }]),
            Err(_) => {}
        }
    }
    let mut found: Vec<Anchor> = Vec::new();
    let mut lines = Lines::of_text(&from).map_err(fault)?;
    loop {
        let line = lines.next_line().map_err(fault)?;
        if line.is_empty() {
            return Ok(found);
        }
        let Some(note) = note::in_line(line) else { continue };
        let Ok(checkpoint) = key.open(&note) else { continue };
        let last = found.last().and_then(|last| last.checkpoint.as_ref());
        if last.is_none_or(|last| last.size < checkpoint.size) {
            found.truncate(1);
            found.push(Anchor { note, from: from.clone(), checkpoint: Some(checkpoint) });
        }
    }
}

fn lies_in(file: &Path, log: &Path) -> bool {
    fs::canonicalize(log).is_ok_and(|log| fs::canonicalize(file).is_ok_and(|file| file.starts_with(log)))
}

/// A folder's name for a log, of plain letters, and used once.
fn folder_of(origin: &str, names: &mut BTreeMap<String, u64>) -> String {
    let name = anchor_name(origin);
    let name = name.trim_end_matches(".note").trim_start_matches(['.', '-']);
    let name = if name.is_empty() { "log" } else { name };
    let used = names.entry(name.to_owned()).or_default();
    *used += 1;
    if *used == 1 { name.to_owned() } else { format!("{name}-{used}") }
}

/// The lines of a list of sums for segments before this record: what is in the kit of later ones is not what was summed.
fn before(sums: &[u8], cut: u64) -> Vec<u8> {
    let first = |line: &[u8]| {
        let name = std::str::from_utf8(line).ok()?.split_once("  ")?.1;
        name.split_once('.')?.0.parse::<u64>().ok()
    };
    let lines = sums.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| first(line).is_none_or(|first| first < cut)).flatten().copied().collect()
}

/// A file of a log of at most so many bytes, where it is there.
fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, KitError> {
    match open_no_link(path).and_then(|file| regular_file::read_opened(file, most)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(|cause| KitError::Read { path: path.to_owned(), cause }),
    }
}

/// A file that is no longer than a note may be.
fn small(path: &Path) -> Result<Option<Vec<u8>>, KitError> {
    let length = fs::metadata(path).map_err(|cause| KitError::Read { path: path.to_owned(), cause })?.len();
    if length > MAX_NOTE as u64 { Ok(None) } else { read(path, MAX_NOTE as u64) }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_s_name_leads_nowhere_else_and_is_used_once() {
        let mut names = BTreeMap::new();
        let mut name = |origin: &str| folder_of(origin, &mut names);
        assert_eq!(name("license-relay/a"), "license-relay_a");
        assert_eq!(name("license-relay/a"), "license-relay_a-2");
        assert_eq!(name("../../etc"), "_.._etc");
        assert_eq!(name(".."), "log");
        assert_eq!(name("-rf"), "rf");
        assert_eq!(name("a;b$(c)'\""), "a_b__c___");
    }

    #[test]
    fn so_many_lines_are_taken_however_they_come() {
        struct OneByOne<'b>(&'b [u8]);
        impl Read for OneByOne<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(&mut buffer[..1])
            }
        }
        let text = b"a\nbb\n\nccc";
        for (left, wanted) in [(0, ""), (1, "a\n"), (2, "a\nbb\n"), (3, "a\nbb\n\n"), (4, "a\nbb\n\nccc")] {
            for from in [Box::new(text.as_slice()) as Box<dyn Read>, Box::new(OneByOne(text))] {
                assert_eq!(io::read_to_string(FirstLines { from, left }).unwrap(), wanted);
            }
        }
    }

    #[test]
    fn neither_a_cut_segment_nor_a_later_one_has_a_sum() {
        let sums = b"aa  00.jsonl\nbb  00.jsonl.zst\ncc  17.jsonl\nwhat is this\n";
        assert_eq!(before(sums, u64::MAX), sums);
        assert_eq!(before(sums, 17), b"aa  00.jsonl\nbb  00.jsonl.zst\nwhat is this\n");
        assert_eq!(before(sums, 0), b"what is this\n");
    }
}
