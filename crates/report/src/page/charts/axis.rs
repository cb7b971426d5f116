//! Axes of charts: dates and values, their ticks and labels.

use std::convert::Infallible;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind};
use plotters::style::{IntoFont, TRANSPARENT};

use crate::fold::account::Day;
use crate::page::svg::{Canvas, FINE, Ink, TEXT};
use relay_log::text::number::number;

/// Points of one line before it is thinned.
pub(crate) const POINTS: usize = 300;
/// The highest value that an axis reaches; what is above is drawn beyond its end.
const HIGHEST: f64 = 1e20;

/// Why a chart can't be drawn.
pub(crate) type Failed = DrawingAreaErrorKind<Infallible>;

/// What a chart is drawn on.
pub(crate) type Area<'a> = DrawingArea<Canvas<'a>, Shift>;

type Chart<'r, 'a> = ChartContext<'r, Canvas<'a>, Cartesian2d<Axis, Axis>>;

/// How wide a chart is drawn; text keeps its size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Width {
    /// The whole width of the page on a screen, and on paper.
    Wide,
    /// The whole width of a telephone's screen.
    Narrow,
    /// Half of a wide page, the whole of a narrow one.
    Half,
}

impl Width {
    pub(crate) fn pixels(self) -> i32 {
        match self {
            Self::Wide => 900,
            Self::Narrow => 370,
            Self::Half => 434,
        }
    }

    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Wide => "chart wide",
            Self::Narrow => "chart narrow",
            Self::Half => "chart half",
        }
    }

    /// Labels of dates that fit below it.
    pub(crate) fn dates(self) -> usize {
        match self {
            Self::Wide => 13,
            Self::Narrow => 5,
            Self::Half => 6,
        }
    }
}

/// What lies below: days, or whole months that are equally wide.
pub(crate) enum Span {
    Days(Date, Date),
    Months(Date, Date),
}

/// An axis whose ticks are given: those of dates are not at equal distances.
pub(crate) struct Axis {
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
pub(crate) fn frame<'r, 'a>(
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

/// The first day and the last one.
pub(crate) fn span<'d>(days: impl IntoIterator<Item = &'d Day>) -> Option<(Date, Date)> {
    days.into_iter().map(|day| day.used.day).fold(None, |span, day| match span {
        None => Some((day, day)),
        Some((from, to)) => Some((day.min(from), day.max(to))),
    })
}

/// A day's beginning, in days since 1970.
pub(crate) fn before(day: Date) -> f64 {
    let time = TimeZone::UTC.to_timestamp(day.into()).map(Timestamp::as_second).unwrap_or_default();
    time.div_euclid(86_400) as f64
}

/// A day's end, likewise.
pub(crate) fn after(day: Date) -> f64 {
    before(day) + 1.0
}

/// Months from one to another.
pub(crate) fn between(from: Date, to: Date) -> i64 {
    (i64::from(to.year()) - i64::from(from.year())) * 12 + i64::from(to.month()) - i64::from(from.month())
}

/// Which values a thinned line keeps.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Keep {
    /// The highest.
    Most,
    /// The lowest and the highest, in their order.
    Both,
}

/// A step line over the days, broken where there is no value; runs of one value are one step.
pub(crate) fn stepped(days: &[Day], of: impl Fn(&Day) -> Option<u64>, keep: Keep) -> Vec<Vec<(f64, f64)>> {
    let size = days.len().div_ceil(POINTS).max(1);
    let mut steps: Vec<(f64, f64, Option<u64>)> = Vec::new();
    let mut push = |from: f64, to: f64, value: Option<u64>| match steps.last_mut() {
        Some((_, end, last)) if *last == value && *end == from => *end = to,
        _ => steps.push((from, to, value)),
    };
    for chunk in days.chunks(size) {
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { continue };
        let (from, to) = (before(first.used.day), after(last.used.day));
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

/// Beginnings of days, months or years within the days, at most so many, each where it stands and with its label.
pub(crate) fn ticks(from: Date, to: Date, most: usize) -> Vec<(f64, String)> {
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
pub(crate) fn moments(from: Timestamp, to: Timestamp, most: usize) -> Vec<(Timestamp, String)> {
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
