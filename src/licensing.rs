//! What is said: the licensing messages, read without being trusted and never changed.

pub mod json;
pub mod key;
pub mod message;
pub mod reply;
pub mod subject;
pub mod vocabulary;
