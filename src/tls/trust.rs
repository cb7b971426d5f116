//! Which clients trust which root: for each address the last request below a root and the last refusal, kept in a small
//! file beside the log, so that `ca status` and `ca rotate --finish` know without asking the running relay.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::bounds;
use crate::config::state_file;

/// The table, in memory and in `trust.json`.
#[derive(Debug)]
pub struct TrustTable {
    path: PathBuf,
    table: Mutex<HashMap<(IpAddr, String), ShownTrust>>,
    changed: Notify,
    /// Held while the file is written, so that an older table is never the last one.
    writing: Mutex<()>,
}

/// What one client showed of its trust in one root.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ShownTrust {
    /// The client.
    pub address: IpAddr,
    /// The root, by the first 16 hex digits of its SHA-256.
    pub root: String,
    /// When a request of it was read last.
    pub good: Option<Timestamp>,
    /// When it last refused the root: it said so, or left at once.
    pub refused: Option<Timestamp>,
}

/// What the requests and refusals of one address say together.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressTrust {
    /// It trusts the root.
    Trusts,
    /// It does not.
    Refuses,
    /// Some clients behind the address do, and others do not.
    Mixed,
}

impl ShownTrust {
    /// What is known of the address. Where trust and refusal are far from each other, the later one holds: a root was
    /// installed, or taken away.
    pub fn verdict(&self) -> AddressTrust {
        match (self.good, self.refused) {
            (Some(good), Some(refused)) if good.duration_since(refused).abs() < bounds::TRUST_MIXED => {
                AddressTrust::Mixed
            }
            _ if self.refuses() => AddressTrust::Refuses,
            _ => AddressTrust::Trusts,
        }
    }

    /// Whether its last word was a refusal.
    pub fn refuses(&self) -> bool {
        self.refused > self.good
    }
}

impl TrustTable {
    /// The file of a log's folder.
    pub fn path(log: &Path) -> PathBuf {
        log.join("trust.json")
    }

    /// What the file holds; nothing where there is none.
    ///
    /// # Errors
    /// The file can't be read, or isn't one that the relay wrote.
    pub fn read(path: &Path) -> io::Result<Vec<ShownTrust>> {
        state_file::read(path)
    }

    /// Goes on with what the file holds.
    pub fn open(log: &Path) -> Self {
        let path = Self::path(log);
        let seen = state_file::read_or_warn::<Vec<ShownTrust>>(&path);
        let table = seen.into_iter().map(|seen| ((seen.address, seen.root.clone()), seen)).collect();
        Self { path, table: Mutex::new(table), changed: Notify::new(), writing: Mutex::new(()) }
    }

    /// Notes that a client showed trust in this root, or refused it.
    pub fn note(&self, address: IpAddr, root: &str, good: bool) {
        let now = Timestamp::now();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (address, root.to_owned());
        if table.len() >= bounds::TRUST && !table.contains_key(&key) {
            let last = |seen: &ShownTrust| seen.good.max(seen.refused);
            let oldest = table.iter().min_by_key(|(_, seen)| last(seen)).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                table.remove(&oldest);
            }
        }
        let new = || ShownTrust { address, root: root.to_owned(), good: None, refused: None };
        let seen = table.entry(key).or_insert_with(new);
        let (said, before) =
            if good { (&mut seen.good, &mut seen.refused) } else { (&mut seen.refused, &mut seen.good) };
        *said = Some(now);
        // A clock that was ahead put it into the future; it was said earlier all the same.
        let earlier = now.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(now);
        *before = before.map(|time| time.min(earlier));
        self.changed.notify_one();
    }

    /// Whether the last word of a client was a refusal; `None` where it has said nothing.
    #[cfg(test)]
    pub(super) fn refuses(&self, address: IpAddr, root: &str) -> Option<bool> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.get(&(address, root.to_owned())).map(ShownTrust::refuses)
    }

    /// Writes the file whenever something changed, at most once in a while. Never returns.
    pub async fn keep_written(self: Arc<Self>) {
        state_file::keep_written(self, |this| &this.changed, Self::write, bounds::TRUST_WRITE).await;
    }

    /// Writes the file a last time.
    pub(crate) async fn write_last(self: Arc<Self>) {
        state_file::write_last(self, Self::write).await;
    }

    fn write(&self) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen: Vec<ShownTrust> =
            self.table.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        if seen.is_empty() && !self.path.exists() {
            return Ok(());
        }
        seen.sort_unstable_by(|a, b| (a.address, &a.root).cmp(&(b.address, &b.root)));
        state_file::write(&self.path, &seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_client_counts_for_each_root() {
        let folder = tempfile::tempdir().unwrap();
        let trust = TrustTable::open(folder.path());
        let address = "10.0.0.1".parse().unwrap();
        trust.note(address, "old", true);
        trust.note(address, "new", false);
        trust.write().unwrap();
        let seen = TrustTable::read(&TrustTable::path(folder.path())).unwrap();
        assert_eq!(
            seen.iter().map(|s| (s.root.as_str(), s.refuses())).collect::<Vec<_>>(),
            [("new", true), ("old", false)]
        );
        let again = TrustTable::open(folder.path());
        again.note(address, "new", true);
        again.write().unwrap();
        assert!(!TrustTable::read(&again.path).unwrap()[0].refuses());
    }

    #[test]
    fn a_later_word_holds_against_one_of_a_clock_that_was_ahead() {
        let folder = tempfile::tempdir().unwrap();
        let address = "10.0.0.1".parse().unwrap();
        let ahead = Timestamp::now() + SignedDuration::from_hours(400 * 24);
        for good in [true, false] {
            let trust = TrustTable::open(folder.path());
            trust.note(address, "root", !good);
            for seen in trust.table.lock().unwrap().values_mut() {
                *(if good { &mut seen.refused } else { &mut seen.good }) = Some(ahead);
            }
            trust.note(address, "root", good);
            assert_eq!(trust.refuses(address, "root"), Some(!good));
        }
    }

    #[test]
    fn both_from_one_address_within_a_day_is_mixed() {
        let hour = |hour: i64| Some(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour));
        let verdict = |good, refused| {
            let address = "10.0.0.1".parse().unwrap();
            ShownTrust { address, root: "root".into(), good, refused }.verdict()
        };
        assert_eq!(verdict(hour(0), None), AddressTrust::Trusts);
        assert_eq!(verdict(None, hour(0)), AddressTrust::Refuses);
        assert_eq!(verdict(hour(5), hour(20)), AddressTrust::Mixed);
        assert_eq!(verdict(hour(20), hour(5)), AddressTrust::Mixed);
        assert_eq!(verdict(hour(50), hour(20)), AddressTrust::Trusts);
        assert_eq!(verdict(hour(20), hour(50)), AddressTrust::Refuses);
    }

    #[test]
    fn the_table_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let trust = TrustTable::open(folder.path());
        for n in 0..bounds::TRUST + 10 {
            trust.note(IpAddr::from((n as u32).to_be_bytes()), "root", true);
        }
        assert_eq!(trust.table.lock().unwrap().len(), bounds::TRUST);
    }
}
