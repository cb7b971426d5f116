//! Records for the tests of readers: written as the relay writes them, and read back.

use jiff::Timestamp;
use uuid::Uuid;

use relay_log::ledger::action::{Action, Direction, Outcome};
use relay_log::ledger::entry::Entry;
use relay_log::ledger::record::{Observer, Record};

/// The license of all records that don't name another.
pub(crate) const LICENSE: &str = "9999000000001253";

/// A record by the name of its action, of this source; successful, and told by the back end.
pub(crate) fn record(action: &str, source: &str) -> Record {
    let all = [
        Action::SyncRequest,
        Action::SyncResponse,
        Action::AssignmentAdd,
        Action::AssignmentDelete,
        Action::ConsumptionReport,
        Action::ConsumptionResponse,
        Action::UnrecognisedRequest,
        Action::UnrecognisedResponse,
        Action::UnrecognisedLasting,
        Action::AccessDenied,
        Action::AccessLimited,
        Action::AccessInvalid,
        Action::UpstreamError,
        Action::RelayStart,
        Action::RelayStop,
        Action::RelayHeartbeat,
        Action::RelayClockStep,
        Action::AuditSealed,
        Action::AuditRecovered,
        Action::AuditGap,
    ];
    let named = |known: &&Action| serde_json::to_value(known).unwrap() == action;
    // Those that other builders of the log add say no more than their name here.
    let known = all.iter().find(named).copied().unwrap_or(Action::AuditFork);
    let mut record = Record::new(known, Uuid::nil());
    record.outcome = Outcome::Success;
    record.qlik.direction = Some(Direction::In);
    if !source.is_empty() {
        record.qlik.source_id = Some(source.into());
        record.qlik.license = Some(LICENSE.into());
    }
    record
}

/// Writes the record at so many seconds since 1970, and reads it back.
pub(crate) fn fed<T>(second: i64, record: &Record, take: impl FnOnce(&Entry<'_>) -> T) -> T {
    let observer = Observer { name: "relay-01".into(), version: "0.1.0" };
    let line = record.line(0, Timestamp::from_second(second).unwrap(), &observer).unwrap();
    take(&Entry::at(&line[..line.len() - 1]).unwrap())
}
