//! Rows for people and for programs.

pub mod rows;
