//! The assignment log as it lies on disk, for those who write it and those who read it.

pub mod action;
pub mod entry;
pub mod glance;
pub mod log;
pub mod merkle;
pub mod note;
pub mod qlik;
pub mod record;
pub mod regular_file;
pub mod segment;
pub mod subject;
pub mod tail;
pub mod tiles;
