//! A running relay, made from a configuration: start, reload, drain, stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::audit::journal::{Journal, State};
use crate::audit::recover::OpenError;
use crate::audit::refusals::Refusals;
use crate::config::model::{AllowList, Config, Identity};
use crate::config::names::{LicenseNumber, SourceId};
use crate::config::watch::Watch;
use crate::config::{Problems, private, sources};
use crate::exchange::Exchange;
use crate::http::body::BodyMemory;
use crate::http::serve::Conversations;
use crate::ledger::record::{Action, Observer, Outcome, Record};
use crate::licensing::subject::Pseudonyms;
use crate::licensing::vocabulary::Vocabulary;
use crate::listen::accept::{self, Door};
use crate::listen::sniff::Entrance;
use crate::observe::access::AccessLog;
use crate::observe::admin::{self, Admin};
use crate::policy::Policy;
use crate::policy::pending::Pending;
use crate::policy::users::Users;
use crate::tls::authority::Files;
use crate::tls::faces::Faces;
use crate::tls::leaf::LeafError;
use crate::tls::roots::{self, RootsError};
use crate::tls::rotation::Rotation;
use crate::tls::trust::Trust;
use crate::tunnel::connect::Proxy;
use crate::tunnel::copy::Buffers;
use crate::upstream::dial::Dialer;
use crate::upstream::send::Sender;
use crate::{bounds, ledger, licensing};

/// A relay that listens.
#[derive(Debug)]
pub struct Relay {
    config: Arc<Config>,
    conversations: Arc<Conversations>,
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    made_authority: bool,
    /// Listeners, watchers, timers: aborted when the relay stops.
    services: JoinSet<()>,
    /// Looks at `sources.toml` now.
    reload: Arc<Notify>,
}

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration, or a file it names, is not usable.
    #[error("{0}")]
    Configuration(Problems),
    /// Certificates.
    #[error("{0}")]
    Certificates(#[from] LeafError),
    /// Trust in the back end.
    #[error("{0}")]
    Roots(#[from] RootsError),
    /// A key.
    #[error("{0}")]
    SubjectKey(#[from] licensing::subject::KeyError),
    /// A file that is made at first start can't be made, or can't be read.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The log.
    #[error("{0}")]
    Log(#[from] OpenError),
    /// The log takes no first record.
    #[error("{0}")]
    FirstRecord(#[from] crate::audit::journal::CommitError),
    /// An address can't be listened on.
    #[error("{address} can't be listened on ({cause}); {advice}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
        /// What to do.
        advice: &'static str,
    },
}

/// Why a relay ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    /// It was told to, and every request in hand was answered.
    Stopped,
    /// It was told to, and some requests were cut off.
    CutOff,
    /// The log is given up.
    LogLost(String),
}

impl Relay {
    /// Makes what is missing, opens the log, binds, and serves.
    ///
    /// # Errors
    /// Anything that would make it serve wrongly; nothing is served then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let audit = &config.audit;
        let trust = Arc::new(Trust::open(&audit.directory));
        let faces = Faces::new(&config, trust.clone())?;
        let made_authority = faces.made;
        let faces = Arc::new(ArcSwap::from_pointee(faces));
        let pseudonyms = Pseudonyms::open_or_make(&audit.subject_key, audit.subject, audit.subject_case)?;
        make_signing_key(&config)?;
        let file = &config.sources.file;
        sources::create_if_missing(file).map_err(|cause| StartError::File { path: file.clone(), cause })?;
        let list = sources::load(file).map_err(StartError::Configuration)?;
        let words =
            Vocabulary::load(config.licensing.vocabulary.as_deref()).map_err(StartError::Configuration)?;
        let token = config.admin.token_file.as_ref().map(|path| {
            private::read_private(path).map_err(|cause| StartError::File { path: path.clone(), cause })
        });
        let token =
            token.transpose()?.map(|token| Arc::new(zeroize::Zeroizing::new(token.trim().to_owned())));

        let users = Users::load(&config.listen.users)
            .map_err(|cause| StartError::File { path: config.listen.users.clone(), cause })?;
        let dialer =
            Dialer::new(roots::client_config(&config.upstream)?, &config.upstream).map_err(|cause| {
                let credentials =
                    config.upstream.parent_proxy.as_ref().and_then(|proxy| proxy.credentials.clone());
                StartError::File { path: credentials.unwrap_or_default(), cause }
            })?;
        let sender = Sender::new(dialer, &config.upstream);
        let observer = Observer { name: audit.origin.clone(), version: env!("CARGO_PKG_VERSION") };
        let (journal, _writer) = Journal::open(&audit.directory, observer)?;

        let listeners = bind_all(&config.listen.addresses)?;
        let admin_listener = admin::bind(config.admin.address)
            .await
            .map_err(|cause| bind_error(config.admin.address, cause, "set admin.address to another port"))?;
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
        let admin_address = admin_listener.local_addr().unwrap_or(config.admin.address);
        sender.dialer.set_own_addresses(addresses.clone());
        journal.commit(vec![start_record(&config)]).await?;

        let (learned, learning) = mpsc::channel(bounds::LEARNED);
        let conversations = Arc::new(Conversations {
            exchange: Exchange {
                policy: Policy::new(&config, list),
                words: ArcSwap::from_pointee(words),
                pseudonyms,
                refusals: Refusals::new(journal.clone()),
                pending: Arc::new(Pending::open(&audit.directory)),
                journal,
                sender,
                on_failure: audit.on_failure,
                learned,
            },
            memory: BodyMemory::new(config.limits.max_body, config.limits.all_bodies),
            access: AccessLog::new(config.log),
            via: config.via,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        forget_known(&conversations.exchange);

        let proxy = Arc::new(Proxy {
            conversations: conversations.clone(),
            faces: faces.clone(),
            credentials: config.listen.credentials,
            users: ArcSwap::from_pointee(users),
            buffers: Buffers::default(),
        });
        let entrance = Arc::new(Entrance {
            proxy: proxy.clone(),
            conversations: conversations.clone(),
            faces: faces.clone(),
        });
        let door = Arc::new(Door::new(&config.listen));
        let mut services = JoinSet::new();
        for listener in listeners {
            services.spawn(door.clone().keep_open(listener, entrance.clone()));
        }
        let shared = conversations.clone();
        let unready = Arc::new(move || unready(&shared));
        services.spawn(Admin { unready, token }.serve(admin_listener));
        let watch = Watch::new(file);
        let reload = watch.poke();
        services.spawn(keep_sources(config.clone(), conversations.clone(), watch));
        if let Identity::Issuer { root, issuer, issuer_key } = &config.tls.identity {
            let rotation = Rotation::path(Files { root, issuer, issuer_key });
            services.spawn(keep_faces(Watch::new(&rotation), config.clone(), faces.clone(), trust.clone()));
        }
        services.spawn(trust.keep_written());
        services.spawn(keep_users(Watch::new(&config.listen.users), config.listen.users.clone(), proxy));
        services.spawn(keep_learned(config.clone(), conversations.clone(), learning));
        services.spawn(conversations.exchange.pending.clone().keep_written());
        services.spawn(keep_time(conversations.clone(), faces));

        Ok(Self { config, conversations, addresses, admin: admin_address, made_authority, services, reload })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where its health is shown.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Whether root, issuer and key were made at this start.
    pub fn made_authority(&self) -> bool {
        self.made_authority
    }

    /// Makes the relay look at `sources.toml` now, without waiting for an event.
    pub fn reloader(&self) -> Arc<Notify> {
        self.reload.clone()
    }

    /// Serves until it is told to stop or the log is lost; then drains.
    pub async fn run(self, told_to_stop: impl Future<Output = ()>) -> Ended {
        let mut state = self.conversations.exchange.journal.state();
        let lost = async {
            let lost = state.wait_for(|state| matches!(state, State::Poisoned(_))).await;
            match lost.as_deref() {
                Ok(State::Poisoned(why)) => why.clone(),
                _ => "its writer has ended".to_owned(),
            }
        };
        let blocking = self.config.audit.on_failure == crate::config::model::OnFailure::Block;
        let lost = tokio::select! {
            () = told_to_stop => None,
            why = lost, if blocking => Some(why),
        };
        let drained = self.drain().await;
        match lost {
            Some(why) => Ended::LogLost(why),
            None if drained => Ended::Stopped,
            None => Ended::CutOff,
        }
    }

    /// Accepts nothing new, lets what is in hand end, and writes that it stopped.
    async fn drain(mut self) -> bool {
        tracing::info!("stopping: no new connections, requests in hand get {} s", bounds::DRAIN.as_secs());
        self.conversations.stop.cancel();
        self.conversations.tasks.close();
        let drained = timeout(bounds::DRAIN, self.conversations.tasks.wait()).await.is_ok();
        self.services.shutdown().await;
        self.conversations.exchange.sender.close();
        self.conversations.exchange.refusals.flush();
        let mut record = Record::new(Action::RelayStop, Uuid::now_v7());
        record.outcome = if drained { Outcome::Success } else { Outcome::Failure };
        record.reason = if drained { "" } else { "requests in hand were cut off" }.into();
        if let Err(e) = self.conversations.exchange.journal.commit(vec![record]).await {
            tracing::error!("the stop is not in the audit log: {e}");
        }
        drained
    }
}

/// The key that signs checkpoints, made with the others so that all secrets are in one place from the first day.
fn make_signing_key(config: &Config) -> Result<(), StartError> {
    let path = &config.audit.signing_key;
    if path.exists() {
        return Ok(());
    }
    let written = match Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()) {
        // Version 1, which OpenSSL 3.0 reads: an auditor's own tools are the point of this key.
        Ok(key) => private::write_private(path, private::pem("PRIVATE KEY", key.as_ref()).as_bytes()),
        Err(_) => Err(io::Error::other("the system gives no random numbers")),
    };
    written.map_err(|cause| StartError::File { path: path.clone(), cause })
}

fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
    let bind = |address: &SocketAddr| {
        accept::bind(*address)
            .map_err(|cause| bind_error(*address, cause, "stop what listens there, or set listen.address"))
    };
    addresses.iter().map(bind).collect()
}

fn bind_error(address: SocketAddr, cause: io::Error, advice: &'static str) -> StartError {
    StartError::Bind { address, cause, advice }
}

fn start_record(config: &Config) -> Record {
    let mut record = Record::new(Action::RelayStart, Uuid::now_v7());
    record.outcome = Outcome::Success;
    record.reason = format!(
        "unknown sources: {:?}, unidentified: {:?}, on failure: {:?}, subjects: {:?}",
        config.sources.unknown, config.sources.unidentified, config.audit.on_failure, config.audit.subject
    )
    .to_lowercase();
    record
}

/// What keeps a relay from doing its work.
fn unready(conversations: &Conversations) -> Option<String> {
    if conversations.stop.is_cancelled() {
        return Some("draining".into());
    }
    match &*conversations.exchange.journal.state().borrow() {
        State::Writable => None,
        State::Blocked(why) => Some(format!("the audit log can't be written: {why}")),
        State::Poisoned(why) => Some(format!("the audit log is given up: {why}")),
    }
}

/// A changed `sources.toml` becomes the allow-list whole, or the old one stays and says why.
async fn keep_sources(config: Arc<Config>, conversations: Arc<Conversations>, mut watch: Watch) {
    loop {
        watch.changed().await;
        match sources::load(&config.sources.file) {
            Ok(list) => {
                let AllowList { sources } = &list;
                tracing::info!(
                    "{} has changed: {} sources are allowed",
                    config.sources.file.display(),
                    sources.len()
                );
                conversations.exchange.policy.replace(list, &config);
                forget_known(&conversations.exchange);
            }
            Err(problems) => tracing::error!("the old list of sources stays in force: {problems}"),
        }
    }
}

/// A step of a rotation likewise: all leaves are minted anew, or the old ones stay.
async fn keep_faces(mut watch: Watch, config: Arc<Config>, faces: Arc<ArcSwap<Faces>>, trust: Arc<Trust>) {
    loop {
        watch.changed().await;
        let (config, trust) = (config.clone(), trust.clone());
        let minted = tokio::task::spawn_blocking(move || Faces::new(&config, trust)).await;
        match minted {
            Ok(Ok(new)) => {
                tracing::info!("the certificates were read again: a rotation has taken a step");
                faces.store(Arc::new(new));
            }
            Ok(Err(e)) => tracing::error!("the old certificates stay in force: {e}"),
            Err(e) => tracing::error!("the old certificates stay in force: {e}"),
        }
    }
}

/// A changed file of users likewise.
async fn keep_users(mut watch: Watch, path: PathBuf, proxy: Arc<Proxy>) {
    loop {
        watch.changed().await;
        match Users::load(&path) {
            Ok(users) => {
                tracing::info!("{} has changed", path.display());
                proxy.users.store(Arc::new(users));
            }
            Err(e) => tracing::error!("the old users stay in force: {}: {e}", path.display()),
        }
    }
}

/// Writes the ids that enrolments have learned into `sources.toml`, which is then read again as any change of it.
async fn keep_learned(
    config: Arc<Config>,
    conversations: Arc<Conversations>,
    mut learned: mpsc::Receiver<(SourceId, Vec<LicenseNumber>)>,
) {
    while let Some((id, licenses)) = learned.recv().await {
        // Until the file says so, the id is known to this process alone: a restart would learn anew.
        while let Err(e) = write_learned(&config, &conversations, &id, &licenses).await {
            tracing::error!("source {id} can't be written into {}: {e}", config.sources.file.display());
            sleep(bounds::LEARNED_RETRY).await;
        }
    }
}

async fn write_learned(
    config: &Config,
    conversations: &Conversations,
    id: &SourceId,
    licenses: &[LicenseNumber],
) -> Result<(), String> {
    let registry = conversations.exchange.policy.registry();
    let waiting = registry.entries().iter().find_map(|entry| {
        let license = entry.source.licenses.iter().find(|license| licenses.contains(license))?;
        Some((license.clone(), entry.source.learn?))
    });
    let Some((license, learn)) = waiting else { return Ok(()) };
    let (file, bound_id, bound_license) = (config.sources.file.clone(), id.clone(), license.clone());
    let bind = move || sources::bind(&file, &bound_license, &learn, &bound_id);
    let bound = tokio::task::spawn_blocking(bind).await.map_err(|e| e.to_string())?;
    if bound.map_err(|e| e.to_string())? {
        tracing::info!("enrolled: source {id} is now bound to license {license}");
        let mut record = Record::new(Action::RelayConfig, Uuid::now_v7());
        record.outcome = Outcome::Success;
        record.reason = "an enrolment learned the id of its deployment".into();
        record.qlik.source_id = Some(id.to_string());
        record.qlik.license = Some(license.to_string());
        conversations.exchange.journal.note(vec![record]);
    }
    Ok(())
}

/// Those who were refused and would be let in now need no number any more.
fn forget_known(exchange: &Exchange) {
    let registry = exchange.policy.registry();
    exchange.pending.forget(|refused| {
        let source: Option<SourceId> = refused.source.as_deref().and_then(|id| id.parse().ok());
        let license: Option<LicenseNumber> =
            refused.license.as_deref().and_then(|number| number.parse().ok());
        registry.knows(source.as_ref(), license.as_ref())
    });
}

/// What the clock brings: counts of folded refusals, leaves past their half-life.
async fn keep_time(conversations: Arc<Conversations>, faces: Arc<ArcSwap<Faces>>) {
    let mut until_renewal = bounds::RENEWAL_CHECK;
    loop {
        sleep(bounds::REFUSAL_WINDOW).await;
        conversations.exchange.refusals.flush();
        until_renewal = until_renewal.saturating_sub(bounds::REFUSAL_WINDOW);
        if until_renewal.is_zero() {
            until_renewal = bounds::RENEWAL_CHECK;
            let faces = faces.load_full();
            // Keys are made, which takes long enough to be kept off the workers.
            let _ = tokio::task::spawn_blocking(move || faces.renew()).await;
        }
    }
}

/// The file of the log that is being written, for people.
pub fn active_log(config: &Config) -> PathBuf {
    let newest = ledger::segment::newest(&config.audit.directory).ok().flatten();
    newest.map_or_else(|| ledger::segment::path(&config.audit.directory, 0), |(_, path)| path)
}
