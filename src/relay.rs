//! A running relay: it serves until it is asked to stop, then drains. Each other step of its life has a file below.

mod clock;
mod enrol;
mod reload;
mod start;
mod status;
mod vital;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::app::App;
use crate::audit::journal::State;
use crate::bounds;
use crate::config::model::{Config, OnFailure};
use crate::listen::local::Placed;
use crate::observe::admin::ReloadRequest;
use relay_log::ledger;
use relay_log::ledger::action::{Action, Outcome};
use relay_log::ledger::record::Record;
pub use start::StartError;
use vital::Vital;

/// The threads that a relay starts beside those that it runs on, without one for each anchor: the writer of the log, its
/// checkpointer and its archive, and the watch of files.
pub const THREADS: usize = 4;

/// A relay that listens.
#[derive(Debug)]
pub struct Relay {
    app: Arc<App>,
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    /// Watchers and timers, and with them the listeners: aborted when the relay stops.
    services: JoinSet<()>,
    /// Ends the relay once a service ends that it can't do without.
    vital: Vital,
    /// Asks for a reload.
    reload: mpsc::Sender<ReloadRequest>,
    /// The admin socket, as long as it can be asked.
    socket: Option<Placed>,
}

/// Why a relay ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    /// It was asked to stop, and every request in hand was answered.
    Stopped,
    /// It was asked to stop, and some requests were cut off.
    CutOff,
    /// The log is given up.
    LogLost(String),
    /// One of its services has ended, and it must not run without it.
    ServiceLost(String),
}

impl Relay {
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
        self.app.setup.load().faces.made
    }

    /// Takes requests to read the configuration and all of its files at once, without waiting for an event. It is full where
    /// earlier requests wait for their reload.
    pub fn reloader(&self) -> mpsc::Sender<ReloadRequest> {
        self.reload.clone()
    }

    /// Serves until it is asked to stop, or until it must not go on; then drains.
    pub async fn run(self, told_to_stop: impl Future<Output = ()>) -> Ended {
        let mut state = self.app.exchange.journal.state();
        let lost = async {
            let lost = state.wait_for(|state| matches!(state, State::Poisoned(_))).await;
            match lost.as_deref() {
                Ok(State::Poisoned(why)) => why.clone(),
                _ => "its writer has ended".to_owned(),
            }
        };
        let setup = self.app.setup.clone();
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
        self.app.stop.cancel();
        self.app.tasks.close();
        let drained = timeout(bounds::DRAIN, self.app.tasks.wait()).await.is_ok();
        drop(self.socket.take());
        self.services.shutdown().await;
        self.app.exchange.captured.clone().write_last().await;
        self.app.exchange.aliases.clone().write_last().await;
        self.app.setup.load_full().faces.trust().clone().write_last().await;
        self.app.setup.load().sender.close();
        self.app.exchange.refusals.flush();
        self.app.setup.load().access.write_folded();
        let mut record = Record::new(Action::RelayStop, Uuid::now_v7());
        record.outcome = if drained { Outcome::Success } else { Outcome::Failure };
        record.reason = if drained { "" } else { "requests in hand were cut off" }.into();
        let journal = &self.app.exchange.journal;
        if let Err(e) = journal.commit_outcome(vec![record]).await {
            tracing::error!("the stop is not in the audit log: {e}");
        }
        journal.close().await;
        drained
    }
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
    use std::fs;
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
