//! Section "Refused": refusals of the period, those that have all but their time in common summed up.

use std::collections::BTreeMap;

use super::html::cells::{bdi, mono, none, time};
use super::html::{Html, N, T, W};
use super::{Section, Truncated};
use crate::fold::refusals::Denied;
use relay_log::ledger::entry::Entry;
use relay_log::text::escape::escape;
use relay_log::text::number::count;

/// Kinds of refusals listed.
const LISTED: usize = 50;
/// Kinds of refusals that are told apart.
const KEPT: usize = 10_000;

pub(super) const SECTION: Section = Section::new("denied", "Refused", draw);

/// Refusals by action, source, address and reason.
#[derive(Default)]
pub(super) struct Sums {
    by: BTreeMap<(String, Option<String>, String, String), Denied>,
    /// Refusals of further kinds, for which there was no room.
    pub(super) beyond: u64,
}

impl Sums {
    /// The next record of the period.
    pub(super) fn take(&mut self, entry: &Entry<'_>) {
        let Some(denied) = Denied::of(entry) else { return };
        let key = (denied.action.clone(), denied.source.clone(), address(&denied), denied.reason.clone());
        if let Some(sum) = self.by.get_mut(&key) {
            sum.count = sum.count.saturating_add(denied.count);
            sum.first = sum.first.min(denied.first);
            sum.last = sum.last.max(denied.last);
        } else if self.by.len() < KEPT {
            self.by.insert(key, denied);
        } else {
            self.beyond = self.beyond.saturating_add(denied.count);
        }
    }

    /// The most often first.
    pub(super) fn finish(self) -> Truncated<Denied> {
        let mut rows: Vec<Denied> = self.by.into_values().collect();
        rows.sort_by(|a, b| b.count.cmp(&a.count).then(b.last.cmp(&a.last)));
        Truncated::first(LISTED, rows, 0)
    }
}

fn address(denied: &Denied) -> String {
    denied.address.map(|address| address.to_string()).unwrap_or_default()
}

fn draw(html: &mut Html<'_>) {
    let listed = &html.page.denied;
    if listed.total == 0 {
        html.instead("Nothing was refused in this period.");
        return;
    }
    let rows = listed.rows.iter().take(LISTED).map(|one| {
        vec![
            count(one.count),
            escape(&one.action).into_owned(),
            bdi(&one.reason),
            mono(&address(one)),
            one.source.as_deref().map(mono).unwrap_or_else(none),
            time(one.first),
            time(one.last),
        ]
    });
    let columns =
        [("Times", N), ("What", W), ("Why", W), ("Address", W), ("Source", W), ("First", T), ("Last", T)];
    html.table("Refusals, most often first", &columns, rows);
    html.rest(listed, LISTED, ("kind of refusal", "kinds of refusal"), "denied");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::test_records::{fed, record};

    #[test]
    fn refusals_for_which_there_is_no_room_are_not_counted_as_kinds_of_refusal() {
        let mut sums = Sums::default();
        for n in 0..KEPT + 3 {
            let mut record = record("access.denied", "");
            record.reason = format!("reason {n}");
            fed(60, &record, |entry| sums.take(entry));
        }
        assert_eq!(sums.beyond, 3);
        assert_eq!(sums.finish().total, KEPT as u64);
    }
}
