//! How far the page can be believed: what is not understood, the answers in short, and how far each license is known.

use std::fmt::Write as _;

use super::cells::*;
use super::summary::{Sign, complete, missing, over_allocated, over_consumed, protected, whole};
use super::{Html, N, T, W};
use crate::page::*;
use relay_log::text::number::{count, plural};

impl Html<'_> {
    pub(super) fn not_understood(&mut self) {
        let listed = &self.page.not_understood;
        if listed.total == 0 {
            return;
        }
        put!(self, "<section id=\"not-understood\" class=\"claim\"><h2>What this log can't claim</h2>");
        put!(
            self,
            "<p><b>{} said something in this log that is not understood.</b> What they said there is recorded by its \
             shape, not by its meaning: assignments and consumption in it are missing from everything below.</p>",
            plural(listed.total, "deployment", "deployments")
        );
        let rows = listed.rows.iter().take(NOT_UNDERSTOOD).map(|one| {
            vec![
                mono(&one.source),
                bdi(&one.product),
                one.license.as_deref().map(mono).unwrap_or_else(none),
                count(one.bodies),
                time(one.first),
                time(one.last),
            ]
        });
        let columns =
            [("Source", W), ("Product", W), ("License", W), ("Bodies", N), ("First", T), ("Last", T)];
        self.table("Bodies that are not understood, by deployment", &columns, rows);
        self.more(listed.total, NOT_UNDERSTOOD, ("deployment", "deployments"));
        self.end();
    }

    pub(super) fn answers(&mut self) {
        self.section("answers");
        put!(self, "<dl class=\"answers\">");
        let (sign, words) = whole(self.page);
        self.answer(sign, "Is the log whole?", &words);
        let (sign, words) = missing(self.page);
        self.answer(sign, "Is anything missing?", &words);
        let (sign, words) = complete(self.page);
        self.answer(sign, "Is the list of holders complete?", &words);
        let (sign, words) = over_allocated(self.page);
        self.answer(sign, "Was anything over-allocated?", &words);
        let (sign, words) = over_consumed(self.page);
        self.answer(sign, "Was more consumed than the quota?", &words);
        let (sign, words) = protected(self.page);
        self.answer(sign, "Could the relay's own administrator have changed it unseen?", &words);
        put!(self, "</dl>");
        self.end();
    }

    pub(super) fn answer(&mut self, sign: Sign, question: &str, words: &str) {
        let (class, mark, spoken) = match sign {
            Sign::Yes => ("yes", "✓", "good"),
            Sign::No => ("no", "!", "attention"),
            Sign::Open => ("open", "?", "with limits"),
        };
        put!(
            self,
            "<div><span class=\"sign {class}\" role=\"img\" aria-label=\"{spoken}\">{mark}</span><dt>{question}</dt>\
             <dd>{words}</dd></div>"
        );
    }

    pub(super) fn coverage(&mut self) {
        self.section("coverage");
        put!(
            self,
            "<p>The back end numbers each change of a license. What this log knows begins with the first number that a \
             deployment stood at when it asked through this relay; holders before that are not known to this log, which \
             is not the same as none.</p>"
        );
        let licenses = &self.page.licenses;
        let rows = licenses.rows.iter().take(LICENSES).map(|License { license, coverage, .. }| {
            vec![
                mono(license),
                coverage.first_seen.map(time).unwrap_or_else(none),
                match coverage.known_from {
                    Some(0) => "0, the beginning".into(),
                    Some(from) => count(from),
                    None => "<span class=\"none\">not known</span>".into(),
                },
                coverage.complete_to.map(count).unwrap_or_else(none),
                coverage.newest.map(count).unwrap_or_else(none),
                match coverage.holes.total {
                    0 => "0".into(),
                    holes => format!("<span class=\"bad\">{}</span>", count(holes)),
                },
                match coverage.not_understood {
                    0 => "0".into(),
                    bodies => format!("<span class=\"bad\">{}</span>", count(bodies)),
                },
                match (&coverage.opening, coverage.known_from) {
                    (Some(opening), _) => format!(
                        "{} from {}, <b>unsigned</b>",
                        plural(opening.holders, "holder", "holders"),
                        bdi(&opening.file)
                    ),
                    (None, Some(0)) => "nothing before".into(),
                    (None, _) => "not known to this log".into(),
                },
            ]
        });
        let columns = [
            ("License", W),
            ("First seen", T),
            ("Known from version", N),
            ("Nothing missing up to", N),
            ("Newest told", N),
            ("Holes", N),
            ("Not understood", N),
            ("Before that", W),
        ];
        self.table("What is known of each license", &columns, rows);
        self.more(licenses.total, LICENSES, ("license", "licenses"));
        for License { license, coverage, .. } in licenses.rows.iter().take(LICENSES) {
            if coverage.holes.total == 0 {
                continue;
            }
            put!(self, "<h3>Holes in {} (inferred)</h3>", mono(license));
            put!(
                self,
                "<p>Nothing recorded these: a deployment came back with a higher number than the last reply through this \
                 relay, so the versions between went around it, or were never told.</p>"
            );
            let rows = coverage.holes.rows.iter().take(HOLES).map(|hole| {
                vec![
                    count(hole.from),
                    count(hole.to),
                    count(hole.to.saturating_sub(hole.from).saturating_add(1)),
                    time(hole.noticed),
                ]
            });
            let columns = [("From version", N), ("To", N), ("Versions", N), ("Noticed", T)];
            self.table(&format!("Versions of {license} that are missing"), &columns, rows);
            self.more(coverage.holes.total, HOLES, ("hole", "holes"));
        }
        self.end();
    }
}
