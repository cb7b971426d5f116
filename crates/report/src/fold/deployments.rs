//! Who uses a license: each deployment with its product, its addresses, what it did and when it was heard of. It answers
//! "may I move my key?": a key whose old deployment is still heard of is not free.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::in_flight::Open;
use super::interner::Interner;
use crate::table::cell::Cell;
use relay_log::bounds;
use relay_log::ledger::entry::{Ended, Entry, product_of};

/// Deployments that are kept, a license and a source each.
const DEPLOYMENTS: usize = 100_000;
/// Addresses of one that are kept, the first ones.
const ADDRESSES: usize = 16;
/// A deployment that was heard of within this time before the log ends is in use.
const IN_USE: SignedDuration = SignedDuration::from_hours(24);
/// Deployments that one sentence names.
const NAMED: usize = 5;

/// A license on one deployment.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// The license; empty where its messages name none.
    pub license: Arc<str>,
    /// Its source id; empty where it sends none.
    pub source: Arc<str>,
    /// What people call it; no log knows that.
    pub name: Option<String>,
    /// Its last `User-Agent`, whole.
    pub user_agent: String,
    /// The addresses that it came from, the first 16.
    pub addresses: Vec<IpAddr>,
    /// Records from further addresses.
    pub from_elsewhere: u64,
    /// The first record of it.
    pub first_seen: Timestamp,
    /// The last one.
    pub last_seen: Timestamp,
    /// Assignments that it asked for and that were confirmed to it in the same exchange.
    pub adds: u64,
    /// Deletions likewise.
    pub deletes: u64,
    /// The last answer to a report of consumption, or the last time that one was sent and its outcome is unknown.
    pub last_consumption: Option<Timestamp>,
    /// Answered syncs.
    pub syncs: u64,
}

/// The columns of `deployments`.
pub(crate) const COLUMNS: &[&str] = &[
    "license",
    "source",
    "name",
    "product",
    "version",
    "addresses",
    "first_seen",
    "last_seen",
    "adds",
    "deletes",
    "last_consumption",
    "syncs",
];

impl Deployment {
    /// Product and version; what has another form is the product, whole.
    pub fn product(&self) -> (&str, &str) {
        product_of(&self.user_agent).unwrap_or((&self.user_agent, ""))
    }

    /// A cell for each column.
    pub fn cells(&self) -> Vec<Cell> {
        let (product, version) = self.product();
        let mut addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        if self.from_elsewhere > 0 {
            addresses.push("and others".into());
        }
        vec![
            (&*self.license).into(),
            (&*self.source).into(),
            self.name.clone().into(),
            product.into(),
            version.into(),
            Cell::List(addresses),
            self.first_seen.into(),
            self.last_seen.into(),
            self.adds.into(),
            self.deletes.into(),
            self.last_consumption.into(),
            self.syncs.into(),
        ]
    }
}

/// Follows all deployments.
#[derive(Debug, Default)]
pub struct Deployments {
    names: Interner,
    known: BTreeMap<(Arc<str>, Arc<str>), Deployment>,
    open: Open<AskedChanges>,
    end: Option<Timestamp>,
    /// Records of deployments that were too many to be kept.
    pub beyond: u64,
}

/// The changes that one exchange asks for.
#[derive(Debug, Default)]
struct AskedChanges {
    /// Each by its subject, and by its instance: the reply may name either.
    changes: HashMap<String, usize>,
    confirmed: Vec<bool>,
}

impl Deployments {
    /// The next record, in the order of time.
    pub fn take(&mut self, log: usize, entry: &Entry<'_>) {
        self.end = Some(self.end.map_or(entry.time, |end| end.max(entry.time)));
        self.open.pass(log, entry);
        let action = &*entry.action;
        if action == "relay.start" {
            self.open.restart(log);
        }
        // That a deployment is not understood for long is told of others' records.
        let of_one = action.starts_with("license.") && action != "license.unrecognised.lasting";
        if !of_one && action != "upstream.error" {
            return;
        }
        let said = &entry.qlik;
        let (told, success) = (said.direction.as_deref() == Some("in"), entry.outcome == Ended::Success);
        self.note(said.license.as_deref(), entry);
        match action {
            "license.sync.response" if success => {
                self.open.ends_after(log, entry);
                let is_other = |license: &&str| said.license.as_deref() != Some(license);
                for license in said.bases.iter().filter_map(|base| base.license.as_deref()).filter(is_other) {
                    self.note(Some(license), entry);
                    self.change(Some(license), entry, |deployment| deployment.syncs += 1);
                }
                self.change(said.license.as_deref(), entry, |deployment| deployment.syncs += 1);
            }
            "license.sync.response" => drop(self.open.end(&entry.exchange)),
            "license.consumption.response" if entry.outcome != Ended::Failure => {
                let at = |deployment: &mut Deployment| deployment.last_consumption = Some(entry.time);
                self.change(said.license.as_deref(), entry, at);
            }
            "license.assignment.add" | "license.assignment.delete" if !told => {
                self.open.of(log, entry).0.ask(entry);
            }
            "license.assignment.add" | "license.assignment.delete" if success => {
                let asked = self.open.get(&entry.exchange);
                if asked.is_some_and(|asked| asked.confirm(entry)) {
                    self.change(said.license.as_deref(), entry, |deployment| {
                        let is_add = action == "license.assignment.add";
                        *(if is_add { &mut deployment.adds } else { &mut deployment.deletes }) += 1;
                    });
                }
            }
            _ => {}
        }
    }

    /// All of them, by license and source.
    pub fn rows(&self) -> impl Iterator<Item = &Deployment> {
        self.known.values()
    }

    /// A sentence for each license: which of its deployments use it still, and since when the others are silent.
    pub(crate) fn in_use(&self) -> Vec<String> {
        let mut licenses: BTreeMap<&str, Vec<&Deployment>> = BTreeMap::new();
        for deployment in self.rows().filter(|deployment| !deployment.license.is_empty()) {
            licenses.entry(&*deployment.license).or_default().push(deployment);
        }
        licenses.iter().filter_map(|(license, all)| Some(sentence(license, all, self.end?))).collect()
    }

    /// A record of a deployment.
    fn note(&mut self, license: Option<&str>, entry: &Entry<'_>) {
        if license.is_none() && entry.qlik.source_id.is_none() {
            return;
        }
        let key = self.key(license, entry);
        if self.known.len() >= DEPLOYMENTS && !self.known.contains_key(&key) {
            self.beyond += 1;
            return;
        }
        let new = || Deployment {
            license: key.0.clone(),
            source: key.1.clone(),
            name: None,
            user_agent: String::new(),
            addresses: Vec::new(),
            from_elsewhere: 0,
            first_seen: entry.time,
            last_seen: entry.time,
            adds: 0,
            deletes: 0,
            last_consumption: None,
            syncs: 0,
        };
        self.known.entry(key.clone()).or_insert_with(new).see(entry);
    }

    fn change(&mut self, license: Option<&str>, entry: &Entry<'_>, how: impl FnOnce(&mut Deployment)) {
        let key = self.key(license, entry);
        if let Some(deployment) = self.known.get_mut(&key) {
            how(deployment);
        }
    }

    fn key(&mut self, license: Option<&str>, entry: &Entry<'_>) -> (Arc<str>, Arc<str>) {
        (self.names.keep(license), self.names.keep(entry.qlik.source_id.as_deref()))
    }
}

impl Deployment {
    fn see(&mut self, entry: &Entry<'_>) {
        self.last_seen = entry.time;
        if let Some(agent) = &entry.user_agent
            && self.user_agent != **agent
        {
            self.user_agent = (**agent).to_owned();
        }
        match entry.client {
            Some(address) if self.addresses.contains(&address) => {}
            Some(address) if self.addresses.len() < ADDRESSES => self.addresses.push(address),
            Some(_) => self.from_elsewhere += 1,
            None => {}
        }
    }

    /// The best name there is.
    fn called(&self) -> &str {
        if self.source.is_empty() { "one without a source id" } else { &self.source }
    }
}

impl AskedChanges {
    fn ask(&mut self, entry: &Entry<'_>) {
        if self.confirmed.len() < bounds::CHANGES {
            let at = self.confirmed.len();
            self.confirmed.push(false);
            self.changes.extend(names_of(entry).into_iter().flatten().map(|name| (name, at)));
        }
    }

    /// Whether it was asked for here, and not confirmed yet.
    fn confirm(&mut self, entry: &Entry<'_>) -> bool {
        let at = names_of(entry).into_iter().flatten().find_map(|name| self.changes.get(&name).copied());
        let confirmed = at.and_then(|at| self.confirmed.get_mut(at));
        confirmed.is_some_and(|confirmed| !std::mem::replace(confirmed, true))
    }
}

/// What a change is known by within its exchange: its subject, and its instance.
fn names_of(entry: &Entry<'_>) -> [Option<String>; 2] {
    let said = &entry.qlik;
    let license = said.license.as_deref().unwrap_or_default();
    let allotment = said.allotment.as_deref().unwrap_or_default();
    let name = |kind, of: Option<&str>| {
        let of = of.filter(|of| !of.is_empty())?;
        Some([&*entry.action, license, allotment, kind, of].join("\n"))
    };
    [name("subject", entry.subject.as_deref()), name("instance", said.instance.as_deref())]
}

fn sentence(license: &str, all: &[&Deployment], end: Timestamp) -> String {
    let is_used = |deployment: &&&Deployment| end.duration_since(deployment.last_seen) <= IN_USE;
    let (used, silent): (Vec<&Deployment>, Vec<&Deployment>) =
        all.iter().copied().partition(|deployment| is_used(&deployment));
    let list = |of: &[&Deployment], name: fn(&Deployment) -> String| {
        let mut named: Vec<String> = of.iter().take(NAMED).map(|deployment| name(deployment)).collect();
        if of.len() > NAMED {
            named.push(format!("and {} more", of.len() - NAMED));
        }
        named.join(", ")
    };
    let mut text = if used.is_empty() {
        format!("license {license} was used by no deployment in the last day of the log")
    } else {
        let used = list(&used, |deployment| deployment.called().to_owned());
        format!("license {license} is in use by {used}")
    };
    if !silent.is_empty() {
        let since =
            |deployment: &Deployment| format!("{} ({:.0})", deployment.called(), deployment.last_seen);
        text.push_str(&format!("; last heard of before that: {}", list(&silent, since)));
    }
    text
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::fold::test_records::{LICENSE, fed, record};
    use relay_log::ledger::action::{Direction, Outcome};
    use relay_log::ledger::qlik::Base;
    use relay_log::ledger::record::Record;

    fn change(exchange: u128, action: &str, direction: Direction, subject: &str, instance: &str) -> Record {
        let mut record = record(action, "a");
        record.exchange = Uuid::from_u128(exchange);
        record.qlik.direction = Some(direction);
        record.qlik.allotment = Some("professional".into());
        record.subject = (!subject.is_empty()).then(|| subject.into());
        record.qlik.instance = Some(instance.into());
        record
    }

    fn head(exchange: u128, source: &str) -> Record {
        let mut record = record("license.sync.response", source);
        record.exchange = Uuid::from_u128(exchange);
        record.client = Some([10, 0, 0, 7].into());
        record.user_agent = Some("Licenses/1.6.4 (windows) QSEfW".into());
        record
    }

    fn followed(records: &[(i64, Record)]) -> Deployments {
        let mut deployments = Deployments::default();
        for (second, record) in records {
            fed(*second, record, |entry| deployments.take(0, entry));
        }
        deployments
    }

    #[test]
    fn only_what_it_asked_for_itself_and_was_told_as_done_is_its_own() {
        use Direction::{In, Out};
        let (add, delete) = ("license.assignment.add", "license.assignment.delete");
        let mut rejected = change(1, add, In, "eve", "");
        rejected.outcome = Outcome::Failure;
        let deployments = followed(&[
            (1, change(1, add, Out, "bob", "")),
            (1, change(1, add, Out, "eve", "")),
            (1, change(1, delete, Out, "ann", "77")),
            (2, head(1, "a")),
            (2, change(1, add, In, "bob", "5")),
            (2, change(1, add, In, "bob", "5")),
            (2, rejected),
            (2, change(1, delete, In, "", "77")),
            (2, change(1, add, In, "somebody else's", "6")),
            (3, head(2, "b")),
            (4, change(1, add, In, "eve", "")),
        ]);
        let rows: Vec<_> = deployments.rows().collect();
        assert_eq!((&*rows[0].source, rows[0].adds, rows[0].deletes, rows[0].syncs), ("a", 1, 1, 1));
        assert_eq!((&*rows[1].source, rows[1].adds, rows[1].syncs), ("b", 0, 1));
        assert_eq!(rows[0].product(), ("QSEfW", "1.6.4"));
        assert_eq!(rows[0].cells().len(), COLUMNS.len());
        assert_eq!((rows[0].first_seen.as_second(), rows[0].last_seen.as_second()), (1, 4));
    }

    #[test]
    fn an_unknown_agent_is_kept_whole_and_addresses_beyond_the_first_are_counted() {
        let mut records = Vec::new();
        for n in 0..ADDRESSES as u8 + 3 {
            let mut record = head(u128::from(n), "a");
            record.client = Some([10, 0, 0, n].into());
            record.user_agent = Some("curl/8.5.0".into());
            records.push((i64::from(n), record));
        }
        records.push((90, record("access.denied", "stranger")));
        records.push((91, record("license.tunnel.open", "")));
        let deployments = followed(&records);
        let rows: Vec<_> = deployments.rows().collect();
        assert_eq!(rows.len(), 1, "who was refused is no deployment of the license");
        assert_eq!((rows[0].product(), rows[0].addresses.len()), (("curl/8.5.0", ""), ADDRESSES));
        assert_eq!(rows[0].from_elsewhere, 3);
    }

    #[test]
    fn a_sync_of_two_licenses_is_one_of_each_and_consumption_that_failed_is_none() {
        let mut both = head(1, "a");
        let base = |license: &str| Base { license: Some(license.into()), sent: None, version: Some(1) };
        both.qlik.bases = vec![base(LICENSE), base("9999000000001254")];
        let mut failed = record("license.consumption.response", "a");
        failed.outcome = Outcome::Failure;
        let done = record("license.consumption.response", "a");
        let deployments = followed(&[(1, both), (5, done), (9, failed)]);
        let rows: Vec<_> = deployments.rows().map(|row| (&*row.license, row.syncs)).collect();
        assert_eq!(rows, [(LICENSE, 1), ("9999000000001254", 1)]);
        let last = deployments.rows().next().unwrap().last_consumption;
        assert_eq!(last.map(Timestamp::as_second), Some(5));
    }

    #[test]
    fn a_license_says_who_uses_it_and_who_no_longer_does() {
        let day = 24 * 3600;
        let deployments = followed(&[(0, head(1, "old")), (3 * day, head(2, "new"))]);
        let said = format!(
            "license {LICENSE} is in use by new; last heard of before that: old (1970-01-01T00:00:00Z)"
        );
        assert_eq!(deployments.in_use(), [said]);
    }
}
