//! Is the log whole, and how that is shown for one record.

pub mod log;
pub mod proof;

use std::io;
use std::path::PathBuf;

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
