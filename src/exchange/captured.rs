//! The shapes of what passes, for `vocabulary capture`: a small table beside the log, which needs no running relay to be
//! read. It holds what was forwarded and answered, and no value of it, so that a site can give it to somebody else.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::bounds;
use crate::config::names::client;
use crate::config::state;
use crate::licensing::outline::Outline;

/// The shapes, in memory and in `captured.json`.
#[derive(Debug)]
pub struct Captured {
    path: PathBuf,
    table: Mutex<Table>,
    changed: Notify,
    /// Held while the file is written, so that no older table takes the place of a newer one.
    writing: Mutex<()>,
}

/// What the file holds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Table {
    /// Each once, in the order of their first exchanges.
    pub(crate) exchanges: Vec<Seen>,
    /// Exchanges whose shapes are not in the table, because it has as many of their kind, or of their client, as it takes.
    pub(crate) left_out: u64,
}

/// One shape, and how often it passed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Seen {
    #[serde(flatten)]
    pub(crate) outline: Outline,
    pub(crate) count: u64,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// The client that brought it; it is told to nobody.
    #[serde(skip)]
    client: Option<IpAddr>,
}

impl Captured {
    /// Goes on with what the file beside a log holds.
    pub(crate) fn open(log: &Path) -> Self {
        let path = Self::path(log);
        let table = state::read_or_warn(&path);
        Self { path, table: Mutex::new(table), changed: Notify::new(), writing: Mutex::default() }
    }

    /// The file of a log's folder.
    pub(crate) fn path(log: &Path) -> PathBuf {
        log.join("captured.json")
    }

    /// Counts an exchange. Each kind of message has room of its own, and of that no client has all: neither junk nor one
    /// deployment keeps the others out.
    pub(crate) fn note(&self, outline: Outline, address: IpAddr) {
        let now = Timestamp::now();
        let client = client(address);
        let mut table = self.table();
        self.changed.notify_one();
        if let Some(seen) = table.exchanges.iter_mut().find(|seen| seen.outline == outline) {
            seen.count = seen.count.saturating_add(1);
            seen.last = now;
            return;
        }
        let of_kind = || table.exchanges.iter().filter(|seen| seen.outline.exchange == outline.exchange);
        let full = of_kind().count() >= bounds::CAPTURED;
        if full || of_kind().filter(|seen| seen.client == Some(client)).count() >= bounds::CAPTURED_PER_CLIENT
        {
            table.left_out = table.left_out.saturating_add(1);
            return;
        }
        table.exchanges.push(Seen { outline, count: 1, first: now, last: now, client: Some(client) });
    }

    /// Writes the file whenever something changed, at most once in a while. Never returns.
    pub(crate) async fn keep_written(self: Arc<Self>) {
        state::keep_written(self, |this| &this.changed, Self::write, bounds::CAPTURE_WRITE).await;
    }

    /// Writes the file a last time.
    pub(crate) async fn write_last(self: Arc<Self>) {
        if let Ok(Err(e)) = tokio::task::spawn_blocking(move || self.write()).await {
            tracing::warn!("the shapes of what passed last can't be written: {e}");
        }
    }

    fn write(&self) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.table().clone();
        if table.exchanges.is_empty() && !self.path.exists() {
            return Ok(());
        }
        state::write(&self.path, &table)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
