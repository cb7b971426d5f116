//! Where plotters draws to: compact SVG whose colours are classes, so that the page's style decides about colour, dashes,
//! hatches and print, and whose text is text in the page's own font.

use std::convert::Infallible;
use std::fmt::Write as _;

use plotters::style::Color;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
};

use super::escape::escape;

/// Units of a drawing for one pixel: plotters has whole numbers only, and a day of a year is a few pixels wide.
pub const FINE: i32 = 4;
/// The size of text in charts, in pixels, as the page's style has it too.
pub const TEXT: i32 = 12;

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

/// What something is drawn as; how that looks, the page's style says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
#[allow(missing_docs)] // Each says by its class what it is.
pub enum Ink {
    Grid,
    Axis,
    Label,
    Strong,
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

const INKS: [(Ink, &str); 27] = [
    (Ink::Grid, "grid"),
    (Ink::Axis, "axis"),
    (Ink::Label, "label"),
    (Ink::Strong, "strong"),
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

impl Ink {
    /// Its class in the page's style.
    pub fn class(self) -> &'static str {
        INKS[self as usize].1
    }
}

impl Color for Ink {
    fn to_backend_color(&self) -> BackendColor {
        BackendColor { alpha: 1.0, rgb: (0, 0, *self as u8) }
    }
}

fn class(color: BackendColor) -> &'static str {
    INKS.get(usize::from(color.rgb.2)).map_or("", |(_, class)| class)
}

/// A drawing of this many pixels, written into a text; what stands around its elements is the caller's.
#[derive(Debug)]
pub struct Canvas<'a> {
    out: &'a mut String,
    size: (u32, u32),
}

impl<'a> Canvas<'a> {
    /// An empty one; the size is in units of [`FINE`].
    pub fn new(out: &'a mut String, size: (u32, u32)) -> Self {
        Self { out, size }
    }

    fn points(&mut self, tag: &str, color: BackendColor, points: impl IntoIterator<Item = BackendCoord>) {
        let _ = write!(self.out, "<{tag} class=\"{}\" points=\"", class(color));
        for (n, (x, y)) in points.into_iter().enumerate() {
            let _ = write!(self.out, "{}{x},{y}", if n == 0 { "" } else { " " });
        }
        self.out.push_str("\"/>");
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
        if color.alpha > 0.0 {
            let _ = write!(
                self.out,
                "<rect class=\"{}\" x=\"{x}\" y=\"{y}\" width=\"1\" height=\"1\"/>",
                class(color)
            );
        }
        Ok(())
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        if style.color().alpha > 0.0 {
            self.points("polyline", style.color(), [from, to]);
        }
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        (x0, y0): BackendCoord,
        (x1, y1): BackendCoord,
        style: &S,
        _fill: bool,
    ) -> Drawn {
        if style.color().alpha > 0.0 {
            let (x, y, w, h) = (x0.min(x1), y0.min(y1), (x1 - x0).abs(), (y1 - y0).abs());
            let _ = write!(
                self.out,
                "<rect class=\"{}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"/>",
                class(style.color())
            );
        }
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        if style.color().alpha > 0.0 {
            self.points("polyline", style.color(), path);
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        if style.color().alpha > 0.0 {
            self.points("polygon", style.color(), path);
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        (x, y): BackendCoord,
        radius: u32,
        style: &S,
        _fill: bool,
    ) -> Drawn {
        if style.color().alpha > 0.0 {
            let _ = write!(
                self.out,
                "<circle class=\"{}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>",
                class(style.color())
            );
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ink_stands_at_its_own_number() {
        for (n, (ink, name)) in INKS.iter().enumerate() {
            assert_eq!(*ink as usize, n);
            assert_eq!(ink.class(), *name);
        }
    }
}
