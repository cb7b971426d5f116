//! The admin socket as it lies in the file system: where it is, and how it gets there.
//!
//! It is bound under another name, gets its mode, listens, and is then renamed into its place. So a socket that a crash has
//! left is replaced, and nobody ever finds one with another mode, or one that does not listen yet.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{env, fmt};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::bounds;
use crate::config::model::Config;

/// The name of a socket whose place the configuration leaves open.
const NAME: &str = "admin.sock";
/// The folder that systemd makes for a service of this program's name.
const RUNTIME_FOLDER: &str = "/run/license-relay";
/// The owner and the group may ask.
const MODE: u32 = 0o660;

/// Where a relay makes its socket: as configured, else in the folder that systemd has made for the service, else beside
/// the log.
pub fn place(config: &Config) -> PathBuf {
    let in_runtime_folder = || runtime_folder().map(|folder| folder.join(NAME));
    config.admin.socket.clone().or_else(in_runtime_folder).unwrap_or_else(|| beside_log(config))
}

/// Where the socket of a running relay may be, the likeliest place first: a verb has another environment than the service,
/// and the relay may have started with another configuration.
pub(crate) fn places(config: &Config) -> Vec<PathBuf> {
    let mut places = vec![place(config)];
    for other in [beside_log(config), Path::new(RUNTIME_FOLDER).join(NAME)] {
        if !places.contains(&other) {
            places.push(other);
        }
    }
    places
}

fn beside_log(config: &Config) -> PathBuf {
    config.audit.directory.join(NAME)
}

/// The folder that systemd has made for this service; the first, where it has made several (systemd.exec(5)).
fn runtime_folder() -> Option<PathBuf> {
    let folders = env::var_os("RUNTIME_DIRECTORY")?;
    let first = folders.as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
    (!first.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(first)))
}

/// A socket in its place. Dropped, it is gone, unless another one has taken the place.
#[derive(Debug)]
pub struct Local {
    /// What accepts.
    pub listener: UnixListener,
    /// What takes it away.
    pub placed: Placed,
}

/// The name of a socket in the file system.
#[derive(Debug)]
pub struct Placed {
    path: PathBuf,
    inode: (u64, u64),
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The path does not fit into the address of a socket.
    #[error("its path is {0} bytes long, and a socket's has at most {limit}; set admin.socket to a shorter one", limit = bounds::SOCKET_PATH)]
    TooLong(usize),
    /// Something lies in its place that is no socket.
    #[error("{0} is {1} and no socket; move it away, or set admin.socket to another path")]
    Taken(PathBuf, FoundAtPath),
    /// Another process listens there.
    #[error("another process listens there; end it, or set admin.socket to another path")]
    InUse,
    /// The system refuses.
    #[error("{0}; make its folder so that the relay can write there, or set admin.socket to another path")]
    Io(#[from] io::Error),
}

/// What lies in the place of a socket.
#[derive(Debug)]
pub struct FoundAtPath(fs::FileType);

impl Local {
    /// Listens at a path, in the place of a socket at which nobody listens any more.
    ///
    /// # Errors
    /// See [`LocalError`]; what lies there is as it was.
    pub fn bind(path: &Path) -> Result<Self, LocalError> {
        let length = path.as_os_str().len();
        if length > bounds::SOCKET_PATH {
            return Err(LocalError::TooLong(length));
        }
        examine(path)?;
        if is_answered(path)? {
            return Err(LocalError::InUse);
        }
        let beside = beside(path)?;
        examine(&beside)?;
        match fs::remove_file(&beside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(&beside)?)?;
        let put = || {
            fs::set_permissions(&beside, Permissions::from_mode(MODE))?;
            let found = fs::symlink_metadata(&beside)?;
            socket.listen(bounds::BACKLOG)?;
            fs::rename(&beside, path)?;
            Ok((found.dev(), found.ino()))
        };
        let inode = put().inspect_err(|_: &io::Error| drop(fs::remove_file(&beside)))?;
        let listener = UnixListener::from_std(socket.into())?;
        Ok(Self { listener, placed: Placed { path: path.to_owned(), inode } })
    }
}

impl Placed {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let own = |found: fs::Metadata| (found.dev(), found.ino()) == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(own) {
            // What can't be removed is replaced by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl fmt::Display for FoundAtPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            kind if kind.is_file() => "a file",
            kind if kind.is_dir() => "a folder",
            kind if kind.is_symlink() => "a link",
            _ => "a device or a pipe",
        })
    }
}

/// Refuses what lies in the place of a socket and is none.
///
/// # Errors
/// [`LocalError::Taken`]; or the system refuses.
pub(crate) fn examine(path: &Path) -> Result<(), LocalError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(found) => Err(LocalError::Taken(path.to_owned(), FoundAtPath(found.file_type()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Whether somebody listens at this socket. One whose queue is full has a listener as well.
fn is_answered(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(e) => match e.kind() {
            io::ErrorKind::WouldBlock => Ok(true),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(false),
            _ => Err(e),
        },
    }
}

/// The name that it has until it is ready: no longer than its own, so that it fits wherever that does.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.as_bytes();
    let shorter = name.split_last().map(|(_, shorter)| shorter);
    let beside = [b"~", shorter.unwrap_or_default()].concat();
    Ok(path.with_file_name(OsStr::from_bytes(&beside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_takes_the_place_of_one_that_was_left_and_of_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let local = Local::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        assert!(matches!(Local::bind(&path), Err(LocalError::InUse)));
        drop(local);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        fs::write(&path, "mine").unwrap();
        let refused = Local::bind(&path).unwrap_err().to_string();
        assert!(refused.contains("is a file and no socket"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn what_another_one_has_put_in_the_place_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let local = Local::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let other = Local::bind(&path).unwrap();
        drop(local);
        assert!(is_answered(&path).unwrap());
        drop(other);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_longest_path_can_be_bound_and_a_longer_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let room = bounds::SOCKET_PATH - folder.path().as_os_str().len() - 1;
        let path = folder.path().join("s".repeat(room));
        drop(Local::bind(&path).unwrap());
        let longer = folder.path().join("s".repeat(room + 1));
        assert!(matches!(Local::bind(&longer), Err(LocalError::TooLong(108))));
    }
}
