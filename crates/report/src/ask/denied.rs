//! Who was refused or limited, and why.

use std::io;

use super::answer::{Context, Footer, Question};
use crate::fold::refusals::{self, Denied, Reasons};
use crate::read::open::Read;
use relay_log::console::period::Period;
use relay_log::ledger::entry::Entry;

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

    fn take(&mut self, _: usize, entry: &Entry<'_>, context: &mut Context<'_, '_>) -> io::Result<()> {
        let denied = Denied::of(entry).filter(|denied| self.period.has(denied.time));
        if denied.is_some() {
            self.reasons.take(entry);
        }
        denied.map_or(Ok(()), |denied| context.rows.row(denied.cells()))
    }

    fn finish(&mut self, _: &Read, _: &mut Context<'_, '_>) -> io::Result<Footer> {
        let sums = self.reasons.sums.iter();
        let notes = sums.map(|((action, reason), times)| format!("{} times {action}: {reason}", times.count));
        let notes =
            std::iter::once(format!("{} refusals in all", self.reasons.count())).chain(notes).collect();
        Ok(Footer { notes, ..Footer::default() })
    }
}
