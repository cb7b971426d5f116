//! Reading the log, and nothing else: on a copy, on read-only media, without a relay and without a configuration.

pub mod ask;
pub mod charts;
pub mod fold;
pub mod html;
pub mod input;
pub mod kit;
pub mod page;
pub mod read;
pub mod svg;
pub mod table;
pub mod whole;
