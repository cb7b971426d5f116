//! Section "What this log can't claim": deployments that said something that is not understood. The report can't speak
//! for what they said.

use std::fmt::Write as _;

use super::html::cells::{bdi, mono, none, time};
use super::html::{Html, N, T, W};
use super::{Section, Truncated};
use crate::fold::not_understood::{NotUnderstood, Unread, Who};
use relay_log::text::number::{count, plural};

/// Deployments listed.
const DEPLOYMENTS: usize = 20;

pub(super) const SECTION: Section = Section {
    class: "claim",
    is_on: |page| page.not_understood.total > 0,
    ..Section::new("not-understood", "What this log can't claim", draw)
};

/// Those with the most bodies first.
pub(super) fn listed(all: NotUnderstood) -> Truncated<(Who, Unread)> {
    let mut rows: Vec<(Who, Unread)> = all.by.into_iter().collect();
    rows.sort_by_key(|(_, unread)| std::cmp::Reverse(unread.count));
    Truncated::first(DEPLOYMENTS, rows, 0)
}

fn draw(html: &mut Html<'_>) {
    let listed = &html.page.not_understood;
    put!(
        html,
        "<p><b>{} said something in this log that is not understood.</b> What they said there is recorded by its \
         shape, not by its meaning: assignments and consumption in it are missing from everything below.</p>",
        plural(listed.total, "deployment", "deployments")
    );
    let rows = listed.rows.iter().take(DEPLOYMENTS).map(|(who, unread)| {
        let (Who::Source(who) | Who::License(who) | Who::Address(who)) = who;
        vec![
            mono(who),
            bdi(unread.user_agent.as_deref().unwrap_or_default()),
            unread.license.as_deref().map(mono).unwrap_or_else(none),
            count(unread.count),
            time(unread.first),
            time(unread.last),
        ]
    });
    let columns = [("Source", W), ("Product", W), ("License", W), ("Bodies", N), ("First", T), ("Last", T)];
    html.table("Bodies that are not understood, by deployment", &columns, rows);
    html.more(listed.total, DEPLOYMENTS, ("deployment", "deployments"));
}
