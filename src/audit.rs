//! Writing the assignment log: on disk before it is forwarded, and before it is answered.

pub mod journal;
pub mod recover;
pub mod refusals;
