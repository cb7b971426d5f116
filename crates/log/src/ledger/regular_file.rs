//! How files of a log are opened that somebody else may have put where they lie: a copy of a log, an anchor, a list. As
//! all such files they are read only where they are regular (`config::regular`), and of a small file no more than such a
//! file may have.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::OFlags;

use super::merkle::{Hash, finished};
use crate::bounds::READ_PIECE;
use crate::files::regular;

/// The largest `log.json`, in bytes; one of ours has about 300.
pub const MAX_ABOUT: u64 = 64 * 1024;
/// The largest list of sums, in bytes: two lines for each of 80,000 segments.
pub const MAX_SUMS: u64 = 16 * 1024 * 1024;

/// Opens a regular file to be read, also where a link leads to it.
///
/// # Errors
/// It is not there, or can't be opened. [`io::ErrorKind::InvalidData`]: it is no regular file, or a link that leads
/// nowhere.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::empty())
}

/// The same, but no link: one could lead to a key.
///
/// # Errors
/// As [`open`]; or it is a link.
pub fn open_no_link(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::NOFOLLOW)
}

/// Reads a regular file of at most so many bytes.
///
/// # Errors
/// As [`open`]; it can't be read; [`io::ErrorKind::InvalidData`] as well where it is larger.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_opened(open(path)?, most)
}

/// What is left of a file that was opened, if that is at most so many bytes.
///
/// # Errors
/// It can't be read; [`io::ErrorKind::InvalidData`]: it is larger.
pub fn read_opened(file: File, most: u64) -> io::Result<Vec<u8>> {
    regular::read_opened(file, most)
}

/// SHA-256 of all that can be read, a piece at a time.
///
/// # Errors
/// It can't be read.
pub fn hash_of(from: &mut impl Read) -> io::Result<Hash> {
    let (mut context, mut buffer) = (Context::new(&SHA256), vec![0; READ_PIECE]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => context.update(&buffer[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(finished(context))
}

fn open_with(path: &Path, flags: OFlags) -> io::Result<File> {
    // A file that is only just being made is none of these.
    if fs::metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
        && fs::symlink_metadata(path).is_ok_and(|there| there.is_symlink())
    {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is a link that leads nowhere"));
    }
    regular::open_with(path, flags)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_a_regular_file_is_opened_and_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "four").unwrap();
        symlink(at("file"), at("link")).unwrap();
        assert_eq!(read(&at("link"), 4).unwrap(), b"four");
        assert!(read(&at("file"), 3).unwrap_err().to_string().contains("larger than 3 bytes"));
        assert!(open_no_link(&at("file")).is_ok() && open_no_link(&at("link")).is_err());
        assert_eq!(read(&at("none"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);

        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), 0o600.into()).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        symlink(at("none"), at("nowhere")).unwrap();
        for name in ["fifo", "zero", "nowhere", "."] {
            for opened in [open(&at(name)), open_no_link(&at(name))] {
                let told = opened.unwrap_err();
                assert_eq!(told.kind(), io::ErrorKind::InvalidData, "{name}: {told}");
            }
        }
    }

    #[test]
    fn pieces_hash_to_what_the_whole_does() {
        let bytes: Vec<u8> = (0..3 * READ_PIECE + 7).map(|n| (n % 251) as u8).collect();
        let whole = aws_lc_rs::digest::digest(&SHA256, &bytes);
        assert_eq!(hash_of(&mut bytes.as_slice()).unwrap(), whole.as_ref());
    }
}
