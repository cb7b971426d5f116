//! Times without answers of the back end: where they are, and why.

pub mod find;
pub mod gap;
pub mod sync_counts;
pub(crate) mod uptime;
