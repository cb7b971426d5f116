//! The tree as the writer grows it, and as a start finds it again.

use std::io;
use std::path::Path;

use crate::ledger::merkle::{Frontier, Hash, leaf};
use crate::ledger::segment::{self, Lines, Segment};
use crate::ledger::tiles::{self, WIDTH};

/// The tree over all records, with the leaves of the tile that is not full yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    frontier: Frontier,
    tile: Vec<Hash>,
}

impl Tree {
    /// The tree over the first so many records: from the tiles, or, where these are missing or damaged, from the
    /// segments.
    ///
    /// # Errors
    /// Neither can be read.
    pub(super) fn load(log: &Path, size: u64) -> io::Result<Self> {
        let mut tree = Self::default();
        let read = tiles::read_first(log, size, |hash| drop(tree.push(hash)));
        if read.is_ok() { Ok(tree) } else { Self::rebuild(log, size) }
    }

    /// The same from the segments alone; the tiles are written anew.
    ///
    /// # Errors
    /// A segment can't be read, or they hold fewer records.
    pub(super) fn rebuild(log: &Path, size: u64) -> io::Result<Self> {
        let mut tree = Self::default();
        for segment in segment::list(log)? {
            tree.read(log, &segment, size)?;
        }
        if tree.size() < size {
            let words = format!("the segments hold {} records, and not {size}", tree.size());
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        Ok(tree)
    }

    fn read(&mut self, log: &Path, segment: &Segment, size: u64) -> io::Result<()> {
        let mut lines = Lines::of(segment)?;
        while self.size() < size {
            let Some((b'\n', line)) = lines.next_line()?.split_last() else { break };
            if let Some((tile, hashes)) = self.push(leaf(line)) {
                tiles::write(log, tile, &hashes)?;
            }
        }
        Ok(())
    }

    /// Adds a leaf; gives a tile that has become full.
    pub(super) fn push(&mut self, leaf: Hash) -> Option<(u64, Vec<Hash>)> {
        self.frontier.push(leaf);
        self.tile.push(leaf);
        let full = self.tile.len() as u64 == WIDTH;
        full.then(|| (self.size() / WIDTH - 1, std::mem::take(&mut self.tile)))
    }

    /// The tile that is not full, which a seal leaves behind in part.
    pub(super) fn open_tile(&self) -> Option<(u64, Vec<Hash>)> {
        (!self.tile.is_empty()).then(|| (self.size() / WIDTH, self.tile.clone()))
    }

    pub(super) fn size(&self) -> u64 {
        self.frontier.size()
    }

    pub(super) fn root(&self) -> Hash {
        self.frontier.root()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_found_again_from_its_tiles_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut tree = Tree::default();
        for n in 0..600u64 {
            if let Some((tile, hashes)) = tree.push(leaf(&n.to_be_bytes())) {
                tiles::write(folder.path(), tile, &hashes).unwrap();
            }
        }
        let (tile, part) = tree.open_tile().unwrap();
        assert_eq!((tile, part.len()), (2, 88));
        tiles::write(folder.path(), tile, &part).unwrap();
        let again = Tree::load(folder.path(), 600).unwrap();
        assert_eq!((again.size(), again.root()), (600, tree.root()));
        assert!(Tree::load(folder.path(), 601).is_err());
    }
}
