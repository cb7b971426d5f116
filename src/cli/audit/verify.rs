//! `license-relay audit verify`: is the log whole.

use std::path::PathBuf;

use super::say;
use super::sources::Logs;
use crate::cli::out::{outln, progress};
use crate::cli::{Exit, Failure};
use crate::report::ask::evidence::{member, text, worst};
use crate::report::read::merge;
use crate::verify::log::Verified;

#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    #[command(flatten)]
    logs: Logs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb; a log that is not fine is no failure of ours, but an exit code.
pub(super) fn run(args: Verify, config: Option<PathBuf>) -> Result<Exit, Failure> {
    let (logs, anchors, _) = args.logs.find(config)?;
    let verified = merge::read(&logs, &anchors, progress(), |_, _| true)?;
    for log in &verified {
        if args.json {
            outln!("{:#}", member(log));
        } else {
            text(log).iter().for_each(say);
        }
    }
    Ok(worst(verified.iter().map(Verified::verdict)).into())
}
