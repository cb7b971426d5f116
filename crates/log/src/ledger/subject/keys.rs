//! The keys that pseudonyms are made under: the newest one, and the retired ones beside it.
//!
//! `subject.key` holds the newest, `subject.key.<id>` a retired one, each one line: `<key id>:<64 hex digits>`. Whoever
//! has these files and a list of names can resolve the people in a log, so they lie away from it.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::{Subject, canonical};
use crate::bounds;
use crate::files::edit::Fault;
use crate::files::private::{read_private, write_private};
use crate::ledger::subject::SubjectCase;
use crate::text::hex::hex;

/// The longest id of a key, in bytes.
const ID: usize = 32;

/// All keys that are retained, the newest first. There is always one.
pub struct Keys {
    case: SubjectCase,
    newest: Key,
    retired: Vec<Key>,
    unusable: Vec<PathBuf>,
}

/// One key, and the file it is in. It can't be printed.
pub struct Key {
    /// Its id, which every pseudonym under it names.
    pub id: String,
    /// Where it lies.
    pub file: PathBuf,
    hmac: hmac::Key,
}

/// Why there are no keys to work with.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {fault}")]
pub struct KeyError {
    path: PathBuf,
    fault: String,
    edit: Option<io::Error>,
}

impl KeyError {
    pub(super) fn new(path: &Path, fault: impl ToString) -> Self {
        Self { path: path.to_owned(), fault: fault.to_string(), edit: None }
    }

    /// For an edit of a key's file that failed.
    pub(super) fn edit(path: &Path, e: io::Error) -> Self {
        Self { path: path.to_owned(), fault: e.to_string(), edit: Some(e) }
    }

    /// What an edit failed with, where one did.
    pub fn of_edit(&self) -> Option<&io::Error> {
        self.edit.as_ref()
    }

    /// Whether what was to be done is done all the same, and only may not last.
    pub fn is_written(&self) -> bool {
        self.of_edit().is_some_and(Fault::is_written)
    }
}

impl Keys {
    /// Reads the newest key from its file, and the retired ones beside it. Makes nothing.
    ///
    /// # Errors
    /// The file is not there, others may read it or one beside it, it holds no key, or there are more than
    /// [`bounds::RETIRED_KEYS`].
    pub fn read(path: &Path, case: SubjectCase) -> Result<Self, KeyError> {
        let text = read_private(path).map_err(|e| KeyError::new(path, e))?;
        let no_key = || KeyError::new(path, "holds no subject key (one line, <key id>:<64 hex digits>)");
        let newest = KeyLine::parse(&text).ok_or_else(no_key)?;
        let (mut retired, mut unusable) = (Vec::new(), Vec::new());
        for (id, file) in beside(path)? {
            let text = read_private(&file).map_err(|e| KeyError::new(&file, e))?;
            match KeyLine::parse(&text) {
                // A roll-over that was interrupted leaves the newest under both names.
                Some(line) if line == newest => {}
                Some(line) if line.id == id && id != newest.id => retired.push(line.key(&file)),
                _ => unusable.push(file),
            }
        }
        if retired.len() > bounds::RETIRED_KEYS {
            let fault = format!(
                "{} retired keys lie beside it, and {} may; destroy those that are no longer needed: license-relay audit key \
                 destroy ID",
                retired.len(),
                bounds::RETIRED_KEYS
            );
            return Err(KeyError::new(path, fault));
        }
        retired.sort_by_cached_key(|key| Reverse(age(&key.id)));
        Ok(Self { case, newest: newest.key(path), retired, unusable })
    }

    /// The same, with a key made where there is none at all.
    ///
    /// # Errors
    /// As [`Self::read`]; the key can't be made; or only retired ones are there, so that the newest has been lost.
    pub fn read_or_make(path: &Path, case: SubjectCase) -> Result<Self, KeyError> {
        if let Err(e) = fs::symlink_metadata(path)
            && e.kind() == io::ErrorKind::NotFound
        {
            if let Some((_, retired)) = beside(path)?.first() {
                let fault = format!(
                    "is not there, and {} is: the newest key was lost; put it back from its backup",
                    retired.display()
                );
                return Err(KeyError::new(path, fault));
            }
            let line = new_line(&id_after(None, path)).ok_or_else(|| no_random(path))?;
            write_private(path, line.as_bytes()).map_err(|e| KeyError::edit(path, e))?;
        }
        Self::read(path, case)
    }

    /// What stands for a subject in the log from here on: `hmac-sha256:<key id>:<64 hex>`, under the newest key.
    pub fn of(&self, subject: &Subject) -> String {
        self.newest.of(subject, self.case)
    }

    /// The key ids and what stands for a subject under each key, the newest first.
    pub fn of_all(&self, subject: &Subject) -> Vec<(String, String)> {
        self.all().map(|key| (key.id.clone(), key.of(subject, self.case))).collect()
    }

    /// What stood for a subject under the retired keys.
    pub fn older(&self, subject: &Subject) -> Vec<String> {
        self.retired.iter().map(|key| key.of(subject, self.case)).collect()
    }

    /// A key for the numbers of refused deployments: derived from the newest, so that relays that share it tell the same
    /// numbers.
    pub fn for_enrolment(&self) -> hmac::Key {
        let derived = hmac::sign(&self.newest.hmac, b"license-relay-enrolment-v1\0");
        hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
    }

    /// All of them, the newest first.
    pub fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.newest).chain(&self.retired)
    }

    /// The newest.
    pub fn newest(&self) -> &Key {
        &self.newest
    }

    /// The retired ones, the newest of them first.
    pub fn retired(&self) -> &[Key] {
        &self.retired
    }

    /// Files that are named like a retired key and hold none of that id.
    pub fn unusable(&self) -> &[PathBuf] {
        &self.unusable
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}

impl Key {
    fn of(&self, subject: &Subject, case: SubjectCase) -> String {
        let canonical = Zeroizing::new(canonical(subject.expose(), case));
        let mut mac = hmac::Context::with_key(&self.hmac);
        mac.update(b"license-relay-subject-v1\0");
        mac.update(b"1\0");
        mac.update(canonical.as_bytes());
        let tag = mac.sign();
        format!("hmac-sha256:{}:{}", self.id, hex(tag.as_ref()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a file of a key holds.
#[derive(Eq, PartialEq)]
struct KeyLine {
    id: String,
    secret: Zeroizing<[u8; 32]>,
}

impl KeyLine {
    fn parse(text: &str) -> Option<Self> {
        let (id, hex) = text.trim().split_once(':')?;
        is_id(id).then_some(())?;
        Some(Self { id: id.to_owned(), secret: unhex(hex)? })
    }

    fn key(&self, file: &Path) -> Key {
        let hmac = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_slice());
        Key { id: self.id.clone(), file: file.to_owned(), hmac }
    }
}

/// Where a key lies once it is retired.
pub fn retired_file(path: &Path, id: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(id);
    name.into()
}

/// Files that are named like retired keys, with the ids they are named by.
fn beside(path: &Path) -> Result<Vec<(String, PathBuf)>, KeyError> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(KeyError::new(folder, e)),
    };
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| KeyError::new(folder, e))?.file_name();
        if let Some(id) = name.to_str().and_then(|name| name.strip_prefix(&prefix))
            && is_id(id)
            // What a link leads to is no key of ours.
            && fs::symlink_metadata(retired_file(path, id)).is_ok_and(|found| found.is_file())
        {
            found.push((id.to_owned(), retired_file(path, id)));
        }
    }
    found.sort();
    Ok(found)
}

fn is_id(id: &str) -> bool {
    (1..=ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// By what ids are ordered: year and number of those that this program gives, which are younger than all others.
fn age(id: &str) -> (Option<(i16, u32)>, String) {
    (year_and_number(id), id.to_owned())
}

/// `k2026` is the first key of 2026, `k2026-2` the second.
fn year_and_number(id: &str) -> Option<(i16, u32)> {
    let id = id.strip_prefix('k')?;
    let (year, number) = id.split_once('-').unwrap_or((id, "1"));
    Some((year.parse().ok()?, number.parse().ok()?))
}

/// The id of the next key: never one that was given before, so that destroyed ones are not given again either; nor one
/// that a file beside this path has for its name.
pub(super) fn id_after(newest: Option<&str>, path: &Path) -> String {
    let now = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::now()).year();
    following(newest, now, |id| fs::symlink_metadata(retired_file(path, id)).is_ok())
}

fn following(newest: Option<&str>, now: i16, is_taken: impl Fn(&str) -> bool) -> String {
    let (year, mut number) = match newest.and_then(year_and_number) {
        Some((year, number)) if year >= now => (year, number.saturating_add(1)),
        _ => (now, 1),
    };
    loop {
        let id = if number <= 1 { format!("k{year}") } else { format!("k{year}-{number}") };
        if number == u32::MAX || !is_taken(&id) {
            return id;
        }
        number += 1;
    }
}

/// A new key as the line that its file holds; `None` where the system gives no random numbers.
pub(super) fn new_line(id: &str) -> Option<Zeroizing<String>> {
    let mut key = Zeroizing::new([0u8; 32]);
    aws_lc_rs::rand::fill(key.as_mut_slice()).ok()?;
    let hex = Zeroizing::new(hex(key.as_slice()));
    Some(Zeroizing::new(format!("{id}:{}\n", *hex)))
}

pub(super) fn no_random(path: &Path) -> KeyError {
    KeyError::new(path, "the system gives no random numbers")
}

fn unhex(hex: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder with keys in it: name and content.
    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            write_private(&folder.path().join(name), text.as_bytes()).unwrap();
        }
        let path = folder.path().join("subject.key");
        (folder, path)
    }

    fn line(id: &str, digit: char) -> String {
        format!("{id}:{}\n", String::from(digit).repeat(64))
    }

    fn ids(keys: &Keys) -> Vec<&str> {
        keys.all().map(|key| key.id.as_str()).collect()
    }

    #[test]
    fn a_subject_has_a_pseudonym_under_every_retained_key_the_newest_first() {
        let (_folder, path) = folder(&[
            ("subject.key", &line("k2026-2", '0')),
            ("subject.key.k2026", &line("k2026", '1')),
            ("subject.key.k2025-10", &line("k2025-10", '2')),
            ("subject.key.k2025-9", &line("k2025-9", '3')),
            ("subject.key.site", &line("site", '4')),
            ("other.key.k2024", &line("k2024", '5')),
        ]);
        let keys = Keys::read(&path, SubjectCase::Fold).unwrap();
        assert_eq!(ids(&keys), ["k2026-2", "k2026", "k2025-10", "k2025-9", "site"]);
        let all = keys.of_all(&Subject::new("ACME\\bob"));
        assert_eq!(all[0].1, keys.of(&Subject::new("acme/BOB")));
        for (id, pseudonym) in &all {
            assert!(pseudonym.starts_with(&format!("hmac-sha256:{id}:")), "{pseudonym}");
        }
        let older: Vec<_> = all[1..].iter().map(|(_, pseudonym)| pseudonym.clone()).collect();
        assert_eq!(keys.older(&Subject::new("acme\\bob")), older);
        assert!(keys.unusable().is_empty());
    }

    #[test]
    fn reading_makes_no_key() {
        let (folder, path) = folder(&[]);
        assert!(Keys::read(&path, SubjectCase::Fold).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_named_like_a_retired_key_and_holds_none_of_that_id_is_told_and_not_used() {
        let (_folder, path) = folder(&[
            ("subject.key", &line("k2026", '0')),
            ("subject.key.bak", &line("k2026", '0')),
            ("subject.key.k2026", &line("k2026", '1')),
            ("subject.key.k2025", &line("k2024", '2')),
            ("subject.key.k2023", "no key"),
        ]);
        let keys = Keys::read(&path, SubjectCase::Fold).unwrap();
        assert_eq!(ids(&keys), ["k2026"]);
        let names: Vec<_> = keys.unusable().iter().map(|file| file.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["subject.key.k2023", "subject.key.k2025", "subject.key.k2026"]);
    }

    #[test]
    fn a_file_that_others_can_read_or_that_holds_no_key_is_an_error_with_words() {
        let (_folder, path) =
            folder(&[("subject.key", &line("k2026", '0')), ("subject.key.k2025", &line("k2025", '1'))]);
        let retired = retired_file(&path, "k2025");
        fs::set_permissions(&retired, fs::Permissions::from_mode(0o644)).unwrap();
        let words = Keys::read(&path, SubjectCase::Fold).unwrap_err().to_string();
        assert!(words.contains("chmod 600") && words.contains("subject.key.k2025"), "{words}");
        let secret = format!("k2026:{}", "zq".repeat(32));
        let (_folder, path) = folder(&[("subject.key", &secret)]);
        let words = Keys::read(&path, SubjectCase::Fold).unwrap_err().to_string();
        assert!(words.contains("holds no subject key") && !words.contains("zq"), "{words}");
    }

    #[test]
    fn a_newest_key_that_was_lost_is_not_made_anew() {
        let (folder, path) = folder(&[("subject.key.k2025", &line("k2025", '1'))]);
        let words = Keys::read_or_make(&path, SubjectCase::Fold).unwrap_err().to_string();
        assert!(words.contains("put it back"), "{words}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn retired_keys_are_bounded() {
        let (folder, path) = folder(&[("subject.key", &line("k2026", '0'))]);
        for n in 2..=bounds::RETIRED_KEYS + 2 {
            let id = format!("k2025-{n}");
            write_private(&retired_file(&path, &id), line(&id, '1').as_bytes()).unwrap();
        }
        let words = Keys::read(&path, SubjectCase::Fold).unwrap_err().to_string();
        assert!(words.contains("audit key destroy"), "{words}");
        fs::remove_file(folder.path().join("subject.key.k2025-2")).unwrap();
        assert!(Keys::read(&path, SubjectCase::Fold).is_ok());
    }

    #[test]
    fn ids_are_of_the_year_and_are_never_given_twice() {
        let after = |newest, now| following(newest, now, |id| id == "k2024" || id == "k2024-2");
        assert_eq!(after(None, 2026), "k2026");
        assert_eq!(after(Some("k2025-7"), 2026), "k2026");
        assert_eq!(after(Some("k2026"), 2026), "k2026-2");
        assert_eq!(after(Some("k2026-9"), 2026), "k2026-10");
        assert_eq!(after(Some("k2027"), 2026), "k2027-2", "the clock went back");
        assert_eq!(after(Some("site"), 2026), "k2026");
        assert_eq!(after(Some("site"), 2024), "k2024-3", "the file of another has it");
        assert_eq!(after(Some("k2024"), 2024), "k2024-3");
    }

    #[test]
    fn nothing_of_a_key_can_be_printed() {
        let (_folder, path) =
            folder(&[("subject.key", &line("k2026", 'a')), ("subject.key.k2025", &line("k2025", 'b'))]);
        let shown = format!("{:?}", Keys::read(&path, SubjectCase::Fold).unwrap());
        assert!(shown.contains("k2025") && !shown.contains("aaa") && !shown.contains("bbb"), "{shown}");
    }
}
