//! `license-relay audit`: is the log whole, and the way out where it is not.

mod hand_over;
mod kit;
mod prove;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use super::{Exit, Failure, load};
use crate::audit::fork::{self, ForkError, Forked};
use crate::audit::recover::OpenError;
use crate::config;
use crate::report::verify::{Verdict, Verified, verify};

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
    /// Show that one record is in the log, without showing any other; or check such a proof
    #[command(after_help = prove::HELP)]
    Prove(prove::Prove),
    /// All that an auditor needs in one zip: the log, its checkpoints and key, and how to check them without this program
    #[command(after_help = kit::HELP)]
    Kit(kit::Kit),
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
        Action::Prove(args) => prove::run(args, config),
        Action::Kit(args) => kit::run(args, config),
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
    let (logs, anchors) = named(args.log, args.anchor, config)?;
    let mut worst = 0;
    for log in logs {
        let verified =
            verify(&log, &anchors, progress).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
        let verdict = verified.verdict();
        if args.json {
            let mut json = serde_json::to_value(&verified).unwrap_or_default();
            json["verdict"] = word(verdict).into();
            println!("{json:#}");
        } else {
            print!("{}", text(&log, &verified, verdict));
        }
        worst = worse(worst, verdict);
    }
    Ok(worst)
}

/// The logs and anchors of the command line; without a log, those of the configuration.
fn named(
    logs: Vec<PathBuf>,
    mut anchors: Vec<PathBuf>,
    config: Option<PathBuf>,
) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Failure> {
    if !logs.is_empty() {
        return Ok((logs, anchors));
    }
    let config = load(&config::locate(config))?;
    // What the configuration names is an anchor as well, as far as it is in reach.
    anchors.extend(config.audit.anchors.into_iter().filter(|anchor| anchor.exists()));
    Ok((vec![config.audit.directory], anchors))
}

/// Tells a person who waits how far it is.
fn progress(records: u64) {
    if std::io::stderr().is_terminal() {
        eprintln!("{records} records …");
    }
}

/// The exit code of several logs is that of the worst.
fn worse(so_far: u8, verdict: Verdict) -> u8 {
    match (so_far, verdict as u8) {
        (0, one) | (one, 0) => one,
        (a, b) => a.min(b),
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fine => "fine",
        Verdict::Damaged => "damaged",
        Verdict::RolledBack => "rolled back",
        Verdict::StaleTail => "unsigned end",
        Verdict::Gaps => "gaps",
    }
}

fn text(log: &Path, verified: &Verified, verdict: Verdict) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("{}: {}", log.display(), word(verdict)));
    for fault in &verified.damage {
        line(format!("  damaged: {fault}"));
    }
    if verified.damages > verified.damage.len() as u64 {
        line(format!("  and {} more of these", verified.damages - verified.damage.len() as u64));
    }
    for fault in &verified.rolled_back {
        line(format!("  rolled back: {fault}"));
    }
    if verified.gaps > 0 {
        line(format!(
            "  gaps: {} exchanges went through that are not, or not whole, in the log",
            verified.gaps
        ));
    }
    if verified.stale_tail {
        line(format!("  the last {} records are covered by no checkpoint, and old", verified.unsigned));
    }
    line(format!("  log          {}", verified.origin));
    line(format!("  records      {}", verified.records));
    if let Some(root) = &verified.root {
        line(format!("  root         {root}"));
    }
    match &verified.checkpoint {
        Some(newest) => {
            let time = newest.time.map(|time| format!(", signed {time:.0} (UTC)")).unwrap_or_default();
            line(format!("  checkpoint   {} records{time}; {} behind it", newest.size, verified.unsigned));
        }
        None => line("  checkpoint   none that holds".to_owned()),
    }
    line(format!("  checkpoints  {} hold", verified.checkpoints));
    line(format!("  key          {}", verified.key));
    match verified.anchors.iter().max_by_key(|anchor| anchor.size) {
        Some(anchor) => line(format!(
            "  anchors      {} hold, the newest over {} records ({})",
            verified.anchors.len(),
            anchor.size,
            anchor.file.display()
        )),
        None => line(
            "  anchors      none given: nothing here shows protection against whoever has the relay's own key".to_owned(),
        ),
    }
    if let Some(old) = &verified.predecessor {
        line(format!("  goes on from {} at {} records, root {}", old.origin, old.size, old.root));
    }
    out
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
