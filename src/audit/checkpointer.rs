//! Signs how far the log has come, and puts that where the log itself is not: a thread of its own, so that neither
//! signing nor a slow anchor holds up a commit.
//!
//! At most once a second while records come, at once when a segment is sealed and when the relay stops, and hourly in any
//! case. The hourly ones and those of seals are kept for ever, and are one line each in the program's own log, so that
//! whoever collects that holds an anchor.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use tokio::time::Instant;

use super::disk::{self, Disk};
use crate::bounds;
use relay_log::ledger::merkle::Hash;
use relay_log::ledger::note::{CHECKPOINT, Checkpoint, KEPT, LINE, Signer, anchor_name};
use relay_log::ledger::tiles;
use relay_log::threads::{self, NoThread};

/// How far the log has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TreeHead {
    pub(super) size: u64,
    pub(super) root: Hash,
}

/// A handle on the thread.
#[derive(Debug)]
pub(super) struct Checkpointer {
    context: Arc<Context>,
}

#[derive(Debug, Default)]
struct Context {
    orders: Mutex<Orders>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Orders {
    head: Option<TreeHead>,
    tiles: Vec<(u64, Vec<Hash>)>,
    /// To be signed at once, and kept.
    kept: Vec<TreeHead>,
    /// Some of that is being signed.
    at_work: bool,
    /// Nothing more will come.
    ended: bool,
    /// Everything is done.
    left: bool,
}

/// What the thread holds.
struct Clerk {
    log: PathBuf,
    anchors: Vec<Anchor>,
    signer: Signer,
    disk: Arc<dyn Disk>,
    last: Option<TreeHead>,
    /// The hour of the last one that was kept.
    hour: i64,
    failing: bool,
}

impl Checkpointer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(
        log: &Path,
        anchors: &[PathBuf],
        signer: Signer,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, NoThread> {
        let (context, name) = (Arc::new(Context::default()), signer.verifier.name.clone());
        let mut clerk = Clerk {
            log: log.to_owned(),
            anchors: anchors
                .iter()
                .map(|folder| Anchor::start(folder, &name, disk.clone()))
                .collect::<Result<_, _>>()?,
            signer,
            disk,
            last: None,
            hour: 0,
            failing: false,
        };
        let shared = context.clone();
        threads::start("notary", move || clerk.work(&shared))?;
        Ok(Self { context })
    }

    /// Tells how far the log has come, and hands over tiles that have become full.
    pub(super) fn tell(&self, head: TreeHead, tiles: Vec<(u64, Vec<Hash>)>) {
        let mut orders = self.context.orders();
        // The clerk comes once a second; that it is told in between costs no wake-up.
        orders.head = Some(head);
        orders.tiles.extend(tiles);
    }

    /// Signs this one at once and keeps it, without being waited for: a segment ends there.
    pub(super) fn keep(&self, head: TreeHead) {
        let mut orders = self.context.orders();
        orders.kept.push(head);
        self.context.changed.notify_all();
    }

    /// Signs and keeps the newest head at once, and waits for that within a bound.
    pub(super) fn sign_now(&self) {
        let mut orders = self.context.orders();
        let last = orders.head;
        orders.kept.extend(last);
        self.context.changed.notify_all();
        let waits = |orders: &mut Orders| !orders.left && (!orders.kept.is_empty() || orders.at_work);
        let _ = self.context.changed.wait_timeout_while(orders, bounds::CHECKPOINTER_WAIT, waits);
    }

    /// Does so for the last time, anchors included.
    pub(super) fn leave(&self) {
        self.sign_now();
        let mut orders = self.context.orders();
        orders.ended = true;
        self.context.changed.notify_all();
        let waits = |orders: &mut Orders| !orders.left;
        let _ = self.context.changed.wait_timeout_while(orders, bounds::CHECKPOINTER_WAIT, waits);
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.context.orders().ended = true;
        self.context.changed.notify_all();
    }
}

impl Context {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clerk {
    fn work(&mut self, context: &Context) {
        let mut due = Instant::now();
        loop {
            let orders = context.orders();
            let until = due.saturating_duration_since(Instant::now());
            let idle = |orders: &mut Orders| orders.kept.is_empty() && !orders.ended;
            let waited = context.changed.wait_timeout_while(orders, until, idle);
            let (mut orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let (head, ended) = (orders.head, orders.ended);
            let (tiles, kept) = (std::mem::take(&mut orders.tiles), std::mem::take(&mut orders.kept));
            orders.at_work = true;
            drop(orders);

            for (tile, hashes) in tiles {
                // It can be made anew from the segments.
                if let Err(e) = tiles::write(&self.log, tile, &hashes) {
                    tracing::debug!("a tile of the audit log's tree is not written: {e}");
                }
            }
            for head in kept {
                self.sign(head, true);
            }
            if let Some(head) = head {
                let hour = Timestamp::now().as_second().div_euclid(3600);
                let hourly = std::mem::replace(&mut self.hour, hour) != hour;
                if hourly || self.last != Some(head) {
                    self.sign(head, hourly);
                }
            }
            context.orders().at_work = false;
            context.changed.notify_all();
            if ended {
                self.anchors.iter().for_each(Anchor::settle);
                context.orders().left = true;
                context.changed.notify_all();
                return;
            }
            due = Instant::now() + bounds::CHECKPOINT_EVERY;
        }
    }

    fn sign(&mut self, head: TreeHead, keep: bool) {
        let origin = self.signer.verifier.name.clone();
        let (size, root, time) = (head.size, head.root, Some(Timestamp::now()));
        let note = self.signer.sign(&Checkpoint { origin, size, root, time });
        let mut written = disk::put(self.disk.as_ref(), &self.log.join(CHECKPOINT), note.as_bytes());
        if keep && written.is_ok() {
            let kept = self.log.join(KEPT).join(format!("{size:020}.note"));
            written = disk::put(self.disk.as_ref(), &kept, note.as_bytes());
            tracing::info!("{LINE} {}", STANDARD.encode(&note));
        }
        self.tell_failure(&written);
        if written.is_ok() {
            self.last = Some(head);
        }
        for anchor in &self.anchors {
            anchor.post(note.clone());
        }
    }

    /// Once when it begins, once when it ends: a full disk must not fill the program's own log as well.
    fn tell_failure(&mut self, written: &io::Result<()>) {
        match written {
            Err(e) if !self.failing => {
                tracing::warn!("checkpoints of {} can't be written for now: {e}", self.log.display());
            }
            Ok(()) if self.failing => {
                tracing::info!("checkpoints of {} can be written again", self.log.display());
            }
            _ => {}
        }
        self.failing = written.is_err();
    }
}

/// A folder elsewhere that gets the newest checkpoint, from a thread of its own: a network file system that hangs holds
/// up nothing but itself.
#[derive(Clone, Debug, Default)]
struct Anchor(Arc<(Mutex<Letter>, Condvar)>);

#[derive(Debug, Default)]
struct Letter {
    note: Option<String>,
    on_its_way: bool,
    ended: bool,
}

impl Anchor {
    fn start(folder: &Path, origin: &str, disk: Arc<dyn Disk>) -> Result<Self, NoThread> {
        let (file, anchor) = (folder.join(anchor_name(origin)), Self::default());
        let carrier = anchor.clone();
        threads::start("anchor", move || carrier.carry(&file, disk.as_ref()))?;
        Ok(anchor)
    }

    fn letter(&self) -> MutexGuard<'_, Letter> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that still waits is replaced: the newest is worth more than all before it.
    fn post(&self, note: String) {
        self.letter().note = Some(note);
        self.0.1.notify_all();
    }

    /// Waits, within a bound, until the last one is there.
    fn settle(&self) {
        let mut letter = self.letter();
        letter.ended = true;
        self.0.1.notify_all();
        let waits = |letter: &mut Letter| letter.note.is_some() || letter.on_its_way;
        let _ = self.0.1.wait_timeout_while(letter, bounds::ANCHOR_WAIT, waits);
    }

    fn carry(&self, file: &Path, disk: &dyn Disk) {
        let mut failing = false;
        loop {
            let idle = |letter: &mut Letter| letter.note.is_none() && !letter.ended;
            let waited = self.0.1.wait_while(self.letter(), idle);
            let mut letter = waited.unwrap_or_else(PoisonError::into_inner);
            let Some(note) = letter.note.take() else { return };
            letter.on_its_way = true;
            drop(letter);
            let put = disk::put(disk, file, note.as_bytes());
            match &put {
                Err(e) if !failing => {
                    tracing::warn!("the anchor {} can't be written for now: {e}", file.display());
                }
                Ok(()) if failing => tracing::info!("the anchor {} can be written again", file.display()),
                _ => {}
            }
            failing = put.is_err();
            self.letter().on_its_way = false;
            self.0.1.notify_all();
        }
    }
}
