//! So much in a time: what is owed, and what is reserved before it is known how much it will be.
//!
//! A budget of bytes a day is a `Debt` that holds half of it and is paid back by the other half in a day: whenever a day
//! begins, no more than the whole is used in it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::bounds;

/// What somebody owes, and works off by waiting.
#[derive(Debug)]
pub(crate) struct Debt {
    /// What may be owed.
    most: u64,
    /// The time in which that is paid.
    per: Duration,
    /// When nothing is owed any more.
    paid: Mutex<Instant>,
}

impl Debt {
    /// Nothing is owed; at most `most` is, and that is paid in `per`.
    pub(crate) fn new(most: u64, per: Duration) -> Self {
        Self { most: most.max(1), per, paid: Mutex::new(Instant::now()) }
    }

    /// Of a budget of so many bytes a day.
    pub(crate) fn of_a_day(bytes: u64) -> Self {
        Self::new(bytes / 2, bounds::LOG_DAY)
    }

    /// Whether nothing is owed.
    pub(crate) fn is_paid(&self) -> bool {
        *self.paid.lock().unwrap_or_else(PoisonError::into_inner) <= Instant::now()
    }

    /// Takes so much. Who owes nothing may take more than the limit at once, such as the first sync of a large site, and then
    /// owes it.
    ///
    /// # Errors
    /// There is not so much to take; the wait until there is.
    pub(crate) fn take(&self, amount: u64) -> Result<(), Duration> {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let owed = paid.saturating_duration_since(now);
        let price = self.price(amount);
        if owed.is_zero() || owed + price <= self.per {
            *paid = now + owed + price;
            return Ok(());
        }
        Err(owed.min((owed + price).saturating_sub(self.per)))
    }

    /// What was taken is what is used: the rest is given back, and what is beyond is owed.
    pub(crate) fn settle(&self, taken: u64, used: u64) {
        // By their prices: both may be so dear that less than all of it is owed.
        let (taken, used) = (self.price(taken), self.price(used));
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        *paid = match used.checked_sub(taken) {
            Some(more) => now + (paid.saturating_duration_since(now) + more).min(bounds::OWED),
            None => paid.checked_sub(taken - used).unwrap_or(now),
        };
    }

    /// The time that pays for so much. A byte of a large budget is worth less than a nanosecond.
    fn price(&self, amount: u64) -> Duration {
        let nanos = self.per.as_nanos() * u128::from(amount) / u128::from(self.most);
        u64::try_from(nanos).map_or(bounds::OWED, Duration::from_nanos).min(bounds::OWED)
    }
}

/// Bytes of a log that an exchange may write: taken before it is sent, and settled with what was written when it is over.
#[derive(Debug, Default)]
pub struct Room {
    reserved: u64,
    of: Vec<Arc<Debt>>,
    written: AtomicU64,
    line: AtomicU64,
}

impl Room {
    /// Reserves so many bytes of each of these budgets.
    ///
    /// # Errors
    /// One of them has not so many; the wait until each has.
    pub(crate) fn reserve(bytes: u64, budgets: &[&Arc<Debt>]) -> Result<Self, Duration> {
        let mut room = Self::default();
        room.reserved = bytes;
        let mut wait = None;
        for debt in budgets {
            match debt.take(bytes) {
                Ok(()) => room.of.push(Arc::clone(debt)),
                Err(its) => wait = wait.max(Some(its)),
            }
        }
        // Where one has none, the end of this room gives back what was taken of the others.
        wait.map_or(Ok(room), Err)
    }

    /// Room for what must not be turned away.
    pub(crate) fn of(debt: &Arc<Debt>) -> Self {
        let mut room = Self::default();
        room.of.push(Arc::clone(debt));
        room
    }

    /// So many bytes of the audit log were written.
    pub fn wrote(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Its access line has so many bytes. That log is another one, so the longer of the two counts: each of them grows by no
    /// more than the budget.
    pub(crate) fn wrote_line(&self, bytes: u64) {
        self.line.fetch_add(bytes, Ordering::Relaxed);
    }

    fn used(&self) -> u64 {
        self.written.load(Ordering::Relaxed).max(self.line.load(Ordering::Relaxed))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let used = self.used();
        self.of.iter().for_each(|debt| debt.settle(self.reserved, used));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = bounds::LOG_DAY;

    #[tokio::test(start_paused = true)]
    async fn who_owes_nothing_may_take_more_than_the_limit_and_then_waits_as_long_as_told() {
        let minute = Duration::from_secs(60);
        let debt = Debt::new(600, minute);
        debt.take(500).unwrap();
        debt.take(100).unwrap();
        assert_eq!(debt.take(100), Err(minute / 6));
        tokio::time::advance(minute / 6).await;
        debt.take(100).unwrap();
        assert_eq!(debt.take(3000), Err(minute), "more than the limit waits until nothing is owed");
        tokio::time::advance(minute).await;
        debt.take(3000).unwrap();
        assert_eq!(debt.take(600), Err(5 * minute));
        tokio::time::advance(5 * minute).await;
        debt.take(600).unwrap();
        assert_eq!(debt.take(u64::MAX), Err(minute));
    }

    #[tokio::test(start_paused = true)]
    async fn no_day_has_more_than_the_budget_whenever_it_begins() {
        let budget = 1 << 40;
        let debt = Debt::of_a_day(budget);
        let mut taken = Vec::new();
        // As much as there is, again and again, in messages of a size that a nanosecond a byte could not count.
        for _ in 0..200 {
            while debt.take(7_000_000_000).is_ok() {
                taken.push((Instant::now(), 7_000_000_000_u64));
            }
            tokio::time::advance(Duration::from_secs(1200)).await;
        }
        for (begin, _) in &taken {
            let of_day = taken.iter().filter(|(at, _)| at >= begin && *at < *begin + DAY);
            let sum: u64 = of_day.map(|(_, bytes)| bytes).sum();
            assert!(sum <= budget, "{sum} bytes in a day from {begin:?}");
        }
        assert!(taken.len() as u64 * 7_000_000_000 > budget, "over more than a day there is more");
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_settled_with_what_was_written() {
        let debt = Arc::new(Debt::of_a_day(2000));
        let room = Room::reserve(1000, &[&debt]).unwrap();
        assert!(Room::reserve(1, &[&debt]).is_err());
        room.wrote(100);
        room.wrote(150);
        room.wrote_line(200);
        drop(room);
        assert_eq!(debt.take(751).unwrap_err(), DAY / 1000, "the longer of the two logs counts");
        drop(Room::reserve(750, &[&debt]).unwrap());
        let room = Room::reserve(750, &[&debt]).unwrap();
        room.wrote(1750);
        drop(room);
        assert_eq!(debt.take(1), Err(DAY + DAY / 1000), "what is beyond is owed");
        let kept = Room::of(&debt);
        kept.wrote(500);
        drop(kept);
        assert_eq!(debt.take(500), Err(2 * DAY));
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_would_be_owed_for_years_is_not_forgiven_by_what_is_given_back() {
        let debt = Arc::new(Debt::of_a_day(2000));
        let room = Room::reserve(5_000_000, &[&debt]).unwrap();
        room.wrote(1_000_000);
        drop(room);
        assert_eq!(debt.take(1), Err(bounds::OWED + DAY / 1000 - DAY));
    }

    #[tokio::test(start_paused = true)]
    async fn room_in_two_budgets_is_had_in_both_or_in_none_and_the_longer_wait_is_told() {
        let (own, all) = (Arc::new(Debt::of_a_day(2000)), Arc::new(Debt::of_a_day(200)));
        all.take(100).unwrap();
        assert_eq!(Room::reserve(10, &[&own, &all]).unwrap_err(), DAY / 10);
        assert!(own.is_paid());
        own.take(1200).unwrap();
        let wait = Room::reserve(10, &[&own, &all]).unwrap_err();
        assert_eq!(wait, DAY / 5 + DAY / 100);
        tokio::time::advance(wait).await;
        assert!(Room::reserve(10, &[&own, &all]).is_ok());
    }
}
