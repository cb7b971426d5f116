//! What the page knows of each license: how far, who holds it, and how much of it was used against what it allows. Four
//! sections draw these values: [`coverage`], [`holders`], [`over_time`] and [`usage`].

pub(super) mod coverage;
pub(super) mod holders;
pub(super) mod over_time;
pub(super) mod usage;

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::html::cells::not_known;
use super::{KnownPeriod, Truncated};
use crate::fold::account::{Account, Day, days_in};
use crate::fold::assignments::{Assignment, Counts, held};
use crate::fold::coverage::LicenseCoverage;
use crate::fold::entitlements::{Allowed, Overage};
use crate::input::names::Names;
use crate::input::opening::OpeningHolder;
use crate::read::open::Read;
use relay_log::console::period::{Period, day_of};
use relay_log::text::number::count;

/// Licenses shown in full; the others are counted.
const LICENSES: usize = 20;
/// Allotments shown of one license.
const ALLOTMENTS: usize = 12;
/// Holders listed of one license and allotment.
pub const HOLDERS: usize = 1000;

/// One license: what is known of it, and who holds it.
#[derive(Clone, Debug)]
pub struct License {
    /// Its number, and what the log can say about it.
    pub coverage: LicenseCoverage,
    /// The opening balance, if one was given.
    pub opening: Option<Opening>,
    /// Its allotments, in the order shown; at most `ALLOTMENTS`.
    pub allotments: Truncated<Allotment>,
}

impl License {
    /// Its number.
    pub(super) fn number(&self) -> &str {
        &self.coverage.license
    }
}

/// An opening balance from the product's own console, unsigned.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The file, as it was named.
    pub file: String,
    /// Holders of the license in it.
    pub holders: u64,
}

/// One allotment of a license.
#[derive(Clone, Debug)]
pub struct Allotment {
    /// Its name: `professional`.
    pub allotment: String,
    /// How many hold it at the end of the period, by status.
    pub counts: Counts,
    /// What it allows on the last day.
    pub allowed: Allowed,
    /// Holders at the end of the period; at most [`HOLDERS`].
    pub holders: Truncated<Holder>,
    /// Each day of the period in which anything is known, oldest first, none left out in between.
    pub days: Vec<Day>,
}

impl Allotment {
    /// Days on which more was used than allowed, newest first.
    pub(super) fn days_over(&self) -> impl Iterator<Item = &Day> {
        self.days.iter().rev().filter(|day| over(day) > 0)
    }
}

/// One holder, or one who may be.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Who, of what, and how sure it is.
    pub assignment: Assignment,
    /// The person's name, where it could be resolved.
    pub name: Option<String>,
}

/// All licenses that the logs speak of.
pub(super) fn of(
    account: &Account,
    read: &Read,
    opening: Option<&(PathBuf, Vec<OpeningHolder>)>,
    names: &mut Names,
    period: KnownPeriod,
) -> Truncated<License> {
    let mut holders: BTreeMap<(String, String), Vec<Assignment>> = BTreeMap::new();
    for one in held(&account.all) {
        holders.entry((one.license.clone(), one.allotment.clone())).or_default().push(one);
    }
    let mut licenses: BTreeMap<String, Vec<String>> =
        read.coverage.iter().map(|covered| (covered.license.clone(), Vec::new())).collect();
    let mut allotments = account.allotments();
    allotments.extend(holders.keys().cloned());
    for (license, allotment) in allotments {
        licenses.entry(license).or_default().push(allotment);
    }
    let total = licenses.len() as u64;
    let mut licenses: Vec<(String, Vec<String>)> = licenses.into_iter().collect();
    if licenses.len() > LICENSES {
        // What is worth a look is on the page, whatever its number.
        let (from, to) = (day_of(period.from), day_of(period.to));
        licenses.sort_by_cached_key(|(license, allotments)| {
            let has_holes = read.coverage.iter().any(|one| one.license == *license && !one.holes.is_empty());
            let is_over = |allotment: &String| {
                let days = account.days(license, allotment, from, to);
                days.iter().any(|day| day.over().is_some_and(|over| over > 0))
            };
            !(has_holes || allotments.iter().any(is_over))
        });
    }
    let rows = licenses.into_iter().take(LICENSES).map(|(license, allotments)| {
        let total = allotments.len() as u64;
        let rows = allotments.into_iter().take(ALLOTMENTS).map(|allotment| {
            let held = holders.remove(&(license.clone(), allotment.clone())).unwrap_or_default();
            allotment_of(account, &license, allotment, held, names, period)
        });
        let allotments = Truncated { rows: rows.collect(), total };
        let opening = opening.map(|(file, held)| Opening {
            file: file.display().to_string(),
            holders: held.iter().filter(|held| held.license == license).count() as u64,
        });
        License { coverage: covered(read, license), opening, allotments }
    });
    Truncated { rows: rows.collect(), total }
}

/// What is known of a license; nothing, where no sync of it was seen.
fn covered(read: &Read, license: String) -> LicenseCoverage {
    if let Some(covered) = read.coverage.iter().find(|covered| covered.license == license) {
        return covered.clone();
    }
    let all = read.not_understood.by.values();
    let of_license = all.filter(|unread| unread.license.as_ref() == Some(&license));
    let not_understood = of_license.map(|unread| unread.count).sum();
    LicenseCoverage { license, not_understood, ..LicenseCoverage::default() }
}

fn allotment_of(
    account: &Account,
    license: &str,
    allotment: String,
    held: Vec<Assignment>,
    names: &mut Names,
    period: KnownPeriod,
) -> Allotment {
    let (from, to) = (period.from, period.to);
    let days = days_in(Period { from: Some(from), to: Some(to) }, Some((from, to)))
        .filter(|_| !period.is_unknown())
        .map(|(from, to)| account.days(license, &allotment, from, to));
    let (counts, total) = (held.iter().map(|one| one.status).collect(), held.len() as u64);
    let named = held.into_iter().take(HOLDERS).map(|assignment| {
        let name = names.of(&assignment.subject);
        Holder { assignment, name }
    });
    let holders = Truncated { rows: named.collect(), total };
    let allowed = account.entitlements.on(license, &allotment, day_of(to));
    Allotment { allotment, counts, allowed, holders, days: days.unwrap_or_default() }
}

/// A count as a definition tells it; one below 0 is none.
fn whole(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// Units valid that day. Where the overage can't be read, they are no cap that anything could be over.
pub(super) fn units(allowed: &Allowed) -> Option<u64> {
    allowed.units.map(whole).filter(|_| allowed.overage != Overage::Unknown)
}

/// Units and overage, neither of them below 0; `None` where there is no cap, or none is known.
pub(super) fn cap(allowed: &Allowed) -> Option<u64> {
    let units = units(allowed)?;
    match allowed.overage {
        Overage::Untold => Some(units),
        Overage::Units(more) => Some(units.saturating_add(whole(more))),
        Overage::Unknown | Overage::Unlimited => None,
    }
}

/// How many more were used than the [`cap`]; 0 where there is none, or none is known.
pub(super) fn over(day: &Day) -> u64 {
    cap(&day.allowed).map_or(0, |cap| day.used.peak.saturating_sub(cap))
}

fn overage_cell(overage: Overage) -> String {
    match overage {
        Overage::Untold | Overage::Unknown => not_known(),
        Overage::Units(more) => count(whole(more)),
        Overage::Unlimited => "no limit".into(),
    }
}

fn cap_cell(allowed: &Allowed) -> String {
    match (cap(allowed), units(allowed)) {
        (Some(cap), _) => count(cap),
        (None, Some(_)) => "no cap".into(),
        (None, None) => not_known(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::daily_peak::Used;

    #[test]
    fn a_cap_is_units_and_overage_or_none() {
        let at = |units, overage| Allowed { units, overage, ..Allowed::default() };
        assert_eq!(cap(&at(Some(10), Overage::Units(2))), Some(12));
        assert_eq!(cap(&at(Some(10), Overage::Untold)), Some(10));
        assert_eq!(cap(&at(Some(10), Overage::Unlimited)), None);
        assert_eq!(cap(&at(Some(10), Overage::Unknown)), None);
        assert_eq!(cap(&at(None, Overage::Units(2))), None);
        assert_eq!(cap(&at(Some(-5), Overage::Units(2))), Some(2));
        let used = Used { day: jiff::civil::date(2026, 1, 1), at_end: 9, peak: 13 };
        assert_eq!(over(&Day { used, allowed: at(Some(10), Overage::Units(2)) }), 1);
    }
}
