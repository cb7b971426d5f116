//! Files of the configuration, of keys and of the log: read only where they are regular, written whole or not at all.

pub mod edit;
pub mod folder;
mod lock;
pub mod private;
pub mod regular;
pub mod waits;
