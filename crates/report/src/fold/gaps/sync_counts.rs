//! How often each source has synced, by the hour for a log of a week, by the day for a longer one: what a heat strip is
//! drawn from.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// The span of hours that is kept by the hour; a longer one is kept by the day.
const HOURS: i64 = 8 * 24;
/// Counts that are kept, of all sources together.
const CELLS: usize = 4_000_000;

/// The counts.
#[derive(Debug, Default)]
pub struct SyncCounts {
    daily: bool,
    span: Option<(i64, i64)>,
    rows: Vec<BTreeMap<i64, u32>>,
    cells: usize,
    /// Syncs that found no room.
    pub beyond: u64,
}

impl SyncCounts {
    /// Counts a sync of the source with this number.
    pub(crate) fn count(&mut self, source: usize, time: Timestamp) {
        let mut at = time.as_second().div_euclid(self.seconds());
        let (first, last) = self.span.unwrap_or((at, at));
        self.span = Some((first.min(at), last.max(at)));
        if !self.daily && last.max(at) - first.min(at) >= HOURS {
            self.by_the_day();
            at = at.div_euclid(24);
        }
        if self.rows.len() <= source {
            self.rows.resize_with(source + 1, BTreeMap::new);
        }
        let row = &mut self.rows[source];
        if let Some(count) = row.get_mut(&at) {
            *count = count.saturating_add(1);
        } else if self.cells < CELLS {
            row.insert(at, 1);
            self.cells += 1;
        } else {
            self.beyond += 1;
        }
    }

    /// Seconds of one field.
    pub(crate) fn seconds(&self) -> i64 {
        if self.daily { 24 * 3600 } else { 3600 }
    }

    /// The fields of a source in the order of time, each by its number since 1970, with its syncs; those without any are
    /// left out.
    pub(crate) fn row(&self, source: usize) -> impl Iterator<Item = (i64, u32)> {
        self.rows.get(source).into_iter().flatten().map(|(at, count)| (*at, *count))
    }

    /// The first and the last field of all sources.
    pub(crate) fn span(&self) -> Option<(i64, i64)> {
        self.span
    }

    fn by_the_day(&mut self) {
        self.daily = true;
        self.cells = 0;
        self.span = self.span.map(|(first, last)| (first.div_euclid(24), last.div_euclid(24)));
        for row in &mut self.rows {
            let mut days = BTreeMap::<i64, u32>::new();
            for (hour, count) in std::mem::take(row) {
                let day = days.entry(hour.div_euclid(24)).or_default();
                *day = day.saturating_add(count);
            }
            self.cells += days.len();
            *row = days;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_is_kept_by_the_hour_and_more_by_the_day() {
        let mut strip = SyncCounts::default();
        let at = |hour: i64| Timestamp::from_second(hour * 3600 + 5).unwrap();
        for hour in [24, 24, 25, 24 + HOURS - 1] {
            strip.count(1, at(hour));
        }
        assert_eq!(strip.row(1).collect::<Vec<_>>(), [(24, 2), (25, 1), (24 + HOURS - 1, 1)]);
        assert_eq!((strip.seconds(), strip.row(0).count()), (3600, 0));
        strip.count(0, at(24 + HOURS));
        assert_eq!(strip.row(1).collect::<Vec<_>>(), [(1, 3), (8, 1)]);
        assert_eq!(strip.row(0).collect::<Vec<_>>(), [(9, 1)]);
        assert_eq!((strip.seconds(), strip.span()), (24 * 3600, Some((1, 9))));
    }
}
