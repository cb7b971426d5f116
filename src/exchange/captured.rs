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
use crate::config::state_file;
use crate::licensing::outline::Outline;

/// The shapes, in memory and in `captured.json`.
#[derive(Debug)]
pub struct Captured {
    path: PathBuf,
    table: Mutex<CapturedShapes>,
    changed: Notify,
    /// Held while the file is written, so that no older table takes the place of a newer one.
    writing: Mutex<()>,
}

/// What the file holds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct CapturedShapes {
    /// Each once, in the order of their first exchanges.
    pub(crate) exchanges: Vec<CapturedShape>,
    /// Exchanges whose shapes are not in the table, because it has as many of their kind, or of their client, as it takes.
    pub(crate) left_out: u64,
}

/// One shape, and how often it passed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct CapturedShape {
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
        let table = state_file::read_or_warn(&path);
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
        table.exchanges.push(CapturedShape {
            outline,
            count: 1,
            first: now,
            last: now,
            client: Some(client),
        });
    }

    /// Writes the file whenever something changed, at most once in a while. Never returns.
    pub(crate) async fn keep_written(self: Arc<Self>) {
        state_file::keep_written(self, |this| &this.changed, Self::write, bounds::CAPTURE_WRITE).await;
    }

    /// Writes the file a last time.
    pub(crate) async fn write_last(self: Arc<Self>) {
        state_file::write_last(self, Self::write).await;
    }

    fn write(&self) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.table().clone();
        if table.exchanges.is_empty() && !self.path.exists() {
            return Ok(());
        }
        state_file::write(&self.path, &table)
    }

    fn table(&self) -> MutexGuard<'_, CapturedShapes> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::licensing::message::Message;
    use crate::licensing::outline::{Answered, Sent};
    use crate::licensing::reply::ReplyFacts;
    use crate::licensing::vocabulary::Words;

    fn outline(method: &Method, status: u16) -> Outline {
        let (target, headers) = ("/v1/sync".parse().unwrap(), HeaderMap::new());
        let message = Message::read(method, &target, &headers, b"", &Words::load(None).unwrap());
        let sent = Sent { method, target: &target, headers: &headers, is_empty: true, message: &message };
        Outline::of(
            sent,
            Answered { status, headers: &headers, is_empty: true, told: &ReplyFacts::nothing() },
        )
    }

    #[test]
    fn each_kind_has_room_of_its_own_and_no_client_has_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let captured = Captured::open(folder.path());
        let full = bounds::CAPTURED as u16;
        // One client, then many: the addresses of one /64 are one client.
        for status in 0..full {
            captured.note(outline(&Method::DELETE, status), format!("2001:db8::{status:x}").parse().unwrap());
        }
        assert_eq!(captured.table().exchanges.len(), bounds::CAPTURED_PER_CLIENT);
        for status in 0..2 * full {
            captured.note(outline(&Method::DELETE, status), [10, 0, 0, status as u8].into());
        }
        captured.note(outline(&Method::GET, 200), [10, 0, 0, 1].into());
        let table = captured.table().clone();
        assert_eq!(table.exchanges.len(), bounds::CAPTURED + 1);
        assert_eq!(table.exchanges.last().map(|seen| seen.outline.exchange.as_str()), Some("bare"));
        assert_eq!(table.left_out, u64::from(full) - bounds::CAPTURED_PER_CLIENT as u64 + u64::from(full));

        captured.write().unwrap();
        let again = Captured::open(folder.path());
        let counts =
            |table: &CapturedShapes| table.exchanges.iter().map(|seen| seen.count).collect::<Vec<_>>();
        assert_eq!(counts(&again.table()), counts(&table));
        let text = std::fs::read_to_string(Captured::path(folder.path())).unwrap();
        assert!(!text.contains("10.0.0") && !text.contains("2001"), "{text}");
    }
}
