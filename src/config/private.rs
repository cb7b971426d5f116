//! Files that hold secrets: written once, whole, for their owner alone; read only where nobody else can.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
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
    let temporary = write_beside(path, bytes, 0o600)?;
    fs::rename(&temporary, path)?;
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
    let temporary = write_beside(path, bytes, mode)?;
    // A link, unlike a rename, never takes the place of a file that somebody else made meanwhile.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked?;
    File::open(folder_of(path))?.sync_all()
}

/// Writes a file beside the one that it shall become, on disk; their folder is made where it is missing.
fn write_beside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder_of(path))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(temporary)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

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
