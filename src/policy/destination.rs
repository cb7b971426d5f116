//! Where to: the list of hosts.

use crate::config::model::{Destination, Mode};
use crate::config::names::{Endpoint, HostName};

/// The hosts that may be reached; nothing else.
#[derive(Clone, Debug)]
pub struct Destinations(Vec<Destination>);

impl Destinations {
    /// From the configuration.
    pub fn new(list: Vec<Destination>) -> Self {
        Self(list)
    }

    /// The entry for what a client names.
    pub fn find(&self, endpoint: &Endpoint) -> Option<&Destination> {
        self.0.iter().find(|listed| listed.is_at(endpoint))
    }

    /// The entry that is for this one now.
    pub fn still(&self, before: &Destination) -> Option<&Destination> {
        let same = |listed: &&Destination| {
            (&listed.host, listed.port, listed.mode) == (&before.host, before.port, before.mode)
        };
        self.0.iter().find(same)
    }

    /// The entry of mode `http` for the authority of an absolute-form target, whose port is 80 unless it says
    /// otherwise (RFC 9110 §4.2.1).
    pub fn plain(&self, authority: &str) -> Option<&Destination> {
        let endpoint = Endpoint::with_default_port(authority, 80).ok()?;
        self.find(&endpoint).filter(|listed| listed.mode == Mode::Http)
    }

    /// The terminated host of this name, for direct TLS, which names no port.
    pub fn terminated(&self, name: &HostName) -> Option<&Destination> {
        self.0.iter().find(|listed| listed.mode == Mode::Terminate && listed.host == *name)
    }
}
