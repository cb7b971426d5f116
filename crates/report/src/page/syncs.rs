//! Section "Syncs and gaps": when each source synced, as a [`strip`], and the [`gaps`] between its syncs.

pub(super) mod gaps;
pub(super) mod strip;

use std::fmt::Write as _;

use super::Section;
use super::html::Html;

pub(super) const SECTION: Section = Section::new("syncs", "Syncs and gaps", draw);

fn draw(html: &mut Html<'_>) {
    put!(
        html,
        "<p>A deployment syncs every ten minutes. More than 25 minutes between two answers is a gap; its kind says \
         where it lies.</p>"
    );
    strip::draw(html);
    gaps::draw(html);
}
