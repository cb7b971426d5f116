//! Opening the log at start-up: the lock, the walk, the torn tail that a crash may leave.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::ledger::segment::{self, Walk};

/// A log that may be written from here on.
#[derive(Debug)]
pub(super) struct Opened {
    /// Held for as long as the log is.
    pub(super) lock: File,
    /// The active segment.
    pub(super) path: PathBuf,
    /// Its length: whole lines only.
    pub(super) length: u64,
    /// The number of the next record.
    pub(super) next: u64,
}

/// Why the log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another relay writes it.
    #[error(
        "another license-relay writes {directory} ({holder}); stop it first, or give this one a folder of its own"
    )]
    Locked {
        /// The log's folder.
        directory: PathBuf,
        /// What the holder wrote into the lock.
        holder: String,
    },
    /// The system refused.
    #[error("{path}: {cause}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// Locks the log, makes its folders, and moves a torn tail into `quarantine/`, byte for byte.
pub(super) fn open(directory: &Path) -> Result<Opened, OpenError> {
    for folder in [directory.to_owned(), directory.join(segment::FOLDER)] {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|cause| OpenError::Io { path: folder, cause })?;
    }
    let lock = lock(directory)?;
    let io = |path: &Path, cause| OpenError::Io { path: path.to_owned(), cause };
    let (first, path) = segment::newest(directory)
        .map_err(|e| io(directory, e))?
        .unwrap_or_else(|| (0, segment::path(directory, 0)));
    if !path.exists() {
        return Ok(Opened { lock, path, length: 0, next: first });
    }
    let Walk { next, good, torn } = segment::walk(&path, first).map_err(|e| io(&path, e))?;
    if torn > 0 {
        quarantine(directory, &path, good).map_err(|e| io(&path, e))?;
    }
    Ok(Opened { lock, path, length: good, next })
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("LOCK");
    let io = |cause| OpenError::Io { path: path.clone(), cause };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io)?;
    if file.try_lock().is_err() {
        let mut holder = String::new();
        file.take(200).read_to_string(&mut holder).map_err(io)?;
        return Err(OpenError::Locked { directory: directory.to_owned(), holder: holder.trim().to_owned() });
    }
    file.set_len(0).map_err(io)?;
    writeln!(file, "process {} since {:.0}", std::process::id(), Timestamp::now()).map_err(io)?;
    Ok(file)
}

fn quarantine(directory: &Path, segment: &Path, good: u64) -> io::Result<()> {
    let folder = directory.join("quarantine");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let name = format!("{}-{good}.torn", segment.file_stem().unwrap_or_default().to_string_lossy());
    let kept = folder.join(name);
    let mut from = File::open(segment)?;
    from.seek(SeekFrom::Start(good))?;
    let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&kept)?;
    let bytes = io::copy(&mut from, &mut to)?;
    to.sync_all()?;
    File::open(&folder)?.sync_all()?;
    let file = OpenOptions::new().write(true).open(segment)?;
    file.set_len(good)?;
    file.sync_all()?;
    tracing::warn!(
        "{} ended in {bytes} bytes that are no whole line, as after a crash; they are kept in {}",
        segment.display(),
        kept.display()
    );
    fs::metadata(segment).map(|_| ())
}
