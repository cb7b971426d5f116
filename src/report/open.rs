//! Exchanges that have asked and have no outcome yet, with what is kept of each: bounded, because a log may hold requests
//! whose outcome never comes.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use crate::ledger::entry::Entry;

/// Exchanges that are open at one time.
const OPEN: usize = 10_000;
/// None takes so long; in a full table, older ones are given up first.
const LONG: SignedDuration = SignedDuration::from_hours(1);

/// Open exchanges of all logs.
#[derive(Debug)]
pub struct Open<T> {
    exchanges: HashMap<Box<str>, Exchange<T>>,
}

#[derive(Debug)]
struct Exchange<T> {
    log: usize,
    begun: Timestamp,
    kept: T,
}

impl<T> Default for Open<T> {
    fn default() -> Self {
        Self { exchanges: HashMap::new() }
    }
}

impl<T: Default> Open<T> {
    /// What is kept of this record's exchange, which is opened where it is not yet. In a full table others are given up for
    /// it, and handed out.
    pub fn of(&mut self, log: usize, entry: &Entry<'_>) -> (&mut T, Vec<T>) {
        let known = self.exchanges.contains_key(&*entry.exchange);
        let mut given_up = Vec::new();
        if !known && self.exchanges.len() >= OPEN {
            given_up = self.take_if(|open| entry.time.duration_since(open.begun) > LONG);
            if self.exchanges.len() >= OPEN {
                given_up.extend(self.take_if(|_| true));
            }
        }
        let open = || Exchange { log, begun: entry.time, kept: T::default() };
        let open = self.exchanges.entry((*entry.exchange).into()).or_insert_with(open);
        (&mut open.kept, given_up)
    }

    /// What is kept of an exchange that is open.
    pub fn get(&mut self, entry: &Entry<'_>) -> Option<&mut T> {
        Some(&mut self.exchanges.get_mut(&*entry.exchange)?.kept)
    }

    /// The exchange of this record has ended.
    pub fn end(&mut self, entry: &Entry<'_>) -> Option<T> {
        Some(self.exchanges.remove(&*entry.exchange)?.kept)
    }

    /// The relay of a log has started: what it had open before has no outcome any more.
    pub fn restart(&mut self, log: usize) -> Vec<T> {
        self.take_if(|open| open.log == log)
    }

    /// All that are open when the logs end.
    pub fn rest(&mut self) -> Vec<T> {
        self.take_if(|_| true)
    }

    fn take_if(&mut self, which: impl Fn(&Exchange<T>) -> bool) -> Vec<T> {
        self.exchanges.extract_if(|_, open| which(open)).map(|(_, open)| open.kept).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::made::{fed, record};
    use super::*;

    #[test]
    fn an_exchange_is_open_until_its_end_or_the_next_start_of_its_relay() {
        let mut open = Open::<u32>::default();
        let mut sync = |exchange, log, take: &mut dyn FnMut(&mut Open<u32>, usize, &Entry<'_>)| {
            let mut record = record("license.sync.request", "a");
            record.exchange = Uuid::from_u128(exchange);
            fed(0, &record, |entry| take(&mut open, log, entry));
        };
        let mut begin = |open: &mut Open<u32>, log, entry: &Entry<'_>| *open.of(log, entry).0 += 1;
        sync(1, 0, &mut begin);
        sync(1, 0, &mut begin);
        sync(2, 1, &mut begin);
        sync(1, 0, &mut |open, _, entry| {
            assert_eq!((open.end(entry), open.get(entry)), (Some(2), None));
        });
        sync(3, 0, &mut begin);
        assert_eq!((open.restart(1), open.rest()), (vec![1], vec![1]));
    }

    #[test]
    fn exchanges_that_never_end_are_given_up_the_old_ones_first() {
        let mut open = Open::<()>::default();
        let mut given_up = Vec::new();
        for n in 0..OPEN + 2 {
            let mut record = record("license.sync.request", "a");
            record.exchange = Uuid::from_u128(n as u128);
            let second = if n < OPEN / 2 { 0 } else { 7200 };
            given_up.push(fed(second, &record, |entry| open.of(0, entry).1.len()));
        }
        assert_eq!(&given_up[OPEN - 1..], [0, OPEN / 2, 0]);
        assert_eq!(open.rest().len(), OPEN / 2 + 2);
    }
}
