//! Who holds what at a time.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::ledger::entry::Entry;
use crate::report::ask::answer::{Desk, Question, Read, Said};
use crate::report::fold::assignments::{Assignments, Change, Key};
use crate::report::fold::entitlements::Entitlements;
use crate::report::input::names::Held as OpeningHeld;
use crate::report::input::period::{Period, day_of};
use crate::report::table::rows::counted;

/// How sure an assignment is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Status {
    /// Told and not rejected.
    Holds,
    /// From the opening balance, nothing told of it yet.
    Opening,
    /// Asked, no answer that mentions it yet.
    PendingAdd,
    /// Asked, no answer that mentions it yet.
    PendingDelete,
    /// Asked, and the outcome is not known.
    UnknownAdd,
    /// Asked, and the outcome is not known.
    UnknownDelete,
    /// Told or asked, and neither add nor delete can be told.
    Unknown,
}

impl Status {
    /// In answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Opening => "opening",
            Self::PendingAdd => "pending add",
            Self::PendingDelete => "pending delete",
            Self::UnknownAdd => "unknown add",
            Self::UnknownDelete => "unknown delete",
            Self::Unknown => "unknown",
        }
    }
}

/// One assignment, or one that may be.
#[derive(Clone, Debug)]
pub struct Held {
    /// License number.
    pub license: String,
    /// `professional`.
    pub allotment: String,
    /// The newest pseudonym.
    pub subject: String,
    /// How sure it is.
    pub status: Status,
    /// When this log first saw it.
    pub since: Option<Timestamp>,
    /// The version that told it; 0 where none did.
    pub version: u64,
    /// The back end's number for it.
    pub instance: Option<String>,
    /// The deployment that was told first, or that asked.
    pub source: Option<String>,
}

/// All assignments of a fold, by license, allotment, status and person.
pub fn held(all: &Assignments) -> Vec<Held> {
    let row = |key: &Key, status, since, source: Option<u32>| Held {
        license: all.words.word(key.license).to_owned(),
        allotment: all.words.word(key.allotment).to_owned(),
        subject: all.people.pseudonym(key.person).to_owned(),
        status,
        since,
        version: 0,
        instance: None,
        source: source.map(|source| all.words.word(source).to_owned()),
    };
    let known = all.known.iter().filter(|(_, known)| known.holds).map(|(key, known)| Held {
        version: known.version,
        instance: known.instance.as_deref().map(str::to_owned),
        ..row(key, if known.opening { Status::Opening } else { Status::Holds }, known.since, known.told_by)
    });
    let asked = all.asked.iter().map(|(key, asked)| {
        let status = match (asked.change, asked.lost) {
            (Change::Add, false) => Status::PendingAdd,
            (Change::Delete, false) => Status::PendingDelete,
            (Change::Add, true) => Status::UnknownAdd,
            (Change::Delete, true) => Status::UnknownDelete,
            (Change::Unknown, _) => Status::Unknown,
        };
        row(key, status, Some(asked.time), asked.source)
    });
    let unclear = all.unclear.iter().map(|(key, unclear)| Held {
        version: unclear.version,
        instance: unclear.instance.as_deref().map(str::to_owned),
        ..row(key, Status::Unknown, Some(unclear.since), unclear.told_by)
    });
    let mut held: Vec<Held> = known.chain(asked).chain(unclear).collect();
    held.sort_by(|a, b| {
        (&a.license, &a.allotment, a.status, &a.subject).cmp(&(
            &b.license,
            &b.allotment,
            b.status,
            &b.subject,
        ))
    });
    held
}

/// How many of each status.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// By [`Status`], in its order.
    pub by_status: [u64; 7],
}

impl Counts {
    /// How many of one.
    pub fn of(&self, status: Status) -> u64 {
        self.by_status[status as usize]
    }
}

/// The same, counted by license and allotment.
pub fn counts(held: &[Held]) -> BTreeMap<(String, String), Counts> {
    let mut counts: BTreeMap<(String, String), Counts> = BTreeMap::new();
    for one in held {
        let of = counts.entry((one.license.clone(), one.allotment.clone())).or_default();
        of.by_status[one.status as usize] += 1;
    }
    counts
}

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
    pub fn new(at: Option<Timestamp>, license: Option<String>, opening: &[OpeningHeld]) -> Self {
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

    fn take(&mut self, log: usize, entry: &Entry<'_>, desk: &mut Desk<'_, '_>) -> io::Result<()> {
        if self.at.is_none_or(|at| entry.time <= at) {
            self.all.take(log, entry, desk.coverage);
            self.entitlements.take(log, entry);
        }
        Ok(())
    }

    fn finish(&mut self, read: &Read, desk: &mut Desk<'_, '_>) -> io::Result<Said> {
        self.entitlements.finish();
        let at = self.at.or_else(|| read.span.map(|(_, last)| last)).unwrap_or_else(Timestamp::now);
        let day = day_of(at);
        let mut rows = held(&self.all);
        rows.retain(|row| self.license.as_ref().is_none_or(|license| row.license == *license));
        for row in &rows {
            let allowed = self.entitlements.on(&row.license, &row.allotment, day);
            desk.rows.row(vec![
                row.license.as_str().into(),
                row.allotment.as_str().into(),
                allowed.access_type.into(),
                row.subject.as_str().into(),
                desk.names.of(&row.subject).into(),
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
                "unknown": of.of(Status::UnknownAdd) + of.of(Status::UnknownDelete) + of.of(Status::Unknown),
                "units": allowed.units,
                "overage": allowed.overage_word(),
            }));
        }
        notes.extend(self.reservations());
        Ok(Said { notes, members: vec![("totals", totals.into())], gaps: false })
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

fn in_words(
    license: &str,
    allotment: &str,
    of: &Counts,
    allowed: &crate::report::fold::entitlements::Allowed,
) -> String {
    let mut text = format!("  license {license}, {allotment}: {} hold it", of.of(Status::Holds));
    let more = [
        (of.of(Status::Opening), "from the opening balance"),
        (of.of(Status::PendingAdd) + of.of(Status::PendingDelete), "asked for and not answered"),
        (of.of(Status::UnknownAdd) + of.of(Status::UnknownDelete) + of.of(Status::Unknown), "not known"),
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
