//! What a configuration means, ready to be used: read whole, checked whole, swapped whole.
//!
//! A file that can't be used holds up no other: its part of the setup before stays (`held`), and the rest goes into
//! force. `relay.toml` itself is taken whole or not at all, together with what it names for the first time.
//!
//! Each request takes the setup in force and keeps it to its end. What is expensive to build, or counts something (leaves,
//! kept connections, limiters, passwords that were right) is carried over from the setup before, as long as all that
//! it was made from is the same.

pub(crate) mod held;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use jiff::Timestamp;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::bounds;
use crate::config::model::{AllowList, Config, Stranger};
use crate::config::watch::Contents;
use crate::config::{Problem, Problems, file, sources};
use crate::licensing::vocabulary::Words;
use crate::observe::access::{self, AccessLog, FoldedLines};
use crate::observe::metrics::Metrics;
use crate::policy::Policy;
use crate::policy::identity::cannot_work;
use crate::policy::users::Users;
use crate::tls::identities::Faces;
use crate::tls::leaf::LeafError;
use crate::tls::roots::{self, RootsError};
use crate::tls::trust::TrustTable;
use crate::upstream::dial::{Dialer, OwnAddresses};
use crate::upstream::send::Sender;
use held::{HeldPart, Part, SetupReading};
use relay_log::files::{edit, private};

/// The setup in force, and the word of each new one.
#[derive(Debug)]
pub struct InForce {
    setup: ArcSwap<Setup>,
    generation: watch::Sender<u64>,
}

/// A configuration and all that was made of it.
#[derive(Debug)]
pub struct Setup {
    /// Counts setups, from 1 at the start.
    pub generation: u64,
    /// When it was made.
    pub since: Timestamp,
    /// The configuration.
    pub config: Config,
    /// What may be reached, by whom, how often.
    pub policy: Policy,
    /// What messages call things.
    pub words: Words,
    /// The certificates.
    pub faces: Arc<Faces>,
    /// Who credentials may be of.
    pub users: Arc<Users>,
    /// The way to the back end.
    pub sender: Arc<Sender>,
    /// Where access lines go.
    pub access: AccessLog,
    /// Demanded on the admin address, where there is one.
    pub token: Option<AdminToken>,
    /// What the reader of `relay.toml` should know.
    warnings: Vec<Problem>,
    contents: Contents,
    /// The setup since which each part is in force as it is.
    since_generations: Vec<(Part, u64)>,
    _counted: Counted,
}

/// Counts the setups that somebody still works with.
#[derive(Debug)]
struct Counted(Arc<Metrics>);

/// What `admin.token_file` holds. It can't be printed.
#[derive(Clone)]
pub struct AdminToken(pub Arc<Zeroizing<String>>);

/// What outlives all setups.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Which clients trust which root.
    pub trust: Arc<TrustTable>,
    /// Where the relay listens.
    pub own: OwnAddresses,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Access lines of refusals that are counted.
    pub(crate) refused: Arc<FoldedLines>,
}

impl Shared {
    /// What a relay with this configuration begins with.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            trust: Arc::new(TrustTable::open(&config.audit.directory)),
            own: Arc::default(),
            metrics: Arc::default(),
            refused: access::refused(config.limits.strangers_log_per_day),
        }
    }
}

/// An attempt to read everything again.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// What came of it.
    pub(crate) made: Setup,
    /// What the files held that were read: the next change is a change of these.
    pub(crate) contents: Contents,
    /// The parts that are as before, because their files can't be used.
    pub(crate) held: Vec<HeldPart>,
    /// No file changed while it was read.
    pub(crate) settled: bool,
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The configuration, or a list it names.
    #[error("{0}")]
    Configuration(#[from] Problems),
    /// Certificates.
    #[error("{0}")]
    Certificates(#[from] LeafError),
    /// Trust in the back end.
    #[error("{0}")]
    Roots(#[from] RootsError),
    /// A file that it names can't be made, or can't be read.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It changes what is only read at the start.
    #[error("{file}: restart needed to change {keys}; restart the relay, or put back what was there")]
    RestartNeeded {
        /// The configuration.
        file: PathBuf,
        /// What was changed.
        keys: String,
    },
}

impl Setup {
    /// The first setup. Certificates and an allow-list that aren't there are made.
    ///
    /// # Errors
    /// Something of it can't be used.
    pub fn first(config: Config, shared: &Shared) -> Result<Self, SetupError> {
        let keys = [&config.audit.subject_key, &config.audit.signing_key];
        edit::clear_left(files(&config).iter().chain(keys).map(PathBuf::as_path));
        let mut reading = SetupReading::new(Contents::of(files(&config)), None);
        let mut first = Self::make(config, &mut reading, shared)?;
        // What was made just now is no change.
        first.contents.add_new();
        first.warn();
        Ok(first)
    }

    /// Reads everything again. Waits for the disk and makes keys: keep it off the workers.
    ///
    /// # Errors
    /// Not even what is in force can be made again.
    pub(crate) fn again(&self, shared: &Shared) -> Result<Attempt, SetupError> {
        // What a file held is taken before it is read: what is written in between is a change, and is read again.
        let contents = Contents::of([self.config.file.clone()]);
        let (config, warnings) = match file::load(&self.config.file) {
            Ok(read) => read,
            Err(problems) => return self.again_but_for_the_configuration(&problems.to_string(), shared),
        };
        let contents = contents.and(Contents::of(files(&config)));
        let mut reading = SetupReading::new(contents.clone(), Some(self));
        match Self::make(config, &mut reading, shared) {
            Ok(made) => Ok(Self { warnings: warnings.0, ..made }.attempted(contents, reading.held)),
            Err(e) => self.again_but_for_the_configuration(&e.to_string(), shared),
        }
    }

    /// Reads everything again but `relay.toml`, which can't be used, and why.
    ///
    /// # Errors
    /// As [`Self::again`].
    pub(crate) fn again_but_for_the_configuration(
        &self,
        why: &str,
        shared: &Shared,
    ) -> Result<Attempt, SetupError> {
        let contents = Contents::of(files(&self.config));
        let mut reading = SetupReading::new(contents.clone(), Some(self));
        reading.hold(Part::Configuration, why.to_owned(), std::slice::from_ref(&self.config.file));
        let made = Self::make(self.config.clone(), &mut reading, shared)?;
        Ok(Self { warnings: self.warnings.clone(), ..made }.attempted(contents, reading.held))
    }

    fn attempted(self, contents: Contents, held: Vec<HeldPart>) -> Attempt {
        let settled = contents.is_still_so();
        Attempt { made: self, contents, held, settled }
    }

    /// What is written and can't work, or means what is rarely wanted, is told at the start and as it goes into force;
    /// `check` tells all of it.
    pub fn warn(&self) {
        self.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let found = cannot_work(&self.config, &self.policy.registry.list(), &self.users);
        for problem in found.iter().take(bounds::WARNINGS) {
            tracing::warn!("{problem}");
        }
        if let Some(more) = found.len().checked_sub(bounds::WARNINGS).filter(|more| *more > 0) {
            tracing::warn!("{more} more entries can't work as they are written; see: license-relay check");
        }
    }

    /// Whether strangers are let in.
    pub fn observes(&self) -> bool {
        [self.config.sources.unknown, self.config.sources.unidentified].contains(&Stranger::Observe)
    }

    /// The setup since which a part is in force as it is.
    pub(crate) fn since_generation(&self, part: Part) -> u64 {
        let found = self.since_generations.iter().find(|(known, _)| *known == part);
        found.map_or(self.generation, |(_, generation)| *generation)
    }

    /// What its files held.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Makes a setup. What can't be used stays as in the setup before, as long as `relay.toml` says the same about it: a
    /// setting that leads to an unusable file is a mistake of `relay.toml`.
    fn make(config: Config, reading: &mut SetupReading<'_>, shared: &Shared) -> Result<Self, SetupError> {
        let before = reading.before;
        if let Some(before) = before {
            refuse_fixed(&before.config, &config)?;
        }
        // The parts of the setup before that this `relay.toml` says the same about.
        let where_same =
            |same: fn(&Config, &Config) -> bool| before.filter(|before| same(&before.config, &config));
        let listed = where_same(|old, new| old.sources.file == new.sources.file);
        let named = where_same(|old, new| old.licensing.vocabulary == new.licensing.vocabulary);
        let known = where_same(|old, new| old.listen.users == new.listen.users);
        let guarded = where_same(|old, new| old.admin.token_file == new.admin.token_file);
        let led = where_same(same_way);
        let shown = where_same(same_names);

        let own = Part::AllowList.files(&config);
        let kept = listed.map(|before| before.policy.registry.list());
        let list = reading.part(Part::AllowList, &own, allow_list(&config, before), kept)?;

        let own = Part::Vocabulary.files(&config);
        let read = Words::load(config.licensing.vocabulary.as_deref()).map_err(Into::into);
        let words = reading.part(Part::Vocabulary, &own, read, named.map(|before| before.words.clone()))?;

        let own = Part::Users.files(&config);
        let read = match reading.unchanged(&own) {
            Some(before) => Ok(before.users.clone()),
            None => Users::load(&config.listen.users).map(Arc::new).map_err(at(&config.listen.users)),
        };
        let users = reading.part(Part::Users, &own, read, known.map(|before| before.users.clone()))?;

        let own = Part::Token.files(&config);
        let token_of = |path: &PathBuf| AdminToken::load(path).map_err(at(path));
        let read = config.admin.token_file.as_ref().map(token_of).transpose();
        let token = reading.part(Part::Token, &own, read, guarded.map(|before| before.token.clone()))?;

        let own = Part::Upstream.files(&config);
        let read = match reading.unchanged(&own).filter(|_| led.is_some()) {
            Some(before) => Ok(before.sender.clone()),
            None => make_sender(&config, shared).map(Arc::new),
        };
        let sender = reading.part(Part::Upstream, &own, read, led.map(|before| before.sender.clone()))?;

        let own = Part::Certificates.files(&config);
        let read = match reading.unchanged(&own).filter(|_| shown.is_some()) {
            Some(before) => Ok(before.faces.clone()),
            None => faces(&config, reading, shared, shown.map(|before| &*before.faces)),
        };
        let faces = reading.part(Part::Certificates, &own, read, shown.map(|before| before.faces.clone()))?;

        let policy = Policy::new(&config, list, before.map(|before| &before.policy));
        let access = AccessLog::new(config.log, shared.metrics.clone(), shared.refused.clone());
        let generation = before.map_or(1, |before| before.generation + 1);
        let since_generation = |part: Part| {
            let files = part.files(&config);
            let unchanged = reading.unchanged(&files).filter(|before| part.files(&before.config) == files);
            unchanged.map_or(generation, |before| before.since_generation(part))
        };
        let since_generations = Part::ALL.map(|part| (part, since_generation(part))).to_vec();
        shared.metrics.setups.inc();
        Ok(Self {
            generation,
            since: Timestamp::now(),
            config,
            policy,
            words,
            faces,
            users,
            sender,
            access,
            token,
            warnings: Vec::new(),
            contents: reading.contents.clone(),
            since_generations,
            _counted: Counted(shared.metrics.clone()),
        })
    }
}

impl InForce {
    /// The first setup.
    pub fn new(first: Setup) -> Self {
        let generation = watch::Sender::new(first.generation);
        Self { setup: ArcSwap::from_pointee(first), generation }
    }

    /// The setup in force, for a moment.
    pub fn load(&self) -> Guard<Arc<Setup>> {
        self.setup.load()
    }

    /// The setup in force, for longer.
    pub fn load_full(&self) -> Arc<Setup> {
        self.setup.load_full()
    }

    /// Puts a setup into force, and tells whoever waits for one.
    pub fn store(&self, new: Setup) {
        let generation = new.generation;
        self.setup.store(Arc::new(new));
        self.generation.send_replace(generation);
    }

    /// Waits for a setup that is newer than this generation.
    pub async fn after(&self, generation: u64) -> Arc<Setup> {
        // The sender lives as long as this does.
        let _ = self.generation.subscribe().wait_for(|now| *now > generation).await;
        self.load_full()
    }
}

impl AdminToken {
    /// Reads a token. An empty or short one would be as good as none.
    ///
    /// # Errors
    /// The file can't be read, others may read it, or what it holds is no token; the message says what to run.
    pub fn load(path: &Path) -> io::Result<Self> {
        let text = private::read_private(path)?;
        let token = text.trim();
        if token.len() < bounds::ADMIN_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let words = format!(
                "it must hold a token of at least {} ASCII characters without spaces; run: openssl rand -hex 32 > {}",
                bounds::ADMIN_TOKEN,
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        Ok(Self(Arc::new(Zeroizing::new(token.to_owned()))))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.setups.dec();
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SetupError + use<> {
    let path = path.to_owned();
    move |cause| SetupError::File { path, cause }
}

/// The allow-list, which is made where it has not been asked for before: one that is gone is an error, never empty.
fn allow_list(config: &Config, before: Option<&Setup>) -> Result<AllowList, SetupError> {
    let file = &config.sources.file;
    if before.is_none_or(|before| before.config.sources.file != *file) {
        sources::create_if_missing(file).map_err(at(file))?;
    }
    Ok(sources::load(file)?)
}

/// The certificates. Only a start makes or restores them: where they are lost later, new ones that nobody trusts are no
/// help.
fn faces(
    config: &Config,
    reading: &mut SetupReading<'_>,
    shared: &Shared,
    known: Option<&Faces>,
) -> Result<Arc<Faces>, SetupError> {
    if reading.before.is_some() {
        return Ok(Faces::again(config, shared.trust.clone(), known).map(Arc::new)?);
    }
    let made = Faces::prepare(config)?;
    // What was put in order just now is no change.
    let contents = std::mem::take(&mut reading.contents);
    reading.contents = contents.and(Contents::of(Part::Certificates.files(config)));
    Ok(Faces::first(config, shared.trust.clone(), made).map(Arc::new)?)
}

fn make_sender(config: &Config, shared: &Shared) -> Result<Sender, SetupError> {
    let upstream = &config.upstream;
    let credentials = || upstream.parent_proxy.as_ref().and_then(|proxy| proxy.credentials.clone());
    let dialer = Dialer::new(roots::client_config(upstream)?, upstream, shared.own.clone())
        .map_err(|cause| SetupError::File { path: credentials().unwrap_or_default(), cause })?;
    Ok(Sender::new(dialer, upstream))
}

/// The log, its keys and its place can't change under the records that are in it, nor the socket under verbs that look for it.
fn refuse_fixed(old: &Config, new: &Config) -> Result<(), SetupError> {
    let (a, b) = (&old.audit, &new.audit);
    let pairs = [
        ("audit.directory", a.directory == b.directory),
        ("audit.origin", a.origin == b.origin),
        ("audit.subject", a.subject == b.subject),
        ("audit.subject_key", a.subject_key == b.subject_key),
        ("audit.subject_case", a.subject_case == b.subject_case),
        ("audit.signing_key", a.signing_key == b.signing_key),
        ("audit.anchors", a.anchors == b.anchors),
        ("admin.socket", old.admin.socket == new.admin.socket),
        ("log.format", old.log.format == new.log.format),
    ];
    let changed: Vec<&str> = pairs.iter().filter(|(_, same)| !same).map(|(key, _)| *key).collect();
    if changed.is_empty() {
        return Ok(());
    }
    Err(SetupError::RestartNeeded { file: new.file.clone(), keys: changed.join(", ") })
}

/// Everything that is read, and watched.
fn files(config: &Config) -> Vec<PathBuf> {
    Part::ALL.iter().flat_map(|part| part.files(config)).collect()
}

/// Kept connections lead where they led.
fn same_way(old: &Config, new: &Config) -> bool {
    old.upstream == new.upstream && old.destinations == new.destinations
}

fn same_names(old: &Config, new: &Config) -> bool {
    old.tls == new.tls && old.listen.hostnames == new.listen.hostnames && old.destinations == new.destinations
}

#[cfg(test)]
mod tests;
