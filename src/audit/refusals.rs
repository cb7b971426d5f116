//! Refusals in the log, folded by client address: a stranger who varies ids must not be able to fill the disk, and
//! with it stop everybody else.
//!
//! In each minute 20 of an address, and 200 in all, stand as records of their own; the rest become one record for
//! each address with an exact count. None waits for the disk.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use uuid::Uuid;

use super::journal::Journal;
use crate::bounds;
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
    by_address: HashMap<IpAddr, Tally>,
    others: Folded,
}

#[derive(Debug, Default)]
struct Tally {
    single: u64,
    folded: Folded,
}

/// A count for each kind of refusal: few kinds, so a list.
type Folded = Vec<(Action, Repeat)>;

impl Refusals {
    /// Refusals that go to this log.
    pub fn new(journal: Journal) -> Self {
        Self { journal, window: Mutex::default() }
    }

    /// Records a refusal, or counts it.
    pub fn note(&self, mut record: Record, address: IpAddr) {
        record.client = Some(address);
        record.outcome = Outcome::Failure;
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            window.by_address.len() < bounds::REFUSAL_ADDRESSES || window.by_address.contains_key(&address);
        if !known {
            count(&mut window.others, record.action);
            return;
        }
        let room = window.single < bounds::REFUSALS;
        let tally = window.by_address.entry(address).or_default();
        let action = record.action;
        if room && tally.single < bounds::REFUSALS_PER_ADDRESS && self.journal.note(vec![record]) {
            tally.single += 1;
            window.single += 1;
        } else {
            count(&mut tally.folded, action);
        }
    }

    /// Writes the counts of the window and starts the next one. What can't be written now is counted on.
    pub fn flush(&self) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let others = window.others.iter().map(|folded| (None, folded));
        let records: Vec<Record> = window
            .by_address
            .iter()
            .flat_map(|(address, tally)| tally.folded.iter().map(|folded| (Some(*address), folded)))
            .chain(others)
            .map(summary)
            .collect();
        if records.is_empty() || self.journal.note(records) {
            *window = Window::default();
        }
    }
}

fn count(folded: &mut Folded, action: Action) {
    let now = Timestamp::now();
    match folded.iter_mut().find(|(known, _)| *known == action) {
        Some((_, repeat)) => {
            repeat.count += 1;
            repeat.last = now;
        }
        None => folded.push((action, Repeat { count: 1, first: now, last: now })),
    }
}

fn summary((address, (action, repeat)): (Option<IpAddr>, &(Action, Repeat))) -> Record {
    let mut record = Record::new(*action, Uuid::now_v7());
    record.outcome = Outcome::Failure;
    record.reason = match address {
        Some(_) => "more refusals of this address, counted together",
        None => "more refusals of other addresses, counted together",
    }
    .into();
    record.client = address;
    record.qlik.repeat = Some(repeat.clone());
    record
}
