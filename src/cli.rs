//! The command line: one file a verb, and what each failure is as an exit code.

mod ask;
mod audit;
mod ca;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod reload;
mod renamed;
mod runtime;
mod serve;
mod sources;
#[cfg(feature = "demo")]
mod stub;
mod vocabulary;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::model::Config;
use crate::config::{self, Problems};
use crate::listen::local::LocalError;
use crate::relay::StartError;
use crate::setup::SetupError;
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::{self, note, out};
use relay_log::file_size;

/// What somebody who has just installed it may run without any configuration.
const EXAMPLE: &str = if cfg!(feature = "demo") { "demo" } else { "help serve" };

#[derive(Debug, Parser)]
#[command(
    name = "license-relay",
    version,
    about,
    max_term_width = 100,
    after_help = format!("Exit codes:\n{}\nExample:\n  license-relay {EXAMPLE}", Exit::table("  "))
)]
struct Cli {
    /// The configuration [default: $LICENSE_RELAY_CONFIG, else config/relay.toml, else
    /// /etc/license-relay/relay.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the relay; makes the certificates, keys and folders that are missing
    #[command(after_help = "Example:\n  license-relay serve --config /etc/license-relay/relay.toml")]
    Serve,
    /// See the whole job done on this machine: a stub back end, the relay, a deployment
    #[command(after_help = "Example:\n  license-relay demo --keep")]
    #[cfg(feature = "demo")]
    Demo(demo::Demo),
    /// Check the configuration and every file it names, and say what its limits add up to; changes nothing
    #[command(
        after_help = "Examples:\n  license-relay check --config relay.toml && systemctl reload license-relay\n  \
                      license-relay check --replay"
    )]
    Check(check::Check),
    /// Have the running relay read all its files again, and see what is in force then
    #[command(after_help = "Example:\n  license-relay reload --config /etc/license-relay/relay.toml")]
    Reload(reload::Reload),
    /// The root that clients must trust, and the issuer below it
    #[command(after_help = "Example:\n  license-relay ca show")]
    Ca(ca::Ca),
    /// Who may ask: the list, who was refused lately, and the one command that lets them in
    #[command(after_help = "Example:\n  license-relay sources pending")]
    Sources(sources::SourcesCommand),
    /// The assignment log: who held what, is it whole, and keeping it
    #[command(after_help = "Example:\n  license-relay audit verify")]
    Audit(audit::AuditCommand),
    /// What messages call things: the names in force, and proposals for messages that were not understood
    #[command(after_help = "Example:\n  license-relay vocabulary suggest")]
    Vocabulary(vocabulary::VocabularyCommand),
    /// The stand-in for the license back end, alone
    #[cfg(feature = "demo")]
    Stub(stub::Stub),
}

/// Parses the arguments, runs the verb, and gives its exit code.
pub fn main() -> ExitCode {
    if let Err(e) = file_size::take_signal() {
        note!(
            "license-relay: warning: a file that reaches the limit of file sizes will end this process ({e})"
        );
    }
    let done = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(e) => explain(&e),
    };
    ExitCode::from(out::finish(done) as u8)
}

/// Help and version are no errors; clap itself would end with 2 for all that are.
fn explain(e: &clap::Error) -> Result<Exit, Failure> {
    if let Some(words) = renamed::named_anew(e) {
        return Err(Failure::new(Exit::Usage, words));
    }
    if e.use_stderr() {
        out::say(e.render().to_string().trim_end());
        return Ok(Exit::Usage);
    }
    out!("{}", e.render());
    Ok(Exit::Fine)
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let fine = |()| Exit::Fine;
    match cli.verb {
        Verb::Check(args) => check::run(args, &config::locate(cli.config)),
        Verb::Reload(args) => reload::run(&args, &config::locate(cli.config)).map(fine),
        Verb::Ca(args) => ca::run(args, &config::locate(cli.config)).map(fine),
        Verb::Sources(args) => sources::run(args, &config::locate(cli.config)).map(fine),
        Verb::Vocabulary(args) => vocabulary::run(args, &config::locate(cli.config)).map(fine),
        Verb::Serve => serve::run(&config::locate(cli.config)).map(fine),
        #[cfg(feature = "demo")]
        Verb::Demo(args) => {
            reads_none(cli.config.as_deref(), "demo")?;
            runtime::on_workers(0, demo::run(args)).map(fine)
        }
        Verb::Audit(args) => runtime::alone(audit::run(args, cli.config)),
        #[cfg(feature = "demo")]
        Verb::Stub(args) => {
            reads_none(cli.config.as_deref(), "stub")?;
            runtime::on_workers(0, stub::run(args)).map(fine)
        }
    }
}

/// Refuses a configuration where none is read.
#[cfg(any(feature = "report", feature = "demo"))]
fn reads_none(config: Option<&Path>, what: &str) -> Result<(), Failure> {
    let refused = |_| Failure::new(Exit::Usage, format!("{what} reads no configuration; leave --config out"));
    config.map_or(Ok(()), |file| Err(refused(file)))
}

/// Reads the configuration; its warnings go to standard error, its errors end the verb.
fn load(path: &Path) -> Result<Config, Failure> {
    warned(config::file::load(path))
}

/// As [`load`], whatever is wrong with other files than the configuration itself.
fn load_alone(path: &Path) -> Result<Config, Failure> {
    warned(config::file::load_alone(path))
}

fn warned(loaded: Result<(Config, Problems), Problems>) -> Result<Config, Failure> {
    let (config, warnings) = loaded.map_err(configuration)?;
    for warning in &warnings.0 {
        note!("license-relay: warning: {warning}");
    }
    Ok(config)
}

fn configuration(problems: Problems) -> Failure {
    let count = problems.0.len();
    let words = match count {
        1 => problems.to_string(),
        _ => format!("{count} problems:\n{problems}"),
    };
    Failure::new(Exit::Configuration, words.trim_end())
}

impl From<StartError> for Failure {
    fn from(e: StartError) -> Self {
        use crate::audit::recover::OpenError;
        let exit = match &e {
            StartError::Setup(SetupError::File { cause, .. }) => {
                Exit::of_edit(cause).unwrap_or(Exit::Configuration)
            }
            StartError::SubjectKey(e) => e.of_edit().and_then(Exit::of_edit).unwrap_or(Exit::Configuration),
            StartError::Setup(_) | StartError::SigningKey(_) | StartError::Log(OpenError::Foreign { .. }) => {
                Exit::Configuration
            }
            StartError::Log(OpenError::WentBack { .. } | OpenError::Unproven { .. }) => Exit::WentBack,
            StartError::Socket { cause: LocalError::Io(_), .. } => Exit::Io,
            StartError::Socket { cause: LocalError::TooLong(_) | LocalError::Taken(..), .. } => {
                Exit::Configuration
            }
            StartError::Socket { cause: LocalError::InUse, .. }
            | StartError::Log(OpenError::Locked { .. })
            | StartError::Bind(..) => Exit::Running,
            StartError::Log(OpenError::Thread(_)) => Exit::Internal,
            StartError::Log(OpenError::Io { .. } | OpenError::Flagged { .. })
            | StartError::FirstRecord(_) => Exit::Io,
        };
        Self::new(exit, e)
    }
}
