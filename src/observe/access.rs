//! The access line: one an exchange, with nothing secret in it. Lines of refusals are folded by client and have a budget of
//! bytes a day: whoever is refused asks as often as they like. Any other line counts for the budget of its exchange.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::facts::{Access, Arrival};
use super::fold::{Fold, Folded, FoldedClient};
use super::labels::{ErrorClass, Verdict};
use super::metrics::Metrics;
use crate::budget::Debt;
use crate::config::model::{ClientAddress, Log, LogLevel};
use relay_log::stderr;
use relay_log::stderr::LogFormat;

/// Writes access lines to standard error, as the rest of the log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    metrics: Arc<Metrics>,
    refused: Arc<FoldedLines>,
    format: LogFormat,
    client_address: ClientAddress,
    /// Lines are of level `info`.
    shown: bool,
}

/// The lines in the current window that are folded; it outlives each setup.
pub(crate) type FoldedLines = Mutex<Fold<FoldedKind>>;

/// What folded lines have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FoldedKind {
    /// Refusals with this error.
    Refused(Option<ErrorClass>),
    /// Connections that gave way to others.
    GaveWay,
}

/// Creates an empty fold, with this budget of bytes of lines a day.
pub(crate) fn refused(per_day: u64) -> Arc<FoldedLines> {
    Arc::new(Mutex::new(Fold::new(per_day)))
}

impl AccessLog {
    /// Creates the log that `[log]` describes.
    pub(crate) fn new(log: Log, metrics: Arc<Metrics>, refused: Arc<FoldedLines>) -> Self {
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
        if access.verdict != Verdict::Refuse {
            let line = self.line(&access, &self.address(access.client()));
            access.room.wrote_line(line.len() as u64);
            return stderr::write(line);
        }
        self.fold(FoldedKind::Refused(access.error), &access);
    }

    /// Writes the line of a connection of this client that gave way to another one. No exchange was made of it, so it counts as
    /// none.
    pub(crate) fn write_gave_way(&self, client: IpAddr) {
        let mut access = Access::new(Uuid::now_v7(), client, None, Arrival::default());
        access.verdict = Verdict::Close;
        access.reason = Some("idle, and its place was needed".into());
        if self.shown {
            self.fold(FoldedKind::GaveWay, &access);
        }
    }

    /// Writes it, or counts it where there are too many of its kind.
    fn fold(&self, kind: FoldedKind, access: &Access) {
        let write = |budget: &Debt| {
            let line = self.line(access, &self.address(access.client()));
            let stands = budget.take(line.len() as u64).is_ok();
            if stands {
                stderr::write(line);
            }
            stands
        };
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).note(kind, access.client(), write);
    }

    /// Writes a line for each count of what had no line of its own, and starts the next window.
    pub(crate) fn write_folded(&self) {
        let make = |Folded { kind, repeat, whose }: Folded<'_, _>| {
            let (client, shown) = match whose {
                FoldedClient::Address(address) | FoldedClient::Network(address) => {
                    (address, self.address(address))
                }
                FoldedClient::Others => (IpAddr::from([0; 4]), "several".into()),
            };
            let mut access = Access::new(Uuid::now_v7(), client, None, Arrival::default());
            let what = match kind {
                FoldedKind::Refused(error) => {
                    access.verdict = Verdict::Refuse;
                    access.error = error;
                    "refusals"
                }
                FoldedKind::GaveWay => {
                    access.verdict = Verdict::Close;
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
