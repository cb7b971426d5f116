//! What was consumed, by license, month, allotment and source: what each deployment reported since its last report, and
//! what the back end told as the total of all. A report whose outcome is unknown counts in the upper bound only, one that
//! failed in neither.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::in_flight::Open;
use super::interner::Interner;
use crate::table::cell::Cell;
use relay_log::ledger::entry::{Ended, Entry};

/// Sums that are kept: licenses by months by allotments by sources.
const SUMS: usize = 2_000_000;
/// Elements of one exchange that are kept apart until its outcome.
const ELEMENTS: usize = 50_000;

/// License, month, allotment.
type Allotted = (Arc<str>, Arc<str>, Arc<str>);

/// Adds up all reports.
#[derive(Debug, Default)]
pub struct Consumption {
    names: Interner,
    open: Open<Vec<Element>>,
    sums: BTreeMap<(Allotted, Arc<str>), Sum>,
    totals: BTreeMap<Allotted, ToldTotal>,
    beyond: u64,
    end: Option<Timestamp>,
}

/// One element of a report that has no outcome yet.
#[derive(Debug)]
struct Element {
    of: Allotted,
    source: Arc<str>,
    delta: Option<i64>,
}

/// What one deployment reported of one allotment in one month.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sum {
    /// Reports that did not fail.
    pub reports: u64,
    /// What of it is confirmed.
    pub delta: i64,
    /// What of it has an unknown outcome.
    pub delta_unknown: i64,
    /// Reports whose number could not be read: they are in no sum.
    pub unreadable: u64,
}

#[derive(Clone, Copy, Debug)]
struct ToldTotal {
    total: Option<i64>,
    last: Timestamp,
}

/// A row: one source's sum, or that of all sources where `source` is empty and `all` is there.
#[derive(Clone, Debug)]
pub struct ConsumptionRow {
    /// The license.
    pub license: Arc<str>,
    /// `YYYY-MM`.
    pub month: Arc<str>,
    /// The allotment.
    pub allotment: Arc<str>,
    /// The source.
    pub source: Arc<str>,
    /// Its sum, or that of all.
    pub sum: Sum,
    /// What is said of all sources together.
    pub all: Option<AllSources>,
}

/// What is said of all sources together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AllSources {
    /// Confirmed reports.
    pub delta_low: i64,
    /// With those whose outcome is unknown.
    pub delta_high: i64,
    /// The largest total that the back end told for the month.
    pub total: Option<i64>,
    /// What the back end counts beyond the confirmed ones: consumed elsewhere, or before this log.
    pub difference: Option<i64>,
    /// The same beyond all of them.
    pub difference_low: Option<i64>,
    /// What may be consumed in the month, as its definition said.
    pub quota: Option<i64>,
    /// Days from the last response until that is used up, at the month's pace so far.
    pub days_left: Option<f64>,
}

/// The columns of `consumption`.
pub(crate) const COLUMNS: &[&str] = &[
    "license",
    "month",
    "allotment",
    "source",
    "reports",
    "delta",
    "delta_unknown",
    "unreadable",
    "delta_low",
    "delta_high",
    "total",
    "difference",
    "difference_low",
    "quota",
    "days_left",
];

impl ConsumptionRow {
    /// A cell for each column.
    pub(crate) fn cells(&self) -> Vec<Cell> {
        let Sum { reports, delta, delta_unknown, unreadable } = self.sum;
        let all = |of: fn(&AllSources) -> Option<i64>| self.all.as_ref().and_then(of).into();
        vec![
            (&*self.license).into(),
            (&*self.month).into(),
            (&*self.allotment).into(),
            (&*self.source).into(),
            reports.into(),
            delta.into(),
            delta_unknown.into(),
            unreadable.into(),
            all(|all| Some(all.delta_low)),
            all(|all| Some(all.delta_high)),
            all(|all| all.total),
            all(|all| all.difference),
            all(|all| all.difference_low),
            all(|all| all.quota),
            self.all.and_then(|all| all.days_left).map_or(Cell::None, Cell::Tenths),
        ]
    }
}

impl Consumption {
    /// The next record, in the order of time.
    pub fn take(&mut self, log: usize, entry: &Entry<'_>) {
        self.end = Some(self.end.map_or(entry.time, |end| end.max(entry.time)));
        match &*entry.action {
            "license.consumption.report" => {
                let (of, source) = (self.allotted(entry), self.names.keep(entry.qlik.source_id.as_deref()));
                let (elements, given_up) = self.open.of(log, entry);
                if elements.len() < ELEMENTS {
                    elements.push(Element { of, source, delta: entry.qlik.delta });
                } else {
                    self.beyond += 1;
                }
                self.settle(given_up, Ended::Unknown);
            }
            "license.consumption.response" => {
                if let Some(elements) = self.open.end(&entry.exchange) {
                    self.settle([elements], entry.outcome);
                }
                if entry.outcome == Ended::Success && entry.qlik.month.is_some() {
                    self.told(entry);
                }
            }
            "relay.start" => {
                let without_outcome = self.open.restart(log);
                self.settle(without_outcome, Ended::Unknown);
            }
            _ => {}
        }
    }

    /// The newest month that anything was reported or told of.
    pub(crate) fn newest_month(&self) -> Option<Arc<str>> {
        let of_sums = self.sums.keys().map(|((_, month, _), _)| month);
        of_sums.chain(self.totals.keys().map(|(_, month, _)| month)).filter(|m| is_month(m)).max().cloned()
    }

    /// The records that found no room are in no sum: how many.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// What is open when the logs end has an unknown outcome. To be called once, before [`rows`](Self::rows).
    pub fn finish(&mut self) {
        let rest = self.open.rest();
        self.settle(rest, Ended::Unknown);
    }

    /// The rows of a month, or of all; those of the sources of a license and an allotment, then the one of all of them.
    /// `quota` gives what may be consumed of a license's allotment in a month.
    pub fn rows(
        &self,
        month: Option<&str>,
        quota: impl Fn(&str, &str, &str) -> Option<i64>,
    ) -> Vec<ConsumptionRow> {
        let mut of: BTreeMap<&Allotted, Vec<(&Arc<str>, Sum)>> =
            self.totals.keys().map(|of| (of, Vec::new())).collect();
        for ((allotted, source), sum) in &self.sums {
            of.entry(allotted).or_default().push((source, *sum));
        }
        let mut rows = Vec::new();
        for (allotted, sources) in of {
            let (license, of_month, allotment) = allotted;
            if month.is_some_and(|month| month != &**of_month) {
                continue;
            }
            let row = |source: &Arc<str>, sum, all| ConsumptionRow {
                license: license.clone(),
                month: of_month.clone(),
                allotment: allotment.clone(),
                source: source.clone(),
                sum,
                all,
            };
            let mut together = Sum::default();
            for (source, sum) in sources {
                together.add(&sum);
                rows.push(row(source, sum, None));
            }
            let all = self.all(allotted, &together, quota(license, of_month, allotment));
            rows.push(row(&"".into(), together, Some(all)));
        }
        rows
    }

    fn all(&self, of: &Allotted, sum: &Sum, quota: Option<i64>) -> AllSources {
        let told = self.totals.get(of);
        let total = told.and_then(|told| told.total);
        let delta_high = sum.delta.saturating_add(sum.delta_unknown);
        AllSources {
            delta_low: sum.delta,
            delta_high,
            total,
            difference: total.map(|total| total.saturating_sub(sum.delta)),
            difference_low: total.map(|total| total.saturating_sub(delta_high)),
            quota,
            days_left: told.and_then(|told| days_left(&of.1, told, quota?, self.end?)),
        }
    }

    fn allotted(&mut self, entry: &Entry<'_>) -> Allotted {
        let said = &entry.qlik;
        let mut keep = |name: Option<&str>| self.names.keep(name);
        (keep(said.license.as_deref()), keep(said.month.as_deref()), keep(said.allotment.as_deref()))
    }

    fn told(&mut self, entry: &Entry<'_>) {
        let of = self.allotted(entry);
        if self.totals.len() >= SUMS && !self.totals.contains_key(&of) {
            self.beyond += 1;
            return;
        }
        let told = self.totals.entry(of).or_insert(ToldTotal { total: None, last: entry.time });
        // None is less than any.
        told.total = told.total.max(entry.qlik.total);
        told.last = entry.time;
    }

    fn settle(&mut self, exchanges: impl IntoIterator<Item = Vec<Element>>, outcome: Ended) {
        if outcome == Ended::Failure {
            return;
        }
        for Element { of, source, delta } in exchanges.into_iter().flatten() {
            let key = (of, source);
            if self.sums.len() >= SUMS && !self.sums.contains_key(&key) {
                self.beyond += 1;
                continue;
            }
            let sum = self.sums.entry(key).or_default();
            let known = outcome == Ended::Success;
            sum.add(&Sum {
                reports: 1,
                delta: delta.filter(|_| known).unwrap_or(0),
                delta_unknown: delta.filter(|_| !known).unwrap_or(0),
                unreadable: u64::from(delta.is_none()),
            });
        }
    }
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.reports += other.reports;
        self.delta = self.delta.saturating_add(other.delta);
        self.delta_unknown = self.delta_unknown.saturating_add(other.delta_unknown);
        self.unreadable += other.unreadable;
    }
}

/// `None` for a month that is over, and where nothing is consumed.
fn days_left(month: &str, told: &ToldTotal, quota: i64, end: Timestamp) -> Option<f64> {
    const DAY: f64 = 24.0 * 3600.0;
    let (begin, next) = span(month)?;
    let total = told.total?;
    if end >= next {
        return None;
    }
    if total >= quota {
        return Some(0.0);
    }
    let days = told.last.duration_since(begin).as_secs_f64() / DAY;
    (total > 0 && days > 0.0).then(|| (quota as f64 - total as f64) * days / total as f64)
}

/// When a month begins, and the one after it, in UTC.
fn span(month: &str) -> Option<(Timestamp, Timestamp)> {
    if !is_month(month) {
        return None;
    }
    let (year, number) = month.split_once('-')?;
    let first = Date::new(year.parse().ok()?, number.parse().ok()?, 1).ok()?;
    let next = first.last_of_month().tomorrow().ok()?;
    let begin = |day: Date| TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok();
    Some((begin(first)?, begin(next)?))
}

fn is_month(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-')
        .is_some_and(|(year, month)| year.len() == 4 && month.len() == 2 && digits(year) && digits(month))
}

#[cfg(test)]
mod tests {
    use serde_json::Number;
    use uuid::Uuid;

    use super::*;
    use crate::fold::test_records::{LICENSE, fed, record};
    use relay_log::ledger::action::Outcome;
    use relay_log::ledger::record::Record;

    /// 2026-11-11T00:00:00Z: ten days into the month.
    const TENTH: i64 = 1_794_355_200;

    fn report(exchange: u128, source: &str, delta: impl Into<Option<f64>>) -> Record {
        let mut record = record("license.consumption.report", source);
        record.exchange = Uuid::from_u128(exchange);
        record.outcome = Outcome::Unknown;
        record.qlik.month = Some("2026-11".into());
        record.qlik.allotment = Some("analyzer_time".into());
        record.qlik.delta = delta.into().and_then(Number::from_f64);
        record
    }

    fn response(exchange: u128, outcome: Outcome, total: Option<i64>) -> Record {
        let mut record = report(exchange, "a", None);
        record.action = relay_log::ledger::action::Action::ConsumptionResponse;
        record.outcome = outcome;
        if total.is_none() {
            (record.qlik.month, record.qlik.allotment) = (None, None);
        }
        record.qlik.total = total.map(Number::from);
        record
    }

    fn summed(records: &[Record]) -> Consumption {
        let mut consumption = Consumption::default();
        for record in records {
            fed(TENTH, record, |entry| consumption.take(0, entry));
        }
        consumption.finish();
        consumption
    }

    fn all(consumption: &Consumption, quota: Option<i64>) -> (Sum, AllSources) {
        let rows = consumption.rows(Some("2026-11"), |_, _, _| quota);
        let last = rows.last().unwrap();
        assert_eq!(last.cells().len(), COLUMNS.len());
        (last.sum, last.all.unwrap())
    }

    #[test]
    fn unknown_outcomes_are_between_the_lower_bound_and_the_upper() {
        let consumption = summed(&[
            report(1, "a", 10.0),
            response(1, Outcome::Success, Some(100)),
            report(2, "a", 5.0),
            response(2, Outcome::Failure, None),
            report(3, "a", 7.0),
            response(3, Outcome::Unknown, None),
            report(4, "b", 2.0),
            response(4, Outcome::Success, Some(112)),
            // The relay ended before its outcome, and so did the log before this one's.
            report(5, "b", 30.0),
            record("relay.start", ""),
            report(6, "b", 400.0),
        ]);
        let rows = consumption.rows(None, |_, _, _| None);
        let sums: Vec<_> =
            rows.iter().map(|row| (&*row.source, row.sum.delta, row.sum.delta_unknown)).collect();
        assert_eq!(sums, [("a", 10, 7), ("b", 2, 430), ("", 12, 437)]);
        assert_eq!((&*rows[0].license, rows[0].sum.reports, rows[2].sum.reports), (LICENSE, 2, 5));
        let (_, all) = all(&consumption, None);
        assert_eq!((all.delta_low, all.delta_high), (12, 449));
        assert_eq!((all.total, all.difference, all.difference_low), (Some(112), Some(100), Some(-337)));
    }

    #[test]
    fn a_number_that_could_not_be_read_is_counted_and_never_zero() {
        let consumption = summed(&[
            report(1, "a", 1.5),
            report(1, "a", None),
            report(1, "a", 4.0),
            response(1, Outcome::Success, None),
        ]);
        let (sum, all) = all(&consumption, Some(10));
        assert_eq!(sum, Sum { reports: 3, delta: 4, delta_unknown: 0, unreadable: 2 });
        assert_eq!((all.total, all.difference, all.days_left), (None, None, None));
    }

    #[test]
    fn what_is_told_without_having_been_asked_here_is_all_difference() {
        let consumption =
            summed(&[response(1, Outcome::Success, Some(50)), response(2, Outcome::Success, Some(49))]);
        let (sum, all) = all(&consumption, None);
        assert_eq!((sum.reports, all.total, all.difference), (0, Some(50), Some(50)));
    }

    #[test]
    fn the_quota_lasts_as_long_as_the_pace_of_the_month_says() {
        let told = |total| summed(&[response(1, Outcome::Success, Some(total))]);
        let days = |total, quota| all(&told(total), quota).1.days_left;
        assert_eq!(days(100, Some(150)), Some(5.0));
        assert_eq!((days(100, Some(100)), days(100, Some(7))), (Some(0.0), Some(0.0)));
        assert_eq!((days(0, Some(100)), days(100, None)), (None, None));
        let mut over = told(100);
        let december = TENTH + 20 * 24 * 3600;
        fed(december - 1, &record("relay.heartbeat", ""), |entry| over.take(0, entry));
        assert_eq!(all(&over, Some(150)).1.days_left, Some(5.0));
        fed(december, &record("relay.heartbeat", ""), |entry| over.take(0, entry));
        assert_eq!(all(&over, Some(150)).1.days_left, None);
    }

    #[test]
    fn the_newest_month_is_one_that_is_a_month() {
        let mut odd = report(1, "a", 1.0);
        odd.qlik.month = Some("unknown".into());
        let consumption = summed(&[odd, report(2, "a", 1.0)]);
        assert_eq!(consumption.newest_month().as_deref(), Some("2026-11"));
        assert_eq!(consumption.rows(Some("2026-10"), |_, _, _| None).len(), 0);
        assert_eq!((span("2026-13"), span("(other)")), (None, None));
        assert_eq!(span("2026-12").unwrap().1.to_string(), "2027-01-01T00:00:00Z");
    }
}
