//! What stands around the sections: the head with style and Content-Security-Policy, who made the page and about which
//! time, the list of sections, and the end. No script, and nothing that is loaded from anywhere; for a screen, a
//! telephone and paper.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::html::Html;
use super::html::cells::{ends, time};
use super::{KnownPeriod, Page, SECTIONS};
use crate::ask::evidence::Made;
use relay_log::console::period::Period;
use relay_log::text::escape::escape;
use relay_log::text::number::{count, plural};

const STYLE: &str = include_str!("frame.css");

/// How many people of the page have a name.
#[derive(Clone, Copy, Debug, Default)]
pub struct NameCounts {
    /// A file of names was given.
    pub given: bool,
    /// Pseudonyms that have a name on this page.
    pub resolved: u64,
    /// Those without.
    pub unresolved: u64,
}

/// Everything before the first section.
pub(super) fn head(html: &mut Html<'_>) {
    let Page { made, names, evidence, .. } = html.page;
    let logs: Vec<_> = evidence.iter().map(|log| escape(&log.verified.origin)).collect();
    put!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>Assignment log of {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        logs.join(", ")
    );
    put!(html, "<header><h1>Who held what</h1><p class=\"sub\">The assignment log of {}</p>", list(&logs));
    period(html);
    put!(
        html,
        "<div class=\"facts\"><span>Made <b>{}</b></span><span>by <b>{}</b></span><span>records <b>{}</b></span>\
         <span>licenses <b>{}</b></span><span>{}</span></div>",
        time(made.at),
        escape(Made::BY),
        count(evidence.iter().map(|log| log.verified.records).sum()),
        count(html.page.licenses.total),
        match (names.given, names.resolved, names.unresolved) {
            (false, _, _) => "people by <b>pseudonym</b>; no file of names was given".to_owned(),
            (true, with, without) => format!(
                "names from a local file: <b>{}</b> resolved, <b>{}</b> not; the log itself has none",
                count(with),
                count(without)
            ),
        }
    );
    for note in &html.page.notes {
        put!(html, "<p class=\"small\">{}</p>", escape(note));
    }
    put!(html, "<nav aria-label=\"Contents\"><ol>");
    for section in SECTIONS.iter().filter(|section| (section.is_on)(html.page)) {
        put!(html, "<li><a href=\"#{}\">{}</a></li>", section.id, section.title);
    }
    put!(html, "</ol></nav></header>\n<main>\n");
}

/// Everything behind the last section.
pub(super) fn foot(html: &mut Html<'_>) {
    put!(html, "</main>\n</body>\n</html>\n");
}

/// What was asked for, where anything was, and what of it is known.
fn period(html: &mut Html<'_>) {
    let KnownPeriod { asked, from, to, .. } = html.page.period;
    put!(html, "<p class=\"soft\">");
    if asked != Period::default() {
        let from = asked.from.map_or_else(|| "the log's begin".into(), time);
        let to = asked.to.map_or_else(|| "the log's end".into(), time);
        put!(html, "Asked for: from {from} to {to}. ");
    }
    match html.page.period.nothing_known() {
        Some(nothing) => {
            put!(html, "<b>{nothing}</b> All dates and times are UTC.</p>");
        }
        None => {
            let known = if asked == Period::default() { "From" } else { "Known: from" };
            let (from, to) = ends(from, to);
            put!(
                html,
                "{known} {from} to {to}. <b>All dates and times are UTC</b>; holders are those at {to}.</p>"
            );
        }
    }
}

fn list(logs: &[Cow<'_, str>]) -> String {
    match logs {
        [] => "no log".into(),
        [one] => format!("<bdi>{one}</bdi>"),
        [first, rest @ ..] => {
            format!("<bdi>{first}</bdi> and {}", plural(rest.len() as u64, "other log", "other logs"))
        }
    }
}
