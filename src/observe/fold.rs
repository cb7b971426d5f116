//! What repeats, folded by client: in each window so many of a client, and so many in all, stand by themselves, and the rest
//! are counted. All of it has a budget of bytes a day; once that is used up, all clients are counted together. So nobody can
//! fill a disk with refusals, by varying ids, addresses, or the addresses of a /64.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::bounds;
use crate::budget::Debt;
use crate::config::names::client;
use relay_log::ledger::qlik::Repeat;

/// What repeats, of these kinds. A client is an IPv4 address, or the /64 of an IPv6 address.
#[derive(Debug)]
pub(crate) struct Fold<K> {
    per_day: u64,
    budget: Debt,
    window: FoldWindow<K>,
}

#[derive(Debug)]
struct FoldWindow<K> {
    single: u64,
    by_client: HashMap<IpAddr, Tally<K>>,
    /// Those of clients beyond the table.
    others: Vec<Count<K>>,
}

#[derive(Debug)]
struct Tally<K> {
    single: u64,
    /// Few kinds, so a list.
    folded: Vec<Count<K>>,
}

#[derive(Debug)]
struct Count<K> {
    kind: K,
    repeat: Repeat,
    /// The first of its addresses, and whether there were others.
    address: IpAddr,
    several: bool,
}

/// What was counted of one kind.
#[derive(Debug)]
pub(crate) struct Folded<'a, K> {
    /// The kind.
    pub(crate) kind: K,
    /// How often, from when until when.
    pub(crate) repeat: &'a Repeat,
    /// Of whom.
    pub(crate) whose: FoldedClient,
}

/// Whose a count is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FoldedClient {
    /// One address.
    Address(IpAddr),
    /// Several addresses of one /64, by the first of it.
    Network(IpAddr),
    /// Clients beyond the table.
    Others,
}

impl<K> Default for FoldWindow<K> {
    fn default() -> Self {
        Self { single: 0, by_client: HashMap::new(), others: Vec::new() }
    }
}

impl<K: Copy + PartialEq> Fold<K> {
    /// With a budget of so many bytes a day.
    pub(crate) fn new(per_day: u64) -> Self {
        Self { per_day, budget: Debt::of_a_day(per_day), window: FoldWindow::default() }
    }

    /// Changes its budget; one that stays as it is goes on counting.
    pub(crate) fn set_budget(&mut self, per_day: u64) {
        if self.per_day != per_day {
            (self.per_day, self.budget) = (per_day, Debt::of_a_day(per_day));
        }
    }

    /// Lets one stand by itself, if there is room for it and `write` does it, with the bytes that it takes from the budget;
    /// counts it otherwise.
    pub(crate) fn note(&mut self, kind: K, address: IpAddr, write: impl FnOnce(&Debt) -> bool) {
        let Self { window, budget, .. } = self;
        window.note(kind, address, || write(budget));
    }

    /// Writes what was counted, each as `make` makes it and says how many bytes that has, and starts the next window. What
    /// can't be written is counted on. Clients for which the budget has no room are counted together; that is written anyway.
    pub(crate) fn flush<T>(
        &mut self,
        make: impl Fn(Folded<'_, K>) -> (T, u64),
        write: impl FnOnce(Vec<T>) -> bool,
    ) {
        let Self { window, budget, .. } = self;
        let (mut all, mut taken) = (Vec::new(), 0);
        window.join(|folded| {
            let (made, bytes) = make(folded);
            let has_room = budget.take(bytes).is_ok();
            if has_room {
                taken += bytes;
                all.push(made);
            }
            has_room
        });
        all.extend(window.others.iter().map(|count| make(count.of(FoldedClient::Others)).0));
        if all.is_empty() || write(all) {
            *window = FoldWindow::default();
        } else {
            budget.settle(taken, 0);
        }
    }
}

impl<K: Copy + PartialEq> FoldWindow<K> {
    fn note(&mut self, kind: K, address: IpAddr, write: impl FnOnce() -> bool) {
        let client = client(address);
        let known = self.by_client.len() < bounds::REFUSAL_ADDRESSES || self.by_client.contains_key(&client);
        if !known {
            return count(&mut self.others, kind, address);
        }
        let room = self.single < bounds::REFUSALS;
        let new = || Tally { single: 0, folded: Vec::new() };
        let tally = self.by_client.entry(client).or_insert_with(new);
        if room && tally.single < bounds::REFUSALS_PER_ADDRESS && write() {
            tally.single += 1;
            self.single += 1;
        } else {
            count(&mut tally.folded, kind, address);
        }
    }

    /// Counts those together that have no room of their own.
    fn join(&mut self, mut has_room: impl FnMut(Folded<'_, K>) -> bool) {
        let Self { by_client, others, .. } = self;
        for tally in by_client.values_mut() {
            tally.folded.retain(|count| {
                let has_room = has_room(count.of_client());
                if !has_room {
                    add(others, count);
                }
                has_room
            });
        }
    }
}

impl<K: Copy> Count<K> {
    fn of_client(&self) -> Folded<'_, K> {
        self.of(match self.several {
            true => FoldedClient::Network(client(self.address)),
            false => FoldedClient::Address(self.address),
        })
    }

    fn of(&self, whose: FoldedClient) -> Folded<'_, K> {
        Folded { kind: self.kind, repeat: &self.repeat, whose }
    }
}

impl FoldedClient {
    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Address(_) => "this address",
            Self::Network(_) => "this network, a /64",
            Self::Others => "other addresses",
        }
    }
}

fn count<K: Copy + PartialEq>(folded: &mut Vec<Count<K>>, kind: K, address: IpAddr) {
    let now = Timestamp::now();
    let repeat = Repeat { count: 1, first: now, last: now };
    add(folded, &Count { kind, repeat, address, several: false });
}

fn add<K: Copy + PartialEq>(folded: &mut Vec<Count<K>>, new: &Count<K>) {
    match folded.iter_mut().find(|known| known.kind == new.kind) {
        Some(Count { repeat, address, several, .. }) => {
            repeat.count += new.repeat.count;
            repeat.first = repeat.first.min(new.repeat.first);
            repeat.last = repeat.last.max(new.repeat.last);
            *several |= new.several || *address != new.address;
        }
        None => folded.push(Count { repeat: new.repeat.clone(), ..*new }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    #[test]
    fn refusals_of_many_addresses_take_no_more_than_the_budget_and_none_is_lost() {
        const BYTES: u64 = 500;
        let mut fold = Fold::new(200 * 1000);
        let (mut written, mut told) = (0, 0);
        for _ in 0..3 {
            for n in (0..2000).chain(0..2000) {
                fold.note("denied", address(n), |budget| {
                    let stands = budget.take(BYTES).is_ok();
                    (written, told) = (written + u64::from(stands) * BYTES, told + u64::from(stands));
                    stands
                });
            }
            let mut others = Vec::new();
            fold.flush(
                |folded| ((folded.repeat.count, folded.whose), BYTES),
                |counts| {
                    for (count, whose) in counts {
                        told += count;
                        match whose {
                            FoldedClient::Others => others.push(count),
                            _ => written += BYTES,
                        }
                    }
                    true
                },
            );
            assert_eq!(others.len(), 1, "one count of all that had no room: {others:?}");
        }
        assert!(written <= 100 * 1000 && written > 90 * 1000, "half of a day's budget at once: {written}");
        assert_eq!(told, 3 * 4000, "each is told once");
    }

    #[test]
    fn what_could_not_be_written_is_counted_on_and_takes_nothing_from_the_budget() {
        let mut fold = Fold::new(2000);
        fold.note("denied", address(1), |_| false);
        fold.flush(|_| ((), 900), |_| false);
        fold.note("denied", address(1), |_| false);
        let mut counts = Vec::new();
        fold.flush(
            |folded| ((folded.repeat.count, folded.whose), 900),
            |all| {
                counts = all;
                true
            },
        );
        assert_eq!(counts, [(2, FoldedClient::Address(address(1)))]);
    }

    #[test]
    fn a_budget_that_stays_as_it_is_goes_on_counting_over_a_reload() {
        let mut fold = Fold::new(2000);
        let note = |fold: &mut Fold<_>| {
            let mut stands = false;
            fold.note("denied", address(1), |budget| {
                stands = budget.take(600).is_ok();
                stands
            });
            stands
        };
        assert!(note(&mut fold) && !note(&mut fold));
        fold.set_budget(2000);
        assert!(!note(&mut fold));
        fold.set_budget(4000);
        assert!(note(&mut fold));
    }
}
