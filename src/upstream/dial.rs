//! From a destination to a TLS stream: resolve, check, race, verify. The address that is dialled is the one that was
//! checked.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::UpstreamError;
use super::address::forbidden;
use crate::bounds;
use crate::config::model::Destination;
use crate::config::names::{Endpoint, Host};

/// Dials destinations.
#[derive(Debug)]
pub struct Dialer {
    tls: Arc<ClientConfig>,
    connect_timeout: Duration,
    /// The addresses this relay listens on, known once they are bound.
    own: OnceLock<Vec<SocketAddr>>,
}

/// A stream to the back end, verified, and how it came about.
#[derive(Debug)]
pub struct Dialled {
    /// The stream.
    pub stream: TlsStream<TcpStream>,
    /// The address it leads to.
    pub address: SocketAddr,
}

impl Dialer {
    /// A dialler that believes whom this TLS configuration believes.
    pub fn new(tls: Arc<ClientConfig>, connect_timeout: Duration) -> Self {
        Self { tls, connect_timeout, own: OnceLock::new() }
    }

    /// Tells where this relay listens, so that it never dials itself.
    pub fn set_own_addresses(&self, addresses: Vec<SocketAddr>) {
        // Set once, before the first connection is accepted.
        let _ = self.own.set(addresses);
    }

    /// A verified TLS stream to a destination.
    ///
    /// # Errors
    /// No address is allowed, none answers in time, or its certificate is not believed.
    pub async fn dial(&self, to: &Destination) -> Result<Dialled, UpstreamError> {
        let host = to.host.to_string();
        let late = |_| UpstreamError::ConnectTimeout { host: host.clone(), after: self.connect_timeout };
        let addresses = timeout(self.connect_timeout, self.resolve(to)).await.map_err(late)??;
        let racing = race(addresses);
        let (stream, address) = timeout(self.connect_timeout, racing)
            .await
            .map_err(late)?
            .map_err(|cause| UpstreamError::Connect { host: host.clone(), cause })?;
        let name = ServerName::try_from(host.clone())
            .map_err(|e| UpstreamError::Dns { host: host.clone(), cause: io::Error::other(e) })?;
        let handshake = TlsConnector::from(self.tls.clone()).connect(name, stream);
        match timeout(self.connect_timeout, handshake).await.map_err(late)? {
            Ok(stream) => Ok(Dialled { stream, address }),
            Err(cause) => Err(tls_error(host, cause)),
        }
    }

    /// The addresses of a destination that may be dialled. `connect_to` is the administrator's own word and is not
    /// judged, except for leading back here.
    async fn resolve(&self, to: &Destination) -> Result<Vec<SocketAddr>, UpstreamError> {
        let named;
        let endpoint = match &to.connect_to {
            Some(endpoint) => endpoint,
            None => {
                named = Endpoint { host: Host::Name(to.host.clone()), port: to.port };
                &named
            }
        };
        let host = || endpoint.host.to_string();
        let found = match &endpoint.host {
            Host::Address(address) => vec![SocketAddr::new(*address, endpoint.port)],
            Host::Name(name) => {
                let dns = |cause| UpstreamError::Dns { host: host(), cause };
                tokio::net::lookup_host((name.as_str(), endpoint.port)).await.map_err(dns)?.collect()
            }
        };
        if let Some(first) = found.first()
            && self.is_own(*first)
        {
            return Err(UpstreamError::Loop { host: to.host.to_string() });
        }
        if to.connect_to.is_some() {
            return Ok(found);
        }
        let allowed: Vec<SocketAddr> =
            found.iter().filter(|a| forbidden(a.ip()).is_none()).copied().collect();
        match found.first().and_then(|first| Some((first.ip(), forbidden(first.ip())?))) {
            Some((address, why)) if allowed.is_empty() => {
                Err(UpstreamError::Prohibited { host: host(), address, why })
            }
            _ => Ok(allowed),
        }
    }

    fn is_own(&self, address: SocketAddr) -> bool {
        let own = self.own.get().map(Vec::as_slice).unwrap_or_default();
        own.iter().any(|own| {
            let everywhere = own.ip().is_unspecified() && is_local(address.ip());
            own.port() == address.port() && (everywhere || own.ip() == address.ip())
        })
    }
}

/// Whether an address is one of this machine: it can be bound to.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// Both families in turn, each attempt a little after the last; the first that connects wins (RFC 8305).
async fn race(addresses: Vec<SocketAddr>) -> io::Result<(TcpStream, SocketAddr)> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let alternating = std::iter::from_fn(|| match (v6.next(), v4.next()) {
        (None, None) => None,
        (a, b) => Some([a, b]),
    });
    let mut waiting = alternating.flatten().flatten().take(bounds::ADDRESSES);
    let mut attempts = JoinSet::new();
    let mut failures = String::new();
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(async move {
                let stream = TcpStream::connect(address).await;
                (address, stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream)))
            });
        } else if attempts.is_empty() {
            let why = if failures.is_empty() { "the name has no address".into() } else { failures };
            return Err(io::Error::other(why));
        }
        tokio::select! {
            Some(done) = attempts.join_next() => match done {
                Ok((address, Ok(stream))) => return Ok((stream, address)),
                Ok((address, Err(cause))) => {
                    let between = if failures.is_empty() { "" } else { "; " };
                    let _ = write!(failures, "{between}{address}: {cause}");
                }
                Err(cause) => failures.push_str(&cause.to_string()),
            },
            () = sleep(bounds::ATTEMPT_DELAY) => {}
        }
    }
}

fn tls_error(host: String, cause: io::Error) -> UpstreamError {
    let inner = cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(fault)) => {
            UpstreamError::Certificate { host, cause: fault.clone() }
        }
        _ => UpstreamError::Tls { host, cause },
    }
}
