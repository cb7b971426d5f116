//! What went through the relay, and what did not: syncs and gaps, consumption, deployments, refusals, the clock.

use std::fmt::Write as _;

use super::cells::*;
use super::summary::consumption_said;
use super::{Html, N, T, W};
use crate::page::charts::axis::Width;
use crate::page::charts::marks::{gap_ink, key};
use crate::page::charts::{self, KINDS, Words};
use crate::page::svg::Ink;
use crate::page::*;
use relay_log::text::escape::escape;
use relay_log::text::number::{count, duration, number, plural};

/// Charts of consumption.
const CONSUMPTION_CHARTS: usize = 12;

impl Html<'_> {
    pub(super) fn syncs(&mut self) {
        self.section("syncs");
        put!(
            self,
            "<p>A deployment syncs every ten minutes. More than 25 minutes between two answers is a gap; its kind says \
             where it lies.</p>"
        );
        if let Some(syncs) = &self.page.syncs {
            let cell = match syncs.hours {
                1 => "an hour".to_owned(),
                24 => "a day".to_owned(),
                hours if hours % 24 == 0 => format!("{} days", hours / 24),
                hours => format!("{hours} hours"),
            };
            let sources = &syncs.sources;
            let said = format!(
                "{}, {} of them with gaps. A cell is {cell}.",
                plural(sources.total, "source", "sources"),
                count(syncs.with_gaps)
            );
            let words = Words { id: "syncs", title: "Syncs of each source over time", description: &said };
            put!(self, "<figure>");
            for width in [Width::Wide, Width::Narrow] {
                self.out.push_str(&charts::strip(syncs, width, words).unwrap_or_default());
            }
            put!(
                self,
                "<ul class=\"keys\"><li>{}{}{}{}few to all of its syncs</li>",
                key(Ink::Heat1, false),
                key(Ink::Heat2, false),
                key(Ink::Heat3, false),
                key(Ink::Heat4, false)
            );
            for kind in KINDS {
                if sources.rows.iter().flat_map(|strip| &strip.cells).any(|cell| cell.gap == Some(kind)) {
                    put!(self, "<li>{}{}</li>", key(gap_ink(kind), false), kind_name(kind));
                }
            }
            put!(
                self,
                "<li>blank: not heard of yet</li></ul><figcaption>{said} The higher a gap's pattern, the larger its share of \
                 the cell; it is never lower than a third. Sources with the longest gaps come first."
            );
            let hidden = sources.total - shown(sources, STRIP_SOURCES).min(sources.total);
            if hidden > 0 {
                let listed = shown(sources, STRIP_SOURCES);
                put!(
                    self,
                    " {} not shown, {} of them with gaps.",
                    plural(hidden, "source is", "sources are"),
                    count(syncs.with_gaps.saturating_sub(listed))
                );
            }
            put!(self, "</figcaption></figure>");
        }
        let rows = self.page.gap_sums.iter().map(|sum| {
            vec![
                kind_name(sum.kind).into(),
                kind_means(sum.kind).into(),
                count(sum.gaps),
                duration(sum.minutes),
            ]
        });
        let columns = [("Kind", W), ("Which means", W), ("Gaps", N), ("Time in all", N)];
        if self.page.gap_sums.is_empty() {
            self.instead("There is no gap in this period.");
        } else {
            self.table("Gaps by kind", &columns, rows);
            put!(self, "<h3>Each gap</h3>");
            let gaps = &self.page.gaps;
            let rows = gaps.rows.iter().take(GAPS).map(gap_row);
            let columns = [
                ("From", T),
                ("To", T),
                ("Length", N),
                ("Kind", W),
                ("Source and license", W),
                ("Of that", W),
            ];
            self.table("Gaps, newest first", &columns, rows);
            self.rest(gaps, GAPS, ("gap", "gaps"), "gaps");
        }
        self.end();
    }

    pub(super) fn consumption(&mut self) {
        self.section("consumption");
        let all = &self.page.consumption;
        if all.is_empty() {
            self.instead("No consumption was reported in this period.");
            self.end();
            return;
        }
        put!(
            self,
            "<p>In the back end's own unit. The lower bound is what was reported and confirmed; reports whose outcome is \
             not known come on top of it. The total is the largest that the back end told.</p>\
             <ul class=\"keys\"><li>{}confirmed</li><li>{}outcome not known</li><li>{}the back end's total</li><li>{}quota</li></ul>\
             <div class=\"pair\">",
            key(Ink::Low, false),
            key(Ink::High, false),
            key(Ink::Total, false),
            key(Ink::Cap, true)
        );
        for (n, one) in all.iter().take(CONSUMPTION_CHARTS).enumerate() {
            let said = consumption_said(one);
            let words = Words {
                id: &format!("consumption{n}"),
                title: &format!("Consumption of {} of license {} by month", one.allotment, one.license),
                description: &said,
            };
            let chart = charts::consumption(one, words).unwrap_or_default();
            put!(
                self,
                "<figure><h4>{} <span class=\"soft mono\">{}</span></h4>{chart}<figcaption>{}</figcaption></figure>",
                bdi(&one.allotment),
                escape(&one.license),
                escape(&said)
            );
        }
        put!(self, "</div>");
        let rows = all.iter().take(CONSUMPTION_CHARTS).flat_map(|one| {
            charts::newest(&one.months).iter().rev().map(move |month| {
                let total = |low: f64| month.total.map_or_else(none, |total| number(total - low));
                vec![
                    month.month.strftime("%Y-%m").to_string(),
                    mono(&one.license),
                    bdi(&one.allotment),
                    number(month.low),
                    number(month.high),
                    month.total.map_or_else(none, number),
                    total(month.low),
                    total(month.high),
                    month.quota.map_or_else(|| "<span class=\"none\">not known</span>".into(), number),
                ]
            })
        });
        let columns = [
            ("Month", T),
            ("License", W),
            ("Allotment", W),
            ("Confirmed", N),
            ("At most", N),
            ("Back end's total", N),
            ("Difference", N),
            ("At least", N),
            ("Quota", N),
        ];
        self.table("The same as numbers, newest first", &columns, rows);
        self.more_than(
            all.len() as u64,
            all.len().min(CONSUMPTION_CHARTS) as u64,
            ("allotment", "allotments"),
        );
        self.end();
    }

    pub(super) fn deployments(&mut self) {
        self.section("deployments");
        let listed = &self.page.deployments;
        let rows = listed.rows.iter().take(DEPLOYMENTS).map(|one| {
            let name = if one.name.is_empty() { String::new() } else { format!("{}<br>", bdi(&one.name)) };
            let addresses: Vec<_> = one.addresses.iter().map(|address| mono(address)).collect();
            let product =
                if one.product.is_empty() { String::new() } else { format!("{}<br>", bdi(&one.product)) };
            vec![
                format!("{name}{}", mono(&one.source)),
                mono(&one.license),
                format!("{product}{}", addresses.join(" ")),
                format!("{}<br>{}", time(one.first_seen), time(one.last_seen)),
                count(one.syncs),
                format!("+{} −{}", count(one.adds), count(one.deletes)),
                one.last_consumption.map(time).unwrap_or_else(none),
            ]
        });
        let columns = [
            ("Source", W),
            ("License", W),
            ("Product, addresses", W),
            ("First and last seen", T),
            ("Syncs", N),
            ("Asked", N),
            ("Last consumption", T),
        ];
        if listed.total == 0 {
            self.instead("No deployment was seen.");
        } else {
            self.table("Deployments by license, newest seen first", &columns, rows);
        }
        self.rest(listed, DEPLOYMENTS, ("deployment", "deployments"), "deployments");
        self.end();
    }

    pub(super) fn denied(&mut self) {
        self.section("denied");
        let listed = &self.page.denied;
        if listed.total == 0 {
            self.instead("Nothing was refused in this period.");
            self.end();
            return;
        }
        let rows = listed.rows.iter().take(DENIED).map(|one| {
            vec![
                count(one.count),
                escape(&one.action).into_owned(),
                bdi(&one.reason),
                mono(&one.address),
                one.source.as_deref().map(mono).unwrap_or_else(none),
                time(one.first),
                time(one.last),
            ]
        });
        let columns =
            [("Times", N), ("What", W), ("Why", W), ("Address", W), ("Source", W), ("First", T), ("Last", T)];
        self.table("Refusals, most often first", &columns, rows);
        self.rest(listed, DENIED, ("kind of refusal", "kinds of refusal"), "denied");
        self.end();
    }

    pub(super) fn clock(&mut self) {
        self.section("clock");
        match &self.page.clock {
            Some(clock) => {
                let way = if clock.ahead >= 0.0 { "ahead of" } else { "behind" };
                put!(
                    self,
                    "<p>At most <b>{:.0} s</b> {way} the back end's, on {}; {} told its time, in whole seconds. Times on this \
                     page are the relay's.</p>",
                    clock.ahead.abs(),
                    time(clock.at),
                    plural(clock.replies, "reply", "replies")
                );
            }
            None => {
                self.instead(
                    "No reply that was looked at told the back end's time: times on this page are the relay's alone.",
                );
            }
        }
        self.end();
    }
}

fn gap_row(gap: &Gap) -> Vec<String> {
    let minutes = gap.to.duration_since(gap.from).as_mins().max(0).unsigned_abs();
    let kind = kind_name(gap.kind);
    let mut parts: Vec<String> = Vec::new();
    if gap.parts.len() > 1 {
        parts.extend(
            gap.parts.iter().map(|(kind, minutes)| format!("{} {}", kind_name(*kind), duration(*minutes))),
        );
    }
    if let Some(exchanges) = gap.exchanges {
        parts.push(plural(exchanges, "exchange", "exchanges"));
    }
    if gap.inferred && gap.kind != GapKind::Around {
        parts.push("inferred".into());
    }
    vec![
        time(gap.from),
        if gap.ongoing { "ongoing".into() } else { time(gap.to) },
        duration(minutes),
        kind.into(),
        if gap.source.is_empty() { none() } else { stacked(&gap.source, gap.license.as_deref()) },
        parts.join(", "),
    ]
}
