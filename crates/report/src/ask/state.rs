//! Who holds what at a time.

use std::io;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{Context, Footer, Question};
use crate::fold::assignments::{Assignments, Counts, Status, counts, held};
use crate::fold::entitlements::{Allowed, Entitlements};
use crate::input::opening::OpeningHolder;
use crate::read::open::Read;
use crate::table::rows::counted;
use relay_log::console::period::{Period, day_of};
use relay_log::ledger::entry::Entry;

/// The question.
#[derive(Debug)]
pub struct State {
    at: Option<Timestamp>,
    license: Option<String>,
    opening: usize,
    all: Assignments,
    entitlements: Entitlements,
}

impl State {
    /// At this time, or at the end of the log; of this license or of all, on top of an opening balance.
    pub fn new(at: Option<Timestamp>, license: Option<String>, opening: &[OpeningHolder]) -> Self {
        let mut all = Assignments::default();
        for held in opening {
            all.open_with(&held.license, &held.allotment, &held.subject);
        }
        Self { at, license, opening: opening.len(), all, entitlements: Entitlements::default() }
    }
}

impl Question for State {
    fn columns(&self) -> &'static [&'static str] {
        &[
            "license",
            "allotment",
            "access_type",
            "subject",
            "name",
            "status",
            "since",
            "version",
            "instance",
            "told_by",
        ]
    }

    fn period(&self) -> Period {
        Period { from: self.at, to: self.at }
    }

    fn license(&self) -> Option<&str> {
        self.license.as_deref()
    }

    fn take(&mut self, log: usize, entry: &Entry<'_>, context: &mut Context<'_, '_>) -> io::Result<()> {
        if self.at.is_none_or(|at| entry.time <= at) {
            self.all.take(log, entry, context.coverage);
            self.entitlements.take(log, entry);
        }
        Ok(())
    }

    fn finish(&mut self, read: &Read, context: &mut Context<'_, '_>) -> io::Result<Footer> {
        self.entitlements.finish();
        let at = self.at.or_else(|| read.span.map(|(_, last)| last)).unwrap_or_else(Timestamp::now);
        let day = day_of(at);
        let mut rows = held(&self.all);
        rows.retain(|row| self.license.as_ref().is_none_or(|license| row.license == *license));
        for row in &rows {
            let allowed = self.entitlements.on(&row.license, &row.allotment, day);
            context.rows.row(vec![
                row.license.as_str().into(),
                row.allotment.as_str().into(),
                allowed.access_type.as_deref().into(),
                row.subject.as_str().into(),
                context.names.of(&row.subject).into(),
                row.status.word().into(),
                row.since.into(),
                Some(row.version).filter(|version| *version > 0).into(),
                row.instance.clone().into(),
                row.source.clone().into(),
            ])?;
        }
        let mut notes = vec![format!(
            "at {at:.0} (UTC), as the back end confirmed it; \"since\" is when this log first saw it told, and not when it was granted"
        )];
        let mut totals: Vec<Value> = Vec::new();
        for ((license, allotment), of) in counts(&rows) {
            let allowed = self.entitlements.on(&license, &allotment, day);
            notes.push(in_words(&license, &allotment, &of, &allowed));
            totals.push(json!({
                "license": license,
                "allotment": allotment,
                "holds": of.of(Status::Holds),
                "opening": of.of(Status::Opening),
                "pending": of.of(Status::PendingAdd) + of.of(Status::PendingDelete),
                "unknown": of.unknown(),
                "units": allowed.units,
                "overage": allowed.overage_word(),
            }));
        }
        notes.extend(self.reservations());
        Ok(Footer { notes, members: vec![("totals", totals.into())], gaps: false })
    }
}

impl State {
    fn reservations(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.opening > 0 {
            notes.push(format!(
                "{} from an opening balance, which nobody has signed; they stand until the log tells of them",
                counted(self.opening as u64, "holder is", "holders are")
            ));
        }
        if self.all.of_nobody > 0 {
            notes.push(format!(
                "{} changes that were told name nobody whom this log knows",
                self.all.of_nobody
            ));
        }
        notes
    }
}

fn in_words(license: &str, allotment: &str, of: &Counts, allowed: &Allowed) -> String {
    let mut text = format!("  license {license}, {allotment}: {} hold it", of.of(Status::Holds));
    let more = [
        (of.of(Status::Opening), "from the opening balance"),
        (of.of(Status::PendingAdd) + of.of(Status::PendingDelete), "asked for and not answered"),
        (of.unknown(), "not known"),
    ];
    for (count, what) in more.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {what}"));
    }
    match (allowed.units, allowed.overage_word()) {
        (Some(units), Some(overage)) => {
            text.push_str(&format!("; {units} units that day, overage {overage}"))
        }
        (Some(units), None) => text.push_str(&format!("; {units} units that day")),
        (None, _) => text.push_str("; no definition that says how many units there are was seen by then"),
    }
    text
}
