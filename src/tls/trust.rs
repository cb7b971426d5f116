//! Which clients trust which root: for each address the last good handshake and the last refusal, kept in a small file
//! beside the log, so that `ca status` and `ca rotate --finish` know without asking the running relay.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::bounds;
use crate::config::state;

/// The table, in memory and in `trust.json`.
#[derive(Debug)]
pub struct Trust {
    path: PathBuf,
    table: Mutex<HashMap<(IpAddr, String), Seen>>,
    changed: Notify,
}

/// What one client showed of its trust in one root.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Seen {
    /// The client.
    pub address: IpAddr,
    /// The root, by the first 16 hex digits of its SHA-256.
    pub root: String,
    /// The last handshake that it finished.
    pub good: Option<Timestamp>,
    /// The last one that it broke off because it doesn't trust the root.
    pub refused: Option<Timestamp>,
}

impl Seen {
    /// Whether its last word was a refusal.
    pub fn refuses(&self) -> bool {
        self.refused > self.good
    }
}

impl Trust {
    /// The file of a log's folder.
    pub fn path(log: &Path) -> PathBuf {
        log.join("trust.json")
    }

    /// What the file holds; nothing where there is none.
    ///
    /// # Errors
    /// The file can't be read, or isn't one that the relay wrote.
    pub fn read(path: &Path) -> io::Result<Vec<Seen>> {
        state::read(path)
    }

    /// Goes on with what the file holds.
    pub fn open(log: &Path) -> Self {
        let path = Self::path(log);
        let seen = state::read_or_warn::<Vec<Seen>>(&path);
        let table = seen.into_iter().map(|seen| ((seen.address, seen.root.clone()), seen)).collect();
        Self { path, table: Mutex::new(table), changed: Notify::new() }
    }

    /// Notes how a handshake with a leaf of this root ended.
    pub fn note(&self, address: IpAddr, root: &str, good: bool) {
        let now = Timestamp::now();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (address, root.to_owned());
        if table.len() >= bounds::TRUST && !table.contains_key(&key) {
            let last = |seen: &Seen| seen.good.max(seen.refused);
            let oldest = table.iter().min_by_key(|(_, seen)| last(seen)).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                table.remove(&oldest);
            }
        }
        let new = || Seen { address, root: root.to_owned(), good: None, refused: None };
        let seen = table.entry(key).or_insert_with(new);
        *(if good { &mut seen.good } else { &mut seen.refused }) = Some(now);
        self.changed.notify_one();
    }

    /// Writes the file whenever something changed, at most once in a while. Never returns.
    pub async fn keep_written(self: Arc<Self>) {
        state::keep_written(self, |this| &this.changed, Self::write, bounds::TRUST_WRITE).await;
    }

    fn write(&self) -> io::Result<()> {
        let mut seen: Vec<Seen> =
            self.table.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        seen.sort_unstable_by(|a, b| (a.address, &a.root).cmp(&(b.address, &b.root)));
        state::write(&self.path, &seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_client_counts_for_each_root() {
        let folder = tempfile::tempdir().unwrap();
        let trust = Trust::open(folder.path());
        let address = "10.0.0.1".parse().unwrap();
        trust.note(address, "old", true);
        trust.note(address, "new", false);
        trust.write().unwrap();
        let seen = Trust::read(&Trust::path(folder.path())).unwrap();
        assert_eq!(
            seen.iter().map(|s| (s.root.as_str(), s.refuses())).collect::<Vec<_>>(),
            [("new", true), ("old", false)]
        );
        let again = Trust::open(folder.path());
        again.note(address, "new", true);
        again.write().unwrap();
        assert!(!Trust::read(&again.path).unwrap()[0].refuses());
    }

    #[test]
    fn the_table_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let trust = Trust::open(folder.path());
        for n in 0..bounds::TRUST + 10 {
            trust.note(IpAddr::from((n as u32).to_be_bytes()), "root", true);
        }
        assert_eq!(trust.table.lock().unwrap().len(), bounds::TRUST);
    }
}
