//! Files that hold secrets: written once, whole, for their owner alone; read only where nobody else can.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Writes a new file that only its owner may read. Its folder is made where it is missing.
///
/// # Errors
/// The file is there already, or the system refuses.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_new(path, bytes, 0o600)
}

/// Writes a new file that anybody may read, in the same careful way.
///
/// # Errors
/// As [`write_private`].
pub fn write_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_new(path, bytes, 0o644)
}

/// Puts a file that only its owner may read in the place of another, whole or not at all.
///
/// # Errors
/// The system refuses.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put_in_place(&write_beside(path, bytes)?, path)
}

/// Writes a file that only its owner may read beside the one whose place it shall take, and gives its name. It is on disk.
///
/// # Errors
/// The system refuses.
pub fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    write_temporary(path, bytes, 0o600)
}

/// Puts such a file in its place.
///
/// # Errors
/// The system refuses; the file is gone then.
pub fn put_in_place(temporary: &Path, path: &Path) -> io::Result<()> {
    fs::rename(temporary, path).inspect_err(|_| drop(fs::remove_file(temporary)))?;
    sync_folder_of(path)
}

/// Takes away what a kill has left of files that were to take the place of this one. Nobody may write it meanwhile.
///
/// # Errors
/// The system refuses.
pub fn clear_beside(path: &Path) -> io::Result<()> {
    let prefix = temporary_prefix(path);
    for entry in fs::read_dir(folder_of(path))? {
        let name = entry?.file_name();
        let random = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(".tmp"));
        if random.is_some_and(|random| random.len() == 16 && random.bytes().all(|b| b.is_ascii_hexdigit())) {
            fs::remove_file(path.with_file_name(name))?;
        }
    }
    Ok(())
}

/// Makes what was created, renamed and removed beside a file lasting.
///
/// # Errors
/// The system refuses.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// Reads a file of secrets, and wipes the text once it is dropped.
///
/// # Errors
/// It can't be read, is no UTF-8, or others may read it; the message says what to run.
pub fn read_private(path: &Path) -> io::Result<Zeroizing<String>> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        let advice =
            format!("others may read it (mode {:04o}); run: chmod 600 {}", mode & 0o7777, path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, advice));
    }
    fs::read_to_string(path).map(Zeroizing::new)
}

/// DER as PEM (RFC 7468), wiped once it is dropped.
pub fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(format!("-----BEGIN {label}-----\n"));
    for line in base64.as_bytes().chunks(64) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, mode)?;
    // A link, unlike a rename, never takes the place of a file that somebody else made meanwhile.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked?;
    sync_folder_of(path)
}

/// Writes a file beside the one that it shall become, on disk; their folder is made where it is missing.
fn write_temporary(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder_of(path))?;
    let (mut file, temporary) = create_beside(path, mode)?;
    let written = keep_owner(&file, path).and_then(|()| file.write_all(bytes)).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(fs::remove_file(&temporary))).map(|()| temporary)
}

/// What root writes stays readable for the relay: it belongs to whom the file was, or its folder is.
fn keep_owner(file: &File, path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let before = fs::symlink_metadata(path).or_else(|_| fs::symlink_metadata(folder_of(path)))?;
    fchown(file, Some(before.uid()), Some(before.gid()))
}

/// Makes a file beside the one that it shall become. Whoever may write to the folder can neither know its name before
/// nor have put a link there: root edits files in folders of the relay's user.
///
/// # Errors
/// The system refuses, or gives no random numbers.
pub fn create_beside(path: &Path, mode: u32) -> io::Result<(File, PathBuf)> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let name = format!("{}{:016x}.tmp", temporary_prefix(path), u64::from_ne_bytes(random));
    let temporary = path.with_file_name(name);
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    Ok((file, temporary))
}

fn temporary_prefix(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_beside_a_file_has_a_name_that_nobody_knows_and_is_gone_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.json");
        let names: std::collections::HashSet<_> =
            (0..3).map(|_| create_beside(&path, 0o600).unwrap().1).collect();
        assert_eq!(names.len(), 3);
        names.iter().for_each(|name| fs::remove_file(name).unwrap());
        // What stood at the name that was once the next one is nobody's way in.
        let victim = folder.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join("table.json.new")).unwrap();
        replace_private(&path, b"one").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "a temporary file was left");
    }

    #[test]
    fn what_root_writes_belongs_to_whom_it_was_or_to_the_owner_of_the_folder() {
        if !rustix::process::geteuid().is_root() {
            // Nobody else may give files away.
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).unwrap();
        let path = folder.path().join("users");
        let owner = || fs::metadata(&path).unwrap().uid();
        replace_private(&path, b"one").unwrap();
        assert_eq!(owner(), 65534);
        std::os::unix::fs::chown(&path, Some(1234), None).unwrap();
        replace_private(&path, b"two").unwrap();
        assert_eq!(owner(), 1234);
    }

    #[test]
    fn a_secret_is_never_written_over_nor_read_where_others_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("x.key");
        write_private(&path, b"one").unwrap();
        assert!(write_private(&path, b"two").is_err());
        assert_eq!(read_private(&path).unwrap().as_str(), "one");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let advice = read_private(&path).unwrap_err().to_string();
        assert!(advice.contains("chmod 600"), "{advice}");
    }
}
