//! Reading the log, and nothing else: on a copy, on read-only media, without a relay and without a configuration.

pub mod ask;
pub mod fold;
pub mod input;
pub mod kit;
pub mod page;
pub mod read;
pub mod table;
pub mod verbs;
