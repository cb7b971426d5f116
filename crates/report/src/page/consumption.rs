//! Section "Consumption by month": what was reported and what the back end counts, against the quota.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use plotters::element::{PathElement, Rectangle, Text};
use plotters::style::Color;
use plotters_backend::text_anchor::{HPos, VPos};

use super::Section;
use super::charts::axis::{Span, Width, between, frame};
use super::charts::marks::{Side, beside, diamond, filled, key, text};
use super::charts::{Caption, drawn};
use super::html::cells::{bdi, mono, none, not_known};
use super::html::{Html, N, T, W};
use super::svg::{FINE, Ink};
use crate::fold::consumption::{AllSources, Consumption};
use crate::fold::entitlements::{Entitlements, quota};
use relay_log::console::period::day_of;
use relay_log::text::escape::escape;
use relay_log::text::number::{number, plural};

/// Months shown of one allotment.
const MONTHS: usize = 36;
/// Allotments with a chart and rows.
const CHARTS: usize = 12;
/// Bars that have their number written on top.
const NUMBERED: usize = 7;
/// Months that are filled in between others at most: a hundred years.
const FILLED: usize = 1200;

pub(super) const SECTION: Section = Section::new("consumption", "Consumption by month", draw);

/// Consumption of one license's allotment.
#[derive(Clone, Debug)]
pub struct AllotmentConsumption {
    /// License.
    pub license: Arc<str>,
    /// Allotment: `analyzer_time`.
    pub allotment: Arc<str>,
    /// Its months, oldest first, none left out in between; the newest `MONTHS` are shown.
    pub months: Vec<Month>,
    /// Units that the newest month's quota lacks because their time is over, and the last day of those that ended last.
    pub ended: Option<(u64, Date)>,
}

impl AllotmentConsumption {
    /// The newest months, as many as are shown.
    pub(super) fn newest(&self) -> &[Month] {
        &self.months[self.months.len().saturating_sub(MONTHS)..]
    }

    /// Why a quota is as small as it is, where units of it have ended.
    pub(super) fn ended_words(&self) -> String {
        self.ended.map_or_else(String::new, |(units, day)| {
            format!(
                " {} no longer valid, the last of them since the end of {day}.",
                plural(units, "unit is", "units are")
            )
        })
    }
}

/// One month of it, in the back end's own unit.
#[derive(Clone, Copy, Debug)]
pub struct Month {
    /// The month's first day.
    pub month: Date,
    /// What was reported and told of it.
    pub sums: AllSources,
}

impl Month {
    /// Sum of the reports that were confirmed: the lower bound.
    fn low(&self) -> f64 {
        self.sums.delta_low as f64
    }

    /// With those whose outcome is not known: the upper bound.
    fn high(&self) -> f64 {
        self.sums.delta_high as f64
    }

    /// The largest total the back end told.
    fn total(&self) -> Option<f64> {
        self.sums.total.map(|total| total as f64)
    }

    /// What the license allows a month; `None`: not known, or no limit.
    pub(super) fn quota(&self) -> Option<f64> {
        self.sums.quota.map(|quota| quota as f64)
    }

    /// What was consumed for certain: what was confirmed, or the back end's total where that is more.
    pub(super) fn certain(&self) -> f64 {
        self.low().max(self.total().unwrap_or_else(|| self.low()))
    }

    /// What may have been consumed, with what has an unknown outcome.
    pub(super) fn at_most(&self) -> f64 {
        self.high().max(self.certain())
    }
}

/// What was consumed by the end of the period, by license and allotment.
pub(super) fn by_allotment(
    fold: &Consumption,
    entitlements: &Entitlements,
    end: Timestamp,
) -> Vec<AllotmentConsumption> {
    let quota =
        |license: &str, month: &str, allotment: &str| quota(entitlements, license, month, allotment, end);
    let mut all: BTreeMap<(Arc<str>, Arc<str>), Vec<Month>> = BTreeMap::new();
    for row in fold.rows(None, quota) {
        let Some(sums) = row.all else { continue };
        let Ok(month) = format!("{}-01", row.month).parse::<Date>() else { continue };
        all.entry((row.license, row.allotment)).or_default().push(Month { month, sums });
    }
    let rows = all.into_iter().map(|((license, allotment), months)| {
        let months = without_holes(months);
        let newest = months.last().map(|month| month.month.last_of_month().min(day_of(end)).max(month.month));
        let ended = newest.and_then(|day| entitlements.ended(&license, &allotment, day));
        AllotmentConsumption { license, allotment, months, ended }
    });
    rows.collect()
}

/// Months without a report are months of nothing known, not months that are left out.
fn without_holes(months: Vec<Month>) -> Vec<Month> {
    let mut all: Vec<Month> = Vec::new();
    for month in months {
        while let Some(last) = all.last().copied()
            && let Some(next) = last.month.checked_add(jiff::Span::new().months(1)).ok()
            && next < month.month
            && all.len() < FILLED
        {
            all.push(Month { month: next, sums: AllSources::default() });
        }
        all.push(month);
    }
    all
}

fn draw(html: &mut Html<'_>) {
    let all = &html.page.consumption;
    if all.is_empty() {
        html.instead("No consumption was reported in this period.");
        return;
    }
    put!(
        html,
        "<p>In the back end's own unit. The lower bound is what was reported and confirmed; reports whose outcome is \
         not known come on top of it. The total is the largest that the back end told.</p>\
         <ul class=\"keys\"><li>{}confirmed</li><li>{}outcome not known</li><li>{}the back end's total</li><li>{}quota</li></ul>\
         <div class=\"pair\">",
        key(Ink::Low, false),
        key(Ink::High, false),
        key(Ink::Total, false),
        key(Ink::Cap, true)
    );
    for (n, one) in all.iter().take(CHARTS).enumerate() {
        let caption = caption(one);
        let words = Caption {
            id: &format!("consumption{n}"),
            title: &format!("Consumption of {} of license {} by month", one.allotment, one.license),
            description: &caption,
        };
        let chart = chart(one.newest(), words).unwrap_or_default();
        put!(
            html,
            "<figure><h4>{} <span class=\"soft mono\">{}</span></h4>{chart}<figcaption>{}</figcaption></figure>",
            bdi(&one.allotment),
            escape(&one.license),
            escape(&caption)
        );
    }
    put!(html, "</div>");
    let rows = all.iter().take(CHARTS).flat_map(|one| {
        one.newest().iter().rev().map(move |month| {
            let beyond = |low: f64| month.total().map_or_else(none, |total| number(total - low));
            vec![
                month.month.strftime("%Y-%m").to_string(),
                mono(&one.license),
                bdi(&one.allotment),
                number(month.low()),
                number(month.high()),
                month.total().map_or_else(none, number),
                beyond(month.low()),
                beyond(month.high()),
                month.quota().map_or_else(not_known, number),
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
    html.table("The same as numbers, newest first", &columns, rows);
    html.more(all.len() as u64, CHARTS, ("allotment", "allotments"));
}

/// The newest month in a sentence.
fn caption(one: &AllotmentConsumption) -> String {
    let Some(month) = one.months.last() else { return "No month is known.".into() };
    let used = if month.high() > month.low() {
        format!("between {} and {}", number(month.low()), number(month.high()))
    } else {
        number(month.low())
    };
    let mut words = format!("{}: {used}", month.month.strftime("%B %Y"));
    if let Some(quota) = month.quota() {
        let _ = write!(words, " of {}", number(quota));
    }
    if let Some(total) = month.total() {
        let _ = write!(words, "; the back end's total {}", number(total));
    }
    let is_used_up = month.quota().is_some_and(|quota| month.certain() >= quota);
    match month.sums.days_left {
        _ if is_used_up => words.push_str("; the quota is used up"),
        Some(days) if days <= 0.0 => words.push_str("; the quota is used up"),
        Some(days) if days < 1.0 => words.push_str("; at this pace the quota lasts less than a day"),
        Some(days) => {
            let days = plural(days as u64, "more day", "more days");
            let _ = write!(words, "; at this pace the quota lasts {days}");
        }
        None => {}
    }
    words.push('.');
    words.push_str(&one.ended_words());
    words
}

/// The lower bound solid, what may be above it hatched, the back end's total as a diamond, the quota as a dashed line.
/// `None` where there is no month.
fn chart(months: &[Month], words: Caption<'_>) -> Option<String> {
    let (first, last) = (months.first()?, months.last()?);
    drawn(Width::Half, 176, words, |area| {
        let top = |m: &Month| m.high().max(m.total().unwrap_or(0.0)).max(m.quota().unwrap_or(0.0));
        let most = months.iter().map(top).fold(0.0, f64::max);
        let mut chart = frame(area, Width::Half, 78, Span::Months(first.month, last.month), most)?;
        for month in months {
            let n = between(first.month, month.month) as f64;
            let (left, right) = (n + 0.2, n + 0.8);
            let (low, high) = (month.low(), month.high());
            if low > 0.0 {
                chart.draw_series([Rectangle::new([(left, 0.0), (right, low)], Ink::Low.filled())])?;
            }
            if high > low {
                let corners = (chart.backend_coord(&(left, high)), chart.backend_coord(&(right, low)));
                filled(area, Ink::High, || std::iter::once(corners))?;
            }
            if let Some(quota) = month.quota() {
                chart.draw_series([PathElement::new(vec![(n, quota), (n + 1.0, quota)], Ink::Cap)])?;
            }
            if let Some(total) = month.total() {
                let (x, y) = chart.backend_coord(&(n + 0.5, total));
                area.draw(&diamond(x, y))?;
            }
            if months.len() <= NUMBERED {
                let (x, y) = chart.backend_coord(&(n + 0.5, high.max(month.total().unwrap_or(0.0))));
                let style = text(Ink::Label, HPos::Center, VPos::Bottom);
                area.draw(&Text::new(number(high), (x, y - 7 * FINE), style))?;
            }
        }
        let mut labels = Vec::new();
        let end = between(first.month, last.month) + 1;
        if let Some(quota) = last.quota() {
            let (x, y) = chart.backend_coord(&(end as f64, quota));
            labels.push(Side { x, y, text: format!("quota {}", number(quota)), ink: Ink::Label });
        }
        beside(area, labels, 0)
    })
}
