//! What can be told of a line at a glance, before it is taken for a record.

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use serde::Deserialize;

use crate::text::hex::hex;

const SUM_HEX: usize = 16;

/// What recovery looks at in a line, and verification in one that is not as the relay usually writes it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(from = "Outline")]
pub struct Glance {
    /// Its number.
    pub sequence: u64,
    /// What happened.
    pub action: String,
    /// When.
    pub time: Timestamp,
    /// How often, where it stands for several.
    pub repeat: Option<u64>,
    /// The records that it says were pruned, the first and the last of them.
    pub pruned: Option<(u64, u64)>,
    /// How the run before it ended, where it says so.
    pub previous_stop: Option<String>,
}

impl From<Outline> for Glance {
    fn from(outline: Outline) -> Self {
        let OutlineEvent { sequence, action } = outline.event;
        let OutlineQlik { repeat, from_index, to_index, previous_stop } = outline.qlik;
        let pruned = from_index.zip(to_index).filter(|_| action == "audit.pruned");
        let repeat = repeat.map(|repeat| repeat.count);
        Self { sequence, action, time: outline.time, repeat, pruned, previous_stop }
    }
}

impl Glance {
    /// At a line as it lies on disk, without its line feed; `None` where it is no record.
    pub fn at(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// The same; `None` as well where its sum does not match.
    pub(crate) fn of_whole(line: &[u8]) -> Option<Self> {
        sum_holds(line).then(|| Self::at(line)).flatten()
    }
}

/// Whether a line, without its line feed, ends with the sum of what stands before.
pub fn sum_holds(line: &[u8]) -> bool {
    let Some((said, end)) = line.split_last_chunk::<{ SUM_HEX + 10 }>() else { return false };
    let Some(claimed) = end.strip_prefix(b",\"sum\":\"").and_then(|end| end.strip_suffix(b"\"}")) else {
        return false;
    };
    let mut context = Context::new(&SHA256);
    context.update(said);
    context.update(b"}");
    let digest = context.finish();
    let digits = digest.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.zip(claimed).all(|(digit, claimed)| b"0123456789abcdef"[usize::from(digit)] == *claimed)
}

/// The sequence number of a line as it lies on disk (without its line feed), or `None` where the line is not whole:
/// no JSON, no sequence, or a sum that does not match.
pub fn sequence_of(line: &[u8]) -> Option<u64> {
    Some(Glance::of_whole(line)?.sequence)
}

pub(super) fn sum_of(digest: &[u8]) -> String {
    hex(&digest[..SUM_HEX / 2])
}

#[derive(Deserialize)]
struct Outline {
    #[serde(rename = "@timestamp")]
    time: Timestamp,
    event: OutlineEvent,
    #[serde(default)]
    qlik: OutlineQlik,
}

#[derive(Default, Deserialize)]
struct OutlineQlik {
    repeat: Option<OutlineRepeat>,
    from_index: Option<u64>,
    to_index: Option<u64>,
    previous_stop: Option<String>,
}

#[derive(Deserialize)]
struct OutlineRepeat {
    count: u64,
}

#[derive(Deserialize)]
struct OutlineEvent {
    sequence: u64,
    action: String,
}
