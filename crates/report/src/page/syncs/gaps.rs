//! The gaps in the rhythm of sources, and those that the log itself tells of: summed by kind, and one by one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;

use crate::fold::gaps::gap::{FoundGaps, Gap, GapCause, Unwritten};
use crate::page::html::cells::{mono, none, time};
use crate::page::html::{Html, N, T, W};
use crate::page::{KnownPeriod, Truncated};
use relay_log::text::number::{count, duration, plural};

/// Gaps listed.
const GAPS: usize = 100;

/// Why nothing was heard.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum GapKind {
    /// The relay did not run.
    RelayDown,
    /// The source was refused or limited.
    Refused,
    /// The back end, or the way to it, failed.
    Failing,
    /// The source did not come.
    Silent,
    /// Inferred: the source was told something that did not come through here.
    Around,
    /// The relay passed exchanges on that it could not write down (`audit.gap`).
    NotWritten,
}

impl GapKind {
    /// All, in the order in which they are drawn and listed.
    pub(super) const ALL: [Self; 6] =
        [Self::RelayDown, Self::Refused, Self::Failing, Self::Silent, Self::Around, Self::NotWritten];

    /// `None` where a source was only waiting for its next turn.
    pub(super) fn of(cause: GapCause) -> Option<Self> {
        match cause {
            GapCause::RelayDown => Some(Self::RelayDown),
            GapCause::Refused => Some(Self::Refused),
            GapCause::Failing => Some(Self::Failing),
            GapCause::Silent => Some(Self::Silent),
            GapCause::Around => Some(Self::Around),
            GapCause::Waiting => None,
        }
    }

    /// As the page calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RelayDown => "relay down",
            Self::Refused => "refused or limited",
            Self::Failing => "back end failing",
            Self::Silent => "source silent",
            Self::Around => "around the relay (inferred)",
            Self::NotWritten => "not written down",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::RelayDown => "the relay did not run, so nothing went through it",
            Self::Refused => "the source came and was turned away",
            Self::Failing => "the source came, the back end or the way to it did not answer",
            Self::Silent => "the source did not come",
            Self::Around => "the source came back with a version that it was not told through this relay",
            Self::NotWritten => "exchanges went through that the relay could not write down",
        }
    }
}

/// One gap.
#[derive(Clone, Debug)]
pub enum ListedGap {
    /// Between two answered syncs of a source, or since its last one.
    Rhythm(Gap),
    /// What the log says is not in it.
    NotWritten(Unwritten),
}

impl ListedGap {
    fn from(&self) -> Timestamp {
        match self {
            Self::Rhythm(gap) => gap.from,
            Self::NotWritten(gap) => gap.first,
        }
    }
}

/// All gaps of a kind.
#[derive(Clone, Copy, Debug)]
pub struct GapSum {
    /// Which.
    pub kind: GapKind,
    /// How many gaps are mostly this.
    pub gaps: u64,
    /// Minutes of this kind in all gaps.
    pub minutes: u64,
}

/// The gaps that touch the period, newest first, and their sums; none where nothing of the period is known.
pub(in crate::page) fn listed(found: &FoundGaps, period: KnownPeriod) -> (Truncated<ListedGap>, Vec<GapSum>) {
    if period.is_unknown() {
        return Default::default();
    }
    let touches = |from: Timestamp, to: Timestamp| from <= period.to && to >= period.from;
    let mut sums: BTreeMap<GapKind, (u64, u64)> = BTreeMap::new();
    let mut rows = Vec::new();
    for gap in found.gaps.iter().filter(|gap| touches(gap.from, gap.to)) {
        for (kind, minutes) in parts(gap) {
            sums.entry(kind).or_default().1 += minutes;
        }
        let Some(kind) = GapKind::of(gap.kind) else { continue };
        sums.entry(kind).or_default().0 += 1;
        rows.push(ListedGap::Rhythm(gap.clone()));
    }
    for gap in found.unwritten.iter().filter(|gap| touches(gap.first, gap.last)) {
        let sum = sums.entry(GapKind::NotWritten).or_default();
        sum.0 += 1;
        sum.1 += u64::try_from(gap.last.duration_since(gap.first).as_mins()).unwrap_or(0);
        rows.push(ListedGap::NotWritten(gap.clone()));
    }
    rows.sort_by_key(|gap| std::cmp::Reverse(gap.from()));
    let sums = sums.into_iter().map(|(kind, (gaps, minutes))| GapSum { kind, gaps, minutes }).collect();
    (Truncated::first(GAPS, rows, found.beyond), sums)
}

/// The minutes of a gap by kind, those that are not 0; what is left is waiting in the rhythm.
fn parts(gap: &Gap) -> Vec<(GapKind, u64)> {
    let minutes = gap.parts.all().map(|minutes| u64::try_from(minutes).unwrap_or(0));
    let causes = GapCause::ALL.into_iter().zip(minutes).filter(|(_, minutes)| *minutes > 0);
    causes.filter_map(|(cause, minutes)| Some((GapKind::of(cause)?, minutes))).collect()
}

pub(super) fn draw(html: &mut Html<'_>) {
    let sums = &html.page.gap_sums;
    if sums.is_empty() {
        html.instead("There is no gap in this period.");
        return;
    }
    let rows = sums.iter().map(|sum| {
        vec![sum.kind.name().into(), sum.kind.meaning().into(), count(sum.gaps), duration(sum.minutes)]
    });
    let columns = [("Kind", W), ("Which means", W), ("Gaps", N), ("Time in all", N)];
    html.table("Gaps by kind", &columns, rows);
    put!(html, "<h3>Each gap</h3>");
    let gaps = &html.page.gaps;
    let rows = gaps.rows.iter().take(GAPS).map(row);
    let columns =
        [("From", T), ("To", T), ("Length", N), ("Kind", W), ("Source and license", W), ("Of that", W)];
    html.table("Gaps, newest first", &columns, rows);
    html.rest(gaps, GAPS, ("gap", "gaps"), "gaps");
}

fn row(gap: &ListedGap) -> Vec<String> {
    let length =
        |from: Timestamp, to: Timestamp| duration(to.duration_since(from).as_mins().max(0).unsigned_abs());
    match gap {
        ListedGap::Rhythm(gap) => {
            let kind = GapKind::of(gap.kind);
            let parts = parts(gap);
            let mut of_that: Vec<String> = Vec::new();
            if parts.len() > 1 {
                of_that.extend(
                    parts.iter().map(|(kind, minutes)| format!("{} {}", kind.name(), duration(*minutes))),
                );
            }
            if gap.inferred && kind != Some(GapKind::Around) {
                of_that.push("inferred".into());
            }
            vec![
                time(gap.from),
                if gap.ongoing { "ongoing".into() } else { time(gap.to) },
                length(gap.from, gap.to),
                kind.map(GapKind::name).unwrap_or_default().into(),
                source_and_license(&gap.source, &gap.license),
                of_that.join(", "),
            ]
        }
        ListedGap::NotWritten(gap) => vec![
            time(gap.first),
            time(gap.last),
            length(gap.first, gap.last),
            GapKind::NotWritten.name().into(),
            none(),
            plural(gap.count, "exchange", "exchanges"),
        ],
    }
}

/// A source id, and below it the license that it is about.
fn source_and_license(source: &str, license: &str) -> String {
    match (source, license) {
        ("", _) => none(),
        (source, "") => mono(source),
        (source, license) => format!("{}<br>{}", mono(source), mono(license)),
    }
}
