//! Refusals in the log, folded by client: in each minute some of a client, and some of all, stand as records of their own;
//! the rest become one record for each client with an exact count. Connectivity tests of strangers are counted in the same
//! way. None waits for the disk.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use super::journal::Journal;
use crate::ledger::record::{Action, Outcome, Record};
use crate::observe::fold::{Fold, Folded, Whose};

/// The refusals of the current window.
#[derive(Debug)]
pub struct Refusals {
    journal: Journal,
    window: Mutex<Fold<Action>>,
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
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.note(record.action, address, || self.journal.note(vec![record]));
    }

    /// Writes the counts of the window and starts the next one. What can't be written now is counted on.
    pub fn flush(&self) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let records: Vec<Record> = window.folded().map(summary).collect();
        if records.is_empty() || self.journal.note(records) {
            *window = Fold::default();
        }
    }
}

/// One record for all that was counted: of one client, with its address, or its network where it had several.
fn summary(Folded { kind, repeat, whose }: Folded<'_, Action>) -> Record {
    let mut record = Record::new(kind, Uuid::now_v7());
    record.outcome = outcome(kind);
    let what = if kind == Action::AccessTest { "connectivity tests" } else { "refusals" };
    record.reason = format!("more {what} of {}, counted together", whose.words());
    record.client = match whose {
        Whose::Address(address) | Whose::Network(address) => Some(address),
        Whose::Others => None,
    };
    record.qlik.repeat = Some(repeat.clone());
    record
}

/// What is refused has failed; how a test ends isn't known yet.
fn outcome(action: Action) -> Outcome {
    if action == Action::AccessTest { Outcome::Unknown } else { Outcome::Failure }
}
