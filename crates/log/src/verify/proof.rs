//! One record shown to be in the log, with no other one shown: its line, the hashes that lead from it to the root, and
//! the checkpoint that signs that root. Written as C2SP tlog-proof writes it, so that others can check it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::{LogError, log_file};
use crate::ledger::log::LogFile;
use crate::ledger::merkle::{Frontier, Hash, includes, leaf};
use crate::ledger::note::{CHECKPOINT, Checkpoint, KEPT, MAX_NOTE, NoteError, Verifier, anchor_name};
use crate::ledger::regular_file;
use crate::ledger::tail::Outbox;
use crate::ledger::tiles::{self, WIDTH};

/// The longest proof that is read, in bytes: a note, and what stands before it.
pub const MAX_PROOF: usize = MAX_NOTE + 8 * 1024;
/// A tree of 2^64 leaves has no longer path.
const MAX_PATH: usize = 64;
const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// How often progress is told, in records.
const PROGRESS: u64 = 1_000_000;

/// A record's place in the tree of one checkpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proof {
    /// The record's number.
    pub index: u64,
    /// The hashes from its sibling up to the root's child.
    pub path: Vec<Hash>,
    /// The log's key as the proof itself names it; nobody vouches for that.
    pub key: Option<Verifier>,
    /// The checkpoint as it was signed.
    pub note: String,
}

/// A proof that was made, and what it is about.
#[derive(Clone, Debug)]
pub struct Proved {
    /// What is handed over.
    pub proof: Proof,
    /// The checkpoint that it stands on.
    pub checkpoint: Checkpoint,
    /// Where that was read.
    pub file: PathBuf,
    /// The record's line without its line feed; absent where its segment is gone.
    pub record: Option<Vec<u8>>,
}

/// A proof that holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checked {
    /// The log's name.
    pub origin: String,
    /// Records that the checkpoint is over.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// When it was signed.
    pub time: Option<Timestamp>,
    /// The key that it was checked with.
    pub key: Verifier,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The key in log.json is none.
    #[error("{0} names no key to verify with")]
    Key(PathBuf),
    /// Nothing is signed.
    #[error(
        "no checkpoint of {0} holds, so nothing can be proven; see: license-relay audit verify --log {0}"
    )]
    NoCheckpoint(PathBuf),
    /// The anchor that was named is none.
    #[error("the anchor {0} {1}")]
    Anchor(PathBuf, NoteError),
    /// The record is behind the checkpoint.
    #[error(
        "record {index} is not covered: the checkpoint {file} is over {size} records, and the first has the number 0; a \
         running relay signs once a second"
    )]
    Beyond {
        /// The record.
        index: u64,
        /// Records covered.
        size: u64,
        /// The checkpoint.
        file: PathBuf,
    },
    /// The log is not what was signed.
    #[error(
        "the first {size} records are not those that {file} signs, so nothing can be proven by it; see: license-relay \
         audit verify --log {log}"
    )]
    Differs {
        /// The log.
        log: PathBuf,
        /// Records covered.
        size: u64,
        /// The checkpoint.
        file: PathBuf,
    },
    /// Another record was given.
    #[error("the record that was given is not record {0} of this log")]
    OtherRecord(u64),
}

/// Why a proof shows nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// It is no such text.
    #[error("is no proof (its first line is {HEADER})")]
    Malformed,
    /// There is nothing to check it with.
    #[error("names no key; give the log's with --key (name+id+key, as in log.json)")]
    NoKey,
    /// The checkpoint in it is not the log's.
    #[error("has a checkpoint that {0}")]
    Note(NoteError),
    /// The record is another one.
    #[error(
        "is right in form, and does not lead from this record to the root that is signed: it is another record, or was changed"
    )]
    Elsewhere,
}

impl Proof {
    /// As it is handed over. The key stands in the line that others pass over.
    pub fn text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        if let Some(key) = &self.key {
            text.push_str(&format!("extra {}\n", STANDARD.encode(key.to_string())));
        }
        text.push_str(&format!("index {}\n", self.index));
        for hash in &self.path {
            text.push_str(&STANDARD.encode(hash));
            text.push('\n');
        }
        text + "\n" + &self.note
    }

    /// Reads such a text. What others have put into `extra` is passed over.
    ///
    /// # Errors
    /// It is none, or longer than [`MAX_PROOF`].
    pub fn parse(text: &[u8]) -> Result<Self, CheckError> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_PROOF);
        let (head, note) = text.and_then(|text| text.split_once("\n\n")).ok_or(CheckError::Malformed)?;
        Self::parse_head(head, note).ok_or(CheckError::Malformed)
    }

    fn parse_head(head: &str, note: &str) -> Option<Self> {
        let mut lines = head.split('\n').peekable();
        lines.next().filter(|header| *header == HEADER)?;
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let extra = extra.map(|line| STANDARD.decode(&line["extra ".len()..])).transpose().ok()?;
        let key = extra.and_then(|extra| String::from_utf8(extra).ok()?.parse().ok());
        let index = lines.next()?.strip_prefix("index ")?;
        let canonical = index == "0" || !index.starts_with(['0', '+']);
        let index = index.parse().ok().filter(|_| canonical)?;
        let hash = |line| STANDARD.decode(line).ok()?.try_into().ok();
        let path: Vec<Hash> = lines.map(hash).collect::<Option<_>>()?;
        (path.len() <= MAX_PATH).then(|| Self { index, path, key, note: note.to_owned() })
    }

    /// Whether this record (without its line feed) is the one that the proof is about, by the key given, or else by the
    /// one that the proof names.
    ///
    /// # Errors
    /// It isn't, or that can't be told.
    pub fn check(&self, record: &[u8], key: Option<&Verifier>) -> Result<Checked, CheckError> {
        let key = key.or(self.key.as_ref()).ok_or(CheckError::NoKey)?;
        let Checkpoint { origin, size, root, time } =
            key.open(self.note.as_bytes()).map_err(CheckError::Note)?;
        if includes(&root, size, self.index, &leaf(record), &self.path) {
            Ok(Checked { origin, size, root, time, key: key.clone() })
        } else {
            Err(CheckError::Elsewhere)
        }
    }
}

/// Proves one record of a log against its newest checkpoint, or against the one in an anchor (a folder, or a note). A
/// record whose segment is gone is proven by the hash that was kept of it; who has its line may give it. Progress is told
/// in records.
///
/// # Errors
/// See [`ProveError`].
pub fn prove(
    log: &Path,
    index: u64,
    anchor: Option<&Path>,
    given: Option<&[u8]>,
    mut progress: impl FnMut(u64),
) -> Result<Proved, ProveError> {
    let key = key_of(log)?;
    let (file, note, checkpoint) = match anchor {
        Some(anchor) => of_anchor(anchor, &key)?,
        None => newest(log, &key)?.ok_or_else(|| ProveError::NoCheckpoint(log.to_owned()))?,
    };
    let Checkpoint { size, root, .. } = checkpoint;
    if index >= size {
        return Err(ProveError::Beyond { index, size, file });
    }
    // hashes/ is a copy: where it does not lead to what is signed, the lines may.
    let mut walked = walk(log, index, size, true, &mut progress);
    if walked.as_ref().is_ok_and(|walked| walked.root != root)
        && let Ok(by_lines) = walk(log, index, size, false, &mut progress)
    {
        walked = Ok(by_lines);
    }
    let walked = walked.map_err(|cause| LogError::Io { path: log.to_owned(), cause })?;
    if walked.root != root {
        return Err(ProveError::Differs { log: log.to_owned(), size, file });
    }
    let Walked { path, leaf: stored, .. } = walked;
    let record = match given {
        Some(given) if leaf(given) != stored => return Err(ProveError::OtherRecord(index)),
        Some(given) => Some(given.to_vec()),
        None => match Outbox::from(log, index).next(size) {
            Ok(Some((_, line))) if leaf(&line) == stored => Some(line),
            Ok(_) => return Err(ProveError::Differs { log: log.to_owned(), size, file }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => return Err(LogError::Io { path: log.to_owned(), cause }.into()),
        },
    };
    let proof = Proof { index, path, key: Some(key), note };
    Ok(Proved { proof, checkpoint, file, record })
}

/// The key that a log's own `log.json` names.
///
/// # Errors
/// There is no log, or no key.
pub fn key_of(log: &Path) -> Result<Verifier, ProveError> {
    let about = log_file(log)?;
    about.vkey.parse().map_err(|_| ProveError::Key(LogFile::path(log)))
}

/// The largest checkpoint of a log that its key has signed; of one size, the newest.
fn newest(log: &Path, key: &Verifier) -> Result<Option<(PathBuf, String, Checkpoint)>, ProveError> {
    let file = log.join(CHECKPOINT);
    match of_note(&file, key) {
        Ok(newest) => return Ok(Some(newest)),
        Err(ProveError::Anchor(..)) => {}
        Err(ProveError::Log(LogError::Io { cause, .. })) if cause.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let folder = log.join(KEPT);
    let mut kept: Vec<PathBuf> = match fs::read_dir(&folder) {
        Ok(kept) => kept.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(cause) => return Err(LogError::Io { path: folder, cause }.into()),
    };
    // Their names are their sizes.
    kept.sort();
    Ok(kept.iter().rev().find_map(|file| of_note(file, key).ok()))
}

fn of_anchor(anchor: &Path, key: &Verifier) -> Result<(PathBuf, String, Checkpoint), ProveError> {
    if anchor.is_dir() { of_note(&anchor.join(anchor_name(&key.name)), key) } else { of_note(anchor, key) }
}

fn of_note(file: &Path, key: &Verifier) -> Result<(PathBuf, String, Checkpoint), ProveError> {
    let io = |cause| LogError::Io { path: file.to_owned(), cause };
    let no_note = |fault| ProveError::Anchor(file.to_owned(), fault);
    let opened = regular_file::open(file).map_err(io)?;
    if opened.metadata().map_err(io)?.len() > MAX_NOTE as u64 {
        return Err(no_note(NoteError::Malformed));
    }
    let note = regular_file::read_opened(opened, MAX_NOTE as u64).map_err(io)?;
    let note = String::from_utf8(note).map_err(|_| no_note(NoteError::Malformed))?;
    let checkpoint = key.open(note.as_bytes()).map_err(no_note)?;
    Ok((file.to_owned(), note, checkpoint))
}

/// What a walk over all leaves gives.
struct Walked {
    root: Hash,
    leaf: Hash,
    path: Vec<Hash>,
}

/// Walks over the leaves once. Each hash of the path is the root of a run of them beside the record's own; the runs lie
/// one behind the other, so that one at a time is grown, and nothing else is kept.
fn walk(log: &Path, index: u64, size: u64, kept: bool, progress: &mut impl FnMut(u64)) -> io::Result<Walked> {
    let runs = runs(index, size);
    let mut roots = vec![Hash::default(); runs.len()];
    let mut by_place: Vec<usize> = (0..runs.len()).collect();
    by_place.sort_unstable_by_key(|at| runs[*at].0);
    let mut waiting = by_place.into_iter().peekable();
    let (mut run, mut found, mut tree) = (Frontier::default(), None, Frontier::default());
    leaves(log, size, kept, |at, leaf| {
        tree.push(leaf);
        if at == index {
            found = Some(leaf);
        } else if let Some(which) = waiting.peek() {
            run.push(leaf);
            if at + 1 == runs[*which].1 {
                roots[*which] = std::mem::take(&mut run).root();
                waiting.next();
            }
        }
        if (at + 1).is_multiple_of(PROGRESS) {
            progress(at + 1);
        }
    })?;
    let leaf = found.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(Walked { root: tree.root(), leaf, path: roots })
}

/// The runs of leaves, from and to, whose roots are the path of a leaf (RFC 9162 §2.1.3.1), from its sibling up.
fn runs(index: u64, size: u64) -> Vec<(u64, u64)> {
    let (mut from, mut to, mut runs) = (0, size, Vec::new());
    while to - from > 1 {
        // The largest power of two below their number.
        let middle = from + (1 << (u64::BITS - 1 - (to - from - 1).leading_zeros()));
        if index < middle {
            runs.push((middle, to));
            to = middle;
        } else {
            runs.push((from, middle));
            from = middle;
        }
    }
    runs.reverse();
    runs
}

/// The first so many leaves: by `hashes/` as far as they are there and wanted, else by the lines.
fn leaves(log: &Path, size: u64, kept: bool, mut each: impl FnMut(u64, Hash)) -> io::Result<()> {
    let mut lines: Option<(u64, Outbox)> = None;
    for tile in 0..size.div_ceil(WIDTH) {
        let (first, end) = (tile * WIDTH, size.min((tile + 1) * WIDTH));
        if kept && let Ok(hashes) = tiles::read(log, tile, end - first) {
            (first..end).zip(hashes).for_each(|(at, hash)| each(at, hash));
            continue;
        }
        let (_, mut outbox) = lines
            .take()
            .filter(|(next, _)| *next == first)
            .unwrap_or_else(|| (first, Outbox::from(log, first)));
        while let Some((at, line)) = outbox.next(end)? {
            each(at, leaf(&line));
        }
        lines = Some((end, outbox));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::merkle::{inclusion, root};
    use crate::ledger::note::Signer;
    use crate::ledger::segment;

    const ORIGIN: &str = "license-relay/test";

    /// A log of so many lines in two segments, signed, with its hashes.
    fn log(size: u64) -> (tempfile::TempDir, Vec<Hash>) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path();
        let signer = Signer::open_or_make(&log.join("log.key"), ORIGIN).unwrap();
        let about = LogFile::new(ORIGIN, signer.verifier.to_string(), None);
        fs::write(LogFile::path(log), about.to_bytes()).unwrap();
        fs::create_dir(log.join(segment::FOLDER)).unwrap();
        let lines = |from: u64, to: u64| (from..to).map(|n| format!("record {n}\n")).collect::<String>();
        let middle = size / 2;
        let first = fs::File::create(segment::compressed_path(&segment::path(log, 0))).unwrap();
        zstd::stream::copy_encode(lines(0, middle).as_bytes(), first, 0).unwrap();
        fs::write(segment::path(log, middle), lines(middle, size)).unwrap();
        let leaves: Vec<Hash> = (0..size).map(|n| leaf(format!("record {n}").as_bytes())).collect();
        for (tile, hashes) in leaves.chunks(WIDTH as usize).enumerate() {
            if hashes.len() as u64 == WIDTH {
                tiles::write(log, tile as u64, hashes).unwrap();
            }
        }
        let time = Some(Timestamp::now());
        let note = signer.sign(&Checkpoint { origin: ORIGIN.into(), size, root: root(&leaves), time });
        fs::write(log.join(CHECKPOINT), note).unwrap();
        (folder, leaves)
    }

    #[test]
    fn every_path_is_the_one_of_the_tree_in_memory() {
        for size in [2, 3, 7, 255, 256, 257, 700] {
            let (folder, leaves) = log(size);
            for index in (0..size).step_by(13).chain([size - 1]) {
                let proved = prove(folder.path(), index, None, None, |_| {}).unwrap();
                assert_eq!(proved.proof.path, inclusion(&leaves, index).unwrap(), "{index} of {size}");
                let line = format!("record {index}");
                assert_eq!(proved.record.as_deref(), Some(line.as_bytes()));
                let read = Proof::parse(proved.proof.text().as_bytes()).unwrap();
                assert_eq!(read, proved.proof);
                assert_eq!(read.check(line.as_bytes(), None).unwrap().size, size);
                assert_eq!(read.check(b"record x", None), Err(CheckError::Elsewhere));
            }
            assert!(matches!(
                prove(folder.path(), size, None, None, |_| {}),
                Err(ProveError::Beyond { size: over, .. }) if over == size
            ));
        }
    }

    #[test]
    fn hashes_that_were_bent_are_made_anew_from_the_lines_and_lines_that_are_gone_are_proven_by_hashes() {
        let (folder, _) = log(700);
        let log = folder.path();
        let tile = tiles::path(log, 0, None);
        let good = fs::read(&tile).unwrap();
        fs::write(&tile, [&[1], &good[1..]].concat()).unwrap();
        let whole = prove(log, 5, None, None, |_| {}).unwrap();
        fs::write(&tile, &good).unwrap();
        assert_eq!(prove(log, 5, None, None, |_| {}).unwrap().proof, whole.proof);

        // 350 lines go; the tile in which they end is whole in hashes/.
        fs::remove_file(segment::compressed_path(&segment::path(log, 0))).unwrap();
        let without = prove(log, 5, None, None, |_| {}).unwrap();
        assert_eq!((without.proof, without.record), (whole.proof, None));
        let given = prove(log, 5, None, Some(b"record 5"), |_| {}).unwrap();
        assert_eq!(given.record.as_deref(), Some(b"record 5".as_slice()));
        assert!(matches!(prove(log, 5, None, Some(b"record 6"), |_| {}), Err(ProveError::OtherRecord(5))));
        assert!(prove(log, 400, None, None, |_| {}).unwrap().record.is_some());
        // Neither lines nor hashes.
        fs::remove_file(&tile).unwrap();
        assert!(matches!(prove(log, 400, None, None, |_| {}), Err(ProveError::Log(LogError::Io { .. }))));
    }

    #[test]
    fn a_log_that_is_not_what_was_signed_proves_nothing() {
        let (folder, _) = log(300);
        let log = folder.path();
        fs::write(segment::path(log, 150), "other\n".repeat(150)).unwrap();
        assert!(matches!(prove(log, 5, None, None, |_| {}), Err(ProveError::Differs { .. })));
        fs::write(log.join(CHECKPOINT), "nothing").unwrap();
        assert!(matches!(prove(log, 5, None, None, |_| {}), Err(ProveError::NoCheckpoint(_))));
    }

    #[test]
    fn no_bit_of_a_proof_may_change_but_in_what_nobody_vouches_for() {
        let (folder, _) = log(20);
        let proved = prove(folder.path(), 7, None, None, |_| {}).unwrap();
        let (text, key) = (proved.proof.text(), proved.proof.key.unwrap());
        let start = text.find("extra ").unwrap();
        let extra = start..start + text[start..].find('\n').unwrap();
        for at in (0..text.len()).filter(|at| !extra.contains(at)) {
            for bit in 0..8 {
                let mut bent = text.clone().into_bytes();
                bent[at] ^= 1 << bit;
                let holds = Proof::parse(&bent).and_then(|proof| proof.check(b"record 7", Some(&key)));
                assert!(holds.is_err(), "byte {at} bit {bit}");
            }
        }
        for text in ["", HEADER, "c2sp.org/tlog-proof@v1\n\n\n", "c2sp.org/tlog-proof@v1\nindex 07\n\nnote"] {
            assert_eq!(Proof::parse(text.as_bytes()), Err(CheckError::Malformed), "{text}");
        }
        let foreign = text.replacen(&text[extra], "extra AAEC", 1);
        let foreign = Proof::parse(foreign.as_bytes()).unwrap();
        assert_eq!(foreign.check(b"record 7", None), Err(CheckError::NoKey));
        assert!(foreign.check(b"record 7", Some(&key)).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, text: String) {
            let _ = Proof::parse(&bytes);
            let _ = Proof::parse(format!("{HEADER}\nindex 1\n{text}").as_bytes());
        }
    }
}
