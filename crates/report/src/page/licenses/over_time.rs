//! Section "Assignments over time": how many held each allotment at the end of each day.

use std::fmt::Write as _;

use jiff::civil::Date;
use plotters::element::PathElement;

use super::{Allotment, LICENSES, License};
use crate::page::Section;
use crate::page::charts::axis::{Keep, Span, Width, after, frame, span, stepped};
use crate::page::charts::marks::{Side, beside, key, mark};
use crate::page::charts::{Caption, drawn};
use crate::page::html::cells::{bdi, mono, none};
use crate::page::html::{Html, N, T};
use crate::page::svg::Ink;
use relay_log::text::number::{count, short};

/// Licenses with a chart.
const CHARTS: usize = 6;
/// Lines in a chart; further allotments are in its table only.
const LINES: usize = 6;
/// Rows of the table beside a chart.
const SAMPLES: usize = 13;
/// The inks of a chart, line by line.
const INKS: [Ink; LINES] = [Ink::Line0, Ink::Line1, Ink::Line2, Ink::Line3, Ink::Line4, Ink::Line5];

pub(crate) const SECTION: Section = Section::new("assignments", "Assignments over time", draw);

fn draw(html: &mut Html<'_>) {
    let licenses = &html.page.licenses;
    let mut charts = 0;
    for (n, license) in licenses.rows.iter().take(LICENSES).enumerate() {
        let lines = largest(license);
        if lines.is_empty() || charts == CHARTS {
            continue;
        }
        charts += 1;
        put!(html, "<h3>License {}</h3><figure>", mono(license.number()));
        let ends: Vec<String> = lines
            .iter()
            .filter_map(|line| {
                let (first, last) = (line.days.first()?, line.days.last()?);
                Some(format!("{} from {} to {}", line.allotment, first.used.at_end, last.used.at_end))
            })
            .collect();
        let words = Caption {
            id: &format!("assignments{n}"),
            title: &format!("Assignments of license {} over time, by allotment", license.number()),
            description: &format!("{}.", ends.join(", ")),
        };
        for width in [Width::Wide, Width::Narrow] {
            html.out.push_str(&chart(&lines, width, words).unwrap_or_default());
        }
        put!(html, "<ul class=\"keys\">");
        for (line, ink) in lines.iter().zip(INKS) {
            put!(html, "<li>{}{}</li>", key(ink, true), bdi(&line.allotment));
        }
        put!(html, "</ul><figcaption>Assignments at the end of each day that this log knows of.");
        if license.coverage.known_from.is_some_and(|from| from > 0) && license.opening.is_none() {
            put!(html, " Holders before its first version are not among them.");
        }
        put!(html, "</figcaption></figure>");
        let mut columns = vec![("End of", T)];
        columns.extend(lines.iter().map(|line| (line.allotment.as_str(), N)));
        let rows = samples(&lines).into_iter().map(|day| {
            let mut row = vec![day.to_string()];
            row.extend(lines.iter().map(|line| {
                let at = line.days.iter().find(|known| known.used.day == day);
                at.map_or_else(none, |day| count(day.used.at_end))
            }));
            row
        });
        html.table("The same as numbers", &columns, rows);
    }
    if charts == 0 {
        html.instead("No assignment is known in this period.");
    }
    html.more(licenses.total, charts, ("license", "licenses"));
}

/// The allotments of a license with the most assignments, in the order in which they are drawn.
fn largest(license: &License) -> Vec<&Allotment> {
    let most = |allotment: &Allotment| allotment.days.iter().map(|day| day.used.at_end).max().unwrap_or(0);
    let mut shown: Vec<_> = license.allotments.rows.iter().filter(|allotment| most(allotment) > 0).collect();
    shown.sort_by_key(|allotment| std::cmp::Reverse(most(allotment)));
    shown.truncate(LINES);
    shown
}

/// Assignments at the end of each day by allotment, a label at the end of each line. `None` where there are none.
fn chart(lines: &[&Allotment], width: Width, words: Caption<'_>) -> Option<String> {
    let (from, to) = span(lines.iter().flat_map(|allotment| &allotment.days))?;
    drawn(width, 240, words, |area| {
        let days = lines.iter().flat_map(|line| &line.days);
        let most = days.map(|day| day.used.at_end).max().unwrap_or(0);
        let right = if width == Width::Narrow { 112 } else { 150 };
        let mut chart = frame(area, width, right, Span::Days(from, to), most as f64)?;
        let mut labels = Vec::new();
        for (line, ink) in lines.iter().zip(INKS) {
            for part in stepped(&line.days, |day| Some(day.used.at_end), Keep::Both) {
                chart.draw_series([PathElement::new(part, ink)])?;
            }
            if let Some(last) = line.days.last() {
                let (x, y) = chart.backend_coord(&(after(last.used.day), last.used.at_end as f64));
                area.draw(&mark(ink, x, y))?;
                let held = count(last.used.at_end);
                let room: usize = if width == Width::Narrow { 12 } else { 19 };
                let name = short(&line.allotment, room.saturating_sub(held.len()));
                labels.push(Side { x, y, text: format!("{name} {held}"), ink: Ink::Label });
            }
        }
        beside(area, labels, 12)
    })
}

/// Days for the table beside the chart: the ends of months, or evenly spread ones where there are few; always the last.
fn samples(lines: &[&Allotment]) -> Vec<Date> {
    let mut days: Vec<Date> =
        lines.iter().flat_map(|line| line.days.iter().map(|day| day.used.day)).collect();
    days.sort_unstable();
    days.dedup();
    let ends: Vec<Date> = days.iter().copied().filter(|day| *day == day.last_of_month()).collect();
    let mut chosen = if ends.len() >= 3 { ends } else { days.clone() };
    let every = chosen.len().div_ceil(SAMPLES - 1).max(1);
    chosen = chosen.into_iter().rev().step_by(every).collect();
    chosen.reverse();
    if let Some(last) = days.last().filter(|last| chosen.last() != Some(last)) {
        chosen.push(*last);
    }
    chosen
}
