//! Tells people which file is being waited for, where that takes long: on a mount whose server is gone a call of the system
//! has no end, and whoever made it can say nothing any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use std::time::Instant;

use crate::stderr;
use crate::{bounds, threads};

/// All files of this process that are being waited for. Where there is no thread to watch them, nothing is told.
static WAITS: LazyLock<Waits> = LazyLock::new(|| {
    // It gets on with it once this is made.
    let _ = threads::start("waits", || WAITS.watch());
    Waits::default()
});

#[derive(Debug, Default)]
struct Waits {
    files: Mutex<Files>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Files {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    /// The watcher looks again by itself before any of them is to be told.
    is_watched: bool,
}

#[derive(Debug)]
struct Waiting {
    path: PathBuf,
    since: Instant,
    told: bool,
}

/// A file that is being waited for as long as this lives.
#[derive(Debug)]
pub struct Wait(u64);

/// Begins to wait for a file.
pub fn for_file(path: &Path) -> Wait {
    let mut files = WAITS.files();
    let number = files.next;
    files.next += 1;
    files.waiting.insert(number, Waiting { path: path.to_owned(), since: Instant::now(), told: false });
    if !files.is_watched {
        WAITS.changed.notify_one();
    }
    Wait(number)
}

impl Drop for Wait {
    fn drop(&mut self) {
        WAITS.files().waiting.remove(&self.0);
    }
}

impl Waits {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        let mut files = self.files();
        loop {
            let (late, next) = files.look();
            for path in late {
                stderr::tell(&format!(
                    "waiting for {}: its disk or mount does not answer; see dmesg and mount",
                    path.display()
                ));
            }
            files.is_watched = next.is_some();
            files = match next {
                Some(soon) => {
                    self.changed.wait_timeout(files, soon).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(files).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Files {
    /// Those that are to be told now, each once, and how long it is until the next one may be.
    fn look(&mut self) -> (BTreeSet<PathBuf>, Option<Duration>) {
        let told = self.waiting.values().filter(|waiting| waiting.told);
        let told: BTreeSet<PathBuf> = told.map(|waiting| waiting.path.clone()).collect();
        let (mut late, mut next) = (BTreeSet::new(), None::<Duration>);
        for waiting in self.waiting.values_mut().filter(|waiting| !waiting.told) {
            let left = bounds::READ_TOLD.saturating_sub(waiting.since.elapsed());
            if left.is_zero() {
                waiting.told = true;
                late.insert(waiting.path.clone());
            } else {
                next = Some(next.map_or(left, |next| next.min(left)));
            }
        }
        (&late - &told, next)
    }
}
