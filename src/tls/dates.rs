//! From when and until when certificates are valid. This is arithmetic alone, so that what happens when the clock is
//! set can be tested without a clock.
//!
//! The clock of a relay may be wrong: a dead battery gives 1970 or 2001, a slip of the hand gives next year. A root
//! therefore never begins at the time of its making, and a leaf is made anew as soon as the clock shows that it was
//! made by another one.

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use x509_parser::prelude::Validity;

const DAY: i64 = 24 * 3600;

/// 2026-11-01T00:00:00Z, shortly before this version was built. A clock that shows less is wrong. It is a constant, and
/// not the time of the build, so that the same source makes the same program.
const BUILT: i64 = 1_793_491_200;

/// Root and issuer live ten years: clients get the root by hand, and seldom.
const AUTHORITY: i64 = 3650 * DAY;

/// A leaf lives 90 days in all, its two days of back-dating included (PEERS: the public limits keep shrinking).
const LEAF: i64 = 90 * DAY;

/// Leaves are back-dated by two days, for clients whose clock is behind.
const BACKDATE: i64 = 2 * DAY;

/// A span of time, in seconds since 1970, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Window {
    pub(super) from: i64,
    pub(super) until: i64,
}

/// The time by the clock, in seconds since 1970.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_second()
}

impl Window {
    /// The window of a new root and its issuer. It begins at the build and not now: otherwise a root that was made by a
    /// clock ahead would not be valid once the clock is corrected, and clients that have it would have to get another.
    pub(super) fn of_authority(now: i64) -> Self {
        Self { from: BUILT, until: now.max(BUILT).saturating_add(AUTHORITY) }
    }

    /// The window of a leaf that is made now: within that of its issuer, and not before the build.
    pub(super) fn of_leaf(issuer: Self, now: i64) -> Self {
        let wished = now.saturating_sub(BACKDATE).max(BUILT);
        let from = wished.min(issuer.until.saturating_sub(LEAF)).max(issuer.from);
        Self { from, until: from.saturating_add(LEAF).min(issuer.until) }
    }

    /// What a certificate says of itself.
    pub(super) fn of(validity: &Validity) -> Self {
        Self { from: validity.not_before.timestamp(), until: validity.not_after.timestamp() }
    }

    /// The time that is in both.
    pub(super) fn and(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), until: self.until.min(other.until) }
    }

    /// Whether this time is in it.
    pub(crate) fn contains(self, time: i64) -> bool {
        (self.from..=self.until).contains(&time)
    }

    /// Whether a leaf with this window should be made anew: half of its life is over, or the clock was set back so far
    /// that a day of back-dating is used up. It should not where a new one would be no better.
    pub(super) fn is_due(self, issuer: Self, now: i64) -> bool {
        let new = Self::of_leaf(issuer, now);
        let aged = now > self.from.midpoint(self.until) && new.until > self.until;
        let set_back = new.from < self.from.saturating_sub(BACKDATE / 2);
        aged || set_back
    }

    /// The time in it that is nearest to this one.
    pub(super) fn nearest(self, time: i64) -> UnixTime {
        let seconds = time.min(self.until).max(self.from);
        UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap_or(0)))
    }

    /// The begin and the end, as the maker of certificates takes them.
    pub(super) fn times(self) -> (SystemTime, SystemTime) {
        (system_time(self.from), system_time(self.until))
    }
}

/// For people: `2026-11-01T00:00:00Z to 2036-10-29T00:00:00Z`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", timestamp(self.from), timestamp(self.until))
    }
}

/// What is beyond the year 9999 is taken for its end; no certificate can name it.
pub(super) fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

fn system_time(seconds: i64) -> SystemTime {
    let (epoch, distance) = (SystemTime::UNIX_EPOCH, Duration::from_secs(seconds.unsigned_abs()));
    let time = if seconds < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
    time.unwrap_or(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day on which the relay runs, by a clock that is right.
    const TODAY: i64 = BUILT + 200 * DAY;
    const IN_2001: i64 = 983_664_000;
    const YEAR: i64 = 365 * DAY;

    fn issuer() -> Window {
        Window::of_authority(TODAY)
    }

    #[test]
    fn the_build_is_a_time_in_the_past() {
        assert_eq!(timestamp(BUILT).to_string(), "2026-11-01T00:00:00Z");
        assert!(now() > BUILT, "the clock of this machine is behind, or the constant is ahead");
    }

    #[test]
    fn an_authority_is_valid_today_by_whatever_clock_it_was_made() {
        for clock in [0, IN_2001, BUILT, TODAY, TODAY + 400 * DAY, TODAY + 30 * YEAR] {
            let made = Window::of_authority(clock);
            assert!(made.contains(TODAY), "made at {}: {made}", timestamp(clock));
            assert_eq!(made.from, BUILT);
        }
    }

    #[test]
    fn a_leaf_is_back_dated_lives_90_days_and_does_not_outlive_its_issuer() {
        let leaf = Window::of_leaf(issuer(), TODAY);
        assert_eq!(leaf, Window { from: TODAY - 2 * DAY, until: TODAY + 88 * DAY });
        let end = issuer().until;
        for clock in [end - 100 * DAY, end - 10 * DAY, end - 1, end, end + YEAR] {
            let leaf = Window::of_leaf(issuer(), clock);
            assert!(leaf.until <= end && leaf.until - leaf.from == LEAF, "{leaf}");
            assert_eq!(leaf.contains(clock), clock <= end);
        }
        // One of the company's own that lives for less.
        let short = Window { from: TODAY - DAY, until: TODAY + DAY };
        assert_eq!(Window::of_leaf(short, TODAY), short);
    }

    #[test]
    fn no_leaf_is_dated_before_the_build_or_its_issuer() {
        for clock in [0, IN_2001] {
            assert_eq!(Window::of_leaf(issuer(), clock).from, BUILT);
            let later = Window { from: TODAY, until: TODAY + YEAR };
            assert_eq!(Window::of_leaf(later, clock), Window { from: TODAY, until: TODAY + LEAF });
        }
    }

    #[test]
    fn a_leaf_is_made_anew_at_half_life_and_when_the_clock_was_set() {
        let leaf = Window::of_leaf(issuer(), TODAY);
        for days in [0, 1, 42] {
            assert!(!leaf.is_due(issuer(), TODAY + days * DAY), "{days} days on");
        }
        assert!(leaf.is_due(issuer(), TODAY + 44 * DAY));
        assert!(!leaf.is_due(issuer(), TODAY - 3600), "an hour of back-dating can be spared");
        for back in [2 * DAY, 60 * DAY, YEAR] {
            assert!(leaf.is_due(issuer(), TODAY - back), "the clock was {back} s ahead");
        }
        let ahead = Window::of_leaf(issuer(), TODAY + 400 * DAY);
        assert!(!ahead.contains(TODAY) && ahead.is_due(issuer(), TODAY));
        let behind = Window::of_leaf(issuer(), IN_2001);
        assert!(!behind.contains(TODAY) && behind.is_due(issuer(), TODAY));
    }

    #[test]
    fn a_leaf_is_not_made_anew_where_that_would_mend_nothing() {
        let end = issuer().until;
        for clock in [0, IN_2001, BUILT - DAY, end - 10 * DAY, end - 1, end + DAY, end + YEAR] {
            let leaf = Window::of_leaf(issuer(), clock);
            assert!(!leaf.is_due(issuer(), clock), "at {}", timestamp(clock));
        }
    }

    #[test]
    fn from_any_clock_to_any_other_one_renewal_is_enough() {
        let end = issuer().until;
        let clocks = [0, IN_2001, BUILT, TODAY, TODAY + 40 * DAY, TODAY + YEAR, end - 50 * DAY, end - DAY];
        for (made, then) in clocks.iter().flat_map(|made| clocks.iter().map(move |then| (*made, *then))) {
            let old = Window::of_leaf(issuer(), made);
            let shown = if old.is_due(issuer(), then) { Window::of_leaf(issuer(), then) } else { old };
            assert!(!shown.is_due(issuer(), then), "made {made}, then {then}");
            assert_eq!(shown.contains(then), then >= BUILT, "made {made}, then {then}");
        }
    }
}
