//! Names that come again and again in records, such as licenses, sources and allotments, kept once each.

use std::collections::HashSet;
use std::sync::Arc;

use relay_log::text::redact::HIDDEN;

/// Names that are kept; further ones share one.
const NAMES: usize = 1_000_000;

/// The names.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    kept: HashSet<Arc<str>>,
}

impl Interner {
    /// The one that is kept; an absent one is empty.
    pub(crate) fn keep(&mut self, name: Option<&str>) -> Arc<str> {
        let name = name.unwrap_or_default();
        if let Some(known) = self.kept.get(name) {
            return known.clone();
        }
        let new: Arc<str> = if self.kept.len() < NAMES { name.into() } else { HIDDEN.into() };
        self.kept.insert(new.clone());
        new
    }
}
