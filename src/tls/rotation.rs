//! Changing the root without an outage: a new root and issuer are made beside the old, some addresses are served the
//! new leaves first, and only then is the old one put away.
//!
//! The state is in files, so that a crash at any point leaves something that the next `ca rotate` understands:
//! `root.next.pem`, `issuer.next.pem`, `issuer.next.key`, and `rotation.json`, which the running relay watches and
//! which is always written last. While it says that a rotation is under way, all three lie beside the old; where one does
//! not, a finish has begun, and what is left of it is in force from where it lies.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::authority::Files;
use crate::config::edit::sync_folder_of;
use crate::config::private::write_private;
use crate::config::state;

/// How far a rotation is; what `rotation.json` holds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rotation {
    /// Whether there is one: new files lie beside the old.
    pub under_way: bool,
    /// The client networks that are served the new leaves.
    pub networks: Vec<IpNet>,
    /// Counts changes, so that the file differs whenever something was done.
    pub step: u64,
}

/// Where the three files of an authority lie.
#[derive(Debug)]
pub struct FilePaths {
    /// The root.
    pub root: PathBuf,
    /// The issuer.
    pub issuer: PathBuf,
    /// Its key.
    pub issuer_key: PathBuf,
}

impl FilePaths {
    /// Where the new ones lie.
    pub fn next_to(files: Files<'_>) -> Self {
        Self {
            root: renamed(files.root, "next"),
            issuer: renamed(files.issuer, "next"),
            issuer_key: renamed(files.issuer_key, "next"),
        }
    }

    /// As an authority's files.
    pub fn files(&self) -> Files<'_> {
        Files { root: &self.root, issuer: &self.issuer, issuer_key: &self.issuer_key }
    }

    fn all(&self) -> [&Path; 3] {
        [&self.root, &self.issuer, &self.issuer_key]
    }
}

impl Rotation {
    /// The file beside the root.
    pub fn path(files: Files<'_>) -> PathBuf {
        files.root.with_file_name("rotation.json")
    }

    /// How far it is.
    ///
    /// # Errors
    /// The file can't be read, or isn't one that this program wrote.
    pub fn read(files: Files<'_>) -> io::Result<Self> {
        state::read(&Self::path(files))
    }

    /// Whether a finish has begun and has not ended: there is no way back from it.
    pub fn is_finishing(&self, files: Files<'_>) -> bool {
        self.under_way && !FilePaths::next_to(files).all().iter().all(|path| path.exists())
    }

    /// Where the files of the authority in force lie: what a finish that was cut short has not put in its place yet lies
    /// beside it.
    pub fn in_force(&self, files: Files<'_>) -> FilePaths {
        let (next, finishing) = (FilePaths::next_to(files), self.is_finishing(files));
        let of = |next: PathBuf, own: &Path| if finishing && next.exists() { next } else { own.to_owned() };
        FilePaths {
            root: of(next.root, files.root),
            issuer: of(next.issuer, files.issuer),
            issuer_key: of(next.issuer_key, files.issuer_key),
        }
    }

    /// Writes the next step.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(mut self, files: Files<'_>) -> io::Result<()> {
        self.step += 1;
        state::write(&Self::path(files), &self)
    }
}

/// Lets nobody else change the authority as long as what it gives lives; `None` where somebody else does just now.
///
/// # Errors
/// The file beside the root that is locked for it can't be made or opened.
pub fn lock(files: Files<'_>) -> io::Result<Option<File>> {
    let path = files.root.with_file_name("rotation.lock");
    if !path.exists() {
        match write_private(&path, b"") {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    let file = File::open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Puts the new files in the place of the old. The old root and issuer are kept as `.old`, for the record; the old key
/// is not. Done again after a crash, it goes on where it was.
///
/// # Errors
/// A file can't be renamed.
pub fn finish(files: Files<'_>, next: &FilePaths) -> io::Result<()> {
    let steps = [
        (files.issuer_key, &next.issuer_key, false),
        (files.issuer, &next.issuer, true),
        (files.root, &next.root, true),
    ];
    for (old, new, keep) in steps {
        if !new.exists() {
            continue;
        }
        if keep && old.exists() {
            let _ = fs::remove_file(renamed(old, "old"));
            fs::hard_link(old, renamed(old, "old"))?;
        }
        fs::rename(new, old)?;
        sync_folder_of(old)?;
    }
    Ok(())
}

/// Takes the new files away.
///
/// # Errors
/// A file can't be removed.
pub fn abort(next: &FilePaths) -> io::Result<()> {
    for path in [&next.issuer_key, &next.issuer, &next.root] {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// `root.pem` and `next` make `root.next.pem`.
fn renamed(path: &Path, tag: &str) -> PathBuf {
    let extension = path.extension().map(|e| format!("{tag}.{}", e.to_string_lossy()));
    path.with_extension(extension.unwrap_or_else(|| tag.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finish_that_was_cut_short_is_finished_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (root, issuer, issuer_key) = (at("root.pem"), at("issuer.pem"), at("issuer.key"));
        let files = Files { root: &root, issuer: &issuer, issuer_key: &issuer_key };
        for path in [&root, &issuer, &issuer_key] {
            fs::write(path, "old").unwrap();
        }
        let next = FilePaths::next_to(files);
        assert_eq!(next.root, at("root.next.pem"));
        // As if the key had been put in place, and then the power failed.
        fs::write(&issuer_key, "new").unwrap();
        for path in [&next.issuer, &next.root] {
            fs::write(path, "new").unwrap();
        }
        finish(files, &next).unwrap();
        for path in [&root, &issuer, &issuer_key] {
            assert_eq!(fs::read_to_string(path).unwrap(), "new");
        }
        assert_eq!(fs::read_to_string(at("root.old.pem")).unwrap(), "old");
        assert!(!at("issuer.old.key").exists());
    }

    #[test]
    fn each_step_changes_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root.pem");
        let files = Files { root: &root, issuer: &root, issuer_key: &root };
        assert_eq!(Rotation::read(files).unwrap(), Rotation::default());
        for step in 1..3 {
            Rotation::read(files).unwrap().write(files).unwrap();
            assert_eq!(Rotation::read(files).unwrap().step, step);
        }
    }
}
