//! The way to the back end: one send, one reply, or why not.

pub mod address;
pub mod dial;
pub mod error;
pub mod parent;
pub mod pool;
pub mod resolve;
pub mod send;
