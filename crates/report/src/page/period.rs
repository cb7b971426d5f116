//! The time that the page is about: what was asked for, and how much of that the logs know.

use jiff::Timestamp;

use super::html::cells::time;
use relay_log::console::period::Period;

/// What was asked for, and how much of that the logs know.
#[derive(Clone, Copy, Debug)]
pub struct KnownPeriod {
    /// As it was asked for; an end that is absent is the log's own.
    pub asked: Period,
    /// The first and the last record of the logs, of any time; `None`: they have none that can be read.
    pub known: Option<(Timestamp, Timestamp)>,
    /// Changes, syncs, gaps and use from here on: the part of what was asked that is known.
    pub from: Timestamp,
    /// To here; holders are those of this moment.
    pub to: Timestamp,
}

impl KnownPeriod {
    /// What of a period is known. Where nothing of it is, both ends are the log's end that is nearest to it.
    pub fn of(asked: Period, known: Option<(Timestamp, Timestamp)>, now: Timestamp) -> Self {
        let (first, last) = known.unwrap_or((now, now));
        let inside = |time: Timestamp| time.max(first).min(last);
        Self { asked, known, from: asked.from.map_or(first, inside), to: asked.to.map_or(last, inside) }
    }

    /// Whether the log says nothing of any moment of it.
    pub fn is_unknown(&self) -> bool {
        self.known.is_none_or(|(first, last)| {
            self.asked.to.is_some_and(|to| to < first) || self.asked.from.is_some_and(|from| from > last)
        })
    }

    /// What to say, as HTML, in place of anything about a period of which the log knows nothing.
    pub(super) fn nothing_known(&self) -> Option<String> {
        if !self.is_unknown() {
            return None;
        }
        Some(match self.known {
            None => "Nothing is known: the log has no record that can be read.".into(),
            Some((first, _)) if self.asked.to.is_some_and(|to| to < first) => {
                format!("Nothing is known: the log begins {}.", time(first))
            }
            Some((_, last)) => format!("Nothing is known: the log ends {}.", time(last)),
        })
    }
}
