//! Where work is done that takes long: off the workers, on threads that give way to them, few at a time, and one of each
//! client.
//!
//! A compressed body of 1.6 KB may hold a million values. Read on a worker, ten of them would keep everybody waiting; read
//! side by side, they would take the memory of ten.

use std::net::IpAddr;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::block_in_place;

use crate::threads;
use crate::turns::Turns;

/// The places at which such work is done. Reading a body may take half a second, and making the records of a turn some
/// milliseconds: the one does not wait for the other.
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
    /// With so many places for reading: as many as there are processors but one, and no more than there is memory for (see
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
        // The one of its client first: whoever sends many waits behind itself, and not in front of others.
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
