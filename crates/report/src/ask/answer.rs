//! One question put to one or several logs: everything is read and verified, rows go out as they come, and behind them
//! stands what they rest on.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::Value;

use super::evidence::{self, Made};
use crate::fold::coverage::Coverage;
use crate::input::names::Names;
use crate::read::merge::ReadError;
use crate::read::open::{Read, read};
use crate::table::rows::{Form, TableWriter};
use relay_log::console::period::Period;
use relay_log::ledger::entry::Entry;
use relay_log::verify::log::{Verdict, Verified};

/// What a question may use and write to while records come.
pub struct Context<'a, 'w> {
    /// Where its rows go.
    pub rows: &'a mut TableWriter<'w>,
    /// Who is who.
    pub names: &'a mut Names,
    /// Which versions are known, of all records before this one.
    pub coverage: &'a Coverage,
}

/// What a question says at its end, beside its rows.
#[derive(Debug, Default)]
pub struct Footer {
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
    fn take(&mut self, log: usize, entry: &Entry<'_>, context: &mut Context<'_, '_>) -> io::Result<()>;

    /// All is read.
    ///
    /// # Errors
    /// A row can't be written.
    fn finish(&mut self, read: &Read, context: &mut Context<'_, '_>) -> io::Result<Footer>;
}

/// What a question is put to, and how it is answered.
#[derive(Debug)]
pub struct Query {
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

/// Puts a question. Gives the worst verdict on the logs.
///
/// # Errors
/// See [`AnswerError`].
pub fn answer(
    question: &mut dyn Question,
    asked: &mut Query,
    out: &mut dyn Write,
    progress: impl FnMut(u64) + Send,
) -> Result<Verdict, AnswerError> {
    let mut rows = TableWriter::new(out, asked.form, question.columns());
    let mut coverage = Coverage::default();
    let mut written = Ok(());
    let until = question.period().to;
    let names = &mut asked.names;
    let done = read(&asked.logs, &asked.anchors, &[], progress, |log, entry| {
        written = question.take(log, entry, &mut Context { rows: &mut rows, names, coverage: &coverage });
        if until.is_none_or(|until| entry.time <= until) {
            coverage.take(log, entry);
        }
        written.is_ok()
    });
    written?;
    let mut read = done?;
    read.cover(&mut coverage);
    let mut context = Context { rows: &mut rows, names, coverage: &coverage };
    let footer = question.finish(&read, &mut context)?;
    let mut notes = read.damage();
    notes.extend(read.not_understood());
    notes.extend(footer.notes);
    notes.extend(read.beyond(question.period()));
    if let Some(license) = question.license() {
        notes.extend(read.lacks(license));
        read.coverage.retain(|covered| covered.license == license);
    }
    notes.extend(names.words());
    notes.extend(read.words());
    let mut closing = evidence::closing(notes, &read.coverage, &read.verified, &asked.made);
    closing.members.splice(0..0, footer.members);
    rows.end(&closing)?;
    out.flush()?;
    let own = if footer.gaps { Verdict::Gaps } else { Verdict::Fine };
    Ok(evidence::worst(read.verified.iter().map(Verified::verdict).chain([own])))
}
