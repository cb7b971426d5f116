//! The tree over all records (RFC 6962 §2.1, RFC 9162 §2.1): what a checkpoint signs, and the proofs that stand on it.
//!
//! A leaf is a line as it lies on disk, without its line feed. The maths is small and frozen by its RFCs, so it is our
//! own, and tests hold it against `tlog_tiles` and Go's `sumdb`.

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};

/// A node of the tree.
pub type Hash = [u8; 32];

/// The tree as far as it has grown: the roots of its full subtrees, largest first. At most 64 of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// Adds the next leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        // Each full subtree of the same size on the left becomes one with it.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                node = parent(&left, &node);
            }
        }
        self.roots.push(node);
        self.size += 1;
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree of all leaves so far.
    pub fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(last) = roots.next() else { return empty() };
        roots.fold(*last, |right, left| parent(left, &right))
    }
}

/// The hash of a record: `SHA-256(0x00 || line)`.
pub fn leaf(line: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(line);
    finished(context)
}

/// The hash of a record whose line has the zero byte before it already: in one piece, a line is hashed faster.
pub(crate) fn leaf_of(zero_and_line: &[u8]) -> Hash {
    hash_of(zero_and_line)
}

/// The hash of an inner node: `SHA-256(0x01 || left || right)`.
pub fn parent(left: &Hash, right: &Hash) -> Hash {
    let mut node = [1; 65];
    node[1..33].copy_from_slice(left);
    node[33..].copy_from_slice(right);
    hash_of(&node)
}

/// The root of a tree without leaves.
pub fn empty() -> Hash {
    hash_of(&[])
}

/// The root over a run of leaves.
pub fn root(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier.root()
}

/// The hashes that lead from the leaf at `index` to the root of these leaves (RFC 9162 §2.1.3.1); `None` where there is
/// no such leaf.
pub fn inclusion(leaves: &[Hash], index: u64) -> Option<Vec<Hash>> {
    let mut at = usize::try_from(index).ok().filter(|at| *at < leaves.len())?;
    let (mut run, mut path) = (leaves, Vec::new());
    while run.len() > 1 {
        let (left, right) = run.split_at(split(run.len()));
        if at < left.len() {
            path.push(root(right));
            run = left;
        } else {
            path.push(root(left));
            at -= left.len();
            run = right;
        }
    }
    path.reverse();
    Some(path)
}

/// Whether the leaf at `index` is in the tree of this size and root (RFC 9162 §2.1.3.2).
pub fn includes(root: &Hash, size: u64, index: u64, leaf: &Hash, path: &[Hash]) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut node) = (index, size - 1, *leaf);
    for other in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            node = parent(other, &node);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            node = parent(&node, other);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && node == *root
}

/// The hashes that show that the tree of these leaves has grown out of the one of the first `old` of them
/// (RFC 9162 §2.1.4.1); `None` where there are not so many.
pub fn consistency(leaves: &[Hash], old: u64) -> Option<Vec<Hash>> {
    let mut old = usize::try_from(old).ok().filter(|old| (1..=leaves.len()).contains(old))?;
    let (mut run, mut whole, mut path) = (leaves, true, Vec::new());
    while old < run.len() {
        let (left, right) = run.split_at(split(run.len()));
        if old <= left.len() {
            path.push(root(right));
            run = left;
        } else {
            path.push(root(left));
            old -= left.len();
            (run, whole) = (right, false);
        }
    }
    if !whole {
        path.push(root(run));
    }
    path.reverse();
    Some(path)
}

/// Whether one tree has grown out of another (RFC 9162 §2.1.4.2).
pub fn grew(old: (u64, &Hash), new: (u64, &Hash), path: &[Hash]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == 0 || old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return path.is_empty() && old_root == new_root;
    }
    let (first, rest) = match path.split_first() {
        _ if old_size.is_power_of_two() => (old_root, path),
        Some((first, rest)) => (first, rest),
        None => return false,
    };
    let (mut at, mut last) = (old_size - 1, new_size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old_node, mut new_node) = (*first, *first);
    for other in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old_node = parent(other, &old_node);
            new_node = parent(other, &new_node);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new_node = parent(&new_node, other);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old_node == *old_root && new_node == *new_root
}

/// The largest power of two below the number of leaves, which is at least two.
fn split(leaves: usize) -> usize {
    1 << (usize::BITS - 1 - (leaves - 1).leading_zeros())
}

fn hash_of(bytes: &[u8]) -> Hash {
    of_digest(&digest(&SHA256, bytes))
}

/// SHA-256 of all that it was given.
pub(crate) fn finished(context: Context) -> Hash {
    of_digest(&context.finish())
}

fn of_digest(digest: &Digest) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest.as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::hex::hex;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|n| leaf(format!("record {n}").as_bytes())).collect()
    }

    /// RFC 6962 §2.1, word for word.
    fn by_the_book(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty(),
            [one] => *one,
            more => {
                let (left, right) = more.split_at(split(more.len()));
                parent(&by_the_book(left), &by_the_book(right))
            }
        }
    }

    #[test]
    fn the_empty_tree_is_the_hash_of_nothing() {
        assert_eq!(hex(&empty()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(Frontier::default().root(), empty());
    }

    #[test]
    fn the_root_grown_leaf_by_leaf_is_the_root_by_the_book_and_theirs() {
        let leaves = leaves(2000);
        let mut frontier = Frontier::default();
        let mut theirs = Theirs::default();
        for size in 0..=leaves.len() {
            let ours = frontier.root();
            assert_eq!(frontier.size(), size as u64);
            if size < 300 || size % 37 == 0 {
                assert_eq!(ours, by_the_book(&leaves[..size]), "size {size}");
            }
            if size > 0 {
                assert_eq!(ours, theirs.root(size as u64), "size {size}");
            }
            if let Some(leaf) = leaves.get(size) {
                frontier.push(*leaf);
                theirs.push(*leaf);
            }
        }
    }

    #[test]
    fn every_inclusion_and_every_consistency_under_130_is_proved_and_nothing_else() {
        let leaves = leaves(130);
        for size in 1..130 {
            let (tree, whole) = (&leaves[..size], root(&leaves[..size]));
            for index in 0..size as u64 {
                let path = inclusion(tree, index).unwrap();
                let leaf = &leaves[index as usize];
                assert!(includes(&whole, size as u64, index, leaf, &path), "{index} of {size}");
                assert!(!includes(&whole, size as u64, index, &leaves[129], &path));
                assert!(size == 1 || !includes(&whole, size as u64, (index + 1) % size as u64, leaf, &path));
                for bent in 0..path.len() {
                    let mut path = path.clone();
                    path[bent][7] ^= 1;
                    assert!(!includes(&whole, size as u64, index, leaf, &path));
                }
                let mut longer = path.clone();
                longer.push(whole);
                assert!(!includes(&whole, size as u64, index, leaf, &longer));
            }
            for old in 1..=size as u64 {
                let path = consistency(tree, old).unwrap();
                let before = root(&leaves[..old as usize]);
                let new = (size as u64, &whole);
                assert!(grew((old, &before), new, &path), "{old} to {size}");
                assert!(!grew((old, &leaves[129]), new, &path));
                for bent in 0..path.len() {
                    let mut path = path.clone();
                    path[bent][7] ^= 1;
                    assert!(!grew((old, &before), new, &path));
                }
            }
        }
        assert!(inclusion(&leaves, 130).is_none() && consistency(&leaves, 131).is_none());
        assert!(!grew((0, &empty()), (1, &leaves[0]), &[]));
    }

    /// The same tree by `tlog_tiles`, a port of Go's `sumdb/tlog`.
    #[derive(Default)]
    struct Theirs {
        size: u64,
        stored: Vec<tlog_tiles::Hash>,
    }

    impl Theirs {
        fn push(&mut self, leaf: Hash) {
            let reader = Stored(&self.stored);
            let new = tlog_tiles::stored_hashes_for_record_hash(self.size, tlog_tiles::Hash(leaf), &reader)
                .unwrap();
            self.stored.extend(new);
            self.size += 1;
        }

        fn root(&self, size: u64) -> Hash {
            tlog_tiles::tree_hash(size, &Stored(&self.stored)).unwrap().0
        }
    }

    struct Stored<'a>(&'a [tlog_tiles::Hash]);

    impl tlog_tiles::HashReader for Stored<'_> {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
            Ok(indexes.iter().map(|index| self.0[*index as usize]).collect())
        }
    }
}
