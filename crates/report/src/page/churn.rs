//! Section "Units moved between people": units that were taken from one person and given to another within a time. It
//! watches people, so it stands on the page only where it was asked for.

use std::collections::VecDeque;
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use super::html::cells::{bdi, mono, time};
use super::html::{Html, N, T, W};
use super::people::person;
use super::{Person, Section, Truncated};
use crate::fold::assignments::{Assignments, ConfirmedChange, Key};
use crate::fold::moves::{Move, Moves};
use crate::input::names::Names;
use relay_log::text::escape::escape;

/// Moves listed.
const MOVES: usize = 100;

pub(super) const SECTION: Section = Section {
    is_on: |page| page.churn.is_some(),
    ..Section::new("churn", "Units moved between people", draw)
};

/// Units that were taken from one person and given to another.
#[derive(Clone, Debug)]
pub struct MovedUnits {
    /// Within which time, as it was asked for: `7d`.
    pub within: String,
    /// The moves, newest first.
    pub moves: Truncated<ListedMove>,
}

/// One such unit.
#[derive(Clone, Debug)]
pub struct ListedMove {
    /// License.
    pub license: String,
    /// Allotment.
    pub allotment: String,
    /// Who had it.
    pub from: Person,
    /// Who got it.
    pub to: Person,
    /// When it was taken.
    pub deleted: Timestamp,
    /// When it was given.
    pub added: Timestamp,
}

/// The newest moves.
pub(super) struct LatestMoves {
    within: String,
    fold: Moves,
    moves: VecDeque<Move>,
    total: u64,
}

impl LatestMoves {
    /// Within this time, and as it was written.
    pub(super) fn new(within: SignedDuration, written: String) -> Self {
        Self { within: written, fold: Moves::new(within), moves: VecDeque::new(), total: 0 }
    }

    /// The next change that was told.
    pub(super) fn take(&mut self, change: &ConfirmedChange, time: Timestamp) {
        let Some(moved) = self.fold.take(change, time) else { return };
        self.total += 1;
        if self.moves.len() == MOVES {
            self.moves.pop_front();
        }
        self.moves.push_back(moved);
    }

    /// The newest first, with the names of people.
    pub(super) fn finish(self, all: &Assignments, names: &mut Names) -> MovedUnits {
        let mut person = |key: Key| {
            let subject = all.people.pseudonym(key.person).to_owned();
            Person { name: names.of(&subject), subject }
        };
        let rows = self.moves.into_iter().rev().map(|Move { from, to, deleted, added }| ListedMove {
            license: all.words.word(to.license).to_owned(),
            allotment: all.words.word(to.allotment).to_owned(),
            from: person(from),
            to: person(to),
            deleted,
            added,
        });
        MovedUnits { within: self.within, moves: Truncated { rows: rows.collect(), total: self.total } }
    }
}

fn draw(html: &mut Html<'_>) {
    let Some(MovedUnits { within, moves }) = &html.page.churn else { return };
    put!(
        html,
        "<p>A unit that was taken from one person and given to another within {}. It says nothing about why.</p>",
        escape(within)
    );
    if moves.total == 0 {
        put!(html, "<p>There was none.</p>");
        return;
    }
    let rows = moves.rows.iter().take(MOVES).map(|one| {
        let hours = one.added.duration_since(one.deleted).as_secs_f64() / 3600.0;
        vec![
            time(one.deleted),
            time(one.added),
            format!("{hours:.1}"),
            person(&one.from),
            person(&one.to),
            bdi(&one.allotment),
            mono(&one.license),
        ]
    });
    let columns =
        [("Taken", T), ("Given", T), ("Hours", N), ("From", W), ("To", W), ("Allotment", W), ("License", W)];
    html.table("Moves, newest first", &columns, rows);
    html.rest(moves, MOVES, ("move", "moves"), &format!("churn --within {within}"));
}
