//! The charts of the report page, as inline SVG: assignments over time, use against entitlement, syncs per source, and
//! consumption by month.
//!
//! Each is readable without colour (dashes, hatches, marks, labels beside what they name), and says in its `<title>` and
//! `<desc>` what it shows; the page has the same numbers as a table or a sentence. Long periods are thinned, and what is
//! thinned keeps its highest and lowest values.

pub mod axis;
pub mod marks;

use jiff::SignedDuration;
use plotters::drawing::IntoDrawingArea;
use plotters::element::{PathElement, Polygon, Rectangle, Text};
use plotters::style::Color;
use plotters_backend::text_anchor::{HPos, VPos};

use super::svg::{Canvas, FINE, Ink};
use super::{Allotment, Cell, Consumption, Day, GapKind, License, MONTHS, Month, STRIP_SOURCES, Syncs};
use axis::{Area, Failed, Keep, POINTS, Span, Width, after, before, between, frame, moments, span, stepped};
use marks::{HEATS, Side, beside, diamond, filled, gap_ink, heat, mark, text, triangle};
use relay_log::text::escape::escape;
use relay_log::text::number::{count, number, short};

/// Lines in the chart of assignments; further allotments are in its table only.
pub const LINES: usize = 6;
/// Bars that have their number written on top.
const NUMBERED: usize = 7;

/// What a chart says of itself to those who can't see it.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// Its id on the page, a word; the ids of its parts begin with it.
    pub id: &'a str,
    /// What it is.
    pub title: &'a str,
    /// What is to be seen in it, with the numbers that count.
    pub description: &'a str,
}

/// Assignments at the end of each day by allotment, at most [`LINES`] of them, a label at the end of each line. `None`
/// where there are none.
pub fn assignments(license: &License, width: Width, words: Words<'_>) -> Option<String> {
    let shown = largest(license);
    let (from, to) = span(shown.iter().flat_map(|allotment| &allotment.days))?;
    drawn(width, 240, words, |area| {
        let most = shown.iter().flat_map(|a| &a.days).map(|day| day.at_end).max().unwrap_or(0);
        let right = if width == Width::Narrow { 112 } else { 150 };
        let mut chart = frame(area, width, right, Span::Days(from, to), most as f64)?;
        let mut labels = Vec::new();
        for (allotment, ink) in shown.iter().zip(LINE_INKS) {
            let line = stepped(&allotment.days, |day| Some(day.at_end), Keep::Both);
            for part in line {
                chart.draw_series([PathElement::new(part, ink)])?;
            }
            if let Some(last) = allotment.days.last() {
                let (x, y) = chart.backend_coord(&(after(last.day), last.at_end as f64));
                area.draw(&mark(ink, x, y))?;
                let held = count(last.at_end);
                let room: usize = if width == Width::Narrow { 12 } else { 19 };
                let name = short(&allotment.allotment, room.saturating_sub(held.len()));
                labels.push(Side { x, y, text: format!("{name} {held}"), ink: Ink::Label });
            }
        }
        beside(area, labels, 12)
    })
}

/// The allotments that [`assignments`] draws, in its order: those with the most assignments.
pub fn largest(license: &License) -> Vec<&Allotment> {
    let most = |allotment: &Allotment| allotment.days.iter().map(|day| day.at_end).max().unwrap_or(0);
    let mut shown: Vec<_> = license.allotments.rows.iter().filter(|allotment| most(allotment) > 0).collect();
    shown.sort_by_key(|allotment| std::cmp::Reverse(most(allotment)));
    shown.truncate(LINES);
    shown
}

/// The inks of [`assignments`], line by line.
pub const LINE_INKS: [Ink; LINES] = [Ink::Line0, Ink::Line1, Ink::Line2, Ink::Line3, Ink::Line4, Ink::Line5];

/// The most at one moment of each day, the cap as a dashed step line, and what is above it hatched, with a mark on top.
/// `None` where no day is known.
pub fn usage(allotment: &Allotment, words: Words<'_>) -> Option<String> {
    let (from, to) = span(&allotment.days)?;
    drawn(Width::Half, 176, words, |area| {
        let cap = |day: &Day| day.entitlement.cap();
        let most = allotment.days.iter().map(|day| day.peak.max(cap(day).unwrap_or(0))).max().unwrap_or(0);
        let mut chart = frame(area, Width::Half, 78, Span::Days(from, to), most as f64)?;
        for part in stepped(&allotment.days, |day| Some(day.peak), Keep::Most) {
            if let (Some(first), Some(last)) = (part.first(), part.last()) {
                let mut below = part.clone();
                below.extend([(last.0, 0.0), (first.0, 0.0)]);
                chart.draw_series([Polygon::new(below, Ink::Use)])?;
                chart.draw_series([PathElement::new(part, Ink::Use)])?;
            }
        }
        let mut marked = None;
        for (days, cap, peak) in over(&allotment.days) {
            let corners = (chart.backend_coord(&(days.0, peak)), chart.backend_coord(&(days.1, cap)));
            filled(area, Ink::Over, || std::iter::once(corners))?;
            let (x, y) = chart.backend_coord(&((days.0 + days.1) / 2.0, peak));
            if marked.is_none_or(|last| x - last >= 9 * FINE) {
                marked = Some(x);
                area.draw(&triangle(x, y - 3 * FINE))?;
            }
        }
        for part in stepped(&allotment.days, cap, Keep::Most) {
            chart.draw_series([PathElement::new(part, Ink::Cap)])?;
        }
        let mut labels = Vec::new();
        if let Some(last) = allotment.days.last() {
            let at = |value: u64| chart.backend_coord(&(after(last.day), value as f64));
            let (x, y) = at(last.peak);
            labels.push(Side { x, y, text: format!("used {}", count(last.peak)), ink: Ink::Strong });
            if let Some(cap) = cap(last) {
                labels.push(Side { x, y: at(cap).1, text: format!("cap {}", count(cap)), ink: Ink::Label });
            }
        }
        beside(area, labels, 0)
    })
}

/// Consumption by month: the lower bound solid, what may be above it hatched, the back end's total as a diamond, the
/// quota as a dashed line. `None` where there is no month.
pub fn consumption(of: &Consumption, words: Words<'_>) -> Option<String> {
    let months = newest(&of.months);
    let (first, last) = (months.first()?, months.last()?);
    drawn(Width::Half, 176, words, |area| {
        let top = |m: &Month| m.high.max(m.total.unwrap_or(0.0)).max(m.quota.unwrap_or(0.0));
        let most = months.iter().map(top).fold(0.0, f64::max);
        let mut chart = frame(area, Width::Half, 78, Span::Months(first.month, last.month), most)?;
        for month in months {
            let n = between(first.month, month.month) as f64;
            let (left, right) = (n + 0.2, n + 0.8);
            if month.low > 0.0 {
                chart.draw_series([Rectangle::new([(left, 0.0), (right, month.low)], Ink::Low.filled())])?;
            }
            if month.high > month.low {
                let corners =
                    (chart.backend_coord(&(left, month.high)), chart.backend_coord(&(right, month.low)));
                filled(area, Ink::High, || std::iter::once(corners))?;
            }
            if let Some(quota) = month.quota {
                chart.draw_series([PathElement::new(vec![(n, quota), (n + 1.0, quota)], Ink::Cap)])?;
            }
            if let Some(total) = month.total {
                let (x, y) = chart.backend_coord(&(n + 0.5, total));
                area.draw(&diamond(x, y))?;
            }
            if months.len() <= NUMBERED {
                let (x, y) = chart.backend_coord(&(n + 0.5, month.high.max(month.total.unwrap_or(0.0))));
                let style = text(Ink::Label, HPos::Center, VPos::Bottom);
                area.draw(&Text::new(number(month.high), (x, y - 7 * FINE), style))?;
            }
        }
        let mut labels = Vec::new();
        let end = between(first.month, last.month) + 1;
        let at = |value: f64| chart.backend_coord(&(end as f64, value));
        if let Some(quota) = last.quota {
            let (x, y) = at(quota);
            labels.push(Side { x, y, text: format!("quota {}", number(quota)), ink: Ink::Label });
        }
        beside(area, labels, 0)
    })
}

/// The newest months, as many as are shown.
pub fn newest(months: &[Month]) -> &[Month] {
    &months[months.len().saturating_sub(MONTHS)..]
}

/// One row for each source, time from left to right: the darker a cell, the more of its syncs came; a gap stands in it
/// as a pattern of its kind, as high as its share of the cell, but never lower than a third. `None` where there is none.
pub fn strip(syncs: &Syncs, width: Width, words: Words<'_>) -> Option<String> {
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
        for kind in KINDS {
            let of = || gaps.iter().filter(|gap| gap.0 == kind).map(|gap| (gap.1, gap.2));
            filled(area, gap_ink(kind), of)?;
        }
        area.draw(&PathElement::new(vec![(left, bottom), (right, bottom)], Ink::Axis))
    })
}

/// All kinds of gaps, in the order in which they are drawn and listed.
pub const KINDS: [GapKind; 6] = [
    GapKind::RelayDown,
    GapKind::Refused,
    GapKind::Failing,
    GapKind::Silent,
    GapKind::Around,
    GapKind::NotWritten,
];

/// A gap and its share of the cell in thirds, from 1.
fn gap(cell: Cell, hours: u32) -> Option<(GapKind, i32)> {
    let share = (u64::from(cell.gap_minutes) * 3).div_ceil(u64::from(hours) * 60).clamp(1, 3);
    cell.gap.map(|kind| (kind, i32::try_from(share).unwrap_or(3)))
}

/// Neighbours of which the same can be said, as one.
fn runs<T: Copy + PartialEq>(cells: &[Cell], of: impl Fn(&Cell) -> Option<T>) -> Vec<(f64, f64, T)> {
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

/// Draws, and wraps what was drawn; what can't be drawn becomes a sentence, as the numbers stand on the page anyway.
fn drawn(
    width: Width,
    height: i32,
    Words { id, title, description }: Words<'_>,
    draw: impl FnOnce(&Area<'_>) -> Result<(), Failed>,
) -> Option<String> {
    let (w, h) = (width.pixels() * FINE, height * FINE);
    let mut inner = String::new();
    let size = (u32::try_from(w).ok()?, u32::try_from(h).ok()?);
    let done = draw(&Canvas::new(&mut inner, size).into_drawing_area());
    if done.is_err() {
        return Some("<p>This chart can't be drawn; its numbers stand beside it.</p>".into());
    }
    let class = width.class();
    let id = format!("{id}-{}", &class["chart ".len()..]);
    Some(format!(
        "<svg class=\"{class}\" id=\"{id}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\" viewBox=\"0 0 {w} {h}\" \
         xmlns=\"http://www.w3.org/2000/svg\"><title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>{inner}</svg>",
        escape(title),
        escape(description),
    ))
}

/// Stretches with too many, thinned like the line below them: their days, the cap, and the peak.
fn over(days: &[Day]) -> Vec<((f64, f64), f64, f64)> {
    let size = days.len().div_ceil(POINTS).max(1);
    let mut runs: Vec<((f64, f64), f64, f64)> = Vec::new();
    for chunk in days.chunks(size) {
        let Some(worst) = chunk.iter().max_by_key(|day| day.over()).filter(|day| day.over() > 0) else {
            continue;
        };
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { continue };
        let cap = worst.entitlement.cap().unwrap_or_default() as f64;
        let (from, to, peak) = (before(first.day), after(last.day), worst.peak as f64);
        match runs.last_mut() {
            Some((days, c, p)) if days.1 == from && *c == cap && *p == peak => days.1 = to,
            _ => runs.push(((from, to), cap, peak)),
        }
    }
    runs
}
