//! Where work is done that takes long: off the workers, on threads that give way to them, few at a time, and one of each
//! client.
//!
//! A compressed body of 1.6 KB may hold a million values. Read on a worker, ten of them would keep everybody waiting; read
//! side by side, they would take the memory of ten.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::available_parallelism;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::block_in_place;

use crate::bounds;
use crate::config::names::client;
use crate::threads;

/// The places at which such work is done. Reading a body may take half a second, and making the records of a turn some
/// milliseconds: the one does not wait for the other.
#[derive(Debug)]
pub struct Desk {
    /// For bodies.
    pub reading: Places,
    /// For records.
    pub writing: Places,
}

/// Places for one kind of work.
#[derive(Debug)]
pub struct Places {
    places: Semaphore,
    turns: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

impl Desk {
    /// With so many places for reading: as many as there are processors but one, and no more than there is memory for (see
    /// [`Parts`](crate::memory::Parts)). The records of a turn take little.
    pub fn new(places: u64) -> Self {
        let spare = available_parallelism().map_or(1, |processors| processors.get().saturating_sub(1).max(1));
        let reading =
            usize::try_from(places).map_or(Semaphore::MAX_PERMITS, |n| n.min(Semaphore::MAX_PERMITS));
        Self { reading: Places::new(reading), writing: Places::new(spare) }
    }
}

impl Places {
    fn new(places: usize) -> Self {
        Self { places: Semaphore::new(places), turns: Mutex::default() }
    }

    /// Does work for a client: at once where it is known to be quick, and otherwise in its turn and aside, if there are several
    /// workers.
    pub async fn work<T: Send>(&self, of: IpAddr, is_quick: bool, work: impl FnOnce() -> T + Send) -> T {
        if is_quick {
            return work();
        }
        // The one of its client first: whoever sends many waits behind itself, and not in front of others.
        let turn = self.turn(client(of));
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

    /// A client's turn, which lasts as long as somebody waits for it.
    fn turn(&self, client: IpAddr) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(&client).and_then(Weak::upgrade) {
            return turn;
        }
        if turns.len() >= bounds::TURNS {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::new(Semaphore::new(1));
        turns.insert(client, Arc::downgrade(&turn));
        turn
    }
}
