//! The rhythm of each source, and each [`Gap`] in it: a source keeps the time since its last answer as
//! it is cut by tries and by times without any relay. With several logs, what comes is kept back until it is certain
//! whether a relay was up.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use super::gap::{FoundGaps, Gap, Parts, Unwritten};
use super::sync_counts::SyncCounts;
use super::uptime::Uptime;
use crate::fold::refusals::is_refusal;
use relay_log::bounds;
use relay_log::ledger::entry::{Ended, Entry};
use relay_log::ledger::record::UNREAD_REPLY;

/// A time between two answers that is still the rhythm.
const RHYTHM: i64 = 25 * 60 * 1_000_000;
/// A part of a gap at most: six of them add up to a number that fits, whatever clocks were set to.
const PART: i64 = i64::MAX / 8;
/// Sources that are watched; syncs of further ones are counted.
const SOURCES: usize = 100_000;
/// Gaps that are listed; further ones are counted.
const LISTED: usize = 500_000;
/// Answers and tries that wait for a log that is behind; beyond, its relay counts as down.
const WAITING: usize = 20_000;

/// Follows the rhythm of all sources.
#[derive(Debug, Default)]
pub struct Rhythm {
    uptime: Uptime,
    waiting: VecDeque<Event>,
    by_source: HashMap<Box<str>, usize>,
    /// Those that send no id.
    by_license: HashMap<Box<str>, usize>,
    sources: Vec<WatchedSource>,
    unwatched: u64,
    strip: SyncCounts,
    unwritten: BTreeMap<usize, Unwritten>,
    /// The last record of each log.
    last: Vec<Option<Timestamp>>,
    gaps: Vec<Gap>,
    beyond: u64,
}

#[derive(Debug)]
struct WatchedSource {
    id: Arc<str>,
    license: Arc<str>,
    /// The versions it was last told, by license.
    told: Vec<(Box<str>, u64)>,
    since: Option<Since>,
}

/// The time since a source's last answer.
#[derive(Debug)]
struct Since {
    from: Timestamp,
    license: Arc<str>,
    parts: Parts,
    /// Where it was cut last, by the clock of which log, and by what.
    at: i64,
    log: usize,
    cut: Cut,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cut {
    Neither,
    Refused,
    Failed,
}

#[derive(Debug)]
struct Event {
    log: usize,
    time: Timestamp,
    what: EventKind,
}

#[derive(Debug)]
enum EventKind {
    Answer { source: usize, license: Arc<str>, around: bool },
    Try { source: usize, cut: Cut },
    Start,
    Step(i64),
}

impl Rhythm {
    /// The next record, in the order of time.
    pub fn take(&mut self, log: usize, entry: &Entry<'_>) {
        if self.last.len() <= log {
            self.last.resize(log + 1, None);
        }
        let before = self.last[log].replace(entry.time);
        let what = match &*entry.action {
            "license.sync.response" if entry.outcome == Ended::Success => self.answer(entry),
            "upstream.error" => self.tried(entry, Cut::Failed),
            "relay.clock_step" => {
                let delta = step(entry, before);
                self.uptime.step(log, delta);
                Some(EventKind::Step(delta))
            }
            "relay.start" => Some(EventKind::Start),
            "audit.gap" => {
                self.unwritten(log, entry);
                None
            }
            _ if is_refusal(entry) => self.tried(entry, Cut::Refused),
            action if action.ends_with(".response") && entry.outcome != Ended::Success => {
                if *entry.reason == *UNREAD_REPLY {
                    self.forget_told(entry);
                }
                self.tried(entry, Cut::Failed)
            }
            _ => None,
        };
        self.uptime.take(log, entry);
        self.waiting.extend(what.map(|what| Event { log, time: entry.time, what }));
        self.go_on();
    }

    /// What was found, once the last record was taken.
    pub fn finish(mut self) -> FoundGaps {
        while let Some(event) = self.waiting.pop_front() {
            self.follow(event);
        }
        let end = self.last.iter().flatten().max().copied();
        if let Some(end) = end {
            self.note_down(end);
            for at in 0..self.sources.len() {
                if let Some(since) = self.sources[at].since.take() {
                    let log = since.log;
                    // By the clock of its own log, which may have been set back from a later time.
                    let alone = self.last.len() == 1;
                    let end = if alone { self.last.get(log).copied().flatten().unwrap_or(end) } else { end };
                    self.close(at, since, end, false, true);
                }
            }
        }
        self.gaps.sort_by(|a, b| (a.from, &a.source, &a.license).cmp(&(b.from, &b.source, &b.license)));
        FoundGaps {
            gaps: self.gaps,
            beyond: self.beyond,
            sources: self.sources.into_iter().map(|source| (source.id, source.license)).collect(),
            unwatched: self.unwatched,
            strip: self.strip,
            unwritten: self.unwritten.into_values().collect(),
            end,
        }
    }

    /// What is certain by now, in the order it came.
    fn go_on(&mut self) {
        while let Some(first) = self.waiting.front() {
            let certain = first.time.as_microsecond() <= self.uptime.certain();
            if !certain && self.waiting.len() <= WAITING {
                return;
            }
            let Some(event) = self.waiting.pop_front() else { return };
            self.follow(event);
        }
    }

    fn follow(&mut self, Event { log, time, what }: Event) {
        if let EventKind::Step(delta) = what {
            let all = self.sources.iter_mut().filter_map(|source| source.since.as_mut());
            let own = all.filter(|since| since.log == log);
            own.for_each(|since| since.at = since.at.saturating_add(delta));
            return;
        }
        self.note_down(time);
        match what {
            EventKind::Answer { source, license, around } => {
                let at = time.as_microsecond();
                let (parts, cut) = (Parts::default(), Cut::Neither);
                let since = Since { from: time, license, parts, at, log, cut };
                if let Some(before) = self.sources[source].since.replace(since) {
                    self.close(source, before, time, around, false);
                }
            }
            EventKind::Try { source, cut } => {
                if let Some(since) = &mut self.sources[source].since {
                    since.cut(time.as_microsecond(), cut);
                    since.log = log;
                }
            }
            EventKind::Start | EventKind::Step(_) => {}
        }
    }

    /// Cuts what is open by the times without any relay.
    fn note_down(&mut self, until: Timestamp) {
        for (from, to) in self.uptime.down(until.as_microsecond()) {
            for since in self.sources.iter_mut().filter_map(|source| source.since.as_mut()) {
                since.down(from, to);
            }
        }
    }

    fn close(&mut self, source: usize, mut since: Since, to: Timestamp, around: bool, ongoing: bool) {
        since.cut(to.as_microsecond(), Cut::Neither);
        if since.parts.all().iter().sum::<i64>() <= RHYTHM {
            return;
        }
        if self.gaps.len() >= LISTED {
            self.beyond += 1;
            return;
        }
        if around {
            since.parts.around = std::mem::take(&mut since.parts.silent);
        }
        let (minutes, parts) = since.parts.minutes();
        self.gaps.push(Gap {
            source: self.sources[source].id.clone(),
            license: since.license,
            from: since.from,
            to,
            minutes,
            kind: since.parts.kind(),
            parts,
            inferred: since.parts.around > 0,
            ongoing,
        });
    }

    fn tried(&self, entry: &Entry<'_>, cut: Cut) -> Option<EventKind> {
        Some(EventKind::Try { source: self.known(entry)?, cut })
    }

    fn answer(&mut self, entry: &Entry<'_>) -> Option<EventKind> {
        let Some(at) = self.known(entry).or_else(|| self.watch(entry)) else {
            self.unwatched += 1;
            return None;
        };
        self.strip.count(at, entry.time);
        let source = &mut self.sources[at];
        let license = entry.qlik.license.as_deref().unwrap_or_default();
        if *source.license != *license {
            source.license = license.into();
        }
        let around = if entry.qlik.bases.is_empty() {
            source.stands(license, entry.qlik.base_sent, entry.qlik.base_version)
        } else {
            let bases = entry.qlik.bases.iter();
            bases.fold(false, |around, base| {
                let of = base.license.as_deref().unwrap_or_default();
                source.stands(of, base.sent, base.version) || around
            })
        };
        Some(EventKind::Answer { source: at, license: source.license.clone(), around })
    }

    fn known(&self, entry: &Entry<'_>) -> Option<usize> {
        match (&entry.qlik.source_id, &entry.qlik.license) {
            (Some(id), _) => self.by_source.get(&**id).copied(),
            (None, Some(license)) => self.by_license.get(&**license).copied(),
            (None, None) => None,
        }
    }

    fn watch(&mut self, entry: &Entry<'_>) -> Option<usize> {
        let at = self.sources.len();
        if at >= SOURCES {
            return None;
        }
        match (&entry.qlik.source_id, &entry.qlik.license) {
            (Some(id), _) => self.by_source.insert((**id).into(), at),
            (None, Some(license)) => self.by_license.insert((**license).into(), at),
            (None, None) => return None,
        };
        let id = entry.qlik.source_id.as_deref().unwrap_or_default().into();
        self.sources.push(WatchedSource { id, license: "".into(), told: Vec::new(), since: None });
        Some(at)
    }

    /// What a reply told that could not be read is not known.
    fn forget_told(&mut self, entry: &Entry<'_>) {
        if let Some(at) = self.known(entry) {
            self.sources[at].told.clear();
        }
    }

    fn unwritten(&mut self, log: usize, entry: &Entry<'_>) {
        let (first, last) = entry.qlik.repeat.map_or((entry.time, entry.time), |all| (all.first, all.last));
        let count = entry.qlik.repeat.map_or(1, |all| all.count);
        let known = self.unwritten.entry(log);
        let known = known.or_insert(Unwritten { log, count: 0, records: 0, first, last });
        known.count = known.count.saturating_add(count);
        known.records += 1;
        known.first = known.first.min(first);
        known.last = known.last.max(last);
        // What was told in exchanges that are not in the log is not known: nobody who comes back went around.
        self.sources.iter_mut().for_each(|source| source.told.clear());
    }
}

impl WatchedSource {
    /// Where it stood when it asked, and what it was told; whether it stood beyond what it was told before.
    fn stands(&mut self, license: &str, sent: Option<u64>, told: Option<u64>) -> bool {
        let known = self.told.iter().position(|(known, _)| **known == *license);
        let before = known.map(|at| self.told[at].1);
        match (known, told) {
            (Some(at), Some(told)) => self.told[at].1 = told,
            (Some(at), None) => {
                self.told.swap_remove(at);
            }
            (None, Some(told)) if self.told.len() < bounds::LICENSES => {
                self.told.push((license.into(), told));
            }
            (None, _) => {}
        }
        before.zip(sent).is_some_and(|(before, sent)| sent > before)
    }
}

impl Since {
    /// The time since the last cut is a piece of its own, which begins and ends as it does.
    fn cut(&mut self, at: i64, by: Cut) {
        let length = at.saturating_sub(self.at).max(0);
        let part = match (self.cut, by) {
            _ if length > RHYTHM => &mut self.parts.silent,
            (Cut::Refused, _) | (Cut::Neither, Cut::Refused) => &mut self.parts.refused,
            (Cut::Failed, _) | (Cut::Neither, Cut::Failed) => &mut self.parts.failing,
            (Cut::Neither, Cut::Neither) => &mut self.parts.waiting,
        };
        add(part, length);
        (self.at, self.cut) = (at, by);
    }

    fn down(&mut self, from: i64, to: i64) {
        let from = from.max(self.at);
        if from < to {
            self.cut(from, Cut::Neither);
            add(&mut self.parts.relay_down, to.saturating_sub(from));
            self.at = to;
        }
    }
}

fn add(part: &mut i64, length: i64) {
    *part = part.saturating_add(length).min(PART);
}

/// By how much the clock was set, in microseconds; where the record does not say, by all that passed since the last one.
fn step(entry: &Entry<'_>, before: Option<Timestamp>) -> i64 {
    let words = || entry.reason.rsplit_once(" by ")?.1.strip_suffix(" s")?.parse::<f64>().ok();
    let seconds = entry.qlik.delta.map(|whole| whole as f64).or_else(words);
    let passed = before.map_or(0, |before| entry.time.as_microsecond() - before.as_microsecond());
    seconds.map_or(passed, |seconds| (seconds * 1e6).round() as i64)
}

#[cfg(test)]
mod tests;
