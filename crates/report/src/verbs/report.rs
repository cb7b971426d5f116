//! `audit report`: the page that answers what auditors ask, all of it in one reading.

use std::io::Write as _;
use std::path::PathBuf;

use super::Site;
use super::questions::called;
use super::sources::{During, Logs, WhoIsWho, find_sources, is_no_time, names_of, opened_with};
use crate::ask::evidence::Made;
use crate::page::{ReportOptions, render, report};
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::{Out, command_line, progress};
use relay_log::console::out_file::{hand_over, refuse};
use relay_log::console::period::length;
use relay_log::text::shell;

pub(super) const HELP: &str = "The page stands alone: no script, no other file; print it, or send it. Exit codes as of audit \
    verify\n\nExamples:\n  license-relay audit report --out report.html\n  \
    license-relay audit report --log COPY --anchor ANCHOR --names staff.csv --subject-key subject.key --out report.html";

/// What to report.
#[derive(Debug, clap::Args)]
pub struct Report {
    /// The page, for its owner alone; without it, standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    period: During,
    /// Who held what before the log began: CSV with the columns license, allotment and subject, from the product's console
    #[arg(long, value_name = "FILE")]
    opening: Option<PathBuf>,
    /// Show units that moved between people within this time (7d) as well: it watches people, so it is left out unless asked for
    #[arg(long, value_name = "TIME")]
    churn: Option<String>,
    /// The allow-list (sources.toml), for the names that it gives to deployments
    #[arg(long, value_name = "FILE")]
    sources: Option<PathBuf>,
    #[command(flatten)]
    logs: Logs,
    #[command(flatten)]
    who: WhoIsWho,
}

/// Runs the verb.
pub(super) fn run(args: Report, site: &dyn Site) -> Result<Exit, Failure> {
    let period = args.period.period_beside_out()?;
    let churn = args.churn.map(|text| match length(&text) {
        Some(within) => Ok((within, text)),
        None => Err(Failure::new(Exit::Usage, format!("--churn \"{text}\" is no length of time; write 7d"))),
    });
    let churn = churn.transpose()?;
    let sources = find_sources(&args.logs, &args.who, site, args.opening.is_some())?;
    if let Some(file) = &args.out {
        is_no_time(file)?;
        refuse(file, &sources.logs, true)?;
    }
    let opening = opened_with(args.opening.as_deref(), &sources)?;
    let names = names_of(&args.who, &sources)?;
    let called = called(args.sources.as_ref().or(sources.allow_list.as_ref()), site)?;
    let named = sources.logs.iter().map(|log| format!("--log {}", shell::word(&log.to_string_lossy())));
    let options = ReportOptions {
        named: named.collect::<Vec<_>>().join(" "),
        logs: sources.logs,
        anchors: sources.anchors,
        sizes: Vec::new(),
        period,
        names,
        called,
        opening: args.opening.map(|file| (file, opening)),
        churn,
        made: Made::now(command_line()),
    };
    let page = report(options, progress())?;
    let html = render(&page);
    let written = match &args.out {
        Some(file) => hand_over(file, |mut to| to.write_all(html.as_bytes())),
        None => Out.write_all(html.as_bytes()),
    };
    written.map_err(|e| Failure::new(Exit::Io, format!("the report can't be written: {e}")))?;
    Ok(page.verdict().into())
}
