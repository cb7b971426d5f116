//! What is hashed ahead on several threads is judged as if one line were read after the other: on logs that were damaged in
//! any way, and on one that grows.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::sync::mpsc::{TrySendError, sync_channel};

use aws_lc_rs::digest::{SHA256, digest};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::bounds;
use crate::ledger::action::Action;
use crate::ledger::merkle::leaf;
use crate::ledger::note::{Checkpoint, Signer};
use crate::ledger::record::{MAX_LINE, Observer, Record};
use crate::ledger::segment::{Lines, SUMS};

const ORIGIN: &str = "license-relay/test";

/// A log of some segments, all but the last of them sealed.
struct Log {
    folder: tempfile::TempDir,
    signer: Signer,
    tree: Frontier,
    leaves: Vec<Hash>,
}

impl Log {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(segment::FOLDER)).unwrap();
        let signer = Signer::open_or_make(&folder.path().join("key"), ORIGIN).unwrap();
        let about = LogFile::new(ORIGIN, signer.verifier.to_string(), None);
        fs::write(LogFile::path(folder.path()), about.to_bytes()).unwrap();
        Self { folder, signer, tree: Frontier::default(), leaves: Vec::new() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The next records, as they lie in a segment.
    fn lines(&mut self, count: u64) -> Vec<u8> {
        let observer = Observer { name: ORIGIN.to_owned(), version: "0.1.0" };
        let mut lines = Vec::new();
        for _ in 0..count {
            let action = if self.tree.size() % 7 == 3 { Action::AuditGap } else { Action::SyncRequest };
            let line = Record::new(action, Uuid::nil()).line(self.tree.size(), Timestamp::now(), &observer);
            let line = line.unwrap();
            let hash = leaf(&line[..line.len() - 1]);
            self.tree.push(hash);
            self.leaves.push(hash);
            lines.extend(line);
        }
        lines
    }

    fn sign(&self) {
        let (size, root) = (self.tree.size(), self.tree.root());
        let checkpoint = Checkpoint { origin: ORIGIN.into(), size, root, time: Some(Timestamp::now()) };
        let new = self.path().join("checkpoint.new");
        fs::write(&new, self.signer.sign(&checkpoint)).unwrap();
        fs::rename(new, self.path().join(CHECKPOINT)).unwrap();
    }

    /// Writes the hashes of all records.
    fn keep_hashes(&self) {
        for (tile, hashes) in self.leaves.chunks(WIDTH as usize).enumerate() {
            tiles::write(self.path(), tile as u64, hashes).unwrap();
        }
    }
}

/// What a verification says, as far as it depends on what is hashed, and the lines that it gives.
#[derive(Debug, PartialEq)]
struct Answer {
    records: u64,
    root: Option<String>,
    signed: Option<u64>,
    damage: Vec<String>,
    damages: u64,
    gaps: u64,
    half: u64,
    given: Vec<(u64, Vec<u8>)>,
}

fn verified(log: &Path) -> Answer {
    let mut given = Vec::new();
    let all = verify_and_read(
        log,
        &[],
        |_| {},
        1,
        |index, whole| {
            given.push((index, whole.line.to_vec()));
            true
        },
    );
    let Verified { records, root, checkpoint, damage, damages, gaps, half_a_line: half, .. } = all.unwrap();
    let signed = checkpoint.map(|checkpoint| checkpoint.size);
    Answer { records, root, signed, damage, damages, gaps, half, given }
}

/// The same on one thread, by the plainest means, of a log that has one checkpoint and lacks no segment.
fn plainly(log: &Path) -> Answer {
    let about = LogFile::read(log).unwrap().unwrap();
    let key: Verifier = about.vkey.parse().unwrap();
    let file = log.join(CHECKPOINT);
    let checkpoint = key.open(&fs::read(&file).unwrap()).unwrap();
    let listed = fs::read_to_string(log.join(segment::FOLDER).join(SUMS)).unwrap();
    let is_listed = |path: &Path, hash: &[u8]| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let sum = listed.lines().find_map(|line| line.strip_suffix(name)).map(str::trim);
        sum.is_none_or(|sum| sum == hex(hash))
    };
    let mut tree = Some(Frontier::default());
    let judge = |tree: &Option<Frontier>| match tree {
        Some(tree) if tree.root() == checkpoint.root => Ok(checkpoint.size),
        Some(_) => Err(format!(
            "the first {} records are not those of the checkpoint {} (root {})",
            checkpoint.size,
            file.display(),
            hex(&checkpoint.root)
        )),
        None => Err(format!("{} can't be checked: records are missing", file.display())),
    };
    let (mut next, mut gaps, mut half, mut signed, mut given) = (0, 0, 0, None, Vec::new());
    let (mut damage, mut missing, mut is_judged) = (Vec::new(), Vec::new(), false);
    let segments = segment::list(log).unwrap();
    for segment in &segments {
        let path = segment.path.display();
        if segment.first < next {
            damage.push(format!(
                "the segment that starts with record {} repeats records before {next}",
                segment.first
            ));
        } else if segment.first > next {
            let last = segment.first - 1;
            missing.push(format!("records {next} to {last} are missing: their segment is not there"));
            // What was kept of them will do.
            while let (Some(grown), true) = (&mut tree, next < segment.first) {
                let tile = next / WIDTH;
                match tiles::read(log, tile, WIDTH.min(segment.first - tile * WIDTH)) {
                    Ok(hashes) => grown.push(hashes[(next % WIDTH) as usize]),
                    Err(_) => {
                        tree = None;
                        break;
                    }
                }
                next += 1;
                if next == checkpoint.size {
                    is_judged = true;
                    judge(&tree).map_or_else(|what| damage.push(what), |size| signed = Some(size));
                }
            }
            if !is_judged && (next..=segment.first).contains(&checkpoint.size) {
                is_judged = true;
                judge(&tree).map_or_else(|what| damage.push(what), |size| signed = Some(size));
            }
            next = segment.first;
        }
        let mut lines = Lines::of(segment).unwrap();
        let mut whole_file = Vec::new();
        let failed = loop {
            let line = match lines.next_line() {
                Ok(line) => line.to_vec(),
                Err(e) => break Some(e),
            };
            whole_file.extend_from_slice(&line);
            let too_long = line.len() > MAX_LINE && !line.ends_with(b"\n");
            if line.is_empty() {
                break None;
            }
            if !line.ends_with(b"\n") && !too_long {
                match segment.first == segments.last().unwrap().first {
                    true => half = line.len() as u64,
                    false => damage.push(format!("record {next} ({path}) is cut short")),
                }
                break None;
            }
            let bytes = line.strip_suffix(b"\n").unwrap_or(&line);
            let whole = Glance::of_whole(bytes);
            let kept = tiles::read(log, next / WIDTH, WIDTH).ok();
            let kept = kept.and_then(|tile| tile.get((next % WIDTH) as usize).copied());
            match whole.as_ref().map(|whole| whole.sequence) {
                Some(number) if number == next && kept.is_some_and(|kept| kept != leaf(bytes)) => {
                    damage.push(format!(
                        "record {next} ({path}) is not the one that was written: its hash differs from the one kept in hashes/"
                    ));
                }
                Some(number) if number == next => {}
                Some(number) => damage.push(format!(
                    "record {next} ({path}) has the number {number}: records were removed, added or moved"
                )),
                None => damage
                    .push(format!("record {next} ({path}) was changed: its sum does not match what it says")),
            }
            if Glance::at(bytes).is_some_and(|glance| glance.action == "audit.gap") {
                gaps += 1;
            }
            if whole.is_some() && !too_long {
                given.push((next, bytes.to_vec()));
            }
            if let Some(tree) = &mut tree {
                tree.push(leaf(bytes));
            }
            next += 1;
            if next == checkpoint.size && !is_judged {
                is_judged = true;
                judge(&tree).map_or_else(|what| damage.push(what), |size| signed = Some(size));
            }
            if too_long && let Err(e) = lines.skip_line(|bytes| whole_file.extend_from_slice(bytes)) {
                break Some(e);
            }
        };
        if let Some(e) = failed {
            damage.push(format!("{path} can't be read at record {next}: {e}"));
            continue;
        }
        let plain = segment::path(log, segment.first);
        let mut holds = is_listed(&plain, digest(&SHA256, &whole_file).as_ref());
        for _ in 0..2 {
            if !holds {
                damage.push(format!("{path} is not what {SUMS} says"));
            }
            holds = !segment.compressed
                || is_listed(&segment.path, digest(&SHA256, &fs::read(&segment.path).unwrap()).as_ref());
        }
    }
    if !is_judged {
        damage.push(format!(
            "the log has {next} whole records, and the checkpoint {} is over {}: {} are missing at the end",
            file.display(),
            checkpoint.size,
            checkpoint.size - checkpoint.size.min(next)
        ));
    }
    missing.extend(damage);
    let damages = missing.len() as u64;
    missing.truncate(bounds::FAULTS_LISTED);
    let root = tree.map(|tree| hex(&tree.root()));
    Answer { records: next, root, signed, damage: missing, damages, gaps, half, given }
}

/// What is done to a segment.
#[derive(Clone, Debug)]
enum Damage {
    Bend(u8),
    Remove,
    Double,
    Swap,
    Insert(usize),
    Cut,
}

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        let length = prop_oneof![0..100usize, MAX_LINE - 2..MAX_LINE + 3, 2 * MAX_LINE..3 * MAX_LINE];
        prop_oneof![
            3 => any::<u8>().prop_map(Self::Bend),
            1 => Just(Self::Remove),
            1 => Just(Self::Double),
            1 => Just(Self::Swap),
            1 => length.prop_map(Self::Insert),
            1 => Just(Self::Cut),
        ]
    }

    fn is_done_to(&self, bytes: &mut Vec<u8>, place: prop::sample::Index) {
        let mut lines: Vec<Vec<u8>> =
            bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        if lines.is_empty() {
            return;
        }
        let at = place.index(lines.len());
        match self {
            Self::Bend(mask) => {
                let byte = place.index(bytes.len());
                bytes[byte] ^= mask;
                return;
            }
            Self::Cut => return bytes.truncate(place.index(bytes.len())),
            Self::Remove => drop(lines.remove(at)),
            Self::Double => lines.insert(at, lines[at].clone()),
            Self::Swap => lines.swap(at, 0),
            Self::Insert(length) => {
                let mut line = vec![b'x'; *length];
                line.push(b'\n');
                lines.insert(at, line);
            }
        }
        *bytes = lines.concat();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_damaged_log_is_told_as_if_one_line_were_read_after_the_other(
        sizes in prop::collection::vec(1..400u64, 1..4),
        compressed in any::<bool>(),
        keeps_hashes in any::<bool>(),
        unsigned in 0..3u64,
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), Damage::any(), any::<bool>()), 0..4),
    ) {
        let mut log = Log::new();
        let segments: Vec<(u64, Vec<u8>)> =
            sizes.iter().map(|size| (log.tree.size(), log.lines(*size))).collect();
        log.sign();
        let more = log.lines(unsigned);
        if keeps_hashes {
            log.keep_hashes();
        }
        let last = segments.len() - 1;
        let mut sums = String::new();
        for (n, (first, mut lines)) in segments.into_iter().enumerate() {
            if n == last {
                lines.extend_from_slice(&more);
            }
            let plain = segment::path(log.path(), first);
            let name = plain.file_name().unwrap().to_str().unwrap().to_owned();
            let before = lines.clone();
            let damage = |bytes: &mut Vec<u8>, packed: bool| {
                for (segment, place, damage, is_of_packed) in &damages {
                    let bends = matches!(damage, Damage::Bend(_));
                    if segment.index(last + 1) == n && packed == (*is_of_packed && bends && compressed && n < last) {
                        damage.is_done_to(bytes, *place);
                    }
                }
            };
            damage(&mut lines, false);
            if n < last {
                sums.push_str(&format!("{}  {name}\n", hex(digest(&SHA256, &before).as_ref())));
            }
            if n < last && compressed {
                let mut packed = zstd::encode_all(lines.as_slice(), 1).unwrap();
                let right = zstd::encode_all(before.as_slice(), 1).unwrap();
                sums.push_str(&format!("{}  {name}.zst\n", hex(digest(&SHA256, &right).as_ref())));
                damage(&mut packed, true);
                fs::write(segment::compressed_path(&plain), packed).unwrap();
            } else {
                fs::write(plain, lines).unwrap();
            }
        }
        fs::write(log.path().join(segment::FOLDER).join(SUMS), sums).unwrap();
        prop_assert_eq!(verified(log.path()), plainly(log.path()));
    }
}

/// A relay writes lines, then signs them, and puts segments away. Whenever somebody verifies what it has written, all is well,
/// and at least what was signed before is there.
#[test]
fn a_log_that_grows_verifies_at_any_time() {
    let mut log = Log::new();
    let lines = log.lines(10);
    fs::write(segment::path(log.path(), 0), lines).unwrap();
    log.sign();
    let folder = log.path().to_owned();
    let (read, has_read) = sync_channel(0);
    let reader = std::thread::spawn(move || {
        let (mut signed, mut rounds) = (0, 0);
        loop {
            let all = verify(&folder, &[], |_| {}).unwrap();
            assert_eq!(all.damage, Vec::<String>::new());
            assert!(all.rolled_back.is_empty());
            let now = all.checkpoint.unwrap().size;
            assert!(now >= signed && all.records >= now, "{now} after {signed}, of {}", all.records);
            (signed, rounds) = (now, rounds + 1);
            match read.try_send(()) {
                Err(TrySendError::Disconnected(())) => return rounds,
                Ok(()) | Err(TrySendError::Full(())) => {}
            }
        }
    });
    let mut first = 0;
    while log.tree.size() < 20_000 {
        let lines = log.lines(50);
        let path = segment::path(log.path(), first);
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        // The last of them in two pieces.
        let (begin, end) = lines.split_at(lines.len() - 100);
        file.write_all(begin).unwrap();
        file.write_all(end).unwrap();
        log.sign();
        if log.tree.size() - first > 2000 {
            let packed = segment::compressed_path(&path);
            zstd::stream::copy_encode(
                File::open(&path).unwrap(),
                File::create(packed.with_extension("new")).unwrap(),
                1,
            )
            .unwrap();
            let sums = log.path().join(segment::FOLDER).join(SUMS);
            let mut listed = fs::read_to_string(&sums).unwrap_or_default();
            for (path, from) in [(&path, &path), (&packed, &packed.with_extension("new"))] {
                let hash = hex(digest(&SHA256, &fs::read(from).unwrap()).as_ref());
                listed.push_str(&format!("{hash}  {}\n", path.file_name().unwrap().display()));
            }
            fs::write(sums.with_extension("new"), listed).unwrap();
            fs::rename(sums.with_extension("new"), sums).unwrap();
            first = log.tree.size();
            let next = log.lines(1);
            fs::write(segment::path(log.path(), first), next).unwrap();
            log.sign();
            fs::rename(packed.with_extension("new"), packed).unwrap();
            fs::remove_file(path).unwrap();
            // The reader has seen each segment come and go: a writer that is faster would leave it behind.
            has_read.recv().unwrap();
        }
    }
    drop(has_read);
    assert!(reader.join().unwrap() > 9);
}

/// Where a list stands in the place of an object, a parser reads its elements by their places.
#[test]
fn a_line_that_is_no_outline_of_a_record_is_damage_and_is_not_handed_on() {
    let mut log = Log::new();
    let mut lines = log.lines(3);
    log.sign();
    let forged = r#"{"@timestamp":"2026-01-01T00:00:00Z","event":[3,"x","license.assignment.add"]"#;
    let sum = hex(&digest(&SHA256, format!("{forged}}}").as_bytes()).as_ref()[..8]);
    lines.extend(format!("{forged},\"sum\":\"{sum}\"}}\n").into_bytes());
    fs::write(segment::path(log.path(), 0), lines).unwrap();
    let mut given = 0;
    let verified = verify_and_read(
        log.path(),
        &[],
        |_| {},
        1,
        |_, _| {
            given += 1;
            true
        },
    );
    assert_eq!((verified.unwrap().verdict(), given), (Verdict::Damaged, 3));
}
