//! The report: one reading of the logs through all folds at once, and the page made of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::{Listed, Page};
use crate::ask::evidence::{Made, left_out};
use crate::fold::account::{Account, days_in};
use crate::fold::assignments::{self, Change, Status, Told};
use crate::fold::clock_skew::Clock;
use crate::fold::consumption::Consumption;
use crate::fold::coverage::{self, Coverage};
use crate::fold::deployments::Deployments;
use crate::fold::entitlements::{Allowed, Overage, quota};
use crate::fold::gaps::find::Rhythm;
use crate::fold::gaps::gap::{Found, Gap, Kind};
use crate::fold::moves::{Move, Moves};
use crate::fold::not_understood::Who;
use crate::fold::refusals::Denied;
use crate::input::deployment_names::Called;
use crate::input::names::Names;
use crate::input::opening::Held as OpeningHeld;
use crate::page;
use crate::read::merge::ReadError;
use crate::read::open::{self, Read};
use relay_log::console::period::{Period, day_of};
use relay_log::ledger::entry::Entry;
use relay_log::verify::log::Verified;

/// Refusals that are told apart for the page.
const DENIED: usize = 10_000;
/// Versions of the relay that are named.
const WRITERS: usize = 16;

/// What a report is asked for.
#[derive(Debug)]
pub struct Wanted {
    /// The logs.
    pub logs: Vec<PathBuf>,
    /// Checkpoints that were kept elsewhere.
    pub anchors: Vec<PathBuf>,
    /// Of each log only so many records, the first ones; of a log that is not in this list, all.
    pub sizes: Vec<u64>,
    /// Of this time; holders are those of its end.
    pub period: Period,
    /// Who is who.
    pub names: Names,
    /// What deployments are called.
    pub called: Called,
    /// Who held what before the log began, and the file that says so.
    pub opening: Option<(PathBuf, Vec<OpeningHeld>)>,
    /// Units that moved between people within this time, and how it was written; only where it is asked for.
    pub churn: Option<(SignedDuration, String)>,
    /// By whom.
    pub made: Made,
    /// How the logs were named, for the commands that the page tells to run.
    pub named: String,
}

/// Reads the logs and makes the page. Gives the verdicts on the logs as well.
///
/// # Errors
/// A log can't be read.
pub fn report(
    mut wanted: Wanted,
    progress: impl FnMut(u64) + Send,
) -> Result<(Page, Vec<Verified>), ReadError> {
    let opening = wanted.opening.as_ref().map(|(_, held)| held.as_slice()).unwrap_or_default();
    let mut folds = Folds {
        account: Account::opened_with(opening),
        moves: wanted.churn.as_ref().map(|(within, _)| Moves::new(*within)),
        ..Folds::default()
    };
    let mut coverage = Coverage::default();
    let period = wanted.period;
    let mut read = open::read(&wanted.logs, &wanted.anchors, &wanted.sizes, progress, |log, entry| {
        if period.to.is_none_or(|to| entry.time <= to) {
            folds.take(log, entry, &coverage, period);
            coverage.take(log, entry);
        }
        true
    })?;
    read.cover(&mut coverage);
    let page = folds.page(&read, &mut wanted);
    Ok((page, read.verified))
}

#[derive(Default)]
struct Folds {
    account: Account,
    rhythm: Rhythm,
    consumption: Consumption,
    deployments: Deployments,
    clock: Clock,
    replies: u64,
    changes: VecDeque<page::Change>,
    all_changes: u64,
    denied: BTreeMap<(String, Option<String>, String, String), page::Denied>,
    more_denied: u64,
    moves: Option<Moves>,
    moved: VecDeque<Move>,
    all_moved: u64,
    spans: HashMap<usize, (Timestamp, Timestamp)>,
    writers: HashMap<usize, BTreeSet<String>>,
}

impl Folds {
    fn take(&mut self, log: usize, entry: &Entry<'_>, coverage: &Coverage, period: Period) {
        let (first, last) = self.spans.get(&log).copied().unwrap_or((entry.time, entry.time));
        self.spans.insert(log, (first.min(entry.time), last.max(entry.time)));
        let writers = self.writers.entry(log).or_default();
        if let Some(version) = entry.written_by.as_deref()
            && writers.len() < WRITERS
            && !writers.contains(version)
        {
            writers.insert(version.to_owned());
        }
        self.rhythm.take(log, entry);
        self.consumption.take(log, entry);
        self.deployments.take(log, entry);
        self.clock.take(log, entry);
        self.replies += u64::from(entry.qlik.server_date.is_some());
        let told = self.account.take(log, entry, coverage);
        if !period.has(entry.time) {
            return;
        }
        self.note_denied(entry);
        let Some(told) = told else { return };
        if let Some(moved) = self.moves.as_mut().and_then(|moves| moves.take(&told, entry.time)) {
            self.all_moved += 1;
            keep_newest(&mut self.moved, moved, page::CHURN);
        }
        self.all_changes += 1;
        let change = self.change(entry, &told);
        keep_newest(&mut self.changes, change, page::CHANGES);
    }

    fn change(&self, entry: &Entry<'_>, told: &Told) -> page::Change {
        let said = &entry.qlik;
        let all = &self.account.all;
        let allotment = told.key.map(|key| all.words.word(key.allotment).to_owned());
        page::Change {
            time: entry.time,
            license: said.license.as_deref().unwrap_or_default().to_owned(),
            allotment: allotment.or_else(|| said.allotment.as_deref().map(str::to_owned)).unwrap_or_default(),
            kind: match told.change {
                Change::Add => page::ChangeKind::Add,
                Change::Delete => page::ChangeKind::Delete,
                Change::Unknown => page::ChangeKind::Unknown,
            },
            rejection: told.rejected.then(|| said.rejection.as_deref().unwrap_or_default().to_owned()),
            person: page::Person { subject: told.subject(all).unwrap_or_default(), name: None },
            version: said.version.filter(|version| *version > 0),
            asked_by: told.asked_by.map(|source| all.words.word(source).to_owned()),
        }
    }

    fn note_denied(&mut self, entry: &Entry<'_>) {
        let Some(Denied { action, source, address, reason, count, first, last, .. }) = Denied::of(entry)
        else {
            return;
        };
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        let key = (action.clone(), source.clone(), address.clone(), reason.clone());
        if self.denied.len() == DENIED && !self.denied.contains_key(&key) {
            self.more_denied += 1;
            return;
        }
        let new = page::Denied { action, source, address, reason, count: 0, first, last };
        let denied = self.denied.entry(key).or_insert(new);
        denied.count = denied.count.saturating_add(count);
        denied.first = denied.first.min(first);
        denied.last = denied.last.max(last);
    }

    fn page(mut self, read: &Read, wanted: &mut Wanted) -> Page {
        self.account.entitlements.finish();
        self.consumption.finish();
        let period = page::Period::of(wanted.period, read.span, wanted.made.at);
        let (from, to) = (period.from, period.to);
        let found = std::mem::take(&mut self.rhythm).finish();
        let syncs = syncs(&found, from, to, &wanted.called).filter(|_| !period.is_unknown());
        let licenses = self.licenses(read, wanted, period);
        let changes = self.changes.iter().rev().cloned().map(|mut change| {
            change.person.name = wanted.names.of(&change.person.subject);
            change
        });
        let changes = Listed { rows: changes.collect(), total: self.all_changes };
        let churn = wanted.churn.take().map(|(_, within)| self.churn(within, &mut wanted.names));
        let mut denied: Vec<page::Denied> = std::mem::take(&mut self.denied).into_values().collect();
        denied.sort_by(|a, b| b.count.cmp(&a.count).then(b.last.cmp(&a.last)));
        let (gaps, gap_sums) = if period.is_unknown() { Default::default() } else { gaps(&found, from, to) };
        let (resolved, unresolved) = wanted.names.counts();
        Page {
            made: page::Made {
                by: Made::BY.to_owned(),
                at: wanted.made.at,
                command: wanted.made.command.clone(),
                logs: wanted.named.clone(),
            },
            period,
            names: page::Names { given: wanted.names.given(), resolved, unresolved },
            notes: self.notes(read, wanted, &found),
            not_understood: not_understood(read),
            licenses,
            syncs,
            gaps,
            gap_sums,
            consumption: self.consumed(to),
            deployments: self.used(&wanted.called),
            changes,
            denied: first_of(denied, page::DENIED, self.more_denied),
            churn,
            clock: self.clock.largest().map(|most| page::Clock {
                ahead: most.by.as_secs_f64(),
                at: most.time,
                replies: self.replies,
            }),
            evidence: read
                .verified
                .iter()
                .enumerate()
                .map(|(log, verified)| self.evidence(log, verified))
                .collect(),
        }
    }

    fn notes(&self, read: &Read, wanted: &Wanted, found: &Found) -> Vec<String> {
        let mut notes = wanted.names.notes.clone();
        notes.extend(read.verified.iter().zip(&wanted.sizes).filter_map(|(log, size)| {
            let left_out = left_out(log, *size)?;
            Some(format!("{size} of {} records of {} are on this page; {left_out}.", log.records, log.origin))
        }));
        notes.extend(read.unknown.iter().map(|(action, count)| {
            let (records, them) = if *count == 1 { ("record is", "it") } else { ("records are", "them") };
            format!("{count} {records} of a kind that this program does not know ({action}); a newer one may read {them}.")
        }));
        let unreadable: u64 = read.verified.iter().map(|log| log.unreadable).sum();
        if unreadable > 0 {
            let records = if unreadable == 1 { "record" } else { "records" };
            notes.push(format!(
                "Not on this page: {unreadable} whole {records} that this program can't read; a newer one may."
            ));
        }
        let too_many = [
            (found.beyond, "gaps"),
            (found.unwatched, "syncs"),
            (found.strip.beyond, "syncs in the strip"),
            (self.deployments.beyond, "records of deployments"),
            (self.consumption.beyond(), "reports of consumption"),
        ];
        for (count, what) in too_many.into_iter().filter(|(count, _)| *count > 0) {
            notes.push(format!(
                "Not on this page, as there are more than it keeps apart: {count} of the {what}."
            ));
        }
        if self.account.all.of_nobody > 0 {
            notes.push(match self.account.all.of_nobody {
                1 => "1 change that was told names nobody whom this log knows.".into(),
                more => format!("{more} changes that were told name nobody whom this log knows."),
            });
        }
        notes
    }

    fn licenses(&self, read: &Read, wanted: &mut Wanted, period: page::Period) -> Listed<page::License> {
        let (from, to) = (period.from, period.to);
        let mut holders: BTreeMap<(String, String), Vec<assignments::Held>> = BTreeMap::new();
        for held in assignments::held(&self.account.all) {
            holders.entry((held.license.clone(), held.allotment.clone())).or_default().push(held);
        }
        let mut allotments: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for covered in &read.coverage {
            allotments.entry(covered.license.clone()).or_default();
        }
        let mut all = self.account.allotments();
        all.extend(holders.keys().cloned());
        for (license, allotment) in all {
            allotments.entry(license).or_default().push(allotment);
        }
        let total = allotments.len() as u64;
        let mut allotments: Vec<(String, Vec<String>)> = allotments.into_iter().collect();
        if allotments.len() > page::LICENSES {
            // What is worth a look is on the page, whatever its number.
            allotments.sort_by_cached_key(|(license, of)| {
                let has_holes =
                    read.coverage.iter().any(|one| one.license == *license && !one.holes.is_empty());
                let is_over = |allotment: &String| {
                    let days = self.account.days(license, allotment, day_of(from), day_of(to));
                    days.iter().any(|day| day.over().is_some_and(|over| over > 0))
                };
                !(has_holes || of.iter().any(is_over))
            });
        }
        let rows = allotments.into_iter().take(page::LICENSES).map(|(license, allotments)| {
            let count = allotments.len() as u64;
            let rows = allotments.into_iter().take(page::ALLOTMENTS).map(|allotment| {
                let held = holders.remove(&(license.clone(), allotment.clone())).unwrap_or_default();
                self.allotment(&license, allotment, &held, &mut wanted.names, period)
            });
            let allotments = Listed { rows: rows.collect(), total: count };
            let opening = wanted.opening.as_ref().map(|(file, held)| page::Opening {
                file: file.display().to_string(),
                holders: held.iter().filter(|held| held.license == license).count() as u64,
            });
            let coverage = coverage(read, &license, opening);
            page::License { license, coverage, allotments }
        });
        Listed { rows: rows.collect(), total }
    }

    fn allotment(
        &self,
        license: &str,
        allotment: String,
        held: &[assignments::Held],
        names: &mut Names,
        period: page::Period,
    ) -> page::Allotment {
        let (from, to) = (period.from, period.to);
        let mut counts = page::Counts::default();
        for one in held {
            let count = match one.status {
                Status::Holds => &mut counts.holds,
                Status::Opening => &mut counts.opening,
                Status::PendingAdd => &mut counts.pending_add,
                Status::PendingDelete => &mut counts.pending_delete,
                Status::UnknownAdd | Status::UnknownDelete | Status::Unknown => &mut counts.unknown,
            };
            *count += 1;
        }
        let holder = |one: &assignments::Held| page::Holder {
            person: page::Person { subject: one.subject.clone(), name: names.of(&one.subject) },
            status: one.status,
            since: one.since,
            version: Some(one.version).filter(|version| *version > 0),
        };
        let holders = held.iter().take(page::HOLDERS).map(holder).collect();
        let days = days_in(Period { from: Some(from), to: Some(to) }, Some((from, to)))
            .filter(|_| !period.is_unknown());
        let days =
            days.map(|(from, to)| self.account.days(license, &allotment, from, to)).unwrap_or_default();
        let days: Vec<page::Day> = days
            .iter()
            .map(|day| page::Day {
                day: day.used.day,
                at_end: day.used.at_end,
                peak: day.used.peak,
                entitlement: entitlement(&day.allowed),
            })
            .collect();
        let over = days.iter().rev().filter(|day| day.over() > 0).copied().collect();
        let allowed = self.account.entitlements.on(license, &allotment, day_of(to));
        page::Allotment {
            allotment,
            access_type: allowed.access_type.clone(),
            counts,
            entitlement: entitlement(&allowed),
            holders: Listed { rows: holders, total: held.len() as u64 },
            days,
            over: first_of(over, page::OVER_DAYS, 0),
        }
    }

    fn consumed(&self, end: Timestamp) -> Vec<page::Consumption> {
        let quota = |license: &str, month: &str, allotment: &str| {
            quota(&self.account.entitlements, license, month, allotment, end)
        };
        let mut all: BTreeMap<(Arc<str>, Arc<str>), page::Consumption> = BTreeMap::new();
        for row in self.consumption.rows(None, quota) {
            let Some(sum) = row.all else { continue };
            let Ok(month) = format!("{}-01", row.month).parse::<Date>() else { continue };
            let new = || page::Consumption {
                license: row.license.to_string(),
                allotment: row.allotment.to_string(),
                months: Vec::new(),
                days_left: None,
                ended: None,
            };
            let of = all.entry((row.license.clone(), row.allotment.clone())).or_insert_with(new);
            of.days_left = sum.days_left;
            of.months.push(page::Month {
                month,
                low: sum.delta_low as f64,
                high: sum.delta_high as f64,
                total: sum.total.map(|total| total as f64),
                quota: sum.quota.map(|quota| quota as f64),
            });
        }
        let mut all: Vec<page::Consumption> = all.into_values().collect();
        for of in &mut all {
            of.months = without_holes(std::mem::take(&mut of.months));
            let newest =
                of.months.last().map(|month| month.month.last_of_month().min(day_of(end)).max(month.month));
            of.ended =
                newest.and_then(|day| self.account.entitlements.ended(&of.license, &of.allotment, day));
        }
        all
    }

    fn used(&self, called: &Called) -> Listed<page::Deployment> {
        let mut rows: Vec<page::Deployment> = self
            .deployments
            .rows()
            .map(|one| page::Deployment {
                license: one.license.to_string(),
                source: one.source.to_string(),
                name: called.name(&one.source).unwrap_or_default(),
                product: match one.product() {
                    (product, "") => product.to_owned(),
                    (product, version) => format!("{product} {version}"),
                },
                addresses: one.addresses.iter().take(4).map(ToString::to_string).collect(),
                first_seen: one.first_seen,
                last_seen: one.last_seen,
                syncs: one.syncs,
                adds: one.adds,
                deletes: one.deletes,
                last_consumption: one.last_consumption,
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.last_seen));
        first_of(rows, page::DEPLOYMENTS, 0)
    }

    fn churn(&self, within: String, names: &mut Names) -> page::Churn {
        let all = &self.account.all;
        let mut person = |key: assignments::Key| {
            let subject = all.people.pseudonym(key.person).to_owned();
            page::Person { name: names.of(&subject), subject }
        };
        let moves = self.moved.iter().rev().map(|moved| page::Move {
            license: all.words.word(moved.to.license).to_owned(),
            allotment: all.words.word(moved.to.allotment).to_owned(),
            from: person(moved.from),
            to: person(moved.to),
            deleted: moved.deleted,
            added: moved.added,
        });
        page::Churn { within, moves: Listed { rows: moves.collect(), total: self.all_moved } }
    }

    fn evidence(&self, log: usize, verified: &Verified) -> page::Evidence {
        let covered = |one: &relay_log::verify::log::Covered| page::Covered {
            file: one.file.display().to_string(),
            size: one.size,
            time: one.time,
        };
        let span = self.spans.get(&log);
        let damage: Vec<String> = verified.damage.iter().chain(&verified.rolled_back).cloned().collect();
        let told = damage.len() as u64;
        page::Evidence {
            log: verified.log.display().to_string(),
            origin: verified.origin.clone(),
            verdict: verified.verdict(),
            records: verified.records,
            first: span.map(|(first, _)| *first),
            last: span.map(|(_, last)| *last),
            root: verified.root.clone(),
            checkpoint: verified.checkpoint.as_ref().map(covered),
            checkpoints: verified.checkpoints,
            key: verified.key.clone(),
            gaps: verified.gaps,
            unsigned: verified.unsigned,
            damage: first_of(damage, page::DAMAGE, verified.damages.saturating_sub(told)),
            anchors: first_of(verified.anchors.iter().map(covered).collect(), page::ANCHORS, 0),
            protected_since: verified.protected_since(),
            predecessor: verified.predecessor.clone().map(|old| (old.origin, old.size, old.root)),
            pruned: (verified.pruned > 0).then(|| (0, verified.pruned - 1)),
            written_by: self.writers.get(&log).into_iter().flatten().cloned().collect(),
        }
    }
}

fn keep_newest<T>(kept: &mut VecDeque<T>, new: T, most: usize) {
    if kept.len() == most {
        kept.pop_front();
    }
    kept.push_back(new);
}

fn first_of<T>(mut rows: Vec<T>, most: usize, more: u64) -> Listed<T> {
    let total = rows.len() as u64 + more;
    rows.truncate(most);
    Listed { rows, total }
}

fn entitlement(allowed: &Allowed) -> page::Entitlement {
    let number = |count: i64| u64::try_from(count).unwrap_or(0);
    page::Entitlement {
        // What can't be read is no cap that anything could be over.
        units: allowed.units.map(number).filter(|_| allowed.overage != Overage::Unknown),
        overage: match allowed.overage {
            Overage::Untold | Overage::Unknown => page::Overage::Unknown,
            Overage::Units(more) => page::Overage::Units(number(more)),
            Overage::Unlimited => page::Overage::Unlimited,
        },
        seen: allowed.seen,
    }
}

fn coverage(read: &Read, license: &str, opening: Option<page::Opening>) -> page::Coverage {
    let of_license =
        read.not_understood.by.values().filter(|unread| unread.license.as_deref() == Some(license));
    let not_understood = of_license.map(|unread| unread.count).sum();
    let Some(covered) = read.coverage.iter().find(|covered| covered.license == license) else {
        return page::Coverage { not_understood, opening, ..page::Coverage::default() };
    };
    let hole = |hole: &coverage::Hole| page::Hole { from: hole.from, to: hole.to, noticed: hole.noticed };
    page::Coverage {
        known_from: covered.known_from,
        complete_to: covered.complete_to,
        newest: covered.newest,
        first_seen: covered.first_seen,
        holes: first_of(covered.holes.iter().map(hole).collect(), page::HOLES, 0),
        not_understood: covered.not_understood,
        opening,
    }
}

fn not_understood(read: &Read) -> Listed<page::NotUnderstood> {
    let mut rows: Vec<page::NotUnderstood> = read
        .not_understood
        .by
        .iter()
        .map(|(who, unread)| page::NotUnderstood {
            source: match who {
                Who::Source(name) | Who::License(name) | Who::Address(name) => name.clone(),
            },
            product: unread.user_agent.clone().unwrap_or_default(),
            license: unread.license.clone(),
            bodies: unread.count,
            first: unread.first,
            last: unread.last,
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.bodies));
    first_of(rows, page::NOT_UNDERSTOOD, read.not_understood.beyond)
}

fn kind_of(kind: Kind) -> Option<page::GapKind> {
    match kind {
        Kind::RelayDown => Some(page::GapKind::RelayDown),
        Kind::Refused => Some(page::GapKind::Refused),
        Kind::Failing => Some(page::GapKind::Failing),
        Kind::Silent => Some(page::GapKind::Silent),
        Kind::Around => Some(page::GapKind::Around),
        Kind::Waiting => None,
    }
}

/// The kinds of a gap in the order of its parts.
const KINDS: [Kind; 6] =
    [Kind::RelayDown, Kind::Refused, Kind::Failing, Kind::Silent, Kind::Around, Kind::Waiting];

fn gaps(found: &Found, from: Timestamp, to: Timestamp) -> (Listed<page::Gap>, Vec<page::GapSum>) {
    let mut sums: BTreeMap<page::GapKind, (u64, u64)> = BTreeMap::new();
    let mut rows = Vec::new();
    for gap in found.gaps.iter().filter(|gap| gap.from <= to && gap.to >= from) {
        let parts = KINDS.into_iter().zip(gap.parts.all()).filter_map(|(kind, minutes)| {
            Some((kind_of(kind)?, u64::try_from(minutes).ok().filter(|minutes| *minutes > 0)?))
        });
        let parts: Vec<_> = parts.collect();
        for (kind, minutes) in &parts {
            sums.entry(*kind).or_default().1 += minutes;
        }
        let Some(kind) = kind_of(gap.kind) else { continue };
        sums.entry(kind).or_default().0 += 1;
        rows.push(page::Gap {
            source: gap.source.to_string(),
            license: Some(gap.license.to_string()).filter(|license| !license.is_empty()),
            from: gap.from,
            to: gap.to,
            kind,
            parts,
            inferred: gap.inferred,
            ongoing: gap.ongoing,
            exchanges: None,
        });
    }
    for gap in found.unwritten.iter().filter(|gap| gap.first <= to && gap.last >= from) {
        let sum = sums.entry(page::GapKind::NotWritten).or_default();
        sum.0 += 1;
        sum.1 += u64::try_from(gap.last.duration_since(gap.first).as_mins()).unwrap_or(0);
        rows.push(page::Gap {
            source: String::new(),
            license: None,
            from: gap.first,
            to: gap.last,
            kind: page::GapKind::NotWritten,
            parts: Vec::new(),
            inferred: false,
            ongoing: false,
            exchanges: Some(gap.count),
        });
    }
    rows.sort_by_key(|gap| std::cmp::Reverse(gap.from));
    let sums = sums.into_iter().map(|(kind, (gaps, minutes))| page::GapSum { kind, gaps, minutes }).collect();
    (first_of(rows, page::GAPS, found.beyond), sums)
}

/// The strip: a row for each source, those with the most minutes of gaps first.
fn syncs(found: &Found, from: Timestamp, to: Timestamp, called: &Called) -> Option<page::Syncs> {
    found.strip.span()?;
    let unit = found.strip.seconds();
    // Days are put together where there are more than the strip has room for.
    let (first, last) = (from.as_second().div_euclid(unit), to.as_second().div_euclid(unit));
    let together = ((last - first) / page::STRIP_CELLS as i64 + 1).max(1);
    let start = first;
    let cells = usize::try_from((last - start) / together + 1).ok()?.min(page::STRIP_CELLS);
    let begin = Timestamp::from_second(start * unit).unwrap_or(from);
    let mut missing: HashMap<&str, i64> = HashMap::new();
    for gap in found.gaps.iter().filter(|gap| gap.from <= to && gap.to >= from) {
        *missing.entry(&*gap.source).or_default() += gap.minutes;
    }
    let mut order: Vec<(usize, &str)> =
        found.sources.iter().enumerate().map(|(number, (source, _))| (number, &**source)).collect();
    order.sort_by_key(|(_, source)| (std::cmp::Reverse(missing.get(source).copied().unwrap_or(0)), *source));
    order.dedup_by_key(|(_, source)| *source);
    let total = order.len() as u64;
    let with_gaps = missing.len() as u64;
    let rows = order.into_iter().take(page::STRIP_SOURCES).map(|(number, source)| {
        let mut row = vec![page::Cell::default(); cells];
        for (at, count) in found.strip.row(number) {
            let cell = (at >= start).then(|| usize::try_from((at - start) / together).ok()).flatten();
            if let Some(cell) = cell.and_then(|cell| row.get_mut(cell)) {
                cell.syncs = cell.syncs.saturating_add(count);
            }
        }
        let length = SignedDuration::from_secs(unit * together);
        for gap in found.gaps.iter().filter(|gap| *gap.source == *source) {
            mark(&mut row, gap, begin, length);
        }
        page::Strip { source: source.to_owned(), name: called.name(source).unwrap_or_default(), cells: row }
    });
    let hours = u32::try_from(unit * together / 3600).unwrap_or(u32::MAX);
    Some(page::Syncs { from: begin, hours, sources: Listed { rows: rows.collect(), total }, with_gaps })
}

/// Marks the cells that a gap touches, each with the kind that takes most of it.
fn mark(row: &mut [page::Cell], gap: &Gap, begin: Timestamp, length: SignedDuration) {
    let Some(kind) = kind_of(gap.kind) else { return };
    let seconds = length.as_secs().max(1);
    let place = |time: Timestamp| time.duration_since(begin).as_secs().div_euclid(seconds);
    for at in place(gap.from).max(0)..=place(gap.to).min(row.len() as i64 - 1) {
        let start = later(begin, SignedDuration::from_secs(at * seconds));
        let inside = gap.to.min(later(start, length)).duration_since(gap.from.max(start)).as_mins();
        let (Ok(minutes), Ok(index)) = (u32::try_from(inside), usize::try_from(at)) else { continue };
        let Some(cell) = row.get_mut(index) else { continue };
        if minutes > cell.gap_minutes || cell.gap.is_none() {
            cell.gap = Some(kind);
        }
        cell.gap_minutes = cell.gap_minutes.saturating_add(minutes);
    }
}

/// Times of a log may be any.
fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Months without a report are months of nothing known, not months that are left out.
fn without_holes(months: Vec<page::Month>) -> Vec<page::Month> {
    let mut all: Vec<page::Month> = Vec::new();
    for month in months {
        while let Some(last) = all.last().copied()
            && let Some(next) = last.month.checked_add(jiff::Span::new().months(1)).ok()
            && next < month.month
            && all.len() < 1200
        {
            all.push(page::Month { month: next, low: 0.0, high: 0.0, total: None, quota: None });
        }
        all.push(month);
    }
    all
}
