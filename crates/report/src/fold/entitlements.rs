//! What a license allows, as last seen in a definition: the units valid on a day, and what may be used beyond them.
//!
//! All entitlements of one exchange are one definition. License changes can take a day to be fetched, so what is said
//! here is always "as last seen by the relay".

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;

use relay_log::console::period::{day_of, end_of};
use relay_log::ledger::entry::Entry;

/// Different definitions of one license that are kept; of what comes after, only the newest is.
const DEFINITIONS: usize = 10_000;
/// Units of one definition that are looked at.
const UNITS: usize = 10_000;

/// All definitions.
#[derive(Debug, Default)]
pub struct Entitlements {
    licenses: BTreeMap<String, Vec<Definition>>,
    /// The definition that is being read, of each log.
    open: HashMap<usize, (String, String, Definition)>,
}

/// A definition, from when it was first seen as it is.
#[derive(Clone, Debug)]
struct Definition {
    seen: Timestamp,
    units: Vec<Unit>,
}

/// One unit of one allotment.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Unit {
    allotment: String,
    class: Option<Arc<str>>,
    access_type: Option<Arc<str>>,
    count: Option<i64>,
    from: String,
    to: String,
    overage: Overage,
}

/// What may be used beyond the units.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Overage {
    /// None was told.
    #[default]
    Untold,
    /// What was told could not be read.
    Unknown,
    /// So many.
    Units(i64),
    /// No limit.
    Unlimited,
}

/// What an allotment allows on one day.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Allowed {
    /// When the definition was first seen as it is; absent where none was by then.
    pub seen: Option<Timestamp>,
    /// Units valid that day; absent where no definition was seen, or a count of it could not be read.
    pub units: Option<i64>,
    /// What may be used beyond them.
    pub overage: Overage,
    /// `assigned`, `time`.
    pub class: Option<Arc<str>>,
    /// What it gives access to.
    pub access_type: Option<Arc<str>>,
}

impl Allowed {
    /// Units and overage; absent where there is no cap, or none is known.
    pub fn cap(&self) -> Option<i64> {
        match (self.units, self.overage) {
            (None, _) | (_, Overage::Unlimited | Overage::Unknown) => None,
            (Some(units), Overage::Units(more)) => Some(units.saturating_add(more)),
            (Some(units), Overage::Untold) => Some(units),
        }
    }

    /// As an answer says it: a number, `unlimited`, or nothing where it is not known.
    pub(crate) fn overage_word(&self) -> Option<String> {
        match self.overage {
            Overage::Untold => None,
            Overage::Unknown => Some("unknown".into()),
            Overage::Units(more) => Some(more.to_string()),
            Overage::Unlimited => Some("unlimited".into()),
        }
    }
}

impl Entitlements {
    /// The next record.
    pub fn take(&mut self, log: usize, entry: &Entry<'_>) {
        if &*entry.action != "license.entitlement" {
            return;
        }
        let license = entry.qlik.license.as_deref().unwrap_or_default();
        let is_open =
            |(of, exchange, _): &(String, String, Definition)| of == license && *exchange == *entry.exchange;
        if !self.open.get(&log).is_some_and(is_open) {
            self.close(log);
            let new = Definition { seen: entry.time, units: Vec::new() };
            self.open.insert(log, (license.to_owned(), entry.exchange.0.clone().into_owned(), new));
        }
        if let Some((_, _, definition)) = self.open.get_mut(&log)
            && definition.units.len() < UNITS
        {
            definition.units.push(Unit::of(entry));
        }
    }

    /// What comes after this is not the definition's any more.
    pub fn finish(&mut self) {
        let logs: Vec<usize> = self.open.keys().copied().collect();
        logs.into_iter().for_each(|log| self.close(log));
    }

    fn close(&mut self, log: usize) {
        let Some((license, _, definition)) = self.open.remove(&log) else { return };
        let all = self.licenses.entry(license).or_default();
        // That of one log may be known to be whole only after newer ones of another.
        let at = all.partition_point(|known| known.seen <= definition.seen);
        if at
            .checked_sub(1)
            .and_then(|before| all.get(before))
            .is_some_and(|before| before.units == definition.units)
        {
            return;
        }
        if at == all.len() && at == DEFINITIONS {
            all.pop();
        }
        all.insert(at.min(all.len()), definition);
        all.truncate(DEFINITIONS);
    }

    /// What an allotment of a license allowed on a day, as seen by its end.
    pub fn on(&self, license: &str, allotment: &str, day: Date) -> Allowed {
        let Some(definition) = self.seen_by(license, day) else { return Allowed::default() };
        let of_allotment: Vec<&Unit> =
            definition.units.iter().filter(|unit| unit.allotment == allotment).collect();
        let mut allowed = Allowed { seen: Some(definition.seen), units: Some(0), ..Allowed::default() };
        for unit in of_allotment {
            allowed.class = allowed.class.or_else(|| unit.class.clone());
            allowed.access_type = allowed.access_type.or_else(|| unit.access_type.clone());
            match unit.is_valid(day) {
                Some(true) => {
                    allowed.units = allowed.units.zip(unit.count).map(|(all, one)| all.saturating_add(one));
                    // It is the allotment's own, and stands in each of its units.
                    allowed.overage = match (allowed.overage, unit.overage) {
                        (Overage::Unlimited, _) | (_, Overage::Unlimited) => Overage::Unlimited,
                        (Overage::Units(a), Overage::Units(b)) => Overage::Units(a.max(b)),
                        (Overage::Unknown, _) | (_, Overage::Unknown) => Overage::Unknown,
                        (Overage::Untold, other) | (other, Overage::Untold) => other,
                    };
                }
                Some(false) => {}
                None => allowed.units = None,
            }
        }
        allowed
    }

    /// Units of an allotment whose time was over by a day, in the definition seen by then, and the last day of those that
    /// ended last; `None` where there are none.
    pub fn ended(&self, license: &str, allotment: &str, day: Date) -> Option<(u64, Date)> {
        let units = self.seen_by(license, day)?.units.iter().filter(|unit| unit.allotment == allotment);
        let over =
            units.filter_map(|unit| Some((unit.count?, end_day(&unit.to)??))).filter(|(_, to)| *to < day);
        over.map(|(count, to)| (u64::try_from(count).unwrap_or(0), to))
            .reduce(|(all, last), (count, to)| (all.saturating_add(count), last.max(to)))
    }

    /// The definition of a license that was the newest at the end of a day.
    fn seen_by(&self, license: &str, day: Date) -> Option<&Definition> {
        let known = self.licenses.get(license).map(Vec::as_slice).unwrap_or_default();
        let end = end_of(day);
        let by_then = known.partition_point(|definition| definition.seen <= end);
        by_then.checked_sub(1).and_then(|last| known.get(last))
    }

    /// The allotments of a license that any definition has named, with their class.
    pub fn allotments(&self, license: &str) -> BTreeMap<&str, Option<&str>> {
        let all = self.licenses.get(license).into_iter().flatten().flat_map(|definition| &definition.units);
        all.map(|unit| (unit.allotment.as_str(), unit.class.as_deref())).collect()
    }

    /// Licenses with a definition.
    pub fn licenses(&self) -> impl Iterator<Item = &str> {
        self.licenses.keys().map(String::as_str)
    }
}

impl Unit {
    fn of(entry: &Entry<'_>) -> Self {
        let said = &entry.qlik;
        let text = |text: &Option<relay_log::ledger::entry::Text<'_>>| text.as_deref().map(str::to_owned);
        let overage = match said.overage.as_deref() {
            Some("unlimited") => Overage::Unlimited,
            Some(number) => number.parse().map_or(Overage::Unknown, Overage::Units),
            None => Overage::Untold,
        };
        Self {
            allotment: text(&said.allotment).unwrap_or_default(),
            class: said.class.as_deref().map(Arc::from),
            access_type: said.access_type.as_deref().map(Arc::from),
            count: said.count,
            from: text(&said.valid_from).unwrap_or_default(),
            to: text(&said.valid_to).unwrap_or_default(),
            overage,
        }
    }

    /// Whether a day is in its time, first and last day included; `None` where that can't be read.
    fn is_valid(&self, day: Date) -> Option<bool> {
        let (from, to) = (end_day(&self.from)?, end_day(&self.to)?);
        Some(from.is_none_or(|from| from <= day) && to.is_none_or(|to| day <= to))
    }
}

/// The day of one end of a unit's time: `Some(None)` where it has no such end, `None` where it can't be read.
fn end_day(text: &str) -> Option<Option<Date>> {
    if text.is_empty() {
        return Some(None);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(Some(day_of(time)));
    }
    text.get(..10)?.parse::<Date>().ok().map(Some)
}

/// What may be consumed of an allotment in a month: units and overage on its last day, or on the last day of the log.
pub fn quota(of: &Entitlements, license: &str, month: &str, allotment: &str, end: Timestamp) -> Option<i64> {
    let first: Date = format!("{month}-01").parse().ok()?;
    let day = first.last_of_month().min(day_of(end)).max(first);
    of.on(license, allotment, day).cap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(count: i64, from: &str, to: &str, overage: Overage) -> Unit {
        Unit {
            allotment: "professional".into(),
            class: Some("assigned".into()),
            access_type: Some("professional".into()),
            count: Some(count),
            from: from.into(),
            to: to.into(),
            overage,
        }
    }

    fn allowed(units: Vec<Unit>, day: &str) -> Allowed {
        let definition = Definition { seen: "2026-01-10T12:00:00Z".parse().unwrap(), units };
        let licenses = BTreeMap::from([("9999".to_owned(), vec![definition])]);
        Entitlements { licenses, ..Entitlements::default() }.on("9999", "professional", day.parse().unwrap())
    }

    #[test]
    fn units_count_on_their_first_and_on_their_last_day_and_overlapping_ones_add_up() {
        let units = vec![
            unit(10, "", "", Overage::Units(2)),
            unit(5, "2026-02-01", "2026-02-28", Overage::Units(2)),
            unit(1, "2026-02-28", "", Overage::Units(2)),
        ];
        let count = |day| allowed(units.clone(), day).cap();
        assert_eq!(count("2026-01-09"), None, "no definition was seen by then");
        assert_eq!(count("2026-01-10"), Some(12));
        assert_eq!(
            (count("2026-02-01"), count("2026-02-28"), count("2026-03-01")),
            (Some(17), Some(18), Some(13))
        );
    }

    #[test]
    fn units_that_ended_are_told_with_the_last_day_of_them() {
        let units = vec![
            unit(10, "", "2018-12-31", Overage::Unknown),
            unit(5, "", "2017-12-31", Overage::Unknown),
            unit(3, "2026-01-01", "", Overage::Unknown),
            unit(7, "", "(other)", Overage::Unknown),
        ];
        let definition = Definition { seen: "2016-01-10T12:00:00Z".parse().unwrap(), units };
        let licenses = BTreeMap::from([("9999".to_owned(), vec![definition])]);
        let all = Entitlements { licenses, ..Entitlements::default() };
        let ended = |day: &str| all.ended("9999", "professional", day.parse().unwrap());
        let last = |day: &str| day.parse::<Date>().unwrap();
        assert_eq!(ended("2026-01-02"), Some((15, last("2018-12-31"))));
        assert_eq!(ended("2018-12-31"), Some((5, last("2017-12-31"))));
        assert_eq!((ended("2017-12-31"), all.ended("9999", "analyzer", last("2026-01-02"))), (None, None));
    }

    #[test]
    fn no_cap_and_no_knowledge_are_not_the_same() {
        let endless = allowed(vec![unit(10, "", "", Overage::Unlimited)], "2026-02-01");
        assert_eq!(
            (endless.units, endless.cap(), endless.overage_word()),
            (Some(10), None, Some("unlimited".into()))
        );
        let unreadable = allowed(vec![unit(10, "(other)", "", Overage::Untold)], "2026-02-01");
        assert_eq!((unreadable.units, unreadable.cap()), (None, None));
        let of_words = allowed(vec![unit(10, "", "", Overage::Unknown)], "2026-02-01");
        assert_eq!((of_words.cap(), of_words.overage_word()), (None, Some("unknown".into())));
        let of_the_day = allowed(
            vec![unit(10, "2026-01-01T00:00:00Z", "2026-02-01T10:00:00Z", Overage::Untold)],
            "2026-02-01",
        );
        assert_eq!(of_the_day.cap(), Some(10));
    }
}
