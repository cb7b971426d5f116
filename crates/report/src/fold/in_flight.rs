//! Exchanges that have asked and have no outcome yet, with what is kept of each: bounded, because a log may hold requests
//! whose outcome never comes.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use relay_log::ledger::entry::Entry;

/// Exchanges that are open at one time.
const OPEN: usize = 10_000;
/// What is kept of them all together.
const KEPT: usize = 500_000;
/// None takes so long; in a full table, older ones are given up first.
const LONG: SignedDuration = SignedDuration::from_hours(1);

/// Open exchanges of all logs.
#[derive(Debug)]
pub struct Open<T> {
    exchanges: HashMap<Box<str>, Exchange<T>>,
    kept: usize,
    /// For each log the exchange whose outcome is being told.
    ending: Vec<Option<Box<str>>>,
}

#[derive(Debug)]
struct Exchange<T> {
    log: usize,
    begun: Timestamp,
    count: usize,
    kept: T,
}

impl<T> Default for Open<T> {
    fn default() -> Self {
        Self { exchanges: HashMap::new(), kept: 0, ending: Vec::new() }
    }
}

impl<T: Default> Open<T> {
    /// What is kept of this record's exchange, which is opened where it is not yet; one thing more is to be kept of it. Where
    /// that is too much, others are given up for it, and handed out.
    pub fn of(&mut self, log: usize, entry: &Entry<'_>) -> (&mut T, Vec<T>) {
        let id = &*entry.exchange;
        let mut given_up = Vec::new();
        for old_ones in [true, false] {
            let opens = !self.exchanges.contains_key(id);
            if self.kept < KEPT && (!opens || self.exchanges.len() < OPEN) {
                break;
            }
            let goes = |open: &Exchange<T>| !old_ones || entry.time.duration_since(open.begun) > LONG;
            given_up.extend(self.take_if(|of, open| of != id && goes(open)));
        }
        let open = || Exchange { log, begun: entry.time, count: 0, kept: T::default() };
        let open = self.exchanges.entry(id.into()).or_insert_with(open);
        open.count += 1;
        self.kept += 1;
        (&mut open.kept, given_up)
    }

    /// What is kept of an exchange that is open.
    pub fn get(&mut self, exchange: &str) -> Option<&mut T> {
        Some(&mut self.exchanges.get_mut(exchange)?.kept)
    }

    /// This exchange has ended.
    pub fn end(&mut self, exchange: &str) -> Option<T> {
        let open = self.exchanges.remove(exchange)?;
        self.kept -= open.count;
        Some(open.kept)
    }

    /// This record is the first that tells the outcome of its exchange, which ends with the last of these: they stand together
    /// in the log.
    pub(crate) fn ends_after(&mut self, log: usize, entry: &Entry<'_>) {
        if !self.exchanges.contains_key(&*entry.exchange) {
            return;
        }
        if self.ending.len() <= log {
            self.ending.resize(log + 1, None);
        }
        self.ending[log] = Some((*entry.exchange).into());
    }

    /// To be told each record, before it is looked at, where `ends_after` is used.
    pub fn pass(&mut self, log: usize, entry: &Entry<'_>) {
        if let Some(ending) = self.ending.get_mut(log)
            && ending.as_deref().is_some_and(|ending| *ending != *entry.exchange)
            && let Some(ended) = ending.take()
        {
            self.end(&ended);
        }
    }

    /// The relay of a log has started: what it had open before has no outcome any more.
    pub fn restart(&mut self, log: usize) -> Vec<T> {
        self.take_if(|_, open| open.log == log)
    }

    /// All that are open when the logs end.
    pub fn rest(&mut self) -> Vec<T> {
        self.take_if(|_, _| true)
    }

    fn take_if(&mut self, which: impl Fn(&str, &Exchange<T>) -> bool) -> Vec<T> {
        let taken: Vec<_> = self.exchanges.extract_if(|id, open| which(id, open)).collect();
        self.kept -= taken.iter().map(|(_, open)| open.count).sum::<usize>();
        taken.into_iter().map(|(_, open)| open.kept).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::fold::test_records::{fed, record};

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
            assert_eq!((open.end(&entry.exchange), open.get(&entry.exchange)), (Some(2), None));
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
        assert_eq!(open.kept, 0);
    }

    #[test]
    fn an_exchange_that_is_answered_ends_with_the_last_record_of_its_answer() {
        let mut open = Open::<()>::default();
        let mut record = record("license.sync.response", "a");
        fed(0, &record, |entry| drop(open.of(0, entry)));
        fed(0, &record, |entry| open.ends_after(0, entry));
        fed(0, &record, |entry| open.pass(0, entry));
        record.exchange = Uuid::max();
        fed(0, &record, |entry| open.pass(1, entry));
        assert!(open.get(&Uuid::nil().to_string()).is_some(), "another log's records stand anywhere between");
        fed(0, &record, |entry| open.pass(0, entry));
        assert!(open.get(&Uuid::nil().to_string()).is_none());
    }
}
