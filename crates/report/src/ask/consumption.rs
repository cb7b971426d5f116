//! What was consumed in a month, by deployment, against the back end's total and the quota.

use std::io;

use jiff::civil::Date;

use super::answer::{Context, Footer, Question};
use crate::fold::consumption::{self, Consumption};
use crate::fold::entitlements::{Entitlements, quota};
use crate::read::open::Read;
use relay_log::console::period::{Period, begin_of};
use relay_log::ledger::entry::Entry;

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

impl Question for Consumed {
    /// Coverage is of assignments, whatever the month; only that the log knows of it is asked.
    fn period(&self) -> Period {
        let first: Option<Date> = self.month.as_ref().and_then(|month| format!("{month}-01").parse().ok());
        first.map_or_else(Period::default, |first| Period { from: Some(begin_of(first)), to: None })
    }

    fn columns(&self) -> &'static [&'static str] {
        consumption::COLUMNS
    }

    fn take(&mut self, log: usize, entry: &Entry<'_>, _: &mut Context<'_, '_>) -> io::Result<()> {
        self.all.take(log, entry);
        self.entitlements.take(log, entry);
        Ok(())
    }

    fn finish(&mut self, read: &Read, context: &mut Context<'_, '_>) -> io::Result<Footer> {
        self.all.finish();
        self.entitlements.finish();
        let mut footer = Footer::default();
        let Some((_, end)) = read.span else { return Ok(footer) };
        let month = self.month.clone().or_else(|| self.all.newest_month().map(|month| month.to_string()));
        let Some(month) = month else {
            footer.notes.push("no consumption is in this log".to_owned());
            return Ok(footer);
        };
        let quota = |license: &str, month: &str, allotment: &str| {
            quota(&self.entitlements, license, month, allotment, end)
        };
        let rows = self.all.rows(Some(&month), quota);
        rows.iter().try_for_each(|row| context.rows.row(row.cells()))?;
        footer.notes.push(format!(
            "{month}: delta_low counts what was confirmed, delta_high also what has an unknown outcome; difference is the back \
             end's total less that: consumption that did not come through here, or before this log; the row without a source is \
             the sum of all; days_left is the time from the last report to the end of the quota, at the month's pace"
        ));
        for row in &rows {
            let Some(sum) = row.all.as_ref() else { continue };
            if let (Some(total), Some(quota)) = (sum.total, sum.quota)
                && total > quota
            {
                footer.notes.push(format!(
                    "license {}, {}: {total} consumed of {quota}, units and overage of that month",
                    row.license, row.allotment
                ));
            }
        }
        let unreadable: u64 = rows.iter().filter(|row| row.all.is_some()).map(|row| row.sum.unreadable).sum();
        if unreadable > 0 {
            footer
                .notes
                .push(format!("{unreadable} reports hold a number that can't be read, and are in no sum"));
        }
        if self.all.beyond() > 0 {
            footer.notes.push(format!("{} reports found no room to be added up", self.all.beyond()));
        }
        footer.members.push(("month", month.into()));
        Ok(footer)
    }
}
