//! Reading logs: several as one stream of records.

pub mod merge;
pub mod open;
