//! Files that are handed over: for their owner alone, whole or not at all, and never into a log's own folder. What is no
//! file, such as a pipe or a device, is written into. What a crash has left of one is taken away by the next.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::exit::{Exit, Failure};
use super::out::note;
use crate::files::edit::{clear_handed_over, create_beside};
use crate::stderr;

/// Refuses a file that is there already, and one below one of these logs.
pub fn refuse(to: &Path, logs: &[PathBuf], force: bool) -> Result<(), Failure> {
    let folder =
        to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let folder = fs::canonicalize(folder)
        .map_err(|e| Failure::new(Exit::of_named(&e), format!("{}: {e}", folder.display())))?;
    if logs.iter().filter_map(|log| fs::canonicalize(log).ok()).any(|log| folder.starts_with(log)) {
        let words = format!(
            "{} is in the log's own folder, where readers write nothing; name another place",
            to.display()
        );
        return Err(Failure::new(Exit::Usage, words));
    }
    if !force && fs::symlink_metadata(to).is_ok() && !is_special(to) {
        let words = format!("{} is there already; name another file, or add --force", to.display());
        return Err(Failure::new(Exit::Usage, words));
    }
    Ok(())
}

/// Writes a file beside its place and puts it there once it is on disk.
///
/// # Errors
/// What `write` says; or the place can't be written to.
pub fn hand_over<T, E: From<io::Error>>(to: &Path, write: impl FnOnce(File) -> Result<T, E>) -> Result<T, E> {
    if is_special(to) {
        return write(File::options().write(true).open(to)?);
    }
    // A link stays one: what it leads to is replaced.
    let to = fs::canonicalize(to).unwrap_or_else(|_| to.to_owned());
    if let Err(e) = clear_handed_over(&to) {
        note!(
            "{}: warning: what a crash may have left beside {} can't be removed: {e}",
            stderr::program(),
            to.display()
        );
    }
    let (file, temporary) = create_beside(&to)?;
    let written = file.try_clone().map_err(E::from).and_then(write).and_then(|written| {
        file.sync_all()?;
        fs::rename(&temporary, &to)?;
        Ok(written)
    });
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Whether something is there that is neither a file nor a folder: it would be lost if a file took its place.
fn is_special(to: &Path) -> bool {
    fs::metadata(to).is_ok_and(|found| !found.is_file() && !found.is_dir())
}
