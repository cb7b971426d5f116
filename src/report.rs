//! Reading the log, and nothing else: on a copy, on read-only media, without a relay and without a configuration.

pub mod clock;
pub mod consumption;
pub mod denied;
pub mod deployments;
pub mod gaps;
#[cfg(test)]
mod made;
pub mod names;
pub mod open;
pub mod reading;
pub mod rhythm;
pub mod strip;
pub mod table;
pub mod unread;
pub mod uptime;
pub mod verify;
