//! The report as one page of HTML: no script, no other file, no address to load anything from; for a screen, a telephone
//! and paper.
//!
//! Every value comes through [`escape`]. Lists end at the constants of [`crate::page`], and then say how many more there
//! are and which command lists them.

/// Writes into the page; a text takes whatever is written.
macro_rules! put {
    ($html:expr, $($text:tt)+) => { let _ = write!($html.out, $($text)+); };
}

mod assignments;
mod cells;
mod coverage;
mod evidence;
mod summary;
mod traffic;

use std::fmt::Write as _;

use super::*;
use cells::*;
use relay_log::text::escape::escape;
use relay_log::text::number::{count, plural};
use summary::nothing_known;

const STYLE: &str = include_str!("html/style.css");
/// A table of at most so many columns is no wider than it must be.
const FEW: usize = 4;

/// The whole page. Its length is bounded by the constants of [`crate::page`].
pub fn render(page: &Page) -> String {
    let mut html = Html { out: String::with_capacity(256 * 1024), page };
    html.head();
    html.not_understood();
    html.answers();
    html.coverage();
    html.holders();
    html.assignments();
    html.usage();
    html.syncs();
    html.consumption();
    html.deployments();
    html.changes();
    html.denied();
    html.churn();
    html.clock();
    html.evidence();
    html.foot();
    html.out
}

struct Html<'p> {
    out: String,
    page: &'p Page,
}

/// How a column is set.
#[derive(Clone, Copy)]
enum Column {
    Words,
    Number,
    Time,
}

use Column::{Number as N, Time as T, Words as W};

impl Html<'_> {
    fn head(&mut self) {
        let Page { made, names, .. } = self.page;
        let logs: Vec<_> = self.page.evidence.iter().map(|log| escape(&log.origin)).collect();
        put!(
            self,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n<link rel=\"icon\" href=\"data:,\">\n\
             <title>Assignment log of {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
            logs.join(", ")
        );
        put!(
            self,
            "<header><h1>Who held what</h1><p class=\"sub\">The assignment log of {}</p>",
            list(&logs)
        );
        self.period();
        put!(
            self,
            "<div class=\"facts\"><span>Made <b>{}</b></span><span>by <b>{}</b></span><span>records <b>{}</b></span>\
             <span>licenses <b>{}</b></span><span>{}</span></div>",
            time(made.at),
            escape(&made.by),
            count(self.page.evidence.iter().map(|log| log.records).sum()),
            count(self.page.licenses.total),
            match (names.given, names.resolved, names.unresolved) {
                (false, _, _) => "people by <b>pseudonym</b>; no file of names was given".to_owned(),
                (true, with, without) => format!(
                    "names from a local file: <b>{}</b> resolved, <b>{}</b> not; the log itself has none",
                    count(with),
                    count(without)
                ),
            }
        );
        for note in &self.page.notes {
            put!(self, "<p class=\"small\">{}</p>", escape(note));
        }
        put!(self, "<nav aria-label=\"Contents\"><ol>");
        for (id, title) in SECTIONS {
            let absent = match *id {
                "not-understood" => self.page.not_understood.total == 0,
                "churn" => self.page.churn.is_none(),
                _ => false,
            };
            if !absent {
                put!(self, "<li><a href=\"#{id}\">{title}</a></li>");
            }
        }
        put!(self, "</ol></nav></header>\n<main>\n");
    }

    /// What was asked for, where anything was, and what of it is known.
    fn period(&mut self) {
        let Period { asked, from, to, .. } = self.page.period;
        put!(self, "<p class=\"soft\">");
        if asked != Asked::default() {
            let from = asked.from.map_or_else(|| "the log's begin".into(), time);
            let to = asked.to.map_or_else(|| "the log's end".into(), time);
            put!(self, "Asked for: from {from} to {to}. ");
        }
        match nothing_known(self.page) {
            Some(nothing) => {
                put!(self, "<b>{nothing}</b> All dates and times are UTC.</p>");
            }
            None => {
                let known = if asked == Asked::default() { "From" } else { "Known: from" };
                let (from, to) = ends(from, to);
                put!(
                    self,
                    "{known} {from} to {to}. <b>All dates and times are UTC</b>; holders are those at {to}.</p>"
                );
            }
        }
    }

    /// What stands in place of rows where there are none: nothing was, or nothing is known.
    fn instead(&mut self, nothing_was: &str) {
        let words = nothing_known(self.page).unwrap_or_else(|| nothing_was.into());
        put!(self, "<p>{words}</p>");
    }

    fn section(&mut self, id: &str) {
        let title = SECTIONS.iter().find(|(known, _)| *known == id).map_or(id, |(_, title)| title);
        put!(self, "<section id=\"{id}\"><h2>{title}</h2>\n");
    }

    fn end(&mut self) {
        put!(self, "</section>\n");
    }

    fn foot(&mut self) {
        put!(self, "</main>\n</body>\n</html>\n");
    }

    /// A table; the cells are HTML already, the names are not.
    fn table(&mut self, caption: &str, columns: &[(&str, Column)], rows: impl Iterator<Item = Vec<String>>) {
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
    fn rest<R>(&mut self, listed: &Listed<R>, most: usize, what: (&str, &str), verb: &str) {
        let rows = shown(listed, most);
        if listed.total > rows {
            self.and_more(listed.total - rows, what, &format!("{verb} {}", self.page.made.logs));
        }
    }

    fn and_more(&mut self, more: u64, what: (&str, &str), command: &str) {
        put!(
            self,
            "<p class=\"more\">and {}; all of them: <code>license-relay audit {}</code></p>",
            one_more(more, what),
            escape(command.trim_end())
        );
    }

    fn more(&mut self, total: u64, most: usize, what: (&str, &str)) {
        self.more_than(total, total.min(most as u64), what);
    }

    fn more_than(&mut self, total: u64, shown: u64, what: (&str, &str)) {
        if total > shown {
            put!(self, "<p class=\"more\">and {}, not shown here</p>", one_more(total - shown, what));
        }
    }
}

/// So many more of what is one, or several.
fn one_more(more: u64, (one, several): (&str, &str)) -> String {
    plural(more, format_args!("more {one}"), format_args!("more {several}"))
}

const SECTIONS: &[(&str, &str)] = &[
    ("not-understood", "What this log can't claim"),
    ("answers", "In short"),
    ("coverage", "How far it is known"),
    ("holders", "Who held what"),
    ("assignments", "Assignments over time"),
    ("use", "Use against entitlement"),
    ("syncs", "Syncs and gaps"),
    ("consumption", "Consumption by month"),
    ("deployments", "Deployments"),
    ("changes", "Changes"),
    ("denied", "Refused"),
    ("churn", "Units moved between people"),
    ("clock", "The clock"),
    ("evidence", "What this rests on"),
];
