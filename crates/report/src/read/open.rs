//! Reads logs to their end for one question, and what that was made of.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use jiff::Timestamp;

use super::merge::{self, ReadError};
use crate::fold::coverage::{Coverage, LicenseCoverage};
use crate::fold::not_understood::NotUnderstood;
use crate::table::rows::counted;
use relay_log::console::period::Period;
use relay_log::ledger::entry::Entry;
use relay_log::verify::log::Verified;

/// Licenses that are remembered by number.
const LICENSES: usize = 100_000;
/// Different kinds of records that are not known and told by name.
const UNKNOWN: usize = 20;

/// What was read.
#[derive(Debug)]
pub struct Read {
    /// The verdict on each log.
    pub verified: Vec<Verified>,
    /// What is known of each license.
    pub coverage: Vec<LicenseCoverage>,
    /// The time of the first record and of the last one.
    pub span: Option<(Timestamp, Timestamp)>,
    /// The licenses that any record names, the first hundred thousand.
    pub licenses: BTreeSet<String>,
    /// What was not understood.
    pub not_understood: NotUnderstood,
    /// Records of kinds that this program does not know, with how many there are.
    pub unknown: BTreeMap<String, u64>,
}

/// Reads all records of these logs, or so many of each, for as long as `each` gives `true`; coverage is the caller's.
///
/// # Errors
/// A log can't be read.
pub fn read(
    logs: &[PathBuf],
    anchors: &[PathBuf],
    sizes: &[u64],
    progress: impl FnMut(u64) + Send,
    mut each: impl FnMut(usize, &Entry<'_>) -> bool,
) -> Result<Read, ReadError> {
    let mut span: Option<(Timestamp, Timestamp)> = None;
    let mut unknown = BTreeMap::new();
    let mut not_understood = NotUnderstood::default();
    let mut licenses = HashSet::new();
    let verified = merge::read_up_to(logs, anchors, sizes, progress, |log, entry| {
        let (first, last) = span.unwrap_or((entry.time, entry.time));
        span = Some((first.min(entry.time), last.max(entry.time)));
        if !is_known(&entry.action) {
            let action = entry.action.chars().take(64).collect::<String>();
            if unknown.len() < UNKNOWN || unknown.contains_key(&action) {
                *unknown.entry(action).or_insert(0) += 1;
            }
        }
        if let Some(license) = entry.qlik.license.as_deref()
            && licenses.len() < LICENSES
            && !licenses.contains(license)
        {
            licenses.insert(license.to_owned());
        }
        not_understood.take(log, entry);
        each(log, entry)
    })?;
    let licenses = licenses.into_iter().collect();
    Ok(Read { verified, coverage: Vec::new(), span, licenses, not_understood, unknown })
}

pub(crate) fn is_known(action: &str) -> bool {
    ["license.", "access.", "relay.", "audit.", "upstream."].iter().any(|kind| action.starts_with(kind))
}

impl Read {
    /// Puts together what is known of each license.
    pub fn cover(&mut self, coverage: &mut Coverage) {
        self.coverage = coverage.finish();
        for covered in &mut self.coverage {
            let unread = self.not_understood.by.values();
            let of_license = unread.filter(|unread| unread.license.as_ref() == Some(&covered.license));
            covered.not_understood = of_license.map(|unread| unread.count).sum();
        }
    }

    /// What is changed or missing is in no answer, so it stands before it.
    pub fn damage(&self) -> Vec<String> {
        let damaged = self.verified.iter().filter(|log| log.damages > 0);
        let words = damaged.map(|log| {
            let first = log.damage.first().map(String::as_str).unwrap_or_default();
            let faults = counted(log.damages, "fault", "faults");
            format!(
                "DAMAGED: {faults} in {}; what was changed or removed is not counted here: {first}",
                log.log.display()
            )
        });
        words.collect()
    }

    /// Of a time that the logs know nothing of, that must be said.
    pub fn beyond(&self, asked: Period) -> Vec<String> {
        let Some((first, last)) = self.span else {
            return vec!["there is no record that can be read".to_owned()];
        };
        let mut words = Vec::new();
        let begins = asked.from.or(asked.to).is_some_and(|from| from < first);
        if begins {
            words.push(format!("the log begins at {first:.0}: nothing is known of the time before"));
        }
        if asked.to.or(asked.from).is_some_and(|to| to > last) {
            words.push(format!("the log's last record is of {last:.0}: nothing is known of the time since"));
        }
        words
    }

    pub(crate) fn lacks(&self, license: &str) -> Option<String> {
        let there: Vec<&str> = self.licenses.iter().take(UNKNOWN).map(String::as_str).collect();
        let known = self.licenses.contains(license);
        (!known).then(|| format!("license {license} is not in this log; it has: {}", there.join(", ")))
    }

    /// What this log can't claim to hold, deployment by deployment.
    pub fn not_understood(&self) -> Vec<String> {
        let by = &self.not_understood.by;
        let unreadable: u64 = self.verified.iter().map(|log| log.unreadable).sum();
        let newer = (unreadable > 0).then(|| {
            format!("{unreadable} whole records can't be read by this program, and are in no answer of it; a newer one may")
        });
        let told = by.iter().take(UNKNOWN).map(|(who, unread)| {
            format!(
                "NOT UNDERSTOOD: {} exchanges of {who} from {:.0} to {:.0}; what they say of assignments and consumption is \
                 missing here",
                unread.count, unread.first, unread.last
            )
        });
        let mut words: Vec<String> = newer.into_iter().chain(told).collect();
        if by.len() > UNKNOWN {
            words.push(format!("NOT UNDERSTOOD: the same goes for {} more", by.len() - UNKNOWN));
        }
        if self.not_understood.beyond > 0 {
            let records = self.not_understood.beyond;
            words.push(format!(
                "NOT UNDERSTOOD: the same goes for {records} records of more sources than are counted"
            ));
        }
        words
    }

    pub(crate) fn words(&self) -> Vec<String> {
        let told = self.unknown.iter().map(|(action, count)| {
            format!("{count} records are of a kind that this program does not know ({action}); a newer one may read them")
        });
        told.collect()
    }
}
