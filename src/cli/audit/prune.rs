//! `license-relay audit prune`: what is older than a time goes, for good; so it is shown and asked first.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;

use jiff::Timestamp;

use super::super::load;
use crate::audit::prune::{Plan, PruneError, prune};
use crate::audit::recover::OpenError;
use crate::config;
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::{self, Out, out, outln};
use relay_log::console::period::{Edge, time};
use relay_log::text::terminal::printable;
use relay_log::verify::LogError;
use relay_log::verify::log::VerifyError;

/// What the help ends with.
pub(super) const HELP: &str = "Only sealed segments go, and only where every record in them is older. That something was \
    pruned, and what, is recorded in the log. Needs the relay stopped; --dry-run does not.\n\n\
    Examples:\n  license-relay audit prune --before 2024-01-01 --dry-run\n  \
    license-relay audit prune --before 2024-01-01T00:00:00+01:00 --yes";

/// The answer that removes.
const YES: &str = "yes";

#[derive(Debug, clap::Args)]
pub(super) struct Prune {
    /// Records of this time and later stay: a day (its begin, UTC) or a time with its offset (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = past)]
    before: Timestamp,
    /// Show what would go, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Don't ask
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
}

/// A time that has passed.
fn past(text: &str) -> Result<Timestamp, String> {
    match time(text, Edge::Begin).ok() {
        None => Err("this is no day (2024-01-31) and no time with its offset (2024-01-31T00:00:00Z)".into()),
        Some(time) if time > Timestamp::now() => Err("this is in the future".into()),
        Some(time) => Ok(time),
    }
}

pub(super) async fn run(args: Prune, config: Option<PathBuf>) -> Result<Exit, Failure> {
    let audit = load(&config::locate(config))?.audit;
    let Prune { before, dry_run, yes } = args;
    if dry_run {
        out!("{}", printable(&text(&Plan::of(&audit, before)?, before)));
        return Ok(Exit::Fine);
    }
    let mut answered = true;
    let agree = |plan: &Plan| {
        out!("{}", printable(&text(plan, before)));
        // What can't be shown is not removed.
        let shown = out::is_written().is_ok();
        if yes || !shown {
            return shown;
        }
        let answer = ask();
        answered = answer.is_some();
        answer.is_some_and(|answer| answer == YES)
    };
    let pruned = prune(&audit, before, agree).await?;
    match pruned {
        Some(plan) if plan.going.is_empty() => out!("{}", printable(&text(&plan, before))),
        Some(plan) => {
            outln!("removed; the log says so in its record of records 0 to {}", plan.end.saturating_sub(1))
        }
        None if answered => outln!("nothing was removed"),
        None => {
            let words = "nothing was removed: nobody has answered; where nobody can, say --yes";
            return Err(Failure::new(Exit::Usage, words));
        }
    }
    Ok(Exit::Fine)
}

/// What was answered; `None` where nobody is there.
fn ask() -> Option<String> {
    out!("Remove this for good? Say {YES}: ");
    let _ = Out.flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok_and(|bytes| bytes > 0).then(|| answer.trim().to_owned())
}

fn text(plan: &Plan, before: Timestamp) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let log = plan.log.display();
    match (plan.going.first(), plan.going.last()) {
        (Some(oldest), Some(newest)) => {
            line(format!(
                "{log}: {} of {} segments go, {} records, {} bytes, from {} to {}",
                plan.going.len(),
                plan.going.len() + plan.segments,
                plan.count(),
                plan.bytes(),
                oldest.first,
                newest.last
            ));
            for going in &plan.going {
                line(format!(
                    "  {}  records {} to {}, {} bytes, from {} to {}",
                    going.segment.path.file_name().unwrap_or_default().to_string_lossy(),
                    going.segment.first,
                    going.end.saturating_sub(1),
                    going.bytes,
                    going.first,
                    going.last
                ));
            }
        }
        _ => line(format!("{log}: nothing goes; no sealed segment has only records from before {before}")),
    }
    let since = plan.since.map(|since| format!(", from {since} on")).unwrap_or_default();
    line(format!(
        "what stays: {} segments, {} records{since}; and the hashes of all {} records, and all checkpoints",
        plan.segments,
        plan.records.saturating_sub(plan.end),
        plan.records
    ));
    out
}

impl From<PruneError> for Failure {
    fn from(e: PruneError) -> Self {
        let exit = match &e {
            PruneError::Open(OpenError::Locked { .. }) => Exit::Running,
            PruneError::Open(OpenError::Thread(_)) | PruneError::Read(VerifyError::Thread(_)) => {
                Exit::Internal
            }
            PruneError::Open(OpenError::WentBack { .. } | OpenError::Unproven { .. }) => Exit::WentBack,
            PruneError::Open(OpenError::Foreign { .. })
            | PruneError::Key(_)
            | PruneError::Read(VerifyError::Log(LogError::NotALog(_))) => Exit::Configuration,
            PruneError::Damaged { .. } | PruneError::Read(VerifyError::Key { .. }) => Exit::Failed,
            PruneError::Read(VerifyError::Log(LogError::Io { cause, .. })) => Exit::of_log(cause),
            _ => Exit::Io,
        };
        Self::new(exit, e)
    }
}
