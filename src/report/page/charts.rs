//! The charts of the report page, as inline SVG: assignments over time, use against entitlement, syncs per source, and
//! consumption by month.
//!
//! Each is readable without colour (dashes, hatches, marks, labels beside what they name), and says in its `<title>` and
//! `<desc>` what it shows; the page has the same numbers as a table or a sentence. Long periods are thinned, and what is
//! thinned keeps its highest and lowest values.

use std::convert::Infallible;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{PathElement, Polygon, Rectangle, Text};
use plotters::style::{Color, IntoFont, TRANSPARENT, TextStyle};
use plotters_backend::text_anchor::{HPos, Pos, VPos};

use super::svg::{Canvas, FINE, Hatch, Ink, TEXT, hatch};
use super::{Allotment, Cell, Consumption, Day, GapKind, License, MONTHS, Month, STRIP_SOURCES, Syncs};
use crate::text::escape::escape;
use crate::text::number::{count, number, short};

/// Lines in the chart of assignments; further allotments are in its table only.
pub const LINES: usize = 6;
/// Points of one line before it is thinned.
const POINTS: usize = 300;
/// The highest value that an axis reaches; what is above is drawn beyond its end.
const HIGHEST: f64 = 1e20;
/// Bars that have their number written on top.
const NUMBERED: usize = 7;

type Failed = DrawingAreaErrorKind<Infallible>;
type Area<'a> = DrawingArea<Canvas<'a>, Shift>;
type Chart<'r, 'a> = ChartContext<'r, Canvas<'a>, Cartesian2d<Axis, Axis>>;

/// How wide a chart is drawn; text keeps its size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Width {
    /// The whole width of the page on a screen, and on paper.
    Wide,
    /// The whole width of a telephone's screen.
    Narrow,
    /// Half of a wide page, the whole of a narrow one.
    Half,
}

impl Width {
    fn pixels(self) -> i32 {
        match self {
            Self::Wide => 900,
            Self::Narrow => 370,
            Self::Half => 434,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Wide => "chart wide",
            Self::Narrow => "chart narrow",
            Self::Half => "chart half",
        }
    }

    /// Labels of dates that fit below it.
    fn dates(self) -> usize {
        match self {
            Self::Wide => 13,
            Self::Narrow => 5,
            Self::Half => 6,
        }
    }
}

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

const HEATS: [Ink; 4] = [Ink::Heat1, Ink::Heat2, Ink::Heat3, Ink::Heat4];

/// All kinds of gaps, in the order in which they are drawn and listed.
pub const KINDS: [GapKind; 6] = [
    GapKind::RelayDown,
    GapKind::Refused,
    GapKind::Failing,
    GapKind::Silent,
    GapKind::Around,
    GapKind::NotWritten,
];

/// Rectangles (upper left and lower right) filled as an ink is: its hatch on white and within an outline, or solid.
fn filled<I: Iterator<Item = ((i32, i32), (i32, i32))>>(
    area: &Area<'_>,
    ink: Ink,
    rectangles: impl Fn() -> I,
) -> Result<(), Failed> {
    const STEP: i32 = 4 * FINE;
    let hatches: &[Hatch] = match ink {
        Ink::Over | Ink::High | Ink::Failing => &[Hatch::Rising],
        Ink::Refused => &[Hatch::Rising, Hatch::Falling],
        Ink::Around => &[Hatch::Dots],
        Ink::NotWritten => &[Hatch::Level],
        Ink::Silent => &[],
        _ => {
            for (from, to) in rectangles() {
                area.draw(&Rectangle::new([from, to], ink.filled()))?;
            }
            return Ok(());
        }
    };
    for (from, to) in rectangles() {
        area.draw(&Rectangle::new([from, to], Ink::Paper.filled()))?;
    }
    for (from, to) in rectangles() {
        for kind in hatches {
            for line in hatch(*kind, from, to, STEP) {
                area.draw(&PathElement::new(line.to_vec(), ink))?;
            }
        }
        // Dots are wider than a line should be.
        if ink != Ink::Around {
            area.draw(&Rectangle::new([from, to], ink.stroke_width(1)))?;
        }
    }
    Ok(())
}

/// A small sample of an ink for the lines that explain a chart: a filled rectangle, or a line.
pub fn key(ink: Ink, line: bool) -> String {
    let (w, h) = (26 * FINE, 13 * FINE);
    let mut inner = String::new();
    {
        let area = Canvas::new(&mut inner, (w as u32, h as u32)).into_drawing_area();
        // What can't be drawn is left out: its name stands beside it.
        let _ = match (ink, line) {
            (Ink::Total, _) => area.draw(&diamond(w / 2, h / 2)),
            (_, true) => area.draw(&PathElement::new(vec![(0, h / 2), (w, h / 2)], ink)),
            (_, false) => filled(&area, ink, || std::iter::once(((FINE, FINE), (w - FINE, h - FINE)))),
        };
    }
    format!("<svg class=\"key\" viewBox=\"0 0 {w} {h}\" aria-hidden=\"true\">{inner}</svg>")
}

/// The ink of a kind of gap.
pub fn gap_ink(kind: GapKind) -> Ink {
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
fn heat(cell: Cell, hours: u32) -> Option<usize> {
    let most = u64::from(hours) * 6;
    (cell.syncs > 0).then(|| usize::try_from((u64::from(cell.syncs) * 4 / most.max(1)).min(3)).unwrap_or(3))
}

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

/// What lies below: days, or whole months that are equally wide.
enum Span {
    Days(Date, Date),
    Months(Date, Date),
}

/// An axis whose ticks are given: those of dates are not at equal distances.
struct Axis {
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (low, high): (i32, i32)) -> i32 {
        let share = (value - self.from) / (self.to - self.from).max(f64::EPSILON);
        low + (share.clamp(-1.0, 2.0) * f64::from(high - low)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

/// Axes with room for labels beside them; values from 0 to the next round number above the most.
fn frame<'r, 'a>(
    area: &'r Area<'a>,
    width: Width,
    right: i32,
    span: Span,
    most: f64,
) -> Result<Chart<'r, 'a>, Failed> {
    let most = most.clamp(0.0, HIGHEST);
    let step = round_step(most);
    let top = ((most / step).floor() + 1.0) * step;
    let values: Vec<f64> = (0..).map(|n| f64::from(n) * step).take_while(|value| *value <= top).collect();
    let (from, to, dates) = match span {
        Span::Days(from, to) => (before(from), after(to), ticks(from, to, width.dates())),
        Span::Months(from, to) => {
            let months = between(from, to) + 1;
            let every = (months as usize).div_ceil(width.dates());
            let shown = (0..months).step_by(every).map(|n| (n as f64 + 0.5, from.saturating_add(n.months())));
            (0.0, months as f64, month_labels(shown.collect()))
        }
    };
    let (points, labels): (Vec<f64>, Vec<String>) = dates.into_iter().unzip();
    let label = |x: &f64| {
        let at = points.iter().position(|point| point == x);
        at.and_then(|at| labels.get(at).cloned()).unwrap_or_default()
    };
    let mut chart = ChartBuilder::on(area)
        .margin_top(12 * FINE)
        .margin_right(right * FINE)
        .x_label_area_size(22 * FINE)
        .y_label_area_size((12 + 7 * number(top).len() as i32).max(36) * FINE)
        .build_cartesian_2d(
            Axis { from, to, ticks: points.clone() },
            Axis { from: 0.0, to: top, ticks: values },
        )?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(Ink::Grid)
        .axis_style(Ink::Axis)
        .label_style(("sans-serif", TEXT * FINE).into_font().color(&Ink::Label))
        .x_labels(64)
        .y_labels(64)
        .x_label_formatter(&label)
        .y_label_formatter(&|value| number(*value))
        .set_all_tick_mark_size(4 * FINE)
        .draw()?;
    Ok(chart)
}

/// A step of 1, 2 or 5 times a power of ten, of which about four reach the most; whole where the most is small.
fn round_step(most: f64) -> f64 {
    let rough = (most / 4.0).max(1.0);
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough).unwrap_or(rough)
}

fn span<'d>(days: impl IntoIterator<Item = &'d Day>) -> Option<(Date, Date)> {
    days.into_iter().map(|day| day.day).fold(None, |span, day| match span {
        None => Some((day, day)),
        Some((from, to)) => Some((day.min(from), day.max(to))),
    })
}

/// A day's beginning, in days since 1970.
fn before(day: Date) -> f64 {
    let time = TimeZone::UTC.to_timestamp(day.into()).map(Timestamp::as_second).unwrap_or_default();
    time.div_euclid(86_400) as f64
}

fn after(day: Date) -> f64 {
    before(day) + 1.0
}

fn between(from: Date, to: Date) -> i64 {
    (i64::from(to.year()) - i64::from(from.year())) * 12 + i64::from(to.month()) - i64::from(from.month())
}

/// Which values a thinned line keeps.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Keep {
    /// The highest.
    Most,
    /// The lowest and the highest, in their order.
    Both,
}

/// A step line over the days, broken where there is no value; runs of one value are one step.
fn stepped(days: &[Day], of: impl Fn(&Day) -> Option<u64>, keep: Keep) -> Vec<Vec<(f64, f64)>> {
    let size = days.len().div_ceil(POINTS).max(1);
    let mut steps: Vec<(f64, f64, Option<u64>)> = Vec::new();
    let mut push = |from: f64, to: f64, value: Option<u64>| match steps.last_mut() {
        Some((_, end, last)) if *last == value && *end == from => *end = to,
        _ => steps.push((from, to, value)),
    };
    for chunk in days.chunks(size) {
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { continue };
        let (from, to) = (before(first.day), after(last.day));
        let values = || chunk.iter().enumerate().filter_map(|(n, day)| Some((of(day)?, n)));
        match (values().max_by_key(|(value, _)| *value), values().min_by_key(|(value, _)| *value)) {
            (Some((most, at)), Some((least, other))) if keep == Keep::Both && most != least => {
                let middle = f64::midpoint(from, to);
                let (one, two) = if at < other { (most, least) } else { (least, most) };
                push(from, middle, Some(one));
                push(middle, to, Some(two));
            }
            (most, _) => push(from, to, most.map(|(value, _)| value)),
        }
    }
    let mut parts: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut end = f64::NAN;
    for (from, to, value) in steps {
        let Some(value) = value else { continue };
        let value = value as f64;
        match parts.last_mut() {
            Some(part) if end == from => part.extend([(from, value), (to, value)]),
            _ => parts.push(vec![(from, value), (to, value)]),
        }
        end = to;
    }
    parts
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

/// Beginnings of days, months or years within the days, at most so many, each where it stands and with its label.
fn ticks(from: Date, to: Date, most: usize) -> Vec<(f64, String)> {
    let days = (after(to) - before(from)) as usize;
    let months = between(from, to) as usize;
    if days <= 62 {
        let every = [1, 2, 7, 14].into_iter().find(|every| days.div_ceil(*every) <= most).unwrap_or(14);
        let first = from;
        return (0..days)
            .step_by(every)
            .map(|n| first.saturating_add((n as i64).days()))
            .map(|day| (before(day), day_label(day)))
            .collect();
    }
    let every = [1, 2, 3, 6, 12].into_iter().find(|every| months.div_ceil(*every) <= most);
    let every = every.unwrap_or_else(|| 12 * (months / 12).div_ceil(most.max(1)).max(1)) as i64;
    let shown = (0..=months as i64)
        .map(|n| from.first_of_month().saturating_add(n.months()))
        .filter(|month| {
            *month >= from && (i64::from(month.year()) * 12 + i64::from(month.month()) - 1) % every == 0
        })
        .map(|month| (before(month), month));
    month_labels(shown.collect())
}

/// As [`ticks`], and hours where the time is short.
fn moments(from: Timestamp, to: Timestamp, most: usize) -> Vec<(Timestamp, String)> {
    let hours = to.duration_since(from).as_hours();
    if hours <= 48 {
        let every =
            [1, 2, 3, 4, 6, 12].into_iter().find(|every| (hours / every) as usize <= most).unwrap_or(24);
        let first = from.as_second().div_euclid(3600 * every) * 3600 * every;
        return (0..=hours / every)
            .filter_map(|n| Timestamp::from_second(first + n * 3600 * every).ok())
            .filter(|time| *time >= from && *time < to)
            .map(|time| {
                let form = if time.as_second() % 86_400 == 0 { "%-d %b" } else { "%H:%M" };
                (time, time.strftime(form).to_string())
            })
            .collect();
    }
    let day = |time: Timestamp| TimeZone::UTC.to_datetime(time).date();
    ticks(day(from), day(to), most)
        .into_iter()
        .filter_map(|(at, label)| Some((Timestamp::from_second(at as i64 * 86_400).ok()?, label)))
        .filter(|(time, _)| *time >= from && *time < to)
        .collect()
}

fn day_label(day: Date) -> String {
    day.strftime("%-d %b").to_string()
}

/// Months by name; the year stands with each first one of a year, and with the very first one unless another follows
/// so soon that they would touch.
fn month_labels(months: Vec<(f64, Date)>) -> Vec<(f64, String)> {
    let year = |n: usize| months.get(n).map(|(_, month)| month.year());
    let label = |(n, (at, month)): (usize, &(f64, Date))| {
        let begins =
            if n == 0 { year(1).is_none_or(|next| next == month.year()) } else { year(n - 1) != year(n) };
        (*at, month.strftime(if begins { "%b %Y" } else { "%b" }).to_string())
    };
    months.iter().enumerate().map(label).collect()
}

fn text(ink: Ink, h: HPos, v: VPos) -> TextStyle<'static> {
    ("sans-serif", TEXT * FINE).into_font().color(&ink).pos(Pos::new(h, v))
}

/// A label at the right end of a line.
struct Side {
    x: i32,
    y: i32,
    text: String,
    ink: Ink,
}

/// Labels beside what they name, pushed apart where they would overlap.
fn beside(area: &Area<'_>, mut labels: Vec<Side>, away: i32) -> Result<(), Failed> {
    const LINE: i32 = 13 * FINE;
    labels.sort_by_key(|label| label.y);
    for n in 1..labels.len() {
        labels[n].y = labels[n].y.max(labels[n - 1].y + LINE);
    }
    // Where that has pushed the last one below the axis, they all move up as far as they must.
    let mut lowest = area.dim_in_pixel().1 as i32 - 26 * FINE;
    for label in labels.iter_mut().rev() {
        label.y = label.y.min(lowest);
        lowest = label.y - LINE;
    }
    for Side { x, y, text: words, ink } in labels {
        let at = (x + (away + 6) * FINE, y);
        area.draw(&Text::new(words, at, text(ink, HPos::Left, VPos::Center)))?;
    }
    Ok(())
}

/// The mark at the end of a line: another shape for each.
fn mark(ink: Ink, x: i32, y: i32) -> Polygon<(i32, i32)> {
    let r = 9 * FINE / 2;
    let shape = match ink {
        Ink::Line0 => vec![(-r, -r), (r, -r), (r, r), (-r, r)],
        Ink::Line1 => vec![(0, -r), (r, r), (-r, r)],
        Ink::Line2 => vec![(0, -r), (r, 0), (0, r), (-r, 0)],
        Ink::Line3 => vec![(-r, -r), (r, -r), (0, r)],
        Ink::Line4 => vec![(-r / 2, -r), (r / 2, -r), (r, 0), (r / 2, r), (-r / 2, r), (-r, 0)],
        _ => vec![(-r, -r / 2), (r, -r / 2), (r, r / 2), (-r, r / 2)],
    };
    Polygon::new(shape.into_iter().map(|(dx, dy)| (x + r + dx, y + dy)).collect::<Vec<_>>(), ink)
}

fn diamond(x: i32, y: i32) -> Polygon<(i32, i32)> {
    let r = 4 * FINE;
    Polygon::new(vec![(x, y - r), (x + r, y), (x, y + r), (x - r, y)], Ink::Total)
}

fn triangle(x: i32, y: i32) -> Polygon<(i32, i32)> {
    let r = 4 * FINE;
    Polygon::new(vec![(x - r, y - 2 * r + FINE), (x + r, y - 2 * r + FINE), (x, y)], Ink::OverMark)
}
