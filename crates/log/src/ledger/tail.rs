//! The log as an outbox: committed records from an index on, in order, for whoever ships them elsewhere. A record is
//! known by `(origin, index)`, so that shipping one twice is harmless.

use std::io;
use std::path::{Path, PathBuf};

use super::segment::{self, Lines};

/// A place in the log, and what is read from there.
#[derive(Debug)]
pub(crate) struct Outbox {
    log: PathBuf,
    next: u64,
    /// The lines of the segment that the place is in.
    open: Option<Lines>,
}

impl Outbox {
    /// The records of this log from an index on.
    pub(crate) fn from(log: &Path, index: u64) -> Self {
        Self { log: log.to_owned(), next: index, open: None }
    }

    /// The next record with its index, without its line feed; `None` where that is not committed yet: `committed` is
    /// how many are.
    ///
    /// # Errors
    /// The segment can't be read, or is not there (any more).
    pub(crate) fn next(&mut self, committed: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
        if self.next >= committed {
            return Ok(None);
        }
        if let Some(record) = self.read()? {
            return Ok(Some(record));
        }
        // The segment has ended: the record is in the next one.
        self.open = Some(self.find()?);
        match self.read()? {
            Some(record) => Ok(Some(record)),
            None => Err(self.missing()),
        }
    }

    fn read(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        let Some(lines) = &mut self.open else { return Ok(None) };
        let Some(line) = lines.next_whole()? else { return Ok(None) };
        let record = (self.next, line.to_vec());
        self.next += 1;
        Ok(Some(record))
    }

    fn find(&self) -> io::Result<Lines> {
        let find = || segment::list(&self.log).map(|all| all.into_iter().rfind(|it| it.first <= self.next));
        let holding = find()?.ok_or_else(|| self.missing())?;
        let (segment, mut lines) = match Lines::of(&holding) {
            // Put away meanwhile: it is there under its other name.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let holding = find()?.ok_or_else(|| self.missing())?;
                let lines = Lines::of(&holding)?;
                (holding, lines)
            }
            lines => (holding, lines?),
        };
        for _ in segment.first..self.next {
            if lines.next_whole()?.is_none() {
                return Err(self.missing());
            }
        }
        Ok(lines)
    }

    fn missing(&self) -> io::Error {
        let (record, log) = (self.next, self.log.display());
        let words = match segment::begin(&self.log) {
            Ok(first) if first > record => {
                format!(
                    "record {record} is not in the segments of {log} any more: they begin with {first}, what was before is pruned"
                )
            }
            _ => format!("record {record} is not in the segments of {log}"),
        };
        io::Error::new(io::ErrorKind::NotFound, words)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn committed_records_come_in_order_over_segments_and_as_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path();
        fs::create_dir(log.join(segment::FOLDER)).unwrap();
        let lines = |from: u64, to: u64| (from..to).map(|n| format!("record {n}\n")).collect::<String>();
        let first = fs::File::create(segment::compressed_path(&segment::path(log, 0))).unwrap();
        zstd::stream::copy_encode(lines(0, 5).as_bytes(), first, 0).unwrap();
        let mut active = fs::File::create(segment::path(log, 5)).unwrap();
        active.write_all(lines(5, 7).as_bytes()).unwrap();
        let mut outbox = Outbox::from(log, 3);
        let mut take = |committed| {
            outbox.next(committed).unwrap().map(|(n, line)| (n, String::from_utf8(line).unwrap()))
        };
        for n in 3..7 {
            assert_eq!(take(7), Some((n, format!("record {n}"))));
        }
        assert_eq!(take(7), None);
        active.write_all(lines(7, 9).as_bytes()).unwrap();
        assert_eq!(take(7), None, "written and not committed");
        assert_eq!((take(9).unwrap().0, take(9).unwrap().0, take(9)), (7, 8, None));
        assert!(Outbox::from(log, 20).next(21).is_err());
        fs::remove_file(segment::compressed_path(&segment::path(log, 0))).unwrap();
        let pruned = Outbox::from(log, 3).next(9).unwrap_err().to_string();
        assert!(pruned.contains("record 3 ") && pruned.contains("begin with 5"), "{pruned}");
        assert_eq!(Outbox::from(log, 5).next(9).unwrap().map(|(n, _)| n), Some(5));
    }
}
