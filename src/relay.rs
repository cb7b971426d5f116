//! A running relay, made from a configuration: start, reload, drain, stop.

mod clock;
mod enrol;
mod reload;
mod status;
mod vital;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::audit::disk::RealDisk;
use crate::audit::fork;
use crate::audit::journal::{Journal, Opening, State};
use crate::audit::recover::OpenError;
use crate::audit::refusals::Refusals;
use crate::config::edit;
use crate::config::model::{Audit, Config, OnFailure};
use crate::config::watch::Watch;
use crate::exchange::Exchange;
use crate::exchange::aliases::Aliases;
use crate::exchange::captured::Captured;
use crate::exchange::desk::Desk;
use crate::exchange::not_understood::Unread;
use crate::http::serve::Conversations;
use crate::ledger::action::{Action, Outcome};
use crate::ledger::note::{Signer, SigningKeyError};
use crate::ledger::record::{Observer, Record};
use crate::ledger::subject::Pseudonyms;
use crate::ledger::subject::keys::{KeyError, Keys};
use crate::listen::accept::Door;
use crate::listen::local::{self, Local, LocalError, Placed};
use crate::listen::sniff::Entrance;
use crate::listen::sockets::{BindError, Bound};
use crate::memory::{Memory, Parts};
use crate::observe::access;
use crate::observe::admin::{Admin, Asked};
use crate::policy::pending::{Codes, Pending};
use crate::relay::clock::{keep_leaves, keep_time};
use crate::relay::enrol::keep_learned;
use crate::relay::reload::{Listeners, forget_known};
use crate::relay::status::Shown;
use crate::setup::{InForce, Lasting, Setup, SetupError};
use crate::tls::trust::Trust;
use crate::tunnel::connect::Proxy;
use crate::tunnel::copy::Buffers;
use crate::{bounds, ledger};
use reload::Reloads;
use vital::Vital;

/// The threads that a relay starts beside those that it runs on, without one for each anchor: the writer of the log, its
/// notary and its archive, and the watch of files.
pub const THREADS: usize = 4;

/// A relay that listens.
#[derive(Debug)]
pub struct Relay {
    conversations: Arc<Conversations>,
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    /// Watchers and timers, and with them the listeners: aborted when the relay stops.
    services: JoinSet<()>,
    /// What must not end before the relay does.
    vital: Vital,
    /// Reads everything again, now.
    reload: mpsc::Sender<Asked>,
    /// The admin socket, as long as it can be asked.
    socket: Option<Placed>,
}

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
    /// The log takes no first record.
    #[error("{0}")]
    FirstRecord(#[from] crate::audit::journal::CommitError),
    /// An address can't be listened on.
    #[error("{0}; {1}")]
    Bind(BindError, &'static str),
    /// There can't be an admin socket.
    #[error("{path} can't be the admin socket: {cause}")]
    Socket {
        /// Where it was to be.
        path: PathBuf,
        /// Why it can't.
        cause: LocalError,
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
    /// A service of its own has ended, without which it must not go on.
    ServiceLost(String),
}

impl Relay {
    /// Makes what is missing, opens the log, binds, and serves.
    ///
    /// # Errors
    /// Anything that would make it serve wrongly; nothing is served then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let lasting = Lasting {
            trust: Arc::new(Trust::open(&config.audit.directory)),
            own: Arc::default(),
            metrics: Arc::default(),
            refused: access::refused(config.limits.strangers_log_per_day),
        };
        let setup = Arc::new(InForce::new(Setup::first(config, &lasting)?));
        let first = setup.load_full();
        let (config, audit) = (&first.config, &first.config.audit);
        let (journal, _writer) = fork::open_named(audit, |origin| -> Result<_, StartError> {
            let signer = Signer::open_or_make(&audit.signing_key, origin)?;
            Ok(Journal::open(Opening::new(audit, signer, Arc::new(RealDisk)))?)
        })?;
        edit::clear_left_tables(&audit.directory);
        // Behind the log's lock: a key that a verb is about to retire is not taken for the newest.
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
        let (learned, learning) = mpsc::channel(bounds::LEARNED);
        let conversations = Arc::new(Conversations {
            setup: setup.clone(),
            exchange: Exchange {
                pseudonyms,
                aliases: Arc::new(Aliases::open(&audit.directory, &name)),
                refusals: Refusals::new(
                    journal.clone(),
                    Observer { name, version: env!("CARGO_PKG_VERSION") },
                    config.limits.strangers_log_per_day,
                ),
                pending: Arc::new(Pending::open(&audit.directory, Codes::new(codes))),
                unread: Arc::new(Unread::open(&audit.directory)),
                captured: Arc::new(Captured::open(&audit.directory)),
                desk: Desk::new(parts.places),
                memory: Memory::new(parts),
                journal,
                learned,
            },
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let proxy = Proxy { conversations: conversations.clone(), buffers: Buffers::default() };
        let entrance = Arc::new(Entrance { proxy, conversations: conversations.clone() });
        let door = Arc::new(Door::new(setup.clone(), lasting.metrics.clone()));
        // Bound first, served last: nobody is served whose start is not in the log, and no start is in the log of a relay
        // that can't listen.
        let begun = CancellationToken::new();
        let vital = Vital::new();
        let (begin, accepting) = (begun.clone(), vital.clone());
        let open = move |listener| {
            let (begin, serving) = (begin.clone(), door.clone().keep_open(listener, entrance.clone()));
            tokio::spawn(accepting.service("accepts clients", async move {
                begin.cancelled().await;
                serving.await;
            }))
        };
        let shown = Arc::new(Shown {
            conversations: conversations.clone(),
            metrics: lasting.metrics.clone(),
            held: Mutex::default(),
        });
        let socket = bind_socket(config)?;
        let (reload, asked) = mpsc::channel(bounds::RELOADS_ASKED);
        let admin = Admin(shown.clone());
        let (health, showing) = (admin.clone(), vital.clone());
        let mut listeners = Listeners {
            clients: Bound::new(open),
            admin: Bound::new(move |listener| {
                tokio::spawn(showing.service("serves the admin address", health.clone().serve(listener)))
            }),
        };
        listeners
            .admin
            .change(&[config.admin.address])
            .await
            .map_err(|cause| StartError::Bind(cause, "set admin.address to another port"))?;
        listeners
            .clients
            .change(&config.listen.addresses)
            .await
            .map_err(|cause| StartError::Bind(cause, "stop what listens there, or set listen.address"))?;
        let addresses = listeners.clients.addresses();
        let admin_address = listeners.admin.addresses().first().copied().unwrap_or(config.admin.address);
        lasting.own.store(Arc::new(addresses.clone()));
        conversations
            .exchange
            .journal
            .commit(vec![start_record(config, conversations.exchange.journal.previous_stop())])
            .await?;
        conversations.exchange.journal.sign().await;
        warn_of_anchors(&config.audit);
        forget_known(&conversations);
        begun.cancel();

        let mut watch = Watch::new();
        watch.follow(first.contents().clone(), false);
        let reloads = Reloads { shown, lasting, listeners, watch, asked };
        let mut services = JoinSet::new();
        let socket = socket.map(|Local { listener, placed }| {
            let serving = admin.serve_local(listener, reload.clone());
            services.spawn(vital.service("serves the admin socket", serving));
            placed
        });
        services.spawn(vital.service("remembers trust", reloads.lasting.trust.clone().keep_written()));
        services.spawn(vital.service("reloads and listens", reloads.keep()));
        services.spawn(vital.service("enrols", keep_learned(conversations.clone(), learning)));
        let exchange = &conversations.exchange;
        services.spawn(vital.service("keeps the refused", exchange.pending.clone().keep_written()));
        services.spawn(vital.service("keeps who is linked", exchange.aliases.clone().keep_written()));
        services.spawn(vital.service("keeps who is not understood", exchange.unread.clone().keep_written()));
        services.spawn(vital.service("keeps shapes", exchange.captured.clone().keep_written()));
        services.spawn(vital.service("keeps time", keep_time(conversations.clone())));
        services.spawn(vital.service("renews leaves", keep_leaves(conversations.clone())));

        Ok(Self { conversations, addresses, admin: admin_address, services, vital, reload, socket })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where its health is shown.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where verbs ask it, if they can.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_ref().map(Placed::path)
    }

    /// Whether root, issuer and key were made at this start.
    pub fn made_authority(&self) -> bool {
        self.conversations.setup.load().faces.made
    }

    /// Makes the relay read its configuration and all files of it now, without waiting for an event. Where it takes none,
    /// others that were asked for have not begun yet.
    pub fn reloader(&self) -> mpsc::Sender<Asked> {
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
        let setup = self.conversations.setup.clone();
        let lost = async {
            let why = lost.await;
            while setup.load().config.audit.on_failure == OnFailure::Degrade {
                sleep(bounds::JOURNAL_TICK).await;
            }
            why
        };
        let vital = self.vital.clone();
        let ended = tokio::select! {
            () = told_to_stop => None,
            why = lost => Some(Ended::LogLost(why)),
            why = vital.ended() => Some(Ended::ServiceLost(why)),
        };
        if let Some(Ended::ServiceLost(why)) = &ended {
            tracing::error!("{why}; the relay stops, so that what starts it can start it anew");
        }
        let drained = self.drain().await;
        ended.unwrap_or(if drained { Ended::Stopped } else { Ended::CutOff })
    }

    /// Accepts nothing new, lets what is in hand end, and writes that it stopped.
    async fn drain(mut self) -> bool {
        tracing::info!("stopping: no new connections, requests in hand get {} s", bounds::DRAIN.as_secs());
        self.conversations.stop.cancel();
        self.conversations.tasks.close();
        let drained = timeout(bounds::DRAIN, self.conversations.tasks.wait()).await.is_ok();
        drop(self.socket.take());
        self.services.shutdown().await;
        self.conversations.exchange.captured.clone().write_last().await;
        self.conversations.exchange.aliases.clone().write_last().await;
        self.conversations.setup.load_full().faces.trust().clone().write_last().await;
        self.conversations.setup.load().sender.close();
        self.conversations.exchange.refusals.flush();
        self.conversations.setup.load().access.write_folded();
        let mut record = Record::new(Action::RelayStop, Uuid::now_v7());
        record.outcome = if drained { Outcome::Success } else { Outcome::Failure };
        record.reason = if drained { "" } else { "requests in hand were cut off" }.into();
        let journal = &self.conversations.exchange.journal;
        if let Err(e) = journal.commit_outcome(vec![record]).await {
            tracing::error!("the stop is not in the audit log: {e}");
        }
        journal.close().await;
        drained
    }
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

/// The file of the log that is being written, for people.
pub fn active_log(config: &Config) -> PathBuf {
    let newest = ledger::segment::newest(&config.audit.directory).ok().flatten();
    newest.map_or_else(|| ledger::segment::path(&config.audit.directory, 0), |segment| segment.path)
}

#[cfg(test)]
mod wait_tests;

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::config::file;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_relay_that_loses_a_service_ends_and_says_which() {
        let folder = tempfile::tempdir().unwrap();
        // What the configuration does not name lies beside its folder.
        let path = folder.path().join("config/relay.toml");
        fs::create_dir(folder.path().join("config")).unwrap();
        let config = "[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
        fs::write(&path, config).unwrap();
        let (config, _) = file::load(&path).unwrap();
        let mut relay = Relay::start(config).await.unwrap();
        let address = relay.addresses()[0];
        // Stands for any of them: none can be made to fail from outside.
        relay.services.spawn(relay.vital.service("is spoilt", async { panic!("on purpose") }));
        let Ended::ServiceLost(why) = relay.run(pending()).await else { panic!("another end") };
        assert!(why.contains("is spoilt has failed"), "{why}");
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}
