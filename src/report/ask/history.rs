//! All that the log says of one person, over all keys that hid the name; and under which of them there is anything.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use jiff::Timestamp;

use super::answer::{Desk, Question, Read, Said};
use crate::ledger::entry::{Ended, Entry};
use crate::report::fold::assignments::Change;
use crate::report::table::cell::Cell;
use crate::report::table::rows::counted;

/// Which pseudonyms are of one person, as aliases tell: for a first reading, because an alias stands behind what it joins.
#[derive(Debug, Default)]
pub struct Aliases {
    joined: BTreeMap<String, BTreeSet<String>>,
}

impl Aliases {
    /// The next record.
    pub fn take(&mut self, entry: &Entry<'_>) {
        let (Some(newer), Some(older)) = (entry.subject.as_deref(), entry.qlik.alias_of.as_deref()) else {
            return;
        };
        for (one, other) in [(newer, older), (older, newer)] {
            self.joined.entry(one.to_owned()).or_default().insert(other.to_owned());
        }
    }

    /// All pseudonyms of the person with these.
    pub fn all_of(&self, pseudonyms: impl IntoIterator<Item = String>) -> BTreeSet<String> {
        let mut known: BTreeSet<String> = pseudonyms.into_iter().collect();
        let mut next: Vec<String> = known.iter().cloned().collect();
        while let Some(one) = next.pop() {
            for other in self.joined.get(&one).into_iter().flatten() {
                if known.insert(other.clone()) {
                    next.push(other.clone());
                }
            }
        }
        known
    }
}

/// Looks for the pseudonyms that a part of one may be of: the whole, or its begin, with or without what stands before the
/// digits.
#[derive(Debug)]
pub struct Search {
    wanted: String,
    /// What was found, the first hundred.
    pub found: BTreeSet<String>,
}

/// Pseudonyms that a search remembers.
const FOUND: usize = 100;

impl Search {
    /// For this, as the log, or the report with its ellipsis, shows it.
    pub fn new(wanted: &str) -> Self {
        Self { wanted: wanted.trim().trim_end_matches('…').to_owned(), found: BTreeSet::new() }
    }

    /// The next record.
    pub fn take(&mut self, entry: &Entry<'_>) {
        for pseudonym in [entry.subject.as_deref(), entry.qlik.alias_of.as_deref()].into_iter().flatten() {
            if self.found.len() < FOUND && self.fits(pseudonym) && !self.found.contains(pseudonym) {
                self.found.insert(pseudonym.to_owned());
            }
        }
    }

    /// Whether it was for a whole pseudonym, or for a subject in clear.
    pub fn is_whole(&self) -> bool {
        self.wanted.starts_with("raw:")
            || self.wanted.starts_with("hmac-sha256:") && self.wanted.split(':').count() == 3
    }

    /// What it was for.
    pub fn all(self) -> BTreeSet<String> {
        BTreeSet::from([self.wanted])
    }

    fn fits(&self, pseudonym: &str) -> bool {
        let mut rest = pseudonym;
        loop {
            if rest.starts_with(&self.wanted) {
                return true;
            }
            match rest.split_once(':') {
                Some((_, behind)) => rest = behind,
                None => return false,
            }
        }
    }
}

/// Everything of one person.
#[derive(Debug)]
pub struct History {
    pseudonyms: BTreeSet<String>,
    found: BTreeSet<String>,
    /// What the back end calls the person's assignments, each with its license: a delete may name nothing else.
    instances: BTreeSet<(String, String)>,
}

/// Assignments of one person that are remembered.
const INSTANCES: usize = 100_000;

impl History {
    /// Of the person with these pseudonyms.
    pub fn new(pseudonyms: BTreeSet<String>) -> Self {
        Self { pseudonyms, found: BTreeSet::new(), instances: BTreeSet::new() }
    }
}

impl Question for History {
    fn columns(&self) -> &'static [&'static str] {
        &[
            "time",
            "license",
            "allotment",
            "direction",
            "change",
            "outcome",
            "rejection",
            "version",
            "source",
            "address",
            "sequence",
            "subject",
            "name",
        ]
    }

    fn take(&mut self, _: usize, entry: &Entry<'_>, desk: &mut Desk<'_, '_>) -> io::Result<()> {
        let subject = entry.subject.as_deref();
        let told = entry.qlik.license.as_deref().zip(entry.qlik.instance.as_deref());
        let instance = told.filter(|(_, instance)| !instance.is_empty());
        let instance = instance.map(|(license, instance)| (license.to_owned(), instance.to_owned()));
        let is_of = |subject: &str| self.pseudonyms.contains(subject);
        let of_instance = || instance.as_ref().is_some_and(|instance| self.instances.contains(instance));
        if !subject.map_or_else(of_instance, is_of) {
            return Ok(());
        }
        if let Some(instance) = instance.filter(|_| subject.is_some() && self.instances.len() < INSTANCES) {
            self.instances.insert(instance);
        }
        let subject = subject.unwrap_or_default();
        if !subject.is_empty() && !self.found.contains(subject) {
            self.found.insert(subject.to_owned());
        }
        let change = match Change::of(&entry.action) {
            Some(change) => change.word(),
            None if &*entry.action == "audit.alias" => "alias",
            None => &entry.action,
        };
        let said = &entry.qlik;
        desk.rows.row(vec![
            entry.time.into(),
            said.license.as_deref().into(),
            said.allotment.as_deref().into(),
            said.direction
                .as_deref()
                .map(|direction| if direction == "in" { "told" } else { "asked" })
                .into(),
            change.into(),
            match (said.direction.as_deref(), entry.outcome) {
                // What becomes of it is told by the record of the answer.
                (Some("out"), Ended::Unknown) => "asked".into(),
                _ => entry.outcome.word().into(),
            },
            said.rejection.as_deref().filter(|rejection| !rejection.is_empty()).into(),
            said.version.filter(|version| *version > 0).into(),
            said.source_id.as_deref().into(),
            entry.client.map(|client| client.to_string()).into(),
            entry.sequence.into(),
            Some(subject).filter(|subject| !subject.is_empty()).into(),
            desk.names.of(subject).into(),
        ])
    }

    fn finish(&mut self, _: &Read, desk: &mut Desk<'_, '_>) -> io::Result<Said> {
        let notes = vec![match self.found.len() {
            0 => {
                let tried: BTreeSet<&str> =
                    self.pseudonyms.iter().filter_map(|one| one.split(':').rev().nth(1)).collect();
                let tried: Vec<&str> = tried.into_iter().collect();
                format!("nothing in the log is about this person under what was tried ({})", tried.join(", "))
            }
            many => format!(
                "{}, under {}",
                counted(desk.rows.count, "record", "records"),
                counted(many as u64, "pseudonym", "pseudonyms that are one person's")
            ),
        }];
        Ok(Said { notes, ..Said::default() })
    }
}

/// How often a person's pseudonym under each key stands in the log.
#[derive(Debug)]
pub struct Hits {
    keys: Vec<(String, String, Option<Found>)>,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    records: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Hits {
    /// Of these pseudonyms, each with the id of its key.
    pub fn new(keys: Vec<(String, String)>) -> Self {
        Self { keys: keys.into_iter().map(|(key, pseudonym)| (key, pseudonym, None)).collect() }
    }
}

impl Question for Hits {
    fn columns(&self) -> &'static [&'static str] {
        &["key", "subject", "records", "first", "last"]
    }

    fn take(&mut self, _: usize, entry: &Entry<'_>, _: &mut Desk<'_, '_>) -> io::Result<()> {
        let Some(subject) = entry.subject.as_deref() else { return Ok(()) };
        for (_, pseudonym, found) in &mut self.keys {
            if pseudonym == subject {
                let found = found.get_or_insert(Found { records: 0, first: entry.time, last: entry.time });
                found.records += 1;
                found.last = entry.time;
            }
        }
        Ok(())
    }

    fn finish(&mut self, _: &Read, desk: &mut Desk<'_, '_>) -> io::Result<Said> {
        for (key, pseudonym, found) in &self.keys {
            desk.rows.row(vec![
                key.as_str().into(),
                pseudonym.as_str().into(),
                Cell::from(found.map_or(0, |found| found.records)),
                found.map(|found| found.first).into(),
                found.map(|found| found.last).into(),
            ])?;
        }
        Ok(Said::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_pseudonym_is_enough() {
        let of = |wanted: &str| Search::new(wanted).fits("hmac-sha256:k2026:db2819c039bf");
        for wanted in ["hmac-sha256:k2026:db2819c", "k2026:db28…", "db2819c039bf", "db28 "] {
            assert!(of(wanted), "{wanted}");
        }
        assert!(!of("2819c") && !of("k2025:db28"));
    }

    #[test]
    fn aliases_lead_from_any_pseudonym_to_all_of_the_person() {
        let line = |newer: &str, older: &str| {
            format!(
                r#"{{"@timestamp":"2026-01-01T00:00:00Z","event":{{"sequence":1,"id":"x","action":"audit.alias"}},"qlik":{{"alias_of":"{older}"}},"user":{{"target":{{"hash":"{newer}"}}}}}}"#
            )
        };
        for start in ["a1", "a2", "a3"] {
            let mut aliases = Aliases::default();
            for (newer, older) in [("a3", "a2"), ("b2", "b1"), ("a2", "a1")] {
                aliases.take(&Entry::at(line(newer, older).as_bytes()).unwrap());
            }
            let all = aliases.all_of([start.to_owned()]);
            assert_eq!(all.into_iter().collect::<Vec<_>>(), ["a1", "a2", "a3"]);
        }
    }
}
