//! Text on a terminal: what can't be seen moves no cursor, changes no colour and turns no text around.

use std::borrow::Cow;

use super::escape::unseen;

/// A message as a terminal shows it and does no more: what can't be seen, but moves the cursor, changes colours or turns
/// the text around, becomes U+FFFD. A line feed ends a line; where there may be only one, [`printable_line`] is for it.
pub fn printable(text: &str) -> Cow<'_, str> {
    replaced(text, |c| unseen(c) && c != '\n')
}

/// The same for what is one line: a line feed would let a log write lines of its own.
pub fn printable_line(text: &str) -> Cow<'_, str> {
    replaced(text, unseen)
}

fn replaced(text: &str, goes: impl Fn(char) -> bool) -> Cow<'_, str> {
    match text.contains(&goes) {
        true => text.chars().map(|c| if goes(c) { '\u{fffd}' } else { c }).collect::<String>().into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_moves_the_cursor_and_a_line_stays_one() {
        let told = "a\u{1b}[2J\u{202e}\u{9b}1mb\nc";
        assert_eq!(printable(told), "a\u{fffd}[2J\u{fffd}\u{fffd}1mb\nc");
        assert_eq!(printable_line("a\nb"), "a\u{fffd}b");
        assert_eq!(printable("Zoë שלום"), "Zoë שלום");
    }
}
