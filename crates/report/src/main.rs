//! `license-audit`: the verbs that read logs, for whoever has a copy of one and no relay. It uses no network.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
#![deny(clippy::print_stderr, clippy::print_stdout)]

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory, FromArgMatches, Parser};
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::{self, note, out};
use relay_log::file_size;
use relay_log::files::regular;
use relay_log::names::SourcePattern;
use relay_log::stderr;
use relay_report::input::deployment_names::DeploymentNames;
use relay_report::verbs::{self, Configured, Site, Verb};
use serde::Deserialize;

/// Reads assignment logs of license-relay: who held what, is anything missing, and is the log what was signed.
#[derive(Debug, Parser)]
#[command(
    name = "license-audit",
    version,
    max_term_width = 100,
    after_help = format!("Exit codes:\n{}\nExample:\n  license-audit verify --log COPY --anchor ANCHOR", Exit::table("  "))
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

fn main() -> ExitCode {
    stderr::set_program("license-audit");
    if let Err(e) = file_size::take_signal() {
        note!(
            "license-audit: warning: a file that reaches the limit of file sizes will end this process ({e})"
        );
    }
    let command = Cli::command().mut_subcommands(without_relay);
    let parsed = command.try_get_matches().and_then(|found| Cli::from_arg_matches(&found));
    let done = match parsed {
        Ok(cli) => verbs::run(cli.verb, &Alone),
        // Help and version are no errors; clap itself would end with 2 for all that are.
        Err(e) if e.use_stderr() => {
            out::say(e.render().to_string().trim_end());
            Ok(Exit::Usage)
        }
        Err(e) => {
            out!("{}", e.render());
            Ok(Exit::Fine)
        }
    };
    ExitCode::from(out::finish(done) as u8)
}

/// The help of a verb is that of the relay's own program, which finds its log by its configuration.
fn without_relay(verb: Command) -> Command {
    let verb = verb.mut_args(|arg| match arg.get_help().map(ToString::to_string) {
        Some(help) => arg.help(help.replace(". Without it: the configured one", "")),
        None => arg,
    });
    match verb.get_after_help().map(ToString::to_string) {
        Some(help) => verb.after_help(help.lines().map(example).collect::<Vec<_>>().join("\n")),
        None => verb,
    }
}

/// A line of it; where that is an example, with the log that it reads.
fn example(line: &str) -> String {
    let line = line.replace("license-relay audit", stderr::reader());
    if !line.trim_start().starts_with(stderr::reader())
        || line.contains("--log ")
        || line.contains("--check ")
    {
        return line;
    }
    match line.split_once(" > ") {
        Some((command, file)) => format!("{command} --log COPY > {file}"),
        None => format!("{line} --log COPY"),
    }
}

/// A program without a configuration: all that it reads is named on its command line.
struct Alone;

impl Site for Alone {
    fn named(&self) -> Result<Option<Configured>, Failure> {
        Ok(None)
    }

    fn configured(&self) -> Result<Configured, Failure> {
        let words = "--log is missing; name the folder of a log, the one with segments/ in it: --log DIR";
        Err(Failure::new(Exit::Usage, words))
    }

    fn reads_none(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    fn deployment_names(&self, allow_list: &Path) -> Result<DeploymentNames, Failure> {
        let failed =
            |exit, e: &dyn Display| Failure::new(exit, format!("--sources {}: {e}", allow_list.display()));
        let bytes = regular::read(allow_list).map_err(|e| failed(Exit::of_named(&e), &e))?;
        let list: AllowList = toml::from_slice(&bytes).map_err(|e| failed(Exit::Usage, &e.message()))?;
        Ok(DeploymentNames::new(
            list.source
                .into_iter()
                .filter_map(|source| Some((source.id?.parse::<SourcePattern>().ok()?.digest(), source.name))),
        ))
    }
}

/// What the allow-list of a relay says of names. Whether it is right otherwise is for the relay to say.
#[derive(Deserialize)]
struct AllowList {
    #[serde(default)]
    source: Vec<Source>,
}

#[derive(Deserialize)]
struct Source {
    id: Option<String>,
    #[serde(default)]
    name: String,
}
