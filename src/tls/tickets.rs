//! Session tickets whose keys change by the clock that nobody sets. The keys of rustls change by the other one: set back
//! by a year, it would keep one key for that year, and with it all sessions would be open to whoever finds that key.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use tokio::time::Instant;

use crate::bounds;

/// The key in use and the one before it.
#[derive(Debug)]
pub(super) struct Tickets(Mutex<Keys>);

#[derive(Clone, Debug)]
struct Keys {
    current: Arc<dyn ProducesTickets>,
    previous: Option<Arc<dyn ProducesTickets>>,
    since: Instant,
}

impl Tickets {
    /// Makes the first key.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let keys = Keys { current: Ticketer::new()?, previous: None, since: Instant::now() };
        Ok(Self(Mutex::new(keys)))
    }

    /// The keys at this time. Where no new one can be made, there are no tickets.
    fn keys(&self, now: Instant) -> Option<Keys> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.saturating_duration_since(keys.since);
        if age >= bounds::TICKET_KEY {
            let old = std::mem::replace(&mut keys.current, Ticketer::new().ok()?);
            keys.previous = (age < bounds::TICKET_KEY * 2).then_some(old);
            keys.since = now;
        }
        Some(keys.clone())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        (bounds::TICKET_KEY * 2).as_secs().try_into().unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys(Instant::now())?.current.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let Keys { current, previous, .. } = self.keys(Instant::now())?;
        current.decrypt(cipher).or_else(|| previous?.decrypt(cipher))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_makes_tickets_for_six_hours_and_reads_them_for_as_long_again() {
        let tickets = Tickets::new().unwrap();
        let begun = Instant::now();
        let reads = |hours: u32, ticket: &[u8]| {
            let keys = tickets.keys(begun + bounds::TICKET_KEY / 6 * hours).unwrap();
            keys.current.decrypt(ticket).or_else(|| keys.previous?.decrypt(ticket))
        };
        let ticket = tickets.encrypt(b"session").unwrap();
        assert_ne!(ticket, b"session");
        for hours in [0, 5, 7, 12] {
            assert_eq!(reads(hours, &ticket).as_deref(), Some(&b"session"[..]), "after {hours} hours");
        }
        assert_eq!(reads(14, &ticket), None);
        assert_eq!(tickets.lifetime(), 12 * 3600);
    }

    #[test]
    fn a_key_that_was_not_used_for_long_reads_nothing_any_more() {
        let tickets = Tickets::new().unwrap();
        let ticket = tickets.encrypt(b"session").unwrap();
        let keys = tickets.keys(Instant::now() + bounds::TICKET_KEY * 2).unwrap();
        assert!(keys.previous.is_none() && keys.current.decrypt(&ticket).is_none());
    }
}
