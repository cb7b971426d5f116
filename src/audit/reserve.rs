//! Space that the log keeps for itself: a file that is given up once the disk is full, so that outcomes of what was sent
//! already, and the stop, can still be written.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use crate::bounds;

/// The file, and whether it is there.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    held: bool,
    /// It was given up, and is not there again yet.
    spent: bool,
}

impl Reserve {
    /// The reserve of a log, made where there is room for it.
    pub(super) fn new(log: &Path) -> Self {
        let mut reserve = Self { path: path(log), held: false, spent: false };
        reserve.take();
        reserve
    }

    /// Takes the space, where there is as much to spare.
    pub(super) fn take(&mut self) {
        if !self.held {
            self.held = make(&self.path).is_ok();
            if self.held {
                self.spent = false;
            } else {
                let _ = fs::remove_file(&self.path);
            }
        }
    }

    /// Gives the space up; whether there was any.
    pub(super) fn give_up(&mut self) -> bool {
        let given = self.held && fs::remove_file(&self.path).is_ok();
        self.spent |= given;
        self.held = false;
        given
    }

    /// Whether anything but outcomes may be written: what it has left behind is theirs until it is there again.
    pub(super) fn is_whole(&mut self) -> bool {
        if self.spent {
            self.take();
        }
        !self.spent
    }
}

/// Gives up the space of a log, whoever holds it, for what makes room; the next start takes it again.
pub(super) fn spend(log: &Path) {
    let _ = fs::remove_file(path(log));
}

fn path(log: &Path) -> PathBuf {
    log.join("reserve")
}

fn make(path: &Path) -> io::Result<()> {
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, bounds::RESERVE)?;
    file.sync_all()
}
