//! Use against what was bought, by day: how many held an allotment at its end and at most, and what the license allowed
//! as last seen in a definition.

use std::io;

use serde_json::json;

use super::answer::{Context, Footer, Question};
use crate::fold::account::{Account, Day, days_in};
use crate::input::opening::OpeningHolder;
use crate::read::open::Read;
use crate::table::rows::counted;
use relay_log::console::period::Period;
use relay_log::ledger::entry::Entry;

/// The question.
#[derive(Debug)]
pub(crate) struct Reconcile {
    period: Period,
    license: Option<String>,
    opened: usize,
    account: Account,
}

impl Reconcile {
    /// Of this period and license, on top of an opening balance.
    pub(crate) fn new(period: Period, license: Option<String>, opening: &[OpeningHolder]) -> Self {
        Self { period, license, opened: opening.len(), account: Account::opened_with(opening) }
    }
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

    fn take(&mut self, log: usize, entry: &Entry<'_>, context: &mut Context<'_, '_>) -> io::Result<()> {
        if self.period.to.is_none_or(|to| entry.time <= to) {
            self.account.take(log, entry, context.coverage);
        }
        Ok(())
    }

    fn finish(&mut self, read: &Read, context: &mut Context<'_, '_>) -> io::Result<Footer> {
        self.account.entitlements.finish();
        let mut footer = Footer::default();
        let Some((from, to)) = days_in(self.period, read.span) else { return Ok(footer) };
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
                context.rows.row(vec![
                    used.day.to_string().into(),
                    license.as_str().into(),
                    allotment.as_str().into(),
                    allowed.access_type.as_deref().into(),
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
                footer.notes.push(format!(
                    "license {license}, {allotment}: over-allocated on {}, by {worst} at most",
                    counted(over_days, "day", "days")
                ));
                over_allocated.push(
                    json!({ "license": license, "allotment": allotment, "days": over_days, "most": worst }),
                );
            }
        }
        if over_allocated.is_empty() {
            footer
                .notes
                .push("no day is over-allocated, as far as definitions and holders are known".to_owned());
        }
        if self.opened == 0 {
            let unknown = read.coverage.iter().filter(|covered| covered.known_from != Some(0));
            footer.notes.extend(unknown.map(|covered| {
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
            footer.notes.push(
                "what is used by the month, and not by people, is told by: audit consumption".to_owned(),
            );
        }
        footer.notes.push(
            "units are those of the last definition that was seen by the end of the day; a change of the license can take a \
             day to be fetched"
                .to_owned(),
        );
        footer.members.push(("over_allocated", over_allocated.into()));
        Ok(footer)
    }
}
