//! How many held an allotment on each day, at its end and at most. Only days on which something changed are kept.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;

use relay_log::console::period::day_of;

/// Use of one allotment over time.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Held before the first change.
    opening: u64,
    /// Held now.
    now: u64,
    days: BTreeMap<Date, Changed>,
}

/// A day on which something changed.
#[derive(Clone, Copy, Debug)]
struct Changed {
    peak: u64,
    at_end: u64,
}

/// Use on one day.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Used {
    /// The day.
    pub day: Date,
    /// Held at its end.
    pub at_end: u64,
    /// The most at one moment of it.
    pub peak: u64,
}

impl Usage {
    /// Held before the log began.
    pub fn opening(held: u64) -> Self {
        Self { opening: held, now: held, days: BTreeMap::new() }
    }

    /// So many hold it from here on.
    pub fn note(&mut self, time: Timestamp, held: u64) {
        let day = day_of(time);
        let before = self.now;
        let mut peak = before.max(held);
        // A clock that was set back: what it called later days was this one.
        while let Some(later) = self.days.last_entry().filter(|last| *last.key() > day) {
            peak = peak.max(later.remove().peak);
        }
        let changed = self.days.entry(day).or_insert(Changed { peak, at_end: before });
        changed.peak = changed.peak.max(peak);
        changed.at_end = held;
        self.now = held;
    }

    /// Each day from one to another; before the first change, as many as were there before it.
    pub fn between(&self, from: Date, to: Date) -> impl Iterator<Item = Used> {
        let before = self.days.range(..from).next_back().map(|(_, changed)| changed.at_end);
        let mut held = before.unwrap_or(self.opening);
        from.series(jiff::Span::new().days(1)).take_while(move |day| *day <= to).map(move |day| {
            let changed = self.days.get(&day);
            let peak = changed.map_or(held, |changed| changed.peak);
            held = changed.map_or(held, |changed| changed.at_end);
            Used { day, at_end: held, peak }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_peak_and_its_end_and_days_without_a_change_stay_as_they_were() {
        let mut usage = Usage::opening(2);
        let note = |usage: &mut Usage, time: &str, held| usage.note(time.parse().unwrap(), held);
        for (time, held) in [
            ("2026-01-31T23:59:59.999Z", 3),
            ("2026-02-01T00:00:00Z", 2),
            ("2026-02-03T08:00:00Z", 5),
            ("2026-02-03T09:00:00Z", 1),
            // The clock went back.
            ("2026-02-02T09:00:00Z", 4),
        ] {
            note(&mut usage, time, held);
        }
        let day = |text: &str| text.parse::<Date>().unwrap();
        let all: Vec<_> = usage
            .between(day("2026-01-30"), day("2026-02-04"))
            .map(|used| (used.peak, used.at_end))
            .collect();
        assert_eq!(all, [(2, 2), (3, 3), (3, 2), (5, 4), (4, 4), (4, 4)]);
        let later: Vec<_> = usage.between(day("2026-02-03"), day("2026-02-03")).collect();
        assert_eq!(later, [Used { day: day("2026-02-03"), at_end: 4, peak: 4 }]);
    }
}
