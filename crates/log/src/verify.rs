//! Is the log whole, and how that is shown for one record.

pub mod log;
pub mod proof;
