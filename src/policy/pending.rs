//! Who was refused lately, for `sources pending` and `sources allow NUMBER`: a small file beside the log, which
//! needs no admin port and no running relay to be read.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::limits::client;
use crate::bounds;
use crate::config::state;
use crate::ledger::entry::product_of;

/// So many digits tell keys apart for people. More of a secret's hash has no business on the disk.
pub const FINGERPRINT: usize = 16;

/// The refused deployments, in memory and in `pending.json`.
#[derive(Debug)]
pub struct Pending {
    path: PathBuf,
    table: Mutex<Table>,
    changed: Notify,
}

/// What the file holds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Table {
    /// The last number given: none is given twice, or a command copied yesterday would let in somebody else today.
    last: u32,
    refused: Vec<Refused>,
}

/// What a refused request tells about its deployment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// The id.
    pub source: Option<&'a str>,
    /// The license.
    pub license: Option<&'a str>,
    /// SHA-256 of the signed license key, in hex; of which the first [`FINGERPRINT`] digits are kept.
    pub fingerprint: Option<&'a str>,
    /// The `User-Agent`.
    pub user_agent: Option<&'a str>,
}

/// What tells the deployments of one address apart: the best that is known of each.
#[derive(Eq, PartialEq)]
enum Who<'a> {
    Source(&'a str),
    License(&'a str),
    Key(&'a str),
    Nobody,
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
    /// The first [`FINGERPRINT`] hex digits of SHA-256 of the signed license key it sent.
    pub fingerprint: Option<String>,
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
        state::read::<Table>(path).map(|table| table.refused)
    }

    /// Goes on with what the file holds.
    pub fn open(log: &Path) -> Self {
        let path = Self::path(log);
        let table = state::read_or_warn::<Table>(&path);
        Self { path, table: Mutex::new(table), changed: Notify::new() }
    }

    /// Counts a refusal and gives the deployment's number. `None` where its address has too many already.
    pub fn note(&self, told: Told<'_>, address: IpAddr, reason: &str) -> Option<u32> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::now();
        let told = Told { fingerprint: told.fingerprint.and_then(|hex| hex.get(..FINGERPRINT)), ..told };
        let who = who(told.source, told.license, told.fingerprint);
        let owned = |text: Option<&str>| text.map(str::to_owned);
        if let Some(refused) =
            table.refused.iter_mut().find(|refused| refused.address == address && refused.who() == who)
        {
            refused.count += 1;
            refused.last = now;
            reason.clone_into(&mut refused.reason);
            // A report of consumption names no license and carries no key; the next sync may.
            refused.license = refused.license.take().or_else(|| owned(told.license));
            refused.fingerprint = refused.fingerprint.take().or_else(|| owned(told.fingerprint));
            let number = refused.number;
            self.changed.notify_one();
            return Some(number);
        }
        let of_client = table.refused.iter().filter(|refused| client(refused.address) == client(address));
        if of_client.count() >= bounds::PENDING_PER_ADDRESS {
            return None;
        }
        if table.refused.len() >= bounds::PENDING
            && let Some(oldest) =
                table.refused.iter().enumerate().min_by_key(|(_, refused)| refused.last).map(|(at, _)| at)
        {
            table.refused.remove(oldest);
        }
        table.last = table.last.checked_add(1).unwrap_or(1);
        let number = table.last;
        table.refused.push(Refused {
            number,
            source: owned(told.source),
            license: owned(told.license),
            fingerprint: owned(told.fingerprint),
            address,
            user_agent: owned(told.user_agent),
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
        table.refused.retain(|refused| !known(refused));
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

impl Refused {
    /// Product and version, where the `User-Agent` is a license service's.
    pub fn product(&self) -> Option<(&str, &str)> {
        product_of(self.user_agent.as_deref()?)
    }

    /// Whether this one, which names its id, seems to be the deployment whose activation was refused as the other.
    pub fn has_activated_as(&self, other: &Self) -> bool {
        self.source.is_some()
            && other.source.is_none()
            && self.address == other.address
            && self.license.is_some()
            && self.license == other.license
    }

    fn who(&self) -> Who<'_> {
        who(self.source.as_deref(), self.license.as_deref(), self.fingerprint.as_deref())
    }
}

fn who<'a>(source: Option<&'a str>, license: Option<&'a str>, fingerprint: Option<&'a str>) -> Who<'a> {
    let by_key = || fingerprint.map_or(Who::Nobody, Who::Key);
    source.map(Who::Source).or_else(|| license.map(Who::License)).unwrap_or_else(by_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> (tempfile::TempDir, Pending) {
        let folder = tempfile::tempdir().unwrap();
        let pending = Pending::open(folder.path());
        (folder, pending)
    }

    fn named(source: &str) -> Told<'_> {
        Told { source: Some(source), ..Told::default() }
    }

    #[test]
    fn one_deployment_has_one_number_and_a_count() {
        let (_folder, pending) = pending();
        let note = |source| pending.note(named(source), "10.0.0.1".parse().unwrap(), "unknown");
        assert_eq!((note("a"), note("b"), note("a")), (Some(1), Some(2), Some(1)));
        pending.write().unwrap();
        assert_eq!(Pending::read(&pending.path).unwrap()[0].count, 2);
    }

    #[test]
    fn a_deployment_is_one_row_by_its_license_and_one_by_its_id_whatever_else_it_tells() {
        let (_folder, pending) = pending();
        let note = |source, license, fingerprint: Option<&str>| {
            let fingerprint = fingerprint.map(|digits| digits.repeat(32));
            let told = Told { source, license, fingerprint: fingerprint.as_deref(), user_agent: None };
            pending.note(told, "10.0.0.1".parse().unwrap(), "unknown").unwrap()
        };
        assert_eq!(note(None, Some("1234"), Some("f0")), 1);
        assert_eq!(note(None, Some("1234"), None), 1);
        assert_eq!(note(None, Some("1234"), Some("f1")), 1, "its key was renewed");
        assert_eq!(note(Some("a"), None, None), 2, "a report of consumption");
        assert_eq!(note(Some("a"), Some("1234"), None), 2, "its sync");
        assert_eq!(note(None, None, Some("f2")), 3, "a key that names no license");
        let rows = pending.table.lock().unwrap().refused.clone();
        assert_eq!(rows[0].fingerprint, Some("f0".repeat(8)));
        assert!(rows[1].has_activated_as(&rows[0]) && !rows[0].has_activated_as(&rows[1]));
        assert!(!rows[1].has_activated_as(&rows[2]));
    }

    #[test]
    fn a_number_is_never_given_twice_even_over_a_restart() {
        let (folder, pending) = pending();
        let note = |pending: &Pending, source| pending.note(named(source), [10, 0, 0, 1].into(), "unknown");
        assert_eq!((note(&pending, "a"), note(&pending, "b")), (Some(1), Some(2)));
        pending.forget(|_| true);
        assert_eq!(note(&pending, "c"), Some(3));
        pending.forget(|_| true);
        pending.write().unwrap();
        assert_eq!(note(&Pending::open(folder.path()), "d"), Some(4));
    }

    #[test]
    fn one_address_cannot_fill_the_table_and_the_table_is_bounded() {
        let (_folder, pending) = pending();
        for n in 0..2 * bounds::PENDING {
            let address = IpAddr::from([10, 0, (n / 16 / 256) as u8, (n / 16 % 256) as u8]);
            pending.note(named(&n.to_string()), address, "unknown");
        }
        assert_eq!(pending.table.lock().unwrap().refused.len(), bounds::PENDING);
        let count = |of: &str| {
            let of = of.parse::<IpAddr>().unwrap();
            let table = pending.table.lock().unwrap();
            table.refused.iter().filter(|refused| client(refused.address) == client(of)).count()
        };
        for n in 0..2 * bounds::PENDING_PER_ADDRESS {
            let id = format!("x{n}");
            pending.note(named(&id), "10.9.9.9".parse().unwrap(), "unknown");
            pending.note(named(&id), format!("2001:db8::{n:x}").parse().unwrap(), "unknown");
        }
        assert_eq!(count("10.9.9.9"), bounds::PENDING_PER_ADDRESS);
        assert_eq!(count("2001:db8::1"), bounds::PENDING_PER_ADDRESS, "a /64 may be one machine");
    }

    #[test]
    fn the_user_agent_of_a_license_service_tells_product_and_version() {
        let (_folder, pending) = pending();
        let shown = |agent| {
            pending.note(
                Told { source: Some(agent), user_agent: Some(agent), ..Told::default() },
                [10, 0, 0, 1].into(),
                "",
            );
            let row = pending.table.lock().unwrap().refused.last().cloned().unwrap();
            row.product().map(|(product, version)| format!("{product} {version}"))
        };
        assert_eq!(shown("Licenses/1.6.4 (windows) QSEfW").as_deref(), Some("QSEfW 1.6.4"));
        for other in
            ["curl/8.5.0", "Licenses/1.6.4", "Licenses/ (windows) QSEfW", "Licenses/1 (x)", "Licenses/1 (x) "]
        {
            assert_eq!(shown(other), None, "{other}");
        }
    }
}
