//! Who was refused, record by record as they come, and how often for which reason. Refusals that the relay has folded keep
//! their exact count.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::table::cell::Cell;
use relay_log::ledger::entry::{Entry, product_of};

/// Reasons that are counted apart; the rest share one.
const REASONS: usize = 200;
/// The reason of the rest.
const OTHER: &str = "(other)";

/// One record of refusals.
#[derive(Clone, Debug)]
pub struct Denied {
    /// When it was written.
    pub time: Timestamp,
    /// `access.denied`, `access.limited` or `access.invalid`.
    pub action: String,
    /// The source id that was sent.
    pub source: Option<String>,
    /// The license that was named.
    pub license: Option<String>,
    /// The client's address; none where those of many are counted together.
    pub address: Option<IpAddr>,
    /// Why.
    pub reason: String,
    /// How many refusals it stands for.
    pub count: u64,
    /// The first of them.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// Product and version, or the whole `User-Agent`.
    pub product: Option<String>,
    /// The Basic user name that was tried.
    pub user: Option<String>,
}

/// The columns of `denied`.
pub(crate) const COLUMNS: &[&str] = &[
    "time", "action", "source", "license", "address", "reason", "count", "first", "last", "product", "user",
];

impl Denied {
    /// The refusals of a record, where it is one of any.
    pub fn of(entry: &Entry<'_>) -> Option<Self> {
        if !is_refusal(entry) {
            return None;
        }
        let (count, first, last) = counted(entry);
        let product = |agent: &str| match product_of(agent) {
            Some((product, version)) => format!("{product} {version}"),
            None => agent.to_owned(),
        };
        Some(Self {
            time: entry.time,
            action: (*entry.action).to_owned(),
            source: entry.qlik.source_id.as_deref().map(Into::into),
            license: entry.qlik.license.as_deref().map(Into::into),
            address: entry.client,
            reason: (*entry.reason).to_owned(),
            count,
            first,
            last,
            product: entry.user_agent.as_deref().map(product),
            user: entry.qlik.tried_user.as_deref().map(Into::into),
        })
    }

    /// A cell for each column.
    pub fn cells(&self) -> Vec<Cell> {
        vec![
            self.time.into(),
            self.action.clone().into(),
            self.source.clone().into(),
            self.license.clone().into(),
            self.address.map(|address| address.to_string()).into(),
            self.reason.clone().into(),
            self.count.into(),
            self.first.into(),
            self.last.into(),
            self.product.clone().into(),
            self.user.clone().into(),
        ]
    }
}

/// How often anybody was refused for one reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Times {
    /// Exactly.
    pub count: u64,
    /// The first time.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
}

/// Refusals by action and reason.
#[derive(Debug, Default)]
pub struct Reasons {
    /// The sums; a reason stands without the ids that it names.
    pub sums: BTreeMap<(String, String), Times>,
}

impl Reasons {
    /// The next record.
    pub fn take(&mut self, entry: &Entry<'_>) {
        if !is_refusal(entry) {
            return;
        }
        let (count, first, last) = counted(entry);
        let mut key = ((*entry.action).to_owned(), without_ids(entry));
        if self.sums.len() >= REASONS && !self.sums.contains_key(&key) {
            key.1 = OTHER.into();
        }
        let times = self.sums.entry(key).or_insert(Times { count: 0, first, last });
        times.count = times.count.saturating_add(count);
        times.first = times.first.min(first);
        times.last = times.last.max(last);
    }

    /// All refusals.
    pub fn count(&self) -> u64 {
        self.sums.values().fold(0, |all, times| all.saturating_add(times.count))
    }
}

/// A connectivity test that was passed on is none.
pub(crate) fn is_refusal(entry: &Entry<'_>) -> bool {
    entry.action.starts_with("access.") && &*entry.action != "access.test"
}

fn counted(entry: &Entry<'_>) -> (u64, Timestamp, Timestamp) {
    entry.qlik.repeat.map_or((1, entry.time, entry.time), |all| (all.count, all.first, all.last))
}

/// The reason as it is for everybody: what it names of this one, or quotes in brackets, is left out.
fn without_ids(entry: &Entry<'_>) -> String {
    let mut reason = entry.reason.split(" (").next().unwrap_or_default().to_owned();
    for id in [&entry.qlik.source_id, &entry.qlik.license].into_iter().flatten() {
        if !id.is_empty() {
            reason = reason.replace(&format!(" {}", &**id), "");
        }
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::test_records::{fed, record};
    use relay_log::ledger::qlik::Repeat;
    use relay_log::ledger::record::Record;

    fn folded(count: u64, address: Option<IpAddr>) -> Record {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut record = record("access.denied", "");
        record.reason = "more refusals of this address, counted together".into();
        record.client = address;
        record.qlik.repeat = Some(Repeat { count, first: at(10), last: at(59) });
        record
    }

    fn refused(source: &str) -> Record {
        let mut record = record("access.denied", source);
        record.reason = format!("source {source} is not allowed");
        record.user_agent = Some("Licenses/1.6.4 (windows) QSEfW".into());
        record
    }

    #[test]
    fn a_folded_record_stands_for_as_many_as_it_says() {
        let denied = fed(60, &folded(123, Some([10, 0, 0, 1].into())), Denied::of).unwrap();
        assert_eq!((denied.count, denied.first.as_second(), denied.last.as_second()), (123, 10, 59));
        let cells = denied.cells();
        assert_eq!(
            (cells.len(), cells[4].text().as_str(), &cells[9]),
            (COLUMNS.len(), "10.0.0.1", &Cell::None)
        );
        let single = fed(60, &refused("a"), Denied::of).unwrap();
        assert_eq!(
            (single.count, single.first, single.product.as_deref()),
            (1, single.time, Some("QSEfW 1.6.4"))
        );
        assert!(fed(60, &record("license.sync.response", "a"), Denied::of).is_none());
    }

    #[test]
    fn a_reason_is_counted_once_however_many_ids_it_names() {
        let mut reasons = Reasons::default();
        for n in 0..3 * REASONS {
            fed(n as i64, &refused(&format!("id-{n}")), |entry| reasons.take(entry));
        }
        fed(60, &folded(400, None), |entry| reasons.take(entry));
        let sums: Vec<_> = reasons.sums.iter().map(|((_, why), times)| (&**why, times.count)).collect();
        let together = "more refusals of this address, counted together";
        assert_eq!(sums, [(together, 400), ("source is not allowed", 3 * REASONS as u64)]);
        assert_eq!(reasons.count(), 400 + 3 * REASONS as u64);
    }

    #[test]
    fn reasons_are_bounded_and_none_is_lost() {
        let mut reasons = Reasons::default();
        for n in 0..2 * REASONS {
            let mut record = record("access.invalid", "");
            record.reason = format!("reason {n}");
            fed(0, &record, |entry| reasons.take(entry));
        }
        assert_eq!((reasons.sums.len(), reasons.count()), (REASONS + 1, 2 * REASONS as u64));
    }
}
