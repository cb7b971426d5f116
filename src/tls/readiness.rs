//! Which clients hold up the finish of a rotation: those that would be cut off by it, as far as they have shown.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use super::trust::{AddressTrust, ShownTrust};
use crate::bounds;

/// Why a client holds it up.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Holdup {
    /// Its last word on the new root was a refusal.
    RefusesNew,
    /// Behind its address some trust the new root and some refuse it.
    MixedOnNew,
    /// It used the old root lately, and has never used the new one.
    OnlyOld,
}

/// A client that holds it up.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct HeldUp {
    pub(crate) address: IpAddr,
    pub(crate) why: Holdup,
    /// Its last request below the old root.
    pub(crate) old_request: Option<Timestamp>,
    /// Its last request below the new root.
    pub(crate) new_request: Option<Timestamp>,
    /// Its last refusal of the new root.
    pub(crate) new_refusal: Option<Timestamp>,
}

impl Holdup {
    /// All of them, in the order in which people read of them.
    pub(crate) const ALL: [Self; 3] = [Self::RefusesNew, Self::MixedOnNew, Self::OnlyOld];

    /// What such clients do, and what is to be done about it.
    pub(crate) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::RefusesNew => (
                "do not trust the new root",
                "install it there, and wait until ca status shows a request of theirs below it",
            ),
            Self::MixedOnNew => (
                "are mixed: some behind this address trust the new root, and some refuse it",
                "install it on all machines behind the address, and wait until none has refused it for a day; an address \
                 that is one machine's, which has it now, may be left behind at once",
            ),
            Self::OnlyOld => (
                "used the old root lately, and have never used the new one",
                "install it there, serve them its leaves with ca rotate --try ADDRESS, and wait for a request of theirs",
            ),
        }
    }
}

/// The clients that hold up the finish, by their addresses.
pub(crate) fn held_up(seen: &[ShownTrust], old: &str, new: &str, now: Timestamp) -> Vec<HeldUp> {
    let mut clients: BTreeMap<IpAddr, (Option<&ShownTrust>, Option<&ShownTrust>)> = BTreeMap::new();
    for seen in seen {
        let (of_old, of_new) = clients.entry(seen.address).or_default();
        match &seen.root {
            root if root == new => *of_new = Some(seen),
            root if root == old => *of_old = Some(seen),
            _ => {}
        }
    }
    let held_up = clients.into_iter().filter_map(|(address, (of_old, of_new))| {
        let old_request = of_old.and_then(|seen| seen.good);
        let is_lately = |time: Timestamp| now.duration_since(time) < bounds::TRUST_LATELY;
        let why = match of_new.map(ShownTrust::verdict) {
            Some(AddressTrust::Refuses) => Holdup::RefusesNew,
            Some(AddressTrust::Mixed) => Holdup::MixedOnNew,
            Some(AddressTrust::Trusts) => return None,
            None if old_request.is_some_and(is_lately) => Holdup::OnlyOld,
            None => return None,
        };
        let (new_request, new_refusal) = of_new.map_or((None, None), |seen| (seen.good, seen.refused));
        Some(HeldUp { address, why, old_request, new_request, new_refusal })
    });
    held_up.collect()
}

/// Those that are left behind, and those that are not.
pub(crate) fn split(held_up: Vec<HeldUp>, despite: &[IpNet]) -> (Vec<HeldUp>, Vec<HeldUp>) {
    // Anybody in a tried network can refuse, and so hold a rotation up: who is a client is for people to say.
    held_up.into_iter().partition(|client| despite.iter().any(|network| network.contains(&client.address)))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn who_would_be_cut_off_holds_it_up_and_nobody_else() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 1000);
        let days = |days: i64| Some(now - SignedDuration::from_hours(24 * days));
        let seen = |last: u8, root: &str, good, refused| ShownTrust {
            address: IpAddr::from([10, 0, 0, last]),
            root: root.into(),
            good,
            refused,
        };
        let table = [
            seen(1, "new", None, days(1)),
            seen(2, "new", days(1), days(1)),
            seen(3, "old", days(29), None),
            seen(4, "old", days(31), None),
            seen(5, "old", days(1), None),
            seen(5, "new", days(2), days(9)),
            seen(6, "former", days(1), None),
            seen(7, "old", None, days(1)),
            // By a clock that was ahead.
            seen(8, "old", days(-5), None),
            seen(9, "old", days(1), None),
            seen(9, "new", days(9), days(2)),
        ];
        let found = held_up(&table, "old", "new", now);
        let found: Vec<(IpAddr, Holdup)> =
            found.into_iter().map(|client| (client.address, client.why)).collect();
        let expected = [
            (1, Holdup::RefusesNew),
            (2, Holdup::MixedOnNew),
            (3, Holdup::OnlyOld),
            (8, Holdup::OnlyOld),
            (9, Holdup::RefusesNew),
        ];
        assert_eq!(found, expected.map(|(last, why)| (IpAddr::from([10, 0, 0, last]), why)));
    }
}
