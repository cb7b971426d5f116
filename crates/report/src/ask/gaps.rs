//! Where the rhythm of a deployment's syncs broke, and why.

use std::io;

use serde_json::json;

use super::answer::{Context, Footer, Question};
use crate::fold::clock_skew::Clock;
use crate::fold::gaps::find::Rhythm;
use crate::fold::gaps::gap::{self, FoundGaps};
use crate::read::open::Read;
use crate::table::rows::counted;
use relay_log::ledger::entry::Entry;

/// Holes of one license that are told one by one beside the rows; `coverage` has them all.
const HOLES: usize = 20;

/// Gaps in the rhythm of syncs.
#[derive(Debug, Default)]
pub struct Gaps {
    rhythm: Rhythm,
    clock: Clock,
}

impl Question for Gaps {
    fn columns(&self) -> &'static [&'static str] {
        gap::COLUMNS
    }

    fn take(&mut self, log: usize, entry: &Entry<'_>, _: &mut Context<'_, '_>) -> io::Result<()> {
        self.rhythm.take(log, entry);
        self.clock.take(log, entry);
        Ok(())
    }

    fn finish(&mut self, read: &Read, context: &mut Context<'_, '_>) -> io::Result<Footer> {
        let FoundGaps { gaps, beyond, unwatched, unwritten, .. } = std::mem::take(&mut self.rhythm).finish();
        gaps.iter().try_for_each(|gap| context.rows.row(gap.cells()))?;
        let mut notes = vec![format!(
            "{} between two answered syncs of a source, or since its last one, longer than 25 minutes",
            counted(gaps.len() as u64 + beyond, "time is", "times are")
        )];
        if beyond > 0 {
            notes.push(format!("{beyond} of them are not listed: there are too many to be kept"));
        }
        if unwatched > 0 {
            notes.push(format!(
                "{unwatched} syncs are not watched: their deployments named neither an id nor a license, or are too many"
            ));
        }
        for gap in &unwritten {
            notes.push(format!(
                "{} exchanges went through from {:.0} to {:.0} and are not, or not whole, in log {}",
                gap.count, gap.first, gap.last, gap.log
            ));
        }
        let holes: usize = read.coverage.iter().map(|covered| covered.holes.len()).sum();
        for covered in read.coverage.iter().filter(|covered| !covered.holes.is_empty()) {
            notes.extend(covered.holes.iter().take(HOLES).map(|hole| {
                format!(
                    "license {}: versions {} to {} were told by no reply in this log, noticed {:.0} (inferred): an exchange went \
                     around this relay",
                    covered.license, hole.from, hole.to, hole.noticed
                )
            }));
            if let Some(more) = covered.holes.len().checked_sub(HOLES).filter(|more| *more > 0) {
                notes.push(format!("license {}: the same goes for {more} more holes", covered.license));
            }
        }
        if let Some(most) = self.clock.largest() {
            notes.push(format!(
                "the largest difference between a log's clock and the back end's: {:.1} s, at {:.0} in log {} (ahead is \
                 positive; the back end tells whole seconds)",
                most.by.as_secs_f64(),
                most.time,
                most.log
            ));
        }
        let gaps = !gaps.is_empty() || holes > 0 || !unwritten.is_empty();
        Ok(Footer { notes, members: vec![("unwritten", json!(unwritten))], gaps })
    }
}
