//! Refusals in the log, folded by client: in each minute some of a client, and some of all, stand as records of their own;
//! the rest become one record for each client with an exact count, and once their budget is used up one for all clients.
//! Connectivity tests of strangers are counted in the same way. None waits for the disk.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use uuid::Uuid;

use super::journal::Journal;
use crate::observe::fold::{Fold, Folded, FoldedClient};
use relay_log::ledger::action::{Action, Outcome};
use relay_log::ledger::record::{MAX_LINE, Observer, Record};

/// The refusals of the current window.
#[derive(Debug)]
pub struct Refusals {
    journal: Journal,
    observer: Observer,
    window: Mutex<Fold<Action>>,
}

impl Refusals {
    /// Refusals that go to this log, in which this one writes, with a budget of so many bytes a day.
    pub fn new(journal: Journal, observer: Observer, per_day: u64) -> Self {
        Self { journal, observer, window: Mutex::new(Fold::new(per_day)) }
    }

    /// Changes the budget.
    pub fn set_budget(&self, per_day: u64) {
        self.window.lock().unwrap_or_else(PoisonError::into_inner).set_budget(per_day);
    }

    /// Records a refusal, or counts it.
    pub fn note(&self, mut record: Record, address: IpAddr) {
        record.client = Some(address);
        record.outcome = outcome(record.action);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.note(record.action, address, |budget| {
            let bytes = self.bytes(&record);
            let stands = budget.take(bytes).is_ok();
            let written = stands && self.journal.note(vec![record]);
            if stands && !written {
                budget.settle(bytes, 0);
            }
            written
        });
    }

    /// Writes the counts of the window and starts the next one. What can't be written now is counted on.
    pub fn flush(&self) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let make = |folded: Folded<'_, Action>| {
            let record = summary(folded);
            let bytes = self.bytes(&record);
            (record, bytes)
        };
        window.flush(make, |records| self.journal.note(records));
    }

    /// How long its line is: whoever is refused chooses much of what it says.
    fn bytes(&self, record: &Record) -> u64 {
        let line = record.line(u64::MAX, Timestamp::now(), &self.observer);
        line.map_or(MAX_LINE, |line| line.len()) as u64
    }
}

/// One record for all that was counted: of one client, with its address, or its network where it had several.
fn summary(Folded { kind, repeat, whose }: Folded<'_, Action>) -> Record {
    let mut record = Record::new(kind, Uuid::now_v7());
    record.outcome = outcome(kind);
    let what = if kind == Action::AccessTest { "connectivity tests" } else { "refusals" };
    record.reason = format!("more {what} of {}, counted together", whose.words());
    record.client = match whose {
        FoldedClient::Address(address) | FoldedClient::Network(address) => Some(address),
        FoldedClient::Others => None,
    };
    record.qlik.repeat = Some(repeat.clone());
    record
}

/// What is refused has failed; how a test ends isn't known yet.
fn outcome(action: Action) -> Outcome {
    if action == Action::AccessTest { Outcome::Unknown } else { Outcome::Failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds;
    use relay_log::ledger::qlik::Repeat;

    fn observer(name: &str) -> Observer {
        Observer { name: name.into(), version: "0.1.0" }
    }

    #[test]
    fn the_lines_that_no_budget_counts_are_no_longer_than_the_sums_of_check_say() {
        let now = Timestamp::now();
        let repeat = Repeat { count: u64::MAX, first: now, last: now };
        let others = Folded { kind: Action::AccessInvalid, repeat: &repeat, whose: FoldedClient::Others };
        let name = format!("license-relay/{}", "a".repeat(64));
        let line = summary(others).line(u64::MAX, now, &observer(&name)).unwrap();
        assert!(line.len() as u64 * 4 * 24 * 60 <= bounds::REFUSAL_COUNTS_A_DAY, "{}", line.len());
        let life = Record::new(Action::RelayHeartbeat, Uuid::now_v7());
        let line = life.line(u64::MAX, now, &observer(&name)).unwrap();
        let marks = bounds::UNREAD as u64 * 1000;
        assert!(line.len() as u64 * 24 * 60 + marks <= bounds::OWN_RECORDS_A_DAY, "{}", line.len());
        // A hash has 32 bytes, and each level of tiles a 256th of the one below.
        let line = Record::new(Action::RelayStop, Uuid::now_v7()).line(0, now, &observer("a")).unwrap();
        assert!(line.len() as u64 * 255 >= bounds::HASHES_SHARE * 32 * 256, "{}", line.len());
    }
}
