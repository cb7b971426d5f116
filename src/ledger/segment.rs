//! Where the lines of the log lie: `segments/<first index>.jsonl` below the log's folder, and what a walk over one
//! finds.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::record::{MAX_LINE, sequence_of};

/// The folder of segments below the log's own.
pub const FOLDER: &str = "segments";

/// The file of the segment that starts with this record.
pub fn path(log: &Path, first: u64) -> PathBuf {
    log.join(FOLDER).join(format!("{first:020}.jsonl"))
}

/// The newest segment and the number of its first record; `None` where there is none.
///
/// # Errors
/// The folder is there and can't be read.
pub fn newest(log: &Path) -> io::Result<Option<(u64, PathBuf)>> {
    let folder = match fs::read_dir(log.join(FOLDER)) {
        Ok(folder) => folder,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut newest = None;
    for entry in folder {
        let entry = entry?;
        let name = entry.file_name();
        let first = name.to_str().and_then(|name| name.strip_suffix(".jsonl")).and_then(|n| n.parse().ok());
        if let Some(first) = first
            && newest.as_ref().is_none_or(|(newest, _)| first > *newest)
        {
            newest = Some((first, entry.path()));
        }
    }
    Ok(newest)
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

/// Reads lines from the start for as long as each is whole and numbered exactly next.
///
/// # Errors
/// The file can't be read.
pub fn walk(file: &Path, first: u64) -> io::Result<Walk> {
    let length = fs::metadata(file)?.len();
    let mut reader = BufReader::new(fs::File::open(file)?);
    let (mut next, mut good) = (first, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut reader, MAX_LINE as u64 + 1).read_until(b'\n', &mut line)?;
        match line.split_last() {
            Some((b'\n', whole)) if sequence_of(whole) == Some(next) => {
                next += 1;
                good += read as u64;
            }
            _ => return Ok(Walk { next, good, torn: length - good }),
        }
    }
}
