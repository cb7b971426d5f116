//! What a verification says in the end, and why it may say nothing.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use crate::ledger::log::Predecessor;
use crate::threads::NoThread;
use crate::verify::LogError;

/// What a verification has found.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// Its folder.
    pub log: PathBuf,
    /// The log's name.
    pub origin: String,
    /// The key that its checkpoints were checked with.
    pub key: String,
    /// The log that it follows after a fork.
    pub predecessor: Option<Predecessor>,
    /// Whole records, pruned ones included.
    pub records: u64,
    /// Those that were pruned: the log says so itself, and the checkpoints hold with their hashes.
    pub pruned: u64,
    /// The root over them, in hex; absent where some are missing altogether.
    pub root: Option<String>,
    /// The newest checkpoint that holds.
    pub checkpoint: Option<Covered>,
    /// Checkpoints that hold, all kept ones among them.
    pub checkpoints: u64,
    /// Records behind the newest checkpoint.
    pub unsigned: u64,
    /// That tail is older than any that a running relay leaves.
    pub stale_tail: bool,
    /// Anchors that hold, and over how many records.
    pub anchors: Vec<Covered>,
    /// Anchors that this log is behind of, or that differ.
    pub rolled_back: Vec<String>,
    /// Anchors that hold no checkpoint of this log.
    #[serde(skip)]
    pub foreign_anchors: Vec<Foreign>,
    /// Checkpoints in the log's own folder that were named as anchors: they protect from nothing.
    pub own_anchors: Vec<PathBuf>,
    /// What is wrong with lines, segments and checkpoints, the first ones in full.
    pub damage: Vec<String>,
    /// How many of these there are.
    pub damages: u64,
    /// Exchanges that went through without being in the log, as the log itself says.
    pub gaps: u64,
    /// Bytes at the very end that are no whole line yet.
    pub half_a_line: u64,
    /// Whole lines that whoever reads on can't read as records: those of a newer program, say.
    pub unreadable: u64,
}

/// An anchor that holds no checkpoint of a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Foreign {
    /// As it was named.
    pub anchor: PathBuf,
    /// It holds one of another log.
    pub(crate) of_another: bool,
}

/// A checkpoint, and how far it reaches.
#[derive(Clone, Debug, Serialize)]
pub struct Covered {
    /// Where it was read.
    pub file: PathBuf,
    /// Records.
    pub size: u64,
    /// When it was signed.
    pub time: Option<Timestamp>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An anchor is none.
    #[error(
        "{0} holds no checkpoint of this log; name a checkpoint that was kept elsewhere, or what collects the relay's own log"
    )]
    NoAnchor(PathBuf),
    /// The system gives no thread.
    #[error("{0}")]
    Thread(#[from] NoThread),
    /// Nobody wants to read on.
    #[error("the reading was given up, because nobody takes what it gives")]
    Stopped,
    /// The key in log.json is none.
    #[error("{path} holds no key to verify with: {what}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// The verdict, worst first: the exit code of `audit verify`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Whole, signed, and no gaps.
    Fine = 0,
    /// A line, a segment or a checkpoint is not what it was.
    Damaged = 1,
    /// Behind an anchor, or another history than the anchor's.
    RolledBack = 2,
    /// The end is not covered by a checkpoint, and too old for that.
    StaleTail = 3,
    /// Whole, and it says itself that something is not in it.
    Gaps = 4,
}

impl Verified {
    /// Whoever names an anchor for one log means that one: a checkpoint of another log in its place is what somebody who has
    /// put another log there would leave.
    ///
    /// # Errors
    /// One holds no checkpoint at all: the wrong file was named.
    pub fn claim_foreign_anchors(&mut self) -> Result<(), VerifyError> {
        for Foreign { anchor, of_another } in std::mem::take(&mut self.foreign_anchors) {
            if !of_another {
                return Err(VerifyError::NoAnchor(anchor));
            }
            let what = "holds a checkpoint of another log, and none of this one";
            self.rolled_back.push(format!("the anchor {} {what}", anchor.display()));
        }
        Ok(())
    }

    /// The oldest anchor that covers anything, and the newest: what each covers can't have been changed since it was signed by
    /// whoever has the relay's own key, if it was kept out of reach since then.
    pub fn protection(&self) -> Option<(&Covered, &Covered)> {
        let covering = || self.anchors.iter().filter(|anchor| anchor.size > 0 && anchor.time.is_some());
        covering()
            .min_by_key(|anchor| (anchor.time, anchor.size))
            .zip(covering().max_by_key(|anchor| anchor.size))
    }

    /// When the oldest of them was signed.
    pub fn protected_since(&self) -> Option<Timestamp> {
        self.protection().and_then(|(oldest, _)| oldest.time)
    }

    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        if self.damages > 0 {
            Verdict::Damaged
        } else if !self.rolled_back.is_empty() {
            Verdict::RolledBack
        } else if self.stale_tail {
            Verdict::StaleTail
        } else if self.gaps > 0 {
            Verdict::Gaps
        } else {
            Verdict::Fine
        }
    }
}
