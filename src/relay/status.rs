//! What a running relay reports about itself: at `/status`, in `/readyz` and in `/metrics`.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::app::App;
use crate::audit::journal::State;
use crate::observe::admin::StatusSource;
use crate::observe::metrics::Metrics;
use crate::setup::held::{self, HeldPart};
use crate::tls::dates;

/// What the admin address shows.
#[derive(Debug)]
pub(super) struct RelayStatus {
    pub(super) app: Arc<App>,
    pub(super) metrics: Arc<Metrics>,
    /// The parts of the configuration that are not what their files say.
    held: Mutex<Vec<HeldPart>>,
}

impl RelayStatus {
    /// Shows what this app works with, and these counters.
    pub(super) fn new(app: Arc<App>, metrics: Arc<Metrics>) -> Self {
        Self { app, metrics, held: Mutex::default() }
    }

    pub(super) fn held(&self) -> Vec<HeldPart> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn hold(&self, held: Vec<HeldPart>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }

    /// Which configuration is in force, and what of its files is not.
    pub(super) fn configuration(&self) -> serde_json::Value {
        let setup = self.app.setup.load();
        let held = self.held();
        let whys: Vec<&str> = held.iter().map(|held| held.why.as_str()).collect();
        let refused = held.iter().map(|held| held.since).max();
        let refused = refused.map(|at| serde_json::json!({ "at": at, "why": whys.join("\n") }));
        let parts = held.iter().map(
            |held| serde_json::json!({ "part": held.part.name(), "since": held.since, "why": held.why }),
        );
        let parts: Vec<serde_json::Value> = parts.collect();
        serde_json::json!({
            "file": setup.config.file,
            "generation": setup.generation,
            "since": setup.since,
            "last_reload_refused": refused,
            "not_in_force": parts,
        })
    }
}

impl StatusSource for RelayStatus {
    fn unready(&self) -> Option<String> {
        if self.app.stop.is_cancelled() {
            return Some("draining".into());
        }
        match &*self.app.exchange.journal.state().borrow() {
            State::Writable => self.app.setup.load().faces.fault(dates::now()),
            State::Blocked(why) => Some(format!("the audit log can't be written: {why}")),
            State::Poisoned(why) => Some(format!("the audit log is given up: {why}")),
        }
    }

    fn differences(&self) -> Vec<String> {
        self.held().iter().map(|held| held::words(held.part.name(), held.since, &held.why)).collect()
    }

    fn status(&self) -> serde_json::Value {
        let setup = self.app.setup.load();
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "not_ready": self.unready(),
            "log": setup.config.audit.directory,
            "configuration": self.configuration(),
            "sources": {
                "file": setup.config.sources.file,
                "allowed": setup.policy.registry.entries().len(),
                "observe": setup.observes(),
            },
        })
    }

    fn metrics(&self) -> String {
        let setup = self.app.setup.load();
        self.metrics.generation.set(count(setup.generation));
        self.metrics.sources.set(count(setup.policy.registry.entries().len()));
        self.metrics.parts_held.set(count(self.held().len()));
        self.metrics.observe.set(i64::from(setup.observes()));
        let lasting = self.app.exchange.unread.lasting(Timestamp::now());
        self.metrics.unrecognised.set(count(lasting));
        self.metrics.ready.set(u64::from(self.unready().is_none()));
        self.metrics.text()
    }

    fn token(&self) -> Option<Arc<Zeroizing<String>>> {
        self.app.setup.load().token.as_ref().map(|token| token.0.clone())
    }
}

/// A count as the value of a gauge.
fn count(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
