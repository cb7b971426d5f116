//! The first rows of a list, for pages that stay small whatever the log is.

/// The first rows of a list, and how many there are.
#[derive(Clone, Debug)]
pub struct Truncated<T> {
    /// The first ones.
    pub rows: Vec<T>,
    /// All of them, these rows included.
    pub total: u64,
}

impl<T> Truncated<T> {
    /// At most `most` of these rows, which `more` others follow that were never kept.
    pub(super) fn first(most: usize, mut rows: Vec<T>, more: u64) -> Self {
        let total = rows.len() as u64 + more;
        rows.truncate(most);
        Self { rows, total }
    }

    /// How many rows a list of at most `most` shows.
    pub(super) fn shown(&self, most: usize) -> u64 {
        self.rows.len().min(most) as u64
    }
}

impl<T> Default for Truncated<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), total: 0 }
    }
}

impl<T> From<Vec<T>> for Truncated<T> {
    /// All there are.
    fn from(rows: Vec<T>) -> Self {
        Self { total: rows.len() as u64, rows }
    }
}
