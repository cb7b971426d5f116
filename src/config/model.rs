//! The configuration once it is right: every value checked, every path absolute, every default filled in.
//!
//! [`file`](super::file) makes it from `relay.toml`; nothing else does.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::names::{Endpoint, Host, HostName};
use crate::bounds;
use relay_log::ledger::subject::{SubjectCase, SubjectForm};
use relay_log::names::{LicenseNumber, SourcePattern};
use relay_log::stderr::LogFormat;

/// A whole, validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from, absolute.
    pub file: PathBuf,
    /// `[listen]`.
    pub listen: Listen,
    /// `[[destination]]`: what may be reached; at least one, no host and port twice.
    pub destinations: Vec<Destination>,
    /// `[upstream]`.
    pub upstream: Upstream,
    /// `[tls]`.
    pub tls: Tls,
    /// `[sources]`.
    pub sources: Sources,
    /// `[limits]`.
    pub limits: Limits,
    /// `[audit]`.
    pub audit: Audit,
    /// `[licensing]`.
    pub licensing: Licensing,
    /// `[admin]`.
    pub admin: Admin,
    /// `[http]`: add `Via` towards the back end (RFC 9110 §7.6.3).
    pub via: bool,
    /// `[log]`.
    pub log: Log,
}

/// Who may connect, and how.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Addresses to listen on; at least one. Port 0 lets the system choose.
    pub addresses: Vec<SocketAddr>,
    /// Names and addresses clients reach the relay by; at least one.
    pub hostnames: Vec<Host>,
    /// Connections at one time, in all.
    pub max_connections: usize,
    /// Connections at one time from one address.
    pub max_connections_per_address: usize,
    /// Networks that may connect at all; empty: any.
    pub allow_from: Vec<IpNet>,
    /// Networks of load balancers that send PROXY v2.
    pub proxy_protocol_from: Vec<IpNet>,
    /// What is made of Basic credentials on `CONNECT`.
    pub credentials: Credentials,
    /// File of users and password hashes.
    pub users: PathBuf,
}

impl Listen {
    /// Whether a client of this address may connect at all.
    pub(crate) fn lets_connect(&self, address: IpAddr) -> bool {
        self.allow_from.is_empty() || self.allow_from.iter().any(|network| network.contains(&address))
    }
}

/// What is made of Basic credentials.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Credentials {
    /// Not looked at.
    Off,
    /// Used to identify, where they are sent.
    Optional,
    /// 407 without.
    Required,
}

/// One host and port that may be reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Destination {
    /// The host, as clients name it and as its certificate is checked.
    pub host: HostName,
    /// The port.
    pub port: u16,
    /// What is done with its bytes.
    pub mode: Mode,
    /// Dialled instead of the host.
    pub connect_to: Option<Endpoint>,
}

impl Destination {
    /// Whether this is the destination that a client names.
    pub fn is_at(&self, endpoint: &Endpoint) -> bool {
        endpoint.port == self.port && matches!(&endpoint.host, Host::Name(name) if *name == self.host)
    }

    /// Whether `host` or `host:port` names it. Without a port, the port is the scheme's own (RFC 9110 §4.2).
    pub fn is_named(&self, authority: &str) -> bool {
        let port = if self.mode == Mode::Http { 80 } else { 443 };
        Endpoint::with_default_port(authority, port).is_ok_and(|endpoint| self.is_at(&endpoint))
    }

    /// Whether a ClientHello may carry this name: it may leave the name out, but not name another host.
    pub fn takes_sni(&self, sni: Option<&str>) -> bool {
        sni.is_none_or(|name| name.parse().is_ok_and(|name| self.host == name))
    }
}

/// What is done with the bytes of a destination.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// TLS ends here; messages are read.
    Terminate,
    /// Bytes are copied, unread.
    Tunnel,
    /// Absolute-form `http://` requests, for the legacy LEF hosts.
    Http,
}

/// The way to the back end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// Whose certificates are believed.
    pub trust: Trust,
    /// PEM files, believed as well.
    pub extra_ca: Vec<PathBuf>,
    /// Resolvers asked instead of the system's.
    pub dns: Vec<SocketAddr>,
    /// The company's own proxy.
    pub parent_proxy: Option<ParentProxy>,
    /// How long a connection may take: TCP and TLS each.
    pub connect_timeout: Duration,
    /// How long the whole reply may take.
    pub response_timeout: Duration,
}

/// The company's own proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParentProxy {
    /// Whether it is spoken to over TLS (`https://`).
    pub tls: bool,
    /// Where it is.
    pub endpoint: Endpoint,
    /// File with `user:password`, mode 0600.
    pub credentials: Option<PathBuf>,
}

/// Whose certificates are believed upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trust {
    /// The operating system's store.
    System,
    /// Mozilla's, built in.
    Bundled,
    /// `extra_ca` alone.
    Files,
}

/// The relay's own certificates.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// Where leaves come from.
    pub identity: Identity,
    /// The oldest version spoken with clients.
    pub min_version: TlsVersion,
}

/// Where leaves come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Identity {
    /// The constrained issuer signs them; all three files are made when all three are missing.
    Issuer {
        /// What clients must trust.
        root: PathBuf,
        /// The issuer's certificate.
        issuer: PathBuf,
        /// The issuer's key, mode 0600.
        issuer_key: PathBuf,
    },
    /// The company's own PKI made them: pairs of chain and key.
    Leaves(Vec<(PathBuf, PathBuf)>),
}

/// A TLS protocol version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsVersion {
    /// TLS 1.2, with AEAD and forward secrecy only.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Who may ask.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The allow-list.
    pub file: PathBuf,
    /// What becomes of a source that is not listed.
    pub unknown: Stranger,
    /// What becomes of a request that nothing identifies.
    pub unidentified: Stranger,
}

/// What becomes of a request from nobody we know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stranger {
    /// Refused.
    Deny,
    /// Forwarded, and recorded as unlisted.
    Observe,
}

/// How much anyone may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For each source.
    pub per_source: SourceRate,
    /// Bytes of the log in a day of all whom no entry lets in; and as many of refusals.
    pub strangers_log_per_day: u64,
    /// For each client address.
    pub per_address: Rate,
    /// Bytes of one request body.
    pub max_body: u64,
    /// Bytes of memory for all bodies and what is understood of them, no less than [the
    /// least](crate::body_cost::least).
    pub all_bodies: u64,
}

/// So many requests in a time, and so many at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Requests in `per`.
    pub requests: NonZeroU32,
    /// The time they are counted over; at least a millisecond for each request.
    pub per: Duration,
    /// Requests at once.
    pub burst: NonZeroU32,
}

/// How much a source may ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SourceRate {
    /// So many requests.
    pub requests: Rate,
    /// So many records in the log, in the same time: what a request asks for, and not how many there are, is what others
    /// wait for.
    pub records: NonZeroU32,
    /// So many bytes of the log in a day.
    pub log_per_day: u64,
}

impl Rate {
    /// Twice as many requests, in the same time and at once.
    pub const fn twice(self) -> Self {
        let (requests, burst) = (self.requests.saturating_add(self.requests.get()), self.burst);
        Self { requests, per: self.per, burst: burst.saturating_add(burst.get()) }
    }

    /// Bytes of the log that so many requests may fill in a day: [`bounds::LOG_PER_DAY`], or [`bounds::LOG_A_REQUEST`] for each
    /// where that is more.
    pub(crate) const fn log_per_day(self) -> u64 {
        let (per, day) = (self.per.as_nanos(), bounds::LOG_DAY.as_nanos());
        // A period is never zero here; should it be, the most is the safe reading.
        let least_period = if per == 0 { 1 } else { per };
        let bytes = self.requests.get() as u128 * day / least_period * bounds::LOG_A_REQUEST as u128;
        if bytes >= bounds::LOG_PER_DAY_MOST as u128 {
            bounds::LOG_PER_DAY_MOST
        } else if bytes > bounds::LOG_PER_DAY as u128 {
            bytes as u64
        } else {
            bounds::LOG_PER_DAY
        }
    }
}

impl SourceRate {
    /// With [`bounds::RECORDS_A_REQUEST`] for each request unless there is a number, and the log of such a rate.
    pub const fn new(requests: Rate, records: Option<NonZeroU32>) -> Self {
        let records = match records {
            Some(records) => records,
            None => requests.requests.saturating_mul(bounds::RECORDS_A_REQUEST),
        };
        Self { requests, records, log_per_day: requests.log_per_day() }
    }
}

/// The assignment log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Audit {
    /// Where it lies.
    pub directory: PathBuf,
    /// What happens when it can't be written.
    pub on_failure: OnFailure,
    /// How subjects are stored.
    pub subject: SubjectForm,
    /// The newest key of the subjects' hash.
    pub subject_key: PathBuf,
    /// Whether BOB and bob are one person.
    pub subject_case: SubjectCase,
    /// The Ed25519 key that signs checkpoints.
    pub signing_key: PathBuf,
    /// The log's name in its checkpoints; never empty.
    pub origin: String,
    /// Directories that checkpoints are copied to.
    pub anchors: Vec<PathBuf>,
    /// Bytes of records that wait to be written.
    pub queue: u64,
}

impl Audit {
    /// Where it is told, as long as the log takes nothing, how many exchanges are not in it: beside the signing key, which
    /// should lie on another disk.
    pub fn gap_file(&self) -> PathBuf {
        self.signing_key.with_file_name("gap.json")
    }
}

/// What happens when the log can't be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnFailure {
    /// Nothing is forwarded.
    Block,
    /// Requests are forwarded, and the gap is counted.
    Degrade,
}

/// How bodies are read.
#[derive(Clone, Debug)]
pub struct Licensing {
    /// The site's names for fields of the messages; the built-in ones when absent.
    pub vocabulary: Option<PathBuf>,
    /// What becomes of a body that is not JSON.
    pub unreadable: Unread,
    /// What becomes of a body that no vocabulary entry matches.
    pub unrecognised: Unread,
}

impl Licensing {
    /// With how many vocabularies bodies are read: the built-in one, and the site's.
    pub(crate) fn vocabularies(&self) -> u64 {
        1 + u64::from(self.vocabulary.is_some())
    }
}

/// What becomes of a body that is not understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unread {
    /// Forwarded only for a client that a network or a user of an entry proves, and recorded.
    Proven,
    /// Refused, and recorded.
    Deny,
}

/// The admin address.
#[derive(Clone, Debug)]
pub struct Admin {
    /// `/healthz`, `/readyz`, `/metrics`, `/status` are served here.
    pub address: SocketAddr,
    /// File with the bearer token that is demanded; required for any address but loopback.
    pub token_file: Option<PathBuf>,
    /// The socket on which this machine is served the same without a token, and which takes reloads. None: the place that
    /// [`listen::local`](crate::listen::local) chooses.
    pub socket: Option<PathBuf>,
}

/// The program's own log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// How much of client addresses they show.
    pub client_address: ClientAddress,
    /// The least important level that is shown.
    pub level: LogLevel,
}

/// How much of a client's address log lines show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientAddress {
    /// All of it.
    Full,
    /// Its network: /24 for IPv4, /48 for IPv6.
    Network,
}

/// A level of the program's own log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something needs attention.
    Warn,
    /// What was done.
    Info,
    /// How it was done.
    Debug,
    /// Everything.
    Trace,
}

/// `sources.toml` once it is right: the allow-list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AllowList {
    /// `[[source]]`, in the file's order; no id twice.
    pub sources: Vec<Source>,
}

/// One deployment that may ask.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// The id it sends; absent where license, user or network alone allow it.
    pub id: Option<SourcePattern>,
    /// What people call it; may be empty.
    pub name: String,
    /// Licenses that vouch for messages without an id.
    pub licenses: Vec<LicenseNumber>,
    /// Basic users.
    pub users: Vec<String>,
    /// Client networks.
    pub networks: Vec<IpNet>,
    /// Its limit, instead of `limits.per_source`.
    pub limit: Option<SourceRate>,
    /// `terminate` or `tunnel`; never `http`. Absent: the destination's.
    pub mode: Option<Mode>,
    /// Its id is yet to be learned.
    pub learn: Option<Learn>,
    /// The line of the file where it starts, 1 and up.
    pub line: usize,
}

impl Source {
    /// What people tell it by: its name, or the first of what it lists.
    pub(crate) fn label(&self) -> String {
        let Self { id, name, licenses, users, networks, .. } = self;
        let named = (!name.is_empty()).then(|| name.clone());
        named
            .or_else(|| id.as_ref().map(|id| format!("id {id}")))
            .or_else(|| users.first().map(|user| format!("user {user}")))
            .or_else(|| networks.first().map(|network| format!("network {network}")))
            .or_else(|| licenses.first().map(|license| format!("license {license}")))
            .unwrap_or_default()
    }
}

/// An enrolment that waits for the first id sent with one of its licenses: written by
/// `sources allow --license N --learn 24h`, replaced by `id` when the relay has seen one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Learn {
    /// Until when it waits.
    pub until: jiff::Timestamp,
    /// The only address it may come from, where one is known.
    pub from: Option<IpAddr>,
}
