//! What all questions to the log have in common on the command line: which logs, in which form, with which names.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{Configured, Site};
use crate::ask::answer::{AnswerError, Query, Question, answer};
use crate::ask::evidence::Made;
use crate::input::csv::ListError;
use crate::input::names::Names;
use crate::input::opening::{OpeningHolder, opening};
use crate::read::merge::ReadError;
use crate::table::rows::Form;
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::{Out, command_line, progress};
use relay_log::console::out_file::{hand_over, refuse};
use relay_log::console::period::{Edge, Period, time};
use relay_log::files::regular::is_missing;
use relay_log::ledger::subject::SubjectCase;
use relay_log::ledger::subject::keys::Keys;
use relay_log::text::shell;

/// Which logs, and checkpoints of them.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Logs {
    /// The folder of a log, the one with segments/ in it; may repeat. Without it: the configured one
    #[arg(long, value_name = "DIR")]
    pub(super) log: Vec<PathBuf>,
    /// A folder or file with a checkpoint that was kept elsewhere, or a program's log with such lines; may repeat
    #[arg(long, value_name = "PATH")]
    pub(super) anchor: Vec<PathBuf>,
}

/// Who is who.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct WhoIsWho {
    /// A list of names (CSV, DOMAIN\user in its first column), to show people by name where the key is given as well
    #[arg(long, value_name = "FILE")]
    pub(super) names: Option<PathBuf>,
    /// The key that names were hidden with; retired ones lie beside it as FILE.<id>
    #[arg(long, value_name = "FILE")]
    pub(super) subject_key: Option<PathBuf>,
    /// As in the relay's configuration (audit.subject_case) [default: that of --config, else fold]
    #[arg(long, value_enum)]
    pub(super) subject_case: Option<Case>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Case {
    Fold,
    Exact,
}

impl From<Case> for SubjectCase {
    fn from(case: Case) -> Self {
        match case {
            Case::Fold => Self::Fold,
            Case::Exact => Self::Exact,
        }
    }
}

/// How the answer is written.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Output {
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    pub(super) json: bool,
    /// Print CSV
    #[arg(long)]
    pub(super) csv: bool,
}

impl Output {
    pub(super) fn form(&self) -> Form {
        match (self.json, self.csv) {
            (true, _) => Form::Json,
            (_, true) => Form::Csv,
            _ => Form::Text,
        }
    }
}

/// All of it.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Asking {
    #[command(flatten)]
    pub(super) logs: Logs,
    #[command(flatten)]
    pub(super) who: WhoIsWho,
    #[command(flatten)]
    pub(super) output: Output,
}

/// A part of a log's time.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct During {
    /// From this day or time on (2026-06-01, or with a time and Z; UTC)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// To this day, its end included, or this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

/// Logs and keys as they were found.
pub(super) struct FoundSources {
    pub(super) logs: Vec<PathBuf>,
    pub(super) anchors: Vec<PathBuf>,
    pub(super) keys: Option<Keys>,
    pub(super) case: SubjectCase,
    /// The allow-list of the configuration that was read.
    pub(super) allow_list: Option<PathBuf>,
    /// What is missing of them, in words.
    pub(super) notes: Vec<String>,
}

/// Logs, their anchors, and the configuration where it was read.
type FoundLogs = (Vec<PathBuf>, Vec<PathBuf>, Option<Configured>);

impl Logs {
    /// The logs that are named, with the configuration where that is named as well: it lends its keys. Without any log, the
    /// configured one with its anchors, as far as they are in reach.
    pub(super) fn find(&self, site: &dyn Site) -> Result<FoundLogs, Failure> {
        if let Some(missing) = self.anchor.iter().find(|anchor| anchor.symlink_metadata().is_err()) {
            return Err(Failure::new(
                Exit::Usage,
                format!("--anchor {}: there is no such file", missing.display()),
            ));
        }
        let mut anchors = self.anchor.clone();
        if !self.log.is_empty() {
            self.log.iter().try_for_each(|log| is_folder(log))?;
            return Ok((self.log.clone(), anchors, site.named()?));
        }
        let mut configured = site.configured()?;
        anchors.append(&mut configured.anchors);
        Ok((vec![configured.log.clone()], anchors, Some(configured)))
    }
}

/// A wrong path is a mistake on the command line; a folder that can't be looked at is not.
fn is_folder(log: &Path) -> Result<(), Failure> {
    let wrong = |exit, why: &dyn std::fmt::Display| {
        Err(Failure::new(
            exit,
            format!("{} is not a log: {why}; name the folder that has segments/ in it", log.display()),
        ))
    };
    match log.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => wrong(Exit::Usage, &"it is not a folder"),
        Err(e) => wrong(Exit::of_named(&e), &e),
    }
}

/// Finds logs and keys. Keys are looked at only where somebody is to be named.
pub(super) fn find_sources(
    logs: &Logs,
    who: &WhoIsWho,
    site: &dyn Site,
    wants_keys: bool,
) -> Result<FoundSources, Failure> {
    let wants_keys = wants_keys || who.names.is_some();
    if !wants_keys && (who.subject_key.is_some() || who.subject_case.is_some()) {
        let words = "--subject-key and --subject-case do nothing here: nobody is looked for by name; add --names, or leave them \
                     out";
        return Err(Failure::new(Exit::Usage, words));
    }
    let (logs, anchors, configured) = logs.find(site)?;
    let configured = configured.as_ref();
    let key = who.subject_key.as_ref().or_else(|| configured.map(|site| &site.subject_key));
    let case = who
        .subject_case
        .map(Into::into)
        .or_else(|| configured.map(|site| site.subject_case))
        .unwrap_or(SubjectCase::Fold);
    let mut notes = Vec::new();
    let keys = match key.filter(|_| wants_keys) {
        Some(key) => {
            Keys::read(key, case).map_err(|e| notes.push(format!("{e}; people are shown as pseudonyms"))).ok()
        }
        None => None,
    };
    if who.names.is_some() && key.is_none() {
        notes.push(
            "no key was given (--subject-key), so the names in the list can't be found in the log; people are shown as \
             pseudonyms"
                .to_owned(),
        );
    }
    let allow_list = configured.map(|site| site.allow_list.clone()).filter(|file| !is_missing(file));
    Ok(FoundSources { logs, anchors, keys, case, allow_list, notes })
}

/// The list of names, as it is given.
pub(super) fn names_of(who: &WhoIsWho, sources: &FoundSources) -> Result<Names, Failure> {
    let mut names = match &who.names {
        Some(list) => Names::read(list, sources.keys.as_ref(), sources.case)?,
        None => Names::default(),
    };
    names.notes.clone_from(&sources.notes);
    Ok(names)
}

impl Asking {
    /// Finds logs and keys.
    pub(super) fn find(&self, site: &dyn Site, wants_keys: bool) -> Result<FoundSources, Failure> {
        find_sources(&self.logs, &self.who, site, wants_keys)
    }

    /// Puts one question to the logs. Gives the exit code.
    pub(super) fn ask(&self, sources: FoundSources, question: &mut dyn Question) -> Result<Exit, Failure> {
        self.ask_into(None, sources, question, self.output.form())
    }

    /// The same, with the answer written into a file.
    pub(super) fn ask_into(
        &self,
        file: Option<&Path>,
        sources: FoundSources,
        question: &mut dyn Question,
        form: Form,
    ) -> Result<Exit, Failure> {
        let names = names_of(&self.who, &sources)?;
        let FoundSources { logs, anchors, .. } = sources;
        if let Some(file) = file {
            is_no_time(file)?;
            refuse(file, &logs, true)?;
        }
        let mut asked = Query { logs, anchors, form, names, made: Made::now(command_line()) };
        let mut put = |out: &mut dyn Write| answer(question, &mut asked, out, progress());
        let verdict = match file {
            Some(file) => hand_over(file, |to| put(&mut BufWriter::new(to)))?,
            None => put(&mut BufWriter::new(Out))?,
        };
        Ok(verdict.into())
    }
}

/// Reads an opening balance, where one is given.
pub(super) fn opened_with(
    file: Option<&Path>,
    sources: &FoundSources,
) -> Result<Vec<OpeningHolder>, Failure> {
    Ok(match file {
        Some(file) => opening(file, sources.keys.as_ref())?,
        None => Vec::new(),
    })
}

/// A time after `--out` was meant for `--to`.
pub(super) fn is_no_time(file: &Path) -> Result<(), Failure> {
    match file.to_str().filter(|text| time(text, Edge::End).is_ok()) {
        Some(text) => {
            let words = format!("--out is the file to write; for the end of the period, use --to {text}");
            Err(Failure::new(Exit::Usage, words))
        }
        None => Ok(()),
    }
}

impl During {
    pub(super) fn period(&self) -> Result<Period, Failure> {
        Ok(Period::parse(self.from.as_deref(), self.to.as_deref(), Timestamp::now())?)
    }

    /// The same, where `--to` was once the file to write.
    pub(super) fn period_beside_out(&self) -> Result<Period, Failure> {
        self.period().map_err(|failure| match &self.to {
            Some(to) if time(to, Edge::End).is_err() => Failure::new(
                failure.exit,
                format!(
                    "--to is a time, and \"{to}\" is none; for the file to write, use --out {}",
                    shell::word(to)
                ),
            ),
            _ => failure,
        })
    }
}

impl From<AnswerError> for Failure {
    fn from(e: AnswerError) -> Self {
        match e {
            AnswerError::Read(e) => e.into(),
            AnswerError::Write(e) => Self::new(Exit::Io, format!("the answer can't be written: {e}")),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::Verify(e) => e.into(),
            ReadError::Twice(..) | ReadError::TooMany(_) => Self::new(Exit::Usage, e),
            ReadError::Thread(_) => Self::new(Exit::Internal, e),
        }
    }
}

impl From<ListError> for Failure {
    fn from(e: ListError) -> Self {
        let exit = match &e {
            ListError::Io(_, cause) => Exit::of_named(cause),
            _ => Exit::Usage,
        };
        Self::new(exit, e)
    }
}
