//! Reading the log, and nothing else: on a copy, on read-only media, without a relay and without a configuration.

pub mod activity;
pub mod answer;
pub mod assignments;
pub mod changes;
pub mod charts;
pub mod clock;
pub mod consumption;
pub mod days;
pub mod denied;
pub mod deployments;
pub mod entitlements;
pub mod escape;
pub mod evidence;
pub mod export;
pub mod gaps;
pub mod history;
pub mod html;
pub mod kept;
pub mod kit;
pub mod names;
pub mod open;
pub mod page;
pub mod people;
pub mod prove;
pub mod reading;
pub mod reconcile;
pub mod rhythm;
pub mod state;
pub mod strip;
pub mod svg;
pub mod table;
pub mod unread;
pub mod uptime;
pub mod usage;
pub mod verify;
pub mod versions;
pub mod whole;

#[cfg(test)]
mod made;
