//! Who may ask: the allow-list, indexed so that a look-up doesn't get slower with the list.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{SHA256, digest};
use ipnet::IpNet;

use super::limits::Limiter;
use crate::config::model::{AllowList, Rate, Source, SourcePattern};
use crate::config::names::{LicenseNumber, SourceId};

/// The allow-list in force.
#[derive(Debug)]
pub struct Registry {
    entries: Vec<Entry>,
    by_id: HashMap<[u8; 32], usize>,
    by_license: HashMap<LicenseNumber, usize>,
    by_user: HashMap<String, usize>,
    by_network: HashMap<IpNet, usize>,
    /// The prefix lengths in use, longest first: a look-up tries each once.
    prefixes: Vec<(bool, u8)>,
    /// The entries that wait for their id, or have learned it and the file doesn't say so yet.
    learning: Vec<usize>,
}

/// One entry and what counts its requests.
#[derive(Debug)]
pub struct Entry {
    /// As the file has it.
    pub source: Source,
    /// Its limiter.
    pub limiter: Arc<Limiter>,
    /// The id it has learned, until the file says so.
    learned: OnceLock<SourceId>,
}

/// How a request stands with the allow-list.
#[derive(Debug)]
pub enum Standing<'a> {
    /// An entry allows it.
    Listed {
        /// The entry.
        entry: &'a Entry,
        /// What it was found by: `source`, `license`, `user`, `network`.
        by: &'static str,
    },
    /// Its source is listed, for other networks or users.
    WrongPlace(SourceId),
    /// Its source is not listed.
    UnknownSource(SourceId),
    /// It names no source, and nothing else of it is listed.
    Nobody,
}

impl Registry {
    /// Indexes a list. An entry of the old one that has the same identity and the same rate keeps its limiter, so
    /// that a reload gives nobody a fresh burst.
    pub fn new(list: AllowList, default: Rate, old: Option<&Self>) -> Self {
        let mut kept: HashMap<String, &Entry> = HashMap::new();
        for entry in old.iter().flat_map(|old| &old.entries) {
            kept.insert(identity(&entry.source), entry);
        }
        let mut new = Self {
            entries: Vec::new(),
            by_id: HashMap::new(),
            by_license: HashMap::new(),
            by_user: HashMap::new(),
            by_network: HashMap::new(),
            prefixes: Vec::new(),
            learning: Vec::new(),
        };
        for (at, source) in list.sources.into_iter().enumerate() {
            if let Some(pattern) = &source.id {
                new.by_id.insert(hash(pattern), at);
            }
            // Of two entries that claim one license, user or network, the first in the file has it.
            for license in &source.licenses {
                new.by_license.entry(license.clone()).or_insert(at);
            }
            for user in &source.users {
                new.by_user.entry(user.clone()).or_insert(at);
            }
            for network in &source.networks {
                let network = network.trunc();
                new.by_network.entry(network).or_insert(at);
                new.prefixes.push((network.addr().is_ipv4(), network.prefix_len()));
            }
            if source.learn.is_some() {
                new.learning.push(at);
            }
            let rate = source.limit.unwrap_or(default);
            let before = kept.get(&identity(&source));
            let limiter = match before {
                Some(entry) if entry.limiter.rate == rate => entry.limiter.clone(),
                _ => Arc::new(Limiter::new(rate)),
            };
            // An enrolment that has learned its id learns no other because the file was read again meanwhile.
            let learned = match before {
                Some(entry) if entry.source.learn == source.learn => entry.learned.clone(),
                _ => OnceLock::new(),
            };
            new.entries.push(Entry { source, limiter, learned });
        }
        new.prefixes.sort_unstable_by(|a, b| b.cmp(a));
        new.prefixes.dedup();
        new
    }

    /// All entries, in the file's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The standing of a request that names its source. An entry that lists networks or users wants one of them
    /// as well, because an id proves nothing.
    pub fn by_id(&self, id: &SourceId, user: Option<&str>, address: IpAddr) -> Standing<'_> {
        let listed = self.by_id.get(&sha256(id.as_str())).and_then(|at| self.entries.get(*at));
        let learned = || self.learning().find(|entry| entry.learned.get() == Some(id));
        let Some(entry) = listed.or_else(learned) else {
            return Standing::UnknownSource(id.clone());
        };
        if entry.is_placed(user, address) {
            Standing::Listed { entry, by: "source" }
        } else {
            Standing::WrongPlace(id.clone())
        }
    }

    /// The standing of a request that names no source.
    pub fn by_circumstance(
        &self,
        licenses: &[LicenseNumber],
        user: Option<&str>,
        address: IpAddr,
    ) -> Standing<'_> {
        let license = licenses.iter().find_map(|license| self.by_license.get(license));
        let user = || user.and_then(|user| self.by_user.get(user));
        let network = || {
            let of_family = self.prefixes.iter().filter(|(v4, _)| *v4 == address.is_ipv4());
            of_family
                .filter_map(|(_, length)| IpNet::new(address, *length).ok())
                .find_map(|network| self.by_network.get(&network.trunc()))
        };
        let found = license
            .map(|at| (at, "license"))
            .or_else(|| user().map(|at| (at, "user")))
            .or_else(|| network().map(|at| (at, "network")));
        match found.and_then(|(at, by)| Some((self.entries.get(*at)?, by))) {
            Some((entry, by)) => Standing::Listed { entry, by },
            None => Standing::Nobody,
        }
    }

    /// The entry that waits for the id of a deployment with one of these licenses, from this address, now: the
    /// first id that comes is its id, any other is a stranger's. The flag says that it is the first time.
    pub fn learn(
        &self,
        id: &SourceId,
        licenses: &[LicenseNumber],
        user: Option<&str>,
        address: IpAddr,
    ) -> Option<(&Entry, bool)> {
        let waits = |entry: &&Entry| {
            entry.source.learn.is_some_and(|learn| {
                learn.until > jiff::Timestamp::now() && learn.from.is_none_or(|from| from == address)
            }) && entry.is_placed(user, address)
                && entry.source.licenses.iter().any(|license| licenses.contains(license))
        };
        let entry = self.learning().find(waits)?;
        let first = entry.learned.set(id.clone()).is_ok();
        (entry.learned.get() == Some(id)).then_some((entry, first))
    }

    fn learning(&self) -> impl Iterator<Item = &Entry> {
        self.learning.iter().filter_map(|at| self.entries.get(*at))
    }

    /// Whether a refused deployment would be let in now, by its id or its license.
    pub fn knows(&self, source: Option<&SourceId>, license: Option<&LicenseNumber>) -> bool {
        match source {
            Some(id) => self.by_id.contains_key(&sha256(id.as_str())),
            None => license.is_some_and(|license| self.by_license.contains_key(license)),
        }
    }
}

impl Entry {
    /// Whether a request comes from where the entry wants it from: anywhere, if it says nothing.
    fn is_placed(&self, user: Option<&str>, address: IpAddr) -> bool {
        let Source { networks, users, .. } = &self.source;
        (networks.is_empty() && users.is_empty())
            || networks.iter().any(|network| network.contains(&address))
            || user.is_some_and(|user| users.iter().any(|listed| listed == user))
    }
}

fn hash(pattern: &SourcePattern) -> [u8; 32] {
    match pattern {
        SourcePattern::Clear(id) => sha256(id.as_str()),
        SourcePattern::Sha256(hash) => *hash,
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

/// What makes an entry the same one after an edit: its id, or all it allows by.
fn identity(source: &Source) -> String {
    match &source.id {
        Some(pattern) => format!("{:02x?}", hash(pattern)),
        None => format!("{:?}{:?}{:?}", source.licenses, source.users, source.networks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sources::parse;

    fn registry(text: &str) -> Registry {
        let one = std::num::NonZeroU32::new(60).unwrap();
        let rate = Rate { requests: one, per: std::time::Duration::from_secs(60), burst: one };
        Registry::new(parse(text, "sources.toml".as_ref()).unwrap(), rate, None)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const LIST: &str = r#"
        [[source]]
        id = "fbe89d02"
        licenses = ["9999 0000 0000 1253"]
        networks = ["10.20.0.0/24", "2001:db8::/32"]
        users = ["qlik-prod"]
        [[source]]
        id = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    "#;

    #[test]
    fn a_named_source_must_come_from_its_networks_or_users() {
        let list = registry(LIST);
        let id = "fbe89d02".parse().unwrap();
        let by = |user, from| list.by_id(&id, user, address(from));
        assert!(matches!(by(None, "10.20.0.9"), Standing::Listed { by: "source", .. }));
        assert!(matches!(by(Some("qlik-prod"), "10.9.9.9"), Standing::Listed { .. }));
        assert!(matches!(by(Some("other"), "10.9.9.9"), Standing::WrongPlace(_)));
        let hashed = "abc".parse().unwrap();
        assert!(matches!(list.by_id(&hashed, None, address("1.2.3.4")), Standing::Listed { .. }));
        let unknown = "abd".parse().unwrap();
        assert!(matches!(list.by_id(&unknown, None, address("1.2.3.4")), Standing::UnknownSource(_)));
    }

    #[test]
    fn license_user_and_network_vouch_for_messages_without_a_source() {
        let list = registry(LIST);
        let license = ["9999000000001253".parse().unwrap()];
        let by = |licenses: &[LicenseNumber], user, from| match list.by_circumstance(
            licenses,
            user,
            address(from),
        ) {
            Standing::Listed { by, .. } => by,
            _ => "nobody",
        };
        assert_eq!(by(&license, None, "1.2.3.4"), "license");
        assert_eq!(by(&[], Some("qlik-prod"), "1.2.3.4"), "user");
        assert_eq!(by(&[], None, "10.20.0.200"), "network");
        assert_eq!(by(&[], None, "2001:db8:1::1"), "network");
        assert_eq!(by(&[], None, "10.20.1.1"), "nobody");
    }

    #[test]
    fn an_enrolment_takes_the_first_id_and_no_other() {
        let list = registry(
            "[[source]]\nlicenses = [\"9999000000001253\"]\n\
             learn = { until = \"2999-01-01T00:00:00Z\", from = \"10.0.0.7\" }\n",
        );
        let license = ["9999000000001253".parse().unwrap()];
        let learn = |id: &str, from| {
            list.learn(&id.parse().unwrap(), &license, None, address(from)).map(|(_, first)| first)
        };
        assert_eq!(learn("a", "10.0.0.8"), None);
        assert_eq!(learn("a", "10.0.0.7"), Some(true));
        assert_eq!(learn("b", "10.0.0.7"), None);
        assert_eq!(learn("a", "10.0.0.7"), Some(false));
        // Until the file says so, the id also counts in messages that name no license.
        assert!(matches!(
            list.by_id(&"a".parse().unwrap(), None, address("10.0.0.7")),
            Standing::Listed { .. }
        ));
        assert!(matches!(
            list.by_id(&"b".parse().unwrap(), None, address("10.0.0.7")),
            Standing::UnknownSource(_)
        ));
        assert!(list.learn(&"a".parse().unwrap(), &[], None, address("10.0.0.7")).is_none());
        let again = AllowList { sources: list.entries.iter().map(|entry| entry.source.clone()).collect() };
        let again = Registry::new(again, list.entries[0].limiter.rate, Some(&list));
        assert!(
            again.learn(&"b".parse().unwrap(), &license, None, address("10.0.0.7")).is_none(),
            "after a reload"
        );
    }

    #[test]
    fn an_enrolment_with_networks_or_users_learns_from_nowhere_else() {
        let list = registry(
            "[[source]]\nlicenses = [\"9999000000001253\"]\nnetworks = [\"10.20.0.0/24\"]\nusers = [\"qlik\"]\n\
             learn = { until = \"2999-01-01T00:00:00Z\" }\n",
        );
        let license = ["9999000000001253".parse().unwrap()];
        let learn = |user, from| list.learn(&"a".parse().unwrap(), &license, user, address(from)).is_some();
        assert!(!learn(None, "10.9.9.9"));
        assert!(!learn(Some("other"), "10.9.9.9"));
        assert!(learn(Some("qlik"), "10.9.9.9"));
        assert!(learn(None, "10.20.0.7"));
    }

    #[test]
    fn a_reload_keeps_the_count_of_a_source_unless_its_limit_changed() {
        let old = registry("[[source]]\nid = \"a\"\nlimit = { requests = 1, per = \"1h\", burst = 1 }\n");
        old.entries[0].limiter.check().unwrap();
        let again = |text: &str| {
            let rate = old.entries[0].limiter.rate;
            Registry::new(parse(text, "s".as_ref()).unwrap(), rate, Some(&old))
        };
        let same = again("[[source]]\nname = \"renamed\"\nid = \"a\"\n");
        assert!(same.entries[0].limiter.check().is_err());
        let changed = again("[[source]]\nid = \"a\"\nlimit = { requests = 2, per = \"1h\", burst = 1 }\n");
        assert!(changed.entries[0].limiter.check().is_ok());
    }
}
