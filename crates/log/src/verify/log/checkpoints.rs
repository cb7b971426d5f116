//! The checkpoints that the tree is held against: the log's own, and those that were kept elsewhere as anchors.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Covered, Foreign, Run};
use crate::ledger::merkle::Frontier;
use crate::ledger::note::{self, CHECKPOINT, Checkpoint, KEPT, MAX_NOTE, NoteError, anchor_name};
use crate::ledger::regular_file;
use crate::ledger::segment::Lines;
use crate::text::hex::hex;

/// A checkpoint that the tree is held against once it has grown to its size.
pub(super) struct Wanted {
    pub(super) file: PathBuf,
    pub(super) checkpoint: Checkpoint,
    pub(super) anchor: bool,
}

impl Run<'_> {
    pub(super) fn want(&mut self, file: &Path, checkpoint: Checkpoint, anchor: bool) {
        let wanted = Wanted { file: file.to_owned(), checkpoint, anchor };
        self.wanted.entry(wanted.checkpoint.size).or_default().push(wanted);
    }

    /// The log's own checkpoints.
    pub(super) fn read_own(&mut self) -> io::Result<()> {
        let mut files = vec![self.log.join(CHECKPOINT)];
        match fs::read_dir(self.log.join(KEPT)) {
            Ok(kept) => {
                for entry in kept {
                    let path = entry?.path();
                    if path.extension().is_some_and(|extension| extension == "note") {
                        files.push(path);
                    }
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        files[1..].sort();
        for file in files {
            match regular_file::read(&file, MAX_NOTE as u64) {
                Ok(note) => match self.key.open(&note) {
                    Ok(checkpoint) => self.want(&file, checkpoint, false),
                    Err(e) => self.damaged(format!("the checkpoint {} {e}", file.display())),
                },
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    self.unread(&file, e, "");
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    pub(super) fn read_anchor(&mut self, anchor: &Path) -> io::Result<()> {
        let file = if anchor.is_dir() { anchor.join(anchor_name(&self.key.name)) } else { anchor.to_owned() };
        let opened = match regular_file::open(&file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && anchor.is_dir() => {
                self.foreign_anchors.push(Foreign { anchor: anchor.to_owned(), of_another: false });
                return Ok(());
            }
            opened => opened?,
        };
        // What lies in the copy has come with it: whoever changed the one could change the other.
        if fs::canonicalize(&file).and_then(|file| Ok(file.starts_with(fs::canonicalize(self.log)?)))? {
            self.own_anchors.push(file);
            return Ok(());
        }
        let mut of_another = false;
        // A longer one is the log of a program.
        if let Ok(note) = regular_file::read_opened(opened, MAX_NOTE as u64) {
            match self.key.open(&note) {
                Ok(checkpoint) => {
                    self.want(&file, checkpoint, true);
                    return Ok(());
                }
                Err(NoteError::Forged) => {
                    self.rolled_back.push(format!("the anchor {} {}", file.display(), NoteError::Forged));
                    return Ok(());
                }
                Err(NoteError::NotOurs) => of_another = true,
                // The log of a program, maybe.
                Err(NoteError::Malformed) => {}
            }
        }
        let mut found = false;
        let mut lines = Lines::of_text(&file)?;
        loop {
            let line = lines.next_line()?;
            if line.is_empty() {
                break;
            }
            match note::in_line(line).map(|note| self.key.open(&note)) {
                Some(Ok(checkpoint)) => {
                    self.want(&file, checkpoint, true);
                    found = true;
                }
                Some(Err(_)) => of_another = true,
                None => {}
            }
        }
        if !found {
            self.foreign_anchors.push(Foreign { anchor: anchor.to_owned(), of_another });
        }
        Ok(())
    }

    /// Holds the tree against the checkpoints of its size.
    pub(super) fn check_root(&mut self) {
        let Some(wanted) = self.wanted.remove(&self.next) else { return };
        let Some(root) = self.tree.as_ref().map(Frontier::root) else {
            for Wanted { file, anchor, .. } in wanted {
                self.differs(anchor, format!("{} can't be checked: records are missing", file.display()));
            }
            return;
        };
        for Wanted { file, checkpoint, anchor } in wanted {
            let Checkpoint { size, time, .. } = checkpoint;
            if root == checkpoint.root {
                let covered = Covered { file, size, time };
                if anchor { self.anchors.push(covered) } else { self.held.push(covered) }
            } else {
                let what = format!(
                    "the first {size} records are not those of the checkpoint {} (root {})",
                    file.display(),
                    hex(&checkpoint.root)
                );
                self.differs(anchor, what);
            }
        }
    }

    pub(super) fn differs(&mut self, anchor: bool, what: String) {
        if anchor { self.rolled_back.push(what) } else { self.damaged(what) }
    }
}
