//! What the back end told, and who asked for it: all changes of a time, and those that moved one unit between people.

use std::io;

use super::answer::{Context, Footer, Question};
use crate::fold::assignments::Assignments;
use crate::read::open::Read;
use relay_log::console::period::Period;
use relay_log::ledger::entry::Entry;

/// All changes of a period.
#[derive(Debug)]
pub struct Changes {
    period: Period,
    license: Option<String>,
    all: Assignments,
}

impl Changes {
    /// Of this period and license.
    pub fn new(period: Period, license: Option<String>) -> Self {
        Self { period, license, all: Assignments::default() }
    }
}

impl Question for Changes {
    fn period(&self) -> Period {
        self.period
    }

    fn license(&self) -> Option<&str> {
        self.license.as_deref()
    }

    fn columns(&self) -> &'static [&'static str] {
        &[
            "time",
            "license",
            "allotment",
            "change",
            "result",
            "subject",
            "name",
            "version",
            "instance",
            "created",
            "rejection",
            "asked_by",
            "told_to",
        ]
    }

    fn take(&mut self, log: usize, entry: &Entry<'_>, context: &mut Context<'_, '_>) -> io::Result<()> {
        let Some(told) = self.all.take(log, entry, context.coverage) else { return Ok(()) };
        let qlik = &entry.qlik;
        let license = qlik.license.as_deref().unwrap_or_default();
        if !self.period.has(entry.time) || self.license.as_deref().is_some_and(|wanted| wanted != license) {
            return Ok(());
        }
        let subject = told.subject(&self.all).or_else(|| entry.subject.as_deref().map(str::to_owned));
        let name = subject.as_deref().and_then(|subject| context.names.of(subject));
        let allotment = match told.key {
            Some(key) => self.all.words.word(key.allotment).into(),
            None => qlik.allotment.as_deref().into(),
        };
        context.rows.row(vec![
            entry.time.into(),
            license.into(),
            allotment,
            told.change.word().into(),
            if told.rejected { "rejected" } else { "done" }.into(),
            subject.into(),
            name.into(),
            qlik.version.filter(|version| *version > 0).into(),
            qlik.instance.as_deref().filter(|instance| !instance.is_empty()).into(),
            qlik.created.as_deref().into(),
            qlik.rejection.as_deref().filter(|rejection| !rejection.is_empty()).into(),
            told.asked_by.map(|source| self.all.words.word(source)).into(),
            qlik.source_id.as_deref().into(),
        ])
    }

    fn finish(&mut self, _: &Read, context: &mut Context<'_, '_>) -> io::Result<Footer> {
        let notes = vec![format!(
            "{} changes, each counted once however many deployments were told it",
            context.rows.count
        )];
        Ok(Footer { notes, ..Footer::default() })
    }
}
