//! `license-relay reload`: the running relay reads all its files again, and says what is in force then.

use std::path::Path;

use super::ask::{self, ReloadAnswer};
use super::load_alone;
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::outln;
use relay_log::text::terminal::printable;

/// What to print.
#[derive(Debug, clap::Args)]
pub(super) struct Reload {
    /// For programs: the relay's own answer
    #[arg(long)]
    json: bool,
}

/// Asks the relay, and prints what it works with.
pub(super) fn run(args: &Reload, path: &Path) -> Result<(), Failure> {
    let config = load_alone(path)
        .map_err(|e| Failure { words: format!("{}\nthe running relay was not asked", e.words), ..e })?;
    let unasked = |why| Failure::new(Exit::Io, why);
    let Some(said) = ask::reload(&config).map_err(unasked)? else {
        return Err(unasked(format!(
            "no relay has the log {}: there is none to ask; start one, which reads everything",
            config.audit.directory.display()
        )));
    };
    let answer = ReloadAnswer::read(&said).map_err(unasked)?;
    match args.json {
        true => outln!("{said:#}"),
        false => outln!("{}", printable(&in_words(&answer))),
    }
    let mut problems: Vec<String> = answer.undone.iter().cloned().collect();
    if !ask::is_same(&answer.configuration.file, &config.file) {
        let (own, other) = (config.file.display(), answer.configuration.file.display());
        problems.push(format!("the running relay works with {other}, and not with {own}"));
    }
    problems.extend(answer.configuration.not_in_force.iter().map(ask::PartNotInForce::words));
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Configuration, problems.join("\n"))),
    }
}

fn in_words(answer: &ReloadAnswer) -> String {
    let configuration = &answer.configuration;
    let mut words =
        format!("generation {} is in force since {:.0}", configuration.generation, configuration.since);
    for part in answer.parts.iter().filter(|part| !part.files.is_empty()) {
        let files: Vec<String> = part.files.iter().map(|file| file.display().to_string()).collect();
        words +=
            &format!("\n  {:<22}since generation {}: {}", part.part, part.since_generation, files.join(", "));
    }
    words += &match answer.changed.as_slice() {
        [] => "\nnothing has changed by this reload".to_owned(),
        changed => format!("\nchanged by this reload: {}", changed.join(", ")),
    };
    words
}
