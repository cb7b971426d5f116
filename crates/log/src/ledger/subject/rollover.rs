//! Changing the newest key, and destroying a retired one.
//!
//! A roll-over gives the newest key its second name first and puts the new one in its place last, with one rename: there
//! is a usable key at every moment, and one that was interrupted is gone on from by the next.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::keys::{KeyError, Keys, id_after, new_line, no_random, retired_file};
use crate::bounds;
use crate::files::edit::{self, Beside, Editing};

/// How much of a file is overwritten at most, in bytes: a key is one short line.
const KEY_FILE: usize = 64 * 1024;

/// A new key that is on disk, and not the newest yet. Dropped, it is gone.
#[derive(Debug)]
pub struct RollOver {
    /// The key that is about to be retired.
    pub old: String,
    /// The one that takes its place.
    pub new: String,
    /// Where the retired one lies from now on.
    pub retired: PathBuf,
    path: PathBuf,
    editing: Editing,
    made: Beside,
}

impl RollOver {
    /// Keeps the newest key beside itself under the name of a retired one, and makes another. Nobody else may change these
    /// keys meanwhile.
    ///
    /// # Errors
    /// There is no newest key, another file has the name, there are as many as there may be, or the system refuses. The
    /// newest key is as it was.
    pub fn prepare(path: &Path, keys: &Keys) -> Result<Self, KeyError> {
        if keys.retired().len() >= bounds::RETIRED_KEYS {
            let oldest = keys.retired().last().map(|key| key.id.as_str()).unwrap_or_default();
            let fault = format!(
                "{} retired keys lie beside it, and there may be no more; destroy one first: license-relay audit key destroy \
                 {oldest}",
                bounds::RETIRED_KEYS
            );
            return Err(KeyError::new(path, fault));
        }
        let failed = |e: io::Error| KeyError::edit(path, e);
        let editing = Editing::begin(path).map_err(failed)?;
        let old = keys.newest().id.clone();
        let retired = retired_file(path, &old);
        // The file itself, where the newest key lies behind a link: a second link would lead to the new key soon.
        match fs::hard_link(editing.target(), &retired) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if keys.unusable().contains(&retired) || !retired.is_file() {
                    let fault = "is not the newest key, and has the name that this is to get; move it away";
                    return Err(KeyError::new(&retired, fault));
                }
            }
            linked => linked.map_err(|e| KeyError::new(&retired, e))?,
        }
        let new = id_after(Some(&old), path);
        let line = new_line(&new).ok_or_else(|| no_random(path))?;
        let made = editing.write_beside(line.as_bytes()).map_err(failed)?;
        edit::sync_folder_of(&retired).map_err(failed)?;
        Ok(Self { old, new, retired, path: path.to_owned(), editing, made })
    }

    /// Puts the new key in the place of the newest.
    ///
    /// # Errors
    /// The system refuses; the newest key is as it was, unless [`KeyError::is_written`].
    pub fn finish(self) -> Result<(), KeyError> {
        self.editing.put(self.made).map_err(|e| KeyError::edit(&self.path, e))
    }
}

/// Overwrites a file, and takes it away for good. What a link leads to is none of ours.
///
/// # Errors
/// It is a link, or no regular file, or the system refuses; called again, it goes on where it was, unless
/// [`KeyError::is_written`].
pub fn destroy(file: &Path) -> Result<(), KeyError> {
    let overwritten = || -> io::Result<()> {
        let no_file = || io::Error::new(io::ErrorKind::InvalidData, "is no regular file, and holds no key");
        if !fs::symlink_metadata(file)?.is_file() {
            return Err(no_file());
        }
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut open = OpenOptions::new().write(true).custom_flags(flags).open(file)?;
        let metadata = open.metadata()?;
        if !metadata.is_file() {
            return Err(no_file());
        }
        let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        open.write_all(&vec![b'0'; length.min(KEY_FILE)])?;
        open.sync_all()?;
        fs::remove_file(file)?;
        edit::sync_folder_of(file)
    };
    overwritten().map_err(|e| KeyError::edit(file, e))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;
    use crate::files::private;
    use crate::ledger::subject::Subject;
    use crate::ledger::subject::SubjectCase;

    fn site() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subject.key");
        private::write_private(&path, format!("k2020:{}\n", "5a".repeat(32)).as_bytes()).unwrap();
        (folder, path)
    }

    fn read(path: &Path) -> Keys {
        Keys::read(path, SubjectCase::Fold).unwrap()
    }

    fn prepare(path: &Path) -> RollOver {
        RollOver::prepare(path, &read(path)).unwrap()
    }

    fn ids(path: &Path) -> Vec<String> {
        read(path).all().map(|key| key.id.clone()).collect()
    }

    fn files(folder: &tempfile::TempDir) -> usize {
        fs::read_dir(folder.path()).unwrap().count()
    }

    #[test]
    fn a_roll_over_keeps_the_old_key_and_what_it_made_of_names() {
        let (folder, path) = site();
        let bob = Subject::new("ACME\\bob");
        let before = read(&path).of(&bob);
        let roll_over = prepare(&path);
        let (old, new) = (roll_over.old.clone(), roll_over.new.clone());
        roll_over.finish().unwrap();
        assert_eq!(ids(&path), [new, old]);
        assert_eq!(read(&path).older(&bob), [before]);
        assert_eq!(files(&folder), 2);
        for entry in fs::read_dir(folder.path()).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let second = prepare(&path);
        assert!(second.new.ends_with("-2"), "{}", second.new);
        second.finish().unwrap();
        assert_eq!(ids(&path).len(), 3);
    }

    #[test]
    fn a_roll_over_that_is_not_finished_changes_nothing() {
        let (folder, path) = site();
        drop(prepare(&path));
        assert_eq!((ids(&path), read(&path).unusable().len()), (vec!["k2020".to_owned()], 0));
        assert_eq!(files(&folder), 2, "the key under its two names");
    }

    #[test]
    fn a_roll_over_that_was_killed_is_gone_on_from() {
        let (folder, path) = site();
        // The system gives the lock back, and leaves the file.
        let RollOver { made, editing, .. } = prepare(&path);
        std::mem::forget(made);
        drop(editing);
        assert_eq!((ids(&path), files(&folder)), (vec!["k2020".to_owned()], 3));
        prepare(&path).finish().unwrap();
        assert_eq!((ids(&path).len(), files(&folder)), (2, 2), "what the first try has made is gone");
    }

    #[test]
    fn nothing_is_written_over() {
        let (_folder, path) = site();
        let other = retired_file(&path, "k2020");
        private::write_private(&other, b"another").unwrap();
        let words = RollOver::prepare(&path, &read(&path)).unwrap_err().to_string();
        assert!(words.contains("move it away"), "{words}");
        assert_eq!(fs::read_to_string(&other).unwrap(), "another");
        assert_eq!(ids(&path), ["k2020"]);
    }

    #[test]
    fn as_many_keys_as_may_be_are_not_made_one_more() {
        let (_folder, path) = site();
        for n in 1..=bounds::RETIRED_KEYS {
            let id = format!("k2019-{n}");
            let line = format!("{id}:{}", "5b".repeat(32));
            private::write_private(&retired_file(&path, &id), line.as_bytes()).unwrap();
        }
        let words = RollOver::prepare(&path, &read(&path)).unwrap_err().to_string();
        assert!(words.contains("audit key destroy k2019-1"), "{words}");
    }

    #[test]
    fn what_a_link_leads_to_is_not_destroyed() {
        let (folder, path) = site();
        let other = folder.path().join("other");
        fs::write(&other, "untouched").unwrap();
        let link = retired_file(&path, "k1");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        assert!(destroy(&link).unwrap_err().to_string().contains("is no regular file"));
        assert_eq!(fs::read_to_string(&other).unwrap(), "untouched");
        let found = read(&path);
        assert!(found.retired().is_empty() && found.unusable().is_empty(), "a link is passed over");
    }

    #[test]
    fn an_id_that_a_retired_key_has_is_not_given_again() {
        let (_folder, path) = site();
        let line = |id: &str| format!("{id}:{}", "5b".repeat(32));
        private::replace_private(&path, line("main").as_bytes()).unwrap();
        let given = prepare(&path).new;
        for id in [&*given, &format!("{given}-2")] {
            private::write_private(&retired_file(&path, id), line(id).as_bytes()).unwrap();
        }
        prepare(&path).finish().unwrap();
        assert_eq!(ids(&path), [&*format!("{given}-3"), &format!("{given}-2"), &given, "main"]);
    }

    #[test]
    fn a_destroyed_key_is_overwritten_before_it_goes() {
        let (folder, path) = site();
        let kept = folder.path().join("kept");
        fs::hard_link(&path, &kept).unwrap();
        let length = fs::metadata(&kept).unwrap().size();
        destroy(&path).unwrap();
        assert!(!path.exists());
        let left = fs::read(&kept).unwrap();
        assert_eq!(left, vec![b'0'; usize::try_from(length).unwrap()]);
        assert!(destroy(&path).is_err());
    }
}
