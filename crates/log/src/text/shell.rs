//! Words as a shell takes them.

use std::borrow::Cow;

/// A value of others in a command that people copy: one word for a shell, whatever it says.
pub fn quoted(value: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '.' | '_' | '-' | ':');
    if !value.is_empty() && !value.starts_with('-') && value.chars().all(plain) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(in_quotes(value))
}

/// A word of a command line as a shell takes it; flags stay flags.
pub fn word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { in_quotes(word) }
}

fn in_quotes(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
