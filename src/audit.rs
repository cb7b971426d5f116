//! Writing the assignment log: on disk before it is forwarded, and before it is answered.

pub mod checkpointer;
pub mod disk;
pub mod fork;
pub mod journal;
pub mod offline_append;
pub mod prune;
pub mod recover;
pub mod refusals;

mod archive;
mod queue;
mod reserve;
mod tree;

#[cfg(test)]
mod crash_tests;
