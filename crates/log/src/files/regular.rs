//! How files are opened that somebody else may have put where they lie: what the configuration names, a copy of a log, an
//! anchor. Only a regular file is read. Anything else may have no end, or may block whoever opens it, for ever.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::waits;
use crate::bounds;

/// Opens a regular file to be read, also where a link leads to it.
///
/// # Errors
/// The system refuses. [`io::ErrorKind::InvalidData`]: it is no regular file; the message says what it is.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::empty())
}

/// As [`open`], with more flags.
pub fn open_with(path: &Path, flags: OFlags) -> io::Result<File> {
    let _wait = waits::for_file(path);
    // Opening some devices has an effect, and a socket can't be opened at all: look first. What takes the place of the file
    // between the two calls is opened without waiting, and then refused.
    if let Ok(found) = fs::metadata(path) {
        refuse_others(&found)?;
    }
    let flags = (flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    refuse_others(&file.metadata()?)?;
    Ok(file)
}

/// What a file holds that the configuration names. It is wiped once it is dropped.
///
/// # Errors
/// As [`open`]; it can't be read; or it is larger than [`bounds::CONFIGURED`] ([`io::ErrorKind::InvalidData`]).
pub fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let _wait = waits::for_file(path);
    read_opened(open(path)?, bounds::CONFIGURED).map(Zeroizing::new)
}

/// What is left of a file that was opened, if that is at most so many bytes.
///
/// # Errors
/// It can't be read. [`io::ErrorKind::InvalidData`]: it is larger.
pub fn read_opened(mut file: File, most: u64) -> io::Result<Vec<u8>> {
    let too_large = || invalid(&format!("it is larger than {most} bytes, and no such file is"));
    // By its size first: a sparse file of gigabytes takes no space, and would take as much memory as it may have.
    let length = file.metadata()?.len().saturating_sub(file.stream_position()?);
    if length > most {
        return Err(too_large());
    }
    // With room for a byte more, the end is found without more memory, which would leave a copy of a secret behind.
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default().saturating_add(1));
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large()) } else { Ok(bytes) }
}

/// Whether nothing lies at a path. What can't be looked at, such as a link that leads to itself, is there, and whoever reads
/// it hears why it can't be read.
pub fn is_missing(path: &Path) -> bool {
    let _wait = waits::for_file(path);
    fs::metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// What lies at a path where a regular file belongs; `None` for a regular file.
pub fn other_than_file(found: &Metadata) -> Option<&'static str> {
    let kind = found.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a folder")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

fn refuse_others(found: &Metadata) -> io::Result<()> {
    match other_than_file(found) {
        None => Ok(()),
        Some(what) => Err(invalid(&format!("it is no regular file, but {what}"))),
    }
}

fn invalid(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_a_regular_file_is_read_and_what_else_there_is_has_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "four").unwrap();
        symlink(at("file"), at("link")).unwrap();
        assert_eq!(read(&at("link")).unwrap().as_slice(), b"four");
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), 0o600.into()).unwrap();
        symlink(at("fifo"), at("to-fifo")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for (name, what) in [
            ("fifo", "a FIFO"),
            ("to-fifo", "a FIFO"),
            ("zero", "a device"),
            (".", "a folder"),
            ("socket", "a socket"),
        ] {
            let said = read(&at(name)).unwrap_err().to_string();
            assert!(said.contains(what), "{name}: {said}");
        }
        assert_eq!(read(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        symlink("loop", at("loop")).unwrap();
        symlink("none", at("dangling")).unwrap();
        let missing = ["file", "loop", "none", "dangling"].map(|name| is_missing(&at(name)));
        assert_eq!(missing, [false, false, true, true]);
    }

    #[test]
    fn a_file_is_refused_by_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        File::create(&path).unwrap().set_len(bounds::CONFIGURED).unwrap();
        assert_eq!(read(&path).unwrap().len() as u64, bounds::CONFIGURED);
        File::create(&path).unwrap().set_len(6 << 30).unwrap();
        let said = read(&path).unwrap_err().to_string();
        assert!(said.contains("is larger than"), "{said}");
    }
}
