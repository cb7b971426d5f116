//! `license-relay check`: every problem at once, and nothing changed.

use std::path::Path;

use super::out::outln;
use super::{Failure, configuration};
use crate::config::model::{Config, Identity};
use crate::config::{Problem, Severity, file, sources};
use crate::licensing::vocabulary::Vocabulary;
use crate::policy::identity::cannot_work;
use crate::policy::users::Users;
use crate::setup::AdminToken;
use crate::tls::authority::{Authority, Files};
use crate::tls::faces;
use crate::tls::leaf::Face;
use crate::tls::roots;

/// Checks the configuration and the files it names, and says that they are fine or what is wrong.
pub(super) fn run(path: &Path) -> Result<(), Failure> {
    let (config, mut problems) = file::load(path).map_err(configuration)?;
    let list = config.sources.file.exists().then(|| sources::load(&config.sources.file));
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
    if let Err(words) = check_certificates(&config) {
        problems.0.push(problem(&config, words, "see [tls]"));
    }
    if let Some(path) = &config.admin.token_file
        && let Err(e) = AdminToken::load(path)
    {
        problems.0.push(problem(&config, format!("{}: {e}", path.display()), "see admin.token_file"));
    }
    match Users::load(&config.listen.users) {
        Ok(users) => problems.0.extend(cannot_work(&config, &list.unwrap_or_default(), &users)),
        Err(e) => problems.0.push(problem(
            &config,
            format!("{}: {e}", config.listen.users.display()),
            "see listen.users",
        )),
    }
    if problems.has_errors() {
        return Err(configuration(problems));
    }
    for warning in &problems.0 {
        outln!("warning: {warning}");
    }
    outln!("{}: fine", path.display());
    Ok(())
}

/// As at start-up, but for making what is missing.
fn check_certificates(config: &Config) -> Result<(), String> {
    match &config.tls.identity {
        Identity::Leaves(pairs) => {
            Face::load(pairs, &faces::names(config)).map(drop).map_err(|e| e.to_string())
        }
        Identity::Issuer { root, issuer, issuer_key } => {
            if [root, issuer, issuer_key].iter().all(|path| !path.exists()) {
                return Ok(());
            }
            let authority = Authority::open(Files { root, issuer, issuer_key }).map_err(|e| e.to_string())?;
            Face::mint(&authority, faces::names(config).into_iter().collect())
                .map(drop)
                .map_err(|e| e.to_string())
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
