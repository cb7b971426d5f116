//! The questions that auditors ask of the log, a verb each.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Site;
use super::sources::{Asking, During, FoundSources, Output, opened_with};
use crate::ask::answer::Question;
use crate::ask::changes::Changes;
use crate::ask::churn::Churn;
use crate::ask::consumption::Consumed;
use crate::ask::denied::Refused;
use crate::ask::deployments::Users;
use crate::ask::export::{AsQlik, Flat};
use crate::ask::gaps::Gaps;
use crate::ask::history::History;
use crate::ask::reconcile::Reconcile;
use crate::ask::state::State;
use crate::ask::subject::{Hits, Search};
use crate::fold::aliases::Aliases;
use crate::input::deployment_names::DeploymentNames;
use crate::input::names::pseudonyms;
use crate::input::opening::OpeningHolder;
use crate::read::merge;
use crate::table::rows::Form;
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::{note, outln, progress};
use relay_log::console::period::{Edge, length, time};
use relay_log::ledger::entry::Entry;
use relay_log::ledger::subject::{QlikForm, Subject, qlik_form};
use relay_log::names::LicenseNumber;
use relay_log::stderr;

/// Whose holders, and who they were before the log began.
#[derive(Debug, clap::Args)]
struct Holders {
    /// Of this license alone
    #[arg(long, value_name = "NUMBER")]
    license: Option<String>,
    /// Who held what before the log began: CSV with the columns license, allotment and subject, from the product's console
    #[arg(long, value_name = "FILE")]
    opening: Option<PathBuf>,
    #[command(flatten)]
    asking: Asking,
}

/// Whose state, and when.
#[derive(Debug, clap::Args)]
pub struct StateArgs {
    /// A day (its end) or a time, UTC; without it: as of the log's last record
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    #[command(flatten)]
    holders: Holders,
}

/// Which changes.
#[derive(Debug, clap::Args)]
pub struct PeriodArgs {
    #[command(flatten)]
    period: During,
    /// Of this license alone
    #[arg(long, value_name = "NUMBER")]
    license: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Which days.
#[derive(Debug, clap::Args)]
pub struct ReconcileArgs {
    #[command(flatten)]
    period: During,
    #[command(flatten)]
    holders: Holders,
}

/// Whose history.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("whom").required(true).args(["subject", "hash"])))]
pub struct HistoryArgs {
    /// The person's name, DOMAIN\user; needs the key that names were hidden with
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// A pseudonym, as the log has it
    #[arg(long, value_name = "PSEUDONYM")]
    hash: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

/// How soon a unit moves.
#[derive(Debug, clap::Args)]
pub struct ChurnArgs {
    /// So soon after it was taken from the first (90m, 36h, 7d)
    #[arg(long, value_name = "TIME", default_value = "7d")]
    within: String,
    #[command(flatten)]
    asking: Asking,
}

/// Of which logs.
#[derive(Debug, clap::Args)]
pub struct GapsArgs {
    #[command(flatten)]
    asking: Asking,
}

/// Of which month.
#[derive(Debug, clap::Args)]
pub struct ConsumptionArgs {
    /// Of this month; without it, the newest in the log
    #[arg(long, value_name = "YYYY-MM")]
    month: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Of which logs, and with which names.
#[derive(Debug, clap::Args)]
pub struct DeploymentsArgs {
    /// The allow-list (sources.toml), for the names that it gives to deployments
    #[arg(long, value_name = "FILE")]
    pub(super) sources: Option<PathBuf>,
    #[command(flatten)]
    asking: Asking,
}

/// Of which time.
#[derive(Debug, clap::Args)]
pub struct DeniedArgs {
    #[command(flatten)]
    period: During,
    #[command(flatten)]
    asking: Asking,
}

/// Whose pseudonyms.
#[derive(Debug, clap::Args)]
pub struct SubjectArgs {
    /// The person's name, DOMAIN\user
    #[arg(value_name = "NAME")]
    name: String,
    /// Print the bare form that Qlik's own log has, instead: neither form has a key, so keep none of them
    #[arg(long, value_enum, value_name = "FORM",
        conflicts_with_all = ["log", "anchor", "names", "subject_key", "subject_case", "json", "csv"])]
    qlik_form: Option<Hashed>,
    #[command(flatten)]
    asking: Asking,
}

/// Which records, in which form.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    period: During,
    /// csv, jsonl or html: every record, flat; qlik: the fields of Qlik's Offline User Assignment Log, to compare
    /// [default: csv]
    #[arg(long, value_enum)]
    format: Option<ExportForm>,
    /// Into this file, for its owner alone, instead of to the terminal
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How `--format qlik` hides people [default: md5]
    #[arg(long, value_enum, value_name = "FORM")]
    qlik_form: Option<Hashed>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum ExportForm {
    Csv,
    Jsonl,
    Html,
    Qlik,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Hashed {
    Md5,
    Sha256,
}

impl From<Hashed> for QlikForm {
    fn from(form: Hashed) -> Self {
        match form {
            Hashed::Md5 => Self::Md5,
            Hashed::Sha256 => Self::Sha256,
        }
    }
}

pub(super) fn state(args: StateArgs, site: &dyn Site) -> Result<Exit, Failure> {
    let at = args.at.as_deref().map(|text| time(text, Edge::End)).transpose()?;
    args.holders.ask(site, |license, opening| State::new(at, license, opening))
}

impl Holders {
    fn ask<Q: Question>(
        self,
        site: &dyn Site,
        question: impl FnOnce(Option<String>, &[OpeningHolder]) -> Q,
    ) -> Result<Exit, Failure> {
        let sources = self.asking.find(site, self.opening.is_some())?;
        let opening = opened_with(self.opening.as_deref(), &sources)?;
        self.asking.ask(sources, &mut question(license(self.license)?, &opening))
    }
}

pub(super) fn changes(args: PeriodArgs, site: &dyn Site) -> Result<Exit, Failure> {
    let period = args.period.period()?;
    args.asking.ask(args.asking.find(site, false)?, &mut Changes::new(period, license(args.license)?))
}

pub(super) fn reconcile(args: ReconcileArgs, site: &dyn Site) -> Result<Exit, Failure> {
    let period = args.period.period()?;
    args.holders.ask(site, |license, opening| Reconcile::new(period, license, opening))
}

pub(super) fn churn(args: ChurnArgs, site: &dyn Site) -> Result<Exit, Failure> {
    let within = length(&args.within).ok_or_else(|| {
        let words = format!("--within \"{}\" is no length of time; write 90m, 36h or 7d", args.within);
        Failure::new(Exit::Usage, words)
    })?;
    args.asking.ask(args.asking.find(site, false)?, &mut Churn::new(within))
}

pub(super) fn gaps(args: GapsArgs, site: &dyn Site) -> Result<Exit, Failure> {
    args.asking.ask(args.asking.find(site, false)?, &mut Gaps::default())
}

pub(super) fn consumption(args: ConsumptionArgs, site: &dyn Site) -> Result<Exit, Failure> {
    let wrong =
        |month: &String| format!("{month}-01").parse::<jiff::civil::Date>().is_err() || month.len() != 7;
    if let Some(month) = args.month.as_ref().filter(|month| wrong(month)) {
        return Err(Failure::new(Exit::Usage, format!("--month \"{month}\" is no month; write 2026-06")));
    }
    args.asking.ask(args.asking.find(site, false)?, &mut Consumed::new(args.month))
}

pub(super) fn deployments(args: DeploymentsArgs, site: &dyn Site) -> Result<Exit, Failure> {
    let sources = args.asking.find(site, false)?;
    let called = called(args.sources.as_ref().or(sources.allow_list.as_ref()), site)?;
    args.asking.ask(sources, &mut Users::new(called))
}

/// What the allow-list calls deployments, where there is one.
pub(super) fn called(allow_list: Option<&PathBuf>, site: &dyn Site) -> Result<DeploymentNames, Failure> {
    allow_list.map(|file| site.deployment_names(file)).transpose().map(Option::unwrap_or_default)
}

pub(super) fn denied(args: DeniedArgs, site: &dyn Site) -> Result<Exit, Failure> {
    let period = args.period.period()?;
    args.asking.ask(args.asking.find(site, false)?, &mut Refused::new(period))
}

/// An alias stands behind the records that it joins: so the aliases are looked for first, in a pass that verifies nothing and
/// costs a fraction of the reading that the answer is made of.
pub(super) fn history(args: HistoryArgs, site: &dyn Site) -> Result<Exit, Failure> {
    let sources = args.asking.find(site, args.subject.is_some())?;
    let mut search = args.hash.as_deref().map(Search::new);
    let named = args.subject.as_deref().map(|name| hidden(name, &sources)).transpose()?;
    let mut aliases = Aliases::default();
    let is_alias = |entry: &Entry<'_>| &*entry.action == "audit.alias";
    let looked_for = args.hash.as_deref().map(Search::new);
    let wanted =
        |entry: &Entry<'_>| is_alias(entry) || looked_for.as_ref().is_some_and(|search| search.is_in(entry));
    merge::find(&sources.logs, progress(), wanted, |entry| {
        if let Some(search) = &mut search {
            search.take(entry);
        }
        if is_alias(entry) {
            aliases.take(entry);
        }
    })?;
    let person = match (named, search) {
        (Some(keys), _) => aliases.all_of(keys.into_iter().map(|(_, pseudonym)| pseudonym)),
        // A whole one that the log does not have is answered: nothing is about that person.
        (None, Some(search)) if search.found.is_empty() && search.is_whole() => search.all(),
        (None, search) => found(&aliases, search.map(|search| search.found).unwrap_or_default())?,
    };
    args.asking.ask(sources, &mut History::new(person))
}

/// The one person that a part of a pseudonym was found to be of.
fn found(aliases: &Aliases, all: BTreeSet<String>) -> Result<BTreeSet<String>, Failure> {
    let Some(first) = all.first().cloned() else {
        return Err(Failure::new(
            Exit::Usage,
            "no pseudonym in this log is, or begins with, what --hash says",
        ));
    };
    let person = aliases.all_of([first.clone()]);
    match all.iter().find(|other| !person.contains(*other)) {
        Some(other) => {
            let words = format!(
                "several people's pseudonyms begin with what --hash says: {first}, {other}; give more of it"
            );
            Err(Failure::new(Exit::Usage, words))
        }
        None => Ok(person),
    }
}

pub(super) fn subject(args: SubjectArgs, site: &dyn Site) -> Result<Exit, Failure> {
    if let Some(form) = args.qlik_form {
        site.reads_none("--qlik-form")?;
        outln!("{}", qlik_form(&Subject::new(&args.name), form.into()));
        return Ok(Exit::Fine);
    }
    let sources = args.asking.find(site, true)?;
    let keys = hidden(&args.name, &sources)?;
    args.asking.ask(sources, &mut Hits::new(keys))
}

/// What may stand for a name in these logs, each with the id of its key. Without a key nobody is found, and that must not
/// look like nothing.
fn hidden(name: &str, sources: &FoundSources) -> Result<Vec<(String, String)>, Failure> {
    let Some(keys) = &sources.keys else {
        let why = sources.notes.first().map_or("no key was given (--subject-key)", String::as_str);
        let words = format!(
            "{why}: without it a name can't be looked for in a log whose people are pseudonyms; where audit.subject is \"raw\", \
             say: history --hash 'raw:domain\\user'"
        );
        return Err(Failure::new(Exit::Usage, words));
    };
    if !name.contains(['\\', '/']) {
        note!(
            "{}: warning: \"{name}\" has no domain; most people have one: 'DOMAIN\\{name}'",
            stderr::program()
        );
    }
    let raw = pseudonyms(name, None, sources.case).into_iter().map(|one| ("(in clear)".to_owned(), one));
    Ok(keys.of_all(&Subject::new(name)).into_iter().chain(raw).collect())
}

pub(super) fn export(args: ExportArgs, site: &dyn Site) -> Result<Exit, Failure> {
    let period = args.period.period_beside_out()?;
    let form = args.form()?;
    let out = args.out.as_deref();
    if args.format != Some(ExportForm::Qlik) {
        return args.asking.ask_into(out, args.asking.find(site, false)?, &mut Flat::new(period), form);
    }
    let sources = args.asking.find(site, true)?;
    if args.asking.who.names.is_none() || sources.keys.is_none() {
        let why = sources.notes.first().cloned().unwrap_or_default();
        let words =
            format!("--format qlik needs --names and --subject-key: it hides people in another way {why}");
        return Err(Failure::new(Exit::Usage, words.trim_end()));
    }
    let mut question = AsQlik::new(period, args.qlik_form.unwrap_or(Hashed::Md5).into());
    args.asking.ask_into(out, sources, &mut question, form)
}

impl ExportArgs {
    /// The form that `--format`, `--json` and `--csv` ask for together.
    fn form(&self) -> Result<Form, Failure> {
        let refused = |words| Err(Failure::new(Exit::Usage, words));
        if self.qlik_form.is_some() && self.format != Some(ExportForm::Qlik) {
            return refused("--qlik-form is for --format qlik alone; add that, or leave --qlik-form out");
        }
        let Output { json, csv } = self.asking.output;
        match self.format {
            Some(ExportForm::Csv) if json => {
                refused("--json contradicts --format csv; leave one of them out")
            }
            Some(ExportForm::Jsonl) if json => {
                refused("--json contradicts --format jsonl; leave one of them out")
            }
            Some(ExportForm::Jsonl) if csv => {
                refused("--csv contradicts --format jsonl; leave one of them out")
            }
            Some(ExportForm::Html) if json || csv => {
                refused("--format html is neither JSON nor CSV; leave --json and --csv out")
            }
            Some(ExportForm::Jsonl) => Ok(Form::JsonLines),
            Some(ExportForm::Html) => Ok(Form::Html),
            _ if json => Ok(Form::Json),
            _ => Ok(Form::Csv),
        }
    }
}

fn license(text: Option<String>) -> Result<Option<String>, Failure> {
    let parse = |text: String| {
        let number: Result<LicenseNumber, _> = text.parse();
        number
            .map(|number| number.to_string())
            .map_err(|e| Failure::new(Exit::Usage, format!("--license {text}: {e}")))
    };
    text.map(parse).transpose()
}
