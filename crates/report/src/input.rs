//! What a question is given beside the log: times, names, deployments.

pub mod csv;
pub mod deployment_names;
pub mod names;
pub mod opening;
