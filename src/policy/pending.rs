//! Who was refused lately, for `sources pending` and `sources allow NUMBER`: a small file beside the log, which
//! needs no admin port and no running relay to be read.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::bounds;
use crate::config::state;

/// The refused deployments, in memory and in `pending.json`.
#[derive(Debug)]
pub struct Pending {
    path: PathBuf,
    table: Mutex<Vec<Refused>>,
    changed: Notify,
}

/// One refused deployment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Refused {
    /// What `sources allow` takes.
    pub number: u32,
    /// The id it sent.
    pub source: Option<String>,
    /// The license it named.
    pub license: Option<String>,
    /// Its client's address.
    pub address: IpAddr,
    /// Its `User-Agent`: product and version.
    pub user_agent: Option<String>,
    /// Why it was refused.
    pub reason: String,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
    /// How often.
    pub count: u64,
}

impl Pending {
    /// The file of a log's folder.
    pub fn path(log: &Path) -> PathBuf {
        log.join("pending.json")
    }

    /// What the file holds; nothing where there is none.
    ///
    /// # Errors
    /// The file can't be read, or isn't one that the relay wrote.
    pub fn read(path: &Path) -> io::Result<Vec<Refused>> {
        state::read(path)
    }

    /// Goes on with what the file holds.
    pub fn open(log: &Path) -> Self {
        let path = Self::path(log);
        let table = state::read_or_warn::<Vec<Refused>>(&path);
        Self { path, table: Mutex::new(table), changed: Notify::new() }
    }

    /// Counts a refusal and gives the deployment's number. `None` where its address has too many already.
    pub fn note(
        &self,
        source: Option<&str>,
        license: Option<&str>,
        address: IpAddr,
        user_agent: Option<&str>,
        reason: &str,
    ) -> Option<u32> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::now();
        let same = |refused: &&mut Refused| {
            refused.source.as_deref() == source
                && refused.license.as_deref() == license
                && refused.address == address
        };
        if let Some(refused) = table.iter_mut().find(same) {
            refused.count += 1;
            refused.last = now;
            reason.clone_into(&mut refused.reason);
            self.changed.notify_one();
            return Some(refused.number);
        }
        if table.iter().filter(|refused| refused.address == address).count() >= bounds::PENDING_PER_ADDRESS {
            return None;
        }
        if table.len() >= bounds::PENDING
            && let Some(oldest) =
                table.iter().enumerate().min_by_key(|(_, refused)| refused.last).map(|(at, _)| at)
        {
            table.remove(oldest);
        }
        let number = table.iter().map(|refused| refused.number).max().unwrap_or(0).wrapping_add(1);
        table.push(Refused {
            number,
            source: source.map(Into::into),
            license: license.map(Into::into),
            address,
            user_agent: user_agent.map(Into::into),
            reason: reason.to_owned(),
            first: now,
            last: now,
            count: 1,
        });
        self.changed.notify_one();
        Some(number)
    }

    /// Drops those that would be let in now.
    pub fn forget(&self, known: impl Fn(&Refused) -> bool) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|refused| !known(refused));
        self.changed.notify_one();
    }

    /// Writes the file whenever something changed, at most once a second. Never returns.
    pub async fn keep_written(self: Arc<Self>) {
        state::keep_written(self, |this| &this.changed, Self::write, bounds::PENDING_WRITE).await;
    }

    /// Writes the file, whole or not at all.
    fn write(&self) -> io::Result<()> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner).clone();
        state::write(&self.path, &table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> (tempfile::TempDir, Pending) {
        let folder = tempfile::tempdir().unwrap();
        let pending = Pending::open(folder.path());
        (folder, pending)
    }

    #[test]
    fn one_deployment_has_one_number_and_a_count() {
        let (_folder, pending) = pending();
        let note = |source| pending.note(Some(source), None, "10.0.0.1".parse().unwrap(), None, "unknown");
        assert_eq!((note("a"), note("b"), note("a")), (Some(1), Some(2), Some(1)));
        pending.write().unwrap();
        assert_eq!(Pending::read(&pending.path).unwrap()[0].count, 2);
    }

    #[test]
    fn one_address_cannot_fill_the_table_and_the_table_is_bounded() {
        let (_folder, pending) = pending();
        for n in 0..2 * bounds::PENDING {
            let address = IpAddr::from([10, 0, (n / 16 / 256) as u8, (n / 16 % 256) as u8]);
            pending.note(Some(&n.to_string()), None, address, None, "unknown");
        }
        assert_eq!(pending.table.lock().unwrap().len(), bounds::PENDING);
        for n in 0..2 * bounds::PENDING_PER_ADDRESS {
            pending.note(Some(&format!("x{n}")), None, "10.9.9.9".parse().unwrap(), None, "unknown");
        }
        let of_one = |table: &[Refused]| table.iter().filter(|r| r.address.to_string() == "10.9.9.9").count();
        assert_eq!(of_one(&pending.table.lock().unwrap()), bounds::PENDING_PER_ADDRESS);
    }
}
