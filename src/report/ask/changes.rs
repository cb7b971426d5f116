//! What the back end told, and who asked for it: all changes of a time, and those that moved one unit between people.

use std::collections::{HashMap, VecDeque};
use std::io;

use jiff::{SignedDuration, Timestamp};

use super::answer::{Desk, Question, Read, Said};
use crate::ledger::entry::Entry;
use crate::report::fold::assignments::{Assignments, Change, Key, Told};
use crate::report::input::period::Period;
use crate::report::table::cell::Cell;
use crate::report::table::rows::counted;

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

    fn take(&mut self, log: usize, entry: &Entry<'_>, desk: &mut Desk<'_, '_>) -> io::Result<()> {
        let Some(told) = self.all.take(log, entry, desk.coverage) else { return Ok(()) };
        let said = &entry.qlik;
        let license = said.license.as_deref().unwrap_or_default();
        if !self.period.has(entry.time) || self.license.as_deref().is_some_and(|wanted| wanted != license) {
            return Ok(());
        }
        let subject = told.subject(&self.all).or_else(|| entry.subject.as_deref().map(str::to_owned));
        let name = subject.as_deref().and_then(|subject| desk.names.of(subject));
        let allotment = match told.key {
            Some(key) => self.all.words.word(key.allotment).into(),
            None => said.allotment.as_deref().into(),
        };
        desk.rows.row(vec![
            entry.time.into(),
            license.into(),
            allotment,
            told.change.word().into(),
            if told.rejected { "rejected" } else { "done" }.into(),
            subject.into(),
            name.into(),
            said.version.filter(|version| *version > 0).into(),
            said.instance.as_deref().filter(|instance| !instance.is_empty()).into(),
            said.created.as_deref().into(),
            said.rejection.as_deref().filter(|rejection| !rejection.is_empty()).into(),
            told.asked_by.map(|source| self.all.words.word(source)).into(),
            said.source_id.as_deref().into(),
        ])
    }

    fn finish(&mut self, _: &Read, desk: &mut Desk<'_, '_>) -> io::Result<Said> {
        let notes = vec![format!(
            "{} changes, each counted once however many deployments were told it",
            desk.rows.count
        )];
        Ok(Said { notes, ..Said::default() })
    }
}

impl Told {
    /// The newest pseudonym of whom it is about.
    pub fn subject(&self, all: &Assignments) -> Option<String> {
        self.key.map(|key| all.people.pseudonym(key.person).to_owned())
    }
}

/// A unit that was taken from one person and given to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Move {
    /// Who had it, and of what.
    pub from: Key,
    /// Who got it.
    pub to: Key,
    /// When it was taken.
    pub deleted: Timestamp,
    /// When it was given.
    pub added: Timestamp,
}

/// Finds units that moved.
#[derive(Debug)]
pub struct Moves {
    within: SignedDuration,
    /// What was taken lately and not given yet, by license and allotment.
    taken: HashMap<(u32, u32), VecDeque<(Key, Timestamp)>>,
}

impl Moves {
    /// Within this time.
    pub fn new(within: SignedDuration) -> Self {
        Self { within, taken: HashMap::new() }
    }

    /// The next change that was told.
    pub fn take(&mut self, told: &Told, time: Timestamp) -> Option<Move> {
        let key = told.key.filter(|_| !told.rejected)?;
        let taken = self.taken.entry((key.license, key.allotment)).or_default();
        while taken.front().is_some_and(|(_, deleted)| time.duration_since(*deleted) > self.within) {
            taken.pop_front();
        }
        match told.change {
            Change::Delete if !told.holds => {
                taken.push_back((key, time));
                None
            }
            Change::Add if told.holds && !told.held => {
                let at = taken.iter().position(|(from, _)| from.person != key.person)?;
                let (from, deleted) = taken.remove(at)?;
                Some(Move { from, to: key, deleted, added: time })
            }
            _ => None,
        }
    }
}

/// All such moves.
#[derive(Debug)]
pub struct Churn {
    all: Assignments,
    moves: Moves,
}

impl Churn {
    /// Within this time.
    pub fn new(within: SignedDuration) -> Self {
        Self { all: Assignments::default(), moves: Moves::new(within) }
    }
}

impl Question for Churn {
    fn columns(&self) -> &'static [&'static str] {
        &["license", "allotment", "from", "from_name", "to", "to_name", "deleted", "added", "hours"]
    }

    fn take(&mut self, log: usize, entry: &Entry<'_>, desk: &mut Desk<'_, '_>) -> io::Result<()> {
        let Some(told) = self.all.take(log, entry, desk.coverage) else { return Ok(()) };
        let Some(Move { from, to, deleted, added }) = self.moves.take(&told, entry.time) else {
            return Ok(());
        };
        let person = |key: Key| self.all.people.pseudonym(key.person).to_owned();
        let (from_whom, to_whom) = (person(from), person(to));
        desk.rows.row(vec![
            self.all.words.word(to.license).into(),
            self.all.words.word(to.allotment).into(),
            from_whom.as_str().into(),
            desk.names.of(&from_whom).into(),
            to_whom.as_str().into(),
            desk.names.of(&to_whom).into(),
            deleted.into(),
            added.into(),
            Cell::Tenths(added.duration_since(deleted).as_secs_f64() / 3600.0),
        ])
    }

    fn finish(&mut self, _: &Read, desk: &mut Desk<'_, '_>) -> io::Result<Said> {
        let notes = vec![format!(
            "{} from one person to another; each delete is paired with the next add of somebody else, which \
             nobody has said: it is a question to ask, not a finding",
            counted(desk.rows.count, "unit moved", "units moved")
        )];
        Ok(Said { notes, ..Said::default() })
    }
}
