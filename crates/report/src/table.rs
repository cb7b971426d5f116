//! Rows for people and for programs.

pub mod cell;
pub mod csv;
pub mod rows;
