//! `license-relay audit`: is the log whole, and the way out where it is not.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use super::{Exit, Failure, load};
use crate::audit::fork::{self, ForkError, Forked};
use crate::audit::recover::OpenError;
use crate::config;
use crate::report::evidence::{member, text};
use crate::report::verify::verify;

/// The assignment log.
#[derive(Debug, clap::Args)]
pub(super) struct Audit {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Check every line, checkpoint and anchor; reads only, works on a copy and while a relay writes
    #[command(
        after_help = "Exit codes: 0 fine, 1 damaged, 2 rolled back against an anchor, 3 the end is not signed and too old \
                      for that, 4 whole, with gaps that the log itself tells of\n\n\
                      Examples:\n  license-relay audit verify\n  \
                      license-relay audit verify --log /mnt/copy/audit --anchor /mnt/anchor --anchor syslog.txt"
    )]
    Verify(Verify),
    /// Put a log aside that can't be written to any more, and begin one that names it; needs the relay stopped
    #[command(
        after_help = "Example:\n  license-relay audit fork --reason \"restored from the backup of 24 November after a disk failure\""
    )]
    Fork {
        /// Why; it becomes the first record of the new log
        #[arg(long, value_name = "WORDS")]
        reason: String,
    },
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// The folder of a log, the one with segments/ in it; may repeat. Without it: the configured one
    #[arg(long, value_name = "DIR")]
    log: Vec<PathBuf>,
    /// A folder or file with a checkpoint that was kept elsewhere, or a program's log with such lines; may repeat
    #[arg(long, value_name = "PATH")]
    anchor: Vec<PathBuf>,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Runs the verb; a log that is not fine is no failure of ours, but an exit code.
pub(super) async fn run(args: Audit, config: Option<PathBuf>) -> Result<u8, Failure> {
    match args.action {
        Action::Verify(args) => run_verify(args, config),
        Action::Fork { reason } => {
            let config = load(&config::locate(config))?;
            let Forked { origin, predecessor, kept } = fork::fork(&config.audit, &reason).await?;
            println!(
                "the log {} ({} records, root {}) lies in {} now;\n{origin} goes on from it, and its first record says why",
                predecessor.origin,
                predecessor.size,
                predecessor.root,
                kept.display()
            );
            Ok(0)
        }
    }
}

fn run_verify(args: Verify, config: Option<PathBuf>) -> Result<u8, Failure> {
    let mut anchors = args.anchor;
    let logs = if args.log.is_empty() {
        let config = load(&config::locate(config))?;
        // What the configuration names is an anchor as well, as far as it is in reach.
        anchors.extend(config.audit.anchors.into_iter().filter(|anchor| anchor.exists()));
        vec![config.audit.directory]
    } else {
        args.log
    };
    let mut worst = 0;
    for log in logs {
        let shown = std::io::stderr().is_terminal();
        let progress = |records: u64| {
            if shown {
                eprintln!("{records} records …");
            }
        };
        let verified =
            verify(&log, &anchors, progress).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
        let verdict = verified.verdict();
        if args.json {
            println!("{:#}", member(&verified));
        } else {
            text(&verified).iter().for_each(|line| println!("{line}"));
        }
        worst = match (worst, verdict as u8) {
            (0, one) | (one, 0) => one,
            (a, b) => a.min(b),
        };
    }
    Ok(worst)
}

impl From<ForkError> for Failure {
    fn from(e: ForkError) -> Self {
        let exit = match &e {
            ForkError::Open(OpenError::Locked { .. }) => Exit::Running,
            ForkError::Key(_) | ForkError::NoLog(_) => Exit::Configuration,
            _ => Exit::LogLost,
        };
        Self::new(exit, e)
    }
}
