//! Sealed segments are listed with their hashes in `SHA256SUMS`.

use std::io;
use std::path::Path;

use super::Run;
use super::hashed::End;
use crate::ledger::merkle::Hash;
use crate::ledger::regular_file::{self, MAX_SUMS};
use crate::ledger::segment::{self, SUMS, Segment};
use crate::text::hex::hex;

impl Run<'_> {
    /// Read anew for each segment: one that was put away meanwhile is listed by now.
    pub(super) fn check_sums(&mut self, segment: &Segment, end: &End) {
        let file = self.log.join(segment::FOLDER).join(SUMS);
        let sums = match regular_file::read(&file, MAX_SUMS) {
            Ok(sums) => sums,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return self.unread(&file, e, ""),
        };
        let sums = String::from_utf8_lossy(&sums);
        let plain = segment::path(self.log, segment.first);
        let listed = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let mut lines = sums.split_inclusive('\n');
            lines.find_map(|line| {
                line.strip_suffix('\n')?.strip_suffix(&*name)?.strip_suffix("  ").map(str::to_owned)
            })
        };
        let mut wrong = Vec::new();
        let mut hold = |path: &Path, hash: &Hash| match listed(path) {
            Some(sum) if sum == hex(hash) => {}
            Some(_) => wrong.push(format!("{} is not what {SUMS} says", segment.path.display())),
            None if segment.compressed => {
                wrong.push(format!("{} is not in {SUMS}", path.display()));
            }
            // Not put away yet.
            None => {}
        };
        hold(&plain, &end.plain);
        if let Some(packed) = &end.packed {
            hold(&segment.path, packed);
        }
        wrong.into_iter().for_each(|what| self.damaged(what));
    }
}
