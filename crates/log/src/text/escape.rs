//! Text of others made safe to stand in HTML and SVG: it can't become markup, and can't turn the text around it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with `& < > " '` as entities. Characters that can't be seen, but change what is seen (controls, and those
/// that set or override the direction of text), become their code: `⟨U+202E⟩`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| entity(c).is_some() || unseen(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match entity(c) {
            Some(entity) => out.push_str(entity),
            None if unseen(c) => {
                let _ = write!(out, "⟨U+{:04X}⟩", u32::from(c));
            }
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn entity(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&#39;"),
        _ => None,
    }
}

/// Whether a character can't be seen, but changes what is seen.
pub fn unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_never_markup() {
        assert_eq!(escape("plain Zoë שלום"), "plain Zoë שלום");
        assert_eq!(
            escape(r#"<script>alert('1')</script> & "x""#),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &quot;x&quot;"
        );
    }

    #[test]
    fn what_turns_text_around_is_shown_as_its_code() {
        assert_eq!(escape("a\u{202e}b\u{200b}c\0"), "a⟨U+202E⟩b⟨U+200B⟩c⟨U+0000⟩");
    }
}
