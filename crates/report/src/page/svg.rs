//! Where plotters draws to: compact SVG whose colours are classes, so that the page's style decides about colour, dashes
//! and print, and whose text is text in the page's own font.
//!
//! Neighbours of one class become one path. Hatches are lines, not SVG patterns: printed, each use of a pattern becomes a
//! picture of its own, and a report of a few pages tens of megabytes.

use std::convert::Infallible;
use std::fmt::Write as _;

use plotters::style::Color;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
};

use relay_log::text::escape::escape;

/// Units of a drawing for one pixel: plotters has whole numbers only, and a day of a year is a few pixels wide.
pub(super) const FINE: i32 = 4;
/// The size of text in charts, in pixels, as the page's style has it too.
pub(super) const TEXT: i32 = 12;

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

/// What something is drawn as; how that looks, the page's style says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Ink {
    Grid,
    Axis,
    Label,
    Strong,
    /// The page itself, below a hatch.
    Paper,
    /// Six lines that differ by dashes, and their marks.
    Line0,
    Line1,
    Line2,
    Line3,
    Line4,
    Line5,
    Use,
    Cap,
    Over,
    OverMark,
    Low,
    High,
    Total,
    /// Syncs in a cell, few to all.
    Heat1,
    Heat2,
    Heat3,
    Heat4,
    /// Gaps by kind.
    Down,
    Refused,
    Failing,
    Silent,
    Around,
    NotWritten,
}

const INKS: [(Ink, &str); 28] = [
    (Ink::Grid, "grid"),
    (Ink::Axis, "axis"),
    (Ink::Label, "label"),
    (Ink::Strong, "strong"),
    (Ink::Paper, "paper"),
    (Ink::Line0, "l0"),
    (Ink::Line1, "l1"),
    (Ink::Line2, "l2"),
    (Ink::Line3, "l3"),
    (Ink::Line4, "l4"),
    (Ink::Line5, "l5"),
    (Ink::Use, "use"),
    (Ink::Cap, "cap"),
    (Ink::Over, "over"),
    (Ink::OverMark, "overmark"),
    (Ink::Low, "low"),
    (Ink::High, "high"),
    (Ink::Total, "total"),
    (Ink::Heat1, "h1"),
    (Ink::Heat2, "h2"),
    (Ink::Heat3, "h3"),
    (Ink::Heat4, "h4"),
    (Ink::Down, "down"),
    (Ink::Refused, "refused"),
    (Ink::Failing, "failing"),
    (Ink::Silent, "silent"),
    (Ink::Around, "around"),
    (Ink::NotWritten, "notwritten"),
];

impl Color for Ink {
    fn to_backend_color(&self) -> BackendColor {
        BackendColor { alpha: 1.0, rgb: (0, 0, *self as u8) }
    }
}

fn class(color: BackendColor) -> &'static str {
    INKS.get(usize::from(color.rgb.2)).map_or("", |(_, class)| class)
}

/// A drawing, written into a text; what stands around its elements is the caller's.
#[derive(Debug)]
pub(super) struct Canvas<'a> {
    out: &'a mut String,
    size: (u32, u32),
    /// The path that is being written: stroked or filled, and as what.
    open: Option<(char, &'static str)>,
}

impl<'a> Canvas<'a> {
    /// An empty one; the size is in units of [`FINE`].
    pub(super) fn new(out: &'a mut String, size: (u32, u32)) -> Self {
        Self { out, size, open: None }
    }

    /// Goes on with a path of this kind, or begins one.
    fn path(&mut self, how: char, color: BackendColor) {
        let wanted = Some((how, class(color)));
        if self.open != wanted {
            self.close();
            let _ = write!(self.out, "<path class=\"{how} {}\" d=\"", class(color));
            self.open = wanted;
        }
    }

    fn close(&mut self) {
        if self.open.take().is_some() {
            self.out.push_str("\"/>");
        }
    }

    fn points(&mut self, how: char, color: BackendColor, points: impl IntoIterator<Item = BackendCoord>) {
        if color.alpha == 0.0 {
            return;
        }
        self.path(how, color);
        for (n, (x, y)) in points.into_iter().enumerate() {
            let _ = write!(self.out, "{}{x},{y}", if n == 0 { 'M' } else { ' ' });
        }
        if how == FILLED {
            self.out.push('z');
        }
    }
}

/// How a path is drawn, as its first class.
const STROKED: char = 's';
const FILLED: char = 'f';

impl Drop for Canvas<'_> {
    fn drop(&mut self) {
        self.close();
    }
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        self.points(FILLED, color, [(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)]);
        Ok(())
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.points(STROKED, style.color(), [from, to]);
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        (x0, y0): BackendCoord,
        (x1, y1): BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        if style.color().alpha > 0.0 {
            self.path(if fill { FILLED } else { STROKED }, style.color());
            let _ = write!(self.out, "M{x0},{y0}H{x1}V{y1}H{x0}z");
        }
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        self.points(STROKED, style.color(), path);
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        self.points(FILLED, style.color(), path);
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        (x, y): BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        if style.color().alpha > 0.0 {
            self.path(if fill { FILLED } else { STROKED }, style.color());
            let _ = write!(
                self.out,
                "M{x},{y}m-{radius},0a{radius},{radius} 0 1 0 {0},0a{radius},{radius} 0 1 0 -{0},0z",
                2 * radius
            );
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        self.close();
        let anchor = match style.anchor().h_pos {
            HPos::Left => "",
            HPos::Right => " text-anchor=\"end\"",
            HPos::Center => " text-anchor=\"middle\"",
        };
        // The base line, as capitals of a usual font stand on it.
        let y = y + match style.anchor().v_pos {
            VPos::Top => TEXT * FINE * 3 / 4,
            VPos::Center => TEXT * FINE * 3 / 8,
            VPos::Bottom => 0,
        };
        let _ = write!(
            self.out,
            "<text class=\"{}\" x=\"{x}\" y=\"{y}\"{anchor}>{}</text>",
            class(style.color()),
            escape(text)
        );
        Ok(())
    }
}

/// Lines that fill a rectangle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hatch {
    /// From the lower left to the upper right.
    Rising,
    /// From the upper left to the lower right.
    Falling,
    /// Side by side.
    Level,
    /// Points, drawn as lines of no length.
    Dots,
}

/// The lines of a hatch in a rectangle, its upper left and lower right corner given; they go on in the next one.
pub(super) fn hatch(
    hatch: Hatch,
    (x0, y0): BackendCoord,
    (x1, y1): BackendCoord,
    step: i32,
) -> Vec<[BackendCoord; 2]> {
    let step = step.max(1);
    let multiples =
        |from: i32, to: i32| (from.div_euclid(step) + 1..=to.div_euclid(step)).map(move |n| n * step);
    match hatch {
        Hatch::Rising => multiples(x0 + y0, x1 + y1)
            .map(|sum| (x0.max(sum - y1), x1.min(sum - y0), sum))
            .map(|(left, right, sum)| [(left, sum - left), (right, sum - right)])
            .collect(),
        Hatch::Falling => multiples(x0 - y1, x1 - y0)
            .map(|gap| (x0.max(y0 + gap), x1.min(y1 + gap), gap))
            .map(|(left, right, gap)| [(left, left - gap), (right, right - gap)])
            .collect(),
        Hatch::Level => multiples(y0, y1 - 1).map(|y| [(x0, y), (x1, y)]).collect(),
        Hatch::Dots => {
            // Narrow ones get their points in the middle.
            let across: Vec<i32> = multiples(x0 + step / 4, x1 - step / 4).collect();
            let across = if across.is_empty() { vec![i32::midpoint(x0, x1)] } else { across };
            let down = || multiples(y0 + step / 4, y1 - step / 4);
            down().flat_map(|y| across.iter().map(move |x| [(*x, y), (*x, y)])).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hatch_stays_within_its_rectangle_and_fills_it() {
        let (from, to) = ((13, 7), (113, 57));
        for kind in [Hatch::Rising, Hatch::Falling, Hatch::Level, Hatch::Dots] {
            let lines = hatch(kind, from, to, 16);
            assert!(lines.len() >= 3, "{kind:?}: {lines:?}");
            for (x, y) in lines.into_iter().flatten() {
                assert!((from.0..=to.0).contains(&x) && (from.1..=to.1).contains(&y), "{kind:?}: {x},{y}");
            }
        }
    }

    #[test]
    fn neighbours_of_one_kind_are_one_path() {
        let mut out = String::new();
        let mut canvas = Canvas::new(&mut out, (100, 100));
        let ink = Ink::Cap.to_backend_color();
        canvas.draw_path([(0, 0), (1, 1)], &ink).unwrap();
        canvas.draw_path([(2, 2), (3, 3)], &ink).unwrap();
        canvas.draw_rect((4, 4), (5, 5), &ink, true).unwrap();
        drop(canvas);
        assert_eq!(out, r#"<path class="s cap" d="M0,0 1,1M2,2 3,3"/><path class="f cap" d="M4,4H5V5H4z"/>"#);
    }

    #[test]
    fn every_ink_stands_at_its_own_number() {
        for (n, (ink, name)) in INKS.iter().enumerate() {
            assert_eq!(*ink as usize, n);
            assert_eq!(class(ink.to_backend_color()), *name);
        }
    }
}
