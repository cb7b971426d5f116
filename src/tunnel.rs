//! `CONNECT`: the way in that the product's proxy setting opens, terminated here or copied through.

pub mod connect;
pub mod copy;
