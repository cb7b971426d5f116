//! One question put to one or several logs: everything is read and verified, rows go out as they come, and behind them
//! stands what they rest on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;

use crate::ledger::entry::Entry;
use crate::report::ask::evidence::{self, Made};
use crate::report::fold::coverage::{Coverage, Covered};
use crate::report::fold::not_understood::NotUnderstood;
use crate::report::input::names::Names;
use crate::report::input::period::Period;
use crate::report::read::merge::{self, ReadError};
use crate::report::table::rows::{Form, Rows, counted};
use crate::verify::log::{Verdict, Verified};

/// What a question may use and write to while records come.
pub struct Desk<'a, 'w> {
    /// Where its rows go.
    pub rows: &'a mut Rows<'w>,
    /// Who is who.
    pub names: &'a mut Names,
    /// Which versions are known, of all records before this one.
    pub coverage: &'a Coverage,
}

/// What a question says at its end, beside its rows.
#[derive(Debug, Default)]
pub struct Said {
    /// Sentences.
    pub notes: Vec<String>,
    /// The same for programs.
    pub members: Vec<(&'static str, Value)>,
    /// What it has found is worth an exit code of its own, if all else is fine.
    pub gaps: bool,
}

/// A question: a fold over all records.
pub trait Question {
    /// The columns of its rows.
    fn columns(&self) -> &'static [&'static str];

    /// The time that is asked about. What comes after it does not make the coverage of what is.
    fn period(&self) -> Period {
        Period::default()
    }

    /// The license that is asked about; all, where there is none.
    fn license(&self) -> Option<&str> {
        None
    }

    /// The next record, in the order of time.
    ///
    /// # Errors
    /// A row can't be written.
    fn take(&mut self, log: usize, entry: &Entry<'_>, desk: &mut Desk<'_, '_>) -> io::Result<()>;

    /// All is read.
    ///
    /// # Errors
    /// A row can't be written.
    fn finish(&mut self, read: &Read, desk: &mut Desk<'_, '_>) -> io::Result<Said>;
}

/// What was read.
#[derive(Debug)]
pub struct Read {
    /// The verdict on each log.
    pub verified: Vec<Verified>,
    /// What is known of each license.
    pub coverage: Vec<Covered>,
    /// The time of the first record and of the last one.
    pub span: Option<(Timestamp, Timestamp)>,
    /// The licenses that any record names, the first hundred thousand.
    pub licenses: BTreeSet<String>,
    /// What was not understood.
    pub not_understood: NotUnderstood,
    /// Records of kinds that this program does not know, with how many there are.
    pub unknown: BTreeMap<String, u64>,
}

/// What a question is put to, and how it is answered.
#[derive(Debug)]
pub struct Asked {
    /// The logs.
    pub logs: Vec<PathBuf>,
    /// Checkpoints that were kept elsewhere.
    pub anchors: Vec<PathBuf>,
    /// How rows are written.
    pub form: Form,
    /// Who is who.
    pub names: Names,
    /// By whom.
    pub made: Made,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// A log can't be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// The answer can't be written.
    #[error("the answer can't be written: {0}")]
    Write(#[from] io::Error),
}

/// Licenses that are remembered by number.
const LICENSES: usize = 100_000;
/// Different kinds of records that are not known and told by name.
const UNKNOWN: usize = 20;

/// Puts a question. Gives the worst verdict on the logs.
///
/// # Errors
/// See [`AnswerError`].
pub fn answer(
    question: &mut dyn Question,
    asked: &mut Asked,
    out: &mut dyn Write,
    progress: impl FnMut(u64) + Send,
) -> Result<Verdict, AnswerError> {
    let mut rows = Rows::new(out, asked.form, question.columns());
    let mut coverage = Coverage::default();
    let mut written = Ok(());
    let until = question.period().to;
    let names = &mut asked.names;
    let done = read(&asked.logs, &asked.anchors, &[], progress, |log, entry| {
        written = question.take(log, entry, &mut Desk { rows: &mut rows, names, coverage: &coverage });
        if until.is_none_or(|until| entry.time <= until) {
            coverage.take(log, entry);
        }
        written.is_ok()
    });
    written?;
    let mut read = done?;
    read.cover(&mut coverage);
    let mut desk = Desk { rows: &mut rows, names, coverage: &coverage };
    let said = question.finish(&read, &mut desk)?;
    let mut notes = read.damage();
    notes.extend(read.not_understood());
    notes.extend(said.notes);
    notes.extend(read.beyond(question.period()));
    if let Some(license) = question.license() {
        notes.extend(read.lacks(license));
        read.coverage.retain(|covered| covered.license == license);
    }
    notes.extend(names.words());
    notes.extend(read.words());
    let mut closing = evidence::closing(notes, &read.coverage, &read.verified, &asked.made);
    closing.members.splice(0..0, said.members);
    rows.end(&closing)?;
    out.flush()?;
    let own = if said.gaps { Verdict::Gaps } else { Verdict::Fine };
    Ok(evidence::worst(read.verified.iter().map(Verified::verdict).chain([own])))
}

/// Reads all records of these logs, or so many of each, for as long as `each` gives `true`; coverage is the caller's.
///
/// # Errors
/// A log can't be read.
pub fn read(
    logs: &[PathBuf],
    anchors: &[PathBuf],
    sizes: &[u64],
    progress: impl FnMut(u64) + Send,
    mut each: impl FnMut(usize, &Entry<'_>) -> bool,
) -> Result<Read, ReadError> {
    let mut span: Option<(Timestamp, Timestamp)> = None;
    let mut unknown = BTreeMap::new();
    let mut not_understood = NotUnderstood::default();
    let mut licenses = BTreeSet::new();
    let verified = merge::read_up_to(logs, anchors, sizes, progress, |log, entry| {
        let (first, last) = span.unwrap_or((entry.time, entry.time));
        span = Some((first.min(entry.time), last.max(entry.time)));
        if !is_known(&entry.action) {
            let action = entry.action.chars().take(64).collect::<String>();
            if unknown.len() < UNKNOWN || unknown.contains_key(&action) {
                *unknown.entry(action).or_insert(0) += 1;
            }
        }
        if let Some(license) = entry.qlik.license.as_deref()
            && licenses.len() < LICENSES
            && !licenses.contains(license)
        {
            licenses.insert(license.to_owned());
        }
        not_understood.take(log, entry);
        each(log, entry)
    })?;
    Ok(Read { verified, coverage: Vec::new(), span, licenses, not_understood, unknown })
}

fn is_known(action: &str) -> bool {
    ["license.", "access.", "relay.", "audit.", "upstream."].iter().any(|kind| action.starts_with(kind))
}

impl Read {
    /// Puts together what is known of each license.
    pub fn cover(&mut self, coverage: &mut Coverage) {
        self.coverage = coverage.finish();
        for covered in &mut self.coverage {
            let unread = self.not_understood.by.values();
            let of_license = unread.filter(|unread| unread.license.as_ref() == Some(&covered.license));
            covered.not_understood = of_license.map(|unread| unread.count).sum();
        }
    }

    /// What is changed or missing is in no answer, so it stands before it.
    pub fn damage(&self) -> Vec<String> {
        let damaged = self.verified.iter().filter(|log| log.damages > 0);
        let words = damaged.map(|log| {
            let first = log.damage.first().map(String::as_str).unwrap_or_default();
            let faults = counted(log.damages, "fault", "faults");
            format!(
                "DAMAGED: {faults} in {}; what was changed or removed is not counted here: {first}",
                log.log.display()
            )
        });
        words.collect()
    }

    /// Of a time that the logs know nothing of, that must be said.
    pub fn beyond(&self, asked: Period) -> Vec<String> {
        let Some((first, last)) = self.span else {
            return vec!["there is no record that can be read".to_owned()];
        };
        let mut words = Vec::new();
        let begins = asked.from.or(asked.to).is_some_and(|from| from < first);
        if begins {
            words.push(format!("the log begins at {first:.0}: nothing is known of the time before"));
        }
        if asked.to.or(asked.from).is_some_and(|to| to > last) {
            words.push(format!("the log's last record is of {last:.0}: nothing is known of the time since"));
        }
        words
    }

    fn lacks(&self, license: &str) -> Option<String> {
        let there: Vec<&str> = self.licenses.iter().take(UNKNOWN).map(String::as_str).collect();
        let known = self.licenses.contains(license);
        (!known).then(|| format!("license {license} is not in this log; it has: {}", there.join(", ")))
    }

    /// What this log can't claim to hold, deployment by deployment.
    pub fn not_understood(&self) -> Vec<String> {
        let by = &self.not_understood.by;
        let unreadable: u64 = self.verified.iter().map(|log| log.unreadable).sum();
        let newer = (unreadable > 0).then(|| {
            format!("{unreadable} whole records can't be read by this program, and are in no answer of it; a newer one may")
        });
        let told = by.iter().take(UNKNOWN).map(|(who, unread)| {
            format!(
                "NOT UNDERSTOOD: {} exchanges of {who} from {:.0} to {:.0}; what they say of assignments and consumption is \
                 missing here",
                unread.count, unread.first, unread.last
            )
        });
        let mut words: Vec<String> = newer.into_iter().chain(told).collect();
        if by.len() > UNKNOWN || self.not_understood.beyond > 0 {
            let more = by.len().saturating_sub(UNKNOWN) as u64 + self.not_understood.beyond;
            words.push(format!("NOT UNDERSTOOD: the same goes for {more} more"));
        }
        words
    }

    fn words(&self) -> Vec<String> {
        let told = self.unknown.iter().map(|(action, count)| {
            format!("{count} records are of a kind that this program does not know ({action}); a newer one may read them")
        });
        told.collect()
    }
}
