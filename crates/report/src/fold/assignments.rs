//! Who holds what: the log folded, record by record, into the assignments that the back end has confirmed, with those that
//! are only asked for and those of which nobody knows kept apart.
//!
//! What the back end tells decides, and of what it tells the highest version does, not what was told last: a deployment
//! that was away is told old changes late. Five deployments that are told one change are told one change.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::coverage::Coverage;
use super::people::{People, PersonId, Words};
use relay_log::ledger::entry::{Ended, Entry};

/// Deleted instances of nobody that are remembered. Those beyond count as held once they are told late.
const GONE: usize = 100_000;
/// Exchanges in hand that are remembered; more than any relay has at once. Those beyond are pending, not lost.
const IN_HAND: usize = 100_000;

/// What an assignment is of: ordered by person, so that all of one person are one range.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// Who.
    pub person: PersonId,
    /// The license, as a number of [`Assignments::words`].
    pub license: u32,
    /// The allotment, likewise.
    pub allotment: u32,
}

impl Key {
    fn all_of(person: PersonId) -> std::ops::RangeInclusive<Self> {
        let first = Self { person, license: 0, allotment: 0 };
        first..=Self { license: u32::MAX, allotment: u32::MAX, ..first }
    }
}

/// What a change does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// A person gets access.
    Add,
    /// A person loses it.
    Delete,
    /// Neither can be told.
    Unknown,
}

impl Change {
    /// Of an `event.action`.
    pub fn of(action: &str) -> Option<Self> {
        match action {
            "license.assignment.add" => Some(Self::Add),
            "license.assignment.delete" => Some(Self::Delete),
            "license.assignment.unknown" => Some(Self::Unknown),
            _ => None,
        }
    }

    /// In answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Delete => "delete",
            Self::Unknown => "unknown",
        }
    }
}

/// What is known of one person's access to one allotment.
#[derive(Clone, Debug)]
pub struct Known {
    /// Has it, or had it and lost it.
    pub holds: bool,
    /// From the opening balance, and nothing told of it yet.
    pub opening: bool,
    /// When this log first saw it told; absent in an opening balance.
    pub since: Option<Timestamp>,
    /// The version that told it; 0 where none did.
    pub version: u64,
    /// The back end's number for it.
    pub instance: Option<Box<str>>,
    /// The deployment that was told first.
    pub(crate) told_by: Option<u32>,
}

/// A change of which nobody can tell what it does.
#[derive(Clone, Debug)]
pub struct Unclear {
    /// When this log first saw it told.
    pub since: Timestamp,
    /// The version that told it; 0 where none did.
    pub version: u64,
    /// The back end's number for it.
    pub instance: Option<Box<str>>,
    /// The deployment that was told first.
    pub(crate) told_by: Option<u32>,
}

/// What a deployment asked for.
#[derive(Clone, Debug)]
pub struct RequestedChange {
    /// Add or delete.
    pub change: Change,
    /// When.
    pub time: Timestamp,
    /// By which deployment.
    pub source: Option<u32>,
    /// Its outcome is not known, and won't be.
    pub lost: bool,
    exchange: Box<str>,
}

/// A change that the back end has told for the first time.
#[derive(Clone, Debug)]
pub struct ConfirmedChange {
    /// Of what; absent where the change names neither a person nor an instance that is known.
    pub key: Option<Key>,
    /// What it does.
    pub change: Change,
    /// The back end refused it.
    pub rejected: bool,
    /// The deployment that asked for it, where that went through here.
    pub asked_by: Option<u32>,
    /// What that was before: held or not.
    pub held: bool,
    /// Held or not, with it.
    pub holds: bool,
}

impl ConfirmedChange {
    /// The newest pseudonym of whom it is about.
    pub(crate) fn subject(&self, all: &Assignments) -> Option<String> {
        self.key.map(|key| all.people.pseudonym(key.person).to_owned())
    }
}

/// The fold.
#[derive(Debug, Default)]
pub struct Assignments {
    /// Who is who.
    pub people: People,
    /// Licenses, allotments and sources.
    pub words: Words,
    /// What was told.
    pub known: BTreeMap<Key, Known>,
    /// What is asked for, and neither told nor refused.
    pub asked: BTreeMap<Key, RequestedChange>,
    /// Told, and neither add nor delete can be told.
    pub(crate) unclear: BTreeMap<Key, Unclear>,
    /// Told changes that name nobody who is known.
    pub of_nobody: u64,
    /// How many hold each allotment of each license.
    pub held: HashMap<(u32, u32), u64>,
    instances: HashMap<(u32, Box<str>), Key>,
    /// Instances that were deleted before anybody was told whose they were, with the version that did it.
    gone: HashMap<(u32, Box<str>), u64>,
    in_hand: HashMap<Box<str>, (usize, Vec<Key>)>,
    /// Who was joined to whom, for keys that were kept before that.
    joined: HashMap<PersonId, PersonId>,
    /// Licenses and allotments of which people were joined since [`take_recounted`](Self::take_recounted).
    recounted: Vec<(u32, u32)>,
}

impl Assignments {
    /// The next record; `coverage` has taken all before it. Gives a change where it is told for the first time.
    pub fn take(&mut self, log: usize, entry: &Entry<'_>, coverage: &Coverage) -> Option<ConfirmedChange> {
        match (&*entry.action, Change::of(&entry.action), entry.qlik.direction.as_deref()) {
            (_, Some(change), Some("out")) => self.note_asked(log, entry, change),
            (_, Some(change), _) => return self.note_told(log, entry, change, coverage),
            ("license.sync.response", ..) => self.note_end(entry),
            ("audit.alias", ..) => self.note_alias(entry),
            ("relay.start", ..) => self.give_up(log),
            _ => {}
        }
        None
    }

    /// What an export of the product's console says: who held what before the log began. The pseudonyms are all of the one
    /// person, the newest first.
    pub fn open_with(&mut self, license: &str, allotment: &str, pseudonyms: &[String]) {
        let Some(newest) = pseudonyms.first() else { return };
        let person = self.people.number(newest);
        for older in pseudonyms.iter().skip(1) {
            self.people.join(newest, older);
        }
        let key =
            Key { person, license: self.words.number(license), allotment: self.words.number(allotment) };
        let opening =
            Known { holds: true, opening: true, since: None, version: 0, instance: None, told_by: None };
        if self.known.insert(key, opening).is_none() {
            self.count(key, false, true);
        }
    }

    /// Where fewer may hold since two people were found to be one.
    pub(crate) fn take_recounted(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.recounted)
    }

    fn key(&mut self, entry: &Entry<'_>) -> Option<Key> {
        let license = self.words.number(entry.qlik.license.as_deref().unwrap_or_default());
        let instance = entry.qlik.instance.as_deref().filter(|instance| !instance.is_empty());
        let known = instance.and_then(|instance| self.instances.get(&(license, instance.into())).copied());
        let allotment = entry.qlik.allotment.as_deref().map(|allotment| self.words.number(allotment));
        match (entry.subject.as_deref(), allotment) {
            (Some(subject), Some(allotment)) => {
                Some(Key { person: self.people.number(subject), license, allotment })
            }
            (Some(subject), None) => {
                let person = self.people.number(subject);
                known.filter(|known| known.person == person)
            }
            // A delete may name what the back end calls it, and nobody.
            (None, _) => known,
        }
    }

    fn note_asked(&mut self, log: usize, entry: &Entry<'_>, change: Change) {
        let Some(key) = self.key(entry) else { return };
        let source = entry.qlik.source_id.as_deref().map(|source| self.words.number(source));
        let exchange: Box<str> = Box::from(&*entry.exchange);
        let asked =
            RequestedChange { change, time: entry.time, source, lost: false, exchange: exchange.clone() };
        self.asked.insert(key, asked);
        if self.in_hand.len() < IN_HAND || self.in_hand.contains_key(&exchange) {
            self.in_hand.entry(exchange).or_insert_with(|| (log, Vec::new())).1.push(key);
        }
    }

    /// The exchange has ended. What it told comes behind this record.
    fn note_end(&mut self, entry: &Entry<'_>) {
        let Some((_, keys)) = self.in_hand.remove(&*entry.exchange) else { return };
        for key in keys.into_iter().map(|key| self.as_joined(key)).collect::<Vec<_>>() {
            let Some(asked) = self.asked.get_mut(&key).filter(|asked| *asked.exchange == *entry.exchange)
            else {
                continue;
            };
            match entry.outcome {
                Ended::Success => {}
                Ended::Unknown => asked.lost = true,
                Ended::Failure => {
                    self.asked.remove(&key);
                }
            }
        }
    }

    /// A relay that starts has no exchange in hand: what was, ended without a word.
    fn give_up(&mut self, log: usize) {
        let gone: Vec<_> = self.in_hand.extract_if(|_, (of, _)| *of == log).collect();
        for (exchange, (_, keys)) in gone {
            for key in keys {
                let key = self.as_joined(key);
                if let Some(asked) = self.asked.get_mut(&key).filter(|asked| asked.exchange == exchange) {
                    asked.lost = true;
                }
            }
        }
    }

    fn note_told(
        &mut self,
        log: usize,
        entry: &Entry<'_>,
        change: Change,
        coverage: &Coverage,
    ) -> Option<ConfirmedChange> {
        let version = entry.qlik.version.unwrap_or(0);
        let license = entry.qlik.license.as_deref().unwrap_or_default();
        let repeat = version > 0 && coverage.is_repeat(log, license, version);
        let rejected = entry.outcome == Ended::Failure;
        let Some(key) = self.key(entry) else {
            if repeat {
                return None;
            }
            self.of_nobody += 1;
            self.note_gone(entry, change, rejected);
            return Some(ConfirmedChange {
                key: None,
                change,
                rejected,
                asked_by: None,
                held: false,
                holds: false,
            });
        };
        let of_exchange = self.asked.get(&key).is_some_and(|asked| *asked.exchange == *entry.exchange);
        let before = self.known.get(&key);
        let held = before.is_some_and(|known| known.holds);
        let same = before.is_some_and(|known| !known.opening && known.holds == (change == Change::Add));
        if repeat || (version == 0 && same && !rejected && !of_exchange) {
            // What this deployment asked for is answered all the same, also where its own answer was lost.
            let source = entry.qlik.source_id.as_deref().and_then(|source| self.words.known(source));
            let answers = |asked: &RequestedChange| {
                asked.change == change && asked.source == source && source.is_some()
            };
            if of_exchange || (!rejected && self.asked.get(&key).is_some_and(answers)) {
                self.asked.remove(&key);
            }
            return None;
        }
        let asked = self.asked.remove(&key);
        let asked_by = asked.filter(|asked| asked.change == change).and_then(|asked| asked.source);
        let mut told = ConfirmedChange { key: Some(key), change, rejected, asked_by, held, holds: held };
        if rejected {
            return Some(told);
        }
        let newer = before.is_none_or(|known| version == 0 || known.version <= version);
        match change {
            Change::Unknown if newer => self.note_unclear(key, entry),
            Change::Unknown => {}
            Change::Add | Change::Delete if newer => {
                told.holds = change == Change::Add && !self.is_gone(entry);
                self.apply(key, entry, told.holds);
            }
            Change::Add | Change::Delete => {}
        }
        Some(told)
    }

    /// A deployment that was away may be told later whose instance this was.
    fn note_gone(&mut self, entry: &Entry<'_>, change: Change, rejected: bool) {
        let version = entry.qlik.version.unwrap_or(0);
        let instance = entry.qlik.instance.as_deref().filter(|instance| !instance.is_empty());
        let Some(instance) = instance.filter(|_| change == Change::Delete && !rejected && version > 0) else {
            return;
        };
        if self.gone.len() < GONE {
            let license = self.words.number(entry.qlik.license.as_deref().unwrap_or_default());
            self.gone.insert((license, instance.into()), version);
        }
    }

    fn is_gone(&mut self, entry: &Entry<'_>) -> bool {
        let Some(instance) = entry.qlik.instance.as_deref().filter(|_| !self.gone.is_empty()) else {
            return false;
        };
        let license = self.words.number(entry.qlik.license.as_deref().unwrap_or_default());
        let gone = self.gone.get(&(license, instance.into()));
        gone.is_some_and(|version| entry.qlik.version.is_some_and(|added| added < *version))
    }

    /// A later change may name its instance alone.
    fn note_unclear(&mut self, key: Key, entry: &Entry<'_>) {
        let version = entry.qlik.version.unwrap_or(0);
        if self.unclear.get(&key).is_some_and(|unclear| version > 0 && version < unclear.version) {
            return;
        }
        let instance = entry.qlik.instance.as_deref().filter(|instance| !instance.is_empty());
        let instance: Option<Box<str>> = instance.map(Into::into);
        if let Some(instance) = instance.clone() {
            self.instances.entry((key.license, instance)).or_insert(key);
        }
        let told_by = entry.qlik.source_id.as_deref().map(|source| self.words.number(source));
        self.unclear.insert(key, Unclear { since: entry.time, version, instance, told_by });
    }

    fn apply(&mut self, key: Key, entry: &Entry<'_>, holds: bool) {
        let version = entry.qlik.version.unwrap_or(0);
        let settles = |unclear: &Unclear| version == 0 || unclear.version <= version;
        if self.unclear.get(&key).is_some_and(settles)
            && let Some(instance) = self.unclear.remove(&key).and_then(|unclear| unclear.instance)
        {
            self.instances.remove(&(key.license, instance));
        }
        let before = self.known.remove(&key);
        let held = before.as_ref().is_some_and(|known| known.holds);
        let instance = entry.qlik.instance.as_deref().filter(|instance| !instance.is_empty());
        // Another instance is another assignment, whose delete was not told.
        let same =
            |known: &Known| instance.zip(known.instance.as_deref()).is_none_or(|(new, old)| new == old);
        let kept = before.as_ref().filter(|known| known.holds && holds && !known.opening && same(known));
        let since = kept.and_then(|known| known.since).or(Some(entry.time));
        let told_by = kept.and_then(|known| known.told_by);
        let told_by =
            told_by.or_else(|| entry.qlik.source_id.as_deref().map(|source| self.words.number(source)));
        if let Some(instance) = before.and_then(|known| known.instance) {
            self.instances.remove(&(key.license, instance));
        }
        let instance: Option<Box<str>> = instance.map(Into::into);
        if let Some(instance) = instance.clone().filter(|_| holds) {
            self.instances.insert((key.license, instance), key);
        }
        self.known.insert(key, Known { holds, opening: false, since, version, instance, told_by });
        self.count(key, held, holds);
    }

    fn count(&mut self, key: Key, held: bool, holds: bool) {
        let count = self.held.entry((key.license, key.allotment)).or_default();
        match (held, holds) {
            (false, true) => *count += 1,
            (true, false) => *count = count.saturating_sub(1),
            _ => {}
        }
    }

    fn note_alias(&mut self, entry: &Entry<'_>) {
        let (Some(newer), Some(older)) = (entry.subject.as_deref(), entry.qlik.alias_of.as_deref()) else {
            return;
        };
        let Some((stays, gone)) = self.people.join(newer, older) else { return };
        self.joined.insert(gone, stays);
        let all = Key::all_of(gone);
        let moved: Vec<_> = self.known.extract_if(all.clone(), |_, _| true).collect();
        for (old, known) in moved {
            let key = Key { person: stays, ..old };
            self.count(old, known.holds, false);
            self.recounted.push((key.license, key.allotment));
            let before = self.known.get(&key);
            let held = before.is_some_and(|known| known.holds);
            if before.is_none_or(|other| other.version <= known.version) {
                if let Some(instance) = known.instance.clone().filter(|_| known.holds) {
                    self.instances.insert((key.license, instance), key);
                }
                self.count(key, held, known.holds);
                self.known.insert(key, known);
            }
        }
        let asked: Vec<_> = self.asked.extract_if(all.clone(), |_, _| true).collect();
        self.asked.extend(asked.into_iter().map(|(key, asked)| (Key { person: stays, ..key }, asked)));
        let unclear: Vec<_> = self.unclear.extract_if(all, |_, _| true).collect();
        for (old, unclear) in unclear {
            let key = Key { person: stays, ..old };
            if let Some(instance) = unclear.instance.clone() {
                self.instances.insert((key.license, instance), key);
            }
            self.unclear.insert(key, unclear);
        }
    }

    /// A key that was kept before its person was joined to another.
    fn as_joined(&self, mut key: Key) -> Key {
        while let Some(person) = self.joined.get(&key.person) {
            key.person = *person;
        }
        key
    }
}

/// How sure an assignment is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Status {
    /// Told and not rejected.
    Holds,
    /// From the opening balance, nothing told of it yet.
    Opening,
    /// Asked, no answer that mentions it yet.
    PendingAdd,
    /// Asked, no answer that mentions it yet.
    PendingDelete,
    /// Asked, and the outcome is not known.
    UnknownAdd,
    /// Asked, and the outcome is not known.
    UnknownDelete,
    /// Told or asked, and neither add nor delete can be told.
    Unknown,
}

impl Status {
    /// In answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Opening => "opening",
            Self::PendingAdd => "pending add",
            Self::PendingDelete => "pending delete",
            Self::UnknownAdd => "unknown add",
            Self::UnknownDelete => "unknown delete",
            Self::Unknown => "unknown",
        }
    }
}

/// One assignment, or one that may be.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// License number.
    pub license: String,
    /// `professional`.
    pub allotment: String,
    /// The newest pseudonym.
    pub subject: String,
    /// How sure it is.
    pub status: Status,
    /// When this log first saw it.
    pub since: Option<Timestamp>,
    /// The version that told it; 0 where none did.
    pub version: u64,
    /// The back end's number for it.
    pub instance: Option<String>,
    /// The deployment that was told first, or that asked.
    pub source: Option<String>,
}

/// All assignments of a fold, by license, allotment, status and person.
pub fn held(all: &Assignments) -> Vec<Assignment> {
    let row = |key: &Key, status, since, source: Option<u32>| Assignment {
        license: all.words.word(key.license).to_owned(),
        allotment: all.words.word(key.allotment).to_owned(),
        subject: all.people.pseudonym(key.person).to_owned(),
        status,
        since,
        version: 0,
        instance: None,
        source: source.map(|source| all.words.word(source).to_owned()),
    };
    let known = all.known.iter().filter(|(_, known)| known.holds).map(|(key, known)| Assignment {
        version: known.version,
        instance: known.instance.as_deref().map(str::to_owned),
        ..row(key, if known.opening { Status::Opening } else { Status::Holds }, known.since, known.told_by)
    });
    let asked = all.asked.iter().map(|(key, asked)| {
        let status = match (asked.change, asked.lost) {
            (Change::Add, false) => Status::PendingAdd,
            (Change::Delete, false) => Status::PendingDelete,
            (Change::Add, true) => Status::UnknownAdd,
            (Change::Delete, true) => Status::UnknownDelete,
            (Change::Unknown, _) => Status::Unknown,
        };
        row(key, status, Some(asked.time), asked.source)
    });
    let unclear = all.unclear.iter().map(|(key, unclear)| Assignment {
        version: unclear.version,
        instance: unclear.instance.as_deref().map(str::to_owned),
        ..row(key, Status::Unknown, Some(unclear.since), unclear.told_by)
    });
    let mut held: Vec<Assignment> = known.chain(asked).chain(unclear).collect();
    held.sort_by(|a, b| {
        (&a.license, &a.allotment, a.status, &a.subject).cmp(&(
            &b.license,
            &b.allotment,
            b.status,
            &b.subject,
        ))
    });
    held
}

/// How many of each status.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// By [`Status`], in its order.
    pub by_status: [u64; 7],
}

impl Counts {
    /// How many of one.
    pub fn of(&self, status: Status) -> u64 {
        self.by_status[status as usize]
    }

    /// How many of which it is not known how they ended, or what they are.
    pub fn unknown(&self) -> u64 {
        [Status::UnknownAdd, Status::UnknownDelete, Status::Unknown]
            .map(|status| self.of(status))
            .iter()
            .sum()
    }

    fn add(&mut self, status: Status) {
        self.by_status[status as usize] += 1;
    }
}

impl FromIterator<Status> for Counts {
    fn from_iter<I: IntoIterator<Item = Status>>(all: I) -> Self {
        let mut counts = Self::default();
        all.into_iter().for_each(|status| counts.add(status));
        counts
    }
}

/// The same, counted by license and allotment.
pub fn counts(held: &[Assignment]) -> BTreeMap<(String, String), Counts> {
    let mut counts: BTreeMap<(String, String), Counts> = BTreeMap::new();
    for one in held {
        counts.entry((one.license.clone(), one.allotment.clone())).or_default().add(one.status);
    }
    counts
}
