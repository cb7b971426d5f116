//! Lists of names as CSV: records as they stand, and what is wrong with a list.

use std::io;
use std::path::{Path, PathBuf};

use relay_log::ledger::regular_file;

/// The largest list, in bytes.
const LIST: u64 = 256 * 1024 * 1024;

/// Why a list can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It can't be read.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// It is larger than any list of names.
    #[error("{0} is larger than {LIST} bytes")]
    TooLarge(PathBuf),
    /// A line of it is no CSV.
    #[error("{0}: {1}")]
    Csv(PathBuf, csv::Error),
    /// It has no column that is needed.
    #[error("{0} has no column \"{1}\"; its first line must name the columns license, allotment and subject")]
    Column(PathBuf, &'static str),
    /// Names can't be told from pseudonyms without the keys.
    #[error(
        "{0} names people, and the log does not: give --subject-key as well, so that the two can be held together"
    )]
    NoKey(PathBuf),
}

/// UTF-8, or UTF-16 as Windows PowerShell writes it, with or without its mark.
pub(crate) fn decoded(bytes: &[u8]) -> String {
    let units = |rest: &[u8], unit: fn([u8; 2]) -> u16| -> String {
        let units: Vec<u16> = rest.as_chunks::<2>().0.iter().map(|pair| unit(*pair)).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] | rest => String::from_utf8_lossy(rest).into_owned(),
    }
}

pub(crate) fn records(file: &Path) -> Result<Vec<csv::StringRecord>, ListError> {
    let io = |e| ListError::Io(file.to_owned(), e);
    let opened = regular_file::open(file).map_err(io)?;
    if opened.metadata().map_err(io)?.len() > LIST {
        return Err(ListError::TooLarge(file.to_owned()));
    }
    let bytes = regular_file::read_opened(opened, LIST).map_err(io)?;
    let text = decoded(&bytes);
    // A European Excel writes it so.
    let head = text.lines().next().unwrap_or_default();
    let delimiter = if head.contains(';') && !head.contains(',') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new();
    reader.has_headers(false).flexible(true).delimiter(delimiter);
    let mut reader = reader.from_reader(text.as_bytes());
    reader.records().map(|record| record.map_err(|e| ListError::Csv(file.to_owned(), e))).collect()
}
