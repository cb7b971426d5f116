//! Names for pseudonyms, here and now: a list of names that the reader brings, and the keys that hid them. Nothing that is
//! resolved is written back, and who has no name in the list is counted.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::csv::{ListError, records};
use super::opening::RAW;
use crate::table::rows::counted;
use relay_log::ledger::subject::SubjectCase;
use relay_log::ledger::subject::keys::Keys;
use relay_log::ledger::subject::{Subject, canonical};

/// Names, and what they were not found for.
#[derive(Debug, Default)]
pub struct Names {
    by_pseudonym: HashMap<String, String>,
    given: bool,
    listed: u64,
    resolved: HashSet<String>,
    unresolved: HashSet<String>,
    /// What a person should know about the list or the keys.
    pub notes: Vec<String>,
}

impl Names {
    /// A list of `DOMAIN\user`, one in the first column of each line, and the keys to hide them with.
    ///
    /// # Errors
    /// The list can't be read.
    pub fn read(list: &Path, keys: Option<&Keys>, case: SubjectCase) -> Result<Self, ListError> {
        let mut names = Self { given: true, ..Self::default() };
        for record in records(list)? {
            let Some(name) = record.get(0).map(str::trim).filter(|name| !name.is_empty()) else { continue };
            names.listed += 1;
            for pseudonym in pseudonyms(name, keys, case) {
                names.by_pseudonym.insert(pseudonym, name.to_owned());
            }
        }
        Ok(names)
    }

    /// The name behind a pseudonym. A site that keeps subjects in clear needs no list.
    pub fn of(&mut self, pseudonym: &str) -> Option<String> {
        let name = self.look_up(pseudonym);
        if !pseudonym.is_empty() {
            let counted = if name.is_some() { &mut self.resolved } else { &mut self.unresolved };
            if !counted.contains(pseudonym) {
                counted.insert(pseudonym.to_owned());
            }
        }
        name
    }

    /// The same, uncounted.
    pub(crate) fn look_up(&self, pseudonym: &str) -> Option<String> {
        let listed = self.by_pseudonym.get(pseudonym).cloned();
        listed.or_else(|| pseudonym.strip_prefix(RAW).map(str::to_owned))
    }

    /// Whether a list was given.
    pub fn given(&self) -> bool {
        self.given
    }

    /// How many different people were asked for so far that have a name, and how many that have none.
    pub fn counts(&self) -> (u64, u64) {
        (self.resolved.len() as u64, self.unresolved.len() as u64)
    }

    /// The same in words, with what else is to be said.
    pub fn words(&self) -> Vec<String> {
        let mut words = self.notes.clone();
        if self.given {
            let (resolved, unresolved) = self.counts();
            words.push(format!(
                "names: {} resolved, {unresolved} shown as pseudonyms",
                counted(resolved, "person", "people")
            ));
            if resolved == 0 && unresolved > 0 {
                words.push(format!(
                    "none of the {} in the list is a person of this answer: is its first column DOMAIN\\user, and is the key \
                     the log's?",
                    counted(self.listed, "name", "names")
                ));
            }
        }
        words
    }
}

/// All that may stand for a name in a log: under each key, and in clear.
pub fn pseudonyms(name: &str, keys: Option<&Keys>, case: SubjectCase) -> Vec<String> {
    let hidden = keys.map(|keys| keys.of_all(&Subject::new(name))).unwrap_or_default();
    let raw = format!("{RAW}{}", canonical(name, case));
    hidden.into_iter().map(|(_, pseudonym)| pseudonym).chain([raw]).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use relay_log::files::private::write_private;

    #[test]
    fn names_are_found_under_every_key_and_counted_where_they_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write_private(&path("subject.key"), format!("k2026:{}", "00".repeat(32)).as_bytes()).unwrap();
        write_private(&path("subject.key.k2025"), format!("k2025:{}", "11".repeat(32)).as_bytes()).unwrap();
        let keys = Keys::read(&path("subject.key"), SubjectCase::Fold).unwrap();
        fs::write(
            path("names.csv"),
            "\u{feff}user,department\r\n\"ACME\\bob\",\"a \"\"b\"\"\"\r\n\r\nacme\\zo\u{eb}\n",
        )
        .unwrap();
        let mut names = Names::read(&path("names.csv"), Some(&keys), SubjectCase::Fold).unwrap();
        for (_, pseudonym) in keys.of_all(&Subject::new("acme\\BOB")) {
            assert_eq!(names.of(&pseudonym).as_deref(), Some("ACME\\bob"));
        }
        assert_eq!(names.of("raw:acme\\carol").as_deref(), Some("acme\\carol"));
        assert_eq!(names.of("hmac-sha256:k2026:00"), None);
        assert_eq!(names.of("hmac-sha256:k2026:00"), None);
        assert_eq!(names.counts(), (3, 1));
    }

    #[test]
    fn a_list_is_read_however_a_windows_machine_has_written_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.csv");
        let text = "user;team\r\nACME\\zo\u{eb};a,b\r\n";
        let units = |mark: u16, unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
            std::iter::once(mark).chain(text.encode_utf16()).flat_map(unit).collect()
        };
        let forms = [
            text.as_bytes().to_vec(),
            format!("\u{feff}{text}").into_bytes(),
            units(0xfeff, u16::to_le_bytes),
            units(0xfeff, u16::to_be_bytes),
        ];
        for bytes in forms {
            fs::write(&path, bytes).unwrap();
            let names = Names::read(&path, None, SubjectCase::Fold).unwrap();
            assert_eq!(names.look_up("raw:acme\\zo\u{eb}").as_deref(), Some("ACME\\zo\u{eb}"));
        }
    }
}
