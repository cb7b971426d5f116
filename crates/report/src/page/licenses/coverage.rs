//! Section "How far it is known": of each license the versions that this log can speak for, and the holes in them.

use std::fmt::Write as _;

use super::{LICENSES, License};
use crate::page::Section;
use crate::page::html::cells::{bdi, mono, none, not_known, time};
use crate::page::html::{Html, N, T, W};
use relay_log::text::number::{count, plural};

/// Holes in the versions of one license.
const HOLES: usize = 20;

pub(crate) const SECTION: Section = Section::new("coverage", "How far it is known", draw);

fn draw(html: &mut Html<'_>) {
    put!(
        html,
        "<p>The back end numbers each change of a license. What this log knows begins with the first number that a \
         deployment stood at when it asked through this relay; holders before that are not known to this log, which \
         is not the same as none.</p>"
    );
    let bad = |number: u64| match number {
        0 => "0".into(),
        number => format!("<span class=\"bad\">{}</span>", count(number)),
    };
    let licenses = &html.page.licenses;
    let rows = licenses.rows.iter().take(LICENSES).map(|License { coverage, opening, .. }| {
        vec![
            mono(&coverage.license),
            coverage.first_seen.map(time).unwrap_or_else(none),
            match coverage.known_from {
                Some(0) => "0, the beginning".into(),
                Some(from) => count(from),
                None => not_known(),
            },
            coverage.complete_to.map(count).unwrap_or_else(none),
            coverage.newest.map(count).unwrap_or_else(none),
            bad(coverage.holes.len() as u64),
            bad(coverage.not_understood),
            match (opening, coverage.known_from) {
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
    html.table("What is known of each license", &columns, rows);
    html.more(licenses.total, LICENSES, ("license", "licenses"));
    for License { coverage, .. } in licenses.rows.iter().take(LICENSES) {
        if coverage.holes.is_empty() {
            continue;
        }
        put!(html, "<h3>Holes in {} (inferred)</h3>", mono(&coverage.license));
        put!(
            html,
            "<p>Nothing recorded these: a deployment came back with a higher number than the last reply through this \
             relay, so the versions between went around it, or were never told.</p>"
        );
        let rows = coverage.holes.iter().take(HOLES).map(|hole| {
            vec![
                count(hole.from),
                count(hole.to),
                count(hole.to.saturating_sub(hole.from).saturating_add(1)),
                time(hole.noticed),
            ]
        });
        let columns = [("From version", N), ("To", N), ("Versions", N), ("Noticed", T)];
        html.table(&format!("Versions of {} that are missing", coverage.license), &columns, rows);
        html.more(coverage.holes.len() as u64, HOLES, ("hole", "holes"));
    }
}
