//! A back end, deployments and relays that live through some days in a moment, and all that truly happened there. What
//! a relay would have logged of it is made of that; what readers must say is computed of it too, and of nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use license_relay::licensing::message::Change;
use relay_log::ledger::action::Action;
use relay_log::ledger::subject::Pseudonyms;
use relay_log::ledger::subject::{SubjectCase, SubjectForm};

use crate::common::made::Made;
use crate::common::scenes::{self, Assignment, Deployment, Exchange, Unit};

pub const ALLOTMENTS: [&str; 2] = ["professional", "analyzer"];
pub const TIME: &str = "analyzer_time";
pub const LICENSES: [&str; 2] = ["9999000000001253", "9999000000002468"];

/// Seconds since the history began; most things happen on a whole minute.
pub type At = i64;

/// A change of an assignment, with the person that it truly is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub allotment: usize,
    pub person: usize,
    pub change: Change,
    /// 0: none.
    pub version: u64,
    /// The version that its instance is named after; 0: none.
    pub instance: u64,
    pub rejected: bool,
    /// It names its instance alone.
    pub nameless: bool,
    /// The other way to write the person.
    pub loud: bool,
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End<T> {
    Told(T),
    /// The back end answered 503.
    Failed,
    /// It may have reached the back end.
    Lost,
    /// It did not.
    Unsent,
    Unreadable,
}

impl<T> End<T> {
    /// Nobody knows what became of it.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Lost | Self::Unreadable)
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// After a stop that was clean, or not; `None`: for the first time.
    Started(Option<bool>),
    Stopped,
    Heartbeat,
    /// A sync that asks for something.
    Asked {
        exchange: usize,
        by: usize,
        base: u64,
        changes: Vec<Told>,
    },
    /// How a sync ended, which asked at this base.
    Synced {
        exchange: usize,
        by: usize,
        sent: u64,
        end: End<(u64, Vec<Told>)>,
    },
    Refused {
        by: usize,
        limited: bool,
    },
    Defined {
        by: usize,
        units: Vec<Unit>,
    },
    /// Consumption: month, how much.
    Used {
        exchange: usize,
        by: usize,
        month: String,
        delta: i64,
    },
    UsedEnd {
        exchange: usize,
        by: usize,
        month: String,
        end: End<i64>,
    },
}

/// Something that happened at one of the relays.
#[derive(Clone, Debug)]
pub struct Fact {
    pub at: At,
    pub log: usize,
    pub what: What,
}

/// Random numbers that are the same for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn within(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from + 1).unsigned_abs()).cast_signed()
    }

    /// Whether one of a hundred chances comes true.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// All of it.
pub struct World {
    pub begin: Timestamp,
    pub deployments: Vec<Deployment>,
    /// Each one's license.
    pub license_of: Vec<usize>,
    pub people: usize,
    pub logs: usize,
    pub facts: Vec<Fact>,
    /// When the subject key is changed.
    pub rollover: Option<At>,
}

/// A person's name, written in one of two ways.
pub fn name(person: usize, loud: bool) -> String {
    if loud { format!("ACME\\User{person:02}") } else { format!("acme\\user{person:02}") }
}

#[derive(Default)]
struct BackEnd {
    entries: Vec<Told>,
    holders: BTreeMap<(usize, usize), u64>,
    /// Asked for, and not looked at yet.
    later: Vec<(usize, usize, Change)>,
    total: BTreeMap<String, i64>,
}

impl BackEnd {
    fn stands_at(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Takes what is asked; gives what is only told in the reply, because it has no version.
    fn take(&mut self, asked: &[Told], dice: &mut Dice) -> Vec<Told> {
        let mut only_here = Vec::new();
        let due = std::mem::take(&mut self.later);
        let due = due.into_iter().map(|(allotment, person, change)| (allotment, person, change, false));
        let now = asked.iter().map(|told| (told.allotment, told.person, told.change, true));
        for (allotment, person, change, may_wait) in due.chain(now).collect::<Vec<_>>() {
            let holds = self.holders.get(&(allotment, person)).copied();
            if holds.is_some() == (change == Change::Add) {
                continue;
            }
            if may_wait && dice.percent(8) {
                if dice.percent(70) {
                    self.later.push((allotment, person, change));
                }
                continue;
            }
            let version = self.stands_at() + 1;
            let loud = dice.percent(50);
            let told = Told {
                allotment,
                person,
                change,
                version,
                instance: version,
                rejected: false,
                nameless: false,
                loud,
            };
            if change == Change::Add && dice.percent(15) {
                let before =
                    |told: &Told| told.rejected && (told.allotment, told.person) == (allotment, person);
                if may_wait && !self.entries.iter().any(before) && dice.percent(40) {
                    only_here.push(Told { version: 0, instance: 0, rejected: true, ..told });
                } else {
                    self.entries.push(Told { rejected: true, ..told });
                }
                continue;
            }
            match holds {
                Some(instance) => {
                    self.holders.remove(&(allotment, person));
                    let nameless = dice.percent(20);
                    self.entries.push(Told { instance, nameless, ..told });
                }
                None => {
                    self.holders.insert((allotment, person), version);
                    let change = if dice.percent(2) { Change::Unknown } else { change };
                    self.entries.push(Told { change, ..told });
                }
            }
        }
        only_here
    }

    fn since(&self, base: u64) -> Vec<Told> {
        self.entries.iter().filter(|told| told.version > base).cloned().collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Usual,
    Silent,
    Refused,
    Around,
}

struct Life {
    base: u64,
    phase: i64,
    mood: Mood,
    until: i64,
    /// What it asks again.
    again: Vec<Told>,
}

struct Relay {
    /// Down until this minute, and whether it stopped cleanly.
    down: Option<(i64, bool)>,
    wrote: bool,
    /// Ends of exchanges that are under way.
    due: Vec<What>,
}

impl World {
    /// Some days, all of them following from the seed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let dice = &mut dice;
        let begins = [
            "2026-01-31T20:00:00Z",
            "2026-02-27T22:00:00Z",
            "2024-02-28T12:00:00Z",
            "2025-12-31T18:00:00Z",
            "2026-06-10T00:00:00Z",
        ];
        let begin: Timestamp = dice.one(&begins).parse().unwrap();
        let minutes = dice.within(240, 900);
        let count = dice.within(2, 4);
        let licenses = dice.within(1, 2);
        let logs = if dice.percent(30) { 2 } else { 1 };
        let heartbeats = dice.percent(40);
        let license_of: Vec<usize> = (0..count).map(|n| usize::try_from(n % licenses).unwrap()).collect();
        let number = |n: usize| u32::try_from(n).unwrap();
        let deployments: Vec<_> =
            license_of.iter().enumerate().map(|(n, l)| Deployment::new(number(n), LICENSES[*l])).collect();
        let people = usize::try_from(dice.within(3, 9)).unwrap();
        let rollover = dice.percent(40).then(|| dice.within(minutes / 4, minutes * 3 / 4) * 60);

        let mut back_ends = [BackEnd::default(), BackEnd::default()];
        for back_end in &mut back_ends {
            // What was before this log.
            for _ in 0..dice.below(6) {
                let asked = wishes(back_end, people, dice);
                back_end.take(&asked, dice);
            }
        }
        let mut lives: Vec<Life> = license_of
            .iter()
            .map(|license| Life {
                base: if dice.percent(40) { 0 } else { dice.below(back_ends[*license].stands_at() + 1) },
                phase: dice.within(0, 9),
                mood: Mood::Usual,
                until: 0,
                again: Vec::new(),
            })
            .collect();
        let mut relays: Vec<_> =
            (0..logs).map(|_| Relay { down: None, wrote: false, due: Vec::new() }).collect();
        let mut facts: Vec<Fact> =
            (0..logs).map(|log| Fact { at: 0, log, what: What::Started(None) }).collect();
        let (mut failing, mut exchange) = (0i64, 0usize);

        for minute in 1..=minutes {
            let at = minute * 60;
            for (log, relay) in relays.iter_mut().enumerate() {
                relay.wrote = false;
                let mut note = |what| facts.push(Fact { at, log, what });
                match relay.down {
                    Some((until, clean)) if until == minute => {
                        note(What::Started(Some(clean)));
                        (relay.down, relay.wrote) = (None, true);
                    }
                    Some(_) => {}
                    None if minute < minutes && dice.below(500) == 0 => {
                        let clean = dice.percent(50);
                        if clean {
                            relay.due.drain(..).for_each(&mut note);
                            note(What::Stopped);
                        }
                        relay.due.clear();
                        relay.down = Some((minute + dice.within(1, 90), clean));
                    }
                    None => {
                        relay.wrote = !relay.due.is_empty();
                        relay.due.drain(..).for_each(note);
                    }
                }
            }
            if failing < minute && dice.below(400) == 0 {
                failing = minute + dice.within(5, 80);
            }
            for by in 0..deployments.len() {
                let life = &mut lives[by];
                let back_end = &mut back_ends[license_of[by]];
                let up: Vec<usize> = (0..logs).filter(|log| relays[*log].down.is_none()).collect();
                let log = if dice.percent(80) { up.first() } else { up.last() };
                if life.until < minute {
                    life.mood = Mood::Usual;
                    if dice.below(400) == 0 {
                        life.mood = *dice.one(&[Mood::Silent, Mood::Refused, Mood::Around]);
                        life.until = minute + dice.within(5, 150);
                    }
                }
                if minute % 10 == life.phase {
                    let mut asked = std::mem::take(&mut life.again);
                    if dice.percent(25) {
                        for wish in wishes(back_end, people, dice) {
                            let same =
                                |told: &Told| (told.allotment, told.person) == (wish.allotment, wish.person);
                            if !asked.iter().any(same) {
                                asked.push(wish);
                            }
                        }
                    }
                    match (life.mood, log) {
                        (Mood::Around, _) => {
                            back_end.take(&asked, dice);
                            life.base = back_end.stands_at();
                        }
                        (Mood::Silent, _) | (_, None) => life.again = asked,
                        (Mood::Refused, Some(log)) => {
                            life.again = asked;
                            let limited = dice.percent(50);
                            facts.push(Fact { at, log: *log, what: What::Refused { by, limited } });
                            relays[*log].wrote = true;
                        }
                        (Mood::Usual, Some(log)) => {
                            exchange += 1;
                            let relay = &mut relays[*log];
                            let sent = life.base;
                            if !asked.is_empty() {
                                let what = What::Asked { exchange, by, base: sent, changes: asked.clone() };
                                facts.push(Fact { at, log: *log, what });
                                relay.wrote = true;
                            }
                            let chance = dice.below(100);
                            let end = match chance {
                                _ if failing >= minute && chance < 50 => End::Failed,
                                _ if failing >= minute => End::Unsent,
                                0..4 => End::Lost,
                                4..6 => End::Unreadable,
                                6..8 => End::Failed,
                                _ => {
                                    let only_here = back_end.take(&asked, dice);
                                    let told = [back_end.since(sent), only_here].concat();
                                    life.base = back_end.stands_at();
                                    End::Told((life.base, told))
                                }
                            };
                            if end.is_unknown() && dice.percent(60) {
                                back_end.take(&asked, dice);
                            }
                            if !matches!(end, End::Told(_)) && dice.percent(80) {
                                life.again = asked.clone();
                            }
                            let what = What::Synced { exchange, by, sent, end };
                            if !asked.is_empty() && minute < minutes && dice.percent(30) {
                                relay.due.push(what);
                            } else {
                                facts.push(Fact { at, log: *log, what });
                                relay.wrote = true;
                            }
                        }
                    }
                }
                if let Some(log) = log
                    && life.mood == Mood::Usual
                    && minute % 60 == life.phase + 5
                {
                    let relay = &mut relays[*log];
                    relay.wrote = true;
                    if dice.percent(25) {
                        facts.push(Fact { at, log: *log, what: What::Defined { by, units: units(dice) } });
                    }
                    exchange += 1;
                    let month = begin + SignedDuration::from_secs(at);
                    let month = month.to_string()[..7].to_owned();
                    let delta = dice.within(0, 40);
                    let used = What::Used { exchange, by, month: month.clone(), delta };
                    facts.push(Fact { at, log: *log, what: used });
                    let mut counted = || {
                        let total = back_end.total.entry(month.clone()).or_default();
                        *total += delta;
                        *total
                    };
                    let end = match dice.below(100) {
                        0..5 => End::Lost,
                        5..10 => End::Failed,
                        10..13 => End::Unsent,
                        _ => End::Told(counted()),
                    };
                    if end == End::Lost && dice.percent(50) {
                        counted();
                    }
                    let what = What::UsedEnd { exchange, by, month, end };
                    if minute < minutes && dice.percent(10) {
                        relay.due.push(what);
                    } else {
                        facts.push(Fact { at, log: *log, what });
                    }
                }
            }
            for (log, relay) in relays.iter().enumerate() {
                let last = minute == minutes;
                if relay.down.is_none() && !relay.wrote && (heartbeats || last) {
                    facts.push(Fact { at, log, what: What::Heartbeat });
                }
            }
        }
        facts.sort_by_key(|fact| (fact.at, fact.log));
        Self { begin, deployments, license_of, people, logs, facts, rollover }
    }

    /// When, as it is written.
    pub fn time(&self, at: At) -> Timestamp {
        self.begin + SignedDuration::from_secs(at)
    }

    /// The keys of the subjects, the older one last, in this folder.
    pub fn keys(&self, folder: &Path) -> Vec<Pseudonyms> {
        let newest = folder.join("subject.key");
        let files = [newest, folder.join("subject.key.k2025")];
        if self.rollover.is_some() {
            write_key(&files[1], "k2025", 1);
        }
        write_key(&files[0], "k2026", 2);
        let there = files.iter().filter(|file| file.exists());
        there
            .map(|file| Pseudonyms::open_or_make(file, SubjectForm::HmacSha256, SubjectCase::Fold).unwrap())
            .collect()
    }

    /// Writes what the relays have logged; gives the folders.
    pub fn write(&self, folder: &Path, segment: u64) -> Vec<PathBuf> {
        let keys = self.keys(folder);
        let mut open: BTreeMap<usize, Exchange> = BTreeMap::new();
        let mut logs = Vec::new();
        let mut made: Vec<Made> = (0..self.logs)
            .map(|log| {
                let path = folder.join(format!("log-{log}"));
                logs.push(path.clone());
                let made = Made::begin(&path, &format!("license-relay/{log}")).segments_of(segment);
                if log == 0 { made.compressed() } else { made }
            })
            .collect();
        let mut seen: Vec<Vec<usize>> = vec![Vec::new(); self.logs];
        for (number, fact) in self.facts.iter().enumerate() {
            let number = 1_000_000 + number as u128;
            let time = self.time(fact.at);
            let newer = self.rollover.is_none_or(|rollover| fact.at >= rollover);
            let names = if newer { &keys[0] } else { &keys[1] };
            let made = &mut made[fact.log];
            if newer && self.rollover.is_some() {
                for person in fact.people() {
                    if !seen[fact.log].contains(&person) {
                        seen[fact.log].push(person);
                        let pseudonym = |key: &Pseudonyms| key.of(&scenes::subject(&name(person, false)));
                        made.write(time, &[scenes::alias(number, pseudonym(&keys[0]), pseudonym(&keys[1]))]);
                    }
                }
            }
            let records = match &fact.what {
                What::Started(clean) => {
                    let word = clean.map(|clean| if clean { "clean" } else { "unclean" });
                    vec![scenes::started(number, word)]
                }
                What::Stopped => vec![scenes::stopped(number)],
                What::Heartbeat => vec![scenes::heartbeat(number)],
                What::Refused { by, limited } => {
                    let action = if *limited { Action::AccessLimited } else { Action::AccessDenied };
                    vec![scenes::refused(number, action, &self.deployments[*by], "not now", None)]
                }
                What::Defined { by, units } => {
                    Exchange::definition(number, &self.deployments[*by]).defined(time, units, names)
                }
                What::Asked { exchange, by, base, changes } => {
                    let asked: Vec<_> = changes.iter().map(as_asked).collect();
                    let sync = Exchange::sync(*exchange as u128, &self.deployments[*by], *base, &asked);
                    let records = sync.intent(names);
                    open.insert(*exchange, sync);
                    records
                }
                What::Synced { exchange, by, sent, end } => {
                    let sync = open.remove(exchange).unwrap_or_else(|| {
                        Exchange::sync(*exchange as u128, &self.deployments[*by], *sent, &[])
                    });
                    match end {
                        End::Told((base, told)) => {
                            let told: Vec<_> = told.iter().map(as_told).collect();
                            sync.told(time, *base, &told, names)
                        }
                        End::Failed => sync.failed(time, 503, names),
                        End::Lost => sync.lost(true),
                        End::Unsent => sync.lost(false),
                        End::Unreadable => sync.unreadable(time, names),
                    }
                }
                What::Used { exchange, by, month, delta } => {
                    let by = &self.deployments[*by];
                    let used = Exchange::capacity(*exchange as u128, by, &[(TIME, month, *delta)]);
                    let records = used.intent(names);
                    open.insert(*exchange, used);
                    records
                }
                What::UsedEnd { exchange, month, end, .. } => {
                    let used = open.remove(exchange).unwrap();
                    match end {
                        End::Told(total) => used.totals(time, &[(TIME, month, *total)], names),
                        End::Failed => used.failed(time, 503, names),
                        End::Lost => used.lost(true),
                        End::Unsent => used.lost(false),
                        End::Unreadable => used.unreadable(time, names),
                    }
                }
            };
            made.write(time, &records);
        }
        made.into_iter().for_each(|made| {
            made.end();
        });
        logs
    }
}

impl Fact {
    /// Who is named in it.
    fn people(&self) -> Vec<usize> {
        let changes = match &self.what {
            What::Asked { changes, .. } => changes,
            What::Synced { end: End::Told((_, changes)), .. } => changes,
            _ => return Vec::new(),
        };
        changes.iter().filter(|told| !told.nameless).map(|told| told.person).collect()
    }
}

fn write_key(path: &Path, id: &str, fill: u8) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, format!("{id}:{}\n", format!("{fill:02x}").repeat(32)).as_bytes())
        .unwrap();
}

fn as_asked(told: &Told) -> Assignment {
    Assignment::new(told.change, ALLOTMENTS[told.allotment], &name(told.person, told.loud))
}

fn as_told(told: &Told) -> Assignment {
    let mut assignment = as_asked(told);
    if told.version > 0 {
        assignment = assignment.told(told.instance);
        assignment.version = Some(told.version);
    }
    if told.nameless {
        assignment.person = None;
    }
    if told.rejected { assignment.rejected("no unit left") } else { assignment }
}

/// What a deployment may want now.
fn wishes(back_end: &BackEnd, people: usize, dice: &mut Dice) -> Vec<Told> {
    let mut wishes: Vec<Told> = Vec::new();
    for _ in 0..=dice.below(3) {
        let allotment = usize::try_from(dice.below(2)).unwrap();
        let person = usize::try_from(dice.below(people as u64)).unwrap();
        if wishes.iter().any(|wish| (wish.allotment, wish.person) == (allotment, person)) {
            continue;
        }
        let holds = back_end.holders.contains_key(&(allotment, person));
        let change = if holds { Change::Delete } else { Change::Add };
        let (loud, version, instance, rejected, nameless) = (dice.percent(50), 0, 0, false, false);
        wishes.push(Told { allotment, person, change, version, instance, rejected, nameless, loud });
    }
    wishes
}

/// A definition with units that overlap, end in the middle of the history, or have no end.
fn units(dice: &mut Dice) -> Vec<Unit> {
    let mut units = Vec::new();
    for (n, allotment) in ALLOTMENTS.iter().enumerate() {
        let overage = match dice.below(5) {
            0 => Some("unlimited".to_owned()),
            1 => Some("unknown".to_owned()),
            2 => Some(dice.below(3).to_string()),
            _ => None,
        };
        for _ in n..=usize::try_from(dice.below(3)).unwrap() {
            let from = *dice.one(&["", "2026-01-01", "2026-02-01", "2026-02-28", "2024-02-29", "2026-01-01"]);
            let to = *dice.one(&["", "2026-01-31", "2026-02-28", "2026-12-31", "2024-02-28", "2030-12-31"]);
            units.push(Unit {
                allotment: (*allotment).to_owned(),
                access_type: (*allotment).to_owned(),
                class: "assigned".to_owned(),
                count: dice.within(0, 4),
                valid: (from.to_owned(), to.to_owned()),
                overage: overage.clone(),
            });
        }
    }
    units
}
