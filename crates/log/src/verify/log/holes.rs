//! Records that are not there: pruned, which the log says itself under a checkpoint, or missing.

use super::Run;
use crate::bounds;
use crate::ledger::note::{CHECKPOINT, MAX_NOTE};
use crate::ledger::regular_file;
use crate::ledger::tiles::{self, WIDTH};

/// Records that are not there.
pub(super) struct Hole {
    first: u64,
    /// The first one behind it that is.
    end: u64,
    /// From here to its end no record says that it was pruned.
    untold: u64,
    /// The record that says so of the others.
    by: u64,
}

impl Run<'_> {
    pub(super) fn note_missing(&mut self, first: u64) {
        let next = self.next;
        if first < next {
            return self.damaged(format!(
                "the segment that starts with record {first} repeats records before {next}"
            ));
        }
        // Whether that is damage is told by what comes later.
        self.holes.push(Hole { first: next, end: first, untold: next, by: 0 });
        // Their hashes may be there still, and what comes after can be checked all the same.
        while self.next < first && self.tree.is_some() {
            let (tile, at) = (self.next / WIDTH, self.next % WIDTH);
            let Ok(hashes) = tiles::read(self.log, tile, WIDTH.min(first - tile * WIDTH)) else {
                self.tree = None;
                break;
            };
            for hash in hashes.into_iter().skip(usize::try_from(at).unwrap_or(usize::MAX)) {
                if let Some(tree) = &mut self.tree {
                    tree.push(hash);
                }
                self.next += 1;
                self.check_root();
            }
        }
        let unproven: Vec<u64> = self.wanted.range(self.next..=first).map(|(size, _)| *size).collect();
        for size in unproven {
            self.next = size;
            self.check_root();
        }
        self.next = first;
    }

    /// What a record says was pruned is not missing, if a checkpoint covers the record.
    pub(super) fn note_pruned(&mut self, index: u64, pruned: Option<(u64, u64)>) {
        let Some((from, to)) = pruned else { return };
        for hole in &mut self.holes {
            let untold = hole.end.min(to.saturating_add(1));
            if from <= hole.first && untold > hole.untold {
                (hole.untold, hole.by) = (untold, index);
            }
        }
        // Where that happens while this runs, its checkpoint is newer than those that were read first.
        if self.wanted.last_key_value().is_none_or(|(size, _)| *size <= index)
            && let Ok(note) = regular_file::read(&self.log.join(CHECKPOINT), MAX_NOTE as u64)
            && let Ok(checkpoint) = self.key.open(&note)
            && checkpoint.size > index
        {
            self.want(&self.log.join(CHECKPOINT), checkpoint, false);
        }
    }

    /// How many records were pruned; all others that are not there are damage, and told first.
    pub(super) fn judge_holes(&mut self, signed: u64) -> u64 {
        let mut pruned = 0;
        for hole in std::mem::take(&mut self.holes).into_iter().rev() {
            let Hole { first, end, untold, by } = hole;
            let told = if by < signed { untold } else { first };
            pruned += told - first;
            if told < end {
                let said = match told < untold {
                    true => format!(
                        "; that they were pruned is said by record {by}, which no checkpoint that holds covers: hashes/ is \
                         damaged, or somebody else wrote that"
                    ),
                    false => String::new(),
                };
                let what =
                    format!("records {told} to {} are missing: their segment is not there{said}", end - 1);
                self.damages += 1;
                self.damage.insert(0, what);
                self.damage.truncate(bounds::FAULTS_LISTED);
            }
        }
        pruned
    }
}
