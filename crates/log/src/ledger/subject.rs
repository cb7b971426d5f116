//! A subject of an assignment, and the pseudonym that stands for it in the log.
//!
//! A plain hash of a name falls to a staff list in milliseconds, so the pseudonym is an HMAC under a key that is
//! kept away from the log. Canonical form, version 1: split at the first backslash or slash, NFC, lower case unless
//! `subject_case = "exact"`, joined by a backslash.

pub mod keys;
pub mod rollover;

use std::fmt;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use md5::Digest as _;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::text::hex::hex;
use crate::text::redact::clip;
use keys::{KeyError, Keys};

/// How subjects are stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SubjectForm {
    /// As HMAC-SHA-256 under `subject_key`.
    HmacSha256,
    /// In clear.
    Raw,
}

/// Whether the case of a subject tells two people apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SubjectCase {
    /// BOB and bob are one person.
    Fold,
    /// BOB and bob are two.
    Exact,
}

/// A subject as a message names it. It can't be printed, and is wiped once it is dropped.
#[derive(Clone, Eq, PartialEq)]
pub struct Subject(Zeroizing<String>);

impl Subject {
    /// The subject, decoded exactly as sent.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The text, for the two things that may be done with it: hashing it, and taking it out of other texts.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subject(…)")
    }
}

/// Makes pseudonyms.
#[derive(Debug)]
pub struct Pseudonyms(Form);

#[derive(Debug)]
enum Form {
    Raw(SubjectCase),
    Keyed(Box<Keys>),
}

impl Pseudonyms {
    /// Opens the keys, and makes the first one where it isn't there; the raw form has none.
    ///
    /// # Errors
    /// A file can't be read or made, others may read it, or it holds no key.
    pub fn open_or_make(path: &Path, form: SubjectForm, case: SubjectCase) -> Result<Self, KeyError> {
        Ok(Self(match form {
            SubjectForm::Raw => Form::Raw(case),
            SubjectForm::HmacSha256 => Form::Keyed(Box::new(Keys::read_or_make(path, case)?)),
        }))
    }

    /// The keys; the raw form has none.
    pub fn keys(&self) -> Option<&Keys> {
        match &self.0 {
            Form::Raw(_) => None,
            Form::Keyed(keys) => Some(keys),
        }
    }

    /// What stands for a subject in the log: `hmac-sha256:<key id>:<64 hex>`, or `raw:<subject>` where the site
    /// asked for that.
    pub fn of(&self, subject: &Subject) -> String {
        match &self.0 {
            Form::Raw(case) => format!("raw:{}", clip(&Zeroizing::new(canonical(subject.expose(), *case)))),
            Form::Keyed(keys) => keys.of(subject),
        }
    }
}

/// The canonical form: one person, one text, however it is spelled.
pub fn canonical(subject: &str, case: SubjectCase) -> String {
    let (domain, user) = subject.split_once(['\\', '/']).unwrap_or(("", subject));
    let fold = |part: &str| -> String {
        match case {
            SubjectCase::Fold => part.nfc().collect::<String>().to_lowercase().nfc().collect(),
            SubjectCase::Exact => part.nfc().collect(),
        }
    };
    format!("{}\\{}", fold(domain), fold(user))
}

/// Qlik's own forms of a subject. Neither has a key: a staff list undoes them in seconds, so they are for comparing with
/// Qlik's log, and never for keeping.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QlikForm {
    /// MD5, as in the published sample.
    Md5,
    /// SHA-256, as in the text around it.
    Sha256,
}

/// The subject exactly as it was sent, hashed as Qlik does for its Offline User Assignment Log, in hex. That article says
/// SHA-256, while its sample is the MD5 of `acme\bob`: decoded, UTF-8, without salt, the case as it came.
pub fn qlik_form(subject: &Subject, form: QlikForm) -> String {
    let text = subject.expose().as_bytes();
    match form {
        QlikForm::Md5 => hex(md5::Md5::digest(text).as_slice()),
        QlikForm::Sha256 => hex(digest(&SHA256, text).as_ref()),
    }
}

/// A text of the back end with the subject taken out of it, whatever its case: its words go into the log, the name
/// does not. Where somebody else may still be named in it, nothing of it is shown.
pub fn without_subject(text: &str, subject: Option<&Subject>) -> String {
    let subject = subject.map(Subject::expose).unwrap_or_default();
    let user = subject.rsplit(['\\', '/']).next().unwrap_or(subject);
    let mut clean = text.to_owned();
    for name in [subject, user] {
        // Shorter names would take ordinary words apart.
        if name.len() >= 3 {
            clean = without(&clean, name);
        }
    }
    if clean.contains(['\\', '/', '@', '=']) { "(not shown)".into() } else { clean }
}

/// Lower case may be longer than what it is of, so characters are compared, and not places in two texts.
fn without(text: &str, name: &str) -> String {
    let (mut clean, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(first) = rest.chars().next() {
        match after(rest, name) {
            Some(behind) => {
                clean.push('…');
                rest = behind;
            }
            None => {
                clean.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    clean
}

/// What is behind a name that a text starts with, in any case.
fn after<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut wanted = name.chars().flat_map(char::to_lowercase).peekable();
    let mut rest = text.chars();
    while wanted.peek().is_some() {
        if !rest.next()?.to_lowercase().all(|c| wanted.next() == Some(c)) {
            return None;
        }
    }
    Some(rest.as_str())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::files::private::write_private;

    #[test]
    fn one_person_has_one_canonical_form() {
        for spelling in ["acme\\bob", "ACME\\Bob", "acme/BOB"] {
            assert_eq!(canonical(spelling, SubjectCase::Fold), "acme\\bob");
        }
        assert_eq!(canonical("\\generated4", SubjectCase::Fold), "\\generated4");
        assert_eq!(canonical("generated4", SubjectCase::Fold), "\\generated4");
        assert_eq!(
            canonical("a\\Zoe\u{308}", SubjectCase::Fold),
            canonical("a\\Zo\u{eb}", SubjectCase::Fold)
        );
        assert_ne!(canonical("a\\BOB", SubjectCase::Exact), canonical("a\\bob", SubjectCase::Exact));
    }

    #[test]
    fn a_key_is_made_once_and_gives_the_same_pseudonym_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subject.key");
        let open = || Pseudonyms::open_or_make(&path, SubjectForm::HmacSha256, SubjectCase::Fold).unwrap();
        let first = open().of(&Subject::new("ACME\\bob"));
        assert_eq!(first, open().of(&Subject::new("acme\\BOB")));
        assert!(first.starts_with("hmac-sha256:k20") && first.len() == "hmac-sha256:k2026:".len() + 64);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_pseudonym_is_the_hmac_anyone_can_compute() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subject.key");
        write_private(&path, format!("k2026:{}", "00".repeat(32)).as_bytes()).unwrap();
        let names = Pseudonyms::open_or_make(&path, SubjectForm::HmacSha256, SubjectCase::Fold).unwrap();
        // printf 'license-relay-subject-v1\0001\000acme\\bob' | openssl dgst -sha256 -mac HMAC -macopt hexkey:00…00
        assert_eq!(names.of(&Subject::new("acme\\bob")), format!("hmac-sha256:k2026:{EXPECTED}"));
    }

    const EXPECTED: &str = "0f8d2aeac1914a2f09095e2f691fa58f0a945270e1041adcfaab74284f5af5ca";

    #[test]
    fn qliks_own_forms_are_those_that_it_publishes() {
        let form = |subject, form| qlik_form(&Subject::new(subject), form);
        assert_eq!(form("acme\\bob", QlikForm::Md5), "a24a2f2b67c5e051bcb6cd2d7a9f7ebe");
        assert_eq!(form("ACME\\bob", QlikForm::Md5), "a655cdf60d03ce689a77dd0f1ad8c7b1");
        assert_eq!(
            form("acme\\bob", QlikForm::Sha256),
            "347b1282ad80918b022e1d85e445030169d3f39996f1de32d3ab15ec57fb1c20"
        );
    }

    #[test]
    fn the_back_ends_words_lose_the_name() {
        let clean = |text: &str, subject: &str| without_subject(text, Some(&Subject::new(subject)));
        assert_eq!(clean("no unit left for acme\\BOB (Bob)", "ACME\\bob"), "no unit left for … (…)");
        assert_eq!(clean("no unit left", "ACME\\bob"), "no unit left");
        assert_eq!(clean("acme\\bob: acme\\carol has it", "ACME\\bob"), "(not shown)");
        assert_eq!(without_subject("acme\\carol has it", None), "(not shown)");
        assert_eq!(clean("\u{130}\u{130}\u{130}bob… \u{130}", "bob"), "\u{130}\u{130}\u{130}…… \u{130}");
        assert_eq!(clean("for \u{130}stan, i\u{307}STAN", "\u{130}stan"), "for …, …");
    }
}
