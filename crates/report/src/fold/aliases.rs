//! Which pseudonyms are one person: what the log links.

use std::collections::{BTreeMap, BTreeSet};

use relay_log::ledger::entry::Entry;

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
    pub(crate) fn all_of(&self, pseudonyms: impl IntoIterator<Item = String>) -> BTreeSet<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
