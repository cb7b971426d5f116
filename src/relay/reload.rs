//! Reloads: what changed goes into force, except for parts whose files can't be used; those are reported until they can.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

use super::status::RelayStatus;
use crate::app::App;
use crate::bounds;
use crate::config::watch::{ReloadCause, Watch};
use crate::listen::sockets::Bound;
use crate::observe::admin::{ReloadRequest, ReloadWaiter};
use crate::observe::log;
use crate::policy::sources::Registry;
use crate::setup::held::{HeldPart, Part};
use crate::setup::{Attempt, Setup, SetupError, Shared};
use relay_log::ledger::action::{Action, Outcome};
use relay_log::ledger::record::Record;

/// What reloads work with.
#[derive(Debug)]
pub(super) struct Reloads {
    pub(super) status: Arc<RelayStatus>,
    pub(super) shared: Shared,
    pub(super) listeners: Listeners,
    pub(super) watch: Watch,
    pub(super) asked: mpsc::Receiver<ReloadRequest>,
}

/// Why a reload has changed nothing.
#[derive(Debug, thiserror::Error)]
enum Undone {
    /// What was read may be half of it.
    #[error(
        "files that changed do not settle, because somebody writes them just now or a disk hangs; try again once they are \
         whole"
    )]
    Unsettled,
    /// Nothing can be made of what was read.
    #[error("{0}")]
    Failed(String),
}

impl Reloads {
    /// Reloads as files change and as somebody asks, for as long as the relay runs.
    pub(super) async fn keep(mut self) {
        loop {
            tokio::select! {
                // A failure has been logged, and is tried again.
                cause = self.watch.changed() => drop(self.reload(cause).await),
                Some(asked) = self.asked.recv() => self.reload_as_asked(asked).await,
            }
        }
    }

    /// Does one reload for all requests that wait: each client has written its files before it asked.
    async fn reload_as_asked(&mut self, asked: ReloadRequest) {
        let mut askers = Vec::new();
        let mut is_told = false;
        let mut next = Some(asked);
        while let Some(ReloadRequest { by }) = next {
            is_told |= by.is_none();
            askers.extend(by);
            next = self.asked.try_recv().ok();
        }
        for ReloadWaiter { user, .. } in &askers {
            let user =
                user.map_or_else(|| "an unknown user".into(), |user| format!("the user with the id {user}"));
            tracing::info!("{user} asks for a reload over the admin socket");
        }
        let before = self.status.app.setup.load_full();
        // A signal says that all files are whole, a verb only that its own is.
        let mut done =
            if is_told { self.reload(ReloadCause::OnDemand).await } else { Err(Undone::Unsettled) };
        if matches!(done, Err(Undone::Unsettled)) {
            done = self.reload_settled().await;
        }
        let answer = self.answer(&before, done.err());
        for ReloadWaiter { reply, .. } in askers {
            // A client that waits no more has seen its own time-out.
            let _ = reply.send(answer.clone());
        }
    }

    /// Reads everything once what changed has settled.
    async fn reload_settled(&mut self) -> Result<(), Undone> {
        for _ in 0..bounds::RELOAD_TRIES {
            if timeout(bounds::RELOAD_SETTLES, self.watch.settle()).await.is_err() {
                self.watch.look_again();
                break;
            }
            match self.reload(ReloadCause::Changed).await {
                Err(Undone::Unsettled) => {}
                done => return done,
            }
        }
        Err(Undone::Unsettled)
    }

    /// The answer to those who asked: what is in force.
    fn answer(&self, before: &Setup, undone: Option<Undone>) -> Value {
        let setup = self.status.app.setup.load();
        let changed = match setup.generation == before.generation {
            true => Vec::new(),
            false => setup.contents().changed_since(before.contents()),
        };
        let parts = Part::ALL.map(|part| {
            json!({
                "part": part.name(),
                "files": part.files(&setup.config),
                "since_generation": setup.since_generation(part),
            })
        });
        json!({
            "log": setup.config.audit.directory,
            "configuration": self.status.configuration(),
            "parts": parts,
            "changed": changed,
            "undone": undone.map(|why| why.to_string()),
        })
    }

    async fn reload(&mut self, cause: ReloadCause) -> Result<(), Undone> {
        let before = self.status.app.setup.load_full();
        let attempt = self.read(&before, Setup::again).await?;
        let overtaken = cause != ReloadCause::OnDemand && !self.watch.has_settled_at(&attempt.contents);
        if !attempt.settled || overtaken {
            // Somebody writes just now, and what was read may be half of it.
            self.watch.look_again();
            return Err(Undone::Unsettled);
        }
        let differs = attempt.made.contents() != before.contents();
        let bound = if differs { self.listen(&attempt.made, &before).await } else { Ok(()) };
        let attempt = match bound {
            Ok(()) => attempt,
            // It is `relay.toml` that says where to listen; with the one before, all listens as it did.
            Err(why) => {
                let but_for_it = move |before: &Setup, shared: &Shared| {
                    before.again_but_for_the_configuration(&why, shared)
                };
                let contents = attempt.contents;
                let again = self.read(&before, but_for_it).await?;
                if !again.settled {
                    self.watch.look_again();
                    return Err(Undone::Unsettled);
                }
                Attempt { contents: contents.and(again.contents), ..again }
            }
        };
        self.watch.follow(attempt.contents, !attempt.held.is_empty());
        let differs = attempt.made.contents() != before.contents();
        if differs {
            self.put_in_force(attempt.made, &before);
        } else if cause != ReloadCause::Again && attempt.held.is_empty() {
            let why =
                if cause == ReloadCause::OnDemand { "asked for a reload" } else { "files are as they were" };
            tracing::info!("{why}: nothing differs from what is in force (generation {})", before.generation);
        }
        self.tell(attempt.held, cause);
        Ok(())
    }

    /// Reads all files, off the workers and under a deadline: a disk that stalls must stall nothing else.
    async fn read(
        &self,
        before: &Arc<Setup>,
        read: impl FnOnce(&Setup, &Shared) -> Result<Attempt, SetupError> + Send + 'static,
    ) -> Result<Attempt, Undone> {
        let (before, shared) = (before.clone(), self.shared.clone());
        let generation = before.generation;
        let why = match self.watch.read(move || read(&before, &shared)).await {
            Ok(Ok(attempt)) => return Ok(attempt),
            // It has been logged.
            Err(e) => e.to_string(),
            Ok(Err(e)) => {
                tracing::error!("all that was in force stays (generation {generation}): {e}");
                e.to_string()
            }
        };
        self.status.metrics.reloads_refused.inc();
        Err(Undone::Failed(why))
    }

    /// Moves the sockets to the new addresses: the only step that is seen outside and can fail.
    async fn listen(&mut self, new: &Setup, before: &Setup) -> Result<(), String> {
        let (config, listeners) = (&new.config, &mut self.listeners);
        listeners.clients.change(&config.listen.addresses).await.map_err(|e| e.to_string())?;
        if let Err(e) = listeners.admin.change(&[config.admin.address]).await {
            if let Err(e) = listeners.clients.change(&before.config.listen.addresses).await {
                tracing::error!("{e}; restart the relay");
            }
            return Err(e.to_string());
        }
        Ok(())
    }

    fn put_in_force(&self, new: Setup, before: &Setup) {
        let app = &self.status.app;
        self.shared.own.store(Arc::new(self.listeners.clients.addresses()));
        app.exchange.memory.resize(&new.config);
        if new.config.audit.queue != before.config.audit.queue {
            app.exchange.journal.resize_queue(new.config.audit.queue);
        }
        app.exchange.refusals.set_budget(new.config.limits.strangers_log_per_day);
        new.access.set_budget(new.config.limits.strangers_log_per_day);
        log::set_level(new.config.log.level);
        new.warn();
        warn_of_loss(&before.policy.registry, &new.policy.registry);
        let changed = new.contents().changed_since(before.contents()).join(", ");
        let mut record = Record::new(Action::RelayConfig, Uuid::now_v7());
        record.outcome = Outcome::Success;
        record.reason = format!("generation {}: {changed}", new.generation);
        tracing::info!(
            "generation {} of the configuration is in force ({changed} changed): {} sources are allowed",
            new.generation,
            new.policy.registry.entries().len()
        );
        app.setup.store(new);
        // The client that asked for the reload does not wait for a disk that hangs; the end of the relay does.
        let journal = app.exchange.journal.clone();
        app.tasks.spawn(async move { journal.note_in_turn(vec![record]).await });
        forget_known(app);
    }

    /// Logs each part whose files say something else than what is in force, and each for which that is over; not again for one
    /// that was merely tried again and is as before.
    fn tell(&self, mut held: Vec<HeldPart>, cause: ReloadCause) {
        let generation = self.status.app.setup.load().generation;
        let before = self.status.held();
        let mut is_news = false;
        for part in &mut held {
            let known = before.iter().find(|known| known.part == part.part);
            part.since = known.map_or(part.since, |known| known.since);
            if cause != ReloadCause::Again || known.is_none_or(|known| known.why != part.why) {
                is_news = true;
                tracing::error!(
                    "the old {} {} in force (generation {generation}): {}",
                    part.part.name(),
                    part.part.stays(),
                    part.why
                );
            }
        }
        for over in before.iter().filter(|over| held.iter().all(|part| part.part != over.part)) {
            tracing::info!("the {} in force is what its files say again", over.part.name());
        }
        self.status.hold(held);
        if is_news {
            self.status.metrics.reloads_refused.inc();
        }
    }
}

/// A list that has lost many entries at once may be the wrong file, or the first half of the right one.
fn warn_of_loss(before: &Registry, new: &Registry) {
    let gone = before.gone_from(new);
    if gone.len() < bounds::LOSS || gone.len() * bounds::LOSS_SHARE < before.entries().len() {
        return;
    }
    let mut names: Vec<String> = gone.iter().take(bounds::WARNINGS).map(|entry| entry.label()).collect();
    if let Some(more) = gone.len().checked_sub(bounds::WARNINGS).filter(|more| *more > 0) {
        names.push(format!("and {more} more"));
    }
    tracing::warn!(
        "{} of {} entries are not in the allow-list any more, and are refused from now on: {}",
        gone.len(),
        before.entries().len(),
        names.join(", ")
    );
}

/// All listening sockets.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) clients: Bound,
    pub(super) admin: Bound,
}

/// Drops the pending rows of deployments that the list in force lets in.
pub(super) fn forget_known(app: &App) {
    let setup = app.setup.load_full();
    app.exchange.pending.forget(move |refused| setup.policy.registry.lets_in(refused));
}
