//! HTTP/1.1 with clients: one head judged before hyper sees it, then hyper; every reply of our own from one table.

pub mod body;
pub mod guard;
pub mod head;
pub mod headers;
pub mod reply;
pub mod serve;
pub mod target;
mod turned_away;
