//! What the log needs of a file system, and no more: a trait, so that tests can make it fail, and can keep a trace of
//! what a power cut would have left.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file system.
pub trait Disk: fmt::Debug + Send + Sync {
    /// A new file, which must not be there yet.
    ///
    /// # Errors
    /// As the system says; so for all others.
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>>;
    /// A file that is there, to be written at its end.
    fn append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>>;
    /// Gives a file another name, in place of what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a file away.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Which file has this name.
    fn inode(&self, path: &Path) -> io::Result<u64>;
    /// Makes what was created, renamed and removed in a folder lasting.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// A file that is written at its end.
pub trait AppendFile: Send {
    /// Writes some of it, and says how much.
    ///
    /// # Errors
    /// As the system says; so for all others.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Makes all that was written lasting. After an error nothing is known about it any more.
    fn sync(&mut self) -> io::Result<()>;
    /// The same for a new file, with all that is known about it.
    fn sync_all(&mut self) -> io::Result<()>;
    /// Takes away what is behind this length.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// What the file is now.
    fn state(&self) -> io::Result<FileState>;
}

/// What a file is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileState {
    /// Its bytes.
    pub length: u64,
    /// Which one it is.
    pub inode: u64,
    /// Its names.
    pub links: u64,
}

/// The real one.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        Ok(Box::new(OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        Ok(Box::new(OpenOptions::new().append(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn inode(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.ino())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl AppendFile for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn sync_all(&mut self) -> io::Result<()> {
        Self::sync_all(self)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn state(&self) -> io::Result<FileState> {
        let metadata = self.metadata()?;
        Ok(FileState { length: metadata.len(), inode: metadata.ino(), links: metadata.nlink() })
    }
}

/// Writes all of it.
///
/// # Errors
/// The disk takes no more; some of it may be written.
pub fn write_all(append_file: &mut dyn AppendFile, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match append_file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Puts a file in the place of another, lasting, whole or not at all.
///
/// # Errors
/// The system refuses; the old file is as it was.
pub fn put(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    match disk.remove(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut append_file = disk.create(&temporary)?;
    let written = write_all(append_file.as_mut(), bytes).and_then(|()| append_file.sync_all());
    drop(append_file);
    if let Err(e) = written.and_then(|()| disk.rename(&temporary, path)) {
        let _ = disk.remove(&temporary);
        return Err(e);
    }
    disk.sync_folder(folder(path))
}

/// Makes a folder for the relay alone, with those above it, lasting.
///
/// # Errors
/// The system refuses.
pub fn make_folder(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = folder(path);
    make_folder(disk, above)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    disk.sync_folder(above)
}

/// Leaves a file that is done readable for its owner, and no more.
///
/// # Errors
/// The system refuses.
pub fn make_read_only(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o400))
}

/// The name a file has until it is whole.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// The folder of a file.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}
