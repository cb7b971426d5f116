//! The command line: one file a verb, and what each failure is as an exit code.

mod audit;
mod ca;
mod check;
mod demo;
mod serve;
mod sources;
mod stub;
mod vocabulary;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::bounds;
use crate::config::model::Config;
use crate::config::{self, Problems};
use crate::observe::lines;
use crate::relay::StartError;
use crate::report::table::printable;

/// How the program ends (sysexits.h, and two of our own).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Exit {
    /// A step of the demo, or a hop, failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 64,
    /// A mistake of ours, or of the system's.
    Internal = 70,
    /// The log can't be written.
    LogLost = 74,
    /// Another one runs, or the port is taken.
    Running = 75,
    /// The log is behind one of its checkpoints, or differs from it.
    WentBack = 76,
    /// The configuration, or a file it names, is wrong.
    Configuration = 78,
}

/// Why a verb failed: what is told, and the exit code.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    words: String,
}

impl Failure {
    fn new(exit: Exit, words: impl ToString) -> Self {
        Self { exit, words: words.to_string() }
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "license-relay",
    version,
    about,
    max_term_width = 100,
    after_help = "Example:\n  license-relay demo"
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
    Demo(demo::Demo),
    /// Check the configuration and every file it names; changes nothing
    #[command(
        after_help = "Example:\n  license-relay check --config relay.toml && systemctl reload license-relay"
    )]
    Check,
    /// The root that clients must trust, and the issuer below it
    #[command(after_help = "Example:\n  license-relay ca show")]
    Ca(ca::Ca),
    /// Who may ask: the list, who was refused lately, and the one command that lets them in
    #[command(after_help = "Example:\n  license-relay sources pending")]
    Sources(sources::Sources),
    /// The assignment log: who held what, is it whole, and keeping it
    Audit(audit::Audit),
    /// What messages call things: the names in force, and proposals for messages that were not understood
    #[command(after_help = "Example:\n  license-relay vocabulary suggest")]
    Vocabulary(vocabulary::Words),
    /// The stand-in for the license back end, alone
    Stub(stub::Stub),
}

/// Parses the arguments, runs the verb, and gives its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no errors; clap itself would end with 2 for all that are.
            let exit = if e.use_stderr() { Exit::Usage as u8 } else { 0 };
            let _ = e.print();
            return ExitCode::from(exit);
        }
    };
    let done = match cli.verb {
        Verb::Check => check::run(&config::locate(cli.config)),
        Verb::Ca(args) => ca::run(args, &config::locate(cli.config)),
        Verb::Sources(args) => sources::run(args, &config::locate(cli.config)),
        Verb::Vocabulary(args) => vocabulary::run(args, &config::locate(cli.config)),
        Verb::Serve => on_runtime(serve::run(config::locate(cli.config))),
        Verb::Demo(args) => on_runtime(demo::run(args)),
        Verb::Audit(args) => {
            let mut exit = 0;
            let done = on_runtime(async {
                exit = audit::run(args, cli.config).await?;
                Ok(())
            });
            if done.is_ok() && exit != 0 {
                return ExitCode::from(exit);
            }
            done
        }
        Verb::Stub(args) => {
            on_runtime(async { stub::run(args).await.map_err(|e| Failure::new(Exit::Internal, e)) })
        }
    };
    let code = match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { exit, words }) => {
            // Behind all that the log has said.
            if !words.is_empty() {
                lines::write(format!("license-relay: {}\n", printable(&words)).into_bytes());
            }
            ExitCode::from(exit as u8)
        }
    };
    // A reader that has stopped reading holds up no exit.
    lines::flush(bounds::LOG_FLUSH);
    code
}

fn on_runtime(verb: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime
        .map_err(|e| Failure::new(Exit::Internal, format!("no threads can be started: {e}")))?
        .block_on(verb)
}

/// Reads the configuration; its warnings go to standard error, its errors end the verb.
fn load(path: &std::path::Path) -> Result<Config, Failure> {
    let (config, warnings) = config::file::load(path).map_err(configuration)?;
    for warning in &warnings.0 {
        eprintln!("license-relay: warning: {warning}");
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
            StartError::Setup(_)
            | StartError::SubjectKey(_)
            | StartError::SigningKey(_)
            | StartError::Log(OpenError::Foreign { .. }) => Exit::Configuration,
            StartError::Log(OpenError::WentBack { .. } | OpenError::Unproven { .. }) => Exit::WentBack,
            StartError::Log(OpenError::Locked { .. }) | StartError::Bind(..) => Exit::Running,
            StartError::Log(OpenError::Io { .. } | OpenError::Flagged { .. })
            | StartError::FirstRecord(_) => Exit::LogLost,
        };
        Self::new(exit, e)
    }
}
