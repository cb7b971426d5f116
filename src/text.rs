//! How text from outside is shown, whoever it is for.

pub mod escape;
pub mod hex;
pub mod redact;
pub mod terminal;
