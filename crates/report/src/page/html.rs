//! Writes the page's HTML: what the drawings of all sections share, which is tables, and the lines below lists that do
//! not show all of their rows. Every value comes through [`escape`], most of them by one of [`cells`].

/// Writes into the page; a text takes whatever is written.
macro_rules! put {
    ($html:expr, $($text:tt)+) => { let _ = write!($html.out, $($text)+); };
}

pub(super) mod cells;

use std::fmt::Write as _;

use super::truncated::Truncated;
use super::{Page, Section};
use cells::bdi;
use relay_log::stderr;
use relay_log::text::escape::escape;
use relay_log::text::number::plural;

/// A table of at most so many columns is no wider than it must be.
const FEW: usize = 4;

/// A page that is being written.
pub(super) struct Html<'p> {
    /// What is written so far.
    pub(super) out: String,
    /// What it is about.
    pub(super) page: &'p Page,
}

/// How a column is set.
#[derive(Clone, Copy)]
pub(super) enum Column {
    Words,
    Number,
    Time,
}

pub(super) use Column::{Number as N, Time as T, Words as W};

impl<'p> Html<'p> {
    pub(super) fn new(page: &'p Page) -> Self {
        Self { out: String::with_capacity(256 * 1024), page }
    }

    /// A section with its heading and what it draws.
    pub(super) fn section(&mut self, Section { id, title, class, draw, .. }: &Section) {
        match *class {
            "" => {
                put!(self, "<section id=\"{id}\"><h2>{title}</h2>\n");
            }
            class => {
                put!(self, "<section id=\"{id}\" class=\"{class}\"><h2>{title}</h2>");
            }
        }
        draw(self);
        put!(self, "</section>\n");
    }

    /// What stands in place of rows where there are none: nothing was, or nothing is known.
    pub(super) fn instead(&mut self, nothing_was: &str) {
        let words = self.page.period.nothing_known().unwrap_or_else(|| nothing_was.into());
        put!(self, "<p>{words}</p>");
    }

    /// A table; the cells are HTML already, the names are not.
    pub(super) fn table(
        &mut self,
        caption: &str,
        columns: &[(&str, Column)],
        rows: impl Iterator<Item = Vec<String>>,
    ) {
        let class = |column: &Column| match column {
            W => "",
            N => " class=\"n\"",
            T => " class=\"t\"",
        };
        let caption = escape(caption);
        let slim = if columns.len() <= FEW { " class=\"slim\"" } else { "" };
        put!(
            self,
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\"><table{slim}><caption>{caption}</caption><thead><tr>"
        );
        for (name, column) in columns {
            put!(self, "<th scope=\"col\"{}>{}</th>", class(column), bdi(name));
        }
        put!(self, "</tr></thead><tbody>\n");
        for row in rows {
            put!(self, "<tr>");
            for (cell, (_, column)) in row.iter().zip(columns) {
                put!(self, "<td{}>{cell}</td>", class(column));
            }
            put!(self, "</tr>\n");
        }
        put!(self, "</tbody></table></div>\n");
    }

    /// The line below a list that does not show all, with the verb that does.
    pub(super) fn rest<R>(&mut self, listed: &Truncated<R>, most: usize, what: (&str, &str), verb: &str) {
        let rows = listed.shown(most);
        if listed.total > rows {
            self.and_more(listed.total - rows, what, &format!("{verb} {}", self.page.logs));
        }
    }

    /// How many more there are of what is one, or several, and the verb with its arguments that lists them.
    pub(super) fn and_more(&mut self, more: u64, what: (&str, &str), command: &str) {
        put!(
            self,
            "<p class=\"more\">and {}; all of them: <code>{} {}</code></p>",
            one_more(more, what),
            stderr::reader(),
            escape(command.trim_end())
        );
    }

    /// The line below a list that shows `shown` of its rows, where no verb lists the others.
    pub(super) fn more(&mut self, total: u64, shown: usize, what: (&str, &str)) {
        let shown = shown as u64;
        if total > shown {
            put!(self, "<p class=\"more\">and {}, not shown here</p>", one_more(total - shown, what));
        }
    }
}

/// So many more of what is one, or several.
fn one_more(more: u64, (one, several): (&str, &str)) -> String {
    plural(more, format_args!("more {one}"), format_args!("more {several}"))
}
