//! What a question needs of the records, taken in one at a time and without keeping them.

pub mod account;
pub mod aliases;
pub mod assignments;
pub mod clock_skew;
pub mod consumption;
pub mod coverage;
pub mod daily_peak;
pub mod deployments;
pub mod entitlements;
pub mod gaps;
pub mod in_flight;
pub(crate) mod interner;
pub mod moves;
pub mod not_understood;
pub mod people;
pub mod refusals;

#[cfg(test)]
pub(crate) mod test_records;
