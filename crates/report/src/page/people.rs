//! People on the page: a pseudonym, and a name where the reader has brought one.

use super::html::cells::{bdi, mono};

/// Digits of a pseudonym that are shown; the verbs have all 64.
pub(super) const PSEUDONYM_DIGITS: usize = 16;

/// A person as the log knows it.
#[derive(Clone, Debug, Default)]
pub struct Person {
    /// The pseudonym, `hmac-sha256:<key id>:<64 hex>`; empty where the back end told an instance only.
    pub subject: String,
    /// The name, where it could be resolved.
    pub name: Option<String>,
}

/// The name, if there is one, above the pseudonym.
pub(super) fn person(person: &Person) -> String {
    match &person.name {
        Some(name) => format!("{}<br>{}", bdi(name), pseudonym(&person.subject)),
        None => pseudonym(&person.subject),
    }
}

/// The key's name and the first digits; the whole of it where it has another form.
pub(super) fn pseudonym(subject: &str) -> String {
    if subject.is_empty() {
        return "<span class=\"none\">instance only</span>".into();
    }
    let short = subject.strip_prefix("hmac-sha256:").and_then(|rest| {
        let (key, digits) = rest.split_once(':')?;
        Some(format!("{key}:{}…", digits.get(..PSEUDONYM_DIGITS)?))
    });
    mono(short.as_deref().unwrap_or(subject))
}
