//! Two readings of one message, under a site's vocabulary and the built-in one, compared: what the one finds that the other
//! does not know. To compare each with each would take minutes for as many as a message may have, so all is looked up.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use super::message::{Change, Consumption, Patch};
use relay_log::ledger::subject::Subject;
use relay_log::names::LicenseNumber;

/// The elements of a report that another reading of the same message did not find. What that one has not read of an element is
/// no difference.
pub(crate) fn unreported<'r>(report: &'r [Consumption], own: &'r [Consumption]) -> Vec<&'r Consumption> {
    fn place(element: &Consumption) -> (&str, &str) {
        (&element.allotment, &element.month)
    }
    let places: HashSet<_> = own.iter().map(place).collect();
    let amounts: HashSet<_> = own.iter().map(|element| (place(element), &element.delta)).collect();
    let is_there = |element: &&Consumption| match &element.delta {
        None => places.contains(&place(element)),
        amount => amounts.contains(&(place(element), amount)),
    };
    report.iter().filter(|element| !is_there(element)).collect()
}

/// What one reading of a message knows of a change that another one found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Known {
    /// All that it says.
    Whole,
    /// All but what it does.
    ButWhatItDoes,
    /// Nothing.
    Not,
}

/// What the own changes know of each of the others.
pub(crate) fn known(others: &[Patch], own: &[Patch]) -> Vec<Known> {
    let whole = found(others, own, true);
    if !whole.contains(&false) {
        return vec![Known::Whole; others.len()];
    }
    let said = found(others, own, false);
    let known = |(whole, said)| match (whole, said) {
        (true, _) => Known::Whole,
        (false, true) => Known::ButWhatItDoes,
        (false, false) => Known::Not,
    };
    whole.into_iter().zip(said).map(known).collect()
}

/// Which of the others an own one [does](Patch::does), or only [is of](Patch::is_of). The own ones are looked up by a hash of
/// what the others say; those that say something of the same parts are looked up together, so that there is one index at a
/// time.
fn found(others: &[Patch], own: &[Patch], with_change: bool) -> Vec<bool> {
    let keyed = RandomState::new();
    let says = |patch: &Patch| {
        (patch.parts().map(|part| part.is_some()), with_change && patch.change != Change::Unknown)
    };
    let key = |patch: &Patch, ([license, allotment, subject, instance], change): ([bool; 4], bool)| {
        let [a, b, c, d] = patch.parts();
        let said =
            [a.filter(|_| license), b.filter(|_| allotment), c.filter(|_| subject), d.filter(|_| instance)];
        keyed.hash_one((
            said,
            (change && patch.change == Change::Add, change && patch.change == Change::Delete),
        ))
    };
    let mut found = vec![false; others.len()];
    for kind in others.iter().map(says).collect::<BTreeSet<_>>() {
        let index: HashMap<u64, &Patch> = own.iter().map(|patch| (key(patch, kind), patch)).collect();
        for (other, found) in others.iter().zip(&mut found).filter(|(other, _)| says(other) == kind) {
            let is_it = |own: &&Patch| if with_change { own.does(other) } else { own.is_of(other) };
            *found = index.get(&key(other, kind)).is_some_and(is_it);
        }
    }
    found
}

impl Patch {
    /// What it says, but for what it does.
    fn parts(&self) -> [Option<&str>; 4] {
        [
            self.license.as_ref().map(LicenseNumber::as_str),
            self.allotment.as_deref(),
            self.subject.as_ref().map(Subject::expose),
            self.instance.as_deref(),
        ]
    }

    /// Whether it says all that another reading of the same message found, whatever it does: what that one has not found is no
    /// difference.
    fn is_of(&self, other: &Self) -> bool {
        (other.license.is_none() || self.license == other.license)
            && (other.allotment.is_none() || self.allotment == other.allotment)
            && (other.subject.is_none() || self.subject == other.subject)
            && (other.instance.is_none() || self.instance == other.instance)
    }

    /// The same, and that it does what that one found.
    fn does(&self, other: &Self) -> bool {
        self.is_of(other) && (other.change == Change::Unknown || other.change == self.change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_readings_of_as_many_changes_as_are_read_are_compared_in_no_time_and_as_one_by_one() {
        let patch = |n: usize| Patch {
            change: [Change::Add, Change::Delete, Change::Unknown][n % 3],
            license: (n.is_multiple_of(2)).then(|| "9999000000001253".parse().unwrap()),
            allotment: (!n.is_multiple_of(5)).then(|| format!("a{}", n % 4)),
            subject: (!n.is_multiple_of(7)).then(|| Subject::new(&format!("s{}", n % 11))),
            instance: (n.is_multiple_of(3)).then(|| (n % 13).to_string()),
            version: None,
            created: None,
            rejection: None,
            unfit_license: false,
        };
        let (own, others): (Vec<_>, Vec<_>) = (0..1000).map(|n| (patch(n), patch(3 * n + 1))).unzip();
        let (own, others) = (&own[..100], &others[..]);
        let one_by_one = |other: &Patch| match own.iter().any(|own| own.does(other)) {
            true => Known::Whole,
            false if own.iter().any(|own| own.is_of(other)) => Known::ButWhatItDoes,
            false => Known::Not,
        };
        let one_by_one: Vec<Known> = others.iter().map(one_by_one).collect();
        assert!(
            [Known::Whole, Known::ButWhatItDoes, Known::Not].iter().all(|known| one_by_one.contains(known))
        );
        assert_eq!(known(others, own), one_by_one);
        let many: Vec<_> = (0..relay_log::bounds::CHANGES).map(patch).collect();
        let begun = tokio::time::Instant::now();
        assert!(known(&many, &many).iter().all(|known| *known == Known::Whole));
        let element = |n: usize| Consumption {
            id: None,
            allotment: "analyzer_time".into(),
            month: "2026-11".into(),
            delta: Some(n.into()),
        };
        let report: Vec<_> = (0..relay_log::bounds::CHANGES).map(element).collect();
        assert!(unreported(&report, &report).is_empty());
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
