//! Gaps in the rhythm of syncs: a deployment syncs every ten minutes, so where a longer time lies between two answers the
//! log says why, to the minute: relay down, source silent, refused, back end failing, or an exchange that went around.
//! Here is what is told of them; [`find`](super::find) finds them.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::sync_counts::SyncCounts;
use crate::table::cell::Cell;

/// What took the most of a gap.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // See `Parts`.
pub enum GapCause {
    RelayDown,
    Refused,
    Failing,
    Silent,
    Around,
    Waiting,
}

impl GapCause {
    /// All, in the order of [`Parts::all`].
    pub const ALL: [Self; 6] =
        [Self::RelayDown, Self::Refused, Self::Failing, Self::Silent, Self::Around, Self::Waiting];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::RelayDown => "relay_down",
            Self::Refused => "refused",
            Self::Failing => "failing",
            Self::Silent => "silent",
            Self::Around => "around",
            Self::Waiting => "waiting",
        }
    }
}

/// What a gap is made of: microseconds while it is gathered, minutes once it is told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Parts {
    /// No relay was up.
    pub relay_down: i64,
    /// Around a try that was refused or limited.
    pub refused: i64,
    /// Around a try that the back end gave no good reply to.
    pub failing: i64,
    /// The source did not ask.
    pub silent: i64,
    /// The same, but it came back with more than it was told here.
    pub around: i64,
    /// Less than the rhythm allows.
    pub waiting: i64,
}

impl Parts {
    /// One by one, in the order of the columns.
    pub fn all(&self) -> [i64; 6] {
        [self.relay_down, self.refused, self.failing, self.silent, self.around, self.waiting]
    }

    /// The largest of those that are not waiting.
    pub fn kind(&self) -> GapCause {
        let mut most = (0, GapCause::Waiting);
        for (part, kind) in self.all().into_iter().zip(GapCause::ALL) {
            if part > most.0 && kind != GapCause::Waiting {
                most = (part, kind);
            }
        }
        most.1
    }

    /// Whole minutes that add up to those of the sum: what is left goes to the largest remainders.
    pub(crate) fn minutes(&self) -> (i64, Self) {
        const MINUTE: i64 = 60_000_000;
        let all = self.all();
        let total = (all.iter().sum::<i64>() + MINUTE / 2) / MINUTE;
        let mut minutes = all.map(|part| part / MINUTE);
        let mut order = [0, 1, 2, 3, 4, 5];
        order.sort_by_key(|at| std::cmp::Reverse(all[*at] % MINUTE));
        let left = usize::try_from(total - minutes.iter().sum::<i64>()).unwrap_or(0);
        for at in order.into_iter().take(left) {
            minutes[at] += 1;
        }
        let [relay_down, refused, failing, silent, around, waiting] = minutes;
        (total, Self { relay_down, refused, failing, silent, around, waiting })
    }
}

/// A time between two answered syncs of a source that is longer than the rhythm.
#[derive(Clone, Debug, Serialize)]
pub struct Gap {
    /// The source's id; empty where it sends none.
    #[serde(serialize_with = "shared")]
    pub source: Arc<str>,
    /// The license of the last sync before.
    #[serde(serialize_with = "shared")]
    pub license: Arc<str>,
    /// That sync's answer.
    pub from: Timestamp,
    /// The next answer, or the end of the log.
    pub to: Timestamp,
    /// How long, without what the clock was set by.
    pub minutes: i64,
    /// What took the most of it.
    pub kind: GapCause,
    /// In minutes.
    #[serde(flatten)]
    pub parts: Parts,
    /// It holds time that is *around* us, which is concluded and not seen.
    pub inferred: bool,
    /// It had not ended when the log did.
    pub ongoing: bool,
}

/// The columns of `gaps`.
pub(crate) const COLUMNS: &[&str] = &[
    "source",
    "license",
    "from",
    "to",
    "minutes",
    "kind",
    "relay_down",
    "refused",
    "failing",
    "silent",
    "around",
    "waiting",
    "inferred",
    "ongoing",
];

impl Gap {
    /// A cell for each column.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells: Vec<Cell> = vec![
            (&*self.source).into(),
            (&*self.license).into(),
            self.from.into(),
            self.to.into(),
            self.minutes.into(),
            self.kind.name().into(),
        ];
        cells.extend(self.parts.all().map(Cell::from));
        cells.extend([self.inferred.into(), self.ongoing.into()]);
        cells
    }
}

fn shared<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

/// What a log says of itself that is not in it (`audit.gap`).
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Unwritten {
    /// The place of the log in the list.
    pub log: usize,
    /// Exchanges that went through.
    pub count: u64,
    /// How often it was said.
    pub records: u64,
    /// From when.
    pub first: Timestamp,
    /// Until when.
    pub last: Timestamp,
}

/// What was found.
#[derive(Debug)]
pub struct FoundGaps {
    /// The gaps in the order of their begin.
    pub gaps: Vec<Gap>,
    /// Further gaps that are not listed.
    pub beyond: u64,
    /// Sources by their number in the strip, each with its last license.
    pub sources: Vec<(Arc<str>, Arc<str>)>,
    /// Answered syncs that are not watched: of sources that were too many, or that named neither an id nor a license.
    pub(crate) unwatched: u64,
    /// How often each source has synced.
    pub strip: SyncCounts,
    /// What the logs say is not in them.
    pub unwritten: Vec<Unwritten>,
    /// The last record of all logs.
    pub end: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_of_the_parts_add_up_to_those_of_the_whole() {
        let second = 1_000_000;
        let parts = Parts {
            relay_down: 89 * second,
            refused: 31 * second,
            silent: 1500 * second + 20,
            waiting: 29 * second,
            ..Parts::default()
        };
        let (minutes, told) = parts.minutes();
        assert_eq!((minutes, told.all()), (27, [1, 1, 0, 25, 0, 0]));
        assert_eq!(parts.kind(), GapCause::Silent);
        for seed in 0..5_000_i64 {
            let part = |n: i64| (seed * 7_919 * n * n) % 4_000 * second;
            let parts = Parts {
                relay_down: part(1),
                refused: part(2),
                failing: part(3),
                silent: part(5),
                around: part(7),
                waiting: part(11),
            };
            let (minutes, told) = parts.minutes();
            assert_eq!(told.all().iter().sum::<i64>(), minutes);
            for (told, part) in told.all().into_iter().zip(parts.all()) {
                assert!((told * 60 * second - part).abs() < 60 * second);
            }
        }
    }
}
