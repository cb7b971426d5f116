//! From a destination to a stream: resolve, check, race, or ask the parent proxy; then TLS, verified.
//!
//! The address that is dialled is the one that was checked. Through a parent nothing is resolved here, and the parent's
//! own address is the administrator's word.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, SignatureScheme};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::forbidden;
use super::error::UpstreamError;
use super::parent::{self, ParentCredentials};
use super::resolve::resolve;
use crate::bounds;
use crate::config::model::{Destination, ParentProxy, Upstream};
use crate::config::names::{Endpoint, Host};
use crate::stream::AnyStream;

/// Dials destinations.
#[derive(Debug)]
pub struct Dialer {
    tls: Arc<ClientConfig>,
    parent: Option<(ParentProxy, Option<ParentCredentials>)>,
    resolvers: Vec<SocketAddr>,
    connect_timeout: Duration,
    own: OwnAddresses,
}

/// The addresses this relay listens on, so that it never dials itself.
pub type OwnAddresses = Arc<ArcSwap<Vec<SocketAddr>>>;

/// A stream towards a destination, without TLS of ours.
#[derive(Debug)]
pub struct Opened {
    /// The stream.
    pub stream: AnyStream,
    /// The address it leads to: the destination's, or the parent's.
    pub address: SocketAddr,
}

/// A verified TLS stream to a destination.
#[derive(Debug)]
pub struct Dialled {
    /// The stream.
    pub stream: TlsStream<AnyStream>,
    /// As in [`Opened`].
    pub address: SocketAddr,
    /// Whether the back end asked for a certificate of ours, which it didn't get.
    pub asked: ClientCertificateRequested,
}

/// Whether the other side asked for a client certificate.
#[derive(Clone, Debug, Default)]
pub struct ClientCertificateRequested(Arc<AtomicBool>);

impl ClientCertificateRequested {
    /// Whether it did.
    pub fn was_seen(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Dialer {
    /// Creates a dialler that trusts the CAs of this TLS configuration.
    ///
    /// # Errors
    /// The parent's credentials can't be read.
    pub fn new(tls: Arc<ClientConfig>, upstream: &Upstream, own: OwnAddresses) -> io::Result<Self> {
        let parent = match &upstream.parent_proxy {
            Some(proxy) => {
                let credentials = proxy.credentials.as_deref().map(ParentCredentials::load).transpose()?;
                Some((proxy.clone(), credentials))
            }
            None => None,
        };
        Ok(Self {
            tls,
            parent,
            resolvers: upstream.dns.clone(),
            connect_timeout: upstream.connect_timeout,
            own,
        })
    }

    /// Whether everything goes through the parent proxy.
    pub fn has_parent(&self) -> bool {
        self.parent.is_some()
    }

    /// A verified TLS stream to a destination.
    ///
    /// # Errors
    /// No address is allowed, none answers in time, the parent refuses, or the certificate is not believed.
    pub async fn dial(&self, to: &Destination) -> Result<Dialled, UpstreamError> {
        let Opened { stream, address } = self.open(to).await?;
        let host = to.host.to_string();
        let (stream, asked) = self.secure(stream, &Host::Name(to.host.clone()), &host).await?;
        Ok(Dialled { stream, address, asked })
    }

    /// A stream to a destination, directly or through the parent.
    ///
    /// # Errors
    /// As [`Self::dial`], but for certificates of the destination.
    pub async fn open(&self, to: &Destination) -> Result<Opened, UpstreamError> {
        let host = to.host.to_string();
        let endpoint = match &to.connect_to {
            Some(endpoint) => endpoint.clone(),
            None => Endpoint { host: Host::Name(to.host.clone()), port: to.port },
        };
        let Some((proxy, credentials)) = &self.parent else {
            let found = self.resolve(&endpoint.host.to_string(), &endpoint).await?;
            let allowed = self.allowed(to, &endpoint, found)?;
            let (stream, address) = self.connect(&host, allowed).await?;
            return Ok(Opened { stream: AnyStream::new(stream), address });
        };
        let name = format!("the parent proxy {}", proxy.endpoint);
        let found = self.resolve(&name, &proxy.endpoint).await?;
        let (stream, address) = self.connect(&name, found).await?;
        let stream = if proxy.tls {
            AnyStream::new(self.secure(AnyStream::new(stream), &proxy.endpoint.host, &name).await?.0)
        } else {
            AnyStream::new(stream)
        };
        let tunnel = parent::connect(stream, &endpoint, credentials.as_ref(), self.connect_timeout).await;
        let tunnel =
            tunnel.map_err(|cause| UpstreamError::Parent { proxy: proxy.endpoint.to_string(), cause })?;
        Ok(Opened { stream: AnyStream::new(tunnel), address })
    }

    /// The addresses of an endpoint. `host` is what errors call it.
    async fn resolve(&self, host: &str, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, UpstreamError> {
        match &endpoint.host {
            Host::Address(address) => Ok(vec![SocketAddr::new(*address, endpoint.port)]),
            Host::Name(name) => {
                let found = timeout(self.connect_timeout, resolve(name, &self.resolvers)).await;
                let found = found.unwrap_or_else(|_| Err(self.no_resolver_answers()));
                let found = found.map_err(|cause| UpstreamError::Dns { host: host.to_owned(), cause })?;
                Ok(found.into_iter().map(|address| SocketAddr::new(address, endpoint.port)).collect())
            }
        }
    }

    fn no_resolver_answers(&self) -> io::Error {
        let words = format!("no resolver answered within {} s", self.connect_timeout.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, words)
    }

    /// The addresses that may be dialled. `connect_to` is the administrator's own word and is not judged, except for
    /// leading back here.
    fn allowed(
        &self,
        to: &Destination,
        endpoint: &Endpoint,
        found: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, UpstreamError> {
        // Any of them: the others may not answer, and then it is this one that is dialled.
        if found.iter().any(|address| self.is_own(*address)) {
            return Err(UpstreamError::Loop { host: to.host.to_string() });
        }
        if to.connect_to.is_some() {
            return Ok(found);
        }
        let allowed: Vec<SocketAddr> =
            found.iter().filter(|a| forbidden(a.ip()).is_none()).copied().collect();
        match found.first().and_then(|first| Some((first.ip(), forbidden(first.ip())?))) {
            Some((address, why)) if allowed.is_empty() => {
                Err(UpstreamError::Prohibited { host: endpoint.host.to_string(), address, why })
            }
            _ => Ok(allowed),
        }
    }

    fn is_own(&self, address: SocketAddr) -> bool {
        self.own.load().iter().any(|own| {
            let everywhere = own.ip().is_unspecified() && is_local(address.ip());
            own.port() == address.port() && (everywhere || own.ip() == address.ip())
        })
    }

    async fn connect(
        &self,
        host: &str,
        addresses: Vec<SocketAddr>,
    ) -> Result<(TcpStream, SocketAddr), UpstreamError> {
        let late = |_| UpstreamError::ConnectTimeout { host: host.to_owned(), after: self.connect_timeout };
        let connected = timeout(self.connect_timeout, race(addresses)).await.map_err(late)?;
        connected.map_err(|cause| UpstreamError::Connect { host: host.to_owned(), cause })
    }

    async fn secure(
        &self,
        stream: AnyStream,
        name: &Host,
        host: &str,
    ) -> Result<(TlsStream<AnyStream>, ClientCertificateRequested), UpstreamError> {
        let name = match name {
            Host::Address(address) => ServerName::from(*address),
            Host::Name(name) => ServerName::try_from(name.to_string())
                .map_err(|e| UpstreamError::Tls { host: host.to_owned(), cause: io::Error::other(e) })?,
        };
        let asked = ClientCertificateRequested::default();
        let mut config = ClientConfig::clone(&self.tls);
        config.client_auth_cert_resolver = Arc::new(asked.clone());
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let late = |_| UpstreamError::HandshakeTimeout { host: host.to_owned(), after: self.connect_timeout };
        match timeout(self.connect_timeout, handshake).await.map_err(late)? {
            Ok(stream) => Ok((stream, asked)),
            Err(cause) => Err(self.without_credentials(tls_error(host, cause, &asked))),
        }
    }

    /// A parent that signs TLS anew chooses the name of the issuer, which is part of the error. Hides it where it holds our
    /// credentials.
    fn without_credentials(&self, error: UpstreamError) -> UpstreamError {
        let Some((_, Some(credentials))) = &self.parent else { return error };
        match error {
            UpstreamError::Certificate { host, cause } if credentials.are_in(&cause.to_string()) => {
                UpstreamError::Certificate { host, cause: CertificateError::UnknownIssuer }
            }
            other => other,
        }
    }
}

/// We have no certificate to show; that we were asked for one explains what comes after.
impl ResolvesClientCert for ClientCertificateRequested {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
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

fn tls_error(host: &str, cause: io::Error, asked: &ClientCertificateRequested) -> UpstreamError {
    let host = host.to_owned();
    match cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(fault)) => {
            UpstreamError::Certificate { host, cause: fault.clone() }
        }
        Some(rustls::Error::AlertReceived(_)) if asked.was_seen() => UpstreamError::WantsCertificate { host },
        _ => UpstreamError::Tls { host, cause },
    }
}

#[cfg(test)]
mod tests;
