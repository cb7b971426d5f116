//! Rows of an answer, as people read them, as CSV that a spreadsheet can open without harm, and as JSON. Rows go out as
//! they come: an answer may have more of them than there is memory. Nothing that a log says moves a cursor.

use std::io::{self, Write};

use serde_json::Value;

use super::cell::Cell;
use super::csv::{harmless, write_csv};
use relay_log::text::escape::escape;
use relay_log::text::terminal::printable_line;

/// Rows that are kept back to see how wide the columns of a text are.
const LOOKED_AT: usize = 500;
/// Characters of a column of a text at most; longer values stand out.
const WIDTH: usize = 72;

/// A number with its noun.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// A page that fetches nothing and runs nothing.
const HTML_HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>license-relay: export</title>\
<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">\
<style>body{font:13px/1.4 system-ui,sans-serif}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{border-bottom:1px solid #ccc;padding:2px 8px;text-align:left;vertical-align:top}.n{text-align:right}\
thead{display:table-header-group}pre{white-space:pre-wrap}</style>\n<table>";

/// How rows are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// Aligned columns.
    Text,
    /// RFC 4180, with a byte order mark, as Excel wants it.
    Csv,
    /// One object, `rows` first.
    Json,
    /// One object a line.
    JsonLines,
    /// A page with one table.
    Html,
}

/// What stands behind the rows.
#[derive(Debug, Default)]
pub struct Closing {
    /// Sentences.
    pub notes: Vec<String>,
    /// The same and more as members of the one object, or of the last line, for programs.
    pub members: Vec<(&'static str, Value)>,
    /// The same as lines for people, and behind a `#` in CSV.
    pub lines: Vec<String>,
}

/// Writes rows.
pub struct TableWriter<'w> {
    out: &'w mut dyn Write,
    form: Form,
    columns: &'static [&'static str],
    kept: Vec<Vec<Cell>>,
    widths: Option<Vec<usize>>,
    /// Rows so far.
    pub count: u64,
}

impl<'w> TableWriter<'w> {
    /// To be written there, in this form. The head goes out with the first row, or with the end: an answer that can't be
    /// given leaves no half of one.
    pub(crate) fn new(out: &'w mut dyn Write, form: Form, columns: &'static [&'static str]) -> Self {
        Self { out, form, columns, kept: Vec::new(), widths: None, count: 0 }
    }

    fn head(&mut self) -> io::Result<()> {
        match self.form {
            Form::Text | Form::JsonLines => Ok(()),
            Form::Html => {
                self.out.write_all(HTML_HEAD.as_bytes())?;
                let cells: String =
                    self.columns.iter().map(|name| format!("<th>{}", name.replace('_', " "))).collect();
                writeln!(self.out, "<thead><tr>{cells}<tbody>")
            }
            Form::Csv => {
                self.out.write_all("\u{feff}".as_bytes())?;
                write_csv(self.out, self.columns.iter().map(|name| (*name).to_owned()))
            }
            Form::Json => self.out.write_all(b"{\"rows\":["),
        }
    }

    /// The next row: a cell for each column.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) -> io::Result<()> {
        if self.count == 0 {
            self.head()?;
        }
        self.count += 1;
        match self.form {
            Form::Text => {
                if self.widths.is_some() {
                    return self.aligned(&cells);
                }
                self.kept.push(cells);
                if self.kept.len() == LOOKED_AT { self.align() } else { Ok(()) }
            }
            Form::Csv => write_csv(self.out, cells.iter().map(Cell::csv)),
            Form::Html => {
                let cell = |cell: &Cell| {
                    let class = if cell.is_number() { " class=n" } else { "" };
                    format!("<td{class}>{}", escape(&cell.text()))
                };
                writeln!(self.out, "<tr>{}", cells.iter().map(cell).collect::<String>())
            }
            Form::Json => {
                self.out.write_all(if self.count == 1 { b"\n" } else { b",\n" })?;
                self.object(&cells)
            }
            Form::JsonLines => {
                self.object(&cells)?;
                self.out.write_all(b"\n")
            }
        }
    }

    /// Ends with what the rows rest on.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub(crate) fn end(mut self, closing: &Closing) -> io::Result<()> {
        if self.count == 0 {
            self.head()?;
        }
        match self.form {
            Form::Text => {
                self.align()?;
                if self.count == 0 {
                    writeln!(self.out, "(none)")?;
                }
                for line in closing.notes.iter().chain(&closing.lines) {
                    writeln!(self.out, "{}", printable_line(line))?;
                }
                Ok(())
            }
            Form::Csv => {
                self.out.write_all(b"\r\n")?;
                for line in closing.notes.iter().chain(&closing.lines).filter(|line| !line.is_empty()) {
                    write_csv(self.out, std::iter::once(harmless(&format!("# {}", line.trim()))))?;
                }
                Ok(())
            }
            Form::Html => {
                writeln!(self.out, "</table><pre>")?;
                for line in closing.notes.iter().chain(&closing.lines) {
                    writeln!(self.out, "{}", escape(line))?;
                }
                writeln!(self.out, "</pre>")
            }
            Form::Json => {
                self.out.write_all(b"\n],\n")?;
                let notes = ("notes", Value::from(closing.notes.as_slice()));
                for (at, (name, value)) in std::iter::once(&notes).chain(&closing.members).enumerate() {
                    let comma = if at == 0 { "" } else { ",\n" };
                    write!(self.out, "{comma}{}:{value:#}", Value::from(*name))?;
                }
                self.out.write_all(b"}\n")
            }
            Form::JsonLines => {
                let mut last = serde_json::Map::new();
                last.insert("notes".into(), closing.notes.as_slice().into());
                last.extend(closing.members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
                writeln!(self.out, "{}", Value::from(last))
            }
        }
    }

    fn object(&mut self, cells: &[Cell]) -> io::Result<()> {
        self.out.write_all(b"{")?;
        for (at, (name, cell)) in self.columns.iter().zip(cells).enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(self.out, "{comma}{}:{}", Value::from(*name), cell.json())?;
        }
        self.out.write_all(b"}")
    }

    fn align(&mut self) -> io::Result<()> {
        if self.widths.is_some() || self.kept.is_empty() {
            return Ok(());
        }
        let kept = std::mem::take(&mut self.kept);
        let width = |at: usize, name: &&str| {
            let widest = kept.iter().filter_map(|cells| Some(cells.get(at)?.text().chars().count())).max();
            widest.unwrap_or(0).clamp(name.len(), WIDTH.max(name.len()))
        };
        self.widths = Some(self.columns.iter().enumerate().map(|(at, name)| width(at, name)).collect());
        let head: Vec<Cell> = self.columns.iter().map(|name| name.replace('_', " ").into()).collect();
        self.aligned(&head)?;
        kept.iter().try_for_each(|cells| self.aligned(cells))
    }

    fn aligned(&mut self, cells: &[Cell]) -> io::Result<()> {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(self.widths.iter().flatten()) {
            let text = cell.text();
            let text = printable_line(&text);
            let blank = " ".repeat(width.saturating_sub(text.chars().count()));
            line.push_str(&if cell.is_number() {
                format!("{blank}{text}  ")
            } else {
                format!("{text}{blank}  ")
            });
        }
        writeln!(self.out, "{}", line.trim_end())
    }
}

impl std::fmt::Debug for TableWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableWriter")
            .field("form", &self.form)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(form: Form, rows: Vec<Vec<Cell>>) -> String {
        let mut out = Vec::new();
        let mut table = TableWriter::new(&mut out, form, &["who", "how_many"]);
        rows.into_iter().for_each(|cells| table.row(cells).unwrap());
        let closing = Closing {
            notes: vec!["a note".into()],
            members: vec![("evidence", serde_json::json!([]))],
            lines: vec!["-- a line".into()],
        };
        table.end(&closing).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_spreadsheet_finds_no_formula_and_every_cell_where_it_belongs() {
        let rows = ["=1+1", "+1", "-1", "@x", "\t=1", "a,\"b\"\nc", "plain"]
            .map(|text| vec![text.into(), Cell::Number(-3)])
            .to_vec();
        let csv = written(Form::Csv, rows);
        assert!(
            csv.starts_with(
                "\u{feff}who,how_many\r\n'=1+1,-3\r\n'+1,-3\r\n'-1,-3\r\n'@x,-3\r\n'\t'=1,-3\r\n"
            )
        );
        assert!(
            csv.ends_with("\"a,\"\"b\"\"\nc\",-3\r\nplain,-3\r\n\r\n# a note\r\n# -- a line\r\n"),
            "{csv}"
        );
    }

    #[test]
    fn a_spreadsheet_that_splits_cells_elsewhere_finds_no_formula_either() {
        let wanted = [
            ("x;=1+1", "x;'=1+1"),
            ("x;\"=1+1", "x;\"'=1+1"),
            ("x\t@y", "x\t'@y"),
            ("x\r\n-1", "x\r\n'-1"),
            ("a;b=c; -1", "a;b=c; -1"),
            ("2026-01-01", "2026-01-01"),
        ];
        for (text, harmless) in wanted {
            assert_eq!(Cell::from(text).csv(), harmless);
        }
        assert_eq!(Cell::List(vec!["a".into(), "b;+1".into()]).csv(), "a, b;'+1");
    }

    #[test]
    fn json_is_one_object_whatever_the_rows_are() {
        for count in [0, 1, 3] {
            let text = written(Form::Json, vec![vec!["\"x\"".into(), Cell::None]; count]);
            let json: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json["rows"].as_array().unwrap().len(), count);
            assert_eq!((&json["notes"][0], &json["evidence"]), (&"a note".into(), &serde_json::json!([])));
        }
        let lines = written(Form::JsonLines, vec![vec!["x".into(), Cell::Number(1)]; 2]);
        assert_eq!(lines.lines().count(), 3);
        lines.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap()));
    }

    #[test]
    fn text_is_aligned_and_no_value_moves_the_cursor() {
        let text = written(
            Form::Text,
            vec![vec!["a\u{1b}[2Jb".into(), Cell::Number(5)], vec!["x".into(), 12_i64.into()]],
        );
        assert_eq!(text, "who     how many\na\u{fffd}[2Jb         5\nx             12\na note\n-- a line\n");
        assert_eq!(written(Form::Text, vec![]), "(none)\na note\n-- a line\n");
    }
}
