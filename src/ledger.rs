//! The assignment log as it lies on disk, for those who write it and those who read it.

pub mod record;
pub mod segment;
