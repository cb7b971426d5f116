//! What all programs with a command line do in one way: how they print, hand over files, read times and end.

pub mod exit;
pub mod out;
pub mod out_file;
pub mod period;
