//! Who may ask: the allow-list, indexed so that a look-up doesn't get slower with the list.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};
use ipnet::IpNet;

use super::PolicyInput;
use super::identity::ClientIdentity;
use super::limits::{CountedFor, EntryLimits, Limited};
use super::pending::Refused;
use crate::budget::Room;
use crate::config::model::{AllowList, Learn, Source, SourceRate};
use crate::config::sources::Enrolment;
use relay_log::ledger::action::IdentifiedBy;
use relay_log::names::SourcePattern;
use relay_log::names::{LicenseNumber, SourceId};

/// The allow-list in force.
#[derive(Debug)]
pub struct Registry {
    entries: Vec<Entry>,
    by_id: HashMap<[u8; 32], usize>,
    /// All entries that claim a license, in the file's order: one of them may be the place that a request comes from.
    by_license: HashMap<LicenseNumber, Vec<usize>>,
    by_user: HashMap<String, usize>,
    by_network: HashMap<IpNet, usize>,
    /// The prefix lengths in use, longest first: a look-up tries each once.
    prefixes: Vec<(bool, u8)>,
    /// The entries that wait for an id, by the license and the only address it may come with.
    waiting: HashMap<LicenseNumber, HashMap<Option<IpAddr>, Vec<usize>>>,
    enrolments: HashMap<Enrolment, usize>,
    /// Shared with the list before and the one after: requests that are in hand when the list changes learn as well.
    learned: Arc<RwLock<Learned>>,
}

/// One entry and what counts its requests.
#[derive(Debug)]
pub struct Entry {
    /// As the file has it.
    pub source: Source,
    limits: Arc<EntryLimits>,
    /// What it is known by while it waits for its id, in the file as well.
    enrolment: Option<Enrolment>,
}

/// The ids that enrolments have learned, until the file says so.
#[derive(Debug, Default)]
struct Learned {
    by_id: HashMap<SourceId, Enrolment>,
    /// Those that wait no longer: the first id is theirs, any other is a stranger's.
    over: HashSet<Enrolment>,
}

/// What the allow-list says of a request.
#[derive(Debug)]
pub enum Match<'a> {
    /// An entry allows it.
    Listed {
        /// The entry.
        entry: &'a Entry,
        /// What it was found by.
        by: IdentifiedBy,
    },
    /// Its source is listed, for other networks or users.
    WrongPlace(SourceId),
    /// It names no source, and a license of entries that all list other networks or users.
    LicenseElsewhere(LicenseNumber),
    /// It names no source, a license of some entry, and is not of the kind that a license vouches for.
    LicenseAlone(LicenseNumber),
    /// Its source is not listed.
    UnknownSource(SourceId),
    /// It names no source, and nothing else of it is listed.
    Nobody,
}

impl Registry {
    /// Indexes a list. An entry that goes on from one of the old list keeps its counts, so that a reload gives nobody
    /// a fresh burst, unless its limit has changed.
    pub fn new(list: AllowList, default: SourceRate, old: Option<&Self>) -> Self {
        let mut new = Self {
            entries: Vec::new(),
            by_id: HashMap::new(),
            by_license: HashMap::new(),
            by_user: HashMap::new(),
            by_network: HashMap::new(),
            prefixes: Vec::new(),
            waiting: HashMap::new(),
            enrolments: HashMap::new(),
            learned: old.map(|old| old.learned.clone()).unwrap_or_default(),
        };
        let continued = old.map(|old| old.continued_by(&list.sources)).unwrap_or_default();
        for (at, source) in list.sources.into_iter().enumerate() {
            let rate = source.limit.unwrap_or(default);
            let before = continued.get(at).copied().flatten();
            let before = old.zip(before).and_then(|(old, before)| old.entries.get(before));
            if let Some(pattern) = &source.id {
                new.by_id.insert(pattern.digest(), at);
            }
            for license in &source.licenses {
                new.by_license.entry(license.clone()).or_default().push(at);
            }
            // Of two entries that claim one user or network, the first in the file has it.
            for user in &source.users {
                new.by_user.entry(user.clone()).or_insert(at);
            }
            for network in &source.networks {
                let network = network.trunc();
                new.by_network.entry(network).or_insert(at);
                new.prefixes.push((network.addr().is_ipv4(), network.prefix_len()));
            }
            if let Some(learn) = source.learn {
                for license in &source.licenses {
                    let by_address = new.waiting.entry(license.clone()).or_default();
                    by_address.entry(learn.from).or_default().push(at);
                }
            }
            let enrolment = Enrolment::of(&source);
            if let Some(enrolment) = &enrolment {
                new.enrolments.entry(enrolment.clone()).or_insert(at);
            }
            let limits = match before {
                Some(entry) if entry.limits.rate == rate => entry.limits.clone(),
                _ => Arc::new(EntryLimits::new(rate)),
            };
            new.entries.push(Entry { source, limits, enrolment });
        }
        new.prefixes.sort_unstable_by(|a, b| b.cmp(a));
        new.prefixes.dedup();
        if let Some(old) = old {
            // Until this list is in force, what the old one has learned must stay.
            let known = |enrolment: &Enrolment| {
                new.enrolments.contains_key(enrolment) || old.enrolments.contains_key(enrolment)
            };
            let mut learned = new.learned.write().unwrap_or_else(PoisonError::into_inner);
            learned.by_id.retain(|_, enrolment| known(enrolment));
            learned.over.retain(known);
        }
        new
    }

    /// Where the entries stand here that those of a new list go on from: the one with its id, or that has learned it;
    /// else the one that says the same; else, where one of the two has no id, one that claims a user, network or
    /// license of it. None goes on twice.
    fn continued_by(&self, sources: &[Source]) -> Vec<Option<usize>> {
        let mut same: HashMap<_, Vec<usize>> = HashMap::new();
        for (at, entry) in self.entries.iter().enumerate().rev() {
            same.entry(claims(&entry.source)).or_default().push(at);
        }
        let (mut all, mut taken) = (Vec::new(), HashSet::new());
        for source in sources {
            let by_id = |id: &SourcePattern| self.by_id.get(&id.digest()).copied();
            let by_learned = |id: &SourcePattern| match id {
                SourcePattern::Clear(id) => self.that_has_learned(id),
                SourcePattern::Sha256(_) => None,
            };
            let found: Option<usize> = match &source.id {
                Some(id) => by_id(id).or_else(|| by_learned(id)),
                None => same.get_mut(&claims(source)).and_then(Vec::pop),
            };
            all.push(found.filter(|at| taken.insert(*at)));
        }
        for (source, found) in sources.iter().zip(&mut all).filter(|(_, found)| found.is_none()) {
            let users = source.users.iter().filter_map(|user| self.by_user.get(user));
            let networks = source.networks.iter().filter_map(|network| self.by_network.get(&network.trunc()));
            let licenses =
                source.licenses.iter().filter_map(|license| self.by_license.get(license)).flatten();
            let is_it = |at: &usize| {
                let entry = self.entries.get(*at).filter(|_| !taken.contains(at));
                entry.is_some_and(|entry| source.id.is_none() || entry.source.id.is_none())
            };
            *found = users.chain(networks).chain(licenses).copied().find(is_it);
            taken.extend(*found);
        }
        all
    }

    /// All entries, in the file's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The list that it indexes.
    pub(crate) fn list(&self) -> AllowList {
        AllowList { sources: self.entries.iter().map(|entry| entry.source.clone()).collect() }
    }

    /// The entries that none of a new list goes on from.
    pub(crate) fn gone_from(&self, new: &Self) -> Vec<&Entry> {
        let continued: HashSet<usize> =
            self.continued_by(&new.list().sources).into_iter().flatten().collect();
        let entries = self.entries.iter().enumerate();
        entries.filter(|(at, _)| !continued.contains(at)).map(|(_, entry)| entry).collect()
    }

    /// Matches a request that names its source. An entry that lists networks or users wants one of them
    /// as well, because an id proves nothing.
    pub fn by_id(&self, id: &SourceId, user: Option<&str>, address: IpAddr) -> Match<'_> {
        let listed = self.by_id.get(&sha256(id.as_str())).and_then(|at| self.entries.get(*at));
        let learned = || self.that_has_learned(id).and_then(|at| self.entries.get(at));
        let Some(entry) = listed.or_else(learned) else {
            return Match::UnknownSource(id.clone());
        };
        if entry.is_placed(user, address) {
            Match::Listed { entry, by: IdentifiedBy::Source }
        } else {
            Match::WrongPlace(id.clone())
        }
    }

    /// Matches a request that names no source. A license vouches, from anywhere, only for what is `sourceless` by
    /// nature: leaving the id out of a message is no way around its place.
    pub fn by_circumstance(
        &self,
        licenses: &[LicenseNumber],
        user: Option<&str>,
        address: IpAddr,
        sourceless: bool,
    ) -> Match<'_> {
        let (mut by_license, mut alone) = (None, None);
        for license in licenses {
            let Some(claims) = self.by_license.get(license) else { continue };
            let mut entries = claims.iter().filter_map(|at| self.entries.get(*at));
            let entry = match entries.clone().find(|entry| entry.is_placed(user, address)) {
                None if !sourceless => return Match::LicenseElsewhere(license.clone()),
                placed if sourceless => placed.or_else(|| entries.next()),
                _ => entries.find(|entry| entry.proves(user, address)),
            };
            by_license = by_license.or(entry);
            alone = alone.or(Some(license));
        }
        if let Some(entry) = by_license {
            return Match::Listed { entry, by: IdentifiedBy::License };
        }
        let user = || user.and_then(|user| self.by_user.get(user));
        let network = || {
            let of_family = self.prefixes.iter().filter(|(v4, _)| *v4 == address.is_ipv4());
            of_family
                .filter_map(|(_, length)| IpNet::new(address, *length).ok())
                .find_map(|network| self.by_network.get(&network.trunc()))
        };
        let found = user()
            .map(|at| (at, IdentifiedBy::User))
            .or_else(|| network().map(|at| (at, IdentifiedBy::Network)));
        match found.and_then(|(at, by)| Some((self.entries.get(*at)?, by))) {
            Some((entry, by)) => Match::Listed { entry, by },
            None => alone.map_or(Match::Nobody, |license| Match::LicenseAlone(license.clone())),
        }
    }

    /// Binds an id to the entry that waits for the id of a deployment with one of these licenses, from this address,
    /// now: the first id that comes is its id, any other is a stranger's. The flag says that it is the first time.
    pub fn learn(
        &self,
        id: &SourceId,
        licenses: &[LicenseNumber],
        user: Option<&str>,
        address: IpAddr,
    ) -> Option<(&Entry, bool)> {
        let mut waiting = self
            .waiting_for(licenses, user, address)
            .filter_map(|entry| Some((entry, entry.enrolment.as_ref()?)))
            .peekable();
        // Most ids that aren't listed are no enrolment's: they must not wait for one another.
        waiting.peek()?;
        let mut learned = self.learned.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = learned.by_id.get(id).and_then(|enrolment| self.enrolments.get(enrolment)) {
            return self.entries.get(*at).filter(|entry| entry.is_placed(user, address)).map(|e| (e, false));
        }
        let (entry, enrolment) = waiting.find(|(_, enrolment)| !learned.over.contains(*enrolment))?;
        learned.over.insert(enrolment.clone());
        learned.by_id.insert(id.clone(), enrolment.clone());
        Some((entry, true))
    }

    /// Whether an entry waits for the id of a deployment with one of these licenses, from this address, now.
    pub(super) fn is_waiting(&self, licenses: &[LicenseNumber], user: Option<&str>, address: IpAddr) -> bool {
        self.waiting_for(licenses, user, address).next().is_some()
    }

    fn waiting_for(
        &self,
        licenses: &[LicenseNumber],
        user: Option<&str>,
        address: IpAddr,
    ) -> impl Iterator<Item = &Entry> {
        let now = jiff::Timestamp::now();
        licenses
            .iter()
            .filter_map(|license| self.waiting.get(license))
            .flat_map(move |by_address| [by_address.get(&Some(address)), by_address.get(&None)])
            .flatten()
            .flatten()
            .filter_map(|at| self.entries.get(*at))
            .filter(move |entry| entry.source.learn.is_some_and(|learn| learn.until > now))
            .filter(move |entry| entry.is_placed(user, address))
    }

    /// The enrolment that has learned this id. None once the file has the id, or the enrolment no more.
    pub fn enrolment_of(&self, id: &SourceId) -> Option<Enrolment> {
        let at = self.that_has_learned(id).filter(|_| !self.by_id.contains_key(&sha256(id.as_str())))?;
        self.entries.get(at)?.enrolment.clone()
    }

    fn that_has_learned(&self, id: &SourceId) -> Option<usize> {
        let learned = self.learned.read().unwrap_or_else(PoisonError::into_inner);
        learned.by_id.get(id).and_then(|enrolment| self.enrolments.get(enrolment)).copied()
    }

    /// Whether a deployment that was refused would be let in now, so that it needs no number any more.
    pub fn lets_in(&self, refused: &Refused) -> bool {
        let Refused { source, license, user, address, sourceless, .. } = refused;
        let user = user.as_deref();
        let found = match source.as_deref().and_then(|id| id.parse().ok()) {
            Some(id) => return matches!(self.by_id(&id, user, *address), Match::Listed { .. }),
            None => {
                let license: Option<LicenseNumber> =
                    license.as_deref().and_then(|number| number.parse().ok());
                self.by_circumstance(license.as_slice(), user, *address, *sourceless)
            }
        };
        matches!(found, Match::Listed { .. })
    }
}

impl Entry {
    /// Takes one request of this entry, that has so many records, and reserves room for it in the log.
    ///
    /// # Errors
    /// Its limit is reached; which, and the wait until it is not.
    pub fn count(&self, asker: PolicyInput<'_>) -> Result<Room, Limited> {
        let PolicyInput { licenses, identity, activates, records, .. } = asker;
        let (unproven, address) = (self.unproven(identity), identity.address);
        let license = || licenses.iter().find(|license| self.source.licenses.contains(license));
        let whose = match activates {
            true => CountedFor::Activation(license(), address),
            false if unproven.is_none() => CountedFor::Proven,
            false => CountedFor::Address(address),
        };
        self.limits.check(whose, unproven, records)
    }

    /// Room in the log for one request of this entry that must not be turned away.
    pub(super) fn owe(&self, identity: &ClientIdentity) -> Room {
        self.limits.owe(self.unproven(identity))
    }

    /// The address of a client that nothing proves to be the deployment.
    fn unproven(&self, ClientIdentity { user, address, .. }: &ClientIdentity) -> Option<IpAddr> {
        (!self.proves(user.as_deref(), *address)).then_some(*address)
    }

    /// What people tell it by.
    pub(crate) fn label(&self) -> String {
        self.source.label()
    }

    /// Whether a request comes from where the entry wants it from: anywhere, if it says nothing.
    fn is_placed(&self, user: Option<&str>, address: IpAddr) -> bool {
        let Source { networks, users, .. } = &self.source;
        (networks.is_empty() && users.is_empty()) || self.proves(user, address)
    }

    /// Whether user or address prove that a request is the deployment's own.
    pub(super) fn proves(&self, user: Option<&str>, address: IpAddr) -> bool {
        self.has_network(address)
            || user.is_some_and(|user| self.source.users.iter().any(|listed| listed == user))
    }

    /// Whether it lists a network of this address.
    pub fn has_network(&self, address: IpAddr) -> bool {
        self.source.networks.iter().any(|network| network.contains(&address))
    }
}

/// What an entry without an id is known by.
fn claims(source: &Source) -> (&[LicenseNumber], &[String], &[IpNet], Option<Learn>) {
    (&source.licenses, &source.users, &source.networks, source.learn)
}

fn sha256(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::Rate;
    use crate::config::sources::parse;

    const RATE: SourceRate = {
        let sixty = std::num::NonZeroU32::new(60).unwrap();
        SourceRate::new(Rate { requests: sixty, per: Duration::from_secs(60), burst: sixty }, None)
    };

    fn registry(text: &str) -> Registry {
        Registry::new(parse(text, "sources.toml".as_ref()).unwrap(), RATE, None)
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
        assert!(matches!(by(None, "10.20.0.9"), Match::Listed { by: IdentifiedBy::Source, .. }));
        assert!(matches!(by(Some("qlik-prod"), "10.9.9.9"), Match::Listed { .. }));
        assert!(matches!(by(Some("other"), "10.9.9.9"), Match::WrongPlace(_)));
        let hashed = "abc".parse().unwrap();
        assert!(matches!(list.by_id(&hashed, None, address("1.2.3.4")), Match::Listed { .. }));
        let unknown = "abd".parse().unwrap();
        assert!(matches!(list.by_id(&unknown, None, address("1.2.3.4")), Match::UnknownSource(_)));
    }

    #[test]
    fn license_user_and_network_vouch_for_messages_without_a_source() {
        let list = registry(LIST);
        let license = ["9999000000001253".parse().unwrap()];
        let by = |licenses: &[LicenseNumber], user, from| match list.by_circumstance(
            licenses,
            user,
            address(from),
            true,
        ) {
            Match::Listed { by, .. } => by.as_str(),
            _ => "nobody",
        };
        assert_eq!(by(&license, None, "1.2.3.4"), "license");
        assert_eq!(by(&[], Some("qlik-prod"), "1.2.3.4"), "user");
        assert_eq!(by(&[], None, "10.20.0.200"), "network");
        assert_eq!(by(&[], None, "2001:db8:1::1"), "network");
        assert_eq!(by(&[], None, "10.20.1.1"), "nobody");
    }

    #[test]
    fn a_license_vouches_from_elsewhere_only_for_what_names_no_source_by_nature() {
        let list = registry(
            "[[source]]\nlicenses = [\"1111\"]\nnetworks = [\"10.1.0.0/16\"]\n\
             [[source]]\nlicenses = [\"1111\", \"2222\"]\nusers = [\"qlik\"]\n\
             [[source]]\nlicenses = [\"3333\"]\n[[source]]\nnetworks = [\"10.9.0.0/16\"]\n",
        );
        let by = |licenses: &[&str], user, from, sourceless| {
            let licenses: Vec<LicenseNumber> =
                licenses.iter().map(|number| number.parse().unwrap()).collect();
            match list.by_circumstance(&licenses, user, address(from), sourceless) {
                Match::Listed { entry, by } => format!("{} of {}", by.as_str(), entry.source.line),
                Match::LicenseElsewhere(license) => license.to_string(),
                Match::LicenseAlone(license) => format!("{license} alone"),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(by(&["1111"], None, "10.1.0.7", false), "license of 1");
        assert_eq!(
            by(&["1111"], Some("qlik"), "10.5.0.7", false),
            "license of 4",
            "the second of two that have it"
        );
        assert_eq!(by(&["1111"], None, "10.5.0.7", false), "1111");
        assert_eq!(by(&["1111"], None, "10.5.0.7", true), "license of 1");
        assert_eq!(
            by(&["1111"], None, "10.9.0.7", false),
            "1111",
            "another entry's network is not its place"
        );
        assert_eq!(by(&["3333"], None, "10.5.0.7", false), "3333 alone");
        assert_eq!(by(&["3333"], None, "10.5.0.7", true), "license of 7");
        assert_eq!(by(&["3333"], None, "10.9.0.7", false), "network of 9");
        assert_eq!(
            by(&["3333", "2222"], None, "10.5.0.7", false),
            "2222",
            "a license of one's own hides no other"
        );
        assert_eq!(by(&["9999", "3333"], None, "10.5.0.7", true), "license of 7");
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
        assert!(matches!(list.by_id(&"a".parse().unwrap(), None, address("10.0.0.7")), Match::Listed { .. }));
        assert!(matches!(
            list.by_id(&"b".parse().unwrap(), None, address("10.0.0.7")),
            Match::UnknownSource(_)
        ));
        assert!(list.learn(&"a".parse().unwrap(), &[], None, address("10.0.0.7")).is_none());
        assert_eq!(list.enrolment_of(&"a".parse().unwrap()).unwrap().licenses, license);
        let again = AllowList { sources: list.entries.iter().map(|entry| entry.source.clone()).collect() };
        let again = Registry::new(again, RATE, Some(&list));
        assert!(
            again.learn(&"b".parse().unwrap(), &license, None, address("10.0.0.7")).is_none(),
            "after a reload"
        );
        assert!(again.enrolment_of(&"a".parse().unwrap()).is_some());
    }

    #[test]
    fn a_request_in_hand_while_the_list_changes_enrols_in_the_new_one() {
        const TEXT: &str =
            "[[source]]\nlicenses = [\"1234\"]\nlearn = { until = \"2999-01-01T00:00:00Z\" }\n";
        let old = registry(TEXT);
        let next = |text: &str, old| Registry::new(parse(text, "s".as_ref()).unwrap(), RATE, Some(old));
        let new = next(&format!("[[source]]\nid = \"b\"\n{TEXT}"), &old);
        let (a, from) = ("a".parse().unwrap(), address("10.0.0.7"));
        let license = ["1234".parse().unwrap()];
        assert!(old.learn(&a, &license, None, from).is_some_and(|(_, first)| first));
        assert!(matches!(new.by_id(&a, None, from), Match::Listed { .. }));
        assert!(new.enrolment_of(&a).is_some());
        assert!(new.learn(&"c".parse().unwrap(), &license, None, from).is_none());
        let bound = next("[[source]]\nid = \"a\"\nlicenses = [\"1234\"]\n", &new);
        assert!(bound.enrolment_of(&a).is_none());
        assert!(next(TEXT, &bound).learn(&"c".parse().unwrap(), &license, None, from).is_none(), "not yet");
        let later = next(TEXT, &next("# nobody\n", &bound));
        assert!(later.learn(&"c".parse().unwrap(), &license, None, from).is_some());
    }

    #[test]
    fn two_enrolments_of_one_license_take_an_id_each_and_each_is_known_by_its_own() {
        let list = registry(
            "[[source]]\nlicenses = [\"9999000000001253\"]\nlearn = { until = \"2999-01-01T00:00:00Z\" }\n\
             [[source]]\nlicenses = [\"9999000000001253\"]\n\
             learn = { until = \"2999-01-01T00:00:00Z\", from = \"10.0.0.7\" }\n",
        );
        let license = ["9999000000001253".parse().unwrap()];
        let from = |id: &str| {
            let id = id.parse().unwrap();
            list.learn(&id, &license, None, address("10.0.0.7"))?;
            Some(list.enrolment_of(&id)?.learn.from)
        };
        assert_eq!(from("a"), Some(Some(address("10.0.0.7"))), "the one that waits for this very address");
        assert_eq!(from("b"), Some(None));
        assert_eq!((from("c"), from("a")), (None, Some(Some(address("10.0.0.7")))));
    }

    #[test]
    fn of_two_entries_that_differ_in_their_place_alone_each_learns_and_keeps_its_own_id() {
        let entry = |network: &str| {
            format!(
                "[[source]]\nlicenses = [\"1234\"]\nnetworks = [\"{network}\"]\n\
                 learn = {{ until = \"2999-01-01T00:00:00Z\" }}\n"
            )
        };
        let list = registry(&[entry("10.1.0.0/16"), entry("10.2.0.0/16")].concat());
        let license = ["1234".parse().unwrap()];
        for (id, from) in [("second", "10.2.0.7"), ("first", "10.1.0.7")] {
            let (id, from) = (id.parse().unwrap(), address(from));
            assert!(list.learn(&id, &license, None, from).is_some_and(|(_, first)| first), "{id}");
            assert!(matches!(list.by_id(&id, None, from), Match::Listed { .. }), "{id} is in its place");
            assert!(list.enrolment_of(&id).unwrap().networks[0].contains(&from), "{id} is bound elsewhere");
        }
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

    /// Takes a request of the first entry.
    fn first(list: &Registry) -> bool {
        let asker = PolicyInput {
            understanding: crate::licensing::asker::Understanding::Message,
            source: &crate::licensing::asker::ClaimedSource::Nobody,
            licenses: &[],
            identity: &ClientIdentity {
                way: crate::policy::identity::WayIn::Connect,
                user: None,
                address: address("10.20.0.1"),
            },
            activates: false,
            sourceless: false,
            records: 1,
        };
        list.entries[0].count(asker).is_ok()
    }

    #[test]
    fn a_reload_keeps_the_count_of_a_source_unless_its_limit_changed() {
        const ONE: &str = "limit = { requests = 1, per = \"1h\", burst = 1 }\n";
        let next = |old: &Registry, text: &str| {
            let list = parse(&format!("[[source]]\n{text}"), "s".as_ref()).unwrap();
            Registry::new(list, RATE, Some(old))
        };
        let begun = |text: &str| {
            let list = registry(&format!("[[source]]\n{text}{ONE}"));
            assert!(first(&list) && !first(&list));
            list
        };
        let by_id = begun("id = \"a\"\n");
        let hash = "id = \"sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb\"\n";
        for same in ["name = \"renamed\"\nid = \"a\"\nlicenses = [\"1234\"]\n", hash] {
            assert!(!first(&next(&by_id, &format!("{same}{ONE}"))), "{same}");
        }
        assert!(first(&next(&by_id, &format!("id = \"b\"\n{ONE}"))), "another id is another deployment");
        assert!(first(&next(&by_id, "id = \"a\"\nlimit = { requests = 2, per = \"1h\", burst = 1 }\n")));

        let nameless = begun("licenses = [\"1234\"]\nnetworks = [\"10.20.0.0/16\"]\n");
        for edited in [
            "licenses = [\"1234\", \"5678\"]\nnetworks = [\"10.20.0.0/16\"]\n",
            "networks = [\"10.20.0.0/16\"]\n",
            "id = \"a\"\nlicenses = [\"1234\"]\nnetworks = [\"10.20.0.0/16\"]\n",
        ] {
            assert!(!first(&next(&nameless, &format!("{edited}{ONE}"))), "{edited}");
        }

        let enrolling = begun("licenses = [\"1234\"]\nlearn = { until = \"2999-01-01T00:00:00Z\" }\n");
        let id = "a".parse().unwrap();
        enrolling.learn(&id, &["1234".parse().unwrap()], None, address("10.20.0.1")).unwrap();
        assert!(!first(&next(&enrolling, &format!("id = \"a\"\n{ONE}"))), "bound to the id it has learned");
    }

    #[test]
    fn among_ten_thousand_each_is_found_by_what_is_its_own_and_enrols_its_own() {
        const MANY: u32 = 10_000;
        let text = |n: u32| format!("deployment-{n}");
        let license = |n: u32| format!("9999{n:012}").parse::<LicenseNumber>().unwrap();
        let host = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        let until = "2999-01-01T00:00:00Z".parse().unwrap();
        let nobody = Source {
            id: None,
            name: String::new(),
            licenses: vec![],
            users: vec![],
            networks: vec![],
            limit: None,
            mode: None,
            learn: None,
            line: 1,
        };
        // The first half knows its ids, in clear or hashed; the other waits, half of it for one license of all.
        let entry = |n: u32| {
            let id = SourcePattern::Clear(text(n).parse().unwrap());
            match n / (MANY / 2) {
                0 | 1 => Source {
                    id: Some(if n.is_multiple_of(2) { id } else { SourcePattern::Sha256(id.digest()) }),
                    name: text(n),
                    licenses: vec![license(n)],
                    users: vec![text(n)],
                    networks: vec![IpNet::from(host(n))],
                    ..nobody.clone()
                },
                2 => Source {
                    name: text(n),
                    licenses: vec![license(n)],
                    learn: Some(Learn { until, from: None }),
                    ..nobody.clone()
                },
                _ => Source {
                    name: text(n),
                    licenses: vec![license(2 * MANY)],
                    learn: Some(Learn { until, from: Some(host(n)) }),
                    ..nobody.clone()
                },
            }
        };
        let list = AllowList { sources: (0..2 * MANY).map(entry).collect() };
        let mut list = Registry::new(list, RATE, None);
        let name = |found: Match<'_>| match found {
            Match::Listed { entry, .. } => entry.source.name.clone(),
            other => format!("{other:?}"),
        };
        for n in 0..MANY {
            let id = text(n).parse().unwrap();
            assert_eq!(name(list.by_id(&id, None, host(n))), text(n));
            assert!(matches!(list.by_id(&id, None, host(n + 1)), Match::WrongPlace(_)));
            assert_eq!(name(list.by_circumstance(&[license(n)], None, address("1.2.3.4"), true)), text(n));
            assert_eq!(name(list.by_circumstance(&[], Some(&text(n)), address("1.2.3.4"), true)), text(n));
            assert_eq!(name(list.by_circumstance(&[], None, host(n), true)), text(n));
        }
        for n in MANY..2 * MANY {
            let id = text(n).parse().unwrap();
            let license = [if n < MANY * 3 / 2 { license(n) } else { license(2 * MANY) }];
            let (entry, first) = list.learn(&id, &license, None, host(n)).unwrap();
            assert!(first && entry.source.name == text(n), "{n} took {}", entry.source.name);
            let stranger = "stranger".parse().unwrap();
            assert!(list.learn(&stranger, &license, None, host(n)).is_none(), "{n} learned twice");
        }
        let sources = list.entries.iter().map(|entry| entry.source.clone()).collect();
        list = Registry::new(AllowList { sources }, RATE, Some(&list));
        for n in MANY..2 * MANY {
            let id = text(n).parse().unwrap();
            assert_eq!(name(list.by_id(&id, None, host(n))), text(n), "after a reload");
            assert_eq!(list.enrolment_of(&id), Enrolment::of(&entry(n)));
        }
        assert!(matches!(list.by_id(&"nobody".parse().unwrap(), None, host(0)), Match::UnknownSource(_)));
    }
}
