//! Deployments whose bodies are not understood here: once that has lasted for a day it is told, because it is what the
//! log can't claim to hold.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::bounds;
use crate::config::state_file;
use crate::policy::limits::client;

/// The deployments, in memory and in `unread.json` beside the log.
#[derive(Debug)]
pub struct NotUnderstood {
    path: PathBuf,
    table: Mutex<Vec<UnreadDeployment>>,
    changed: Notify,
}

/// Who sent, or was sent, what was not understood: by source, else by license, else by address.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UnreadClient {
    /// The id it sent.
    pub source: Option<String>,
    /// The license it named.
    pub license: Option<String>,
    /// Its client's address.
    pub address: IpAddr,
}

/// One deployment and what was not understood of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct UnreadDeployment {
    /// Which.
    pub who: UnreadClient,
    /// The first body.
    pub since: Timestamp,
    /// The last one; after a day without any, it begins anew.
    pub last: Timestamp,
    /// How many.
    pub count: u64,
    /// When it was told last.
    pub told: Option<Timestamp>,
}

impl NotUnderstood {
    /// Goes on with what the file beside a log holds.
    pub fn open(log: &Path) -> Self {
        let path = log.join("unread.json");
        let table = state_file::read_or_warn(&path);
        Self { path, table: Mutex::new(table), changed: Notify::new() }
    }

    /// Counts a body. Gives the deployment where it is to be told: once it has lasted for a day, then once a day.
    pub fn note(&self, who: UnreadClient, now: Timestamp) -> Option<UnreadDeployment> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.notify_one();
        let Some(known) = table.iter_mut().find(|known| known.who.is(&who)) else {
            let of_client = |known: &&UnreadDeployment| client(known.who.address) == client(who.address);
            if table.iter().filter(of_client).count() >= bounds::UNREAD_PER_ADDRESS {
                return None;
            }
            if table.len() >= bounds::UNREAD
                && let Some(oldest) =
                    table.iter().enumerate().min_by_key(|(_, known)| known.last).map(|(at, _)| at)
            {
                table.swap_remove(oldest);
            }
            table.push(UnreadDeployment { who, since: now, last: now, count: 1, told: None });
            return None;
        };
        // What was noted by a clock that was ahead has been by now.
        known.since = known.since.min(now);
        known.told = known.told.map(|told| told.min(now));
        if is_a_day(known.last, now) {
            (known.since, known.count, known.told) = (now, 0, None);
        }
        known.last = now;
        known.count += 1;
        let due = is_a_day(known.since, now) && known.told.is_none_or(|told| is_a_day(told, now));
        due.then(|| {
            known.told = Some(now);
            known.clone()
        })
    }

    /// How many deployments have not been understood for a day, and still are not.
    pub fn lasting(&self, now: Timestamp) -> usize {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.iter().filter(|known| is_a_day(known.since, now) && !is_a_day(known.last, now)).count()
    }

    /// Writes the file whenever something changed, at most once a second. Never returns.
    pub async fn keep_written(self: Arc<Self>) {
        state_file::keep_written(self, |this| &this.changed, Self::write, bounds::PENDING_WRITE).await;
    }

    fn write(&self) -> io::Result<()> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner).clone();
        state_file::write(&self.path, &table)
    }
}

impl UnreadClient {
    fn is(&self, other: &Self) -> bool {
        match (&self.source, &other.source, &self.license, &other.license) {
            (Some(a), Some(b), ..) => a == b,
            (None, None, Some(a), Some(b)) => a == b,
            (None, None, None, None) => self.address == other.address,
            _ => false,
        }
    }
}

/// Words for the log: the deployment by the best name there is.
impl std::fmt::Display for UnreadClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.source, &self.license) {
            (Some(source), _) => write!(f, "source {source}"),
            (None, Some(license)) => write!(f, "license {license}"),
            (None, None) => write!(f, "the client {}", self.address),
        }
    }
}

fn is_a_day(then: Timestamp, now: Timestamp) -> bool {
    now.duration_since(then) >= bounds::UNREAD_FOR
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn who(source: &str) -> UnreadClient {
        UnreadClient { source: Some(source.into()), license: None, address: [10, 0, 0, 1].into() }
    }

    fn hours(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1000 + hours)
    }

    #[test]
    fn it_is_told_after_a_day_and_then_once_a_day_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let unread = NotUnderstood::open(folder.path());
        for hour in 0..24 {
            assert_eq!(unread.note(who("a"), hours(hour)), None, "hour {hour}");
        }
        unread.write().unwrap();
        let unread = NotUnderstood::open(folder.path());
        let told = unread.note(who("a"), hours(24)).unwrap();
        assert_eq!((told.count, told.since, unread.lasting(hours(24))), (25, hours(0), 1));
        assert_eq!(unread.note(who("a"), hours(30)), None);
        assert!(unread.note(who("a"), hours(48)).is_some());
        assert_eq!(unread.lasting(hours(80)), 0, "it has ended");
    }

    #[test]
    fn what_was_mended_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let unread = NotUnderstood::open(folder.path());
        unread.note(who("a"), hours(0));
        assert_eq!(unread.note(who("a"), hours(30)), None, "nothing of it for a day, then one");
        assert_eq!(unread.note(who("b"), hours(31)), None, "another one");
    }

    #[test]
    fn a_clock_that_was_ahead_does_not_put_it_off() {
        let folder = tempfile::tempdir().unwrap();
        let unread = NotUnderstood::open(folder.path());
        let ahead = 400 * 24;
        unread.note(who("a"), hours(ahead));
        assert!(unread.note(who("a"), hours(ahead + 10)).is_none());
        for hour in 0..24 {
            assert!(unread.note(who("a"), hours(hour)).is_none(), "hour {hour}");
        }
        assert!(unread.note(who("a"), hours(24)).is_some());
    }

    #[test]
    fn the_table_is_bounded_in_all_and_for_an_address() {
        let folder = tempfile::tempdir().unwrap();
        let unread = NotUnderstood::open(folder.path());
        for n in 0..2 * bounds::UNREAD {
            let address = IpAddr::from([10, 0, (n / 256) as u8, (n % 256) as u8]);
            unread.note(UnreadClient { source: Some(n.to_string()), license: None, address }, hours(0));
            unread.note(
                UnreadClient { source: Some(format!("x{n}")), license: None, address: [10, 9, 9, 9].into() },
                hours(0),
            );
        }
        for n in 0..2 * bounds::UNREAD_PER_ADDRESS {
            let address = format!("2001:db8::{n:x}").parse().unwrap();
            unread.note(UnreadClient { source: Some(format!("y{n}")), license: None, address }, hours(1));
        }
        let table = unread.table.lock().unwrap();
        assert_eq!(table.iter().filter(|d| d.who.address.is_ipv6()).count(), bounds::UNREAD_PER_ADDRESS);
        assert!(table.len() <= bounds::UNREAD);
        assert!(
            table.iter().filter(|d| d.who.address == IpAddr::from([10, 9, 9, 9])).count()
                <= bounds::UNREAD_PER_ADDRESS
        );
    }
}
