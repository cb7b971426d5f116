//! The questions about deployments rather than people: the folds of [`rhythm`](crate::report::fold::gaps::find) and its neighbours, put to the
//! log one by one.

use std::collections::HashMap;
use std::io;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::json;

use crate::config::model::{AllowList, SourcePattern};
use crate::ledger::entry::Entry;
use crate::report::ask::answer::{Desk, Question, Read, Said};
use crate::report::fold::clock_skew::Clock;
use crate::report::fold::consumption::{self, Consumption};
use crate::report::fold::deployments::{self, Deployments};
use crate::report::fold::entitlements::Entitlements;
use crate::report::fold::gaps::find::Rhythm;
use crate::report::fold::gaps::gap::{self, Found};
use crate::report::fold::refusals::{self, Denied, Reasons};
use crate::report::input::period::{Period, begin_of, day_of};
use crate::report::table::rows::counted;

/// Holes of one license that are told one by one beside the rows; `coverage` has them all.
const HOLES: usize = 20;

/// Gaps in the rhythm of syncs.
#[derive(Debug, Default)]
pub struct Gaps {
    rhythm: Rhythm,
    clock: Clock,
}

impl Question for Gaps {
    fn columns(&self) -> &'static [&'static str] {
        gap::COLUMNS
    }

    fn take(&mut self, log: usize, entry: &Entry<'_>, _: &mut Desk<'_, '_>) -> io::Result<()> {
        self.rhythm.take(log, entry);
        self.clock.take(log, entry);
        Ok(())
    }

    fn finish(&mut self, read: &Read, desk: &mut Desk<'_, '_>) -> io::Result<Said> {
        let Found { gaps, beyond, unwatched, unwritten, .. } = std::mem::take(&mut self.rhythm).finish();
        gaps.iter().try_for_each(|gap| desk.rows.row(gap.cells()))?;
        let mut notes = vec![format!(
            "{} between two answered syncs of a source, or since its last one, longer than 25 minutes",
            counted(gaps.len() as u64 + beyond, "time is", "times are")
        )];
        if beyond > 0 {
            notes.push(format!("{beyond} of them are not listed: there are too many to be kept"));
        }
        if unwatched > 0 {
            notes.push(format!(
                "{unwatched} syncs are not watched: their deployments named neither an id nor a license, or are too many"
            ));
        }
        for gap in &unwritten {
            notes.push(format!(
                "{} exchanges went through from {:.0} to {:.0} and are not, or not whole, in log {}",
                gap.count, gap.first, gap.last, gap.log
            ));
        }
        let holes: usize = read.coverage.iter().map(|covered| covered.holes.len()).sum();
        for covered in read.coverage.iter().filter(|covered| !covered.holes.is_empty()) {
            notes.extend(covered.holes.iter().take(HOLES).map(|hole| {
                format!(
                    "license {}: versions {} to {} were told by no reply in this log, noticed {:.0} (inferred): an exchange went \
                     around this relay",
                    covered.license, hole.from, hole.to, hole.noticed
                )
            }));
            if let Some(more) = covered.holes.len().checked_sub(HOLES).filter(|more| *more > 0) {
                notes.push(format!("license {}: the same goes for {more} more holes", covered.license));
            }
        }
        if let Some(most) = self.clock.largest() {
            notes.push(format!(
                "the largest difference between a log's clock and the back end's: {:.1} s, at {:.0} in log {} (ahead is \
                 positive; the back end tells whole seconds)",
                most.by.as_secs_f64(),
                most.time,
                most.log
            ));
        }
        let gaps = !gaps.is_empty() || holes > 0 || !unwritten.is_empty();
        Ok(Said { notes, members: vec![("unwritten", json!(unwritten))], gaps })
    }
}

/// What was consumed in a month.
#[derive(Debug)]
pub struct Consumed {
    month: Option<String>,
    all: Consumption,
    entitlements: Entitlements,
}

impl Consumed {
    /// In this month, `YYYY-MM`, or in the newest that the log has.
    pub fn new(month: Option<String>) -> Self {
        Self { month, all: Consumption::default(), entitlements: Entitlements::default() }
    }
}

/// What may be consumed of an allotment in a month: units and overage on its last day, or on the last day of the log.
pub fn quota(of: &Entitlements, license: &str, month: &str, allotment: &str, end: Timestamp) -> Option<i64> {
    let first: Date = format!("{month}-01").parse().ok()?;
    let day = first.last_of_month().min(day_of(end)).max(first);
    of.on(license, allotment, day).cap()
}

impl Question for Consumed {
    /// Coverage is of assignments, whatever the month; only that the log knows of it is asked.
    fn period(&self) -> Period {
        let first: Option<Date> = self.month.as_ref().and_then(|month| format!("{month}-01").parse().ok());
        first.map_or_else(Period::default, |first| Period { from: Some(begin_of(first)), to: None })
    }

    fn columns(&self) -> &'static [&'static str] {
        consumption::COLUMNS
    }

    fn take(&mut self, log: usize, entry: &Entry<'_>, _: &mut Desk<'_, '_>) -> io::Result<()> {
        self.all.take(log, entry);
        self.entitlements.take(log, entry);
        Ok(())
    }

    fn finish(&mut self, read: &Read, desk: &mut Desk<'_, '_>) -> io::Result<Said> {
        self.all.finish();
        self.entitlements.finish();
        let mut said = Said::default();
        let Some((_, end)) = read.span else { return Ok(said) };
        let month = self.month.clone().or_else(|| self.all.newest_month().map(|month| month.to_string()));
        let Some(month) = month else {
            said.notes.push("no consumption is in this log".to_owned());
            return Ok(said);
        };
        let quota = |license: &str, month: &str, allotment: &str| {
            quota(&self.entitlements, license, month, allotment, end)
        };
        let rows = self.all.rows(Some(&month), quota);
        rows.iter().try_for_each(|row| desk.rows.row(row.cells()))?;
        said.notes.push(format!(
            "{month}: delta_low counts what was confirmed, delta_high also what has an unknown outcome; difference is the back \
             end's total less that: consumption that did not come through here, or before this log; the row without a source is \
             the sum of all; days_left is the time from the last report to the end of the quota, at the month's pace"
        ));
        for row in &rows {
            let Some(sum) = row.all.as_ref() else { continue };
            if let (Some(total), Some(quota)) = (sum.total, sum.quota)
                && total > quota
            {
                said.notes.push(format!(
                    "license {}, {}: {total} consumed of {quota}, units and overage of that month",
                    row.license, row.allotment
                ));
            }
        }
        let unreadable: u64 = rows.iter().filter(|row| row.all.is_some()).map(|row| row.sum.unreadable).sum();
        if unreadable > 0 {
            said.notes
                .push(format!("{unreadable} reports hold a number that can't be read, and are in no sum"));
        }
        if self.all.beyond() > 0 {
            said.notes.push(format!("{} reports found no room to be added up", self.all.beyond()));
        }
        said.members.push(("month", month.into()));
        Ok(said)
    }
}

/// What the allow-list calls deployments; no log knows that.
#[derive(Debug, Default)]
pub struct Called(HashMap<[u8; 32], String>);

impl Called {
    /// As this list has it.
    pub fn new(list: &AllowList) -> Self {
        let named = list.sources.iter().filter(|source| !source.name.is_empty());
        Self(named.filter_map(|source| Some((source.id.as_ref()?.digest(), source.name.clone()))).collect())
    }

    /// The name of a source.
    pub fn name(&self, id: &str) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&SourcePattern::Clear(id.parse().ok()?).digest()).cloned()
    }
}

/// Which deployments use which license.
#[derive(Debug)]
pub struct Users {
    called: Called,
    all: Deployments,
}

impl Users {
    /// With the names that the allow-list has for them.
    pub fn new(called: Called) -> Self {
        Self { called, all: Deployments::default() }
    }
}

impl Question for Users {
    fn columns(&self) -> &'static [&'static str] {
        deployments::COLUMNS
    }

    fn take(&mut self, log: usize, entry: &Entry<'_>, _: &mut Desk<'_, '_>) -> io::Result<()> {
        self.all.take(log, entry);
        Ok(())
    }

    fn finish(&mut self, _: &Read, desk: &mut Desk<'_, '_>) -> io::Result<Said> {
        for deployment in self.all.rows() {
            let mut deployment = deployment.clone();
            deployment.name = match &*deployment.source {
                "" => Some("(activations and definitions name no source)".to_owned()),
                source => self.called.name(source),
            };
            desk.rows.row(deployment.cells())?;
        }
        let mut notes = self.all.in_use();
        if self.all.beyond > 0 {
            notes.push(format!(
                "{} records are of deployments that are too many to be listed",
                self.all.beyond
            ));
        }
        Ok(Said { notes, ..Said::default() })
    }
}

/// Who was refused, and why.
#[derive(Debug)]
pub struct Refused {
    period: Period,
    reasons: Reasons,
}

impl Refused {
    /// In this period.
    pub fn new(period: Period) -> Self {
        Self { period, reasons: Reasons::default() }
    }
}

impl Question for Refused {
    fn period(&self) -> Period {
        self.period
    }

    fn columns(&self) -> &'static [&'static str] {
        refusals::COLUMNS
    }

    fn take(&mut self, _: usize, entry: &Entry<'_>, desk: &mut Desk<'_, '_>) -> io::Result<()> {
        let denied = Denied::of(entry).filter(|denied| self.period.has(denied.time));
        if denied.is_some() {
            self.reasons.take(entry);
        }
        denied.map_or(Ok(()), |denied| desk.rows.row(denied.cells()))
    }

    fn finish(&mut self, _: &Read, _: &mut Desk<'_, '_>) -> io::Result<Said> {
        let sums = self.reasons.sums.iter();
        let notes = sums.map(|((action, reason), times)| format!("{} times {action}: {reason}", times.count));
        let notes =
            std::iter::once(format!("{} refusals in all", self.reasons.count())).chain(notes).collect();
        Ok(Said { notes, ..Said::default() })
    }
}
