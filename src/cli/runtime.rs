//! The threads that a verb runs on: a worker for each processor, fewer where the system gives no more, and a sentence where
//! it gives too few. Tokio itself panics there.

use std::thread::available_parallelism;

use tokio::runtime::Builder;

use crate::bounds;
use relay_log::console::exit::{Exit, Failure};
use relay_log::threads;

/// While one is held up by a disk, as at a start, another one hears signals.
const WORKERS: usize = 2;
/// What is read and written off the workers needs a thread at least.
const BLOCKING: usize = 1;

/// Runs a verb, which starts so many threads of its own.
pub(super) fn on_workers<T>(
    own: usize,
    verb: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let (others, workers) =
        (own + BLOCKING, available_parallelism().map_or(WORKERS, usize::from).max(WORKERS));
    let had = threads::to_be_had(others + workers);
    match had.checked_sub(others) {
        Some(0) => on(Builder::new_current_thread(), BLOCKING, verb),
        Some(workers) => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(workers);
            on(builder, BLOCKING, verb)
        }
        None => {
            let words =
                format!("{others} threads are needed, and the system gives {had}; {}", threads::ADVICE);
            Err(Failure::new(Exit::Internal, words))
        }
    }
}

/// Runs a verb that needs no threads.
pub(super) fn alone<T>(verb: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    on(Builder::new_current_thread(), 0, verb)
}

fn on<T>(
    mut builder: Builder,
    blocking: usize,
    verb: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    // Threads for blocking work stay: later, the system may give no other, and what waits is then done by those.
    let runtime = builder.enable_all().thread_keep_alive(bounds::THREAD_KEPT).build();
    let runtime =
        runtime.map_err(|e| Failure::new(Exit::Internal, format!("the system gives no event queue: {e}")))?;
    for _ in 0..blocking {
        runtime.spawn_blocking(|| ());
    }
    let done = runtime.block_on(verb);
    // A read that hangs, as on a mount whose server is gone, must not keep the process.
    runtime.shutdown_timeout(bounds::LAST_READS);
    done
}
