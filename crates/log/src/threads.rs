//! Threads of our own, and the system's limit of them (`ulimit -u`, `LimitNPROC=`, `TasksMax=`): where there are too few,
//! that is an error with a way out, and no panic.

use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle, available_parallelism, sleep};

use std::time::Instant;

use crate::bounds;

/// What to do where the system gives no more threads.
pub const ADVICE: &str =
    "raise the limit of processes of its user (ulimit -u), or LimitNPROC= and TasksMax= of its unit";

/// The system gives no thread.
#[derive(Debug, thiserror::Error)]
#[error("no thread can be started ({0}); {ADVICE}")]
pub struct NoThread(pub io::Error);

/// Starts a thread.
///
/// # Errors
/// The system gives none.
pub fn start<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, NoThread> {
    Builder::new().name(name.into()).spawn(work).map_err(NoThread)
}

/// The processors that are left to work that takes long: all but one, and at least one.
pub fn spare_processors() -> usize {
    available_parallelism().map_or(1, |processors| processors.get().saturating_sub(1).max(1))
}

/// Does work that takes long on a thread that gives way to all others of this machine, and waits for it. Where the system
/// gives no thread, it is done here.
pub fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    // Taken by whoever does it.
    let work = Mutex::new(Some(work));
    let take = || work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let done = std::thread::scope(|scope| {
        let thread = Builder::new().name("aside".into()).spawn_scoped(scope, || {
            give_way();
            take().map(|work| work())
        });
        thread.ok().and_then(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    match done.or_else(|| take().map(|work| work())) {
        Some(done) => done,
        None => unreachable!("one of the two has done it"),
    }
}

/// Does two things side by side; one after the other where the system gives no thread.
pub fn beside<A: Send, B>(other: impl Fn() -> A + Sync, own: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let thread = Builder::new().name("beside".into()).spawn_scoped(scope, &other);
        let done = own();
        let other = match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => other(),
        };
        (other, done)
    })
}

/// Makes the calling thread one that gives way to all others of this machine (nice 19).
pub fn give_way() {
    // Whatever has refused it, the thread works on at the priority of the others.
    let _ = rustix::process::setpriority_process(None, 19);
}

/// How many threads the system gives just now, of so many that are wanted. All of them are started, and have ended when this
/// returns.
pub fn to_be_had(wanted: usize) -> usize {
    let before = running();
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
    let waits = |gate: Arc<Mutex<()>>| move || drop(gate.lock());
    let started: Vec<_> = (0..wanted).map_while(|_| start("count", waits(gate.clone())).ok()).collect();
    let count = started.len();
    drop(closed);
    for thread in started {
        // It can't have failed: it does nothing.
        let _ = thread.join();
    }
    // The system counts a thread for a moment after it has been joined.
    let begun = Instant::now();
    while running() > before && begun.elapsed() < bounds::THREADS_END {
        sleep(bounds::LOCK_TRY);
    }
    count
}

/// The threads of this process; none where the system doesn't show them.
fn running() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_were_counted_have_ended() {
        assert_eq!(to_be_had(5), 5);
        assert_eq!(start("adds", || 2 + 3).unwrap().join().unwrap(), 5);
    }

    #[test]
    fn what_is_done_aside_and_beside_is_done_once_and_on_a_thread_of_its_own() {
        let here = std::thread::current().id();
        let owned = String::from("once");
        let (aside, text) = aside(move || (std::thread::current().id(), owned));
        let (other, own) = beside(|| std::thread::current().id(), || std::thread::current().id());
        assert!(aside != here && other != here && own == here && text == "once");
    }
}
