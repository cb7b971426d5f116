//! Units that moved from one person to another within a time.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::assignments::{Change, ConfirmedChange, Key};

/// A unit that was taken from one person and given to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Move {
    /// Who had it, and of what.
    pub from: Key,
    /// Who got it.
    pub to: Key,
    /// When it was taken.
    pub deleted: Timestamp,
    /// When it was given.
    pub added: Timestamp,
}

/// Finds units that moved.
#[derive(Debug)]
pub struct Moves {
    within: SignedDuration,
    /// What was taken lately and not given yet, by license and allotment.
    taken: HashMap<(u32, u32), VecDeque<(Key, Timestamp)>>,
}

impl Moves {
    /// Within this time.
    pub fn new(within: SignedDuration) -> Self {
        Self { within, taken: HashMap::new() }
    }

    /// The next change that was told.
    pub fn take(&mut self, told: &ConfirmedChange, time: Timestamp) -> Option<Move> {
        let key = told.key.filter(|_| !told.rejected)?;
        let taken = self.taken.entry((key.license, key.allotment)).or_default();
        while taken.front().is_some_and(|(_, deleted)| time.duration_since(*deleted) > self.within) {
            taken.pop_front();
        }
        match told.change {
            Change::Delete if !told.holds => {
                taken.push_back((key, time));
                None
            }
            Change::Add if told.holds && !told.held => {
                let at = taken.iter().position(|(from, _)| from.person != key.person)?;
                let (from, deleted) = taken.remove(at)?;
                Some(Move { from, to: key, deleted, added: time })
            }
            _ => None,
        }
    }
}
