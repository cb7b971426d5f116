//! Use of one license and access type by day, against what was bought.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;

use super::assignments::{Assignments, ConfirmedChange};
use super::coverage::Coverage;
use super::daily_peak::{Usage, Used};
use super::entitlements::{Allowed, Entitlements};
use crate::input::opening::OpeningHolder;
use relay_log::console::period::{Period, day_of};
use relay_log::ledger::entry::Entry;

/// Days that are told of one allotment: a hundred years.
const DAYS: i64 = 36_600;

/// Use of all allotments over time, and what they allow.
#[derive(Debug, Default)]
pub struct Account {
    /// Who holds what.
    pub all: Assignments,
    /// What is allowed.
    pub entitlements: Entitlements,
    usage: BTreeMap<(u32, u32), Usage>,
}

/// One allotment on one day.
#[derive(Clone, Debug)]
pub struct Day {
    /// How many held it.
    pub used: Used,
    /// What was allowed.
    pub allowed: Allowed,
}

impl Day {
    /// How many more than allowed; absent where there is no cap, or none is known.
    pub fn over(&self) -> Option<u64> {
        let cap = u64::try_from(self.allowed.cap()?).unwrap_or(0);
        Some(self.used.peak.saturating_sub(cap))
    }
}

impl Account {
    /// On top of an opening balance.
    pub(crate) fn opened_with(opening: &[OpeningHolder]) -> Self {
        let mut account = Self::default();
        for held in opening {
            account.all.open_with(&held.license, &held.allotment, &held.subject);
        }
        account.usage = account.all.held.iter().map(|(of, held)| (*of, Usage::opening(*held))).collect();
        account
    }

    /// The next record.
    pub fn take(&mut self, log: usize, entry: &Entry<'_>, coverage: &Coverage) -> Option<ConfirmedChange> {
        self.entitlements.take(log, entry);
        let told = self.all.take(log, entry, coverage);
        for of in self.all.take_recounted() {
            let held = self.all.held.get(&of).copied().unwrap_or_default();
            self.usage.entry(of).or_default().note(entry.time, held);
        }
        let told = told?;
        if let Some(key) = told.key.filter(|_| told.held != told.holds) {
            let of = (key.license, key.allotment);
            let held = self.all.held.get(&of).copied().unwrap_or_default();
            self.usage.entry(of).or_default().note(entry.time, held);
        }
        Some(told)
    }

    /// The allotments that people hold, or that a definition assigns to people.
    pub fn allotments(&self) -> BTreeSet<(String, String)> {
        let word = |number: u32| self.all.words.word(number).to_owned();
        let mut all: BTreeSet<_> =
            self.usage.keys().map(|(license, of)| (word(*license), word(*of))).collect();
        for license in self.entitlements.licenses() {
            let named = self.entitlements.allotments(license).into_iter();
            let assigned = named.filter(|(_, class)| *class != Some("time"));
            all.extend(assigned.map(|(allotment, _)| (license.to_owned(), allotment.to_owned())));
        }
        all
    }

    /// Each day of one allotment, from one to another.
    pub fn days(&self, license: &str, allotment: &str, from: Date, to: Date) -> Vec<Day> {
        let words = &self.all.words;
        let of = words.known(license).zip(words.known(allotment));
        let none = Usage::default();
        let usage = of.and_then(|of| self.usage.get(&of)).unwrap_or(&none);
        let day = |used: Used| Day { used, allowed: self.entitlements.on(license, allotment, used.day) };
        usage.between(from, to).map(day).collect()
    }
}

/// The days that a period has in what the log spans, the last hundred years of them; `None` where there are none.
pub(crate) fn days_in(period: Period, span: Option<(Timestamp, Timestamp)>) -> Option<(Date, Date)> {
    let (first, last) = span?;
    let from = period.from.map_or(first, |from| from.max(first));
    let to = period.to.map_or(last, |to| to.min(last));
    if from > to {
        return None;
    }
    let to = day_of(to);
    let earliest = to.checked_sub(jiff::Span::new().days(DAYS)).unwrap_or(Date::MIN);
    Some((day_of(from).max(earliest), to))
}
