//! Sentences at the head of the page about what is not on it, and why.

use crate::ask::evidence::left_out;
use crate::read::open::Read;

/// What the reading says of itself; `sizes` are the records of each log that were taken, where not all were.
pub(super) fn of_the_reading(read: &Read, sizes: &[u64]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    notes.extend(read.verified.iter().zip(sizes).filter_map(|(log, size)| {
        let left_out = left_out(log, *size)?;
        Some(format!("{size} of {} records of {} are on this page; {left_out}.", log.records, log.origin))
    }));
    notes.extend(read.unknown.iter().map(|(action, count)| {
        let (records, them) = if *count == 1 { ("record is", "it") } else { ("records are", "them") };
        format!("{count} {records} of a kind that this program does not know ({action}); a newer one may read {them}.")
    }));
    let unreadable: u64 = read.verified.iter().map(|log| log.unreadable).sum();
    if unreadable > 0 {
        let records = if unreadable == 1 { "record" } else { "records" };
        notes.push(format!(
            "Not on this page: {unreadable} whole {records} that this program can't read; a newer one may."
        ));
    }
    notes
}

/// Where there was more of something than a fold keeps.
pub(super) fn too_many(count: u64, what: &str) -> Option<String> {
    (count > 0)
        .then(|| format!("Not on this page, as there are more than it keeps apart: {count} of the {what}."))
}

/// Changes that name nobody.
pub(super) fn of_nobody(changes: u64) -> Option<String> {
    match changes {
        0 => None,
        1 => Some("1 change that was told names nobody whom this log knows.".into()),
        more => Some(format!("{more} changes that were told name nobody whom this log knows.")),
    }
}
