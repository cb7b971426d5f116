//! What is said: the licensing messages, read without being trusted and never changed.

pub mod asker;
pub mod coding;
pub mod json;
pub mod key;
pub mod message;
pub(crate) mod outline;
pub mod reply;
pub mod shape;
pub mod suggest;
pub mod vocabulary;

pub(crate) mod compare;
mod read;
mod terms;
mod wire;
