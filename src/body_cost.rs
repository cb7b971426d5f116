//! What one body takes in memory at most: while it is read, and for what is kept of it. The configuration is checked
//! against these sums, and [`memory`](crate::memory) is divided by them.

use crate::bounds;

/// The least that is enough for the dearest body and the dearest reply, read with so many vocabularies.
pub fn least(max_body: u64, vocabularies: u64) -> u64 {
    let least = [max_body, message(vocabularies), reply(vocabularies)].map(with_room);
    least.into_iter().fold(bounds::READING, u64::saturating_add)
}

/// The memory that one message, or what one reply tells, takes at most: read with so many vocabularies, its shape, and the
/// records of one turn.
pub(crate) fn message(vocabularies: u64) -> u64 {
    vocabularies * bounds::MESSAGE as u64 + SHAPE + TURN
}

/// The records of one turn, which wait for their room in the queue of the log.
const TURN: u64 = (bounds::JOURNAL_TURN * RECORD) as u64;
/// A record, with the texts that are usual in it.
const RECORD: usize = 1536;
/// A shape, with the names of its members.
const SHAPE: u64 = 100 * bounds::SHAPE_VALUES as u64;

/// The most that is kept of a request's body of so many bytes, once it is decoded, and read with so many vocabularies. A
/// change may be two bytes long, and take 280 with what it has from what it stands in; a value of a shape takes 100.
pub(crate) fn of_message(decoded: usize, vocabularies: usize) -> u64 {
    kept(decoded, 140, vocabularies)
}

/// The most that is kept of what a reply's body tells. A unit of an allotment may be three bytes long, and take 960.
pub(crate) fn of_reply(decoded: usize, vocabularies: usize) -> u64 {
    kept(decoded, 320, vocabularies)
}

fn kept(decoded: usize, a_byte: usize, vocabularies: usize) -> u64 {
    let told = decoded.saturating_mul(a_byte).min(bounds::MESSAGE);
    // Whatever a record is made of has some twenty bytes.
    let turn = (decoded as u64 / 20 + 1).saturating_mul(RECORD as u64).min(TURN);
    (vocabularies * told) as u64 + (decoded as u64).saturating_mul(50).min(SHAPE) + turn
}

/// What is kept of a body that was read: what was understood of it, and as many of its records as are made at one time.
pub(crate) fn with_records(understood: usize) -> u64 {
    // Whatever a record is made of takes more.
    let records = (understood / 100 + 1).min(bounds::JOURNAL_TURN);
    (understood + records * RECORD) as u64
}

/// What one reply takes at most, with all that it tells.
pub(crate) fn reply(vocabularies: u64) -> u64 {
    bounds::REPLY_BYTES as u64 + message(vocabularies)
}

/// With the eighth that is left to what is small.
pub(crate) fn with_room(dearest: u64) -> u64 {
    dearest.saturating_add(dearest.div_ceil(bounds::SMALL_SHARE - 1))
}
