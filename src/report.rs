//! Reading the log, and nothing else: on a copy, on read-only media, without a relay and without a configuration.

pub mod kit;
pub mod prove;
pub mod verify;
