//! Numbers, counts and times as people read them.

use std::fmt::Display;

/// A number as people read it: commas between thousands, and no fraction where there is none.
pub fn number(value: f64) -> String {
    let value = value.clamp(-1e15, 1e15);
    let sign = if value < 0.0 { "−" } else { "" };
    let tenths = (value.abs() * 10.0).round();
    let whole = count((tenths / 10.0).floor() as u64);
    match tenths % 10.0 {
        0.0 => format!("{sign}{whole}"),
        tenth => format!("{sign}{whole}.{tenth:.0}"),
    }
}

/// A count, with commas between thousands.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// At most so many characters, with an ellipsis.
pub fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A count with its noun, in the singular or the plural.
pub fn plural(n: u64, one: impl Display, more: impl Display) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {more}", count(n)) }
}

/// Minutes as people say them: in minutes up to two hours, in hours up to two days, then in days.
pub fn duration(minutes: u64) -> String {
    match minutes {
        0..120 => format!("{minutes} min"),
        120..2880 => format!("{} h {:02} min", minutes / 60, minutes % 60),
        _ => format!("{} d {:02} h", minutes / 1440, minutes / 60 % 24),
    }
}
