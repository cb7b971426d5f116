//! The tree as the writer grows it, and as a start finds it again.

use std::io;
use std::path::Path;

use relay_log::ledger::merkle::{Frontier, Hash, leaf};
use relay_log::ledger::segment::{self, Lines};
use relay_log::ledger::tiles::{self, WIDTH};

/// The tree over all records, with the leaves of the tile that is not full yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    frontier: Frontier,
    tile: Vec<Hash>,
}

impl Tree {
    /// Writes the tiles over the first so many records anew, from the segments. Those of what was pruned are left alone:
    /// they are the only copy, and this one is not synced.
    ///
    /// # Errors
    /// As [`read_segments`].
    pub(super) fn rebuild(log: &Path, size: u64) -> io::Result<()> {
        let pruned = segment::begin(log)?;
        let mut tree = Self::default();
        read_segments(log, size, |leaf| {
            if let Some((tile, hashes)) = tree.push(leaf)
                && tree.size() > pruned
            {
                // It is a copy, made anew at the next start as well.
                let _ = tiles::write(log, tile, &hashes);
            }
        })?;
        if let Some((tile, part)) = tree.open_tile()
            && tree.size() > pruned
        {
            let _ = tiles::write(log, tile, &part);
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

/// Hashes the lines of the segments, as far as they are there, until there are so many. Of what was pruned before them,
/// the hashes are read.
///
/// # Errors
/// A segment can't be read, or a tile of what was pruned.
pub(super) fn read_segments(log: &Path, size: u64, mut each: impl FnMut(Hash)) -> io::Result<()> {
    let mut next = segment::begin(log)?.min(size);
    tiles::read_first(log, next, &mut each)?;
    for segment in segment::list(log)?.into_iter().filter(|segment| segment.first < size) {
        if segment.first != next {
            return Ok(());
        }
        let mut lines = Lines::of(&segment)?;
        while let Some(line) = lines.next_whole()? {
            each(leaf(line));
            next += 1;
        }
    }
    Ok(())
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
        let mut again = Tree::default();
        tiles::read_first(folder.path(), 600, |leaf| drop(again.push(leaf))).unwrap();
        assert_eq!((again.size(), again.root()), (600, tree.root()));
        assert!(tiles::read_first(folder.path(), 601, drop).is_err());
    }
}
