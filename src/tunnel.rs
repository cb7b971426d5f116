//! `CONNECT`: the way in that the product's proxy setting opens.

pub mod connect;
