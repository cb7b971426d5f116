//! How far each log's clock was from the back end's at most: what a time in the log is worth.

use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};

use relay_log::ledger::entry::Entry;

/// The back end tells its time in whole seconds, without the fraction.
const RESOLUTION: SignedDuration = SignedDuration::from_secs(1);

/// The largest difference of one log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Difference {
    /// The place of the log in the list.
    pub log: usize,
    /// The record.
    pub sequence: u64,
    /// When, by the log's clock.
    pub time: Timestamp,
    /// The log's clock less the back end's: above zero, the log's was ahead, or the record was written late.
    pub by: SignedDuration,
}

/// Compares the clocks of all logs.
#[derive(Debug, Default)]
pub struct Clock {
    largest: Vec<Option<Difference>>,
    /// The last date as it was told, because all records of an exchange tell the same.
    last: Option<(Box<str>, Option<Timestamp>)>,
    /// Records whose date is none.
    pub unreadable: u64,
}

impl Clock {
    /// The next record.
    pub fn take(&mut self, log: usize, entry: &Entry<'_>) {
        let Some(told) = entry.qlik.server_date.as_deref() else { return };
        if self.last.as_ref().is_none_or(|(last, _)| **last != *told) {
            self.last = Some((told.into(), DateTimeParser::new().parse_timestamp(told).ok()));
        }
        let Some(date) = self.last.as_ref().and_then(|(_, date)| *date) else {
            self.unreadable += 1;
            return;
        };
        let by = entry.time.duration_since(date);
        let by = if by.is_negative() { by } else { by.saturating_sub(RESOLUTION).max(SignedDuration::ZERO) };
        if self.largest.len() <= log {
            self.largest.resize(log + 1, None);
        }
        let largest = &mut self.largest[log];
        if largest.is_none_or(|known| by.abs() > known.by.abs()) {
            *largest = Some(Difference { log, sequence: entry.sequence, time: entry.time, by });
        }
    }

    /// The largest of each log that has any.
    pub fn rows(&self) -> impl Iterator<Item = &Difference> {
        self.largest.iter().flatten()
    }

    /// The largest of all.
    pub fn largest(&self) -> Option<&Difference> {
        self.rows().max_by_key(|difference| difference.by.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::test_records::{fed, record};

    #[test]
    fn the_largest_difference_either_way_is_told_less_what_the_date_can_not_show() {
        let mut clock = Clock::default();
        let mut take = |log, second, date: &str| {
            let mut record = record("license.sync.response", "a");
            record.qlik.server_date = Some(date.into());
            fed(second, &record, |entry| clock.take(log, entry));
            clock.rows().map(|found| (found.log, found.by.as_secs())).collect::<Vec<_>>()
        };
        assert_eq!(take(0, 101, "Thu, 01 Jan 1970 00:01:40 GMT"), [(0, 0)]);
        assert_eq!(take(0, 104, "Thu, 01 Jan 1970 00:01:40 GMT"), [(0, 3)]);
        assert_eq!(take(0, 100, "Thu, 01 Jan 1970 00:01:50 GMT"), [(0, -10)]);
        assert_eq!(take(0, 100, "yesterday"), [(0, -10)]);
        assert_eq!(take(1, 162, "Thu, 01 Jan 1970 00:01:40 GMT"), [(0, -10), (1, 61)]);
        let largest = clock.largest().unwrap();
        assert_eq!((largest.log, largest.time.as_second(), clock.unreadable), (1, 162, 1));
    }
}
