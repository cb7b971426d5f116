//! Reading the log, and nothing else: on a copy, on read-only media, without a relay and without a configuration.

pub mod charts;
pub mod escape;
pub mod html;
pub mod page;
pub mod svg;
pub mod verify;
