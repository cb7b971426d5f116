//! What repeats, folded by client: in each window so many of a client, and so many in all, stand by themselves, and the rest
//! are counted. So nobody can fill a disk with refusals, by varying ids or the addresses of a /64.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::bounds;
use crate::config::names::client;
use crate::ledger::record::Repeat;

/// The current window, of things of these kinds. A client is an IPv4 address, or the /64 of an IPv6 address.
#[derive(Debug)]
pub(crate) struct Fold<K> {
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
    pub(crate) whose: Whose,
}

/// Whose a count is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Whose {
    /// One address.
    Address(IpAddr),
    /// Several addresses of one /64, by the first of it.
    Network(IpAddr),
    /// Clients beyond the table.
    Others,
}

impl<K> Default for Fold<K> {
    fn default() -> Self {
        Self { single: 0, by_client: HashMap::new(), others: Vec::new() }
    }
}

impl<K: Copy + PartialEq> Fold<K> {
    /// Lets one stand by itself, if there is room for it and `write` does it; counts it otherwise.
    pub(crate) fn note(&mut self, kind: K, address: IpAddr, write: impl FnOnce() -> bool) {
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

    /// What was counted in this window.
    pub(crate) fn folded(&self) -> impl Iterator<Item = Folded<'_, K>> {
        let of_clients = self.by_client.values().flat_map(|tally| &tally.folded).map(|count| {
            let whose = if count.several {
                Whose::Network(client(count.address))
            } else {
                Whose::Address(count.address)
            };
            (count, whose)
        });
        let of_others = self.others.iter().map(|count| (count, Whose::Others));
        of_clients.chain(of_others).map(|(count, whose)| Folded {
            kind: count.kind,
            repeat: &count.repeat,
            whose,
        })
    }
}

impl Whose {
    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Address(_) => "this address",
            Self::Network(_) => "this network, a /64",
            Self::Others => "other addresses",
        }
    }
}

fn count<K: PartialEq>(folded: &mut Vec<Count<K>>, kind: K, address: IpAddr) {
    let now = Timestamp::now();
    match folded.iter_mut().find(|known| known.kind == kind) {
        Some(Count { repeat, address: first, several, .. }) => {
            repeat.count += 1;
            repeat.last = now;
            *several |= *first != address;
        }
        None => {
            let repeat = Repeat { count: 1, first: now, last: now };
            folded.push(Count { kind, repeat, address, several: false });
        }
    }
}
