//! One at a time of each client: whoever wants much waits behind itself, and not in front of others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;

use crate::bounds;
use crate::config::names::client;

/// The turns of clients. A client is an IPv4 address, or the /64 of an IPv6 address.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<IpAddr, Weak<Semaphore>>>);

impl Turns {
    /// Where the client of an address waits for its turn. It lasts as long as somebody waits there.
    pub(crate) fn of(&self, address: IpAddr) -> Arc<Semaphore> {
        let client = client(address);
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
