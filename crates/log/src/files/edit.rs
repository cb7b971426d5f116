//! The one way in which files of the configuration, keys and certificates are written.
//!
//! An edit takes the lock of the file's folder, follows links to the file itself, reads it, writes what it shall hold
//! beside it, makes that durable, and renames it over the file. So two edits never lose each other's work, links stay,
//! owner and mode stay, and a crash leaves the old file or the new one. What a crash leaves beside it is taken away by the
//! next edit in the folder, and by the next start.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::lock::Lock;
use super::{regular, waits};
use crate::bounds;

/// How the name ends that a file has until an edit puts it in its place. Only who has the lock makes such files, so
/// whoever has it next knows that their writer is gone.
pub(super) const EDITED: &str = "tmp";
/// The same for files that are written without a lock.
const ALONE: &str = "new";
/// The same for files that are handed over to somebody. Their folder may be anybody's, so the lock is on the file: whoever
/// can lock it knows that its writer is gone.
const HANDED: &str = "out";
/// What a folder gets that is made for a file.
pub(super) const FOLDER: u32 = 0o700;

/// What an edit fails with that isn't the system's word alone. It is carried in an [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Somebody else edits, or has stopped while editing.
    #[error(
        "{} is locked by {holder}, and was for {} s; end that process or wait for it, then run this again",
        .folder.display(),
        bounds::LOCK_WAIT.as_secs()
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// Who has the lock, in words.
        holder: String,
    },
    /// The new file is in its place, and a power cut may bring the old one back.
    #[error("it is written, perhaps not durable: its folder can't be synced ({0})")]
    NotDurable(io::Error),
}

impl Fault {
    /// What an error carries.
    pub fn of(e: &io::Error) -> Option<&Self> {
        e.get_ref()?.downcast_ref()
    }

    /// Whether an error says that the file is written all the same.
    pub fn is_written(e: &io::Error) -> bool {
        matches!(Self::of(e), Some(Self::NotDurable(_)))
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        let kind = match &fault {
            Fault::Held { .. } => io::ErrorKind::WouldBlock,
            Fault::NotDurable(cause) => cause.kind(),
        };
        Self::new(kind, fault)
    }
}

/// Why an edit of a file failed, in words that are true of what is there now.
pub fn words(path: &Path, e: &io::Error) -> String {
    match Fault::of(e) {
        Some(Fault::NotDurable(_)) => format!("{}: {e}", path.display()),
        _ => format!("{} can't be edited: {e}", path.display()),
    }
}

/// An edit of one file, which nobody else edits as long as this lives.
#[derive(Debug)]
pub struct Editing {
    target: PathBuf,
    lock: Lock,
}

/// A file that is written and durable, and not in its place yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Beside {
    path: Option<PathBuf>,
}

impl Editing {
    /// Begins an edit of a file that is there or shall be. Its folder is made where it is missing.
    ///
    /// # Errors
    /// The lock can't be had ([`Fault::Held`]), a link is not to be trusted, or the system refuses.
    pub fn begin(path: &Path) -> io::Result<Self> {
        // A link may be changed until its target's folder is locked.
        for _ in 0..bounds::LINKS {
            let target = resolve(path)?;
            let folder = folder_of(&target);
            DirBuilder::new().recursive(true).mode(FOLDER).create(folder)?;
            // Where the folder was missing, there may be links in the target's path still.
            if resolve(path)? != target {
                continue;
            }
            let lock = Lock::of(folder)?;
            if lock.is_of(folder) && resolve(path)? == target {
                if lock.is_held() {
                    clear(folder, EDITED)?;
                }
                return Ok(Self { target, lock });
            }
        }
        Err(io::Error::other("where it leads changes again and again"))
    }

    /// The file itself, behind all links.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// What the file holds.
    ///
    /// # Errors
    /// As [`regular::read`].
    pub fn read(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        regular::read(&self.target)
    }

    /// Puts bytes in the place of what the file holds, whole or not at all. Owner and mode stay; a file that was not there
    /// is for its owner alone.
    ///
    /// # Errors
    /// [`Fault::NotDurable`]: it is done, and may not last. Any other error: the file is as it was.
    pub fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        self.put(self.write_beside(bytes)?)
    }

    /// Writes what shall take the place of the file.
    ///
    /// # Errors
    /// The system refuses; nothing is left.
    pub(crate) fn write_beside(&self, bytes: &[u8]) -> io::Result<Beside> {
        write(&self.target, bytes, 0o600, EDITED)
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub fn put(&self, beside: Beside) -> io::Result<()> {
        beside.rename(&self.target)?;
        self.lock.sync()
    }

    /// Makes the file, which must not be there.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`]; [`Fault::NotDurable`]: it is made, and may not last; or the system refuses.
    pub fn create(&self, bytes: &[u8], mode: u32) -> io::Result<()> {
        write(&self.target, bytes, mode, EDITED)?.rename_to_new(&self.target)?;
        self.lock.sync()
    }
}

impl Beside {
    fn rename(mut self, target: &Path) -> io::Result<()> {
        if let Some(path) = &self.path {
            fs::rename(path, target)?;
        }
        self.path = None;
        Ok(())
    }

    /// Never takes the place of a file that is made meanwhile by a program without the lock.
    fn rename_to_new(mut self, target: &Path) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        match rustix::fs::renameat_with(CWD, path, CWD, target, RenameFlags::NOREPLACE) {
            // Where the file system or the kernel can't do that, a link does, which has two names for a moment.
            Err(Errno::INVAL | Errno::NOSYS) => return fs::hard_link(path, target),
            renamed => renamed?,
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // What can't be removed now is left for the next edit.
            let _ = fs::remove_file(path);
        }
    }
}

/// Puts bytes in the place of a file that only the caller writes: a table of the running relay, which has the lock of its
/// log. It is for its owner alone, unless it was there already.
///
/// # Errors
/// As [`Editing::replace`].
pub(super) fn replace_alone(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = resolve(path)?;
    let folder = folder_of(&target);
    DirBuilder::new().recursive(true).mode(FOLDER).create(folder)?;
    write(&target, bytes, 0o600, ALONE)?.rename(&target)?;
    sync_folder_of(&target)
}

/// Makes what was created, renamed and removed beside a file durable.
///
/// # Errors
/// [`Fault::NotDurable`]; or the folder can't be opened.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    super::lock::sync(&File::open(folder_of(path))?)
}

/// Takes away what edits that a crash cut off have left beside these files. What somebody writes now is left alone: then
/// the lock is held, and who holds it or comes next takes the rest away.
pub fn clear_left<'a>(files: impl IntoIterator<Item = &'a Path>) {
    let targets = files.into_iter().filter_map(|file| resolve(file).ok());
    let folders: BTreeSet<PathBuf> =
        targets.filter_map(|target| fs::canonicalize(folder_of(&target)).ok()).collect();
    for folder in folders {
        let cleared = Lock::at_once(&folder).and_then(|lock| match lock {
            Some(_lock) => clear(&folder, EDITED),
            None => Ok(()),
        });
        match cleared {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("what a crash may have left in {} can't be removed: {e}", folder.display());
            }
            _ => {}
        }
    }
}

/// The same for the tables of a log, whose lock the caller must have.
pub fn clear_left_tables(log: &Path) {
    if let Err(e) = clear(log, ALONE) {
        tracing::warn!("what a crash may have left in {} can't be removed: {e}", log.display());
    }
}

/// Removes all files and links of a folder that have a name which this program gives, and no others.
fn clear(folder: &Path, ending: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if is_ours(&entry.file_name(), ending) && (kind.is_file() || kind.is_symlink()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// `.NAME.0123456789abcdef.ENDING`
pub(super) fn is_ours(name: &OsStr, ending: &str) -> bool {
    let parts = || {
        let rest = name.to_str()?.strip_prefix('.')?.strip_suffix(ending)?.strip_suffix('.')?;
        rest.rsplit_once('.')
    };
    parts().is_some_and(|(name, random)| {
        !name.is_empty()
            && random.len() == 16
            && random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Writes a durable file beside the one that it shall become.
fn write(target: &Path, bytes: &[u8], mode: u32, ending: &str) -> io::Result<Beside> {
    let (mut file, path) = create(target, mode, ending)?;
    let beside = Beside { path: Some(path) };
    match fs::symlink_metadata(target) {
        Ok(old) if old.is_file() => keep(&file, &old)?,
        _ => give_to_owner_of_folder(&file, target)?,
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(beside)
}

/// Makes a file beside the one that it shall become, which is handed to somebody. It is locked as long as it is open.
///
/// # Errors
/// The system refuses, or gives no random numbers.
pub(crate) fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    for _ in 0..bounds::LOCK_TRIES {
        let (file, beside) = create(path, 0o600, HANDED)?;
        // Where the file system has no locks, nobody takes away anything.
        let is_locked = !matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        // Before it was locked, somebody may have taken it for one that a crash has left.
        if is_locked && file.metadata()?.nlink() > 0 {
            return Ok((file, beside));
        }
    }
    Err(io::Error::other("what is written beside it is taken away again and again"))
}

/// Takes away what a crash has left of files that this user was handing over into the folder of this one.
///
/// # Errors
/// The folder can't be listed, or a file in it not be removed.
pub(crate) fn clear_handed_over(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder_of(path))? {
        let entry = entry?;
        if !is_ours(&entry.file_name(), HANDED) {
            continue;
        }
        // Its writer may put it in its place at any moment.
        let Ok(found) = fs::symlink_metadata(entry.path()) else { continue };
        let own = found.is_file() && found.uid() == rustix::process::geteuid().as_raw();
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let Some(file) =
            own.then(|| OpenOptions::new().read(true).custom_flags(flags).open(entry.path()).ok()).flatten()
        else {
            continue;
        };
        if file.try_lock().is_ok() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes a file under a name of its own. Whoever may write to the folder can neither know the name before nor have put a
/// link there: root edits files in folders of the relay's user.
fn create(target: &Path, mode: u32, ending: &str) -> io::Result<(File, PathBuf)> {
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let path = target.with_file_name(name_beside(&name, ending)?);
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
    Ok((file, path))
}

/// A name that nobody can know before, for what shall get this name.
pub(super) fn name_beside(name: &str, ending: &str) -> io::Result<OsString> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(format!(".{name}.{:016x}.{ending}", u64::from_ne_bytes(random)).into())
}

/// Gives a file the owner and mode of the one whose place it takes, as far as the system lets us: only root can give a
/// file away. Where the group can't be kept, the new one gets no more than others have.
fn keep(file: &File, old: &Metadata) -> io::Result<()> {
    let mut mode = old.mode() & 0o777;
    if fchown(file, Some(old.uid()), Some(old.gid())).is_err() && fchown(file, None, Some(old.gid())).is_err()
    {
        mode = (mode & 0o707) | ((mode & 0o007) << 3);
    }
    file.set_permissions(Permissions::from_mode(mode))
}

/// What root makes stays readable for the relay: it belongs to the owner of its folder.
fn give_to_owner_of_folder(file: &File, target: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let folder = fs::metadata(folder_of(target))?;
    fchown(file, Some(folder.uid()), Some(folder.gid()))
}

/// The file that a path leads to, which may be missing still.
///
/// Links of root lead anywhere, and those of others only to files of their own: the relay's user, whose folder this may
/// be, can't have root edit a file that is not the relay's.
pub(super) fn resolve(path: &Path) -> io::Result<PathBuf> {
    let _wait = waits::for_file(path);
    let (mut target, mut lenders) = (path.to_owned(), BTreeSet::new());
    for _ in 0..=bounds::LINKS {
        let owner = match fs::symlink_metadata(&target) {
            Ok(found) if found.is_symlink() => {
                lenders.insert(found.uid());
                target = folder_of(&target).join(fs::read_link(&target)?);
                continue;
            }
            Ok(found) => found.uid(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => rustix::process::geteuid().as_raw(),
            Err(e) => return Err(e),
        };
        if lenders.iter().any(|lender| *lender != 0 && *lender != owner) {
            let words = format!(
                "it is a symlink of another user's to {}; put the file itself there",
                target.display()
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
        }
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        return match fs::canonicalize(folder_of(&target)) {
            Ok(folder) => Ok(folder.join(name)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(target),
            Err(e) => Err(e),
        };
    }
    Err(Errno::LOOP.into())
}

/// The folder that a file lies in; the current one for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn what_is_written_beside_a_file_has_a_name_that_nobody_knows_and_is_gone_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let editing = Editing::begin(&path).unwrap();
        let beside: Vec<Beside> = (0..3).map(|_| editing.write_beside(b"secret").unwrap()).collect();
        assert_eq!(names(folder.path()).len(), 3);
        drop(beside);
        editing.replace(b"one").unwrap();
        assert_eq!(names(folder.path()), ["users".to_owned()].into());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn links_stay_and_what_they_lead_to_is_replaced_or_made() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("deep")).unwrap();
        symlink("second", at("first")).unwrap();
        symlink("deep/file", at("second")).unwrap();
        for text in ["one", "two"] {
            Editing::begin(&at("first")).unwrap().replace(text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(at("deep/file")).unwrap(), text);
        }
        for link in ["first", "second"] {
            assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink());
        }
        symlink("loop", at("loop")).unwrap();
        let e = Editing::begin(&at("loop")).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn only_names_of_ours_are_taken_away_and_those_in_the_right_way() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let others = [
            "users",
            ".users.tmp",
            ".users.0123456789abcde.tmp",
            ".users.0123456789ABCDEF.tmp",
            "users.0123456789abcdef.tmp",
            ".users.0123456789abcdef.tmp~",
            "..0123456789abcdef.tmp",
            ".users.0123456789abcdef.new",
        ];
        others.iter().for_each(|name| fs::write(at(name), "").unwrap());
        symlink("users", at(".link.0123456789abcdef.tmp")).unwrap();
        for name in [".users.0123456789abcdef.tmp", ".a.b.0123456789abcdef.tmp"] {
            fs::write(at(name), "secret").unwrap();
        }
        let held = Editing::begin(&at("sources.toml")).unwrap();
        let living = held.write_beside(b"").unwrap();
        let with_living = names(folder.path());
        clear_left([at("users").as_path()]);
        assert_eq!(names(folder.path()), with_living, "the lock is held");
        drop((living, held));
        let expected: BTreeSet<String> = others.iter().map(ToString::to_string).collect();
        assert_eq!(names(folder.path()), expected);
        fs::write(at(".users.0123456789abcdef.tmp"), "secret").unwrap();
        clear_left([at("users").as_path()]);
        assert_eq!(names(folder.path()), expected);
        clear_left_tables(folder.path());
        assert!(!at(".users.0123456789abcdef.new").exists());
    }

    #[test]
    fn owner_and_mode_stay_and_what_root_makes_belongs_to_the_owner_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        Editing::begin(&path).unwrap().replace(b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        if !rustix::process::geteuid().is_root() {
            return crate::skip::skipped("only root can give files away");
        }
        let owner = |path: &Path| fs::metadata(path).map(|found| (found.uid(), found.gid())).unwrap();
        chown(folder.path(), Some(65534), Some(65534)).unwrap();
        chown(&path, Some(1234), Some(4321)).unwrap();
        Editing::begin(&path).unwrap().replace(b"two").unwrap();
        assert_eq!(owner(&path), (1234, 4321));
        let new = folder.path().join("new");
        Editing::begin(&new).unwrap().create(b"", 0o600).unwrap();
        replace_alone(&folder.path().join("table"), b"").unwrap();
        assert_eq!((owner(&new), owner(&folder.path().join("table"))), ((65534, 65534), (65534, 65534)));
    }
}
