//! Files that hold secrets: written once, whole, for their owner alone; read only where nobody else can.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::edit::{self, Editing};
use super::{regular, waits};
use crate::bounds;

/// Writes a new file that only its owner may read. Its folder is made where it is missing.
///
/// # Errors
/// The file is there already, or the system refuses.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    Editing::begin(path)?.create(bytes, 0o600)
}

/// Puts a file that only its owner may read in the place of another, whole or not at all. Nobody else may write this file
/// meanwhile.
///
/// # Errors
/// The system refuses.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    edit::replace_alone(path, bytes)
}

/// Reads a file of secrets, and wipes the text once it is dropped.
///
/// # Errors
/// It can't be read, is no regular file, too large or no UTF-8, or others may read it; the message says what to run.
pub fn read_private(path: &Path) -> io::Result<Zeroizing<String>> {
    let _wait = waits::for_file(path);
    read_opened(path, regular::open(path)?)
}

/// Reads a file of secrets that is copied to where another user can read it, if that user could read it before: only its
/// owner can, and the user may have put a link there.
///
/// # Errors
/// As [`read_private`], or it is somebody else's.
pub fn read_private_for(path: &Path, user: u32) -> io::Result<Zeroizing<String>> {
    let _wait = waits::for_file(path);
    let file = regular::open(path)?;
    let owner = file.metadata()?.uid();
    if user != 0 && user != owner {
        let advice = format!(
            "it belongs to user {owner}, and would be given to user {user}; run: chown {user} {}",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, advice));
    }
    read_opened(path, file)
}

fn read_opened(path: &Path, file: File) -> io::Result<Zeroizing<String>> {
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        let advice =
            format!("others may read it (mode {:04o}); run: chmod 600 {}", mode & 0o7777, path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, advice));
    }
    let bytes = regular::read_opened(file, bounds::CONFIGURED)?;
    String::from_utf8(bytes).map(Zeroizing::new).map_err(|e| {
        drop(Zeroizing::new(e.into_bytes()));
        io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")
    })
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_secret_is_never_written_over_nor_read_where_others_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("x.key");
        write_private(&path, b"one").unwrap();
        assert!(write_private(&path, b"two").is_err());
        assert_eq!(read_private(&path).unwrap().as_str(), "one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file was left");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let advice = read_private(&path).unwrap_err().to_string();
        assert!(advice.contains("chmod 600"), "{advice}");
    }
}
