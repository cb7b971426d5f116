//! The lines of a segment with their hashes, computed on threads of their own ahead of whoever judges the lines, in order.
//!
//! One thread reads the file, decompresses it, hashes the whole of it and cuts it into lines; others hash the lines, a batch
//! each in turn. So one segment is enough to keep all processors busy, and what is there ahead of the judge is a few batches,
//! however long the log is. A thread for each segment would need the whole of each in memory, because the judge wants them
//! one after the other.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::mem;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use aws_lc_rs::digest::{Context, SHA256};

use crate::bounds::{HASH_BATCH, HASH_LINES, HASH_WAITING, READ_PIECE, UNPACKED_PIECE};
use crate::ledger::glance::sum_holds;
use crate::ledger::merkle::{Hash, finished, leaf_of};
use crate::ledger::record::MAX_LINE;
use crate::ledger::regular_file;
use crate::ledger::segment::Segment;
use crate::threads::{self, NoThread};

/// What comes next of a segment.
pub(super) enum Step {
    /// The next lines.
    Lines(Batch),
    /// All that was there has been read; the reader looks once more when the judge has judged that.
    CaughtUp,
    /// There is no more.
    End(End),
    /// The file can't be read on.
    Failed(io::Error),
}

/// What is known of a segment at its end.
pub(super) struct End {
    /// SHA-256 of all its bytes, decompressed.
    pub(super) plain: Hash,
    /// SHA-256 of the compressed file.
    pub(super) packed: Option<Hash>,
    /// Bytes of a last line that has no line feed and is not too long.
    pub(super) torn: usize,
}

/// Lines, one behind the other.
pub(super) struct Batch {
    /// In place of its line feed, each line has a zero byte before it, as its leaf has.
    bytes: Vec<u8>,
    lines: Vec<Place>,
}

/// A line of a batch.
struct Place {
    begin: usize,
    end: usize,
    leaf: Hash,
    sum_holds: bool,
    too_long: bool,
}

/// A line, and what its bytes alone tell.
#[derive(Clone, Copy)]
pub(super) struct HashedLine<'a> {
    /// Without its line feed.
    pub(super) bytes: &'a [u8],
    /// Its leaf in the tree.
    pub(super) leaf: Hash,
    /// It ends with the sum of what stands before.
    pub(super) sum_holds: bool,
    /// It is longer than any line may be: these are its first bytes.
    pub(super) too_long: bool,
}

impl Batch {
    pub(super) fn lines(&self) -> impl Iterator<Item = HashedLine<'_>> {
        self.lines.iter().map(|place| {
            let Place { begin, end, leaf, sum_holds, too_long } = *place;
            HashedLine { bytes: &self.bytes[begin..end], leaf, sum_holds, too_long }
        })
    }

    fn hash(&mut self) {
        for place in &mut self.lines {
            place.leaf = leaf_of(&self.bytes[place.begin - 1..place.end]);
            place.sum_holds = sum_holds(&self.bytes[place.begin..place.end]);
        }
    }
}

/// A segment as its steps come.
pub(super) struct Hashed {
    lanes: Vec<Receiver<Step>>,
    turn: usize,
    go_on: Option<SyncSender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Hashed {
    /// Begins to read a segment that was opened, with so many threads that hash its lines. With none, neither
    /// lines nor what was decompressed is hashed.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(mut reader: Reader, hashers: usize) -> Result<Self, NoThread> {
        let (go_on, wait) = sync_channel(1);
        let mut hashed = Self { lanes: Vec::new(), turn: 0, go_on: Some(go_on), threads: Vec::new() };
        let mut lanes = Vec::new();
        for _ in 0..hashers {
            let (give, take) = sync_channel(HASH_WAITING);
            let (hand_on, lane) = sync_channel(HASH_WAITING);
            hashed.thread("hash", move || hash_lane(&take, &hand_on))?;
            hashed.lanes.push(lane);
            lanes.push(give);
        }
        if hashers == 0 {
            let (hand_on, lane) = sync_channel(HASH_WAITING);
            hashed.lanes.push(lane);
            lanes.push(hand_on);
            reader.hashes = false;
        }
        hashed.thread("read", move || reader.run(&lanes, &wait))?;
        Ok(hashed)
    }

    fn thread(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), NoThread> {
        self.threads.push(threads::start(name, work)?);
        Ok(())
    }

    /// The next step, once all before it has been judged.
    pub(super) fn next(&mut self) -> Step {
        loop {
            let step = self.lanes[self.turn].recv();
            self.turn = (self.turn + 1) % self.lanes.len();
            match step {
                Ok(Step::CaughtUp) => {
                    // Where nobody waits for it, what has happened stands in a lane.
                    let _ = self.go_on.as_ref().map(|go_on| go_on.send(()));
                }
                Ok(step) => return step,
                Err(_) => {
                    if let Some(why) = self.end().pop() {
                        resume_unwind(why);
                    }
                    return Step::Failed(io::Error::other("its reader has ended before its end"));
                }
            }
        }
    }

    /// Waits until all threads have ended, which find nobody who takes anything; gives what those said that have failed.
    fn end(&mut self) -> Vec<Box<dyn std::any::Any + Send>> {
        let lanes = mem::take(&mut self.lanes);
        drop(lanes);
        self.go_on = None;
        self.threads.drain(..).filter_map(|thread| thread.join().err()).collect()
    }
}

impl Drop for Hashed {
    fn drop(&mut self) {
        self.end();
    }
}

fn hash_lane(take: &Receiver<Step>, hand_on: &SyncSender<Step>) {
    while let Ok(mut step) = take.recv() {
        if let Step::Lines(batch) = &mut step {
            batch.hash();
        }
        if hand_on.send(step).is_err() {
            return;
        }
    }
}

/// A segment that was opened.
pub(super) struct Reader {
    from: SegmentSource,
    hash: Context,
    /// Whether what is read of the file, decompressed, is hashed.
    hashes: bool,
    /// What was read behind the last line feed.
    rest: Vec<u8>,
    /// In a line that is too long, behind those of its bytes that are judged.
    skipping: bool,
    /// Something was read since the judge was last waited for.
    fresh: bool,
}

enum SegmentSource {
    Plain(File),
    Packed(Box<zstd::Decoder<'static, BufReader<HashedFile>>>),
}

/// A file that is hashed as it is read.
struct HashedFile {
    file: File,
    hash: Context,
}

impl Read for HashedFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.hash.update(&into[..read]);
        Ok(read)
    }
}

impl Reader {
    /// Opens a segment.
    ///
    /// # Errors
    /// The file can't be read, or is no regular file ([`io::ErrorKind::InvalidData`]).
    pub(super) fn open(segment: &Segment) -> io::Result<Self> {
        let file = regular_file::open(&segment.path)?;
        let from = match segment.compressed {
            true => {
                let file = HashedFile { file, hash: Context::new(&SHA256) };
                SegmentSource::Packed(Box::new(zstd::Decoder::new(file)?))
            }
            false => SegmentSource::Plain(file),
        };
        let hash = Context::new(&SHA256);
        Ok(Self { from, hash, hashes: true, rest: Vec::new(), skipping: false, fresh: false })
    }

    fn run(mut self, lanes: &[SyncSender<Step>], wait: &Receiver<()>) {
        let mut turns = lanes.iter().cycle();
        let mut send = |step| turns.next().is_some_and(|lane| lane.send(step).is_ok());
        loop {
            let (mut bytes, ended) = self.bytes();
            loop {
                let lines = self.cut(&mut bytes);
                let is_full = lines.len() == HASH_LINES;
                // Inside a line that is too long, this tells whether somebody still wants to know.
                let is_due = !lines.is_empty() || self.skipping;
                if is_due && !send(Step::Lines(Batch { bytes, lines })) {
                    return;
                }
                if !is_full {
                    break;
                }
                bytes = self.begun();
            }
            match ended {
                Ok(false) => {}
                Ok(true) if mem::take(&mut self.fresh) && matches!(self.from, SegmentSource::Plain(_)) => {
                    // A relay may have written more by the time that the judge comes here, and a checkpoint over it, which the
                    // judge may have read.
                    if !send(Step::CaughtUp) || wait.recv().is_err() {
                        return;
                    }
                    if self.is_shorter() {
                        send(Step::End(self.end()));
                        return;
                    }
                }
                Ok(true) => {
                    send(Step::End(self.end()));
                    return;
                }
                Err(e) => {
                    send(Step::Failed(e));
                    return;
                }
            }
        }
    }

    /// The bytes of the next lines, and whether the file ends there.
    fn bytes(&mut self) -> (Vec<u8>, io::Result<bool>) {
        let mut bytes = self.begun();
        let mut ended = Ok(false);
        while bytes.len() < HASH_BATCH && matches!(ended, Ok(false)) {
            ended = self.read(&mut bytes);
        }
        (bytes, ended)
    }

    /// What is left of the bytes before, as a batch begins.
    fn begun(&mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + HASH_BATCH + READ_PIECE);
        bytes.push(0);
        bytes.append(&mut self.rest);
        bytes
    }

    /// Whether a relay has taken back the line of which a part was read: it does where a disk was full.
    fn is_shorter(&mut self) -> bool {
        let SegmentSource::Plain(file) = &mut self.from else { return false };
        let ends = file.metadata().map(|about| about.len()).ok();
        !self.rest.is_empty() && file.stream_position().ok() > ends
    }

    fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<bool> {
        let begin = bytes.len();
        let read = match &mut self.from {
            SegmentSource::Plain(file) => read_piece(file, bytes, READ_PIECE),
            SegmentSource::Packed(packed) => read_piece(packed, bytes, UNPACKED_PIECE),
        };
        bytes.truncate(begin + read.as_ref().map_or(0, |read| *read));
        if self.hashes {
            self.hash.update(&bytes[begin..]);
        }
        self.fresh |= bytes.len() > begin;
        Ok(read? == 0)
    }

    /// The places of the lines that are there, up to so many; what comes behind them is kept for the next ones.
    fn cut(&mut self, bytes: &mut Vec<u8>) -> Vec<Place> {
        let mut lines = Vec::with_capacity(HASH_BATCH / 512);
        let mut begin = 1;
        loop {
            if lines.len() == HASH_LINES {
                break;
            }
            let longest = if self.skipping { usize::MAX } else { MAX_LINE + 1 };
            let rest = &bytes[begin..];
            let mut rest = &rest[..rest.len().min(longest)];
            let passed = rest.skip_until(b'\n').unwrap_or_default();
            let end = begin + passed;
            let is_ended = passed > 0 && bytes[end - 1] == b'\n';
            let place =
                |end, too_long| Place { begin, end, leaf: Hash::default(), sum_holds: false, too_long };
            match (is_ended, self.skipping) {
                (true, false) => lines.push(place(end - 1, false)),
                (true, true) => self.skipping = false,
                (false, false) if passed > MAX_LINE => {
                    lines.push(place(end, true));
                    self.skipping = true;
                }
                (false, false) => break,
                (false, true) => {
                    begin = end;
                    break;
                }
            }
            if is_ended {
                bytes[end - 1] = 0;
            }
            begin = end;
        }
        self.rest = bytes.split_off(begin);
        lines
    }

    fn end(self) -> End {
        let packed = match self.from {
            SegmentSource::Plain(_) => None,
            SegmentSource::Packed(packed) => Some(finished(packed.finish().into_inner().hash)),
        };
        End { plain: finished(self.hash), packed, torn: self.rest.len() }
    }
}

/// Adds a piece of what can be read, and bytes behind it that were not read.
fn read_piece(from: &mut impl Read, bytes: &mut Vec<u8>, length: usize) -> io::Result<usize> {
    let begin = bytes.len();
    bytes.resize(begin + length, 0);
    loop {
        match from.read(&mut bytes[begin..]) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::ledger::glance::Glance;
    use crate::ledger::merkle::leaf;
    use crate::ledger::segment::Lines;

    /// A line's bytes, leaf, whether its sum holds, and whether it is too long.
    type Line = (Vec<u8>, Hash, bool, bool);
    /// All lines, and the hashes and the torn bytes at the end; or why they can't be read on.
    type Read = (Vec<Line>, Result<(Hash, Option<Hash>, usize), String>);

    fn at(path: &Path, compressed: bool) -> Segment {
        Segment { first: 0, path: path.to_owned(), compressed }
    }

    fn hashed(segment: &Segment, hashers: usize) -> Read {
        let mut steps = Hashed::start(Reader::open(segment).unwrap(), hashers).unwrap();
        let mut lines = Vec::new();
        loop {
            match steps.next() {
                Step::Lines(batch) => {
                    let own = |line: HashedLine<'_>| {
                        (line.bytes.to_vec(), line.leaf, line.sum_holds, line.too_long)
                    };
                    lines.extend(batch.lines().map(own));
                }
                Step::CaughtUp => unreachable!(),
                Step::End(End { plain, packed, torn }) => return (lines, Ok((plain, packed, torn))),
                Step::Failed(e) => return (lines, Err(e.to_string())),
            }
        }
    }

    /// The same, one line after the other.
    fn plainly(segment: &Segment) -> Read {
        let mut from = Lines::of(segment).unwrap();
        let (mut lines, mut whole) = (Vec::new(), Context::new(&SHA256));
        let torn = loop {
            let line = match from.next_line() {
                Ok(line) => line,
                Err(e) => return (lines, Err(e.to_string())),
            };
            whole.update(line);
            let too_long = line.len() > MAX_LINE && !line.ends_with(b"\n");
            let bytes = match line.strip_suffix(b"\n") {
                Some(bytes) => bytes,
                None if too_long => line,
                None => break line.len(),
            };
            // No line here has a sum that is right and is no record.
            lines.push((bytes.to_vec(), leaf(bytes), Glance::of_whole(bytes).is_some(), too_long));
            if too_long && let Err(e) = from.skip_line(|bytes| whole.update(bytes)) {
                return (lines, Err(e.to_string()));
            }
        };
        let packed = segment.compressed.then(|| {
            let mut packed = File::open(&segment.path).unwrap();
            regular_file::hash_of(&mut packed).unwrap()
        });
        (lines, Ok((finished(whole), packed, torn)))
    }

    /// A line of a record, one that is empty, junk of any length around those that matter, and the end of no line.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![
            0..300usize,
            MAX_LINE - 3..MAX_LINE + 4,
            Just(HASH_BATCH - 1),
            3 * MAX_LINE..4 * MAX_LINE
        ];
        let junk = (length, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]);
        let record = any::<u64>().prop_map(|sequence| {
            use crate::ledger::action::Action;
            use crate::ledger::record::{Observer, Record};
            let observer = Observer { name: "relay-01".into(), version: "0.1.0" };
            let record = Record::new(Action::SyncRequest, uuid::Uuid::nil());
            record.line(sequence, jiff::Timestamp::UNIX_EPOCH, &observer).unwrap()
        });
        prop_oneof![8 => record, 2 => junk, 1 => Just(b"\n".to_vec())]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_is_in_a_file_is_read_as_if_one_line_were_read_after_the_other(
            pieces in prop::collection::vec((pieces(), 1..200usize), 0..12),
            compressed in any::<bool>(),
            hashers in 1..5usize,
            bent in prop::option::weighted(0.3, any::<prop::sample::Index>()),
        ) {
            let mut bytes: Vec<u8> = Vec::new();
            for (piece, times) in pieces {
                let times = if piece.len() > 1000 { 1 } else { times };
                (0..times).for_each(|_| bytes.extend_from_slice(&piece));
            }
            if compressed {
                bytes = zstd::encode_all(bytes.as_slice(), 1).unwrap();
            }
            if let Some(bent) = bent.filter(|_| !bytes.is_empty()) {
                let bent = bent.index(bytes.len());
                bytes[bent] ^= 4;
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), bytes).unwrap();
            let segment = at(file.path(), compressed);
            prop_assert!(hashed(&segment, hashers) == plainly(&segment));
        }
    }

    #[test]
    fn what_is_added_while_a_segment_is_judged_is_read_as_well() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut more = OpenOptions::new().append(true).open(file.path()).unwrap();
        more.write_all(b"one\nand a ha").unwrap();
        let mut steps = Hashed::start(Reader::open(&at(file.path(), false)).unwrap(), 2).unwrap();
        let mut told = Vec::new();
        loop {
            match steps.next() {
                Step::Lines(batch) => {
                    told.extend(batch.lines().map(|line| line.bytes.escape_ascii().to_string()));
                    if told.len() < 3 {
                        more.write_all(b"lf\n").unwrap();
                    }
                }
                Step::End(End { torn, .. }) => break assert_eq!(torn, 0),
                Step::CaughtUp | Step::Failed(_) => unreachable!(),
            }
        }
        assert_eq!(told, ["one", "and a half", "lf"]);
    }

    #[test]
    fn a_batch_of_short_lines_takes_no_more_than_one_of_long_lines() {
        const LINES: usize = 1_000_000;
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "\n".repeat(LINES)).unwrap();
        let mut steps = Hashed::start(Reader::open(&at(file.path(), false)).unwrap(), 2).unwrap();
        let mut all = 0;
        loop {
            match steps.next() {
                Step::Lines(batch) => {
                    assert!(batch.lines.len() <= HASH_LINES);
                    all += batch.lines.len();
                }
                Step::End(end) => break assert_eq!((all, end.torn), (LINES, 0)),
                Step::CaughtUp | Step::Failed(_) => unreachable!(),
            }
        }
    }

    #[test]
    fn who_wants_no_more_waits_for_no_thread() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "line\n".repeat(1_000_000)).unwrap();
        let mut steps = Hashed::start(Reader::open(&at(file.path(), false)).unwrap(), 3).unwrap();
        assert!(matches!(steps.next(), Step::Lines(_)));
        drop(steps);
    }
}
