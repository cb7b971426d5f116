//! The access line: one an exchange, with nothing secret in it. Lines of refusals are folded by client and have a budget of
//! bytes a day: whoever is refused asks as often as they like. Any other line counts for the budget of its exchange.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::fold::{Fold, Folded, Whose};
use super::metrics::Metrics;
use super::stderr;
use crate::budget::{Debt, Room};
use crate::config::model::{ClientAddress, Log, LogFormat, LogLevel};
use crate::config::names::{Endpoint, Host};
use crate::text::redact::{HIDDEN, clip, word};

/// The verdict on a connection that was idle while another one needed its place.
const GAVE_WAY: &str = "close";

/// Writes access lines to standard error, as the rest of the log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    metrics: Arc<Metrics>,
    refused: Arc<Refused>,
    format: LogFormat,
    client_address: ClientAddress,
    /// Lines are of level `info`.
    shown: bool,
}

/// The lines in the current window that are folded; it outlives each setup.
pub(crate) type Refused = Mutex<Fold<Kind>>;

/// What folded lines have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Refusals with this error.
    Refused(&'static str),
    /// Connections that gave way to others.
    GaveWay,
}

/// No refusals yet, with a budget of so many bytes of lines a day.
pub(crate) fn refused(per_day: u64) -> Arc<Refused> {
    Arc::new(Mutex::new(Fold::new(per_day)))
}

/// What is known of one exchange; what is not known is not written.
#[derive(Clone, Debug)]
pub struct Access {
    /// The exchange, or the connection that came to none.
    pub id: Uuid,
    /// The client's address.
    pub client: IpAddr,
    /// `connect`, `tls` or `direct`.
    pub mode: &'static str,
    /// The name in the ClientHello.
    pub sni: Option<String>,
    /// The authority of the `CONNECT`, or of a target in absolute form with its scheme, as it was sent.
    pub authority: Option<String>,
    /// The Host of a `CONNECT`, as it was sent, where it is another one.
    pub host: Option<String>,
    /// The Basic user name that was tried and refused.
    pub tried_user: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// The path alone, its plain words: a query may hold anything.
    pub path: Option<String>,
    /// The kind of the message.
    pub exchange: Option<&'static str>,
    /// Who says it is asking.
    pub source: Option<String>,
    /// The license it is about.
    pub license: Option<String>,
    /// `allow`, `observe` or `refuse`; `close` for a connection that gave way to another one.
    pub verdict: &'static str,
    /// What let it in.
    pub identified_by: Option<&'static str>,
    /// What the client was told instead of a reply.
    pub reason: Option<String>,
    /// Where it went: the back end's address, or the parent's.
    pub upstream: Option<SocketAddr>,
    /// It went through the parent proxy.
    pub via_parent: bool,
    /// The status that the client got.
    pub status: Option<u16>,
    /// `relay` or `back end`.
    pub made_by: Option<&'static str>,
    /// The class of an upstream error, or the token of a refusal.
    pub error: Option<&'static str>,
    /// All causes of an error; for the administrator alone.
    pub cause: Option<String>,
    /// The configuration it was judged by, counted from the start.
    pub generation: Option<u64>,
    /// It was sent a second time, because a kept connection handed it back unsent.
    pub resent: bool,
    /// The back end's reply could not be read, so the audit log does not hold what it tells.
    pub reply_unread: bool,
    /// How many others like it the line stands for, where it is not one.
    pub(crate) count: Option<u64>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the reply's body, as far as it was read here.
    pub bytes_out: u64,
    /// What the exchange may write into the logs; the line is a part of it.
    pub room: Arc<Room>,
    begun: Instant,
}

impl AccessLog {
    /// As `[log]` says.
    pub(crate) fn new(log: Log, metrics: Arc<Metrics>, refused: Arc<Refused>) -> Self {
        let shown = matches!(log.level, LogLevel::Info | LogLevel::Debug | LogLevel::Trace);
        Self { metrics, refused, format: log.format, client_address: log.client_address, shown }
    }

    /// Changes the budget of lines of refusals.
    pub(crate) fn set_budget(&self, per_day: u64) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).set_budget(per_day);
    }

    /// Writes the line of an exchange that ends now.
    pub fn write(&self, access: Access) {
        self.metrics.count(&access);
        if !self.shown {
            return;
        }
        if access.verdict != "refuse" {
            let line = self.line(&access, &self.address(access.client));
            access.room.wrote_line(line.len() as u64);
            return stderr::write(line);
        }
        self.fold(Kind::Refused(access.error.unwrap_or("none")), &access);
    }

    /// Writes the line of a connection that gave way to another one. No exchange was made of it, so it counts as none.
    pub(crate) fn write_gave_way(&self, mut access: Access) {
        access.verdict = GAVE_WAY;
        if self.shown {
            self.fold(Kind::GaveWay, &access);
        }
    }

    /// Writes it, or counts it where there are too many of its kind.
    fn fold(&self, kind: Kind, access: &Access) {
        let write = |budget: &Debt| {
            let line = self.line(access, &self.address(access.client));
            let stands = budget.take(line.len() as u64).is_ok();
            if stands {
                stderr::write(line);
            }
            stands
        };
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).note(kind, access.client, write);
    }

    /// Writes a line for each count of what had no line of its own, and starts the next window.
    pub(crate) fn write_folded(&self) {
        let make = |Folded { kind, repeat, whose }: Folded<'_, _>| {
            let (client, shown) = match whose {
                Whose::Address(address) | Whose::Network(address) => (address, self.address(address)),
                Whose::Others => (IpAddr::from([0; 4]), "several".into()),
            };
            let mut access = Access::new(Uuid::now_v7(), client, "none");
            let what = match kind {
                Kind::Refused(error) => {
                    access.verdict = "refuse";
                    access.error = Some(error);
                    "refusals"
                }
                Kind::GaveWay => {
                    access.verdict = GAVE_WAY;
                    "idle connections"
                }
            };
            access.reason = Some(format!("more {what} of {}, counted together", whose.words()));
            access.count = Some(repeat.count);
            let line = self.line(&access, &shown);
            let bytes = line.len() as u64;
            (line, bytes)
        };
        let write = |all: Vec<Vec<u8>>| {
            if self.shown {
                all.into_iter().for_each(stderr::write);
            }
            true
        };
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).flush(make, write);
    }

    fn line(&self, access: &Access, client: &str) -> Vec<u8> {
        let known = access.pairs(client).into_iter().filter(|(_, value)| !value.is_null());
        let mut line = String::with_capacity(512);
        match self.format {
            LogFormat::Json => {
                let _ = write!(line, "{{\"@timestamp\":\"{:.6}\",\"log\":\"access\"", Timestamp::now());
                for (name, value) in known {
                    let _ = write!(line, ",\"{name}\":{value}");
                }
                line.push('}');
            }
            LogFormat::Text => {
                let _ = write!(line, "{:.6} access", Timestamp::now());
                for (name, value) in known {
                    let _ = write!(line, " {name}={}", plain(&value));
                }
            }
        }
        line.push('\n');
        line.into_bytes()
    }

    /// The address, or its network.
    fn address(&self, address: IpAddr) -> String {
        let length = match address {
            _ if self.client_address == ClientAddress::Full => return address.to_string(),
            IpAddr::V4(_) => 24,
            IpAddr::V6(_) => 48,
        };
        ipnet::IpNet::new(address, length).map_or_else(|_| "?".into(), |network| network.trunc().to_string())
    }
}

impl Access {
    /// The line of what has just begun.
    pub fn new(id: Uuid, client: IpAddr, mode: &'static str) -> Self {
        Self {
            id,
            client,
            mode,
            sni: None,
            authority: None,
            host: None,
            tried_user: None,
            method: None,
            path: None,
            exchange: None,
            source: None,
            license: None,
            verdict: "allow",
            identified_by: None,
            reason: None,
            upstream: None,
            via_parent: false,
            status: None,
            made_by: None,
            error: None,
            cause: None,
            generation: None,
            resent: false,
            reply_unread: false,
            count: None,
            bytes_in: 0,
            bytes_out: 0,
            room: Arc::default(),
            begun: Instant::now(),
        }
    }

    /// In the order people read them.
    fn pairs(&self, client: &str) -> [(&'static str, Value); 27] {
        let text = |value: &Option<String>| value.as_deref().map(clip).into();
        [
            ("id", self.id.to_string().into()),
            ("client", client.into()),
            ("mode", self.mode.into()),
            ("sni", text(&self.sni)),
            ("authority", text(&self.authority)),
            ("host", text(&self.host)),
            ("tried_user", text(&self.tried_user)),
            ("method", text(&self.method)),
            ("path", text(&self.path)),
            ("exchange", self.exchange.into()),
            ("source", text(&self.source)),
            ("license", text(&self.license)),
            ("verdict", self.verdict.into()),
            ("identified_by", self.identified_by.into()),
            ("status", self.status.into()),
            ("made_by", self.made_by.into()),
            ("reason", text(&self.reason)),
            ("upstream", self.upstream.map(|address| address.to_string()).into()),
            ("via_parent", self.via_parent.then_some(true).into()),
            ("error", self.error.into()),
            ("cause", text(&self.cause)),
            ("resent", self.resent.then_some(true).into()),
            ("reply_unread", self.reply_unread.then_some(true).into()),
            ("generation", self.generation.into()),
            ("count", self.count.into()),
            ("bytes", format!("{}/{}", self.bytes_in, self.bytes_out).into()),
            ("ms", u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).into()),
        ]
    }
}

/// The path of a target as it may be shown: a part of it that is no plain word may be a name or a key, and behind an
/// authority all of it may be the rest of a password.
pub fn shown_path(target: &Uri) -> String {
    let path = target.path();
    if target.authority().is_some() && target.to_string().contains('@') {
        return HIDDEN.into();
    }
    path.split('/').map(word).collect::<Vec<_>>().join("/")
}

/// A Host or an authority, as far as it may be shown: whole, if it is `uri-host [":" port]` (RFC 9110 §7.2).
pub fn shown_authority(sent: &str) -> String {
    if is_authority(sent) { sent.to_owned() } else { HIDDEN.into() }
}

/// The scheme and authority of a request target as they were sent, on the terms of [`shown_host`].
pub fn shown_target(target: &str) -> Option<String> {
    let (scheme, rest) = match target.split_once("://") {
        Some((scheme, rest)) => (format!("{}://", word(scheme)), rest),
        None => (String::new(), target),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority {
        "" if scheme.is_empty() => None,
        _ if target.contains('@') => Some(HIDDEN.into()),
        "" => Some(scheme),
        authority => Some(format!("{scheme}{}", shown_authority(authority))),
    }
}

/// Whether a text is `uri-host [":" port]` (RFC 9110 §7.2), in which no userinfo fits; with the lengths of DNS, so that
/// no key does either.
pub fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
    };
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').map(str::parse::<std::net::Ipv6Addr>);
        return matches!(address, Some(Ok(_))) && port.bytes().all(|byte| byte.is_ascii_digit());
    }
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    (1..=253).contains(&host.len())
        && host.split('.').all(|label| label.len() <= 63)
        && host.bytes().all(of_name)
        && port.len() <= 5
        && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// The host of a request target, with its port if it has one. Userinfo may hold `/`, `?` and `#`, and clients don't agree
/// on where it ends, so of a target with an `@` anywhere, or with anything but a host in front, nothing is shown.
pub fn shown_host(target: &str) -> Option<String> {
    let (_, rest) = target.split_once("://").unwrap_or(("", target));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_host = || {
        let name = authority.trim_start_matches('[').trim_end_matches(']');
        authority.parse::<Endpoint>().is_ok() || name.parse::<Host>().is_ok()
    };
    match authority {
        "" => None,
        _ if target.contains('@') || !is_host() => Some(HIDDEN.into()),
        host => Some(host.to_owned()),
    }
}

/// A value as it is; one with spaces, or with what could be taken for another line or field, quoted and escaped.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text)
            if text.bytes().all(|b| b.is_ascii_graphic() && b != b'"') && !text.is_empty() =>
        {
            text.clone()
        }
        Value::String(text) => format!("\"{}\"", text.escape_default()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_start_a_line_or_a_field_of_its_own() {
        assert_eq!(plain(&"a\nb=\"c\" \u{1b}[31m".into()), "\"a\\nb=\\\"c\\\" \\u{1b}[31m\"");
        assert_eq!(plain(&"license.qlikcloud.com:443".into()), "license.qlikcloud.com:443");
    }

    #[test]
    fn of_a_target_only_what_holds_no_secret_is_shown() {
        let path = |target: &'static str| shown_path(&Uri::from_static(target));
        assert_eq!(path("/v1/definitions/portable/info"), "/v1/definitions/portable/info");
        assert_eq!(path("/v1/ACME%5Cbob/x"), "/v1/(other)/x");
        assert_eq!(path("http://host/v1/sync"), "/v1/sync");
        assert_eq!(path("http://qlik:s3cr/t/PW2@other.example/"), "(other)");
        let host = |target| shown_host(target).unwrap_or_default();
        assert_eq!(host("license.qlikcloud.com:443"), "license.qlikcloud.com:443");
        assert_eq!(host("http://host.example/a?b"), "host.example");
        assert_eq!(host("http://[::1]:80/a"), "[::1]:80");
        assert_eq!((host("/v1?key=a"), host("http:///a")), (String::new(), String::new()));
        for secret in [
            "u:p@",
            "p@host:443",
            "http://u:p@host:80/a?b@c",
            "http://qlik:s3cr/tPW2@other.example/",
            "http://qlik:80/tPW2@other.example/",
            "http://qlik:s3cr?tPW2@other.example/",
            "http://qlik:s3cr#tPW2@other.example/",
            "http://qlik:s3cr/",
            "a b",
        ] {
            assert_eq!(host(secret), "(other)", "{secret}");
        }
    }

    #[test]
    fn of_a_target_the_scheme_and_the_authority_are_shown_as_they_were_sent() {
        let shown = |target| shown_target(target).unwrap_or_default();
        for whole in
            ["license.qlikcloud.com:443", "http://License.QlikCloud.com:443", "*.x:1", "127.1", "[::1]:80"]
        {
            assert_eq!(shown(whole), whole);
        }
        assert_eq!(shown("https://a/b?c=d"), "https://a");
        assert_eq!(shown("/v1?key=a"), "");
        assert_eq!(shown("http:///a"), "http://");
        let label = "a".repeat(64);
        for hidden in ["u:p@", "p@host:443", "u:p", "a b", "::1", "[::1", label.as_str()] {
            assert_eq!(shown(hidden), "(other)", "{hidden}");
        }
        for secret in ["http://u:p@host:80/a?b@c", "http://qlik:80/tPW2@other.example/", "a:80#b@c"] {
            assert_eq!(shown(secret), "(other)", "{secret}");
        }
        assert_eq!(shown("http://qlik:s3cr/"), "http://(other)");
    }

    #[test]
    fn addresses_are_shown_as_networks_where_the_site_asks_for_it() {
        let log = AccessLog::new(
            Log { format: LogFormat::Text, client_address: ClientAddress::Network, level: LogLevel::Info },
            Arc::default(),
            refused(0),
        );
        assert_eq!(log.address("10.20.30.40".parse().unwrap()), "10.20.30.0/24");
        assert_eq!(log.address("2001:db8:1:2::3".parse().unwrap()), "2001:db8:1::/48");
    }
}
