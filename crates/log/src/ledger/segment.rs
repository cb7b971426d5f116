//! Where the lines of the log lie, and how they are read: `segments/<first index>.jsonl`, and `.jsonl.zst` once a
//! segment is sealed and compressed.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::glance::sequence_of;
use super::log::LogFile;
use super::record::MAX_LINE;
use super::regular_file;
use crate::bounds::READ_PIECE;
use crate::files::regular;

/// The folder of segments below the log's own.
pub const FOLDER: &str = "segments";
/// The list of what sealed segments hash to, in that folder; `sha256sum -c --ignore-missing` reads it.
pub const SUMS: &str = "SHA256SUMS";

/// One segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Segment {
    /// The number of its first record.
    pub first: u64,
    /// Its file.
    pub path: PathBuf,
    /// Whether that is compressed.
    pub compressed: bool,
}

/// The file of the segment that starts with this record.
pub fn path(log: &Path, first: u64) -> PathBuf {
    log.join(FOLDER).join(format!("{first:020}.jsonl"))
}

/// The same, compressed.
pub fn compressed_path(plain: &Path) -> PathBuf {
    plain.with_extension("jsonl.zst")
}

/// All segments in order; of one that is there in both forms, the plain one, which was there first.
///
/// # Errors
/// The folder is there and can't be read.
pub fn list(log: &Path) -> io::Result<Vec<Segment>> {
    let folder = match fs::read_dir(log.join(FOLDER)) {
        Ok(folder) => folder,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut segments = Vec::new();
    for entry in folder {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let (number, compressed) = match name.strip_suffix(".zst") {
            Some(name) => (name.strip_suffix(".jsonl"), true),
            None => (name.strip_suffix(".jsonl"), false),
        };
        let Some(first) = number.filter(|n| n.len() == 20).and_then(|n| n.parse().ok()) else { continue };
        segments.push(Segment { first, path, compressed });
    }
    segments.sort_unstable_by_key(|segment| (segment.first, segment.compressed));
    segments.dedup_by_key(|segment| segment.first);
    Ok(segments)
}

/// The number of the first record that is there: the records before it were pruned, or removed. 0 where there is no
/// segment.
///
/// # Errors
/// As [`list`].
pub fn begin(log: &Path) -> io::Result<u64> {
    Ok(list(log)?.first().map_or(0, |segment| segment.first))
}

/// The newest segment; `None` where there is none.
///
/// # Errors
/// As [`list`].
pub fn newest(log: &Path) -> io::Result<Option<Segment>> {
    Ok(list(log)?.pop())
}

/// The lines of one segment, whatever they hold: the last may be cut short.
pub struct Lines {
    from: Box<dyn BufRead + Send>,
    line: Vec<u8>,
}

impl Lines {
    /// Of this segment, decompressed where that is needed.
    ///
    /// # Errors
    /// The file can't be read, or is no regular file ([`io::ErrorKind::InvalidData`]).
    pub fn of(segment: &Segment) -> io::Result<Self> {
        let file = regular_file::open(&segment.path)?;
        let from: Box<dyn BufRead + Send> = match segment.compressed {
            true => Box::new(BufReader::new(zstd::Decoder::new(file)?)),
            false => Box::new(BufReader::with_capacity(READ_PIECE, file)),
        };
        Ok(Self { from, line: Vec::new() })
    }

    /// Of any text.
    ///
    /// # Errors
    /// The file can't be read, or is no regular file.
    pub fn of_text(path: &Path) -> io::Result<Self> {
        Ok(Self { from: Box::new(BufReader::new(regular_file::open(path)?)), line: Vec::new() })
    }

    /// The next line with its line feed; without one where it is cut short, or longer than a line may be. Empty at the end.
    ///
    /// # Errors
    /// The file can't be read, or is no zstd.
    pub fn next_line(&mut self) -> io::Result<&[u8]> {
        self.line.clear();
        (&mut self.from).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut self.line)?;
        Ok(&self.line)
    }

    /// Passes over the rest of a line that is longer than one may be, and gives it piece by piece.
    ///
    /// # Errors
    /// As [`next_line`](Self::next_line).
    #[cfg(test)]
    pub(crate) fn skip_line(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let piece = self.next_line()?;
            each(piece);
            if piece.is_empty() || piece.ends_with(b"\n") {
                return Ok(());
            }
        }
    }

    /// The next whole line, without its line feed; `None` at the end, or where one is cut short.
    ///
    /// # Errors
    /// As [`next_line`](Self::next_line).
    pub fn next_whole(&mut self) -> io::Result<Option<&[u8]>> {
        Ok(self.next_line()?.strip_suffix(b"\n"))
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

/// What a walk over a segment found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Walk {
    /// The number the next record gets.
    pub next: u64,
    /// Bytes of whole lines from the start.
    pub good: u64,
    /// Bytes after them.
    pub torn: u64,
}

/// Reads a plain segment's lines for as long as each is whole and numbered exactly next, and gives each of them, without
/// its line feed.
///
/// # Errors
/// The file can't be read.
pub fn walk(segment: &Segment, mut each: impl FnMut(&[u8])) -> io::Result<Walk> {
    let length = fs::metadata(&segment.path)?.len();
    let mut lines = Lines::of(segment)?;
    let (mut next, mut good) = (segment.first, 0);
    loop {
        let line = lines.next_line()?;
        match line.split_last() {
            Some((b'\n', whole)) if sequence_of(whole) == Some(next) => {
                each(whole);
                // No segment goes on behind the last number there is.
                next = next.saturating_add(1);
                good += line.len() as u64;
            }
            _ => return Ok(Walk { next, good, torn: length.saturating_sub(good) }),
        }
    }
}

/// Whether a folder holds a log, or what was left of one.
pub fn is_begun(directory: &Path) -> bool {
    [directory.join(FOLDER), LogFile::path(directory)].iter().any(|path| !regular::is_missing(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_listed_in_order_and_what_is_none_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(list(folder.path()).unwrap(), []);
        fs::create_dir(folder.path().join(FOLDER)).unwrap();
        let touch = |name: &str| fs::write(folder.path().join(FOLDER).join(name), "").unwrap();
        for name in ["SHA256SUMS", "00000000000000000300.jsonl", "7.jsonl", "00000000000000000000.jsonl.zst"]
        {
            touch(name);
        }
        touch("00000000000000000120.jsonl");
        touch("00000000000000000120.jsonl.zst");
        let listed = list(folder.path()).unwrap();
        let shown: Vec<_> = listed.iter().map(|segment| (segment.first, segment.compressed)).collect();
        assert_eq!(shown, [(0, true), (120, false), (300, false)]);
        assert_eq!(newest(folder.path()).unwrap().unwrap().first, 300);
    }
}
