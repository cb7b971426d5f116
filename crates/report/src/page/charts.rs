//! What the charts of the page share, as inline SVG: how one is wrapped, its axes, and its marks. Each chart stands with
//! its section.
//!
//! Each is readable without colour (dashes, hatches, marks, labels beside what they name), and says in its `<title>` and
//! `<desc>` what it shows; the page has the same numbers as a table or a sentence. Long periods are thinned, and what is
//! thinned keeps its highest and lowest values.

pub(super) mod axis;
pub(super) mod marks;

use plotters::drawing::IntoDrawingArea;

use super::svg::{Canvas, FINE};
use axis::{Area, Failed, Width};
use relay_log::text::escape::escape;

/// What a chart says of itself to those who can't see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caption<'a> {
    /// Its id on the page, a word; the ids of its parts begin with it.
    pub(super) id: &'a str,
    /// What it is.
    pub(super) title: &'a str,
    /// What is to be seen in it, with the numbers that count.
    pub(super) description: &'a str,
}

/// Draws a chart, and wraps what was drawn; what can't be drawn becomes a sentence, as the numbers stand on the page anyway.
pub(super) fn drawn(
    width: Width,
    height: i32,
    Caption { id, title, description }: Caption<'_>,
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
