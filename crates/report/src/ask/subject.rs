//! The pseudonyms of a name, and how often each is in the log.

use std::collections::BTreeSet;
use std::io;

use jiff::Timestamp;

use super::answer::{Context, Footer, Question};
use crate::read::open::Read;
use crate::table::cell::Cell;
use relay_log::ledger::entry::Entry;

/// Pseudonyms that a search remembers.
const FOUND: usize = 100;

/// Looks for the pseudonyms that a part of one may be of: the whole, or its begin, with or without what stands before the
/// digits.
#[derive(Debug)]
pub(crate) struct Search {
    wanted: String,
    /// What was found, the first hundred.
    pub found: BTreeSet<String>,
}

impl Search {
    /// For this, as the log, or the report with its ellipsis, shows it.
    pub(crate) fn new(wanted: &str) -> Self {
        Self { wanted: wanted.trim().trim_end_matches('…').to_owned(), found: BTreeSet::new() }
    }

    /// Whether a record names a pseudonym that it may be of.
    pub(crate) fn is_in(&self, entry: &Entry<'_>) -> bool {
        pseudonyms(entry).any(|pseudonym| self.fits(pseudonym))
    }

    /// The next record.
    pub(crate) fn take(&mut self, entry: &Entry<'_>) {
        for pseudonym in pseudonyms(entry) {
            if self.found.len() < FOUND && self.fits(pseudonym) && !self.found.contains(pseudonym) {
                self.found.insert(pseudonym.to_owned());
            }
        }
    }

    /// Whether it was for a whole pseudonym, or for a subject in clear.
    pub(crate) fn is_whole(&self) -> bool {
        self.wanted.starts_with("raw:")
            || self.wanted.starts_with("hmac-sha256:") && self.wanted.split(':').count() == 3
    }

    /// What it was for.
    pub(crate) fn all(self) -> BTreeSet<String> {
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

/// Those that a record names.
fn pseudonyms<'e>(entry: &'e Entry<'_>) -> impl Iterator<Item = &'e str> {
    [entry.subject.as_deref(), entry.qlik.alias_of.as_deref()].into_iter().flatten()
}

/// How often a person's pseudonym under each key stands in the log.
#[derive(Debug)]
pub(crate) struct Hits {
    keys: Vec<(String, String, Option<SeenTimes>)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SeenTimes {
    records: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Hits {
    /// Of these pseudonyms, each with the id of its key.
    pub(crate) fn new(keys: Vec<(String, String)>) -> Self {
        Self { keys: keys.into_iter().map(|(key, pseudonym)| (key, pseudonym, None)).collect() }
    }
}

impl Question for Hits {
    fn columns(&self) -> &'static [&'static str] {
        &["key", "subject", "records", "first", "last"]
    }

    fn take(&mut self, _: usize, entry: &Entry<'_>, _: &mut Context<'_, '_>) -> io::Result<()> {
        let Some(subject) = entry.subject.as_deref() else { return Ok(()) };
        for (_, pseudonym, found) in &mut self.keys {
            if pseudonym == subject {
                let found =
                    found.get_or_insert(SeenTimes { records: 0, first: entry.time, last: entry.time });
                found.records += 1;
                found.last = entry.time;
            }
        }
        Ok(())
    }

    fn finish(&mut self, _: &Read, context: &mut Context<'_, '_>) -> io::Result<Footer> {
        for (key, pseudonym, found) in &self.keys {
            context.rows.row(vec![
                key.as_str().into(),
                pseudonym.as_str().into(),
                Cell::from(found.map_or(0, |found| found.records)),
                found.map(|found| found.first).into(),
                found.map(|found| found.last).into(),
            ])?;
        }
        Ok(Footer::default())
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
}
