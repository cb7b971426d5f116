//! `log.json`: what a log is called and verified with, and the log that it follows. Written once.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::regular_file::{self, MAX_ABOUT};

/// The only form there is so far.
const FORMAT: u32 = 1;

/// What stands in `log.json`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogFile {
    /// The form of all files of the log.
    pub format: u32,
    /// Its name in checkpoints.
    pub origin: String,
    /// The key that verifies them, as C2SP writes it.
    pub vkey: String,
    /// The log that this one goes on from, after a fork.
    pub predecessor: Option<Predecessor>,
}

/// A log that was given up.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Predecessor {
    /// Its name.
    pub origin: String,
    /// Its records at that time.
    pub size: u64,
    /// The root over them, in hex.
    pub root: String,
}

impl LogFile {
    /// A new log's.
    pub fn new(origin: &str, vkey: String, predecessor: Option<Predecessor>) -> Self {
        Self { format: FORMAT, origin: origin.to_owned(), vkey, predecessor }
    }

    /// The file of a log.
    pub fn path(log: &Path) -> PathBuf {
        log.join("log.json")
    }

    /// What the file of a log holds; `None` where there is none.
    ///
    /// # Errors
    /// It can't be read, or is of another form.
    pub fn read(log: &Path) -> io::Result<Option<Self>> {
        let bytes = match regular_file::read(&Self::path(log), MAX_ABOUT) {
            Ok(bytes) => bytes,
            // A file in the place of the folder has none either.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let read: Self = serde_json::from_slice(&bytes)?;
        if read.format != FORMAT {
            let words = format!("is of form {}, and this program knows form {FORMAT}", read.format);
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        Ok(Some(read))
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}
