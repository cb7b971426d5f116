//! Reading the log, and nothing else: on a copy, on read-only media, without a relay and without a configuration.
//!
//! A [verb](verbs) becomes a question ([`ask`]), the [page] or a kit; logs are [read] as one stream, and what is kept of
//! their records is a [`fold`]. Imports point down the list of modules below, never up.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // Tests may; what reads a log that somebody bent may not.
#![deny(clippy::print_stderr, clippy::print_stdout)] // They panic where nobody reads; `relay_log::console` prints.

pub mod verbs;

mod kit;
pub mod page;

pub mod ask;
pub mod read;

pub mod fold;

pub mod input;
pub mod table;
