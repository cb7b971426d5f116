//! Rows as CSV (RFC 4180) that a spreadsheet can open without harm.

use std::io::{self, Write};

/// What a spreadsheet does not take for a formula. Where lists are separated by `;`, it splits a cell there as well.
pub(super) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    if text.starts_with(['\t', '\r']) {
        out.push('\'');
    }
    let mut begins = true;
    for c in text.chars() {
        if begins && matches!(c, '=' | '+' | '-' | '@') {
            out.push('\'');
        }
        out.push(c);
        // A quote there is taken off.
        begins = matches!(c, ';' | '\t' | '\r' | '\n') || begins && c == '"';
    }
    out
}

pub(super) fn write_csv(out: &mut dyn Write, cells: impl Iterator<Item = String>) -> io::Result<()> {
    for (at, cell) in cells.enumerate() {
        let comma = if at == 0 { "" } else { "," };
        if cell.contains(['"', ',', '\r', '\n']) {
            write!(out, "{comma}\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            write!(out, "{comma}{cell}")?;
        }
    }
    out.write_all(b"\r\n")
}
