//! Is the log whole, and how that is shown for one record.

pub mod log;
pub mod proof;

use std::io;
use std::path::{Path, PathBuf};

use crate::ledger::log::LogFile;

/// Why a log can't be read at all.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is no log.
    #[error("{0} is not a log: it has no log.json; name the folder that has segments/ in it")]
    NotALog(PathBuf),
    /// Something can't be read.
    #[error("{path}: {cause}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// What a log says of itself, in `log.json`.
///
/// # Errors
/// It is not there, or can't be read.
pub fn log_file(log: &Path) -> Result<LogFile, LogError> {
    let about = LogFile::read(log).map_err(|cause| LogError::Io { path: LogFile::path(log), cause })?;
    about.ok_or_else(|| LogError::NotALog(log.to_owned()))
}
