//! What a power cut may leave: after each single step of a trace, with what was not synced lost, kept, torn at 512 bytes
//! or kept while something earlier is lost, for what files hold as for what they are called.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use super::trace_disk::{Call, DiskFault, Op, TraceDisk};
use super::*;
use crate::audit::journal::State;
use relay_log::verify::log::Verdict;

const SECTOR: usize = 512;

/// What becomes of what was not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Lost,
    Kept,
    /// Names are kept, and what the files hold is lost.
    NamesOnly,
    /// The other way round.
    DataOnly,
    /// The first half is kept.
    Torn,
    /// The length is kept, and NULs are where the data should be.
    Nul,
    /// Every second sector is kept, and NULs are in the others.
    Holes,
    /// Of several changes the first is lost and the others are kept.
    FirstLost,
    /// By chance.
    Chance(u64),
}

impl Fate {
    /// All that are tried at a step, with four of its own that are chosen by chance.
    pub(super) fn all_at(step: usize) -> impl Iterator<Item = Self> {
        let chances = (0..4).map(move |n| Self::Chance(step as u64 * 4 + n));
        let fates = [
            Self::Lost,
            Self::Kept,
            Self::NamesOnly,
            Self::DataOnly,
            Self::Torn,
            Self::Nul,
            Self::Holes,
            Self::FirstLost,
        ];
        fates.into_iter().chain(chances)
    }
}

/// Files as they are on disk, and what is on the way there.
#[derive(Clone, Default)]
pub(super) struct Model {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    pending: Vec<Naming>,
}

#[derive(Clone, Default)]
struct File {
    lasting: Vec<u8>,
    length: usize,
    pending: Vec<DiskChange>,
}

#[derive(Clone)]
enum DiskChange {
    Write(usize, Vec<u8>),
    Cut(usize),
}

#[derive(Clone)]
enum Naming {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Move(PathBuf, PathBuf, usize),
}

impl Naming {
    fn folder(&self) -> &Path {
        let (Self::Link(path, _) | Self::Unlink(path) | Self::Move(_, path, _)) = self;
        path.parent().unwrap()
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, file) => drop(names.insert(path.clone(), *file)),
            Self::Unlink(path) => drop(names.remove(path)),
            Self::Move(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl Model {
    /// As the folder was before the trace, all of it on disk.
    fn of(before: &FileTree, disk: &TraceDisk) -> Self {
        let mut model = Self::default();
        for (path, bytes) in before {
            let file = disk.file(path);
            model.file(file).lasting = bytes.clone();
            model.file(file).length = bytes.len();
            model.names.insert(path.clone(), file);
        }
        model
    }

    fn file(&mut self, file: usize) -> &mut File {
        if self.files.len() <= file {
            self.files.resize(file + 1, File::default());
        }
        &mut self.files[file]
    }

    /// What a process sees: everything that was done.
    fn seen(&self) -> BTreeMap<PathBuf, usize> {
        let mut names = self.names.clone();
        self.pending.iter().for_each(|naming| naming.apply(&mut names));
        names
    }

    pub(super) fn step(&mut self, op: &Op) {
        match op {
            Op::Create(path, file) => {
                *self.file(*file) = File::default();
                self.pending.push(Naming::Link(path.clone(), *file));
            }
            Op::Write(file, bytes) => {
                let file = self.file(*file);
                file.pending.push(DiskChange::Write(file.length, bytes.clone()));
                file.length += bytes.len();
            }
            Op::Cut(file, length) => {
                let file = self.file(*file);
                file.length = usize::try_from(*length).unwrap();
                file.pending.push(DiskChange::Cut(file.length));
            }
            Op::Sync(file) => {
                let file = self.file(*file);
                file.lasting = file.left(Fate::Kept, &mut 1);
                file.pending.clear();
            }
            Op::Rename(from, to) => {
                let file = self.seen()[from];
                self.pending.push(Naming::Move(from.clone(), to.clone(), file));
            }
            Op::Remove(path) => self.pending.push(Naming::Unlink(path.clone())),
            Op::SyncFolder(folder) => {
                let (here, elsewhere): (Vec<_>, Vec<_>) =
                    self.pending.drain(..).partition(|naming| naming.folder() == folder);
                here.iter().for_each(|naming| naming.apply(&mut self.names));
                self.pending = elsewhere;
            }
            Op::Handed(_) | Op::Acked(_) => {}
        }
    }

    pub(super) fn left(&self, fate: Fate) -> FileTree {
        let mut random = match fate {
            Fate::Chance(seed) => seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            _ => 1,
        };
        let mut names = self.names.clone();
        let half = self.pending.len() / 2;
        for (n, naming) in self.pending.iter().enumerate() {
            let kept = match fate {
                Fate::Lost | Fate::DataOnly => false,
                Fate::Kept | Fate::NamesOnly | Fate::Nul => true,
                Fate::Torn => n < half,
                Fate::Holes => n % 2 == 1,
                Fate::FirstLost => n > 0,
                Fate::Chance(_) => chance(&mut random),
            };
            if kept {
                naming.apply(&mut names);
            }
        }
        names.into_iter().map(|(path, file)| (path, self.files[file].left(fate, &mut random))).collect()
    }
}

impl File {
    fn left(&self, fate: Fate, random: &mut u64) -> Vec<u8> {
        let mut left = self.lasting.clone();
        for (n, change) in self.pending.iter().enumerate() {
            let whole = match fate {
                Fate::Lost | Fate::NamesOnly => false,
                Fate::FirstLost => n > 0,
                _ => true,
            };
            match change {
                _ if !whole => {}
                DiskChange::Cut(length) => {
                    if !matches!(fate, Fate::Chance(_)) || chance(random) {
                        left.truncate(*length);
                    }
                }
                DiskChange::Write(at, bytes) => {
                    let end = at + bytes.len();
                    let sectors = (at / SECTOR)..end.div_ceil(SECTOR);
                    let half = sectors.start + sectors.len() / 2;
                    for sector in sectors {
                        let (from, to) = ((sector * SECTOR).max(*at), ((sector + 1) * SECTOR).min(end));
                        let kept = match fate {
                            Fate::Torn => sector < half,
                            Fate::Holes => sector % 2 == 1,
                            Fate::Nul => false,
                            Fate::Chance(_) => chance(random),
                            _ => true,
                        };
                        let longer = kept || matches!(fate, Fate::Holes | Fate::Nul);
                        if longer && left.len() < to {
                            left.resize(to, 0);
                        }
                        if kept {
                            left[from..to].copy_from_slice(&bytes[from - at..to - at]);
                        }
                    }
                }
            }
        }
        left
    }
}

fn chance(random: &mut u64) -> bool {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random & 64 == 0
}

/// Runs something on a traced disk; what it left, step by step.
pub(super) struct Life {
    pub(super) site: Site,
    pub(super) disk: Arc<TraceDisk>,
    before: FileTree,
    pub(super) begin: Model,
}

impl Life {
    pub(super) fn on(site: Site) -> Self {
        let disk = TraceDisk::new(&site.log());
        let before = if site.log().exists() { site.tree() } else { FileTree::new() };
        let begin = Model::of(&before, &disk);
        Self { site, disk, before, begin }
    }

    fn open(&self, segment_bytes: u64) -> Running {
        Running::open(Opening { disk: self.disk.clone(), segment_bytes, ..self.site.opening() }).unwrap()
    }

    fn commit(&self, running: &Running, numbers: std::ops::Range<u64>) {
        self.disk.tell(Op::Handed(numbers.clone().collect()));
        running.commit(numbers.clone());
        self.disk.tell(Op::Acked(numbers.collect()));
    }

    /// Cuts the power after every step, in every way, and starts again on what is left.
    fn cut_everywhere(&self) {
        let already: Vec<u64> = {
            let whole = self.site.with_log(&self.before);
            whole.numbers()
        };
        let (mut handed, mut acked): (BTreeSet<u64>, BTreeSet<u64>) =
            (already.iter().copied().collect(), already.into_iter().collect());
        let mut model = self.begin.clone();
        let mut seen = BTreeSet::new();
        for (step, op) in self.disk.ops().iter().enumerate() {
            model.step(op);
            match op {
                Op::Handed(numbers) => handed.extend(numbers),
                Op::Acked(numbers) => acked.extend(numbers),
                _ => {}
            }
            for fate in Fate::all_at(step) {
                let mut left = model.left(fate);
                // Tiles are not synced at all, and may be as they were in memory, gone, or full of NULs.
                for (path, bytes) in &self.site.tree() {
                    if path.starts_with("hashes") && !matches!(fate, Fate::Lost | Fate::NamesOnly) {
                        let nul = matches!(fate, Fate::Nul | Fate::Holes);
                        left.insert(path.clone(), if nul { vec![0; bytes.len()] } else { bytes.clone() });
                    }
                }
                if seen.insert((left.clone(), acked.len())) {
                    self.starts_on(
                        &left,
                        &handed,
                        &acked,
                        &format!("after step {step}, {op:.80?}, {fate:?}"),
                    );
                }
            }
        }
        assert!(seen.len() > 20, "only {} different folders", seen.len());
    }

    fn starts_on(&self, left: &FileTree, handed: &BTreeSet<u64>, acked: &BTreeSet<u64>, what: &str) {
        const NEW: u64 = 1_000_000;
        let site = self.site.with_log(left);
        let running = Running::open(site.opening()).unwrap_or_else(|e| panic!("{what}: {e}"));
        running.commit([NEW]);
        running.close();
        eventually("all that is sealed is put away", || {
            let listed = segment::list(&site.log()).unwrap();
            listed.iter().rev().skip(1).all(|segment| segment.compressed).then_some(())
        });
        let numbers = site.numbers();
        let (last, old) = numbers.split_last().unwrap();
        assert_eq!(*last, NEW, "{what}");
        assert!(old.is_sorted_by(|a, b| a < b), "{what}: {old:?}");
        let old: BTreeSet<u64> = old.iter().copied().collect();
        assert!(acked.is_subset(&old), "{what}: lost {:?}", acked.difference(&old));
        assert!(old.is_subset(handed), "{what}: invented {:?}", old.difference(handed));
        let verified = site.verify();
        assert_eq!(verified.verdict(), Verdict::Fine, "{what}: {verified:#?}");
        assert_eq!(verified.unsigned, 0, "{what}");

        let before = site.tree();
        let again = site.recover().unwrap();
        assert!(again.found.torn.is_none() && again.found.unsigned == 0, "{what}");
        assert_eq!(site.tree(), before, "{what}: a second recovery is a no-op");
    }
}

#[test]
fn a_power_cut_at_any_step_of_a_first_run_loses_nothing_that_was_acknowledged() {
    let life = Life::on(Site::new());
    let running = life.open(bounds::SEGMENT_BYTES);
    for batch in [0..1, 1..4, 4..5, 5..14, 14..15] {
        life.commit(&running, batch);
    }
    wait(running.journal.sign());
    life.commit(&running, 15..17);
    running.close();
    life.cut_everywhere();
}

#[test]
fn a_power_cut_at_any_step_of_a_seal_loses_nothing_that_was_acknowledged() {
    let life = Life::on(Site::new());
    let running = life.open(1500);
    for n in 0..4 {
        life.commit(&running, n * 5..n * 5 + 5);
    }
    running.close();
    eventually("all that is sealed is put away", || {
        (segment::list(&life.site.log()).unwrap().iter().filter(|s| !s.compressed).count() == 1).then_some(())
    });
    assert!(segment::list(&life.site.log()).unwrap().len() > 2);
    life.cut_everywhere();
}

#[test]
fn a_power_cut_at_any_step_of_a_recovery_loses_nothing_that_was_acknowledged() {
    let first = Site::new();
    let running = first.open();
    running.commit(0..6);
    running.close();
    let mut torn = first.tree();
    let segment = torn.get_mut(Path::new("segments/00000000000000000000.jsonl")).unwrap();
    segment.extend(b"{\"@timestamp\":\"2026-11-25T08:");
    let life = Life::on(first.with_log(&torn));
    let running = life.open(bounds::SEGMENT_BYTES);
    life.commit(&running, 10..13);
    running.close();
    assert_eq!(life.site.actions().iter().filter(|action| *action == "audit.recovered").count(), 1);
    life.cut_everywhere();
}

#[test]
fn a_power_cut_around_a_write_that_was_rolled_back_loses_nothing_that_was_acknowledged() {
    let life = Life::on(Site::new());
    let running = life.open(bounds::SEGMENT_BYTES);
    life.commit(&running, 0..3);
    let writes = AtomicUsize::new(0);
    life.disk.order(move |call, path| match call {
        Call::Write(_) if path.starts_with("segments") => {
            Some(match writes.fetch_add(1, Ordering::Relaxed) {
                0 => DiskFault::Short(700),
                _ => DiskFault::Error(Errno::NOSPC),
            })
        }
        _ => None,
    });
    life.disk.tell(Op::Handed((3..9).collect()));
    wait(running.journal.commit((3..9).map(record).collect())).unwrap_err();
    life.disk.heal();
    eventually("the log can be written again", || {
        (*running.journal.state().borrow() == State::Writable).then_some(())
    });
    life.commit(&running, 20..23);
    running.close();
    life.cut_everywhere();
}

/// The order in which things are made lasting, by the trace alone.
#[test]
fn nothing_is_acknowledged_before_it_and_its_file_are_on_disk() {
    let life = Life::on(Site::new());
    let running = life.open(1500);
    for n in 0..8 {
        life.commit(&running, n * 3..n * 3 + 3);
    }
    running.close();
    let ops = life.disk.ops();
    let parent = life.site.log().parent().unwrap().to_owned();
    let mut folders = BTreeSet::new();
    let (mut unsynced, mut unnamed) = (BTreeSet::new(), BTreeSet::new());
    let segment = |path: &Path| path.extension().is_some_and(|extension| extension == "jsonl");
    let mut segments = BTreeSet::new();
    let mut acked = 0;
    for op in &ops {
        match op {
            Op::Create(path, file) if segment(path) => {
                segments.insert(*file);
                unnamed.insert(*file);
            }
            Op::SyncFolder(folder) => {
                folders.insert(folder.clone());
                if folder == Path::new("segments") {
                    unnamed.clear();
                }
            }
            Op::Write(file, _) if segments.contains(file) => drop(unsynced.insert(*file)),
            Op::Sync(file) => drop(unsynced.remove(file)),
            Op::Acked(_) => {
                acked += 1;
                assert!(unsynced.is_empty() && unnamed.is_empty(), "{unsynced:?} {unnamed:?}");
                for folder in [parent.as_path(), Path::new(""), Path::new("segments")] {
                    assert!(folders.contains(folder), "{} was not synced", folder.display());
                }
            }
            _ => {}
        }
    }
    assert_eq!(acked, 8);
}

/// What a start reads may be in memory only: after a sync that failed, the kernel calls pages clean that it never wrote. So
/// it is written anew, into a file of its own, before anything stands on it.
#[test]
fn an_end_that_no_checkpoint_covers_is_written_anew_before_anything_is_acknowledged() {
    let first = Site::new();
    let running = first.open();
    running.commit(0..3);
    running.close();
    let signed = first.tree();
    let running = first.open();
    running.commit(3..6);
    running.close();
    let mut log = first.tree();
    for (path, bytes) in signed {
        if !path.starts_with("segments") {
            log.insert(path, bytes);
        }
    }
    log.retain(|path, _| !path.ends_with("00000000000000000006.note"));
    let life = Life::on(first.with_log(&log));
    let running = life.open(bounds::SEGMENT_BYTES);
    life.commit(&running, 10..11);
    running.close();
    let ops = life.disk.ops();
    let acked = ops.iter().position(|op| matches!(op, Op::Acked(_))).unwrap();
    let name = PathBuf::from("segments/00000000000000000000.jsonl");
    let renamed = ops.iter().position(|op| matches!(op, Op::Rename(_, to) if *to == name)).unwrap();
    let written = ops[..renamed].iter().filter_map(|op| match op {
        Op::Write(_, bytes) => Some(bytes.len()),
        _ => None,
    });
    assert_eq!(written.sum::<usize>(), log[&name].len(), "not all of it is written anew");
    assert!(matches!(ops[renamed - 1], Op::Sync(_)), "{:?}", ops[renamed - 1]);
    assert_eq!(ops[renamed + 1], Op::SyncFolder("segments".into()));
    assert!(renamed < acked);
    // Names that a run made which was killed right after.
    assert!(ops[..renamed].contains(&Op::SyncFolder(PathBuf::new())));
    assert_eq!(life.site.numbers(), [0, 1, 2, 3, 4, 5, 10]);
    assert_eq!(life.site.actions().iter().filter(|action| *action == "audit.recovered").count(), 1);
}
