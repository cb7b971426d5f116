//! How often: one direct limiter for each source and each client address (GCRA, from `governor`).
//!
//! governor's keyed limiter has one quota for all keys and grows with every key; so each listed source has a direct
//! limiter of its own, and only addresses, which all have one quota, share a keyed one that is swept.

use std::net::IpAddr;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::bounds;
use crate::config::model::Rate;

/// A limiter of one source.
#[derive(Debug)]
pub struct Limiter {
    /// The rate it counts by.
    pub rate: Rate,
    inner: DefaultDirectRateLimiter,
}

impl Limiter {
    /// A full one.
    pub fn new(rate: Rate) -> Self {
        Self { rate, inner: RateLimiter::direct(quota(rate)) }
    }

    /// Takes one request.
    ///
    /// # Errors
    /// There is none to take; the wait until there is.
    pub fn check(&self) -> Result<(), Duration> {
        self.inner.check().map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }
}

/// One limiter for each client address.
pub struct AddressLimits {
    /// The rate they count by.
    pub rate: Rate,
    inner: DefaultKeyedRateLimiter<IpAddr>,
}

impl AddressLimits {
    /// All full.
    pub fn new(rate: Rate) -> Self {
        Self { rate, inner: RateLimiter::keyed(quota(rate)) }
    }

    /// Takes one request of this address; IPv6 clients are counted by their /64, which one machine may use whole.
    ///
    /// # Errors
    /// There is none to take; the wait until there is.
    pub fn check(&self, address: IpAddr) -> Result<(), Duration> {
        if self.inner.len() >= bounds::LIMITED_ADDRESSES {
            self.inner.retain_recent();
            if self.inner.len() >= 2 * bounds::LIMITED_ADDRESSES {
                // More addresses than that within one refill are no deployments.
                return Err(Duration::from_secs(1));
            }
        }
        let key = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => IpAddr::from((u128::from(v6) >> 64 << 64).to_be_bytes()),
        };
        self.inner
            .check_key(&key)
            .map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }
}

impl std::fmt::Debug for AddressLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddressLimits").field("addresses", &self.inner.len()).finish()
    }
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
    use super::*;

    #[test]
    fn a_burst_passes_and_the_next_one_is_told_how_long_to_wait() {
        let number = |n| std::num::NonZeroU32::new(n).unwrap();
        let limiter =
            Limiter::new(Rate { requests: number(6), per: Duration::from_secs(60), burst: number(3) });
        for _ in 0..3 {
            limiter.check().unwrap();
        }
        let wait = limiter.check().unwrap_err();
        assert!(wait > Duration::from_secs(8) && wait <= Duration::from_secs(10), "{wait:?}");
    }
}
