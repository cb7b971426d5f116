//! How often, and how much: GCRA limiters from `governor` for the requests of client addresses and of the entries of the
//! allow-list, what an entry owes for the records that its requests cause, and its budget of log bytes a day.
//!
//! This module hides where a count lives. Outside it there are a rate, what a request counts for ([`CountedFor`] or an
//! address), and the answer: pass, or wait so long. A count that several relays share (GCRA in Redis, say) fits behind
//! the two `check`, whose callers are all in async code, and what is here is then what it falls back to.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

use crate::bounds;
use crate::budget::{Debt, Room};
use crate::config::model::{Rate, SourceRate};
pub use crate::config::names::client;
use relay_log::names::LicenseNumber;

/// What counts the requests of one entry.
#[derive(Debug)]
pub struct EntryLimits {
    /// The rate that each of its limiters counts by.
    pub rate: SourceRate,
    proven: SourceLimiter,
    unproven: Limiters<IpAddr, SourceLimiter>,
    activations: Limiters<(Option<LicenseNumber>, IpAddr), SourceLimiter>,
    proven_log: Arc<Debt>,
    /// Activations and syncs of an address together.
    unproven_log: Limiters<IpAddr, Arc<Debt>>,
}

/// What an entry has used up, and the wait until there is more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limited {
    /// Its requests.
    Requests(Duration),
    /// Its records.
    Records(Duration),
    /// Its bytes of the log.
    Log(Duration),
    /// Those of strangers, whom no entry lets in.
    StrangersLog(Duration),
}

/// What a request that an entry lets in counts for.
#[derive(Clone, Copy, Debug)]
pub enum CountedFor<'a> {
    /// The deployment itself: a network or user of the entry proves it.
    Proven,
    /// Whoever is at this address: ids and license numbers are no secrets, and no stranger may use up the
    /// deployment's share.
    Address(IpAddr),
    /// An activation of this license, if the entry lists it, from this address. Counted apart, so that activations
    /// starve no syncs, nor syncs activations.
    Activation(Option<&'a LicenseNumber>, IpAddr),
}

impl EntryLimits {
    /// Creates limiters with their full burst available.
    pub fn new(rate: SourceRate) -> Self {
        Self {
            rate,
            proven: SourceLimiter::new(rate),
            unproven: Limiters::new(rate, bounds::ADDRESSES_PER_SOURCE, Keep::ByStanding),
            activations: Limiters::new(rate, bounds::ADDRESSES_PER_SOURCE, Keep::ByStanding),
            proven_log: Arc::new(Debt::of_a_day(rate.log_per_day)),
            unproven_log: Limiters::new(rate.log_per_day, bounds::ADDRESSES_PER_SOURCE, Keep::ByStanding),
        }
    }

    /// Takes one request, that has so many records, and reserves room for what it may write. The log counts by the address
    /// that it comes from, unless a network or user of the entry proves it.
    ///
    /// # Errors
    /// There is none to take, or not so many, or no room.
    pub fn check(
        &self,
        whose: CountedFor<'_>,
        unproven: Option<IpAddr>,
        records: usize,
    ) -> Result<Room, Limited> {
        let room = Room::reserve(room_for(records), &[&self.log_of(unproven)]).map_err(Limited::Log)?;
        self.count(whose, records)?;
        Ok(room)
    }

    /// Room for one request that must not be turned away; what it writes is owed.
    pub(super) fn owe(&self, unproven: Option<IpAddr>) -> Room {
        Room::of(&self.log_of(unproven))
    }

    fn log_of(&self, unproven: Option<IpAddr>) -> Arc<Debt> {
        match unproven {
            Some(address) => self.unproven_log.check(client(address), Arc::clone),
            None => Arc::clone(&self.proven_log),
        }
    }

    fn count(&self, whose: CountedFor<'_>, records: usize) -> Result<(), Limited> {
        match whose {
            CountedFor::Proven => self.proven.check(records),
            CountedFor::Address(address) => {
                self.unproven.check(client(address), |limiter| limiter.check(records))
            }
            CountedFor::Activation(license, address) => {
                let key = (license.cloned(), client(address));
                self.activations.check(key, |limiter| limiter.check(records))
            }
        }
    }
}

/// The limits of strangers, whom no entry lets in: for each client address, and their share of the log in all.
#[derive(Debug)]
pub struct StrangerLimits {
    /// The rate that each counts by.
    pub rate: StrangerRate,
    by_address: Limiters<IpAddr, StrangerLimiter>,
    log: Arc<Debt>,
}

/// What a stranger may cause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StrangerRate {
    /// Its records, as of a source.
    pub source: SourceRate,
    /// Bytes of the log in a day, of all strangers.
    pub log_per_day: u64,
}

impl StrangerLimits {
    /// Nobody owes anything.
    pub fn new(rate: StrangerRate) -> Self {
        Self {
            rate,
            by_address: Limiters::new(rate, bounds::LIMITED_ADDRESSES, Keep::UntilRefilled),
            log: Arc::new(Debt::of_a_day(rate.log_per_day)),
        }
    }

    /// Takes so many records of this address, and reserves room for what is written of them.
    ///
    /// # Errors
    /// There are not so many to take, or no room; the wait until there is.
    pub fn check(&self, address: IpAddr, records: usize) -> Result<Room, Limited> {
        self.by_address.check(client(address), |limiter| {
            let room = Room::reserve(room_for(records), &[&limiter.log, &self.log]);
            let room = room.map_err(Limited::StrangersLog)?;
            limiter.records.take(records as u64).map_err(Limited::Records)?;
            Ok(room)
        })
    }
}

/// Bytes that an exchange may write which has so many records before it is sent: these, and as many once it is answered, with
/// a head of their own.
fn room_for(records: usize) -> u64 {
    let records = records as u64;
    let told = records.saturating_add(1).saturating_mul(bounds::RECORD_TOLD);
    records.saturating_mul(bounds::RECORD_ASKED).saturating_add(told)
}

/// One limiter for each client address.
#[derive(Debug)]
pub struct AddressLimits(Limiters<IpAddr, Limiter>);

impl AddressLimits {
    /// Creates limiters with their full burst available.
    pub fn new(rate: Rate) -> Self {
        Self(Limiters::new(rate, bounds::LIMITED_ADDRESSES, Keep::UntilRefilled))
    }

    /// The rate that each counts by.
    pub fn rate(&self) -> Rate {
        self.0.rate
    }

    /// Takes one request of this address.
    ///
    /// # Errors
    /// There is none to take; the wait until there is.
    pub fn check(&self, address: IpAddr) -> Result<(), Duration> {
        self.0.check(client(address), Limiter::check)
    }
}

/// A limiter for each of at most so many keys. A further key takes a place that its holder has lost; where there is none,
/// all further keys share one limiter.
#[derive(Debug)]
struct Limiters<K, L: CountsByRate> {
    rate: L::Rate,
    most: usize,
    keep: Keep,
    table: Mutex<LimiterTable<K, L>>,
}

/// What counts by a rate.
trait CountsByRate {
    type Rate: Copy + std::fmt::Debug;

    fn new(rate: Self::Rate) -> Self;

    /// Whether it is as good as a new one. Asking may use up one that is, so only one that is dropped then is asked.
    fn is_full(&self, rate: Self::Rate) -> bool;
}

/// When the holder of a place in a full table loses it.
#[derive(Clone, Copy, Debug)]
enum Keep {
    /// Once its limiter has refilled, which is as good as a new one.
    UntilRefilled,
    /// Not before it has been silent for a time, which is longer for one that has come for long. So those who have learned
    /// an id can't push the deployment out of its place while it waits for its next sync.
    ByStanding,
}

#[derive(Debug)]
struct LimiterTable<K, L> {
    known: HashMap<K, TableEntry<L>>,
    others: Option<L>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct TableEntry<L> {
    limiter: L,
    first: Instant,
    last: Instant,
}

impl<L: CountsByRate> TableEntry<L> {
    fn new(rate: L::Rate) -> Self {
        let now = Instant::now();
        Self { limiter: L::new(rate), first: now, last: now }
    }

    fn is_lost(&self, keep: Keep, rate: L::Rate) -> bool {
        let stays = match keep {
            Keep::UntilRefilled => Duration::ZERO,
            Keep::ByStanding if self.last - self.first >= bounds::PLACE_STANDING => bounds::PLACE_KEPT,
            Keep::ByStanding => bounds::PLACE_SILENT,
        };
        self.last.elapsed() >= stays && self.limiter.is_full(rate)
    }
}

impl<K: Eq + Hash, L: CountsByRate> Limiters<K, L> {
    fn new(rate: L::Rate, most: usize, keep: Keep) -> Self {
        let table = LimiterTable { known: HashMap::new(), others: None, swept: None };
        Self { rate, most, keep, table: Mutex::new(table) }
    }

    /// What `check` says of the limiter of this key.
    fn check<T>(&self, key: K, check: impl FnOnce(&L) -> T) -> T {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let LimiterTable { known, others, swept } = &mut *table;
        if let Some(place) = known.get_mut(&key) {
            place.last = Instant::now();
            return check(&place.limiter);
        }
        // Not at every request: whoever comes from ever new addresses must not make each of them dear.
        if known.len() >= self.most && swept.is_none_or(|at| at.elapsed() >= bounds::LIMITER_SWEEP) {
            *swept = Some(Instant::now());
            known.retain(|_, place| !place.is_lost(self.keep, self.rate));
        }
        match known.len() < self.most {
            true => check(&known.entry(key).or_insert_with(|| TableEntry::new(self.rate)).limiter),
            false => check(others.get_or_insert_with(|| L::new(self.rate))),
        }
    }
}

#[derive(Debug)]
struct Limiter(DefaultDirectRateLimiter);

impl CountsByRate for Limiter {
    type Rate = Rate;

    fn new(rate: Rate) -> Self {
        Self(RateLimiter::direct(quota(rate)))
    }

    fn is_full(&self, rate: Rate) -> bool {
        matches!(self.0.check_n(rate.burst), Ok(Ok(())))
    }
}

impl Limiter {
    fn check(&self) -> Result<(), Duration> {
        self.0.check().map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }
}

/// Requests, and the records that they cause.
#[derive(Debug)]
struct SourceLimiter {
    requests: Limiter,
    records: Debt,
}

impl CountsByRate for SourceLimiter {
    type Rate = SourceRate;

    fn new(rate: SourceRate) -> Self {
        Self { requests: Limiter::new(rate.requests), records: records_of(rate) }
    }

    fn is_full(&self, rate: SourceRate) -> bool {
        self.records.is_paid() && self.requests.is_full(rate.requests)
    }
}

impl SourceLimiter {
    fn check(&self, records: usize) -> Result<(), Limited> {
        self.requests.check().map_err(Limited::Requests)?;
        self.records.take(records as u64).map_err(Limited::Records)
    }
}

/// The records of those whom no entry lets in, and the part of their log that one address may fill.
#[derive(Debug)]
struct StrangerLimiter {
    records: Debt,
    log: Arc<Debt>,
}

impl CountsByRate for StrangerLimiter {
    type Rate = StrangerRate;

    fn new(StrangerRate { source, log_per_day }: StrangerRate) -> Self {
        let log = Arc::new(Debt::of_a_day(log_per_day / bounds::STRANGER_SHARE));
        Self { records: records_of(source), log }
    }

    fn is_full(&self, _: StrangerRate) -> bool {
        self.records.is_paid() && self.log.is_paid()
    }
}

/// A budget of so many bytes a day.
impl CountsByRate for Arc<Debt> {
    type Rate = u64;

    fn new(log_per_day: u64) -> Self {
        Self::new(Debt::of_a_day(log_per_day))
    }

    fn is_full(&self, _: u64) -> bool {
        self.is_paid()
    }
}

fn records_of(SourceRate { requests, records, .. }: SourceRate) -> Debt {
    Debt::new(records.get().into(), requests.per)
}

/// `requests` in `per`, and `burst` at once. The configuration has checked that the period is not zero; should it
/// be, one request a second is the safe reading.
fn quota(rate: Rate) -> Quota {
    Quota::with_period(rate.per / rate.requests.get())
        .unwrap_or(Quota::per_second(std::num::NonZeroU32::MIN))
        .allow_burst(rate.burst)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn rate(requests: u32, per: Duration, burst: u32) -> Rate {
        Rate { requests: NonZeroU32::new(requests).unwrap(), per, burst: NonZeroU32::new(burst).unwrap() }
    }

    /// One request in an hour: within a test nothing refills.
    fn hourly() -> Rate {
        rate(1, Duration::from_secs(3600), 1)
    }

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    #[test]
    fn a_burst_passes_and_the_next_one_is_told_how_long_to_wait() {
        let limits = AddressLimits::new(rate(6, Duration::from_secs(60), 3));
        for _ in 0..3 {
            limits.check(address(1)).unwrap();
        }
        let wait = limits.check(address(1)).unwrap_err();
        assert!(wait > Duration::from_secs(8) && wait <= Duration::from_secs(10), "{wait:?}");
    }

    #[test]
    fn no_stranger_uses_up_the_share_of_another_address_and_strangers_beyond_the_table_share_one() {
        let limits = EntryLimits::new(SourceRate::new(hourly(), None));
        let check = |n| limits.check(CountedFor::Address(address(n)), Some(address(n)), 1).is_ok();
        let most = u32::try_from(bounds::ADDRESSES_PER_SOURCE).unwrap();
        assert!((0..most).all(check), "each has a share of its own");
        assert!(check(most), "the first of the others has theirs");
        assert!((most..1000).all(|n| !check(n)), "and there is no more of it");
        assert!((0..most).all(|n| !check(n)), "nobody's share has grown");
        assert_eq!(limits.unproven.table.lock().unwrap().known.len(), bounds::ADDRESSES_PER_SOURCE);
        assert!(
            limits.check(CountedFor::Proven, None, 1).is_ok(),
            "whoever proves to be the deployment has its own"
        );
        assert!(limits.check(CountedFor::Proven, None, 1).is_err());
    }

    #[test]
    fn a_further_address_takes_the_place_of_one_that_has_refilled() {
        let limits =
            Limiters::<_, Limiter>::new(rate(1, Duration::from_millis(5), 1), 2, Keep::UntilRefilled);
        assert!(limits.check(1, Limiter::check).is_ok() && limits.check(2, Limiter::check).is_ok());
        std::thread::sleep(Duration::from_millis(20));
        assert!(limits.check(3, Limiter::check).is_ok());
        let table = limits.table.lock().unwrap();
        assert!(table.known.contains_key(&3) && table.known.len() < 3 && table.others.is_none());
    }

    #[test]
    fn one_that_has_not_refilled_keeps_its_place() {
        let limits =
            Limiters::<_, Limiter>::new(rate(2, Duration::from_secs(7200), 2), 1, Keep::UntilRefilled);
        assert!(limits.check(1, Limiter::check).is_ok());
        assert!(
            limits.check(2, Limiter::check).is_ok()
                && limits.check(2, Limiter::check).is_ok()
                && limits.check(2, Limiter::check).is_err()
        );
        assert!(limits.check(1, Limiter::check).is_ok() && limits.check(1, Limiter::check).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_come_for_long_keeps_its_place_from_those_who_have_learned_its_id() {
        let rate = rate(1, Duration::from_millis(5), 1);
        let limits = Limiters::<_, Limiter>::new(rate, 2, Keep::ByStanding);
        let has_place = |key| limits.table.lock().unwrap().known.contains_key(&key);
        let come = async |key, after| {
            // Limiters count by the clock of the machine, which is not paused.
            std::thread::sleep(Duration::from_millis(10));
            tokio::time::advance(after).await;
            let _ = limits.check(key, Limiter::check);
        };
        let moment = Duration::from_secs(2);
        come(1, Duration::ZERO).await;
        come(2, moment).await;
        come(3, moment).await;
        assert!(has_place(1) && has_place(2) && !has_place(3), "a place is kept from a sync to the next");
        // The first one comes for days, the second one no more.
        for _ in 0..60 {
            come(1, Duration::from_secs(1500)).await;
        }
        come(3, moment).await;
        assert!(has_place(1) && !has_place(2) && has_place(3));
        come(4, bounds::PLACE_KEPT - moment * 2).await;
        assert!(has_place(1) && has_place(4), "who has come for long may be silent for a while");
        come(5, moment * 2).await;
        assert!(!has_place(1) && has_place(5), "and not for ever");
    }

    #[test]
    fn activations_and_syncs_of_one_address_starve_each_other_neither_way() {
        let limits = EntryLimits::new(SourceRate::new(hourly(), None));
        let license: LicenseNumber = "9999000000001253".parse().unwrap();
        let sync = || limits.check(CountedFor::Address(address(1)), Some(address(1)), 1).is_ok();
        let activation =
            |license| limits.check(CountedFor::Activation(license, address(1)), Some(address(1)), 1).is_ok();
        assert!(activation(Some(&license)) && !activation(Some(&license)));
        assert!(sync() && !sync());
        assert!(activation(None), "another license has its own");
        let other = limits.check(CountedFor::Activation(Some(&license), address(2)), Some(address(2)), 1);
        assert!(other.is_ok(), "and so has another address");
    }

    #[test]
    fn ever_new_addresses_grow_no_table_and_take_nothing_from_known_ones() {
        let limits = AddressLimits::new(rate(1, Duration::from_secs(3600), 2));
        assert!(limits.check(address(0)).is_ok());
        let most = u32::try_from(bounds::LIMITED_ADDRESSES).unwrap();
        for n in 1..2 * most {
            let _ = limits.check(address(n));
        }
        assert_eq!(limits.0.table.lock().unwrap().known.len(), bounds::LIMITED_ADDRESSES);
        assert!(limits.check(address(0)).is_ok());
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        let limits = AddressLimits::new(hourly());
        let check = |text: &str| limits.check(text.parse().unwrap()).is_ok();
        assert!(check("2001:db8::1") && !check("2001:db8::ffff:1") && check("2001:db8:0:1::1"));
    }
}
