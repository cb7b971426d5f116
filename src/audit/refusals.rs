//! Refusals in the log, folded by client: a stranger who varies ids, or the addresses of a /64, must not be able to fill
//! the disk, and with it stop everybody else. Connectivity tests of strangers are counted in the same way.
//!
//! In each minute 20 of a client (an IPv4 address, or the /64 of an IPv6 address), and 200 in all, stand as records of
//! their own; the rest become one record for each client with an exact count. None waits for the disk.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use uuid::Uuid;

use super::journal::Journal;
use crate::bounds;
use crate::config::names::client;
use crate::ledger::record::{Action, Outcome, Record, Repeat};

/// The refusals of the current window.
#[derive(Debug)]
pub struct Refusals {
    journal: Journal,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    single: u64,
    by_client: HashMap<IpAddr, Tally>,
    others: Folded,
}

#[derive(Debug, Default)]
struct Tally {
    single: u64,
    folded: Folded,
}

/// A count for each kind of refusal: few kinds, so a list.
type Folded = Vec<Fold>;

#[derive(Debug)]
struct Fold {
    action: Action,
    repeat: Repeat,
    /// The first of its addresses, and whether there were others.
    address: IpAddr,
    several: bool,
}

impl Refusals {
    /// Refusals that go to this log.
    pub fn new(journal: Journal) -> Self {
        Self { journal, window: Mutex::default() }
    }

    /// Records a refusal, or counts it.
    pub fn note(&self, mut record: Record, address: IpAddr) {
        record.client = Some(address);
        record.outcome = outcome(record.action);
        let client = client(address);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            window.by_client.len() < bounds::REFUSAL_ADDRESSES || window.by_client.contains_key(&client);
        if !known {
            count(&mut window.others, record.action, address);
            return;
        }
        let room = window.single < bounds::REFUSALS;
        let tally = window.by_client.entry(client).or_default();
        let action = record.action;
        if room && tally.single < bounds::REFUSALS_PER_ADDRESS && self.journal.note(vec![record]) {
            tally.single += 1;
            window.single += 1;
        } else {
            count(&mut tally.folded, action, address);
        }
    }

    /// Writes the counts of the window and starts the next one. What can't be written now is counted on.
    pub fn flush(&self) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let others = window.others.iter().map(|folded| summary(folded, false));
        let records: Vec<Record> = window
            .by_client
            .values()
            .flat_map(|tally| tally.folded.iter().map(|folded| summary(folded, true)))
            .chain(others)
            .collect();
        if records.is_empty() || self.journal.note(records) {
            *window = Window::default();
        }
    }
}

fn count(folded: &mut Folded, action: Action, address: IpAddr) {
    let now = Timestamp::now();
    match folded.iter_mut().find(|known| known.action == action) {
        Some(Fold { repeat, address: first, several, .. }) => {
            repeat.count += 1;
            repeat.last = now;
            *several |= *first != address;
        }
        None => {
            let repeat = Repeat { count: 1, first: now, last: now };
            folded.push(Fold { action, repeat, address, several: false });
        }
    }
}

/// One record for all that was counted: of one client, with its address, or its network where it had several.
fn summary(Fold { action, repeat, address, several }: &Fold, of_one_client: bool) -> Record {
    let mut record = Record::new(*action, Uuid::now_v7());
    record.outcome = outcome(*action);
    let what = if *action == Action::AccessTest { "connectivity tests" } else { "refusals" };
    let whose = match (of_one_client, several) {
        (true, false) => "this address",
        (true, true) => "this network, a /64",
        (false, _) => "other addresses",
    };
    record.reason = format!("more {what} of {whose}, counted together");
    record.client = of_one_client.then(|| if *several { client(*address) } else { *address });
    record.qlik.repeat = Some(repeat.clone());
    record
}

/// What is refused has failed; how a test ends isn't known yet.
fn outcome(action: Action) -> Outcome {
    if action == Action::AccessTest { Outcome::Unknown } else { Outcome::Failure }
}
