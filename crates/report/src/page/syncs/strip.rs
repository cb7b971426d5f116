//! The strip of syncs: a row for each source, time from left to right in cells of equal length.

use std::collections::HashMap;
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use plotters::element::{PathElement, Rectangle, Text};
use plotters::style::Color;
use plotters_backend::text_anchor::{HPos, VPos};

use super::gaps::GapKind;
use crate::fold::gaps::gap::{FoundGaps, Gap};
use crate::input::deployment_names::DeploymentNames;
use crate::page::charts::axis::{Width, moments};
use crate::page::charts::marks::{filled, key, text};
use crate::page::charts::{Caption, drawn};
use crate::page::html::Html;
use crate::page::svg::{FINE, Ink};
use crate::page::{KnownPeriod, Truncated};
use relay_log::text::number::{count, plural, short};

/// Sources in the strip.
pub const STRIP_SOURCES: usize = 40;
/// Cells of one source.
const CELLS: usize = 400;
/// From few to all of the syncs that a cell could have.
const HEATS: [Ink; 4] = [Ink::Heat1, Ink::Heat2, Ink::Heat3, Ink::Heat4];

/// Syncs of each source in cells of equal length.
#[derive(Clone, Debug)]
pub struct Syncs {
    /// Where the first cell begins: a full hour or a day, UTC.
    pub from: Timestamp,
    /// The length of a cell.
    pub hours: u32,
    /// The sources, those with the most minutes of gaps first; at most [`STRIP_SOURCES`].
    pub sources: Truncated<Strip>,
    /// How many of all sources have gaps.
    pub with_gaps: u64,
}

/// One source's row.
#[derive(Clone, Debug)]
pub struct Strip {
    /// Source id.
    pub source: String,
    /// The name that the allow-list has for it; may be empty.
    pub name: String,
    /// Its cells, the first at [`Syncs::from`].
    pub cells: Vec<StripCell>,
}

/// A stretch of time of one source.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StripCell {
    /// Syncs that were answered in it.
    pub syncs: u32,
    /// The kind of gap that takes most of it, if any gap touches it.
    pub gap: Option<GapKind>,
    /// Minutes of it within gaps.
    pub gap_minutes: u32,
}

/// The strip of a period; `None` where there was no sync, or nothing of the period is known.
pub(in crate::page) fn of(found: &FoundGaps, period: KnownPeriod, called: &DeploymentNames) -> Option<Syncs> {
    found.strip.span().filter(|_| !period.is_unknown())?;
    let (from, to) = (period.from, period.to);
    let unit = found.strip.seconds();
    let (first, last) = (from.as_second().div_euclid(unit), to.as_second().div_euclid(unit));
    let together = units_of_a_cell(last - first);
    let cells = usize::try_from((last - first) / together + 1).ok()?.min(CELLS);
    let begin = Timestamp::from_second(first * unit).unwrap_or(from);
    let mut missing: HashMap<&str, i64> = HashMap::new();
    for gap in found.gaps.iter().filter(|gap| gap.from <= to && gap.to >= from) {
        *missing.entry(&*gap.source).or_default() += gap.minutes;
    }
    let mut order: Vec<(usize, &str)> =
        found.sources.iter().enumerate().map(|(number, (source, _))| (number, &**source)).collect();
    order.sort_by_key(|(_, source)| (std::cmp::Reverse(missing.get(source).copied().unwrap_or(0)), *source));
    order.dedup_by_key(|(_, source)| *source);
    let total = order.len() as u64;
    let length = SignedDuration::from_secs(unit * together);
    let rows = order.into_iter().take(STRIP_SOURCES).map(|(number, source)| {
        let mut row = vec![StripCell::default(); cells];
        for (at, syncs) in found.strip.row(number) {
            let cell = (at >= first).then(|| usize::try_from((at - first) / together).ok()).flatten();
            if let Some(cell) = cell.and_then(|cell| row.get_mut(cell)) {
                cell.syncs = cell.syncs.saturating_add(syncs);
            }
        }
        for gap in found.gaps.iter().filter(|gap| *gap.source == *source) {
            mark(&mut row, gap, begin, length);
        }
        Strip { source: source.to_owned(), name: called.name(source).unwrap_or_default(), cells: row }
    });
    let sources = Truncated { rows: rows.collect(), total };
    let hours = u32::try_from(unit * together / 3600).unwrap_or(u32::MAX);
    Some(Syncs { from: begin, hours, sources, with_gaps: missing.len() as u64 })
}

/// How many hours or days are put together as one cell, where a period has so many more than one.
fn units_of_a_cell(units: i64) -> i64 {
    (units / CELLS as i64 + 1).max(1)
}

/// Marks the cells that a gap touches, each with the kind that takes most of it.
fn mark(row: &mut [StripCell], gap: &Gap, begin: Timestamp, length: SignedDuration) {
    let Some(kind) = GapKind::of(gap.kind) else { return };
    let seconds = length.as_secs().max(1);
    let place = |time: Timestamp| time.duration_since(begin).as_secs().div_euclid(seconds);
    for at in place(gap.from).max(0)..=place(gap.to).min(row.len() as i64 - 1) {
        let start = later(begin, SignedDuration::from_secs(at * seconds));
        let inside = gap.to.min(later(start, length)).duration_since(gap.from.max(start)).as_mins();
        let (Ok(minutes), Ok(index)) = (u32::try_from(inside), usize::try_from(at)) else { continue };
        let Some(cell) = row.get_mut(index) else { continue };
        if minutes > cell.gap_minutes || cell.gap.is_none() {
            cell.gap = Some(kind);
        }
        cell.gap_minutes = cell.gap_minutes.saturating_add(minutes);
    }
}

/// Times of a log may be any.
fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

pub(super) fn draw(html: &mut Html<'_>) {
    let Some(syncs) = &html.page.syncs else { return };
    let cell = match syncs.hours {
        1 => "an hour".to_owned(),
        24 => "a day".to_owned(),
        hours if hours % 24 == 0 => format!("{} days", hours / 24),
        hours => format!("{hours} hours"),
    };
    let sources = &syncs.sources;
    let caption = format!(
        "{}, {} of them with gaps. A cell is {cell}.",
        plural(sources.total, "source", "sources"),
        count(syncs.with_gaps)
    );
    let words = Caption { id: "syncs", title: "Syncs of each source over time", description: &caption };
    put!(html, "<figure>");
    for width in [Width::Wide, Width::Narrow] {
        html.out.push_str(&chart(syncs, width, words).unwrap_or_default());
    }
    put!(html, "<ul class=\"keys\"><li>");
    for ink in HEATS {
        put!(html, "{}", key(ink, false));
    }
    put!(html, "few to all of its syncs</li>");
    for kind in GapKind::ALL {
        if sources.rows.iter().flat_map(|strip| &strip.cells).any(|cell| cell.gap == Some(kind)) {
            put!(html, "<li>{}{}</li>", key(ink(kind), false), kind.name());
        }
    }
    put!(
        html,
        "<li>blank: not heard of yet</li></ul><figcaption>{caption} The higher a gap's pattern, the larger its share of \
         the cell; it is never lower than a third. Sources with the longest gaps come first."
    );
    let listed = sources.shown(STRIP_SOURCES);
    let hidden = sources.total.saturating_sub(listed);
    if hidden > 0 {
        put!(
            html,
            " {} not shown, {} of them with gaps.",
            plural(hidden, "source is", "sources are"),
            count(syncs.with_gaps.saturating_sub(listed))
        );
    }
    put!(html, "</figcaption></figure>");
}

/// The darker a cell, the more of its source's syncs came; a gap stands in it as a pattern of its kind, as high as its
/// share of the cell, but never lower than a third. `None` where there is none.
fn chart(syncs: &Syncs, width: Width, words: Caption<'_>) -> Option<String> {
    const ROW: i32 = 15;
    const TOP: i32 = 4;
    const AXIS: i32 = 22;
    let sources = &syncs.sources.rows[..syncs.sources.rows.len().min(STRIP_SOURCES)];
    let cells = sources.iter().map(|strip| strip.cells.len()).max().filter(|cells| *cells > 0)?;
    let height = TOP + ROW * i32::try_from(sources.len()).ok()? + AXIS;
    drawn(width, height, words, |area| {
        let left = if width == Width::Narrow { 96 } else { 170 } * FINE;
        let right = (width.pixels() - 8) * FINE;
        let at = |cell: f64| left + ((f64::from(right - left)) * cell / cells as f64).round() as i32;
        let bottom = (height - AXIS) * FINE;

        let seconds = i64::from(syncs.hours) * 3600 * cells as i64;
        let end = syncs.from.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(syncs.from);
        for (time, label) in moments(syncs.from, end, width.dates()) {
            let x = at(time.duration_since(syncs.from).as_secs_f64() / f64::from(syncs.hours) / 3600.0);
            area.draw(&PathElement::new(vec![(x, 0), (x, bottom + 4 * FINE)], Ink::Grid))?;
            if x < right - 16 * FINE {
                let style = text(Ink::Label, HPos::Left, VPos::Top);
                area.draw(&Text::new(label, (x, bottom + 7 * FINE), style))?;
            }
        }
        let (mut heats, mut gaps) = ([const { Vec::new() }; HEATS.len()], Vec::new());
        for (row, strip) in sources.iter().enumerate() {
            let y = (TOP + ROW * row as i32) * FINE;
            let name = match (strip.name.as_str(), width) {
                ("", Width::Narrow) => short(&strip.source, 9),
                ("", _) => short(&strip.source, 18),
                (name, Width::Narrow) => short(name, 12),
                (name, _) => short(name, 23),
            };
            let style = text(Ink::Label, HPos::Left, VPos::Center);
            area.draw(&Text::new(name, (0, y + ROW * FINE / 2), style))?;
            let (upper, lower) = (y + 3 * FINE / 2, y + (ROW * 2 - 3) * FINE / 2);
            for (from, to, level) in runs(&strip.cells, |cell| heat(*cell, syncs.hours)) {
                heats[level].push(((at(from), upper), (at(to), lower)));
            }
            for (from, to, (kind, share)) in runs(&strip.cells, |cell| gap(*cell, syncs.hours)) {
                let high = (lower - upper) * share / 3;
                let (x0, x1) = (at(from), at(to).max(at(from) + 2 * FINE));
                gaps.push((kind, (x0, lower - high), (x1, lower)));
            }
        }
        // Ink by ink, so that each is one path.
        for (ink, cells) in HEATS.into_iter().zip(heats) {
            for (from, to) in cells {
                area.draw(&Rectangle::new([from, to], ink.filled()))?;
            }
        }
        for kind in GapKind::ALL {
            let of = || gaps.iter().filter(|gap| gap.0 == kind).map(|gap| (gap.1, gap.2));
            filled(area, ink(kind), of)?;
        }
        area.draw(&PathElement::new(vec![(left, bottom), (right, bottom)], Ink::Axis))
    })
}

fn ink(kind: GapKind) -> Ink {
    match kind {
        GapKind::RelayDown => Ink::Down,
        GapKind::Refused => Ink::Refused,
        GapKind::Failing => Ink::Failing,
        GapKind::Silent => Ink::Silent,
        GapKind::Around => Ink::Around,
        GapKind::NotWritten => Ink::NotWritten,
    }
}

/// A quarter of the syncs that a cell could have in the rhythm of ten minutes, from 0; `None`: none came.
fn heat(cell: StripCell, hours: u32) -> Option<usize> {
    let most = u64::from(hours) * 6;
    (cell.syncs > 0).then(|| usize::try_from((u64::from(cell.syncs) * 4 / most.max(1)).min(3)).unwrap_or(3))
}

/// A gap and its share of the cell in thirds, from 1.
fn gap(cell: StripCell, hours: u32) -> Option<(GapKind, i32)> {
    let share = (u64::from(cell.gap_minutes) * 3).div_ceil(u64::from(hours) * 60).clamp(1, 3);
    cell.gap.map(|kind| (kind, i32::try_from(share).unwrap_or(3)))
}

/// Neighbours of which the same can be said, as one.
fn runs<T: Copy + PartialEq>(
    cells: &[StripCell],
    of: impl Fn(&StripCell) -> Option<T>,
) -> Vec<(f64, f64, T)> {
    let mut runs: Vec<(f64, f64, T)> = Vec::new();
    for (n, value) in cells.iter().map(of).enumerate() {
        let Some(value) = value else { continue };
        match runs.last_mut() {
            Some((_, to, last)) if *to == n as f64 && *last == value => *to += 1.0,
            _ => runs.push((n as f64, n as f64 + 1.0, value)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_period_has_more_cells_than_the_strip_has_room_for() {
        for units in [0, 1, 24, 240, 399, 400, 401, 798, 799, 800, 1440, 1441, 3650, 24 * 3650] {
            let together = units_of_a_cell(units);
            assert!(units / together < CELLS as i64, "{units} units: {together} in a cell");
        }
    }
}
