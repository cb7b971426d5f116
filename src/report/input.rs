//! What a question is given beside the log: times, names, deployments.

pub mod names;
pub mod period;
