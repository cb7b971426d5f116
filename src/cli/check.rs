//! `license-relay check`: every problem at once, and nothing changed.

mod memory;
#[cfg(feature = "report")]
mod replay;
#[cfg(feature = "report")]
mod replayed;
mod sums;

use std::path::Path;

use super::configuration;
use crate::config::model::{AllowList, Config, Identity};
use crate::config::{Problem, Severity, file, sources};
use crate::licensing::vocabulary::Vocabulary;
use crate::listen::local::{self, LocalError};
use crate::policy::identity::cannot_work;
use crate::policy::users::Users;
use crate::setup::AdminToken;
use crate::tls::authority::Files;
use crate::tls::generations;
use crate::tls::identities::{self, Signers};
use crate::tls::leaf::Face;
use crate::tls::roots;
use crate::upstream::parent::ParentCredentials;
use relay_log::console::exit::{Exit, Failure};
use relay_log::console::out::outln;
use relay_log::files::regular::is_missing;
use relay_log::ledger::note::Signer;
use relay_log::ledger::subject::keys::Keys;
use sums::GrowthAtMost;

/// What to check beside the files.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    #[cfg(feature = "report")]
    #[command(flatten)]
    replay: replay::Replaying,
}

/// The settings as they are written, all of them usable.
#[derive(Debug)]
#[cfg_attr(not(feature = "report"), expect(dead_code, reason = "the users are for a replay"))]
struct Settings {
    config: Config,
    list: AllowList,
    users: Users,
    warnings: Vec<Problem>,
}

/// Checks the configuration and the files it names, and says that they are fine or what is wrong.
#[cfg_attr(not(feature = "report"), expect(unused_variables, reason = "all flags are for a replay"))]
pub(super) fn run(args: Check, path: &Path) -> Result<Exit, Failure> {
    let settings = examine(path)?;
    let growth = GrowthAtMost::of(&settings.config.limits, &settings.list);
    #[cfg(feature = "report")]
    if args.replay.json {
        return replay::run(settings, args.replay, &growth);
    }
    for warning in &settings.warnings {
        outln!("warning: {warning}");
    }
    outln!("{}: fine", path.display());
    outln!("{}", memory::AtMost::of(&settings.config));
    growth.lines().iter().for_each(|line| outln!("{line}"));
    #[cfg(feature = "report")]
    if args.replay.replay {
        return replay::run(settings, args.replay, &growth);
    }
    Ok(Exit::Fine)
}

fn examine(path: &Path) -> Result<Settings, Failure> {
    let (config, mut problems) = file::load(path).map_err(configuration)?;
    let list = (!is_missing(&config.sources.file)).then(|| sources::load(&config.sources.file));
    let list = list.transpose().unwrap_or_else(|found| {
        problems.0.extend(found.0);
        None
    });
    if let Err(found) = Vocabulary::load(config.licensing.vocabulary.as_deref()) {
        problems.0.extend(found.0);
    }
    if let Err(e) = roots::client_config(&config.upstream) {
        problems.0.push(problem(&config, e.to_string(), "see [upstream]"));
    }
    if let Some(path) = config.upstream.parent_proxy.as_ref().and_then(|proxy| proxy.credentials.as_ref())
        && let Err(e) = ParentCredentials::load(path)
    {
        problems.0.push(problem(
            &config,
            format!("{}: {e}", path.display()),
            "see upstream.parent_credentials",
        ));
    }
    if let Err(words) = check_certificates(&config) {
        problems.0.push(problem(&config, words, "see [tls]"));
    }
    if let Some(path) = &config.admin.token_file
        && let Err(e) = AdminToken::load(path)
    {
        problems.0.push(problem(&config, format!("{}: {e}", path.display()), "see admin.token_file"));
    }
    if let Err(e @ LocalError::Taken(..)) = local::examine(&local::place(&config)) {
        problems.0.push(problem(&config, e.to_string(), "see admin.socket"));
    }
    let audit = &config.audit;
    if !is_missing(&audit.subject_key)
        && let Err(e) = Keys::read(&audit.subject_key, audit.subject_case)
    {
        problems.0.push(problem(&config, e.to_string(), "see audit.subject_key"));
    }
    if !is_missing(&audit.signing_key)
        && let Err(e) = Signer::load(&audit.signing_key, &audit.origin)
    {
        problems.0.push(problem(&config, e.to_string(), "see audit.signing_key"));
    }
    let list = list.unwrap_or_default();
    let users = match Users::load(&config.listen.users) {
        Ok(users) => {
            problems.0.extend(cannot_work(&config, &list, &users));
            Some(users)
        }
        Err(e) => {
            let words = format!("{}: {e}", config.listen.users.display());
            problems.0.push(problem(&config, words, "see listen.users"));
            None
        }
    };
    match users {
        Some(users) if !problems.has_errors() => Ok(Settings { config, list, users, warnings: problems.0 }),
        _ => Err(configuration(problems)),
    }
}

/// As at start-up, but for making what is missing.
fn check_certificates(config: &Config) -> Result<(), String> {
    match &config.tls.identity {
        Identity::Leaves(pairs) => {
            Face::load(pairs, &identities::names(config)).map(drop).map_err(|e| e.to_string())
        }
        Identity::Issuer { root, issuer, issuer_key } => {
            let files = Files { root, issuer, issuer_key };
            let standing = generations::standing(files).map_err(|e| e.to_string())?;
            if standing.in_force.is_none() {
                return Ok(());
            }
            Signers::open(files, standing, config).map(drop).map_err(|e| e.to_string())
        }
    }
}

fn problem(config: &Config, what: String, instead: &str) -> Problem {
    Problem {
        file: config.file.clone(),
        line: 0,
        what,
        instead: instead.to_owned(),
        severity: Severity::Error,
    }
}
