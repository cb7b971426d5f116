//! Writing the assignment log: on disk before it is forwarded, and before it is answered.

pub mod disk;
pub mod fork;
pub mod journal;
pub mod notary;
pub mod prune;
pub mod recover;
pub mod refusals;
pub mod visit;

mod archive;
mod queue;
mod reserve;
mod tree;

#[cfg(test)]
mod proof;
