//! A folder that is changed while it is locked: subfolders appear whole, and links are swapped in one step.
//!
//! Everything is done relative to the opened folder, so that root, who may work in a folder of the relay's user, is not
//! led elsewhere by a folder or a link that takes another one's place meanwhile. What root makes belongs to the owner of
//! the folder.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::edit::{self, EDITED};
use super::lock::{self, Lock};
use crate::bounds;

/// A folder that nobody else changes as long as this lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock: Lock,
}

/// A file of a new subfolder: its name, what it holds, and its mode.
pub(crate) type NewFile<'a> = (&'a str, &'a [u8], u32);

impl Folder {
    /// Takes the lock of a folder, which is made where it is missing, with the mode and the owner of its parent.
    ///
    /// # Errors
    /// The lock can't be had, a link is not to be trusted, or the system refuses.
    pub fn lock(path: &Path) -> io::Result<Self> {
        for _ in 0..bounds::LINKS {
            make(&behind_links(path)?)?;
            // Now that all of it is there, no link and no `..` is left in its path.
            let path = behind_links(path)?;
            let lock = Lock::of(&path)?;
            if lock.is_of(&path) {
                let folder = Self { path, lock };
                folder.clear()?;
                return Ok(folder);
            }
        }
        Err(io::Error::other("where it leads changes again and again"))
    }

    /// The folder itself, behind all links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is.
    ///
    /// # Errors
    /// The system refuses.
    pub fn user(&self) -> io::Result<u32> {
        Ok(self.opened().metadata()?.uid())
    }

    /// Makes what was added, linked and removed durable.
    ///
    /// # Errors
    /// The system refuses.
    pub fn sync(&self) -> io::Result<()> {
        self.lock.sync()
    }

    /// Adds a subfolder with these files. It has its name once it is whole and durable.
    ///
    /// # Errors
    /// The name is taken, or the system refuses; then nothing is added.
    pub fn add(&self, name: &str, files: &[NewFile<'_>]) -> io::Result<()> {
        let beside = edit::name_beside(name, EDITED)?;
        rustix::fs::mkdirat(self.opened(), &beside, Mode::RWXU)?;
        let added = self.fill(&beside, files).and_then(|()| {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(self.opened(), &beside, self.opened(), name, flags) {
                // Not every file system can do that; nobody else adds anything, as we have the lock.
                Err(Errno::INVAL) => rustix::fs::renameat(self.opened(), &beside, self.opened(), name),
                renamed => renamed,
            }
            .map_err(io::Error::from)
        });
        if added.is_err() {
            // What can't be removed now is left for whoever has the lock next.
            let _ = self.remove_folder(Path::new(&beside));
        }
        added?;
        self.sync()
    }

    fn fill(&self, name: &OsStr, files: &[NewFile<'_>]) -> io::Result<()> {
        let folder = self.open_folder(Path::new(name))?;
        for (name, bytes, mode) in files {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::openat(&folder, *name, flags, Mode::RUSR | Mode::WUSR)?);
            self.give_to_owner(&file)?;
            file.write_all(bytes)?;
            file.set_permissions(Permissions::from_mode(*mode))?;
            file.sync_all()?;
        }
        self.give_to_owner(&folder)?;
        folder.set_permissions(Permissions::from_mode(self.opened().metadata()?.mode() & 0o777))?;
        lock::sync(&folder)
    }

    /// Puts a link to a target in the place of whatever file or link has this name, in one step.
    ///
    /// # Errors
    /// [`edit::Fault::NotDurable`]: it is done, and may not last. Any other error: nothing has changed.
    pub fn link(&self, name: &OsStr, target: &Path) -> io::Result<()> {
        let beside = edit::name_beside(&name.to_string_lossy(), EDITED)?;
        rustix::fs::symlinkat(target, self.opened(), &beside)?;
        let linked = self
            .own_link(&beside)
            .and_then(|()| Ok(rustix::fs::renameat(self.opened(), &beside, self.opened(), name)?));
        if linked.is_err() {
            // As above.
            let _ = self.remove_file(Path::new(&beside));
        }
        linked?;
        self.sync()
    }

    /// Makes an empty file in a subfolder, where it may be already.
    ///
    /// # Errors
    /// The system refuses.
    pub fn mark(&self, folder: &Path, name: &str) -> io::Result<()> {
        let folder = self.open_folder(folder)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&folder, name, flags, Mode::RUSR | Mode::WUSR)?);
        self.give_to_owner(&file)?;
        lock::sync(&folder)
    }

    /// Removes a file, which may be gone already.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remove_file(&self, name: &Path) -> io::Result<()> {
        unless_gone(rustix::fs::unlinkat(self.opened(), name, AtFlags::empty()))
    }

    /// Removes a file of a subfolder, which may be gone already, and makes that durable.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remove_file_of(&self, folder: &Path, name: &str) -> io::Result<()> {
        let folder = self.open_folder(folder)?;
        unless_gone(rustix::fs::unlinkat(&folder, name, AtFlags::empty()))?;
        lock::sync(&folder)
    }

    /// Removes a subfolder with the files in it; it may be gone already.
    ///
    /// # Errors
    /// The system refuses, or there is a folder in it.
    pub fn remove_folder(&self, name: &Path) -> io::Result<()> {
        let folder = match self.open_folder(name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            folder => folder?,
        };
        for entry in entries(&folder)? {
            unless_gone(rustix::fs::unlinkat(&folder, &entry, AtFlags::empty()))?;
        }
        unless_gone(rustix::fs::unlinkat(self.opened(), name, AtFlags::REMOVEDIR))
    }

    /// Takes away what a crash has left.
    fn clear(&self) -> io::Result<()> {
        // Without a lock, what there is may be somebody's who works just now.
        if !self.lock.is_held() {
            return Ok(());
        }
        for name in entries(self.opened())?.iter().filter(|name| edit::is_ours(name, EDITED)) {
            let name = Path::new(name);
            let found = rustix::fs::statat(self.opened(), name, AtFlags::SYMLINK_NOFOLLOW)?;
            match rustix::fs::FileType::from_raw_mode(found.st_mode) {
                rustix::fs::FileType::Directory => self.remove_folder(name)?,
                _ => self.remove_file(name)?,
            }
        }
        Ok(())
    }

    fn opened(&self) -> &File {
        self.lock.folder()
    }

    fn open_folder(&self, name: &Path) -> io::Result<File> {
        open_in(self.opened(), name)
    }

    fn give_to_owner(&self, file: &File) -> io::Result<()> {
        match self.owner()? {
            Some((user, group)) => fchown(file, Some(user), Some(group)),
            None => Ok(()),
        }
    }

    fn own_link(&self, name: &OsStr) -> io::Result<()> {
        let Some((user, group)) = self.owner()? else { return Ok(()) };
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::chownat(self.opened(), name, Some(user), Some(group), flags)?)
    }

    /// Who shall have what is made; `None` where we can't give it away.
    fn owner(&self) -> io::Result<Option<(u32, u32)>> {
        let found = self.opened().metadata()?;
        Ok(rustix::process::geteuid().is_root().then(|| (found.uid(), found.gid())))
    }
}

/// Whether a crash has left something in a folder that whoever locks it takes away.
pub fn has_left_overs(path: &Path) -> bool {
    let open = || File::open(path).and_then(|folder| entries(&folder));
    open().is_ok_and(|names| names.iter().any(|name| edit::is_ours(name, EDITED)))
}

fn behind_links(path: &Path) -> io::Result<PathBuf> {
    match path.file_name() {
        Some(_) => edit::resolve(path),
        None => fs::canonicalize(path),
    }
}

fn make(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let (parent, name) = (edit::folder_of(path), path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    DirBuilder::new().recursive(true).mode(edit::FOLDER).create(parent)?;
    let parent = lock::open(&fs::canonicalize(parent)?)?;
    let found = parent.metadata()?;
    // The mode is set below, because the system takes its umask off this one.
    match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
        Err(Errno::EXIST) => return Ok(()),
        made => made?,
    }
    let folder = open_in(&parent, Path::new(name))?;
    if rustix::process::geteuid().is_root() {
        fchown(&folder, Some(found.uid()), Some(found.gid()))?;
    }
    folder.set_permissions(Permissions::from_mode(found.mode() & 0o777))?;
    lock::sync(&parent)
}

/// Opens a subfolder, and follows no link to one.
fn open_in(folder: &File, name: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?))
}

fn entries(folder: &File) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn unless_gone(removed: Result<(), Errno>) -> io::Result<()> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, lchown, symlink};

    use super::*;

    fn locked() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("generations");
        (parent, path)
    }

    #[test]
    fn a_subfolder_appears_whole_and_a_link_is_swapped() {
        let (parent, path) = locked();
        fs::set_permissions(parent.path(), Permissions::from_mode(0o750)).unwrap();
        let folder = Folder::lock(&path).unwrap();
        folder.add("1", &[("key", b"secret", 0o600), ("root", b"public", 0o644)]).unwrap();
        let mode = |name: &str| fs::metadata(path.join(name)).unwrap().mode() & 0o777;
        assert_eq!((mode("."), mode("1"), mode("1/key"), mode("1/root")), (0o750, 0o750, 0o600, 0o644));
        assert!(folder.add("1", &[]).is_err(), "the name is taken");
        fs::write(path.join("current"), "a file").unwrap();
        for to in ["1", "2"] {
            folder.link(OsStr::new("current"), Path::new(to)).unwrap();
            assert_eq!(fs::read_link(path.join("current")).unwrap(), Path::new(to));
        }
        folder.remove_file_of(Path::new("1"), "key").unwrap();
        assert!(!path.join("1/key").exists());
        folder.remove_folder(Path::new("1")).unwrap();
        folder.remove_folder(Path::new("1")).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_has_left_is_taken_away_by_the_next_and_nothing_else() {
        let (_parent, path) = locked();
        drop(Folder::lock(&path).unwrap());
        fs::create_dir(path.join(".1.0123456789abcdef.tmp")).unwrap();
        fs::write(path.join(".1.0123456789abcdef.tmp/issuer.key"), "").unwrap();
        symlink("1", path.join(".current.0123456789abcdef.tmp")).unwrap();
        fs::create_dir(path.join("notes.tmp")).unwrap();
        assert!(has_left_overs(&path));
        drop(Folder::lock(&path).unwrap());
        assert!(!has_left_overs(&path));
        let left: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["notes.tmp"]);
    }

    #[test]
    fn root_leaves_all_to_the_owner_of_the_folder_and_follows_no_link_of_another() {
        if !rustix::process::geteuid().is_root() {
            return crate::skip::skipped("only root can give files away");
        }
        let (parent, path) = locked();
        chown(parent.path(), Some(65534), Some(65534)).unwrap();
        let folder = Folder::lock(&path).unwrap();
        folder.add("1", &[("key", b"secret", 0o600)]).unwrap();
        folder.link(OsStr::new("current"), Path::new("1")).unwrap();
        for name in [".", "1", "1/key", "current"] {
            assert_eq!(fs::symlink_metadata(path.join(name)).unwrap().uid(), 65534, "{name}");
        }
        let (elsewhere, link) = (tempfile::tempdir().unwrap(), parent.path().join("link"));
        symlink(elsewhere.path(), &link).unwrap();
        lchown(&link, Some(65534), Some(65534)).unwrap();
        assert_eq!(Folder::lock(&link).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
