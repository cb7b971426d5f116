//! Who took a unit over from whom.

use std::io;

use jiff::SignedDuration;

use super::answer::{Context, Footer, Question};
use crate::fold::assignments::{Assignments, Key};
use crate::fold::moves::{Move, Moves};
use crate::read::open::Read;
use crate::table::cell::Cell;
use crate::table::rows::counted;
use relay_log::ledger::entry::Entry;

/// All such moves.
#[derive(Debug)]
pub(crate) struct Churn {
    all: Assignments,
    moves: Moves,
}

impl Churn {
    /// Within this time.
    pub(crate) fn new(within: SignedDuration) -> Self {
        Self { all: Assignments::default(), moves: Moves::new(within) }
    }
}

impl Question for Churn {
    fn columns(&self) -> &'static [&'static str] {
        &["license", "allotment", "from", "from_name", "to", "to_name", "deleted", "added", "hours"]
    }

    fn take(&mut self, log: usize, entry: &Entry<'_>, context: &mut Context<'_, '_>) -> io::Result<()> {
        let Some(told) = self.all.take(log, entry, context.coverage) else { return Ok(()) };
        let Some(Move { from, to, deleted, added }) = self.moves.take(&told, entry.time) else {
            return Ok(());
        };
        let person = |key: Key| self.all.people.pseudonym(key.person).to_owned();
        let (from_whom, to_whom) = (person(from), person(to));
        context.rows.row(vec![
            self.all.words.word(to.license).into(),
            self.all.words.word(to.allotment).into(),
            from_whom.as_str().into(),
            context.names.of(&from_whom).into(),
            to_whom.as_str().into(),
            context.names.of(&to_whom).into(),
            deleted.into(),
            added.into(),
            Cell::Tenths(added.duration_since(deleted).as_secs_f64() / 3600.0),
        ])
    }

    fn finish(&mut self, _: &Read, context: &mut Context<'_, '_>) -> io::Result<Footer> {
        let notes = vec![format!(
            "{} from one person to another; each delete is paired with the next add of somebody else, which \
             nobody has said: it is a question to ask, not a finding",
            counted(context.rows.count, "unit moved", "units moved")
        )];
        Ok(Footer { notes, ..Footer::default() })
    }
}
