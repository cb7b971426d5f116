//! How text from outside is shown, whoever it is for.

pub mod causes;
pub mod escape;
pub mod hex;
pub mod number;
pub mod redact;
pub mod shell;
pub mod terminal;
