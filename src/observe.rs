//! What the relay shows of itself: access lines, its own log, health.

pub mod access;
pub mod admin;
pub(crate) mod fold;
pub mod log;
pub mod metrics;
pub mod stderr;
