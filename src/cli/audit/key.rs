//! `license-relay audit key`: which keys pseudonyms are made under, a new one, and destroying an old one.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::super::load;
use crate::audit::offline_append::{Visit, VisitError};
use crate::audit::recover::OpenError;
use crate::config;
use crate::config::model::Audit;
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::show;
use relay_log::console::out::{self, outln};
use relay_log::files::regular::is_missing;
use relay_log::ledger::action::{Action, Outcome};
use relay_log::ledger::record::Record;
use relay_log::ledger::subject::SubjectForm;
use relay_log::ledger::subject::keys::{KeyError, Keys, retired_file};
use relay_log::ledger::subject::rollover::{self, RollOver};
use relay_log::text::terminal::printable;

/// The keys that people's pseudonyms are made under.
#[derive(Debug, clap::Args)]
pub(super) struct KeyCommand {
    #[command(subcommand)]
    verb: KeyVerb,
}

#[derive(Debug, clap::Subcommand)]
enum KeyVerb {
    /// Show the newest key and the retired ones: id, file, and when it was made; never the key itself
    #[command(after_help = "Example:\n  license-relay audit key list")]
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Retire the newest key, and make another; needs the relay stopped
    #[command(
        after_help = "The retired key is kept beside the new one, so that people's history stays joined: the relay links a \
                      person's old pseudonym to the new one when it sees the person next. Relays that share the key need \
                      both files before they start again.\n\nExample:\n  systemctl stop license-relay && license-relay audit \
                      key new && systemctl start license-relay"
    )]
    New,
    /// Destroy a retired key, so that nobody can resolve names under it any more; asks first, needs the relay stopped
    #[command(
        after_help = "The log stays whole: pseudonyms under the key can still be counted. Those of people who were seen since are \
                      linked to newer ones. Copies of the key in backups must be destroyed as well.\n\nExample:\n  \
                      license-relay audit key destroy k2025"
    )]
    Destroy {
        /// The key, as `audit key list` shows it
        #[arg(value_name = "ID")]
        id: String,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
}

/// Runs an `audit key` verb.
pub(super) async fn run(args: KeyCommand, config: Option<PathBuf>) -> Result<(), Failure> {
    let audit = load(&config::locate(config))?.audit;
    let raw = audit.subject == SubjectForm::Raw;
    match args.verb {
        KeyVerb::List { json } => list(&audit, raw, json),
        KeyVerb::New | KeyVerb::Destroy { .. } if raw => Err(Failure::new(Exit::Configuration, NO_KEYS)),
        KeyVerb::New => new(&audit).await,
        KeyVerb::Destroy { id, yes } => destroy(&audit, &id, yes).await,
    }
}

const NO_KEYS: &str =
    "audit.subject is \"raw\": people stand in the log by name, and there are no keys of pseudonyms";

fn list(audit: &Audit, raw: bool, json: bool) -> Result<(), Failure> {
    let path = &audit.subject_key;
    let none = raw || is_missing(path);
    let keys = if none { None } else { Some(read(audit)?) };
    let rows: Vec<KeyRow> = keys.iter().flat_map(rows).collect();
    if json {
        let rows: Vec<_> = rows.iter().map(KeyRow::json).collect();
        outln!("{:#}", json!(rows));
    } else if raw {
        outln!("{NO_KEYS}");
    } else if none {
        show(format!("{} is not there yet; the relay makes the first key when it starts", path.display()));
    } else {
        rows.iter().for_each(|row| show(row.text()));
    }
    Ok(())
}

struct KeyRow {
    id: Option<String>,
    state: &'static str,
    file: PathBuf,
}

fn rows(keys: &Keys) -> Vec<KeyRow> {
    let usable = keys.all().enumerate().map(|(at, key)| KeyRow {
        id: Some(key.id.clone()),
        state: if at == 0 { "newest" } else { "retired" },
        file: key.file.clone(),
    });
    let unusable =
        keys.unusable().iter().map(|file| KeyRow { id: None, state: "unusable", file: file.clone() });
    usable.chain(unusable).collect()
}

impl KeyRow {
    fn text(&self) -> String {
        let id = self.id.as_deref().unwrap_or("-");
        let made = self.made().unwrap_or_else(|| "unknown".into());
        let line = format!("{id:<12} {:<8} made {made}  {}", self.state, self.file.display());
        match self.id {
            Some(_) => line,
            None => format!("{line}: holds no key of the id that it is named by"),
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({ "id": self.id, "state": self.state, "made": self.made(), "file": self.file })
    }

    /// When the file was written; copies may have lost it.
    fn made(&self) -> Option<String> {
        let written = fs::metadata(&self.file).ok()?.modified().ok()?;
        Some(format!("{:.0}", Timestamp::try_from(written).ok()?))
    }
}

async fn new(audit: &Audit) -> Result<(), Failure> {
    let visit = Visit::begin(audit)?;
    let done = roll_over(audit, &visit).await;
    visit.end().await;
    let (old, new, retired) = done?;
    let words = format!(
        "{new} is the newest key from the relay's next start on, in {};\n{old} is retired, and lies in {}.\nBack up the new \
         one, apart from the log. Relays that share it need both files before they start again.",
        audit.subject_key.display(),
        retired.display()
    );
    outln!("{}", printable(&words));
    Ok(())
}

async fn roll_over(audit: &Audit, visit: &Visit) -> Result<(String, String, PathBuf), Failure> {
    let prepared = RollOver::prepare(&audit.subject_key, &read(audit)?)?;
    let (old, new, retired) = (prepared.old.clone(), prepared.new.clone(), prepared.retired.clone());
    visit.write(vec![record(&old, "retired"), record(&new, "made")]).await?;
    prepared.finish().map_err(|e| {
        let words = match e.is_written() {
            true => format!("{new} is the newest key: {e}"),
            false => {
                format!(
                    "the log says that {new} was made, but it could not be put in place: {e}; run this again"
                )
            }
        };
        Failure::new(Exit::Io, words)
    })?;
    Ok((old, new, retired))
}

async fn destroy(audit: &Audit, id: &str, yes: bool) -> Result<(), Failure> {
    let file = destructible(audit, id)?;
    Visit::is_possible(audit)?;
    if !yes {
        ask(id, &file)?;
    }
    let visit = Visit::begin(audit)?;
    let done = destroy_recorded(audit, id, &visit).await;
    visit.end().await;
    done?;
    show(format!("{id} is destroyed, and the log says so"));
    Ok(())
}

async fn destroy_recorded(audit: &Audit, id: &str, visit: &Visit) -> Result<(), Failure> {
    // Somebody may have been faster while this asked.
    let file = destructible(audit, id)?;
    visit.write(vec![record(id, "destroyed")]).await?;
    rollover::destroy(&file).map_err(|e| {
        let words = match e.is_written() {
            true => format!("{id} is destroyed: {e}"),
            false => format!("the log says that {id} is destroyed, but it could not be: {e}; run this again"),
        };
        Failure::new(Exit::Io, words)
    })
}

/// The file of a key that may be destroyed: a retired one, or what is left of one.
fn destructible(audit: &Audit, id: &str) -> Result<PathBuf, Failure> {
    let keys = read(audit)?;
    if keys.newest().id == id {
        let words = format!(
            "{id} is the newest key, which pseudonyms are made under; retire it first: license-relay audit key new"
        );
        return Err(Failure::new(Exit::Usage, words));
    }
    let left = retired_file(&audit.subject_key, id);
    let retired = keys.retired().iter().find(|key| key.id == id).map(|key| &key.file);
    if let Some(file) = retired.or_else(|| keys.unusable().iter().find(|file| **file == left)) {
        return Ok(file.clone());
    }
    let there: Vec<&str> = keys.retired().iter().map(|key| key.id.as_str()).collect();
    let there =
        if there.is_empty() { "none is".to_owned() } else { format!("retired are: {}", there.join(", ")) };
    Err(Failure::new(Exit::Usage, format!("there is no retired key {id:?}; {there}")))
}

fn ask(id: &str, file: &Path) -> Result<(), Failure> {
    let words = format!(
        "This destroys the key {id} ({}) for good. Names under it can't be resolved any more, neither in this log nor in any \
         copy of it: those pseudonyms can only be counted. A backup that holds this key must be destroyed as well.\nType \
         {id} to destroy it: ",
        file.display()
    );
    out::ask(&printable(&words));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && answer.trim_end_matches(['\r', '\n']) == id {
        return Ok(());
    }
    Err(Failure::new(Exit::Usage, format!("{id} was not typed; nothing was destroyed")))
}

fn read(audit: &Audit) -> Result<Keys, KeyError> {
    Keys::read(&audit.subject_key, audit.subject_case)
}

fn record(id: &str, what: &str) -> Record {
    let mut record = Record::new(Action::AuditKey, Uuid::now_v7());
    record.outcome = Outcome::Success;
    record.reason = what.into();
    record.qlik.key_id = Some(id.into());
    record
}

impl From<VisitError> for Failure {
    fn from(e: VisitError) -> Self {
        let exit = match &e {
            VisitError::Open(OpenError::Locked { .. }) => Exit::Running,
            VisitError::Open(OpenError::Thread(_)) => Exit::Internal,
            VisitError::Open(OpenError::WentBack { .. } | OpenError::Unproven { .. }) => Exit::WentBack,
            VisitError::NoLog(_) | VisitError::Key(_) | VisitError::Open(OpenError::Foreign { .. }) => {
                Exit::Configuration
            }
            VisitError::Open(_) | VisitError::Commit(_) => Exit::Io,
        };
        Self::new(exit, e)
    }
}
