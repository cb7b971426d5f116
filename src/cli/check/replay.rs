//! `license-relay check --replay`: the log read once, and what the settings that are written now would say to each
//! exchange in it.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::Settings;
use super::replayed::{Replayed, ReplayedDeployment};
use super::sums::GrowthAtMost;
use crate::cli::audit::site::anchors_of;
use crate::policy::Policy;
use crate::policy::replay::Replay;
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::{outln, progress};
use relay_log::text::terminal::printable_line;
use relay_log::verify::log::Verified;
use relay_report::ask::evidence::{member, text, worst};
use relay_report::read::merge;
use relay_report::table::rows::counted;

/// What a replay can't know, whatever it finds.
const LIMITS: &str = "Judged by what the log holds of each exchange that was forwarded: id, license, client's address and kind, as \
                      they were read then. It holds no bodies, so nothing is read anew by a vocabulary that has changed since. \
                      Not judged: limits of how often somebody may ask, listen.allow_from, and destinations.";

/// Whether to replay, and what.
#[derive(Debug, clap::Args)]
pub(super) struct Replaying {
    /// Say which exchanges of the log these settings would have refused, by deployment
    #[arg(long)]
    pub(super) replay: bool,
    /// The folder of a log to replay, such as a copy of one; may repeat [default: the configured one]
    #[arg(long, value_name = "DIR", requires = "replay")]
    log: Vec<PathBuf>,
    /// For programs: what the replay found, and what a day adds to the log at most
    #[arg(long, requires = "replay")]
    pub(super) json: bool,
}

/// Replays these logs, or the configured one, and tells programs what a day adds at most. The exit code is the verdict on the logs, as of `audit verify`.
pub(super) fn run(settings: Settings, args: Replaying, growth: &GrowthAtMost) -> Result<Exit, Failure> {
    let Settings { config, list, users, .. } = settings;
    let (logs, anchors) = match args.log.is_empty() {
        true => (vec![config.audit.directory.clone()], anchors_of(&config.audit)),
        false => (args.log, Vec::new()),
    };
    let policy = Policy::new(&config, list, None);
    let mut replayed = Replayed::new(Replay::new(&policy, &config, &users));
    let verified = merge::read(&logs, &anchors, progress(), |log, entry| {
        replayed.take(log, entry);
        true
    })?;
    let replayed = replayed.finish();
    if args.json {
        let (total, refused, unknown) = replayed.sums();
        outln!(
            "{:#}",
            json!({
                "exchanges": total,
                "would_be_refused": refused,
                "can_not_be_told": unknown,
                "deployments": replayed.deployments.iter().map(row).collect::<Vec<_>>(),
                "others": replayed.others.as_ref().map(row),
                "refused_then": replayed.refused_then,
                "limits": LIMITS,
                "a_day_at_most": growth.json(),
                "evidence": verified.iter().map(member).collect::<Vec<_>>(),
            })
        );
    } else {
        tell(&replayed, &verified);
    }
    Ok(worst(verified.iter().map(Verified::verdict)).into())
}

fn tell(replayed: &super::replayed::ReplayResult, verified: &[Verified]) {
    for deployment in replayed.deployments.iter().chain(&replayed.others) {
        let ReplayedDeployment { let_in, last, .. } = deployment;
        let (refused, unknown) = (sum(&deployment.refused), sum(&deployment.unknown));
        say(&format!(
            "{}: {let_in} let in, {refused} refused, {unknown} can't be told; the last at {last:.0}",
            called(deployment)
        ));
        for (reason, count) in &deployment.refused {
            say(&format!("  {count} × refused: {reason}"));
        }
        for (why, count) in &deployment.unknown {
            say(&format!("  {count} × can't be told: {why}"));
        }
    }
    let (total, refused, unknown) = replayed.sums();
    let exchanges = counted(total, "exchange", "exchanges");
    let by = replayed.deployments.iter().filter(|deployment| !deployment.refused.is_empty()).count() as u64;
    say(&match (refused, by) {
        (0, _) => format!("none of {exchanges} is known to be refused by these settings"),
        (_, 0) => format!("{refused} of {exchanges} would be refused by these settings"),
        _ => format!(
            "{refused} of {exchanges} would be refused by these settings, of {}",
            counted(by, "deployment", "deployments")
        ),
    });
    if unknown > 0 {
        say(&format!("of {} it can't be told", counted(unknown, "exchange", "exchanges")));
    }
    if replayed.refused_then > 0 {
        say(&format!(
            "{} that the relay refused then are left out: license-relay audit denied",
            counted(replayed.refused_then, "request", "requests")
        ));
    }
    say(LIMITS);
    outln!("");
    verified.iter().flat_map(text).for_each(|line| say(&line));
}

/// A deployment by all that is known of it.
fn called(deployment: &ReplayedDeployment) -> String {
    let ReplayedDeployment { source, license, name, addresses, elsewhere, .. } = deployment;
    let mut words = match (source, license) {
        _ if addresses.is_empty() && source.is_none() && license.is_none() => {
            "further deployments".to_owned()
        }
        (Some(source), _) => format!("source {source}"),
        (None, Some(_)) => "no source".to_owned(),
        (None, None) => "neither source nor license".to_owned(),
    };
    if let Some(name) = name {
        words.push_str(&format!(" \"{name}\""));
    }
    if let Some(license) = license {
        words.push_str(&format!(", license {license}"));
    }
    let mut from: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    if *elsewhere {
        from.push("others".into());
    }
    if !from.is_empty() {
        words.push_str(&format!(", from {}", from.join(", ")));
    }
    words
}

fn row(deployment: &ReplayedDeployment) -> Value {
    let ReplayedDeployment { source, license, name, addresses, elsewhere, let_in, refused, unknown, last } =
        deployment;
    json!({
        "source": source,
        "license": license,
        "name": name,
        "addresses": addresses,
        "other_addresses": elsewhere,
        "let_in": let_in,
        "refused": sum(refused),
        "reasons": reasons(refused),
        "can_not_be_told": sum(unknown),
        "why_not": reasons(unknown),
        "last": last,
    })
}

fn reasons(all: &[(String, u64)]) -> Vec<Value> {
    all.iter().map(|(reason, count)| json!({ "reason": reason, "count": count })).collect()
}

fn sum(all: &[(String, u64)]) -> u64 {
    all.iter().map(|(_, count)| count).sum()
}

fn say(line: &str) {
    outln!("{}", printable_line(line));
}
