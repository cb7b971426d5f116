//! Section "Use against entitlement": the most that was assigned on each day, against what was allowed that day.

use std::fmt::Write as _;

use jiff::civil::Date;
use plotters::element::{PathElement, Polygon};

use super::{ALLOTMENTS, Allotment, LICENSES, License, cap, cap_cell, over, overage_cell, units, whole};
use crate::fold::account::Day;
use crate::fold::entitlements::Overage;
use crate::page::Section;
use crate::page::charts::axis::{Keep, POINTS, Span, Width, after, before, frame, span, stepped};
use crate::page::charts::marks::{Side, beside, filled, key, triangle};
use crate::page::charts::{Caption, drawn};
use crate::page::html::cells::{bdi, mono, none};
use crate::page::html::{Html, N, T, W};
use crate::page::svg::{FINE, Ink};
use relay_log::stderr;
use relay_log::text::escape::escape;
use relay_log::text::number::{count, plural};

/// Charts, those with over-allocation first; the table has all allotments.
const CHARTS: usize = 24;
/// Days of over-allocation listed, of each allotment and in all.
const OVER_DAYS: usize = 60;

pub(crate) const SECTION: Section = Section::new("use", "Use against entitlement", draw);

fn draw(html: &mut Html<'_>) {
    let licenses = html.page.licenses.rows.iter().take(LICENSES);
    let mut all: Vec<(&License, &Allotment)> = licenses
        .flat_map(|license| license.allotments.rows.iter().take(ALLOTMENTS).map(move |one| (license, one)))
        .filter(|(_, allotment)| !allotment.days.is_empty())
        .collect();
    if all.is_empty() {
        html.instead("No use is known in this period.");
        return;
    }
    put!(
        html,
        "<p>The most that was assigned at one moment of each day, against what was allowed that day as last seen in a \
         definition: units that are valid, and the overage.</p>"
    );
    let rows: Vec<_> = all.iter().map(|(license, allotment)| peak_row(license, allotment)).collect();
    let columns = [
        ("License", W),
        ("Allotment", W),
        ("Peak", N),
        ("First on", T),
        ("Cap on that day", N),
        ("Days over", N),
        ("At most over", N),
    ];
    html.table("Peak use in the period", &columns, rows.into_iter());
    all.sort_by_cached_key(|(_, allotment)| std::cmp::Reverse(allotment.days_over().count()));
    put!(
        html,
        "<ul class=\"keys\"><li>{}peak of the day</li><li>{}cap: units and overage</li><li>{}over the cap, marked ▼</li></ul>\
         <div class=\"pair\">",
        key(Ink::Use, true),
        key(Ink::Cap, true),
        key(Ink::Over, false)
    );
    for (n, (license, allotment)) in all.iter().take(CHARTS).enumerate() {
        let caption = caption(allotment);
        let words = Caption {
            id: &format!("use{n}"),
            title: &format!("Use of {} of license {} against its cap", allotment.allotment, license.number()),
            description: &caption,
        };
        let chart = chart(&allotment.days, words).unwrap_or_default();
        put!(
            html,
            "<figure><h4>{} <span class=\"soft mono\">{}</span></h4>{chart}<figcaption>{}</figcaption></figure>",
            bdi(&allotment.allotment),
            escape(license.number()),
            escape(&caption)
        );
    }
    put!(html, "</div>");
    html.more(all.len() as u64, CHARTS, ("allotment", "allotments"));
    over_days(html, &all);
}

/// The first day with the highest use.
fn peak(allotment: &Allotment) -> Option<&Day> {
    allotment.days.iter().rev().max_by_key(|day| day.used.peak)
}

fn peak_row(license: &License, allotment: &Allotment) -> Vec<String> {
    let peak = peak(allotment);
    vec![
        mono(license.number()),
        bdi(&allotment.allotment),
        peak.map_or_else(none, |day| count(day.used.peak)),
        peak.map_or_else(none, |day| day.used.day.to_string()),
        peak.map_or_else(none, |day| cap_cell(&day.allowed)),
        match allotment.days_over().count() {
            0 => "0".into(),
            days => format!("<span class=\"bad\">{}</span>", count(days as u64)),
        },
        match allotment.days.iter().map(over).max() {
            None | Some(0) => "0".into(),
            Some(most) => format!("+{}", count(most)),
        },
    ]
}

/// What is to be seen in a chart, in a sentence or two.
fn caption(allotment: &Allotment) -> String {
    let Some(peak) = peak(allotment) else { return "No day is known.".into() };
    let cap_words = match (units(&peak.allowed), peak.allowed.overage) {
        (None, _) => "no definition was seen".to_owned(),
        (Some(units), Overage::Unlimited) => format!("{} units, overage without limit: no cap", count(units)),
        (Some(units), Overage::Units(more)) => {
            let more = whole(more);
            format!(
                "cap {}: {} units and {} overage",
                count(units.saturating_add(more)),
                count(units),
                count(more)
            )
        }
        (Some(units), Overage::Untold | Overage::Unknown) => {
            format!("cap {}, overage not known", count(units))
        }
    };
    let over = match allotment.days_over().count() {
        0 if cap(&peak.allowed).is_none() => String::new(),
        0 => " Never over it.".into(),
        days => format!(" Over on {}.", plural(days as u64, "day", "days")),
    };
    format!("Peak {} on {} ({cap_words}).{over}", count(peak.used.peak), peak.used.day)
}

/// The most at one moment of each day, the cap as a dashed step line, and what is above it hatched, with a mark on top.
/// `None` where no day is known.
fn chart(days: &[Day], words: Caption<'_>) -> Option<String> {
    let (from, to) = span(days)?;
    let cap_of = |day: &Day| cap(&day.allowed);
    drawn(Width::Half, 176, words, |area| {
        let most = days.iter().map(|day| day.used.peak.max(cap_of(day).unwrap_or(0))).max().unwrap_or(0);
        let mut chart = frame(area, Width::Half, 78, Span::Days(from, to), most as f64)?;
        for part in stepped(days, |day| Some(day.used.peak), Keep::Most) {
            if let (Some(first), Some(last)) = (part.first(), part.last()) {
                let mut below = part.clone();
                below.extend([(last.0, 0.0), (first.0, 0.0)]);
                chart.draw_series([Polygon::new(below, Ink::Use)])?;
                chart.draw_series([PathElement::new(part, Ink::Use)])?;
            }
        }
        let mut marked = None;
        for (days, cap, peak) in above_cap(days) {
            let corners = (chart.backend_coord(&(days.0, peak)), chart.backend_coord(&(days.1, cap)));
            filled(area, Ink::Over, || std::iter::once(corners))?;
            let (x, y) = chart.backend_coord(&((days.0 + days.1) / 2.0, peak));
            if marked.is_none_or(|last| x - last >= 9 * FINE) {
                marked = Some(x);
                area.draw(&triangle(x, y - 3 * FINE))?;
            }
        }
        for part in stepped(days, cap_of, Keep::Most) {
            chart.draw_series([PathElement::new(part, Ink::Cap)])?;
        }
        let mut labels = Vec::new();
        if let Some(last) = days.last() {
            let at = |value: u64| chart.backend_coord(&(after(last.used.day), value as f64));
            let (x, y) = at(last.used.peak);
            labels.push(Side { x, y, text: format!("used {}", count(last.used.peak)), ink: Ink::Strong });
            if let Some(cap) = cap_of(last) {
                labels.push(Side { x, y: at(cap).1, text: format!("cap {}", count(cap)), ink: Ink::Label });
            }
        }
        beside(area, labels, 0)
    })
}

/// Stretches with too many, thinned like the line below them: their days, the cap, and the peak.
fn above_cap(days: &[Day]) -> Vec<((f64, f64), f64, f64)> {
    let size = days.len().div_ceil(POINTS).max(1);
    let mut runs: Vec<((f64, f64), f64, f64)> = Vec::new();
    for chunk in days.chunks(size) {
        let Some(worst) = chunk.iter().max_by_key(|day| over(day)).filter(|day| over(day) > 0) else {
            continue;
        };
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { continue };
        let cap = cap(&worst.allowed).unwrap_or_default() as f64;
        let (from, to, peak) = (before(first.used.day), after(last.used.day), worst.used.peak as f64);
        match runs.last_mut() {
            Some((days, c, p)) if days.1 == from && *c == cap && *p == peak => days.1 = to,
            _ => runs.push(((from, to), cap, peak)),
        }
    }
    runs
}

fn over_days(html: &mut Html<'_>, all: &[(&License, &Allotment)]) {
    let total = all.iter().map(|(_, allotment)| allotment.days_over().count() as u64).sum::<u64>();
    if total == 0 {
        put!(html, "<p>On no day was more used than allowed, as far as a cap is known.</p>");
        return;
    }
    let mut stretches: Vec<_> = all
        .iter()
        .flat_map(|(license, one)| {
            stretches(one.days_over().take(OVER_DAYS)).into_iter().map(move |days| (license, one, days))
        })
        .collect();
    stretches.sort_by_key(|(_, _, days)| std::cmp::Reverse(days.to));
    stretches.truncate(OVER_DAYS);
    let rows = stretches.iter().map(|(license, allotment, days)| {
        let Day { used, allowed } = days.worst;
        vec![
            days.from.to_string(),
            days.to.to_string(),
            count(days.days),
            mono(license.number()),
            bdi(&allotment.allotment),
            units(allowed).map_or_else(none, count),
            overage_cell(allowed.overage),
            cap_cell(allowed),
            count(used.peak),
            format!("<span class=\"bad\">+{}</span>", count(over(days.worst))),
            used.day.to_string(),
        ]
    });
    let columns = [
        ("From", T),
        ("To", T),
        ("Days", N),
        ("License", W),
        ("Allotment", W),
        ("Units", N),
        ("Overage", N),
        ("Cap", N),
        ("Peak", N),
        ("Most over", N),
        ("On", T),
    ];
    put!(html, "<h3>Days with more than allowed</h3>");
    html.table("Over-allocated days under one cap, newest first", &columns, rows);
    let listed: u64 = stretches.iter().map(|(_, _, days)| days.days).sum();
    let command = format!("reconcile {}", html.page.logs);
    if total > listed {
        html.and_more(total - listed, ("day", "days"), &command);
    } else {
        put!(
            html,
            "<p class=\"more\">Each day by itself: <code>{} {}</code></p>",
            stderr::reader(),
            escape(&command)
        );
    }
}

/// Days with too many that follow each other, under one cap.
struct Stretch<'d> {
    from: Date,
    to: Date,
    days: u64,
    worst: &'d Day,
}

/// Of days that are newest first.
fn stretches<'d>(days: impl Iterator<Item = &'d Day>) -> Vec<Stretch<'d>> {
    let mut all: Vec<Stretch<'d>> = Vec::new();
    for day in days {
        let date = day.used.day;
        match all.last_mut() {
            Some(last)
                if date.tomorrow().is_ok_and(|next| next == last.from)
                    && cap(&day.allowed) == cap(&last.worst.allowed) =>
            {
                last.from = date;
                last.days += 1;
                if over(day) > over(last.worst) {
                    last.worst = day;
                }
            }
            _ => all.push(Stretch { from: date, to: date, days: 1, worst: day }),
        }
    }
    all
}
