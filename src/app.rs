//! What all requests of a relay share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::exchange::Exchange;
use crate::setup::InForce;

/// What all requests share, from the start of the relay to its stop.
#[derive(Debug)]
pub struct App {
    /// The setup in force; each request takes it once.
    pub setup: Arc<InForce>,
    /// Takes requests to the back end.
    pub exchange: Exchange,
    /// Cancelled when the relay stops.
    pub stop: CancellationToken,
    /// Exchanges in hand, which outlive their connections.
    pub tasks: TaskTracker,
}

impl App {
    /// An app that serves until it is stopped.
    pub fn new(setup: Arc<InForce>, exchange: Exchange) -> Self {
        Self { setup, exchange, stop: CancellationToken::new(), tasks: TaskTracker::new() }
    }
}
