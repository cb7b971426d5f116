//! The assignment log of a license relay: what a shipper of its records or an auditor needs, and the relay itself.
//!
//! [`ledger`] is the log as it lies on disk, [`verify`] says whether it is whole, and [`text`] shows what came from outside.
//! [`console`] is what all programs with a command line do in one way. [`files`] are read and written the same careful way by all programs, and [`threads`], [`stderr`] and [`file_size`] turn
//! limits of the system into errors that can be told. Imports point down the list of modules below, never up.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // Tests may; what serves clients may not.
#![deny(clippy::print_stderr, clippy::print_stdout)] // They panic where nobody reads; one module of each program prints.

pub mod console;

pub mod verify;

pub mod ledger;
pub mod names;

pub mod files;
pub mod stderr;

pub mod file_size;
pub mod threads;

pub mod text;

pub mod bounds;

#[cfg(test)]
#[path = "../../../tests/it/common/skip.rs"]
mod skip;
