//! Parts of a setup that stay as they were, because their files can't be used, while all others go into force.
//!
//! The allow-list and the users decide who is let in: a bad line in another file must not keep somebody in who was taken
//! out.

use std::path::PathBuf;

use jiff::Timestamp;

use super::{Setup, SetupError};
use crate::config::model::{Config, Identity};
use crate::config::watch::Contents;
use crate::tls::authority::Files;
use crate::tls::generations;

/// A part of a setup, with files of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// `relay.toml`, with what it names for the first time.
    Configuration,
    /// `sources.file`.
    AllowList,
    /// `listen.users`.
    Users,
    /// `licensing.vocabulary`.
    Vocabulary,
    /// `admin.token_file`.
    Token,
    /// `upstream.extra_ca` and the credentials for the parent proxy.
    Upstream,
    /// The files of `[tls]`.
    Certificates,
}

/// A part that stays as it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct HeldPart {
    /// The part.
    pub(crate) part: Part,
    /// Why its files can't be used.
    pub(crate) why: String,
    /// When that was first found.
    pub(crate) since: Timestamp,
}

/// One reading of all files, beside the setup in force.
#[derive(Debug)]
pub(super) struct SetupReading<'a> {
    /// What the files hold that the new setup is made from.
    pub(super) contents: Contents,
    /// The setup in force; none at the start, where everything must be right.
    pub(super) before: Option<&'a Setup>,
    /// What stays as it was.
    pub(super) held: Vec<HeldPart>,
}

impl Part {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Configuration,
        Self::AllowList,
        Self::Users,
        Self::Vocabulary,
        Self::Token,
        Self::Upstream,
        Self::Certificates,
    ];

    /// The files that it is made of.
    pub(crate) fn files(self, config: &Config) -> Vec<PathBuf> {
        match self {
            Self::Configuration => vec![config.file.clone()],
            Self::AllowList => vec![config.sources.file.clone()],
            Self::Users => vec![config.listen.users.clone()],
            Self::Vocabulary => config.licensing.vocabulary.iter().cloned().collect(),
            Self::Token => config.admin.token_file.iter().cloned().collect(),
            Self::Upstream => upstream_files(config),
            Self::Certificates => identity_files(config),
        }
    }

    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::AllowList => "allow-list",
            Self::Users => "list of users",
            Self::Vocabulary => "vocabulary",
            Self::Token => "admin token",
            Self::Upstream => "trust in the back end",
            Self::Certificates => "certificates",
        }
    }

    /// The verb that goes with its name.
    pub(crate) fn stays(self) -> &'static str {
        if self == Self::Certificates { "stay" } else { "stays" }
    }
}

/// What people read of a part that is held, under `/readyz?verbose` and as a warning of a command.
pub(crate) fn words(part: &str, since: Timestamp, why: &str) -> String {
    format!("{part}: what is in force is not what the files say, since {since:.0}: {why}")
}

impl<'a> SetupReading<'a> {
    pub(super) fn new(contents: Contents, before: Option<&'a Setup>) -> Self {
        Self { contents, before, held: Vec::new() }
    }

    /// The setup before, where these files held the same then.
    pub(super) fn unchanged(&self, files: &[PathBuf]) -> Option<&'a Setup> {
        self.before.filter(|before| self.contents.agree_on(&before.contents, files))
    }

    /// A part as it was read; or, where its files can't be used, as it was kept.
    pub(super) fn part<T>(
        &mut self,
        part: Part,
        files: &[PathBuf],
        read: Result<T, SetupError>,
        kept: Option<T>,
    ) -> Result<T, SetupError> {
        match (read, kept) {
            (Err(e), Some(kept)) => {
                self.hold(part, e.to_string(), files);
                Ok(kept)
            }
            (read, _) => read,
        }
    }

    /// Keeps a part as it was. Its files count as unchanged, so that they are read anew next time.
    pub(super) fn hold(&mut self, part: Part, why: String, files: &[PathBuf]) {
        if let Some(before) = self.before {
            self.contents.put_back(&before.contents, files);
        }
        self.held.push(HeldPart { part, why, since: Timestamp::now() });
    }
}

fn upstream_files(config: &Config) -> Vec<PathBuf> {
    let credentials = config.upstream.parent_proxy.iter().filter_map(|proxy| proxy.credentials.clone());
    config.upstream.extra_ca.iter().cloned().chain(credentials).collect()
}

fn identity_files(config: &Config) -> Vec<PathBuf> {
    match &config.tls.identity {
        Identity::Issuer { root, issuer, issuer_key } => {
            let watched = generations::watched(Files { root, issuer, issuer_key });
            [root, issuer, issuer_key].into_iter().cloned().chain(watched).collect()
        }
        Identity::Leaves(pairs) => {
            pairs.iter().flat_map(|(chain, key)| [chain.clone(), key.clone()]).collect()
        }
    }
}
