//! The limit of file sizes (`ulimit -f`, `LimitFSIZE=`). A write beyond it gets a signal that would end the process; once
//! the signal is taken, the write fails like one on a full disk, and the failure can be told.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use rustix::process::{Resource, Signal, getrlimit};

/// Whether the signal has come.
static REACHED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Takes the signal from here on.
///
/// # Errors
/// The system refuses.
pub fn take_signal() -> io::Result<()> {
    signal_hook::flag::register(Signal::XFSZ.as_raw(), REACHED.clone()).map(drop)
}

/// Whether a write of this process has reached the limit.
pub(crate) fn is_reached() -> bool {
    REACHED.load(Ordering::Relaxed)
}

/// What to do about a write that has failed at the limit; nothing about any other failure.
pub fn advice(e: &io::Error) -> String {
    if e.kind() == io::ErrorKind::FileTooLarge { words() } else { String::new() }
}

/// What the limit is, and what to do about it; nothing where there is none.
pub fn words() -> String {
    let limit = getrlimit(Resource::Fsize).current;
    let words = |limit| {
        format!(
            "; this process may write no more than {limit} bytes into a file: raise ulimit -f, or LimitFSIZE= of its unit"
        )
    };
    limit.map(words).unwrap_or_default()
}
