//! Does long work off the async workers, on threads of lower priority: a few pieces at a time, and one for each client.
//!
//! A compressed body of 1.6 KB may hold a million values. Read on a worker, ten of them would keep everybody waiting; read
//! side by side, they would take the memory of ten.

use std::net::IpAddr;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::block_in_place;

use crate::turns::Turns;
use relay_log::threads;

/// The places for such work. Reading a body may take half a second, and making the records of a turn some milliseconds, so
/// each kind has places of its own.
#[derive(Debug)]
pub struct HeavyWork {
    /// For bodies.
    pub reading: WorkPlaces,
    /// For records.
    pub writing: WorkPlaces,
}

/// Places for one kind of work.
#[derive(Debug)]
pub struct WorkPlaces {
    places: Semaphore,
    turns: Turns,
}

impl HeavyWork {
    /// Has this many places for reading: one fewer than there are processors, and no more than there is memory for (see
    /// [`Parts`](crate::memory::Parts)). The records of a turn take little.
    pub fn new(places: u64) -> Self {
        let reading =
            usize::try_from(places).map_or(Semaphore::MAX_PERMITS, |n| n.min(Semaphore::MAX_PERMITS));
        Self { reading: WorkPlaces::new(reading), writing: WorkPlaces::new(threads::spare_processors()) }
    }
}

impl WorkPlaces {
    fn new(places: usize) -> Self {
        Self { places: Semaphore::new(places), turns: Turns::default() }
    }

    /// Does work for a client: at once where it is known to be quick, and otherwise in its turn and aside, if there are several
    /// workers.
    pub async fn work<T: Send>(&self, of: IpAddr, is_quick: bool, work: impl FnOnce() -> T + Send) -> T {
        if is_quick {
            return work();
        }
        // The client's turn first: a client that sends much waits behind itself, and not in front of others.
        let turn = self.turns.of(of);
        let _turn = turn.acquire().await;
        let _place = self.places.acquire().await;
        #[expect(
            clippy::disallowed_methods,
            reason = "the worker hands its other tasks on first, and the work borrows from its own"
        )]
        match Handle::current().runtime_flavor() {
            RuntimeFlavor::MultiThread => block_in_place(|| threads::aside(work)),
            _ => work(),
        }
    }
}
