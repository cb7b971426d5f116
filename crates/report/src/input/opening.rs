//! Which names of a list open which pseudonyms, by the keys at hand.

use std::path::Path;

use super::csv::{ListError, records};
use relay_log::ledger::subject::Subject;
use relay_log::ledger::subject::keys::Keys;

/// What stands before a subject that a site keeps in clear.
pub(super) const RAW: &str = "raw:";

/// One holder of an opening balance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpeningHolder {
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
pub fn opening(file: &Path, keys: Option<&Keys>) -> Result<Vec<OpeningHolder>, ListError> {
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
        all.push(OpeningHolder { license, allotment: cell(allotment).to_owned(), subject });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_opening_balance_says_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("opening.csv");
        fs::write(&path, "Subject;Licence\nx;y\n").unwrap();
        assert!(opening(&path, None).unwrap_err().to_string().contains("no column \"license\""));
        fs::write(&path, "Subject,License,Allotment\nacme\\bob,9999 0000,professional\n").unwrap();
        assert!(opening(&path, None).unwrap_err().to_string().contains("--subject-key"));
        fs::write(&path, "Subject,License,Allotment\nhmac-sha256:k:00,9999 0000,professional\n").unwrap();
        let held = OpeningHolder {
            license: "99990000".into(),
            allotment: "professional".into(),
            subject: vec!["hmac-sha256:k:00".into()],
        };
        assert_eq!(opening(&path, None).unwrap(), [held]);
    }
}
