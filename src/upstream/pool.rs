//! Kept connections to the back end: few, young, and used last in, first out.
//!
//! Our own, because hyper-util's has no maximum age and resends without bound.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use super::dial::ClientCertificateRequested;
use crate::bounds;
use crate::config::model::Destination;

/// A connection that can take a request.
#[derive(Debug)]
pub struct Connection {
    /// Takes the request.
    pub sender: SendRequest<Full<Bytes>>,
    /// Where it leads.
    pub address: SocketAddr,
    /// When it was made.
    pub born: Instant,
    /// Whether the back end asked for a certificate of ours.
    pub asked: ClientCertificateRequested,
}

/// The kept connections of all destinations.
#[derive(Debug, Default)]
pub struct Pool {
    kept: Mutex<HashMap<(String, u16), VecDeque<IdleConnection>>>,
}

#[derive(Debug)]
struct IdleConnection {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// The connection that was used last, if one is still good.
    pub fn take(&self, to: &Destination) -> Option<Connection> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = kept.get_mut(&key(to))?;
        let now = Instant::now();
        while let Some(IdleConnection { connection, since }) = queue.pop_back() {
            let young = now - connection.born < bounds::UPSTREAM_AGE && now - since < bounds::UPSTREAM_IDLE;
            if young && connection.sender.is_ready() && !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose reply was read to its end. What is too old or too much is closed.
    pub fn keep(&self, to: &Destination, connection: Connection) {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = kept.entry(key(to)).or_default();
        queue.retain(|kept| !kept.connection.sender.is_closed() && now - kept.since < bounds::UPSTREAM_IDLE);
        if now - connection.born < bounds::UPSTREAM_AGE && !connection.sender.is_closed() {
            queue.push_back(IdleConnection { connection, since: now });
        }
        while queue.len() > bounds::UPSTREAM_KEPT {
            queue.pop_front();
        }
    }

    /// Closes all of them.
    pub fn clear(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn key(to: &Destination) -> (String, u16) {
    (to.host.to_string(), to.port)
}

#[cfg(test)]
mod tests;
