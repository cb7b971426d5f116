//! What stands in a chart: marks, labels beside lines, and their inks.

use plotters::drawing::IntoDrawingArea;
use plotters::element::{PathElement, Polygon, Rectangle, Text};
use plotters::style::{Color, IntoFont, TextStyle};
use plotters_backend::text_anchor::{HPos, Pos, VPos};

use super::axis::{Area, Failed};
use crate::page::svg::{Canvas, FINE, Hatch, Ink, TEXT, hatch};

/// Rectangles (upper left and lower right) filled as an ink is: its hatch on white and within an outline, or solid.
pub(crate) fn filled<I: Iterator<Item = ((i32, i32), (i32, i32))>>(
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
pub(crate) fn key(ink: Ink, line: bool) -> String {
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

/// How labels are set.
pub(crate) fn text(ink: Ink, h: HPos, v: VPos) -> TextStyle<'static> {
    ("sans-serif", TEXT * FINE).into_font().color(&ink).pos(Pos::new(h, v))
}

/// A label at the right end of a line.
pub(crate) struct Side {
    pub(crate) x: i32,
    pub(crate) y: i32,
    pub(crate) text: String,
    pub(crate) ink: Ink,
}

/// Labels beside what they name, pushed apart where they would overlap.
pub(crate) fn beside(area: &Area<'_>, mut labels: Vec<Side>, away: i32) -> Result<(), Failed> {
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
pub(crate) fn mark(ink: Ink, x: i32, y: i32) -> Polygon<(i32, i32)> {
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

/// The mark of a total.
pub(crate) fn diamond(x: i32, y: i32) -> Polygon<(i32, i32)> {
    let r = 4 * FINE;
    Polygon::new(vec![(x, y - r), (x + r, y), (x, y + r), (x - r, y)], Ink::Total)
}

/// The mark above what is too much.
pub(crate) fn triangle(x: i32, y: i32) -> Polygon<(i32, i32)> {
    let r = 4 * FINE;
    Polygon::new(vec![(x - r, y - 2 * r + FINE), (x + r, y - 2 * r + FINE), (x, y)], Ink::OverMark)
}
