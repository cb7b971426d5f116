//! `audit verify`: is the log whole.

use super::Site;
use super::sources::Logs;
use crate::ask::evidence::{member, text, worst};
use crate::read::merge;
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::show;
use relay_log::console::out::{outln, progress};
use relay_log::verify::log::Verified;

/// Which logs are checked.
#[derive(Debug, clap::Args)]
pub struct Verify {
    #[command(flatten)]
    logs: Logs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb; a log that is not fine is no failure of ours, but an exit code.
pub(super) fn run(args: Verify, site: &dyn Site) -> Result<Exit, Failure> {
    let (logs, anchors, _) = args.logs.find(site)?;
    let verified = merge::read(&logs, &anchors, progress(), |_, _| true)?;
    for log in &verified {
        if args.json {
            outln!("{:#}", member(log));
        } else {
            text(log).iter().for_each(show);
        }
    }
    Ok(worst(verified.iter().map(Verified::verdict)).into())
}
