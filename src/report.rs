//! Reading the log, and nothing else: on a copy, on read-only media, without a relay and without a configuration.

pub mod assignments;
pub mod days;
pub mod entitlements;
pub mod page;
pub mod people;
pub mod reading;
pub mod table;
pub mod usage;
pub mod verify;
pub mod versions;
