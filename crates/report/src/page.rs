//! What the report page shows, as plain values: `whole` fills them from the folds of the log, `html` and `charts` read
//! them and ask for nothing else.
//!
//! Lists that may be long come as [`Listed`]: the first rows, and how many there are in all. The page shows at most as
//! many rows as the constants here say, so more than that need not be kept. Times are UTC. Nothing is escaped here.

pub mod charts;
pub mod html;
pub mod svg;
pub mod whole;

use jiff::Timestamp;
use jiff::civil::Date;

pub use super::fold::assignments::Status;
pub use relay_log::console::period::Period as Asked;
use relay_log::verify::log::Verdict;

/// Licenses shown in full; the others are counted.
pub const LICENSES: usize = 20;
/// Allotments shown of one license.
pub const ALLOTMENTS: usize = 12;
/// Holders listed of one license and allotment.
pub const HOLDERS: usize = 1000;
/// Deployments whose bodies are not understood.
pub const NOT_UNDERSTOOD: usize = 20;
/// Holes in the versions of one license.
pub const HOLES: usize = 20;
/// Days of over-allocation listed in all.
pub const OVER_DAYS: usize = 60;
/// Sources in the strip of syncs.
pub const STRIP_SOURCES: usize = 40;
/// Cells of one source in it; see [`cell_hours`].
pub const STRIP_CELLS: usize = 400;
/// Gaps listed.
pub const GAPS: usize = 100;
/// Months of one allotment's consumption.
pub const MONTHS: usize = 36;
/// Deployments listed.
pub const DEPLOYMENTS: usize = 200;
/// Changes listed.
pub const CHANGES: usize = 200;
/// Kinds of refusals listed.
pub const DENIED: usize = 50;
/// Units that moved between people, listed.
pub const CHURN: usize = 100;
/// Faults of one log told in full.
pub const DAMAGE: usize = 20;
/// Anchors of one log listed.
pub const ANCHORS: usize = 20;

/// The whole page.
#[derive(Clone, Debug)]
pub struct Page {
    /// By whom, when and with which command it was made.
    pub made: Made,
    /// What of the log it is about.
    pub period: Period,
    /// How many pseudonyms were resolved to names.
    pub names: Names,
    /// Further sentences that belong to the answer, such as a log that is newer than the tool.
    pub notes: Vec<String>,
    /// Deployments that say something that is not understood, most bodies first; at most [`NOT_UNDERSTOOD`].
    pub not_understood: Listed<NotUnderstood>,
    /// Each license, in the order shown; at most [`LICENSES`]. Those with holes or over-allocated days come first, so
    /// that what is cut has neither if it can be helped; the answers speak of the licenses that are here, and say so.
    pub licenses: Listed<License>,
    /// Syncs of each source over the period; `None` where there was no sync.
    pub syncs: Option<Syncs>,
    /// Gaps in the rhythm of sources, and those the log itself tells of: newest first; at most [`GAPS`].
    pub gaps: Listed<Gap>,
    /// Minutes of all gaps in the period by kind, and how many gaps of each there are; kinds without gaps left out.
    pub gap_sums: Vec<GapSum>,
    /// Consumption by license and allotment.
    pub consumption: Vec<Consumption>,
    /// Deployments, newest seen first; at most [`DEPLOYMENTS`].
    pub deployments: Listed<Deployment>,
    /// What the back end told in the period, newest first; at most [`CHANGES`].
    pub changes: Listed<Change>,
    /// Refusals summed by what they have in common, most often first; at most [`DENIED`].
    pub denied: Listed<Denied>,
    /// Units that moved between people; only where it was asked for. At most [`CHURN`].
    pub churn: Option<Churn>,
    /// The largest difference between our clock and the back end's; `None` where no reply told a time.
    pub clock: Option<Clock>,
    /// What all of this rests on, a block for each log.
    pub evidence: Vec<Evidence>,
}

/// The first rows of a list, and how many there are.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    /// The first ones.
    pub rows: Vec<T>,
    /// All of them, these rows included.
    pub total: u64,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), total: 0 }
    }
}

impl<T> From<Vec<T>> for Listed<T> {
    /// All there are.
    fn from(rows: Vec<T>) -> Self {
        Self { total: rows.len() as u64, rows }
    }
}

/// Who made the page.
#[derive(Clone, Debug)]
pub struct Made {
    /// Program and version: `license-relay 0.1.0`.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// The command line, as it was given.
    pub command: String,
    /// The part of it that names the logs (`--log DIR …`), for the commands that the page tells to run.
    pub logs: String,
}

/// What of the log the page is about: what was asked for, and how much of that the log knows.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    /// As it was asked for; an end that is absent is the log's own.
    pub asked: Asked,
    /// The first and the last record of the logs, of any time; `None`: they have none that can be read.
    pub known: Option<(Timestamp, Timestamp)>,
    /// Changes, syncs, gaps and use from here on: the part of what was asked that is known.
    pub from: Timestamp,
    /// To here; holders are those of this moment.
    pub to: Timestamp,
}

impl Period {
    /// What of a period is known. Where nothing of it is, both ends are the log's end that is nearest to it.
    pub fn of(asked: Asked, known: Option<(Timestamp, Timestamp)>, now: Timestamp) -> Self {
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
}

/// How pseudonyms fared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names {
    /// A file of names was given.
    pub given: bool,
    /// Pseudonyms that have a name on this page.
    pub resolved: u64,
    /// Those without.
    pub unresolved: u64,
}

/// A person as the log knows it.
#[derive(Clone, Debug, Default)]
pub struct Person {
    /// The pseudonym, `hmac-sha256:<key id>:<64 hex>`; empty where the back end told an instance only.
    pub subject: String,
    /// The name, where it could be resolved.
    pub name: Option<String>,
}

/// A deployment of whose bodies something is not understood: the report can't speak for what they said.
#[derive(Clone, Debug)]
pub struct NotUnderstood {
    /// Source id, or the address where there is none.
    pub source: String,
    /// Product and version, as its user agent says; may be empty.
    pub product: String,
    /// License, where one was read.
    pub license: Option<String>,
    /// How many bodies.
    pub bodies: u64,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
}

/// One license: what is known of it, and who holds it.
#[derive(Clone, Debug)]
pub struct License {
    /// Its number.
    pub license: String,
    /// What the log can say about it.
    pub coverage: Coverage,
    /// Its allotments, in the order shown, over-allocated ones first where they are cut; at most [`ALLOTMENTS`].
    pub allotments: Listed<Allotment>,
}

/// How far the log knows a license.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// The first base version that a deployment stood at; 0: from the beginning. `None`: no sync was read.
    pub known_from: Option<u64>,
    /// Nothing is missing from there up to this version.
    pub complete_to: Option<u64>,
    /// The newest version that was told at all.
    pub newest: Option<u64>,
    /// When it was first spoken of.
    pub first_seen: Option<Timestamp>,
    /// Versions that went around the relay; at most [`HOLES`].
    pub holes: Listed<Hole>,
    /// Bodies about it that are not understood.
    pub not_understood: u64,
    /// The opening balance, if one was given: file and number of holders.
    pub opening: Option<Opening>,
}

/// Versions that were never told through this relay; inferred, as nothing recorded them.
#[derive(Clone, Copy, Debug)]
pub struct Hole {
    /// The first version that is missing.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// When it was noticed.
    pub noticed: Timestamp,
}

/// An opening balance from the product's own console, unsigned.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The file, as it was named.
    pub file: String,
    /// Holders in it.
    pub holders: u64,
}

/// One allotment of a license.
#[derive(Clone, Debug)]
pub struct Allotment {
    /// Its name: `professional`.
    pub allotment: String,
    /// Its access type, where a definition told it.
    pub access_type: Option<String>,
    /// How many hold it at the end of the period, by status.
    pub counts: Counts,
    /// Units valid on the last day, and the overage.
    pub entitlement: Entitlement,
    /// Holders at the end of the period; at most [`HOLDERS`].
    pub holders: Listed<Holder>,
    /// Each day of the period in which anything is known, oldest first, none left out in between.
    pub days: Vec<Day>,
    /// Days on which more was used than allowed, newest first; at most [`OVER_DAYS`].
    pub over: Listed<Day>,
}

/// Assignments by status.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Told as added, not rejected.
    pub holds: u64,
    /// From the opening balance, nothing told of them yet.
    pub opening: u64,
    /// Asked to add, not answered.
    pub pending_add: u64,
    /// Asked to delete, not answered.
    pub pending_delete: u64,
    /// The outcome is not known, or what was told is not.
    pub unknown: u64,
}

/// What a license allows of an allotment on a day, as last seen in a definition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entitlement {
    /// Units valid that day; `None`: no definition was seen by then.
    pub units: Option<u64>,
    /// What may be used beyond them.
    pub overage: Overage,
    /// When the definition was seen.
    pub seen: Option<Timestamp>,
}

/// What may be used beyond the units.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Overage {
    /// Not told, or not readable.
    #[default]
    Unknown,
    /// So many.
    Units(u64),
    /// No limit.
    Unlimited,
}

impl Entitlement {
    /// Units and overage; `None` where there is no cap, or none is known.
    pub fn cap(&self) -> Option<u64> {
        match (self.units, self.overage) {
            (Some(_), Overage::Unlimited) | (None, _) => None,
            (Some(units), Overage::Units(more)) => Some(units.saturating_add(more)),
            (Some(units), Overage::Unknown) => Some(units),
        }
    }
}

/// One holder, or one who may be.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Who.
    pub person: Person,
    /// How sure it is.
    pub status: Status,
    /// When this log first saw it.
    pub since: Option<Timestamp>,
    /// The version that told it; 0 or absent: without one.
    pub version: Option<u64>,
}

/// Use of one allotment on one day (UTC).
#[derive(Clone, Copy, Debug)]
pub struct Day {
    /// The day.
    pub day: Date,
    /// Assignments at its end.
    pub at_end: u64,
    /// The most at one moment of it.
    pub peak: u64,
    /// What was allowed.
    pub entitlement: Entitlement,
}

impl Day {
    /// How many more than allowed; 0 where there is no cap or none is known.
    pub fn over(&self) -> u64 {
        self.entitlement.cap().map_or(0, |cap| self.peak.saturating_sub(cap))
    }
}

/// Syncs of each source in cells of equal length.
#[derive(Clone, Debug)]
pub struct Syncs {
    /// Where the first cell begins: a full hour or a day, UTC.
    pub from: Timestamp,
    /// The length of a cell; see [`cell_hours`].
    pub hours: u32,
    /// The sources, those with the most minutes of gaps first; at most [`STRIP_SOURCES`].
    pub sources: Listed<Strip>,
    /// How many of all sources have gaps.
    pub with_gaps: u64,
}

/// The length of a cell in hours for a period, so that no source has more than [`STRIP_CELLS`] of them: an hour up to
/// ten days, six up to two months, then days.
pub fn cell_hours(from: Timestamp, to: Timestamp) -> u32 {
    let hours = to.duration_since(from).as_hours().max(0).unsigned_abs();
    match hours {
        0..=240 => 1,
        241..=1440 => 6,
        _ => u32::try_from((hours / 24 + 2).div_ceil(STRIP_CELLS as u64).max(1) * 24).unwrap_or(u32::MAX),
    }
}

/// One source's row.
#[derive(Clone, Debug)]
pub struct Strip {
    /// Source id.
    pub source: String,
    /// The name that the allow-list has for it; may be empty.
    pub name: String,
    /// Its cells, the first at [`Syncs::from`]; at most [`STRIP_CELLS`].
    pub cells: Vec<Cell>,
}

/// A stretch of time of one source.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cell {
    /// Syncs that were answered in it.
    pub syncs: u32,
    /// The kind of gap that takes most of it, if any gap touches it.
    pub gap: Option<GapKind>,
    /// Minutes of it within gaps.
    pub gap_minutes: u32,
}

/// Why nothing was heard.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum GapKind {
    /// The relay did not run.
    RelayDown,
    /// The source was refused or limited.
    Refused,
    /// The back end, or the way to it, failed.
    Failing,
    /// The source did not come.
    Silent,
    /// Inferred: the source was told something that did not come through here.
    Around,
    /// The relay passed exchanges on that it could not write down (`audit.gap`).
    NotWritten,
}

/// One gap.
#[derive(Clone, Debug)]
pub struct Gap {
    /// Source id; empty for [`GapKind::NotWritten`].
    pub source: String,
    /// License, where known.
    pub license: Option<String>,
    /// The last answered sync before it.
    pub from: Timestamp,
    /// The first one after it, or the end of the log.
    pub to: Timestamp,
    /// What most of it was.
    pub kind: GapKind,
    /// Minutes of it by kind, those that are not 0; what is left is waiting in the rhythm.
    pub parts: Vec<(GapKind, u64)>,
    /// Nothing recorded it.
    pub inferred: bool,
    /// It had not ended when the log did.
    pub ongoing: bool,
    /// Exchanges that are not in the log, of [`GapKind::NotWritten`].
    pub exchanges: Option<u64>,
}

/// All gaps of a kind.
#[derive(Clone, Copy, Debug)]
pub struct GapSum {
    /// Which.
    pub kind: GapKind,
    /// How many gaps are mostly this.
    pub gaps: u64,
    /// Minutes of this kind in all gaps.
    pub minutes: u64,
}

/// Consumption of one license's allotment.
#[derive(Clone, Debug)]
pub struct Consumption {
    /// License.
    pub license: String,
    /// Allotment: `analyzer_time`.
    pub allotment: String,
    /// Its months, oldest first, none left out in between; the newest [`MONTHS`] are shown.
    pub months: Vec<Month>,
    /// Days until the quota is used up at the newest month's pace; 0: it is.
    pub days_left: Option<f64>,
    /// Units that the newest month's quota lacks because their time is over, and the last day of those that ended last.
    pub ended: Option<(u64, Date)>,
}

/// One month of it, in the back end's own unit.
#[derive(Clone, Copy, Debug)]
pub struct Month {
    /// The month's first day.
    pub month: Date,
    /// Sum of the reports that were confirmed: the lower bound.
    pub low: f64,
    /// With those whose outcome is not known: the upper bound.
    pub high: f64,
    /// The largest total the back end told.
    pub total: Option<f64>,
    /// What the license allows a month; `None`: not known, or no limit.
    pub quota: Option<f64>,
}

impl Month {
    /// What was consumed for certain: what was confirmed, or the back end's total where that is more.
    pub fn certain(&self) -> f64 {
        self.low.max(self.total.unwrap_or(self.low))
    }

    /// What may have been consumed, with what has an unknown outcome.
    pub fn at_most(&self) -> f64 {
        self.high.max(self.certain())
    }
}

/// One license as one source uses it.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// License.
    pub license: String,
    /// Source id.
    pub source: String,
    /// The name that the allow-list has for it; may be empty.
    pub name: String,
    /// Product and its version, as its user agent says; may be empty.
    pub product: String,
    /// Addresses it came from, the newest first, already cut to a few.
    pub addresses: Vec<String>,
    /// When first.
    pub first_seen: Timestamp,
    /// When last.
    pub last_seen: Timestamp,
    /// Answered syncs.
    pub syncs: u64,
    /// Assignments it asked for.
    pub adds: u64,
    /// Those it asked to delete.
    pub deletes: u64,
    /// When it last reported consumption.
    pub last_consumption: Option<Timestamp>,
}

/// Something the back end told.
#[derive(Clone, Debug)]
pub struct Change {
    /// When.
    pub time: Timestamp,
    /// License.
    pub license: String,
    /// Allotment.
    pub allotment: String,
    /// What.
    pub kind: ChangeKind,
    /// The reason of the back end's, where it was rejected.
    pub rejection: Option<String>,
    /// Whom.
    pub person: Person,
    /// Version of the license's list.
    pub version: Option<u64>,
    /// The source that asked for it, if that went through here.
    pub asked_by: Option<String>,
}

/// What a change did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChangeKind {
    /// Assigned.
    Add,
    /// Taken away.
    Delete,
    /// It can't be told which.
    Unknown,
}

/// Refusals that have all of this in common.
#[derive(Clone, Debug)]
pub struct Denied {
    /// `access.denied`, `access.limited` or `access.invalid`.
    pub action: String,
    /// Source id, where one was read.
    pub source: Option<String>,
    /// The client's address.
    pub address: String,
    /// Why.
    pub reason: String,
    /// How often.
    pub count: u64,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
}

/// Units that were taken from one person and given to another.
#[derive(Clone, Debug)]
pub struct Churn {
    /// Within which time, as it was asked for: `7d`.
    pub within: String,
    /// The moves, newest first.
    pub moves: Listed<Move>,
}

/// One such unit.
#[derive(Clone, Debug)]
pub struct Move {
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

/// Our clock against the back end's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// How far ours was ahead, in seconds; negative: behind. The back end tells whole seconds.
    pub ahead: f64,
    /// When that was.
    pub at: Timestamp,
    /// Replies that told a time.
    pub replies: u64,
}

/// What one log's part of the page rests on.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The folder, as it was named.
    pub log: String,
    /// The log's name.
    pub origin: String,
    /// How it was found.
    pub verdict: Verdict,
    /// Whole records.
    pub records: u64,
    /// Time of its first record.
    pub first: Option<Timestamp>,
    /// Time of its last one.
    pub last: Option<Timestamp>,
    /// The root over them, in hex; absent where some are missing altogether.
    pub root: Option<String>,
    /// The newest checkpoint that holds.
    pub checkpoint: Option<Covered>,
    /// Checkpoints that hold.
    pub checkpoints: u64,
    /// The key they were checked with (vkey).
    pub key: String,
    /// Exchanges that went through without being in the log, as it says itself.
    pub gaps: u64,
    /// Records behind the newest checkpoint.
    pub unsigned: u64,
    /// What is wrong with lines, segments and checkpoints, and where it is behind an anchor; at most [`DAMAGE`].
    pub damage: Listed<String>,
    /// Anchors that hold; at most [`ANCHORS`].
    pub anchors: Listed<Covered>,
    /// Since when anchors show protection against whoever has the relay's own key; `None`: nothing shows it.
    pub protected_since: Option<Timestamp>,
    /// The log it goes on from after a fork: name, records, root.
    pub predecessor: Option<(String, u64, String)>,
    /// Records that were pruned, first and last; their hashes are kept.
    pub pruned: Option<(u64, u64)>,
    /// Versions of the relay that wrote it.
    pub written_by: Vec<String>,
}

/// A checkpoint or an anchor, and how far it reaches.
#[derive(Clone, Debug)]
pub struct Covered {
    /// Where it was read.
    pub file: String,
    /// Records.
    pub size: u64,
    /// When it was signed.
    pub time: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_period_has_more_cells_than_the_strip_has_room_for() {
        let from: Timestamp = "2026-01-01T12:34:56Z".parse().unwrap();
        for hours in [0, 1, 24, 240, 241, 1440, 1441, 24 * 365, 24 * 366, 24 * 398, 24 * 400, 24 * 3650] {
            let to = from + jiff::SignedDuration::from_hours(hours);
            let cell = i64::from(cell_hours(from, to));
            assert!(cell == 1 || cell == 6 || cell % 24 == 0, "{hours} hours: cells of {cell}");
            assert!(hours / cell + 2 <= STRIP_CELLS as i64, "{hours} hours: cells of {cell}");
        }
    }

    #[test]
    fn a_cap_is_units_and_overage_or_none() {
        let at = |units, overage| Entitlement { units, overage, seen: None };
        assert_eq!(at(Some(10), Overage::Units(2)).cap(), Some(12));
        assert_eq!(at(Some(10), Overage::Unknown).cap(), Some(10));
        assert_eq!(at(Some(10), Overage::Unlimited).cap(), None);
        assert_eq!(at(None, Overage::Units(2)).cap(), None);
        let day = Day {
            day: jiff::civil::date(2026, 1, 1),
            at_end: 9,
            peak: 13,
            entitlement: at(Some(10), Overage::Units(2)),
        };
        assert_eq!(day.over(), 1);
    }
}
