//! Where to: the list of hosts.

use crate::config::model::{Destination, Mode};
use crate::config::names::{Endpoint, Host, HostName};

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
        let Host::Name(name) = &endpoint.host else { return None };
        self.0.iter().find(|listed| listed.host == *name && listed.port == endpoint.port)
    }

    /// The terminated host of this name, for direct TLS, which names no port.
    pub fn terminated(&self, name: &HostName) -> Option<&Destination> {
        self.0.iter().find(|listed| listed.mode == Mode::Terminate && listed.host == *name)
    }
}
