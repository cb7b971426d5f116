//! Section "The clock": how far the relay's clock was from the back end's at most, as times on the page are the relay's.

use std::fmt::Write as _;

use super::Section;
use super::html::Html;
use super::html::cells::time;
use crate::fold::clock_skew::{Clock, Difference};
use relay_log::ledger::entry::Entry;
use relay_log::text::number::plural;

pub(super) const SECTION: Section = Section::new("clock", "The clock", draw);

/// Our clock against the back end's.
#[derive(Clone, Copy, Debug)]
pub struct ClockSkew {
    /// The largest difference.
    pub largest: Difference,
    /// Replies that told a time.
    pub replies: u64,
}

/// Compares the clocks, and counts what can be compared.
#[derive(Default)]
pub(super) struct Comparison {
    fold: Clock,
    replies: u64,
}

impl Comparison {
    /// The next record.
    pub(super) fn take(&mut self, log: usize, entry: &Entry<'_>) {
        self.fold.take(log, entry);
        self.replies += u64::from(entry.qlik.server_date.is_some());
    }

    pub(super) fn finish(self) -> Option<ClockSkew> {
        self.fold.largest().map(|largest| ClockSkew { largest: *largest, replies: self.replies })
    }
}

fn draw(html: &mut Html<'_>) {
    let Some(ClockSkew { largest, replies }) = &html.page.clock else {
        html.instead(
            "No reply that was looked at told the back end's time: times on this page are the relay's alone.",
        );
        return;
    };
    let ahead = largest.by.as_secs_f64();
    put!(
        html,
        "<p>At most <b>{:.0} s</b> {} the back end's, on {}; {} told its time, in whole seconds. Times on this \
         page are the relay's.</p>",
        ahead.abs(),
        if ahead >= 0.0 { "ahead of" } else { "behind" },
        time(largest.time),
        plural(*replies, "reply", "replies")
    );
}
