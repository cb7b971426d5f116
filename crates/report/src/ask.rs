//! The questions: each is one reading of the log and its rows.

pub mod answer;
pub mod changes;
pub mod churn;
pub mod consumption;
pub mod denied;
pub mod deployments;
pub mod evidence;
pub mod export;
pub mod gaps;
pub mod history;
pub mod reconcile;
pub mod state;
pub mod subject;
