//! `license-relay`: the only machine in a closed network that may talk to `license.qlikcloud.com`.
//!
//! # The life of a request
//!
//! A deployment's license service has the relay set as its proxy. Its connection is accepted under limits
//! ([`listen::accept`]); the first byte tells HTTP from TLS ([`listen::sniff`]). A `CONNECT` is judged by its authority
//! alone and answered ([`tunnel::connect`]); inside, or directly where DNS points here, TLS ends with a leaf of our own
//! constrained issuer ([`tls`]). The first head is judged before hyper sees it ([`http::head`]), then requests are
//! read whole, one after the other ([`http::serve`]). What all of them share is one [`app::App`].
//!
//! Each request becomes an exchange of its own ([`exchange`]): what is said ([`licensing`]), may it ([`policy`]), the
//! intent on disk ([`audit`]), one send ([`upstream`]), the outcome on disk, and only then the reply, byte for byte.
//! Every refusal is a value with a cause, and one table turns it into words ([`http::reply`]).
//!
//! [`relay`] puts a running relay together; [`cli`] has a file for each verb. Imports point down the list of modules
//! below, never up (`tests/it/layers.rs`): [`policy`] stands on [`licensing`], the log's writer on [`relay_log`], and all of it
//! on [`config`] and the ground below that. What reads the log is a crate of its own, which no module but [`cli`] uses.

#![warn(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // Tests may; what serves clients may not.
#![deny(clippy::print_stderr, clippy::print_stdout)] // They panic where nobody reads; `cli` has a module that prints.

pub mod cli;

pub mod relay;

pub mod listen;
pub mod tunnel;

pub mod http;

pub mod app;

pub mod exchange;

pub mod setup;

pub mod policy;

pub mod licensing;

pub mod upstream;

pub mod tls;

pub mod audit;

pub mod observe;

pub mod memory;
pub(crate) mod turns;

pub mod config;

pub mod body_cost;
pub mod budget;
pub mod stream;

pub mod bounds;

#[cfg(test)]
#[path = "../tests/it/common/skip.rs"]
mod skip;
