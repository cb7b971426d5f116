//! The memory that bodies take, as one sum that the configuration names: `limits.all_bodies`.
//!
//! It is divided once, and each part has an account of its own. *Reading* is what a place of the
//! [heavy work](crate::exchange::heavy_work) takes while a body is decoded and parsed, at most [`bounds::READING`]; it needs no account,
//! since there are so many places for that work. *Bodies* are those of requests, from their first byte until the back end has
//! replied. *Messages* are what was understood of them, kept as long. *Replies* are those of the back end and what they
//! tell, until the client has the one and the log has the other.
//!
//! # Nobody waits for ever
//!
//! A request takes bodies while it arrives, then messages, in one step, for the most that its message can take; the rest is
//! given back once it is read. Its reply takes replies, in one step as well. Each of these is waited for with a deadline
//! and without a place for heavy work, and the holder of a place waits for nothing. So what is held is given back without any
//! memory of the same part or of an earlier one: a message waits for a reply and a reply for the log, heavy work and its client,
//! never the other way round. Bodies alone are taken piece by piece as they arrive, which is why a part of its own is
//! theirs: bodies that are half there can keep each other waiting until the deadline, but no message and no reply.
//!
//! # Nobody takes it from others
//!
//! A client has at most its share of a part: a quarter, or the dearest single thing where that is more. What is long waits in
//! two lines: one for each client, whose head waits for the client's own share, and one of these heads, in the order in
//! which they came, for memory. What is small passes by, and the last eighth of each part is for it alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::body_cost::{self, message, reply, with_room};
use crate::bounds;
use crate::config::model::{Config, Limits};
use crate::config::names::client;
use crate::turns::Turns;
use relay_log::threads;

/// How `limits.all_bodies` is divided, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Parts {
    /// Bodies that may be read at one time.
    pub places: u64,
    bodies: MemoryPart,
    messages: MemoryPart,
    replies: MemoryPart,
}

/// One part of the memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct MemoryPart {
    /// All of it.
    most: u64,
    /// What one client may have.
    share: u64,
}

/// The memory for bodies.
#[derive(Debug)]
pub struct Memory {
    /// Places for heavy work, as many as there were at the start.
    places: u64,
    /// What arrives.
    pub bodies: Account,
    /// What was understood of it.
    pub messages: Account,
    /// What comes back.
    pub replies: Account,
}

/// The account of one part.
#[derive(Clone, Debug)]
pub struct Account(Arc<SharedAccount>);

#[derive(Debug)]
struct SharedAccount {
    /// Up to this many bytes are small.
    small: u64,
    taken: Mutex<TakenBytes>,
    given_back: Notify,
    /// Its holder is the next that gets memory for something long.
    line: Semaphore,
    /// A line for each client.
    lines: Turns,
}

#[derive(Debug)]
struct TakenBytes {
    part: MemoryPart,
    sum: u64,
    by_client: HashMap<IpAddr, u64>,
}

/// A piece of the memory, given back when it is dropped.
#[derive(Debug)]
pub struct MemoryShare {
    account: Account,
    client: IpAddr,
    /// What counts in the client's share.
    shared: u64,
    /// What counts in the sum; as much, but for one that waits for it.
    bytes: u64,
}

impl Parts {
    /// Divides `limits.all_bodies`, which is no less than the [least](body_cost::least) in any configuration.
    pub fn of(config: &Config) -> Self {
        Self::among(config, threads::spare_processors() as u64)
    }

    /// The same for so many places at most. What is left beyond the least goes to all parts alike, and what is no whole
    /// place to the bodies.
    fn among(config: &Config, places: u64) -> Self {
        let least = body_cost::least(config.limits.max_body, config.licensing.vocabularies());
        let spare = config.limits.all_bodies.saturating_sub(least);
        Self::with(config, (1 + spare / 4 / bounds::READING).min(places))
    }

    /// The same for exactly so many places.
    fn with(config: &Config, places: u64) -> Self {
        let Limits { max_body, all_bodies, .. } = config.limits;
        let vocabularies = config.licensing.vocabularies();
        let least = body_cost::least(max_body, vocabularies) + (places - 1) * bounds::READING;
        let spare = all_bodies.saturating_sub(least);
        let part =
            |most: u64, dearest: u64| MemoryPart { most, share: dearest.max(most / bounds::BODIES_SHARE) };
        let more = spare / 4;
        let (message, reply) = (message(vocabularies), reply(vocabularies));
        let bodies = match all_bodies < least {
            // It bounds what arrives, and nothing else: the rest is what a single body needs.
            true => all_bodies,
            false => with_room(max_body) + spare - 2 * more,
        };
        Self {
            places,
            bodies: part(bodies, max_body),
            messages: part(with_room(message) + more, message),
            replies: part(with_room(reply) + more, reply),
        }
    }

    /// All parts together: `limits.all_bodies`, or more where that is less than the least.
    pub fn sum(&self) -> u64 {
        let Self { places, bodies, messages, replies } = self;
        places * bounds::READING + bodies.most + messages.most + replies.most
    }
}

impl Memory {
    /// All of it, free.
    pub fn new(parts: Parts) -> Self {
        let Parts { places, bodies, messages, replies } = parts;
        Self {
            places,
            bodies: Account::new(bodies, bounds::QUICK_BODY as u64),
            messages: Account::new(messages, bounds::SMALL_MEMORY),
            replies: Account::new(replies, bounds::SMALL_MEMORY),
        }
    }

    /// Gives more or less from now on. What is held already stays, and so do the places for heavy work.
    pub fn resize(&self, config: &Config) {
        let parts = Parts::with(config, self.places);
        self.bodies.resize(parts.bodies);
        self.messages.resize(parts.messages);
        self.replies.resize(parts.replies);
    }
}

impl Account {
    fn new(part: MemoryPart, small: u64) -> Self {
        let taken = TakenBytes { part, sum: 0, by_client: HashMap::new() };
        Self(Arc::new(SharedAccount {
            small,
            taken: Mutex::new(taken),
            given_back: Notify::new(),
            line: Semaphore::new(1),
            lines: Turns::default(),
        }))
    }

    fn resize(&self, part: MemoryPart) {
        self.lock().part = part;
        self.0.given_back.notify_waiters();
    }

    /// Nothing yet, for the client of an address.
    pub fn hold(&self, address: IpAddr) -> MemoryShare {
        MemoryShare { account: self.clone(), client: client(address), shared: 0, bytes: 0 }
    }

    /// Takes so many bytes in one step, for the client of an address. `None` where they are not there by then.
    pub async fn take(&self, address: IpAddr, bytes: u64, deadline: Instant) -> Option<MemoryShare> {
        let mut held = self.hold(address);
        if bytes <= self.0.small {
            held.grow_to(bytes, deadline).await.then_some(held)
        } else {
            timeout_at(deadline, held.in_line(bytes)).await.ok()?;
            Some(held)
        }
    }

    /// Waits until something could be taken.
    async fn until(&self, mut took: impl FnMut(&mut TakenBytes) -> bool) {
        loop {
            let mut given_back = std::pin::pin!(self.0.given_back.notified());
            given_back.as_mut().enable();
            if took(&mut self.lock()) {
                return;
            }
            given_back.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, TakenBytes> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TakenBytes {
    /// Counts more for a client, within its share.
    fn share(&mut self, client: IpAddr, more: u64) -> bool {
        let of_client = self.by_client.get(&client).copied().unwrap_or(0);
        let fits = of_client.saturating_add(more) <= self.part.share;
        if fits && more > 0 {
            self.by_client.insert(client, of_client + more);
        }
        fits
    }

    /// Counts more, within all of it; what is long leaves room to what is small.
    fn add(&mut self, more: u64, is_long: bool) -> bool {
        let room = if is_long { self.part.most / bounds::SMALL_SHARE } else { 0 };
        let fits = self.sum.saturating_add(more) <= self.part.most - room;
        if fits {
            self.sum += more;
        }
        fits
    }

    fn give_back(&mut self, client: IpAddr, shared: u64, bytes: u64) {
        self.sum -= bytes;
        if let Some(held) = self.by_client.get_mut(&client) {
            *held -= shared;
            if *held == 0 {
                self.by_client.remove(&client);
            }
        }
    }
}

impl MemoryShare {
    /// Takes more, until there are so many bytes in all; `false` where it is not there by then. Whoever needs little is not
    /// kept waiting by one who needs much.
    pub async fn grow_to(&mut self, bytes: u64, deadline: Instant) -> bool {
        let account = self.account.clone();
        let took = account.until(|taken| {
            let more = bytes.saturating_sub(self.bytes);
            let fits = taken.share(self.client, more);
            if fits && taken.add(more, bytes > account.0.small) {
                (self.shared, self.bytes) = (self.shared + more, self.bytes + more);
                return true;
            }
            if fits && more > 0 {
                taken.give_back(self.client, more, 0);
            }
            false
        });
        timeout_at(deadline, took).await.is_ok()
    }

    /// Takes so many bytes, after all that its client asked for before, and then after the clients that came before.
    async fn in_line(&mut self, bytes: u64) {
        let account = self.account.clone();
        let line = account.0.lines.of(self.client);
        let _line = line.acquire().await;
        account.until(|taken| taken.share(self.client, bytes)).await;
        self.shared = bytes;
        let _head = account.0.line.acquire().await;
        account.until(|taken| taken.add(bytes, true)).await;
        self.bytes = bytes;
    }

    /// Gives back what is more than so many bytes.
    pub fn shrink_to(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        if less > 0 {
            (self.shared, self.bytes) = (self.shared - less, self.bytes - less);
            self.account.lock().give_back(self.client, less, less);
            self.account.0.given_back.notify_waiters();
        }
    }

    /// Splits off this many of its bytes, to be given back apart from the rest.
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        (self.shared, self.bytes) = (self.shared - bytes, self.bytes - bytes);
        Self { account: self.account.clone(), client: self.client, shared: bytes, bytes }
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        if self.shared > 0 {
            self.account.lock().give_back(self.client, self.shared, self.bytes);
            self.account.0.given_back.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::file;

    fn account(most: u64, share: u64) -> Account {
        Account::new(MemoryPart { most, share }, 10)
    }

    async fn take(account: &Account, address: &str, bytes: u64) -> Option<MemoryShare> {
        account.take(address.parse().unwrap(), bytes, Instant::now() + bounds::BODY_MEMORY).await
    }

    fn config(all_bodies: u64, max_body: u64) -> Config {
        let text = format!("[limits]\nall_bodies = {all_bodies}\nmax_body = {max_body}\n");
        file::parse(&text, "/nowhere/relay.toml".as_ref()).unwrap().0
    }

    #[test]
    fn the_parts_are_all_of_the_memory_and_each_has_room_for_the_dearest() {
        for (all_bodies, max_body) in [(256 << 20, 64 << 20), (2 << 30, 64 << 20), (64 << 30, 1)] {
            for places in [1, 3, 64] {
                let parts = Parts::among(&config(all_bodies, max_body), places);
                assert_eq!(parts.sum(), all_bodies);
                let Parts { bodies, messages, replies, .. } = parts;
                for (part, dearest) in [(bodies, max_body), (messages, message(1)), (replies, reply(1))] {
                    assert!(part.share >= dearest && part.share <= part.most, "{part:?}");
                    assert!(part.most - part.most / bounds::SMALL_SHARE >= dearest, "{part:?}");
                }
            }
        }
        let least = body_cost::least(1 << 20, 1);
        let parts = Parts::among(&config(least, 1 << 20), 8);
        assert_eq!((parts.sum(), parts.places), (least, 1));
    }

    #[test]
    fn less_than_the_least_bounds_what_arrives_and_the_sum_says_what_is_taken_all_the_same() {
        let parts = Parts::among(&config(4 << 20, 1 << 20), 8);
        assert_eq!((parts.bodies.most, parts.bodies.share), (4 << 20, 1 << 20));
        assert!(parts.messages.share >= message(1) && parts.replies.share >= reply(1));
        assert_eq!(parts.sum(), body_cost::least(1 << 20, 1) - with_room(1 << 20) + (4 << 20));
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_has_its_share_and_gives_back_what_it_held() {
        let account = account(400, 100);
        let mut one = take(&account, "2001:db8::1", 60).await.unwrap();
        assert!(take(&account, "2001:db8::2", 41).await.is_none(), "a /64 is one machine");
        let same_machine = take(&account, "2001:db8::2", 40).await.unwrap();
        let mut others = Vec::new();
        for n in 1..4 {
            others.push(take(&account, &format!("10.0.0.{n}"), 80).await.unwrap());
        }
        assert!(take(&account, "10.0.0.9", 11).await.is_none(), "what is left is for what is small");
        let small = take(&account, "10.0.0.9", 10).await.unwrap();
        drop(others.pop());
        let last = take(&account, "10.0.0.9", 80).await.unwrap();
        let part = one.split(50);
        one.shrink_to(5);
        assert_eq!(account.lock().sum, 5 + 50 + 40 + 160 + 10 + 80);
        drop((one, part, same_machine, others, small, last));
        let left = account.lock();
        assert_eq!((left.sum, left.by_client.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_long_waits_behind_its_own_client_and_small_things_pass_by() {
        let account = account(160, 80);
        let first = take(&account, "10.0.0.1", 80).await.unwrap();
        let waiting = |address: &'static str, bytes| {
            let account = account.clone();
            tokio::spawn(async move { take(&account, address, bytes).await })
        };
        // A client with many waits for its own share: it holds up nobody.
        let many: Vec<_> = (0..5).map(|_| waiting("10.0.0.1", 80)).collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut other = take(&account, "10.0.0.2", 60).await.unwrap();
        assert!(take(&account, "10.0.0.3", 10).await.is_some());
        // By now the many have waited for as long as they may.
        for one in many {
            assert!(one.await.unwrap().is_none());
        }
        // Those who wait for memory have it in the order in which they came, however much each needs.
        let much = waiting("10.0.0.3", 80);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let little = waiting("10.0.0.4", 20);
        tokio::time::sleep(Duration::from_millis(1)).await;
        other.shrink_to(20);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!much.is_finished() && !little.is_finished());
        drop(first);
        let much = much.await.unwrap().unwrap();
        assert!(little.await.unwrap().is_some());
        drop((much, other));
        assert_eq!(account.lock().sum, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_grows_as_long_as_there_is_room_in_its_share() {
        let account = account(100, 80);
        let mut body = account.hold([10, 0, 0, 1].into());
        let due = || Instant::now() + bounds::BODY_MEMORY;
        assert!(body.grow_to(60, due()).await && body.grow_to(80, due()).await);
        let mut second = account.hold([10, 0, 0, 1].into());
        assert!(!second.grow_to(1, due()).await);
        let later = tokio::spawn(async move { second.grow_to(80, due()).await.then_some(second) });
        tokio::time::sleep(bounds::BODY_MEMORY / 2).await;
        let mut small = account.hold([10, 0, 0, 2].into());
        assert!(small.grow_to(5, due()).await);
        drop(body);
        assert_eq!(later.await.unwrap().map(|held| held.bytes), Some(80));
    }
}
