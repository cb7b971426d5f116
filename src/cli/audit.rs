//! `license-relay audit`: is the log whole, what does it say, and the way out where it is not.

mod key;
mod prune;
#[cfg(feature = "report")]
pub(super) mod site;

use std::path::PathBuf;

use super::load;
use crate::audit::fork::{self, ForkError, Forked};
use crate::audit::recover::OpenError;
use crate::config;
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::outln;
use relay_log::text::terminal::printable;

/// The assignment log: ask it, check it, keep it.
#[derive(Debug, clap::Args)]
pub(super) struct AuditCommand {
    #[command(subcommand)]
    action: AuditVerb,
}

#[derive(Debug, clap::Subcommand)]
enum AuditVerb {
    #[cfg(feature = "report")]
    #[command(flatten)]
    Read(Box<relay_report::verbs::Verb>),
    /// Put a log aside that can't be written to any more, and begin one that names it; needs the relay stopped
    #[command(
        after_help = "Example:\n  license-relay audit fork --reason \"restored from the backup of 24 November after a disk failure\""
    )]
    Fork {
        /// Why; it becomes the first record of the new log
        #[arg(long, value_name = "WORDS")]
        reason: String,
    },
    /// The keys that people's pseudonyms are made under
    #[command(after_help = "Example:\n  license-relay audit key list")]
    Key(key::KeyCommand),
    /// Remove what is older than a time, by whole segments; hashes and checkpoints stay, so that what is left is proven as
    /// before
    #[command(after_help = prune::HELP)]
    Prune(prune::Prune),
}

/// Runs the verb.
pub(super) async fn run(args: AuditCommand, config: Option<PathBuf>) -> Result<Exit, Failure> {
    match args.action {
        #[cfg(feature = "report")]
        AuditVerb::Read(verb) => relay_report::verbs::run(*verb, &site::ConfiguredSite(config)),
        AuditVerb::Prune(args) => prune::run(args, config).await,
        AuditVerb::Fork { reason } => {
            let config = load(&config::locate(config))?;
            let Forked { origin, predecessor, kept } = fork::fork(&config.audit, &reason).await?;
            let words = format!(
                "the log {} ({} records, root {}) lies in {} now;\n{origin} goes on from it, and its first record says why",
                predecessor.origin,
                predecessor.size,
                predecessor.root,
                kept.display()
            );
            outln!("{}", printable(&words));
            Ok(Exit::Fine)
        }
        AuditVerb::Key(args) => key::run(args, config).await.map(|()| Exit::Fine),
    }
}

impl From<ForkError> for Failure {
    fn from(e: ForkError) -> Self {
        let exit = match &e {
            ForkError::Open(OpenError::Locked { .. }) => Exit::Running,
            ForkError::Key(_) | ForkError::NoLog(_) | ForkError::Open(OpenError::Foreign { .. }) => {
                Exit::Configuration
            }
            ForkError::Open(OpenError::WentBack { .. } | OpenError::Unproven { .. }) => Exit::WentBack,
            ForkError::Open(OpenError::Thread(_)) => Exit::Internal,
            ForkError::Open(_) | ForkError::Io { .. } | ForkError::FirstRecord(_) => Exit::Io,
        };
        Self::new(exit, e)
    }
}
