//! Reading the log, and nothing else: on a copy, on read-only media, without a relay and without a configuration.

pub mod activity;
pub mod answer;
pub mod changes;
pub mod charts;
pub mod days;
pub mod escape;
pub mod evidence;
pub mod export;
pub mod fold;
pub mod history;
pub mod html;
pub mod kit;
pub mod names;
pub mod page;
pub mod prove;
pub mod reading;
pub mod reconcile;
pub mod state;
pub mod svg;
pub mod table;
pub mod verify;
pub mod whole;
