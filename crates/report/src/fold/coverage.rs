//! Coverage: which versions of a license this log has been told, and which it can't have been.
//!
//! A deployment that asks from version b and is told all up to r knows every state between the two; a base that no reply
//! has led to, or a hole between what replies have told, means that an exchange went around this relay. That is inferred:
//! the published sample of a reply from base 0 tells of the versions 14 to 17 alone, so single versions prove nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde::Serialize;

use relay_log::ledger::entry::{Ended, Entry};

/// Runs of states of one license that are kept; what comes after that is told as missing, never as there.
const RUNS: usize = 10_000;

/// What is known of all licenses.
#[derive(Debug, Default)]
pub struct Coverage {
    /// Where each license stands among the versions: looked up for every record.
    places: HashMap<Box<str>, usize>,
    versions: Vec<Versions>,
    /// The reply that is being read, of each log.
    open: HashMap<usize, Vec<Reply>>,
}

/// A reply, as long as its changes come.
#[derive(Debug)]
struct Reply {
    time: Timestamp,
    license: String,
    sent: Option<u64>,
    version: Option<u64>,
    /// Versions that it has told of beyond what its bases say.
    told: BTreeSet<u64>,
}

/// Changes of one reply whose versions are kept one by one, where its bases don't cover them.
const TOLD: usize = 100_000;

#[derive(Debug, Default)]
struct Versions {
    first_seen: Option<Timestamp>,
    first_base: Option<u64>,
    /// First state to last state of each run that was told without a break, with when and from whom its first state was
    /// known, in order; none touches another.
    runs: BTreeMap<u64, VersionRun>,
}

#[derive(Debug)]
struct VersionRun {
    last: u64,
    noticed: Timestamp,
    source: Option<String>,
}

/// What is known of one license.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LicenseCoverage {
    /// The license.
    pub license: String,
    /// When the log first saw a sync of it.
    pub first_seen: Option<Timestamp>,
    /// The first base version that was seen; absent where no sync named one.
    pub first_base: Option<u64>,
    /// From this version on everything was told: who held what before is not known to this log, unless it is 0.
    pub known_from: Option<u64>,
    /// Up to this version nothing is missing.
    pub complete_to: Option<u64>,
    /// The highest version seen.
    pub newest: Option<u64>,
    /// Versions that were never told.
    pub holes: Vec<Hole>,
    /// Exchanges about it that were not understood.
    pub not_understood: u64,
}

/// Versions that went around this relay.
#[derive(Clone, Debug, Serialize)]
pub struct Hole {
    /// The first of them.
    pub from: u64,
    /// The last of them.
    pub to: u64,
    /// When that was noticed.
    pub noticed: Timestamp,
    /// Who knew of them by then.
    pub source: Option<String>,
    /// Always: nobody has told of it.
    pub inferred: bool,
}

impl Coverage {
    /// The next record.
    pub(crate) fn take(&mut self, log: usize, entry: &Entry<'_>) {
        match &*entry.action {
            "license.sync.request" => self.note_request(entry),
            "license.sync.response" => {
                self.close(log);
                self.note_reply(log, entry);
            }
            "license.assignment.add" | "license.assignment.delete" | "license.assignment.unknown" => {
                self.note_told(log, entry);
            }
            _ => {}
        }
    }

    /// Whether an earlier reply has told this change: one that is not the reply it stands in.
    pub(crate) fn is_repeat(&self, log: usize, license: &str, version: u64) -> bool {
        let known = self.places.get(license).is_some_and(|place| self.versions[*place].has_told(version));
        let elsewhere = || {
            let others =
                self.open.iter().filter(|(other, _)| **other != log).flat_map(|(_, replies)| replies);
            others.filter(|reply| reply.license == license).any(|reply| reply.has_told(version))
        };
        known || elsewhere()
    }

    /// What is known of each license, once all is read.
    pub(crate) fn finish(&mut self) -> Vec<LicenseCoverage> {
        let logs: Vec<usize> = self.open.keys().copied().collect();
        for log in logs {
            self.close(log);
        }
        let places: BTreeMap<_, _> = self.places.iter().collect();
        places.into_iter().map(|(license, place)| self.versions[*place].covered(license)).collect()
    }

    fn note_request(&mut self, entry: &Entry<'_>) {
        let source = entry.qlik.source_id.as_deref();
        let (license, sent) = (entry.qlik.license.as_deref(), entry.qlik.base_version);
        if entry.qlik.bases.is_empty() {
            self.note_state(license, sent, entry.time, source);
        }
        for base in &entry.qlik.bases {
            let license = base.license.as_deref().or(license);
            self.note_state(license, base.sent.or(base.version), entry.time, source);
        }
    }

    fn note_state(
        &mut self,
        license: Option<&str>,
        state: Option<u64>,
        time: Timestamp,
        source: Option<&str>,
    ) {
        let Some(license) = license else { return };
        let versions = self.of(license, time);
        if let Some(state) = state {
            versions.first_base.get_or_insert(state);
            versions.add(state, state, time, source);
        }
    }

    fn note_reply(&mut self, log: usize, entry: &Entry<'_>) {
        let source = entry.qlik.source_id.as_deref();
        let mut replies = Vec::new();
        let mut note = |this: &mut Self, license: Option<&str>, sent: Option<u64>, version: Option<u64>| {
            this.note_state(license, sent, entry.time, source);
            if let Some(license) = license
                && entry.outcome == Ended::Success
            {
                replies.push(Reply {
                    time: entry.time,
                    license: license.to_owned(),
                    sent,
                    version,
                    told: BTreeSet::new(),
                });
            }
        };
        let license = entry.qlik.license.as_deref();
        if entry.qlik.bases.is_empty() {
            note(self, license, entry.qlik.base_sent, entry.qlik.base_version);
        }
        for base in &entry.qlik.bases {
            note(self, base.license.as_deref().or(license), base.sent, base.version);
        }
        self.open.insert(log, replies);
    }

    fn note_told(&mut self, log: usize, entry: &Entry<'_>) {
        let told = entry.qlik.direction.as_deref() == Some("in");
        let version = entry.qlik.version.filter(|version| told && *version > 0);
        let (Some(version), Some(license)) = (version, entry.qlik.license.as_deref()) else { return };
        let replies = self.open.entry(log).or_default();
        let reply = match replies.iter_mut().find(|reply| reply.license == license) {
            Some(reply) => reply,
            None => {
                let reply = Reply {
                    time: entry.time,
                    license: license.to_owned(),
                    sent: None,
                    version: None,
                    told: BTreeSet::new(),
                };
                replies.push(reply);
                let Some(reply) = replies.last_mut() else { return };
                reply
            }
        };
        if !reply.spans(version) && reply.told.len() < TOLD {
            reply.told.insert(version);
        }
    }

    /// What a reply has told counts once it is whole.
    fn close(&mut self, log: usize) {
        for reply in self.open.remove(&log).unwrap_or_default() {
            let time = reply.time;
            let versions = self.of(&reply.license, time);
            // Where a base is not told, the changes say as much as they can.
            let last = reply.version.or_else(|| reply.told.last().copied());
            let lowest = reply.told.first().map(|version| version - 1);
            let first = reply.sent.or(lowest).or(last);
            let span = first.zip(last).filter(|(first, last)| first <= last);
            if let Some((first, last)) = span {
                versions.add(first, last, time, None);
            }
            let inside = |version: u64| span.is_some_and(|(first, last)| first < version && version <= last);
            for version in reply.told.into_iter().filter(|version| !inside(*version)) {
                versions.add(version - 1, version, time, None);
            }
        }
    }

    fn of(&mut self, license: &str, time: Timestamp) -> &mut Versions {
        let place = match self.places.get(license) {
            Some(place) => *place,
            None => {
                self.places.insert(license.into(), self.versions.len());
                self.versions.push(Versions { first_seen: Some(time), ..Versions::default() });
                self.versions.len() - 1
            }
        };
        &mut self.versions[place]
    }
}

impl Reply {
    fn spans(&self, version: u64) -> bool {
        matches!((self.sent, self.version), (Some(sent), Some(last)) if sent < version && version <= last)
    }

    fn has_told(&self, version: u64) -> bool {
        self.spans(version) || self.told.contains(&version)
    }
}

impl Versions {
    /// A change leads from the state before it to its own.
    fn has_told(&self, version: u64) -> bool {
        self.runs.range(..version).next_back().is_some_and(|(_, run)| version <= run.last)
    }

    /// The states from one to another are known without a break.
    fn add(&mut self, first: u64, last: u64, noticed: Timestamp, source: Option<&str>) {
        // Nearly always: a deployment that is at the state it was told.
        if self.runs.range(..=first).next_back().is_some_and(|(_, run)| last <= run.last) {
            return;
        }
        let touched = self.runs.range(..=last).rev().take_while(|(_, run)| run.last >= first);
        let touched: Vec<u64> = touched.map(|(first, _)| *first).collect();
        let mut run = VersionRun { last, noticed, source: source.map(str::to_owned) };
        let mut start = first;
        for known in touched {
            let Some(old) = self.runs.remove(&known) else { continue };
            run.last = run.last.max(old.last);
            if known <= start {
                (run.noticed, run.source) = (old.noticed, old.source);
            }
            start = start.min(known);
        }
        if self.runs.len() < RUNS {
            self.runs.insert(start, run);
        }
    }

    fn covered(&self, license: &str) -> LicenseCoverage {
        let mut holes = Vec::new();
        let mut before: Option<u64> = None;
        for (first, run) in &self.runs {
            if let Some(last) = before {
                let source = run.source.clone();
                holes.push(Hole { from: last + 1, to: *first, noticed: run.noticed, source, inferred: true });
            }
            before = Some(run.last);
        }
        let first = self.runs.first_key_value();
        LicenseCoverage {
            license: license.to_owned(),
            first_seen: self.first_seen,
            first_base: self.first_base,
            known_from: first.map(|(first, _)| *first),
            complete_to: first.map(|(_, run)| run.last),
            newest: before,
            holes,
            not_understood: 0,
        }
    }
}

impl LicenseCoverage {
    /// What a person has to know before reading anything else of this license.
    pub fn words(&self) -> String {
        let license = &self.license;
        let (Some(from), Some(to)) = (self.known_from, self.complete_to) else {
            return format!(
                "license {license}: no sync named a version; who held what before is not known to this log"
            );
        };
        let before = if from == 0 {
            "known from the beginning (a deployment started at version 0)".to_owned()
        } else {
            format!("known from version {from} on; holders before that are not known to this log")
        };
        let first =
            self.first_base.map(|base| format!("first base version seen {base}, ")).unwrap_or_default();
        let missing = match self.holes.as_slice() {
            [] => format!("nothing missing up to version {to}"),
            holes => {
                let missing = holes.iter().map(|hole| (hole.to - hole.from).saturating_add(1));
                let count = missing.fold(0, u64::saturating_add);
                let newest = self.newest.unwrap_or(to);
                format!(
                    "nothing missing up to version {to}; {count} of the versions up to {newest} went around this relay (inferred)"
                )
            }
        };
        format!("license {license}: {first}{before}; {missing}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(added: &[(u64, u64)]) -> LicenseCoverage {
        let mut versions = Versions::default();
        for (first, last) in added {
            versions.add(*first, *last, Timestamp::UNIX_EPOCH, None);
        }
        versions.covered("9999")
    }

    fn holes(covered: &LicenseCoverage) -> Vec<(u64, u64)> {
        covered.holes.iter().map(|hole| (hole.from, hole.to)).collect()
    }

    #[test]
    fn a_base_that_no_reply_led_to_is_a_hole_until_it_is_told() {
        let known = versions(&[(17, 17), (17, 20), (20, 20)]);
        assert_eq!((known.known_from, known.complete_to, holes(&known)), (Some(17), Some(20), vec![]));
        let around = versions(&[(17, 20), (22, 22), (22, 23)]);
        assert_eq!((around.complete_to, around.newest, holes(&around)), (Some(20), Some(23), vec![(21, 22)]));
        let told_later = versions(&[(17, 20), (22, 23), (19, 23)]);
        assert_eq!((told_later.complete_to, holes(&told_later)), (Some(23), vec![]));
        let from_the_start = versions(&[(17, 20), (22, 23), (0, 23)]);
        assert_eq!((from_the_start.known_from, holes(&from_the_start)), (Some(0), vec![]));
    }

    #[test]
    fn neighbours_that_share_no_state_are_not_joined() {
        assert_eq!(holes(&versions(&[(0, 5), (6, 9)])), [(6, 6)]);
        assert_eq!(holes(&versions(&[(6, 9), (0, 5), (5, 6)])), []);
        assert!(versions(&[]).known_from.is_none());
    }

    #[test]
    fn runs_are_those_of_a_set_of_states() {
        use proptest::prelude::*;
        proptest!(|(added in prop::collection::vec((0u64..40, 0u64..6), 1..12))| {
            let added: Vec<_> = added.into_iter().map(|(first, more)| (first, first + more)).collect();
            let covered = versions(&added);
            let mut steps = BTreeSet::new();
            let mut states = BTreeSet::new();
            for (first, last) in &added {
                steps.extend(first + 1..=*last);
                states.extend(*first..=*last);
            }
            let (low, high) = (*states.first().unwrap(), *states.last().unwrap());
            let missing: Vec<u64> = (low + 1..=high).filter(|version| !steps.contains(version)).collect();
            let told: Vec<u64> = covered.holes.iter().flat_map(|hole| hole.from..=hole.to).collect();
            // A state inside a hole splits it.
            prop_assert_eq!(told, missing);
        });
    }
}
