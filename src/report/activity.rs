//! The questions about deployments rather than people: the folds of [`rhythm`](super::rhythm) and its neighbours, put to the
//! log one by one.

use std::io;

use serde_json::json;

use super::answer::{Desk, Question, Read, Said};
use super::gaps::{self, Found};
use super::rhythm::Rhythm;
use crate::ledger::entry::Entry;

/// Gaps in the rhythm of syncs.
#[derive(Debug, Default)]
pub struct Gaps {
    rhythm: Rhythm,
}

impl Question for Gaps {
    fn columns(&self) -> &'static [&'static str] {
        gaps::COLUMNS
    }

    fn take(&mut self, log: usize, entry: &Entry<'_>, _: &mut Desk<'_, '_>) -> io::Result<()> {
        self.rhythm.take(log, entry);
        Ok(())
    }

    fn finish(&mut self, read: &Read, desk: &mut Desk<'_, '_>) -> io::Result<Said> {
        let Found { gaps, beyond, unwatched, unwritten, .. } = std::mem::take(&mut self.rhythm).finish();
        gaps.iter().try_for_each(|gap| desk.rows.row(gap.cells()))?;
        let mut notes = vec![format!(
            "{} times between two answered syncs of a source, or since its last one, are longer than 25 minutes",
            gaps.len() as u64 + beyond
        )];
        if beyond > 0 {
            notes.push(format!("{beyond} of them are not listed: there are too many to be kept"));
        }
        if unwatched > 0 {
            notes.push(format!("{unwatched} syncs are of sources that are too many to be watched"));
        }
        for gap in &unwritten {
            notes.push(format!(
                "{} exchanges went through from {:.0} to {:.0} and are not, or not whole, in log {}",
                gap.count, gap.first, gap.last, gap.log
            ));
        }
        let holes: usize = read.coverage.iter().map(|covered| covered.holes.len()).sum();
        for covered in read.coverage.iter().filter(|covered| !covered.holes.is_empty()) {
            notes.extend(covered.holes.iter().take(20).map(|hole| {
                format!(
                    "license {}: versions {} to {} were told by no reply in this log, noticed {:.0} (inferred): an exchange went \
                     around this relay",
                    covered.license, hole.from, hole.to, hole.noticed
                )
            }));
        }
        let gaps = !gaps.is_empty() || holes > 0 || !unwritten.is_empty();
        Ok(Said { notes, members: vec![("unwritten", json!(unwritten))], gaps })
    }
}
