//! Reading the log, and nothing else: on a copy, on read-only media, without a relay and without a configuration.

pub mod page;
pub mod reading;
pub mod table;
pub mod verify;
pub mod versions;
