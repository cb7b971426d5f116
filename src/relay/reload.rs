//! Reloads: what changed becomes the setup in force, but for parts whose files can't be used, which are told until they can.

use std::sync::Arc;

use uuid::Uuid;

use super::{Listeners, Shown, forget_known};
use crate::bounds;
use crate::config::watch::{Cause, Watch};
use crate::ledger::record::{Action, Outcome, Record};
use crate::observe::log;
use crate::policy::sources::Registry;
use crate::setup::held::Held;
use crate::setup::{Attempt, Lasting, Setup, SetupError};

/// What reloads work with.
#[derive(Debug)]
pub(super) struct Reloads {
    pub(super) shown: Arc<Shown>,
    pub(super) lasting: Lasting,
    pub(super) listeners: Listeners,
    pub(super) watch: Watch,
}

impl Reloads {
    /// Reloads as files change, for as long as the relay runs.
    pub(super) async fn keep(mut self) {
        loop {
            let cause = self.watch.changed().await;
            self.reload(cause).await;
        }
    }

    async fn reload(&mut self, cause: Cause) {
        let before = self.shown.conversations.setup.load_full();
        let Some(attempt) = self.read(&before, Setup::again).await else { return };
        let overtaken = cause != Cause::Asked && !self.watch.has_settled_at(&attempt.contents);
        if !attempt.settled || overtaken {
            // Somebody writes just now, and what was read may be half of it.
            return self.watch.look_again();
        }
        let differs = attempt.made.contents() != before.contents();
        let bound = if differs { self.listen(&attempt.made, &before).await } else { Ok(()) };
        let attempt = match bound {
            Ok(()) => attempt,
            // It is `relay.toml` that says where to listen; with the one before, all listens as it did.
            Err(why) => {
                let but_for_it = move |before: &Setup, lasting: &Lasting| {
                    before.again_but_for_the_configuration(&why, lasting)
                };
                let contents = attempt.contents;
                let Some(again) = self.read(&before, but_for_it).await else { return };
                if !again.settled {
                    return self.watch.look_again();
                }
                Attempt { contents: contents.and(again.contents), ..again }
            }
        };
        self.watch.follow(attempt.contents, !attempt.held.is_empty());
        let differs = attempt.made.contents() != before.contents();
        if differs {
            self.put_in_force(attempt.made, &before);
        } else if cause != Cause::Again && attempt.held.is_empty() {
            let why = if cause == Cause::Asked { "asked for a reload" } else { "files are as they were" };
            tracing::info!("{why}: nothing differs from what is in force (generation {})", before.generation);
        }
        self.tell(attempt.held, cause);
    }

    /// Off the workers, and under a deadline: a disk that stalls must stall nothing else.
    async fn read(
        &self,
        before: &Arc<Setup>,
        read: impl FnOnce(&Setup, &Lasting) -> Result<Attempt, SetupError> + Send + 'static,
    ) -> Option<Attempt> {
        let (before, lasting) = (before.clone(), self.lasting.clone());
        let generation = before.generation;
        let Ok(attempt) = self.watch.read(move || read(&before, &lasting)).await else {
            self.shown.metrics.reloads_refused.inc();
            return None;
        };
        let why = match attempt {
            Ok(attempt) => return Some(attempt),
            Err(e) => e,
        };
        tracing::error!("all that was in force stays (generation {generation}): {why}");
        self.shown.metrics.reloads_refused.inc();
        None
    }

    /// The sockets: the only step that a new setup can fail at and that is seen outside.
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
        let conversations = &self.shown.conversations;
        self.lasting.own.store(Arc::new(self.listeners.clients.addresses()));
        if new.config.limits.all_bodies != before.config.limits.all_bodies {
            conversations.memory.resize(new.config.limits.all_bodies);
        }
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
        conversations.setup.store(new);
        conversations.exchange.journal.note(vec![record]);
        forget_known(conversations);
    }

    /// Tells each part whose files say something else than what is in force, and each for which that is over. One that was
    /// tried again and is as before has been told.
    fn tell(&self, mut held: Vec<Held>, cause: Cause) {
        let generation = self.shown.conversations.setup.load().generation;
        let before = self.shown.held();
        let mut is_news = false;
        for part in &mut held {
            let known = before.iter().find(|known| known.part == part.part);
            part.since = known.map_or(part.since, |known| known.since);
            if cause != Cause::Again || known.is_none_or(|known| known.why != part.why) {
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
        self.shown.hold(held);
        if is_news {
            self.shown.metrics.reloads_refused.inc();
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
