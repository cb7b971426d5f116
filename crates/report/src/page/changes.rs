//! Section "Changes": what the back end told in the period, newest first.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::html::cells::{bdi, mono, none, time};
use super::html::{Html, N, T, W};
use super::people::pseudonym;
use super::{Person, Section, Truncated};
use crate::fold::assignments::{Assignments, Change, ConfirmedChange};
use crate::input::names::Names;
use relay_log::ledger::entry::Entry;
use relay_log::text::number::count;

/// Changes listed.
pub const CHANGES: usize = 200;

pub(super) const SECTION: Section = Section::new("changes", "Changes", draw);

/// Something the back end told.
#[derive(Clone, Debug)]
pub struct ListedChange {
    /// When.
    pub time: Timestamp,
    /// License.
    pub license: String,
    /// Allotment.
    pub allotment: String,
    /// What.
    pub change: Change,
    /// The reason of the back end's, where it was rejected.
    pub rejection: Option<String>,
    /// Whom.
    pub person: Person,
    /// Version of the license's list.
    pub version: Option<u64>,
    /// The source that asked for it, if that went through here.
    pub asked_by: Option<String>,
}

/// The newest changes.
#[derive(Default)]
pub(super) struct LatestChanges {
    rows: VecDeque<ListedChange>,
    total: u64,
}

impl LatestChanges {
    /// The next change, with the record that told it; `all` has taken it already.
    pub(super) fn take(&mut self, entry: &Entry<'_>, change: &ConfirmedChange, all: &Assignments) {
        self.total += 1;
        if self.rows.len() == CHANGES {
            self.rows.pop_front();
        }
        let qlik = &entry.qlik;
        let allotment = change.key.map(|key| all.words.word(key.allotment).to_owned());
        self.rows.push_back(ListedChange {
            time: entry.time,
            license: qlik.license.as_deref().unwrap_or_default().to_owned(),
            allotment: allotment.or_else(|| qlik.allotment.as_deref().map(str::to_owned)).unwrap_or_default(),
            change: change.change,
            rejection: change.rejected.then(|| qlik.rejection.as_deref().unwrap_or_default().to_owned()),
            person: Person { subject: change.subject(all).unwrap_or_default(), name: None },
            version: qlik.version.filter(|version| *version > 0),
            asked_by: change.asked_by.map(|source| all.words.word(source).to_owned()),
        });
    }

    /// The newest first, with the names of people.
    pub(super) fn finish(self, names: &mut Names) -> Truncated<ListedChange> {
        let rows = self.rows.into_iter().rev().map(|mut row| {
            row.person.name = names.of(&row.person.subject);
            row
        });
        Truncated { rows: rows.collect(), total: self.total }
    }
}

fn draw(html: &mut Html<'_>) {
    let (listed, period) = (&html.page.changes, html.page.period);
    if listed.total == 0 {
        html.instead("The back end told no change in this period.");
        return;
    }
    let named = listed.rows.iter().any(|row| row.person.name.is_some());
    let rows = listed.rows.iter().take(CHANGES).map(|row| {
        let what = match row.change {
            Change::Add => "+ assigned",
            Change::Delete => "− taken away",
            Change::Unknown => "? not known",
        };
        let result = match &row.rejection {
            Some(why) => format!("{what}<br><span class=\"bad\">rejected: {}</span>", bdi(why)),
            None => what.into(),
        };
        let asked_by = row.asked_by.as_deref().map(mono);
        let mut cells = vec![
            time(row.time),
            result,
            pseudonym(&row.person.subject),
            format!("{}<br>{}", bdi(&row.allotment), mono(&row.license)),
            row.version.filter(|version| *version > 0).map(count).unwrap_or_else(none),
            asked_by.unwrap_or_else(|| "<span class=\"none\">elsewhere</span>".into()),
        ];
        if named {
            cells.insert(2, row.person.name.as_deref().map(bdi).unwrap_or_else(none));
        }
        cells
    });
    let mut columns = vec![
        ("Time", T),
        ("Change", T),
        ("Pseudonym", W),
        ("Allotment and license", W),
        ("Version", N),
        ("Asked by", W),
    ];
    if named {
        columns.insert(2, ("Name", W));
    }
    html.table("Changes that the back end told, newest first", &columns, rows);
    let more = listed.total - listed.shown(CHANGES);
    if more > 0 {
        let command = format!("changes {} --from {:.0} --to {:.0}", html.page.logs, period.from, period.to);
        html.and_more(more, ("change", "changes"), &command);
    }
}
