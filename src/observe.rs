//! What the relay shows of itself: access lines, its own log, health.

pub mod access;
pub mod admin;
pub mod facts;
pub(crate) mod fold;
pub mod labels;
pub mod log;
pub mod metrics;
pub mod shown;
