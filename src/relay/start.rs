//! The start of a relay. Anything that would make it serve wrongly ends the start before a client is served.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Relay;
use super::clock::{keep_leaves, keep_time};
use super::enrol::keep_learned;
use super::reload::{Listeners, Reloads, forget_known};
use super::status::RelayStatus;
use super::vital::Vital;
use crate::app::App;
use crate::audit::disk::RealDisk;
use crate::audit::fork;
use crate::audit::journal::{CommitError, Journal, Opening};
use crate::audit::recover::OpenError;
use crate::audit::refusals::Refusals;
use crate::bounds;
use crate::config::model::{Audit, Config};
use crate::config::watch::Watch;
use crate::exchange::Exchange;
use crate::exchange::aliases::Aliases;
use crate::exchange::captured::Captured;
use crate::exchange::heavy_work::HeavyWork;
use crate::exchange::not_understood::NotUnderstood;
use crate::listen::accept::Acceptor;
use crate::listen::local::{self, Local, LocalError};
use crate::listen::sniff::Dispatcher;
use crate::listen::sockets::{BindError, Bound};
use crate::memory::{Memory, Parts};
use crate::observe::admin::AdminService;
use crate::policy::pending::{Codes, Pending};
use crate::setup::{InForce, Setup, SetupError, Shared};
use relay_log::files::edit;
use relay_log::ledger::action::{Action, Outcome};
use relay_log::ledger::note::{Signer, SigningKeyError};
use relay_log::ledger::record::{Observer, Record};
use relay_log::ledger::subject::Pseudonyms;
use relay_log::ledger::subject::keys::{KeyError, Keys};
use relay_log::names::SourceId;

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration, or a file it names, is not usable.
    #[error("{0}")]
    Setup(#[from] SetupError),
    /// The key of the subjects.
    #[error("{0}")]
    SubjectKey(#[from] KeyError),
    /// The key of the log.
    #[error("{0}")]
    SigningKey(#[from] SigningKeyError),
    /// The log.
    #[error("{0}")]
    Log(#[from] OpenError),
    /// The first record can't be written.
    #[error("{0}")]
    FirstRecord(#[from] CommitError),
    /// An address can't be listened on.
    #[error("{0}; {1}")]
    Bind(BindError, &'static str),
    /// The admin socket can't be made.
    #[error("{path} can't be the admin socket: {cause}")]
    Socket {
        /// Where it was to be.
        path: PathBuf,
        /// Why it can't.
        cause: LocalError,
    },
}

impl Relay {
    /// Makes what is missing, opens the log, binds, and serves.
    ///
    /// # Errors
    /// Anything that would make it serve wrongly; nothing is served then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let shared = Shared::new(&config);
        let setup = Arc::new(InForce::new(Setup::first(config, &shared)?));
        let first = setup.load_full();
        let config = &first.config;
        let journal = open_log(&config.audit)?;
        let (learned, learning) = mpsc::channel(bounds::LEARNED);
        let app = Arc::new(App::new(setup, make_exchange(config, journal, learned)?));
        let status = Arc::new(RelayStatus::new(app.clone(), shared.metrics.clone()));
        let admin = AdminService(status.clone());

        // Bound first, served last: nobody is served before the start is in the log, and no start is in the log of a relay
        // that can't listen.
        let (vital, begun) = (Vital::new(), CancellationToken::new());
        let socket = bind_socket(config)?;
        let mut listeners = Listeners {
            clients: client_sockets(&app, &shared, &vital, &begun),
            admin: admin_sockets(&admin, &vital),
        };
        listeners.bind(config).await?;
        let (addresses, admin_address) = (listeners.clients.addresses(), listeners.admin.addresses());
        shared.own.store(Arc::new(addresses.clone()));
        write_start(&app.exchange.journal, config).await?;
        warn_of_anchors(&config.audit);
        forget_known(&app);
        begun.cancel();

        let mut services = JoinSet::new();
        let (reload, asked) = mpsc::channel(bounds::RELOADS_ASKED);
        let socket = socket.map(|Local { listener, placed }| {
            let serving = admin.serve_local(listener, reload.clone());
            services.spawn(vital.service("serves the admin socket", serving));
            placed
        });
        let mut watch = Watch::new();
        watch.follow(first.contents().clone(), false);
        start_services(&mut services, &vital, Reloads { status, shared, listeners, watch, asked }, learning);
        let admin = admin_address.first().copied().unwrap_or(config.admin.address);
        Ok(Self { app, addresses, admin, services, vital, reload, socket })
    }
}

/// Opens the log, with the key that signs it, under the name that it has. From then on no other process writes here.
fn open_log(audit: &Audit) -> Result<Journal, StartError> {
    let (journal, _writer) = fork::open_named(audit, |origin| -> Result<_, StartError> {
        let signer = Signer::open_or_make(&audit.signing_key, origin)?;
        Ok(Journal::open(Opening::new(audit, signer, Arc::new(RealDisk)))?)
    })?;
    edit::clear_left_tables(&audit.directory);
    Ok(journal)
}

/// What takes requests to the back end, with the tables that lie beside the log. The log is open, and so locked: a key that
/// a verb is about to retire is not taken for the newest.
fn make_exchange(
    config: &Config,
    journal: Journal,
    learned: mpsc::Sender<SourceId>,
) -> Result<Exchange, StartError> {
    let audit = &config.audit;
    let pseudonyms = Pseudonyms::open_or_make(&audit.subject_key, audit.subject, audit.subject_case)?;
    for file in pseudonyms.keys().into_iter().flat_map(Keys::unusable) {
        tracing::warn!(
            "{} is named like a retired key of subjects, and holds none of that id; it is not used",
            file.display()
        );
    }
    // The raw form makes no pseudonyms, but numbers of refused deployments need a key all the same.
    let codes = match pseudonyms.keys() {
        Some(keys) => keys.for_enrolment(),
        None => Keys::read_or_make(&audit.subject_key, audit.subject_case)?.for_enrolment(),
    };
    let name = fork::name(&audit.directory, &audit.origin);
    let parts = Parts::of(config);
    Ok(Exchange {
        pseudonyms,
        aliases: Arc::new(Aliases::open(&audit.directory, &name)),
        refusals: Refusals::new(
            journal.clone(),
            Observer { name, version: env!("CARGO_PKG_VERSION") },
            config.limits.strangers_log_per_day,
        ),
        pending: Arc::new(Pending::open(&audit.directory, Codes::new(codes))),
        unread: Arc::new(NotUnderstood::open(&audit.directory)),
        captured: Arc::new(Captured::open(&audit.directory)),
        heavy_work: HeavyWork::new(parts.places),
        memory: Memory::new(parts),
        journal,
        learned,
    })
}

/// The sockets for clients: bound at once, and accepted from once the relay has begun.
fn client_sockets(app: &Arc<App>, shared: &Shared, vital: &Vital, begun: &CancellationToken) -> Bound {
    let dispatcher = Arc::new(Dispatcher::new(app.clone()));
    let acceptor = Arc::new(Acceptor::new(app.setup.clone(), shared.metrics.clone()));
    let (vital, begun) = (vital.clone(), begun.clone());
    Bound::new(move |listener| {
        let (begun, serving) = (begun.clone(), acceptor.clone().keep_open(listener, dispatcher.clone()));
        tokio::spawn(vital.service("accepts clients", async move {
            begun.cancelled().await;
            serving.await;
        }))
    })
}

fn admin_sockets(admin: &AdminService, vital: &Vital) -> Bound {
    let (admin, vital) = (admin.clone(), vital.clone());
    Bound::new(move |listener| {
        tokio::spawn(vital.service("serves the admin address", admin.clone().serve(listener)))
    })
}

impl Listeners {
    async fn bind(&mut self, config: &Config) -> Result<(), StartError> {
        let failed = |advice| move |cause| StartError::Bind(cause, advice);
        let admin = self.admin.change(&[config.admin.address]).await;
        admin.map_err(failed("set admin.address to another port"))?;
        let clients = self.clients.change(&config.listen.addresses).await;
        clients.map_err(failed("stop what listens there, or set listen.address"))
    }
}

/// Writes the start into the log, and signs it.
async fn write_start(journal: &Journal, config: &Config) -> Result<(), CommitError> {
    journal.commit(vec![start_record(config, journal.previous_stop())]).await?;
    journal.sign().await;
    Ok(())
}

/// Starts what runs beside the requests until the relay stops.
fn start_services(
    services: &mut JoinSet<()>,
    vital: &Vital,
    reloads: Reloads,
    learning: mpsc::Receiver<SourceId>,
) {
    let app = reloads.status.app.clone();
    services.spawn(vital.service("remembers trust", reloads.shared.trust.clone().keep_written()));
    services.spawn(vital.service("reloads and listens", reloads.keep()));
    services.spawn(vital.service("enrols", keep_learned(app.clone(), learning)));
    let exchange = &app.exchange;
    services.spawn(vital.service("keeps the refused", exchange.pending.clone().keep_written()));
    services.spawn(vital.service("keeps who is linked", exchange.aliases.clone().keep_written()));
    services.spawn(vital.service("keeps who is not understood", exchange.unread.clone().keep_written()));
    services.spawn(vital.service("keeps shapes", exchange.captured.clone().keep_written()));
    services.spawn(vital.service("keeps time", keep_time(app.clone())));
    services.spawn(vital.service("renews leaves", keep_leaves(app)));
}

/// Makes the admin socket. Where the configuration names none, a relay does without one on a file system that has no
/// sockets; but nothing that lies in its place is taken away, or left unsaid.
fn bind_socket(config: &Config) -> Result<Option<Local>, StartError> {
    let path = local::place(config);
    match Local::bind(&path) {
        Ok(local) => Ok(Some(local)),
        Err(cause @ (LocalError::TooLong(_) | LocalError::Io(_))) if config.admin.socket.is_none() => {
            tracing::warn!(
                "there is no admin socket, so that verbs can't ask this relay: {} can't be made: {cause}",
                path.display()
            );
            Ok(None)
        }
        Err(cause) => Err(StartError::Socket { path, cause }),
    }
}

/// An anchor is worth what separates it from the log.
fn warn_of_anchors(audit: &Audit) {
    if audit.anchors.is_empty() {
        tracing::warn!(
            "audit.anchors is empty: whoever has this machine can rewrite the audit log and sign it anew; name a folder on \
             another file system, or collect this log's lines elsewhere"
        );
    }
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    let own = device(&audit.directory);
    for anchor in &audit.anchors {
        match (device(anchor), &own) {
            (Ok(there), Ok(own)) if there == *own => tracing::warn!(
                "the anchor {} is on the same file system as the audit log: what takes one away takes both",
                anchor.display()
            ),
            (Err(e), _) => {
                tracing::warn!("the anchor {} can't be reached: {e}; make the folder", anchor.display());
            }
            _ => {}
        }
    }
}

fn start_record(config: &Config, previous_stop: Option<&'static str>) -> Record {
    let mut record = Record::new(Action::RelayStart, Uuid::now_v7());
    record.outcome = Outcome::Success;
    record.qlik.previous_stop = previous_stop;
    record.reason = format!(
        "unknown sources: {:?}, unidentified: {:?}, on failure: {:?}, subjects: {:?}",
        config.sources.unknown, config.sources.unidentified, config.audit.on_failure, config.audit.subject
    )
    .to_lowercase();
    record
}
