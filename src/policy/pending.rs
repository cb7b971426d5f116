//! Who was refused lately, for `sources pending` and `sources allow NUMBER`: a small file beside the log, which
//! needs no admin port and no running relay to be read.
//!
//! A number is a code made of what the refused message said, under a key of the site: it is the same on every relay that
//! shares the key, nobody else can work it out, and no table has to remember it.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::limits::client;
use crate::bounds;
use crate::config::state_file;
use relay_log::ledger::entry::product_of;

/// So many digits tell keys apart for people. More of a secret's hash has no business on the disk.
pub const FINGERPRINT: usize = 16;

/// The number of a refused deployment: 13 decimal digits, which hold 43 bits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Code(u64);

impl Code {
    /// How many digits it has.
    pub const DIGITS: usize = 13;
    const END: u128 = 10_000_000_000_000;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$}", self.0, width = Self::DIGITS)
    }
}

/// A text is no number of a refused deployment.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a number has {} digits", Code::DIGITS)]
pub struct NoCode;

impl FromStr for Code {
    type Err = NoCode;

    fn from_str(text: &str) -> Result<Self, NoCode> {
        let is_one = text.len() == Self::DIGITS && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| is_one).map(Self).ok_or(NoCode)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The key that numbers are made under. It can't be printed.
pub struct Codes(hmac::Key);

impl Codes {
    /// Codes under a key that is used for nothing else.
    pub fn new(key: hmac::Key) -> Self {
        Self(key)
    }

    /// The number for what a message named: its id; else its license and its client's network; else that network.
    fn of(&self, claim: Claim<'_>) -> Code {
        let mut mac = hmac::Context::with_key(&self.0);
        let mut field = |bytes: &[u8]| {
            mac.update(&(bytes.len() as u64).to_be_bytes());
            mac.update(bytes);
        };
        match claim {
            Claim::Source(id) => {
                field(b"source");
                field(id.as_bytes());
            }
            Claim::License(license, network) => {
                field(b"license");
                field(license.as_bytes());
                field(network.to_string().as_bytes());
            }
            Claim::Network(network) => {
                field(b"network");
                field(network.to_string().as_bytes());
            }
        }
        let tag = mac.sign();
        let number =
            tag.as_ref().iter().take(16).fold(0, |number: u128, byte| number << 8 | u128::from(*byte));
        // It is below 10^13, so it fits.
        Code(u64::try_from(number % Code::END).unwrap_or_default())
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codes(…)")
    }
}

/// What a refused deployment is let in by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Claim<'a> {
    /// Its id.
    Source(&'a str),
    /// Its license, in messages from this network.
    License(&'a str, IpNet),
    /// Nothing but the network that it comes from.
    Network(IpNet),
}

/// The refused deployments, in memory and in `pending.json`.
#[derive(Debug)]
pub struct Pending {
    path: PathBuf,
    codes: Codes,
    kept: Mutex<PendingRows>,
    changed: Notify,
    /// The last generation of rows that is on disk, or could not be put there.
    written: watch::Sender<u64>,
}

/// Whether a refused deployment would be let in by the list in force.
type LetsIn = Box<dyn Fn(&Refused) -> bool + Send>;

#[derive(Default)]
struct PendingRows {
    table: PendingTable,
    /// Grows with each row that is new, or has a new number.
    generation: u64,
    /// Something differs from the file.
    dirty: bool,
    /// Where listed deployments were seen: an entry for such a network might let in others than it is meant for.
    seen: HashSet<IpAddr>,
    lets_in: Option<LetsIn>,
}

impl fmt::Debug for PendingRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("table", &self.table).finish_non_exhaustive()
    }
}

/// What the file holds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct PendingTable {
    refused: Vec<Refused>,
}

/// What a refused request says about its deployment.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeploymentFacts<'a> {
    /// The id.
    pub source: Option<&'a str>,
    /// The license.
    pub license: Option<&'a str>,
    /// SHA-256 of the signed license key, in hex; of which the first [`FINGERPRINT`] digits are kept.
    pub fingerprint: Option<&'a str>,
    /// The Basic user that it has proved to be.
    pub user: Option<&'a str>,
    /// The `User-Agent`.
    pub user_agent: Option<&'a str>,
    /// Whether it was an activation or a definition, which a license vouches for from anywhere.
    pub sourceless: bool,
}

/// A refusal that was counted.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    /// The deployment's number.
    pub number: Code,
    generation: u64,
}

/// What tells the deployments of one network apart: the best that is known of each.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum DeploymentKey<'a> {
    Source(&'a str),
    License(&'a str),
    Key(&'a str),
    User(&'a str),
    Nobody,
}

/// One refused deployment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Refused {
    /// What `sources allow` takes; none in a file of an earlier version, until a relay has read it.
    #[serde(deserialize_with = "code_or_none", default)]
    pub number: Option<Code>,
    /// The id it sent.
    pub source: Option<String>,
    /// The license it named.
    pub license: Option<String>,
    /// The first [`FINGERPRINT`] hex digits of SHA-256 of the signed license key it sent.
    pub fingerprint: Option<String>,
    /// The Basic user that it has proved to be.
    #[serde(default)]
    pub user: Option<String>,
    /// Its client's address, the last one of its network.
    pub address: IpAddr,
    /// Its `User-Agent`: product and version.
    pub user_agent: Option<String>,
    /// Whether it was an activation or a definition, which a license vouches for from anywhere.
    #[serde(default)]
    pub sourceless: bool,
    /// Whether listed deployments were seen in its network as well.
    #[serde(default)]
    pub shared: bool,
    /// Why it was refused.
    pub reason: String,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
    /// How often.
    pub count: u64,
    /// The generation that it came with, or got its number in.
    #[serde(skip)]
    generation: u64,
}

/// The small numbers of an earlier version are none any more.
fn code_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Code>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_str().and_then(|text| text.parse().ok()))
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
        state_file::read::<PendingTable>(path).map(|table| table.refused)
    }

    /// Goes on with what the file holds. Rows without a number get theirs.
    pub fn open(log: &Path, codes: Codes) -> Self {
        let path = Self::path(log);
        let mut table = state_file::read_or_warn::<PendingTable>(&path);
        let mut dirty = false;
        for refused in &mut table.refused {
            if refused.number.is_none() {
                refused.number = Some(codes.of(refused.claim()));
                dirty = true;
            }
        }
        let (kept, changed) = (PendingRows { table, dirty, ..PendingRows::default() }, Notify::new());
        if dirty {
            changed.notify_one();
        }
        Self { path, codes, kept: Mutex::new(kept), changed, written: watch::channel(0).0 }
    }

    /// Counts a refusal and gives the deployment's number. Of a network that has too many rows, and of a full table, the
    /// row that was silent the longest makes place, so that the newest number is known.
    pub fn note(&self, told: DeploymentFacts<'_>, address: IpAddr, reason: &str) -> Noted {
        let mut kept = self.kept();
        let now = Timestamp::now();
        let told =
            DeploymentFacts { fingerprint: told.fingerprint.and_then(|hex| hex.get(..FINGERPRINT)), ..told };
        let number = self.codes.of(claim(told.source, told.license, address));
        let shared = kept.seen.contains(&client(address)) || kept.seen.len() >= bounds::SEEN_NETWORKS;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let PendingRows { table, generation, dirty, lets_in, .. } = &mut *kept;
        let is_it = |refused: &&mut Refused| {
            client(refused.address) == client(address) && refused.who() == told.who()
        };
        if let Some(refused) = table.refused.iter_mut().find(is_it) {
            *dirty = true;
            self.changed.notify_one();
            refused.count += 1;
            refused.last = now;
            refused.address = address;
            // After a restart it is not known who was let in before.
            refused.shared |= shared;
            refused.sourceless |= told.sourceless;
            reason.clone_into(&mut refused.reason);
            // A report of consumption names no license and carries no key; the next sync may.
            refused.license = refused.license.take().or_else(|| owned(told.license));
            refused.fingerprint = refused.fingerprint.take().or_else(|| owned(told.fingerprint));
            refused.user = refused.user.take().or_else(|| owned(told.user));
            // Another key has come into force since.
            if refused.number != Some(number) {
                *generation += 1;
                (refused.number, refused.generation) = (Some(number), *generation);
            }
            return Noted { number, generation: refused.generation };
        }
        let row = Refused {
            number: Some(number),
            source: owned(told.source),
            license: owned(told.license),
            fingerprint: owned(told.fingerprint),
            user: owned(told.user),
            address,
            user_agent: owned(told.user_agent),
            sourceless: told.sourceless,
            shared,
            reason: reason.to_owned(),
            first: now,
            last: now,
            count: 1,
            generation: *generation + 1,
        };
        // It was judged by the list before; its next request is let in.
        if lets_in.as_ref().is_some_and(|lets_in| lets_in(&row)) {
            return Noted { number, generation: 0 };
        }
        let of_client = |refused: &Refused| client(refused.address) == client(address);
        if table.refused.iter().filter(|refused| of_client(refused)).count() >= bounds::PENDING_PER_ADDRESS {
            table.remove_oldest(of_client);
        } else if table.refused.len() >= bounds::PENDING {
            table.remove_oldest(|_| true);
        }
        *generation += 1;
        *dirty = true;
        self.changed.notify_one();
        table.refused.push(row);
        Noted { number, generation: *generation }
    }

    /// Waits until the number of a refusal is on disk, so that the command that names it works at once; for a bounded
    /// time, because a disk that hangs must not hold back refusals.
    pub async fn on_disk(&self, noted: Noted) {
        let mut written = self.written.subscribe();
        let _ = timeout(bounds::PENDING_WAIT, written.wait_for(|written| *written >= noted.generation)).await;
    }

    /// Remembers that a listed deployment was seen at this address. Where the table is full, every network is taken for
    /// one that deployments share.
    pub fn saw_listed(&self, address: IpAddr) {
        let network = client(address);
        let mut kept = self.kept();
        if kept.seen.contains(&network) || kept.seen.len() >= bounds::SEEN_NETWORKS {
            return;
        }
        kept.seen.insert(network);
        let mut marked = false;
        for refused in kept.table.refused.iter_mut().filter(|refused| client(refused.address) == network) {
            marked |= !std::mem::replace(&mut refused.shared, true);
        }
        if marked {
            kept.dirty = true;
            self.changed.notify_one();
        }
    }

    /// Drops those whom the list that has come into force lets in, and takes in none of them from here on: requests that
    /// were judged by the list before may still come.
    pub fn forget(&self, lets_in: impl Fn(&Refused) -> bool + Send + 'static) {
        let mut kept = self.kept();
        let before = kept.table.refused.len();
        kept.table.refused.retain(|refused| !lets_in(refused));
        kept.lets_in = Some(Box::new(lets_in));
        if kept.table.refused.len() < before {
            // It is written as soon as a new row is.
            kept.generation += 1;
            kept.dirty = true;
            self.changed.notify_one();
        }
    }

    /// Writes the file whenever something changed: soon where a number is new, at most once a second where only a count
    /// is. Never returns. Runs off the workers: a disk that stalls must not stall them.
    pub async fn keep_written(self: Arc<Self>) {
        let mut last: Option<Instant> = None;
        loop {
            self.changed.notified().await;
            while let Some(last) = last {
                let gap = if self.is_awaited() { bounds::PENDING_WRITE_NEW } else { bounds::PENDING_WRITE };
                tokio::select! {
                    biased;
                    () = sleep_until(last + gap) => break,
                    () = self.changed.notified() => {}
                }
            }
            let this = self.clone();
            let written = tokio::task::spawn_blocking(move || this.write()).await;
            last = Some(Instant::now());
            if let Ok(Err(e)) = written {
                tracing::warn!(
                    "{} can't be written: {e}; `sources allow` lacks who was refused last",
                    self.path.display()
                );
                self.kept().dirty = true;
                self.changed.notify_one();
            }
        }
    }

    /// Whether the file lacks a number that somebody may have been told.
    fn is_awaited(&self) -> bool {
        self.kept().generation > *self.written.borrow()
    }

    /// Writes the file, whole or not at all, if it differs. Who waits for it goes on in either case.
    fn write(&self) -> io::Result<()> {
        let (table, generation) = {
            let mut kept = self.kept();
            if !std::mem::take(&mut kept.dirty) {
                return Ok(());
            }
            (kept.table.clone(), kept.generation)
        };
        let written = state_file::write(&self.path, &table);
        self.written.send_replace(generation);
        written
    }

    fn kept(&self) -> MutexGuard<'_, PendingRows> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingTable {
    /// Removes the row of these that was silent the longest.
    fn remove_oldest(&mut self, of: impl Fn(&Refused) -> bool) {
        let rows = self.refused.iter().enumerate().filter(|(_, refused)| of(refused));
        if let Some((at, _)) = rows.min_by_key(|(_, refused)| refused.last) {
            self.refused.remove(at);
        }
    }
}

impl DeploymentFacts<'_> {
    fn who(&self) -> DeploymentKey<'_> {
        who(self.source, self.license, self.fingerprint, self.user)
    }
}

impl Refused {
    /// Product and version, where the `User-Agent` is a license service's.
    pub fn product(&self) -> Option<(&str, &str)> {
        product_of(self.user_agent.as_deref()?)
    }

    /// What it is let in by.
    pub fn claim(&self) -> Claim<'_> {
        claim(self.source.as_deref(), self.license.as_deref(), self.address)
    }

    /// Whether this one, which names its id, seems to be the deployment whose activation was refused as the other.
    pub fn has_activated_as(&self, other: &Self) -> bool {
        self.source.is_some()
            && other.source.is_none()
            && client(self.address) == client(other.address)
            && self.license.is_some()
            && self.license == other.license
    }

    /// Whether another deployment is known in the network of this one: a listed one, or another of these rows.
    pub fn shares_its_network(&self, all: &[Self]) -> bool {
        let is_another =
            |other: &Self| client(other.address) == client(self.address) && other.who() != self.who();
        self.shared || all.iter().any(is_another)
    }

    fn who(&self) -> DeploymentKey<'_> {
        let Self { source, license, fingerprint, user, .. } = self;
        who(source.as_deref(), license.as_deref(), fingerprint.as_deref(), user.as_deref())
    }
}

fn who<'a>(
    source: Option<&'a str>,
    license: Option<&'a str>,
    fingerprint: Option<&'a str>,
    user: Option<&'a str>,
) -> DeploymentKey<'a> {
    let license = || license.map(DeploymentKey::License);
    let key = || fingerprint.map(DeploymentKey::Key);
    let user = || user.map(DeploymentKey::User);
    source
        .map(DeploymentKey::Source)
        .or_else(license)
        .or_else(key)
        .or_else(user)
        .unwrap_or(DeploymentKey::Nobody)
}

fn claim<'a>(source: Option<&'a str>, license: Option<&'a str>, address: IpAddr) -> Claim<'a> {
    let network = network_of(address);
    let by_license = || license.map(|license| Claim::License(license, network));
    source.map(Claim::Source).or_else(by_license).unwrap_or(Claim::Network(network))
}

/// The network of a client, as limits count it.
pub fn network_of(address: IpAddr) -> IpNet {
    let length = if address.is_ipv4() { 32 } else { 64 };
    IpNet::new(client(address), length).unwrap_or_else(|_| IpNet::from(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> (tempfile::TempDir, Pending) {
        let folder = tempfile::tempdir().unwrap();
        let pending = opened(folder.path(), 1);
        (folder, pending)
    }

    fn opened(folder: &Path, key: u8) -> Pending {
        Pending::open(folder, Codes::new(hmac::Key::new(hmac::HMAC_SHA256, &[key; 32])))
    }

    fn named(source: &str) -> DeploymentFacts<'_> {
        DeploymentFacts { source: Some(source), ..DeploymentFacts::default() }
    }

    fn rows(pending: &Pending) -> Vec<Refused> {
        pending.kept().table.refused.clone()
    }

    #[test]
    fn one_deployment_has_one_number_and_a_count() {
        let (_folder, pending) = pending();
        let note = |source| pending.note(named(source), "10.0.0.1".parse().unwrap(), "unknown").number;
        let (a, b, again) = (note("a"), note("b"), note("a"));
        assert!(a == again && a != b, "{a} {b} {again}");
        pending.write().unwrap();
        let read = Pending::read(&pending.path).unwrap();
        assert_eq!((read[0].count, read[0].number), (2, Some(a)));
    }

    #[test]
    fn a_number_is_the_same_wherever_the_key_is_and_depends_on_nothing_but_what_was_told() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, two, foreign) = (opened(one.path(), 1), opened(other.path(), 1), opened(other.path(), 2));
        let number =
            |pending: &Pending, told, from: &str| pending.note(told, from.parse().unwrap(), "").number;
        let license = DeploymentFacts { license: Some("1234"), ..DeploymentFacts::default() };
        let nobody = DeploymentFacts::default();
        two.note(named("somebody before"), [10, 0, 0, 9].into(), "");
        assert_eq!(number(&one, named("a"), "10.0.0.1"), number(&two, named("a"), "10.9.9.9"), "an id");
        assert_eq!(number(&one, license, "10.0.0.1"), number(&two, license, "10.0.0.1"), "a license");
        assert_ne!(number(&one, license, "10.0.0.1"), number(&one, license, "10.0.0.2"));
        assert_eq!(number(&one, nobody, "2001:db8::1"), number(&two, nobody, "2001:db8::f:2"), "a /64");
        assert_ne!(number(&one, nobody, "10.0.0.1"), number(&one, nobody, "10.0.0.2"));
        assert_ne!(number(&one, named("a"), "10.0.0.1"), number(&foreign, named("a"), "10.0.0.1"));
        let key = DeploymentFacts { fingerprint: Some("f0f0f0f0f0f0f0f0"), ..nobody };
        assert_eq!(number(&one, key, "10.0.0.1"), number(&one, nobody, "10.0.0.1"), "only a network is told");
    }

    #[test]
    fn a_number_is_the_hmac_anyone_who_has_the_key_can_compute() {
        let (_folder, pending) = pending();
        let number = pending.note(named("a"), [10, 0, 0, 1].into(), "").number.to_string();
        let mut message = 6u64.to_be_bytes().to_vec();
        message.extend(b"source\0\0\0\0\0\0\0\x01a");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]), &message);
        let first = u128::from_be_bytes(tag.as_ref()[..16].try_into().unwrap());
        assert_eq!(number, format!("{:013}", first % 10u128.pow(13)));
        assert_eq!(number.len(), Code::DIGITS);
        assert_eq!(number.parse::<Code>().unwrap().to_string(), number);
        for other in ["", "1", "012345678901", "01234567890123", "+123456789012", "012345678901a"] {
            assert_eq!(other.parse::<Code>(), Err(NoCode), "{other}");
        }
    }

    #[test]
    fn a_deployment_is_one_row_by_its_license_and_one_by_its_id_whatever_else_it_tells() {
        let (_folder, pending) = pending();
        let note = |source, license, fingerprint: Option<&str>| {
            let fingerprint = fingerprint.map(|digits| digits.repeat(32));
            let told = DeploymentFacts {
                source,
                license,
                fingerprint: fingerprint.as_deref(),
                ..DeploymentFacts::default()
            };
            pending.note(told, "10.0.0.1".parse().unwrap(), "unknown").number
        };
        let activation = note(None, Some("1234"), Some("f0"));
        assert_eq!(note(None, Some("1234"), None), activation);
        assert_eq!(note(None, Some("1234"), Some("f1")), activation, "its key was renewed");
        let sync = note(Some("a"), None, None);
        assert_eq!(note(Some("a"), Some("1234"), None), sync, "a report of consumption, then its sync");
        note(None, None, Some("f2"));
        let rows = rows(&pending);
        assert_eq!(rows.len(), 3, "a key that names no license is another one");
        assert_eq!(rows[0].fingerprint, Some("f0".repeat(8)));
        assert!(rows[1].has_activated_as(&rows[0]) && !rows[0].has_activated_as(&rows[1]));
        assert!(!rows[1].has_activated_as(&rows[2]));
    }

    #[test]
    fn the_file_of_an_earlier_version_is_read_and_its_rows_get_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let old = r#"{"last": 7, "refused": [{"number": 7, "source": "a", "license": null, "fingerprint": null,
            "address": "10.0.0.1", "user_agent": null, "reason": "unknown", "first": "2026-01-01T00:00:00Z",
            "last": "2026-01-01T00:00:00Z", "count": 3}]}"#;
        std::fs::write(Pending::path(folder.path()), old).unwrap();
        assert_eq!(Pending::read(&Pending::path(folder.path())).unwrap()[0].number, None);
        let pending = opened(folder.path(), 1);
        pending.write().unwrap();
        let read = Pending::read(&pending.path).unwrap();
        let number = pending.note(named("a"), [10, 0, 0, 1].into(), "").number;
        assert_eq!((read[0].number, read[0].count), (Some(number), 3));
    }

    #[test]
    fn a_network_is_shared_where_another_deployment_was_refused_or_let_in() {
        let (_folder, pending) = pending();
        let nobody = |n| pending.note(DeploymentFacts::default(), [10, 0, 0, n].into(), "");
        let shared = |n: u8| {
            let all = rows(&pending);
            let row = all.iter().find(|row| row.address == IpAddr::from([10, 0, 0, n])).unwrap();
            row.shares_its_network(&all)
        };
        nobody(1);
        assert!(!shared(1));
        pending.note(named("a"), [10, 0, 0, 1].into(), "");
        assert!(shared(1), "another one was refused there");
        nobody(2);
        assert!(!shared(2));
        pending.saw_listed([10, 0, 0, 2].into());
        assert!(shared(2), "a listed one came later");
        pending.saw_listed([10, 0, 0, 3].into());
        nobody(3);
        assert!(shared(3), "a listed one had come before");
    }

    #[test]
    fn whom_the_new_list_lets_in_is_forgotten_and_comes_back_by_no_request_that_was_judged_by_the_old_one() {
        let (_folder, pending) = pending();
        let note = |source| pending.note(named(source), [10, 0, 0, 1].into(), "unknown");
        for id in ["a", "b"] {
            note(id);
        }
        pending.forget(|refused| refused.source.as_deref() == Some("a"));
        for id in ["a", "c"] {
            note(id);
        }
        let left: Vec<_> = rows(&pending).into_iter().filter_map(|row| row.source).collect();
        assert_eq!(left, ["b", "c"]);
    }

    #[tokio::test]
    async fn a_number_is_on_disk_once_it_may_be_told_and_many_share_one_write() {
        let (_folder, pending) = pending();
        let pending = Arc::new(pending);
        let writer = tokio::spawn(pending.clone().keep_written());
        let refusals = (0..20u8).map(|n| {
            let pending = pending.clone();
            tokio::spawn(async move {
                let noted = pending.note(named(&n.to_string()), [10, 0, n, 1].into(), "unknown");
                pending.on_disk(noted).await;
                let read = Pending::read(&pending.path).unwrap();
                assert!(read.iter().any(|row| row.number == Some(noted.number)), "{n}");
            })
        });
        for refusal in refusals.collect::<Vec<_>>() {
            refusal.await.unwrap();
        }
        let begun = Instant::now();
        pending.on_disk(pending.note(named("1"), [10, 0, 1, 1].into(), "unknown")).await;
        assert!(begun.elapsed() < bounds::PENDING_WRITE_NEW, "a number that is there is not waited for");
        writer.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_does_not_wait_for_ever_for_a_disk_that_hangs() {
        let (_folder, pending) = pending();
        let begun = Instant::now();
        pending.on_disk(pending.note(named("a"), [10, 0, 0, 1].into(), "unknown")).await;
        assert_eq!(begun.elapsed().as_secs(), bounds::PENDING_WAIT.as_secs());
    }

    #[test]
    fn one_address_cannot_fill_the_table_and_the_table_is_bounded() {
        let (_folder, pending) = pending();
        for n in 0..2 * bounds::PENDING {
            let address = IpAddr::from([10, 0, (n / 16 / 256) as u8, (n / 16 % 256) as u8]);
            pending.note(named(&n.to_string()), address, "unknown");
        }
        assert_eq!(rows(&pending).len(), bounds::PENDING);
        let count = |of: &str| {
            let of = of.parse::<IpAddr>().unwrap();
            rows(&pending).iter().filter(|refused| client(refused.address) == client(of)).count()
        };
        for n in 0..2 * bounds::PENDING_PER_ADDRESS {
            let id = format!("x{n}");
            pending.note(named(&id), "10.9.9.9".parse().unwrap(), "unknown");
            pending.note(named(&id), format!("2001:db8::{n:x}").parse().unwrap(), "unknown");
        }
        assert_eq!(count("10.9.9.9"), bounds::PENDING_PER_ADDRESS);
        assert_eq!(count("2001:db8::1"), bounds::PENDING_PER_ADDRESS, "a /64 may be one machine");
        let last = format!("x{}", 2 * bounds::PENDING_PER_ADDRESS - 1);
        assert!(
            rows(&pending).iter().any(|row| row.source.as_deref() == Some(&last)),
            "the last one told is known"
        );
    }

    #[test]
    fn the_user_agent_of_a_license_service_tells_product_and_version() {
        let (_folder, pending) = pending();
        let shown = |agent| {
            pending.note(
                DeploymentFacts {
                    source: Some(agent),
                    user_agent: Some(agent),
                    ..DeploymentFacts::default()
                },
                [10, 0, 0, 1].into(),
                "",
            );
            let row = rows(&pending).pop().unwrap();
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
