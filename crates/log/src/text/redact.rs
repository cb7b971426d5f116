//! What of a value from outside may be shown or recorded: so much, and no characters that it should not have.

/// The longest value taken from a message, in characters; longer ones are cut, with an ellipsis.
pub const MAX_VALUE: usize = 200;
/// The longest word, date or number taken from a message.
const MAX_WORD: usize = 64;
/// What stands for a value that may be a name or a key.
pub const HIDDEN: &str = "(other)";

/// A value from a message, cut to [`MAX_VALUE`] characters.
pub fn clip(value: &str) -> String {
    match value.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// A word of the vendor's, such as an allotment. What is no word may be a name or a key, and is not shown.
pub fn word(value: &str) -> String {
    only(value, |c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | ':'))
}

/// A date or a time, on the same terms.
pub fn date(value: &str) -> String {
    only(value, |c| c.is_ascii_digit() || matches!(c, 'T' | 'Z' | ':' | '.' | '+' | '-'))
}

/// A number that is written as text, on the same terms.
pub fn number(value: &str) -> String {
    only(value, |c| c.is_ascii_digit())
}

fn only(value: &str, fits: impl Fn(char) -> bool) -> String {
    if value.len() <= MAX_WORD && value.chars().all(fits) { value.to_owned() } else { HIDDEN.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_of_its_form_is_not_shown() {
        for shown in ["", "analyzer_time", "my assignments", "623aa9af-950f-47f7-8bf0-f4d39f42d96c"] {
            assert_eq!(word(shown), shown);
        }
        for hidden in ["ACME\\bob", "bob@acme", "CN=bob", "Zo\u{eb}", &"a".repeat(65)] {
            assert_eq!(word(hidden), "(other)");
        }
        assert_eq!((date("2018-11").as_str(), date("2019-04-18T10:01:35.024031Z").len()), ("2018-11", 27));
        assert_eq!((date("bob"), number("5382018630938057025").len()), ("(other)".into(), 19));
        assert_eq!(number("bob"), "(other)");
    }

    #[test]
    fn long_values_are_cut_on_a_character() {
        assert_eq!(clip("short"), "short");
        assert_eq!(clip(&"é".repeat(500)).chars().count(), MAX_VALUE + 1);
    }
}
