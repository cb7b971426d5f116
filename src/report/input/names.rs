//! Names for pseudonyms, here and now: a list of names that the reader brings, and the keys that hid them. Nothing that is
//! resolved is written back, and who has no name in the list is counted.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::config::model::SubjectCase;
use crate::ledger::regular_file;
use crate::ledger::subject::keys::Keys;
use crate::ledger::subject::{Subject, canonical};
use crate::report::table::rows::counted;

/// What stands before a subject that a site keeps in clear.
const RAW: &str = "raw:";
/// The largest list, in bytes.
const LIST: u64 = 256 * 1024 * 1024;

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

/// Why a list can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It can't be read.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// It is larger than any list of names.
    #[error("{0} is larger than {LIST} bytes")]
    TooLarge(PathBuf),
    /// A line of it is no CSV.
    #[error("{0}: {1}")]
    Csv(PathBuf, csv::Error),
    /// It has no column that is needed.
    #[error("{0} has no column \"{1}\"; its first line must name the columns license, allotment and subject")]
    Column(PathBuf, &'static str),
    /// Names can't be told from pseudonyms without the keys.
    #[error(
        "{0} names people, and the log does not: give --subject-key as well, so that the two can be held together"
    )]
    NoKey(PathBuf),
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
    pub fn look_up(&self, pseudonym: &str) -> Option<String> {
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

/// One holder of an opening balance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// License number, digits only.
    pub license: String,
    /// `professional`.
    pub allotment: String,
    /// The person's pseudonyms under all keys that are kept, the newest first.
    pub subject: Vec<String>,
}

/// Reads an opening balance: an export of the product's console as CSV, with the columns `license`, `allotment` and
/// `subject` (a pseudonym, or a name where the keys are given).
///
/// # Errors
/// It can't be read, lacks a column, or names people where no key is given.
pub fn opening(file: &Path, keys: Option<&Keys>) -> Result<Vec<Held>, ListError> {
    let records = records(file)?;
    let mut records = records.into_iter();
    let head = records.next().unwrap_or_default();
    let column = |name: &'static str| {
        let at = head.iter().position(|cell| cell.trim().eq_ignore_ascii_case(name));
        at.ok_or_else(|| ListError::Column(file.to_owned(), name))
    };
    let (license, allotment, subject) = (column("license")?, column("allotment")?, column("subject")?);
    let mut all = Vec::new();
    for record in records {
        let cell = |at: usize| record.get(at).map(str::trim).unwrap_or_default();
        let name = cell(subject);
        if name.is_empty() {
            continue;
        }
        let is_pseudonym = name.starts_with("hmac-sha256:") || name.starts_with(RAW);
        let subject = match keys {
            _ if is_pseudonym => vec![name.to_owned()],
            Some(keys) => {
                keys.of_all(&Subject::new(name)).into_iter().map(|(_, pseudonym)| pseudonym).collect()
            }
            None => return Err(ListError::NoKey(file.to_owned())),
        };
        let license = cell(license).chars().filter(char::is_ascii_digit).collect();
        all.push(Held { license, allotment: cell(allotment).to_owned(), subject });
    }
    Ok(all)
}

/// UTF-8, or UTF-16 as Windows PowerShell writes it, with or without its mark.
fn decoded(bytes: &[u8]) -> String {
    let units = |rest: &[u8], unit: fn([u8; 2]) -> u16| -> String {
        let units: Vec<u16> = rest.as_chunks::<2>().0.iter().map(|pair| unit(*pair)).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] | rest => String::from_utf8_lossy(rest).into_owned(),
    }
}

fn records(file: &Path) -> Result<Vec<csv::StringRecord>, ListError> {
    let io = |e| ListError::Io(file.to_owned(), e);
    let opened = regular_file::open(file).map_err(io)?;
    if opened.metadata().map_err(io)?.len() > LIST {
        return Err(ListError::TooLarge(file.to_owned()));
    }
    let bytes = regular_file::read_opened(opened, LIST).map_err(io)?;
    let text = decoded(&bytes);
    // A European Excel writes it so.
    let head = text.lines().next().unwrap_or_default();
    let delimiter = if head.contains(';') && !head.contains(',') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new();
    reader.has_headers(false).flexible(true).delimiter(delimiter);
    let mut reader = reader.from_reader(text.as_bytes());
    reader.records().map(|record| record.map_err(|e| ListError::Csv(file.to_owned(), e))).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::private::write_private;

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

    #[test]
    fn an_opening_balance_says_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("opening.csv");
        fs::write(&path, "Subject;Licence\nx;y\n").unwrap();
        assert!(opening(&path, None).unwrap_err().to_string().contains("no column \"license\""));
        fs::write(&path, "Subject,License,Allotment\nacme\\bob,9999 0000,professional\n").unwrap();
        assert!(opening(&path, None).unwrap_err().to_string().contains("--subject-key"));
        fs::write(&path, "Subject,License,Allotment\nhmac-sha256:k:00,9999 0000,professional\n").unwrap();
        let held = Held {
            license: "99990000".into(),
            allotment: "professional".into(),
            subject: vec!["hmac-sha256:k:00".into()],
        };
        assert_eq!(opening(&path, None).unwrap(), [held]);
    }
}
