//! Whose bodies were not understood, or not in all their parts: what the log can't claim to hold, and the first thing that a
//! report has to say.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::in_flight::Open;
use relay_log::ledger::entry::Entry;
use relay_log::ledger::record::UNREAD_REPLY;

/// Deployments that are told apart; exchanges of further ones are counted.
const DEPLOYMENTS: usize = 10_000;

/// Who: by source, else by license, else by address.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Who {
    Source(String),
    License(String),
    Address(String),
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Source(id) => write!(f, "source {id}"),
            Self::License(number) => write!(f, "license {number}"),
            Self::Address(address) => write!(f, "address {address}"),
        }
    }
}

/// What was not understood of one deployment.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Unread {
    /// Exchanges of which the request or the reply was not understood.
    pub count: u64,
    /// Those of them that were understood but for a part.
    pub partly: u64,
    /// The first, or since when the relay says that it lasts.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// The shape of the last body, or why it could not be read.
    pub shape: Option<String>,
    /// The relay has said that it lasts for a day or more.
    pub lasting: bool,
    /// The license that was named last, and the product.
    pub license: Option<String>,
    /// The last `User-Agent`.
    pub user_agent: Option<String>,
}

/// Follows what was not understood.
#[derive(Debug, Default)]
pub struct NotUnderstood {
    /// By deployment.
    pub by: BTreeMap<Who, Unread>,
    open: Open<Seen>,
    /// Records of deployments that were too many to be told apart.
    pub beyond: u64,
}

/// What has been counted of an exchange.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    counted: bool,
    /// As one that was not understood at all.
    whole: bool,
}

impl NotUnderstood {
    /// The next record, in the order of time.
    pub fn take(&mut self, log: usize, entry: &Entry<'_>) {
        self.open.pass(log, entry);
        let action = &*entry.action;
        if !action.starts_with("license.") {
            if action == "relay.start" {
                self.open.restart(log);
            }
            return;
        }
        let lasting = action == "license.unrecognised.lasting";
        let whole = action == "license.unrecognised.request" || *entry.reason == *UNREAD_REPLY;
        let partly = entry.qlik.shape.is_some() || !entry.qlik.doubled.is_empty();
        let mut seen = Seen::default();
        if whole || partly {
            let kept = self.open.of(log, entry).0;
            seen = std::mem::replace(kept, Seen { counted: true, whole: whole || kept.whole });
        }
        if action.ends_with(".response") {
            self.open.ends_after(log, entry);
        }
        if !(whole || partly || lasting) {
            return;
        }
        let Some(unread) = self.of(entry) else { return };
        unread.last = entry.time;
        if let Some(license) = &entry.qlik.license {
            unread.license = Some((**license).to_owned());
        }
        if let Some(agent) = &entry.user_agent {
            unread.user_agent = Some((**agent).to_owned());
        }
        if let Some(shape) = &entry.qlik.shape {
            unread.shape = Some((**shape).to_owned());
        }
        if lasting {
            // The bodies are records of their own, or were refused: they are not counted again.
            unread.lasting = true;
            unread.first = entry.qlik.repeat.map_or(unread.first, |all| unread.first.min(all.first));
            return;
        }
        unread.count += u64::from(!seen.counted);
        if !seen.counted && !whole {
            unread.partly += 1;
        } else if seen.counted && !seen.whole && whole {
            unread.partly = unread.partly.saturating_sub(1);
        }
    }

    /// All exchanges of which something was not understood.
    pub fn count(&self) -> u64 {
        self.by.values().map(|unread| unread.count).sum()
    }

    fn of(&mut self, entry: &Entry<'_>) -> Option<&mut Unread> {
        let who = match (&entry.qlik.source_id, &entry.qlik.license, entry.client) {
            (Some(id), ..) => Who::Source((**id).to_owned()),
            (None, Some(license), _) => Who::License((**license).to_owned()),
            (None, None, client) => Who::Address(client.map(|ip| ip.to_string()).unwrap_or_default()),
        };
        if self.by.len() >= DEPLOYMENTS && !self.by.contains_key(&who) {
            self.beyond += 1;
            return None;
        }
        let (first, last) = (entry.time, entry.time);
        let new = Unread {
            count: 0,
            partly: 0,
            first,
            last,
            shape: None,
            lasting: false,
            license: None,
            user_agent: None,
        };
        Some(self.by.entry(who).or_insert(new))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::fold::test_records::{LICENSE, fed, record};
    use relay_log::ledger::qlik::Repeat;
    use relay_log::ledger::record::Record;

    fn of(exchange: u128, action: &str, shape: &str) -> Record {
        let mut record = record(action, "a");
        record.exchange = Uuid::from_u128(exchange);
        record.qlik.shape = (!shape.is_empty()).then(|| shape.into());
        record
    }

    fn unread(mut record: Record) -> Record {
        record.reason = UNREAD_REPLY.into();
        record
    }

    fn followed(records: &[Record]) -> NotUnderstood {
        let mut all = NotUnderstood::default();
        for (second, record) in records.iter().enumerate() {
            fed(second as i64, record, |entry| all.take(0, entry));
        }
        all
    }

    #[test]
    fn an_exchange_counts_once_whatever_was_not_understood_of_it() {
        let mut doubled = of(2, "license.sync.response", "");
        doubled.qlik.doubled = vec!["source".into()];
        let mut patch = doubled.clone();
        patch.action = relay_log::ledger::action::Action::AssignmentAdd;
        let all = followed(&[
            of(1, "license.unrecognised.request", "{\"x\": number}"),
            of(9, "license.sync.response", ""),
            unread(of(1, "license.unrecognised.response", "{\"y\": text}")),
            doubled,
            patch,
            of(3, "license.sync.request", "{\"new\": []}"),
            unread(of(3, "license.sync.response", "not JSON")),
            record("access.invalid", "a"),
        ]);
        let told = &all.by[&Who::Source("a".into())];
        assert_eq!((told.count, told.partly, told.shape.as_deref()), (3, 1, Some("not JSON")));
        assert_eq!((told.first.as_second(), told.last.as_second(), all.count()), (0, 6, 3));
    }

    #[test]
    fn it_is_told_by_the_best_name_there_is_and_a_mark_that_it_lasts_counts_nothing() {
        let mut by_license = of(1, "license.unrecognised.request", "x");
        by_license.qlik.source_id = None;
        let mut by_address = of(2, "license.unrecognised.request", "x");
        (by_address.qlik.source_id, by_address.qlik.license) = (None, None);
        by_address.client = Some([10, 0, 0, 7].into());
        let mut lasting = record("license.unrecognised.lasting", "a");
        let at = |second| Timestamp::from_second(second).unwrap();
        lasting.qlik.repeat = Some(Repeat { count: 400, first: at(-90), last: at(1) });
        let all = followed(&[by_license, by_address, lasting]);
        let who: Vec<_> = all.by.keys().cloned().collect();
        assert_eq!(
            who,
            [Who::Source("a".into()), Who::License(LICENSE.into()), Who::Address("10.0.0.7".into())]
        );
        let lasts = &all.by[&who[0]];
        assert_eq!((lasts.count, lasts.lasting, lasts.first.as_second()), (0, true, -90));
    }
}
