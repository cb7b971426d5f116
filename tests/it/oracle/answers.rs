//! What readers must say of a history: computed in the most stupid way, over all of it, each time anew.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use license_relay::licensing::message::Change;

use super::world::{ALLOTMENTS, At, End, Fact, Told, What, World};

/// A change that was told.
#[derive(Clone, Debug)]
pub struct Item {
    /// The place of its fact.
    pub fact: usize,
    pub at: At,
    pub license: usize,
    pub told: Told,
    /// An earlier reply has told all that there was up to its version.
    pub repeat: bool,
}

/// Who holds, or may hold, what.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Holder {
    pub license: usize,
    pub allotment: usize,
    pub person: usize,
    pub status: &'static str,
    /// In seconds; of what was told.
    pub since: Option<At>,
    pub version: Option<u64>,
}

type Triple = (usize, usize, usize);

/// All changes that were told, in the order in which they were.
pub fn told(world: &World) -> Vec<Item> {
    let mut items = Vec::new();
    let mut replies: Vec<(usize, u64, u64)> = Vec::new();
    for (fact, Fact { at, what, .. }) in world.facts.iter().enumerate() {
        let What::Synced { by, sent, end: End::Told((base, changes)), .. } = what else { continue };
        let license = world.license_of[*by];
        for told in changes {
            let covers = |(of, from, to): &(usize, u64, u64)| {
                *of == license && (from + 1..=*to).contains(&told.version)
            };
            let repeat = replies.iter().any(covers);
            items.push(Item { fact, at: *at, license, told: told.clone(), repeat });
        }
        replies.push((license, *sent, *base));
    }
    items
}

/// Whose it is, as far as these have told: a change that names its instance alone is of whoever was given that.
pub fn person_of(item: &Item, items: &[Item]) -> Option<usize> {
    let same = |other: &&Item| {
        !other.told.nameless
            && !other.told.rejected
            && (other.license, other.told.instance) == (item.license, item.told.instance)
    };
    if !item.told.nameless {
        return Some(item.told.person);
    }
    items.iter().find(same).map(|other| other.told.person)
}

/// What is true after these.
pub fn holders(items: &[Item]) -> Vec<Holder> {
    let mut newest: BTreeMap<Triple, &Item> = BTreeMap::new();
    for item in items.iter().filter(|item| !item.told.rejected) {
        let Some(person) = person_of(item, items) else { continue };
        let known = newest.entry((item.license, item.told.allotment, person)).or_insert(item);
        if item.told.version > known.told.version {
            *known = item;
        }
    }
    let status = |change| match change {
        Change::Add => Some("holds"),
        Change::Unknown => Some("unknown"),
        Change::Delete => None,
    };
    let holder = |((license, allotment, person), item): (Triple, &Item)| {
        let (since, version) = (Some(item.at), Some(item.told.version));
        Some(Holder { license, allotment, person, status: status(item.told.change)?, since, version })
    };
    newest.into_iter().filter_map(holder).collect()
}

/// Who held what at a time, and what was asked by then and not settled.
pub fn state(world: &World, items: &[Item], at: At) -> Vec<Holder> {
    let by_then: Vec<Item> = items.iter().filter(|item| item.at <= at).cloned().collect();
    let mut rows = holders(&by_then);
    let facts: Vec<&Fact> = world.facts.iter().take_while(|fact| fact.at <= at).collect();
    let mut asks: BTreeMap<Triple, (usize, usize, usize, Change)> = BTreeMap::new();
    for (place, fact) in facts.iter().enumerate() {
        let What::Asked { exchange, by, changes, .. } = &fact.what else { continue };
        for told in changes {
            let triple = (world.license_of[*by], told.allotment, told.person);
            asks.insert(triple, (place, *exchange, fact.log, told.change));
        }
    }
    for ((license, allotment, person), (place, asked, log, change)) in asks {
        let settled = by_then.iter().any(|item| {
            item.fact > place
                && !item.repeat
                && (item.license, item.told.allotment) == (license, allotment)
                && person_of(item, &by_then) == Some(person)
        });
        let end = facts.iter().find_map(|fact| match &fact.what {
            What::Synced { exchange, end, .. } if *exchange == asked => Some(end),
            _ => None,
        });
        let mentioned = matches!(end, Some(End::Told((_, changes)))
            if changes.iter().any(|told| (told.allotment, told.person) == (allotment, person) && !told.nameless));
        let is_unknown = match end {
            Some(end) => end.is_unknown(),
            None => {
                facts[place..].iter().any(|fact| fact.log == log && matches!(fact.what, What::Started(_)))
            }
        };
        if settled || mentioned || matches!(end, Some(End::Failed | End::Unsent)) {
            continue;
        }
        let status = match (is_unknown, change) {
            (true, Change::Add) => "unknown add",
            (true, _) => "unknown delete",
            (false, Change::Add) => "pending add",
            (false, _) => "pending delete",
        };
        rows.push(Holder { license, allotment, person, status, since: None, version: None });
    }
    rows.sort();
    rows
}

/// Use against units of one license and allotment on one day.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Use {
    pub at_end: i64,
    pub peak: i64,
    pub units: Option<i64>,
    pub cap: Option<i64>,
    pub over: Option<i64>,
    /// There is an overage, and it can't be read.
    pub overage_unknown: bool,
}

/// How many hold, by license and allotment.
type Count = BTreeMap<(usize, usize), i64>;

/// All days of the history.
pub fn reconcile(world: &World, items: &[Item]) -> BTreeMap<(Date, usize, usize), Use> {
    let mut days = BTreeMap::new();
    // What was told again changes nothing.
    let items: Vec<Item> = items.iter().filter(|item| !item.repeat).cloned().collect();
    let date = |at| TimeZone::UTC.to_datetime(world.time(at)).date();
    let end = world.facts.iter().map(|fact| fact.at).max().unwrap_or(0);
    // How many held after each change.
    let counts: Vec<(At, Count)> = (1..=items.len())
        .map(|until| {
            let mut count = Count::new();
            for holder in holders(&items[..until]).iter().filter(|holder| holder.status == "holds") {
                *count.entry((holder.license, holder.allotment)).or_default() += 1;
            }
            (items[until - 1].at, count)
        })
        .collect();
    let mut day = date(0);
    while day <= date(end) {
        for license in world.license_of.iter().copied().collect::<BTreeSet<_>>() {
            for allotment in 0..ALLOTMENTS.len() {
                let count =
                    |of: &BTreeMap<(usize, usize), i64>| of.get(&(license, allotment)).copied().unwrap_or(0);
                let before =
                    counts.iter().rev().find(|(at, _)| date(*at) < day).map_or(0, |(_, of)| count(of));
                let within = counts.iter().filter(|(at, _)| date(*at) == day).map(|(_, of)| count(of));
                let (peak, at_end) = within.fold((before, before), |(peak, _), now| (peak.max(now), now));
                let (units, cap, overage_unknown) = entitlement(world, license, allotment, day);
                let over = cap.map(|cap| (peak - cap).max(0));
                days.insert(
                    (day, license, allotment),
                    Use { at_end, peak, units, cap, over, overage_unknown },
                );
            }
        }
        day = day.tomorrow().unwrap();
    }
    days
}

/// Units that are valid on a day, and how many may hold.
fn entitlement(
    world: &World,
    license: usize,
    allotment: usize,
    day: Date,
) -> (Option<i64>, Option<i64>, bool) {
    let newest = world.facts.iter().rev().find_map(|fact| match &fact.what {
        What::Defined { by, units } if world.license_of[*by] == license => {
            (TimeZone::UTC.to_datetime(world.time(fact.at)).date() <= day).then_some(units)
        }
        _ => None,
    });
    let Some(units) = newest else { return (None, None, false) };
    let own: Vec<_> = units.iter().filter(|unit| unit.allotment == ALLOTMENTS[allotment]).collect();
    let valid = |bound: &str, fits: &dyn Fn(Date) -> bool| bound.is_empty() || fits(bound.parse().unwrap());
    let own: Vec<_> = own
        .into_iter()
        .filter(|unit| valid(&unit.valid.0, &|from| from <= day) && valid(&unit.valid.1, &|to| day <= to))
        .collect();
    let sum = own.iter().map(|unit| unit.count).sum();
    // Over nothing that is valid, nothing may be used.
    let overage = own.iter().find_map(|unit| unit.overage.as_deref());
    let number = overage.map_or(Some(0), |number| number.parse().ok());
    (Some(sum), number.map(|number: i64| sum + number), overage == Some("unknown"))
}

/// Consumption of one license in one month.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Consumed {
    /// Confirmed and unknown, of each source.
    pub sources: BTreeMap<usize, (i64, i64)>,
    pub total: Option<i64>,
}

/// All licenses and months.
pub fn consumption(world: &World) -> BTreeMap<(usize, String), Consumed> {
    let mut all: BTreeMap<_, Consumed> = BTreeMap::new();
    for fact in &world.facts {
        let What::Used { exchange: asked, by, month, delta } = &fact.what else { continue };
        let consumed = all.entry((world.license_of[*by], month.clone())).or_default();
        let of_source = consumed.sources.entry(*by).or_default();
        let end = world.facts.iter().find_map(|fact| match &fact.what {
            What::UsedEnd { exchange, end, .. } if exchange == asked => Some(end),
            _ => None,
        });
        match end {
            Some(End::Told(total)) => {
                of_source.0 += delta;
                consumed.total = consumed.total.max(Some(*total));
            }
            Some(End::Failed | End::Unsent) => {}
            Some(End::Lost | End::Unreadable) | None => of_source.1 += delta,
        }
    }
    all
}

/// Why a source was silent for more than 25 minutes, in minutes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Gap {
    pub by: usize,
    pub from: At,
    pub to: At,
    pub down: i64,
    pub refused: i64,
    pub failing: i64,
    pub silent: i64,
    pub around: i64,
    pub waiting: i64,
    pub ongoing: bool,
}

/// The minutes in which every relay is down.
fn down(world: &World, minutes: At) -> Vec<bool> {
    let mut down = vec![true; usize::try_from(minutes + 1).unwrap()];
    for log in 0..world.logs {
        let own: Vec<&Fact> = world.facts.iter().filter(|fact| fact.log == log).collect();
        for (n, fact) in own.iter().enumerate() {
            let next = own.get(n + 1);
            let crashed = next.is_some_and(|next| matches!(next.what, What::Started(Some(false))));
            if !crashed && !matches!(fact.what, What::Stopped) {
                // A log that ends is of a relay that may well run on.
                let until = next.map_or(minutes + 1, |next| next.at / 60);
                (fact.at / 60..until).for_each(|minute| down[usize::try_from(minute).unwrap()] = false);
            }
        }
    }
    down
}

/// All gaps, each minute of them looked at by itself.
pub fn gaps(world: &World) -> Vec<Gap> {
    let end = world.facts.iter().map(|fact| fact.at).max().unwrap_or(0);
    let down = down(world, end / 60);
    let down = |at: At| down[usize::try_from(at / 60).unwrap()];
    let mut gaps = Vec::new();
    for by in 0..world.deployments.len() {
        let answered = |fact: &Fact| match &fact.what {
            What::Synced { by: other, sent, end: End::Told((base, _)), .. } if *other == by => {
                Some((fact.at, *sent, *base))
            }
            _ => None,
        };
        let answered: Vec<_> = world.facts.iter().filter_map(answered).collect();
        let mut tries: BTreeMap<At, bool> = BTreeMap::new();
        for fact in &world.facts {
            let failed = match &fact.what {
                What::Refused { by: other, .. } if *other == by => false,
                What::Synced { by: other, end, .. } if *other == by && !matches!(end, End::Told(_)) => true,
                What::UsedEnd { by: other, end, .. } if *other == by && !matches!(end, End::Told(_)) => true,
                _ => continue,
            };
            tries.insert(fact.at, failed);
        }
        let nexts = answered.iter().skip(1).map(|(at, sent, _)| (*at, Some(*sent)));
        for ((from, _, base), (to, sent)) in answered.iter().copied().zip(nexts.chain([(end, None)])) {
            if to - from <= 25 * 60 {
                continue;
            }
            let is_cut =
                |at: At| at == from || at == to || tries.contains_key(&at) || down(at - 60) != down(at);
            let mut gap = Gap { by, from, to, ongoing: sent.is_none(), ..Gap::default() };
            for at in (from..to).step_by(60) {
                if down(at) {
                    gap.down += 1;
                    continue;
                }
                let begin = (0..).map(|n| at - n * 60).find(|at| is_cut(*at)).unwrap();
                let end = (1..).map(|n| at + n * 60).find(|at| is_cut(*at)).unwrap();
                let why = tries.get(&begin).or_else(|| tries.get(&end)).copied();
                // A reply that could not be read was passed on, and may have told of that version.
                let unread = world.facts.iter().any(|fact| match &fact.what {
                    What::Synced { by: other, end, .. } => {
                        *other == by && *end == End::Unreadable && (from..to).contains(&fact.at)
                    }
                    _ => false,
                });
                let around = sent.is_some_and(|sent| sent > base) && !unread;
                *match why {
                    _ if end - begin > 25 * 60 && around => &mut gap.around,
                    _ if end - begin > 25 * 60 => &mut gap.silent,
                    Some(false) => &mut gap.refused,
                    Some(true) => &mut gap.failing,
                    None => &mut gap.waiting,
                } += 1;
            }
            gaps.push(gap);
        }
    }
    gaps
}

/// What is known of the versions of a license: from where, up to where without a break, and what was never told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Covered {
    pub known_from: u64,
    pub complete_to: u64,
    pub holes: Vec<(u64, u64)>,
}

pub fn coverage(world: &World, license: usize) -> Option<Covered> {
    let mut steps: BTreeSet<u64> = BTreeSet::new();
    let mut seen: BTreeSet<u64> = BTreeSet::new();
    for fact in &world.facts {
        match &fact.what {
            What::Synced { by, sent, end: End::Told((base, _)), .. } if world.license_of[*by] == license => {
                seen.extend([*sent, *base]);
                steps.extend(sent + 1..=*base);
            }
            What::Asked { by, base, .. } if world.license_of[*by] == license => {
                seen.insert(*base);
            }
            _ => {}
        }
    }
    let (known_from, newest) = (*seen.first()?, *seen.last()?);
    let missing: Vec<u64> = (known_from + 1..=newest).filter(|step| !steps.contains(step)).collect();
    let complete_to = missing.first().map_or(newest, |first| first - 1);
    let mut holes: Vec<(u64, u64)> = Vec::new();
    for step in missing {
        match holes.last_mut() {
            // A state that somebody stood at parts two holes.
            Some((_, to)) if *to + 1 == step && !seen.contains(to) => *to = step,
            _ => holes.push((step, step)),
        }
    }
    Some(Covered { known_from, complete_to, holes })
}

/// A unit that was taken from one person and given to another: license, allotment, from, to, deleted, added.
pub type Moved = (usize, usize, usize, usize, At, At);

/// Only what changes who holds counts: what is told late does not.
pub fn churn(items: &[Item], within: SignedDuration) -> Vec<Moved> {
    let mut moved = Vec::new();
    let mut used = BTreeSet::new();
    let items: Vec<Item> = items.iter().filter(|item| !item.repeat).cloned().collect();
    let holds = |until: usize, item: &Item, person: usize| {
        let is = |holder: &Holder| {
            holder.status == "holds"
                && (holder.license, holder.allotment, holder.person)
                    == (item.license, item.told.allotment, person)
        };
        holders(&items[..until]).iter().any(is)
    };
    let new: Vec<(usize, &Item)> = items.iter().enumerate().filter(|(_, item)| !item.told.rejected).collect();
    let gives = |n: usize, item: &Item| {
        let person = item.told.person;
        item.told.change == Change::Add && !holds(n, item, person) && holds(n + 1, item, person)
    };
    let given: Vec<(usize, &Item)> = new.iter().copied().filter(|(n, item)| gives(*n, item)).collect();
    for (n, item) in new {
        let Some(from) = person_of(item, &items[..n]) else { continue };
        if item.told.change != Change::Delete || holds(n + 1, item, from) {
            continue;
        }
        let other = given.iter().find(|(m, other)| {
            *m > n
                && !used.contains(m)
                && (other.license, other.told.allotment) == (item.license, item.told.allotment)
                && other.told.person != from
        });
        if let Some((m, other)) = other
            && other.at - item.at <= within.as_secs()
        {
            used.insert(*m);
            moved.push((item.license, item.told.allotment, from, other.told.person, item.at, other.at));
        }
    }
    moved
}
