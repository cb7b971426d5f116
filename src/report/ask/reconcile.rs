//! Use against what was bought, by day: how many held an allotment at its end and at most, and what the license allowed
//! as last seen in a definition.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::json;

use crate::ledger::entry::Entry;
use crate::report::ask::answer::{Desk, Question, Read, Said};
use crate::report::fold::assignments::{Assignments, Told};
use crate::report::fold::daily_peak::{Usage, Used};
use crate::report::fold::entitlements::{Allowed, Entitlements};
use crate::report::input::names::Held;
use crate::report::input::period::{Period, day_of};
use crate::report::table::rows::counted;

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
    pub fn opened_with(opening: &[Held]) -> Self {
        let mut account = Self::default();
        for held in opening {
            account.all.open_with(&held.license, &held.allotment, &held.subject);
        }
        account.usage = account.all.held.iter().map(|(of, held)| (*of, Usage::opening(*held))).collect();
        account
    }

    /// The next record.
    pub fn take(
        &mut self,
        log: usize,
        entry: &Entry<'_>,
        coverage: &crate::report::fold::coverage::Coverage,
    ) -> Option<Told> {
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

/// The question.
#[derive(Debug)]
pub struct Reconcile {
    period: Period,
    license: Option<String>,
    opened: usize,
    account: Account,
}

impl Reconcile {
    /// Of this period and license, on top of an opening balance.
    pub fn new(period: Period, license: Option<String>, opening: &[Held]) -> Self {
        Self { period, license, opened: opening.len(), account: Account::opened_with(opening) }
    }
}

/// The days that a period has in what the log spans, the last hundred years of them; `None` where there are none.
pub fn days_in(period: Period, span: Option<(Timestamp, Timestamp)>) -> Option<(Date, Date)> {
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

impl Question for Reconcile {
    fn columns(&self) -> &'static [&'static str] {
        &[
            "day",
            "license",
            "allotment",
            "access_type",
            "at_end",
            "peak",
            "units",
            "overage",
            "cap",
            "over",
            "seen",
        ]
    }

    fn period(&self) -> Period {
        self.period
    }

    fn license(&self) -> Option<&str> {
        self.license.as_deref()
    }

    fn take(&mut self, log: usize, entry: &Entry<'_>, desk: &mut Desk<'_, '_>) -> io::Result<()> {
        if self.period.to.is_none_or(|to| entry.time <= to) {
            self.account.take(log, entry, desk.coverage);
        }
        Ok(())
    }

    fn finish(&mut self, read: &Read, desk: &mut Desk<'_, '_>) -> io::Result<Said> {
        self.account.entitlements.finish();
        let mut said = Said::default();
        let Some((from, to)) = days_in(self.period, read.span) else { return Ok(said) };
        let mut over_allocated = Vec::new();
        for (license, allotment) in self.account.allotments() {
            if self.license.as_ref().is_some_and(|wanted| *wanted != license) {
                continue;
            }
            let (mut over_days, mut worst) = (0u64, 0);
            for day in self.account.days(&license, &allotment, from, to) {
                let over = day.over();
                if let Some(over) = over.filter(|over| *over > 0) {
                    over_days += 1;
                    worst = worst.max(over);
                }
                let Day { used, allowed } = day;
                desk.rows.row(vec![
                    used.day.to_string().into(),
                    license.as_str().into(),
                    allotment.as_str().into(),
                    allowed.access_type.clone().into(),
                    used.at_end.into(),
                    used.peak.into(),
                    allowed.units.into(),
                    allowed.overage_word().into(),
                    allowed.cap().into(),
                    over.into(),
                    allowed.seen.into(),
                ])?;
            }
            if over_days > 0 {
                said.notes.push(format!(
                    "license {license}, {allotment}: over-allocated on {}, by {worst} at most",
                    counted(over_days, "day", "days")
                ));
                over_allocated.push(
                    json!({ "license": license, "allotment": allotment, "days": over_days, "most": worst }),
                );
            }
        }
        if over_allocated.is_empty() {
            said.notes
                .push("no day is over-allocated, as far as definitions and holders are known".to_owned());
        }
        if self.opened == 0 {
            let unknown = read.coverage.iter().filter(|covered| covered.known_from != Some(0));
            said.notes.extend(unknown.map(|covered| {
                format!(
                    "license {}: who held what before this log is not known, so its use is at least what stands here",
                    covered.license
                )
            }));
        }
        let by_month = self.account.entitlements.licenses().any(|license| {
            self.account.entitlements.allotments(license).values().any(|class| *class == Some("time"))
        });
        if by_month {
            said.notes.push(
                "what is used by the month, and not by people, is told by: audit consumption".to_owned(),
            );
        }
        said.notes.push(
            "units are those of the last definition that was seen by the end of the day; a change of the license can take a \
             day to be fetched"
                .to_owned(),
        );
        said.members.push(("over_allocated", over_allocated.into()));
        Ok(said)
    }
}
