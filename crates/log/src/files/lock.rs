//! The lock of a folder: who holds it is the only one that edits files in it.
//!
//! The folder itself is locked, so that nothing is left behind that somebody would have to explain or to take away. The
//! system gives the lock back when its holder ends, however that ends.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::sleep;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, major, minor, openat, openat2};
use rustix::io::Errno;
use std::time::Instant;

use super::edit::Fault;
use crate::bounds;
use crate::stderr;

/// A folder that is locked as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    folder: File,
    is_held: bool,
}

impl Lock {
    /// Takes the lock of a folder whose path is behind all links; waits for whoever has it, and tells so after a while.
    ///
    /// # Errors
    /// The folder can't be opened, or there is a link in its path. [`Fault::Held`]: somebody has the lock for longer than [`bounds::LOCK_WAIT`].
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        let mut lock = Self::open(folder)?;
        let (begun, mut is_told) = (Instant::now(), false);
        while !lock.try_it() {
            let waited = begun.elapsed();
            if waited >= bounds::LOCK_WAIT {
                return Err(Fault::Held { folder: folder.to_owned(), holder: lock.holder() }.into());
            }
            if waited >= bounds::LOCK_TOLD && !is_told {
                is_told = true;
                stderr::tell(&format!(
                    "{} is locked by {}; waiting up to {} s for it",
                    folder.display(),
                    lock.holder(),
                    bounds::LOCK_WAIT.as_secs()
                ));
            }
            sleep(bounds::LOCK_TRY);
        }
        Ok(lock)
    }

    /// Takes the lock if nobody has it. `None` as well where the file system has no locks.
    ///
    /// # Errors
    /// The folder can't be opened.
    pub(super) fn at_once(folder: &Path) -> io::Result<Option<Self>> {
        let mut lock = Self::open(folder)?;
        Ok((lock.try_it() && lock.is_held).then_some(lock))
    }

    fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self { folder: open(folder)?, is_held: false })
    }

    /// Whether nobody is to be waited for.
    fn try_it(&mut self) -> bool {
        match self.folder.try_lock() {
            Ok(()) => {
                self.is_held = true;
                true
            }
            Err(TryLockError::WouldBlock) => false,
            // Not every file system has locks. There, the last of two edits at one time wins.
            Err(TryLockError::Error(_)) => true,
        }
    }

    /// The folder, opened.
    pub(super) fn folder(&self) -> &File {
        &self.folder
    }

    /// Whether it keeps others out: not every file system has locks.
    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Whether it is the lock of what lies at this path now.
    pub(super) fn is_of(&self, folder: &Path) -> bool {
        let (Ok(own), Ok(there)) = (self.folder.metadata(), fs::metadata(folder)) else { return false };
        (own.dev(), own.ino()) == (there.dev(), there.ino())
    }

    /// Makes what was created, renamed and removed in the folder durable.
    ///
    /// # Errors
    /// [`Fault::NotDurable`]: the system refuses.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync(&self.folder)
    }

    /// Who has the lock, in words.
    fn holder(&self) -> String {
        let process = self.folder.metadata().ok().and_then(|folder| {
            let mut locks = String::new();
            File::open("/proc/locks").ok()?.take(bounds::LOCKS_LISTED).read_to_string(&mut locks).ok()?;
            holder_in(&locks, (major(folder.dev()), minor(folder.dev())), folder.ino())
        });
        let Some(process) = process else { return "another process".into() };
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        match name.trim() {
            "" => format!("process {process}"),
            name => format!("process {process} ({})", name.escape_default()),
        }
    }
}

/// Opens a folder whose path is behind all links. A link in it was put there meanwhile, to have root work elsewhere.
pub(super) fn open(folder: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(CWD, folder, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        // Systems before Linux 5.6 can't do that, and some containers forbid it.
        Err(Errno::NOSYS | Errno::PERM) => {
            Ok(openat(CWD, folder, flags | OFlags::NOFOLLOW, Mode::empty())?.into())
        }
        opened => Ok(opened?.into()),
    }
}

/// Makes a folder's entries durable.
pub(super) fn sync(folder: &File) -> io::Result<()> {
    match folder.sync_all() {
        // Some file systems can't sync a folder at all; there is nothing to do about it, and nothing has failed.
        Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        Err(e) => Err(Fault::NotDurable(e).into()),
        Ok(()) => Ok(()),
    }
}

/// The process that has the lock of an inode, by the system's list of locks (proc_locks(5)). Nobody is found where the
/// holder is in a container of its own, and on file systems that show another device there than elsewhere.
fn holder_in(locks: &str, device: (u32, u32), inode: u64) -> Option<u32> {
    let file = format!("{:02x}:{:02x}:{inode}", device.0, device.1);
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        // One that waits has an arrow in place of the kind.
        let (kind, process, of) = (words.next()?, words.nth(2)?, words.next()?);
        let process = process.parse().ok().filter(|process| *process > 0)?;
        (kind == "FLOCK" && of == file).then_some(process)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_in_the_list_of_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 700 fd:01:5 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 701 fd:01:55 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 702 fd:01:5 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 703 fd:01:5 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 0 fd:02:5 0 EOF\n";
        assert_eq!(holder_in(locks, (0xfd, 1), 5), Some(702));
        assert_eq!(holder_in(locks, (0xfd, 1), 6), None);
        assert_eq!(holder_in(locks, (0xfd, 2), 5), None, "a process that can't be seen here");
    }

    #[test]
    fn a_link_that_took_the_place_of_a_folder_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("elsewhere/generations")).unwrap();
        std::os::unix::fs::symlink("elsewhere", at("certs")).unwrap();
        for path in ["certs", "certs/generations"] {
            let e = Lock::of(&at(path)).unwrap_err();
            assert!([Errno::LOOP, Errno::NOTDIR].contains(&Errno::from_io_error(&e).unwrap()), "{path}: {e}");
        }
        Lock::of(&at("elsewhere/generations")).unwrap();
    }

    #[test]
    fn a_lock_keeps_others_out_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::of(folder.path()).unwrap();
        assert!(lock.is_held() && lock.is_of(folder.path()));
        assert!(Lock::at_once(folder.path()).unwrap().is_none());
        drop(lock);
        assert!(Lock::at_once(folder.path()).unwrap().is_some());
    }
}
