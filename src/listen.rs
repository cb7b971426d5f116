//! One port, three ways in: accepted under limits, told apart by the first byte.

pub mod accept;
pub mod local;
pub mod proxy_protocol;
pub mod sniff;
pub mod sockets;
