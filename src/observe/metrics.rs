//! What is counted, for `/metrics`: a table of fixed size, whose labels come from this program alone.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::facts::Access;
use super::labels::{ErrorClass, MadeBy};

/// All counters and gauges of a relay.
#[derive(Debug, Default)]
pub struct Metrics {
    exchanges: Family<Labels, Counter>,
    bytes_in: Counter,
    bytes_out: Counter,
    replies_unread: Counter,
    /// Idle connections that were closed because others needed their places.
    pub connections_gave_way: Counter,
    /// Attempts to reload that kept a part of the old configuration.
    pub reloads_refused: Counter,
    /// Setups that somebody still works with: one, and those of requests that began before a reload.
    pub setups: Gauge,
    /// The configuration in force, counted from the start.
    pub generation: Gauge,
    /// Entries of the allow-list.
    pub sources: Gauge,
    /// Parts of the configuration that are not what their files say.
    pub parts_held: Gauge,
    /// 1 where `sources.unknown` or `sources.unidentified` is `observe`.
    pub observe: Gauge,
    /// Deployments of which nothing has been understood for a day.
    pub unrecognised: Gauge,
    /// 1 where the relay can do its work.
    pub ready: Gauge<u64, AtomicU64>,
}

/// All of these are words of this program: a client can't make the table grow.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Labels {
    mode: &'static str,
    exchange: &'static str,
    verdict: &'static str,
    made_by: &'static str,
    error: &'static str,
}

impl Metrics {
    /// Counts an exchange as its access line is written.
    pub fn count(&self, access: &Access) {
        let labels = Labels {
            mode: access.mode(),
            exchange: access.exchange.unwrap_or("none"),
            verdict: access.verdict.as_str(),
            made_by: access.made_by.map_or("nobody", MadeBy::as_str),
            error: access.error.map_or("none", ErrorClass::as_str),
        };
        self.exchanges.get_or_create(&labels).inc();
        self.bytes_in.inc_by(access.bytes_in);
        self.bytes_out.inc_by(access.bytes_out);
        self.replies_unread.inc_by(u64::from(access.reply_unread));
    }

    /// All of them in the text format of OpenMetrics.
    pub fn text(&self) -> String {
        let mut registry = Registry::with_prefix("license_relay");
        registry.register("exchanges", "Exchanges, by way in, kind and verdict", self.exchanges.clone());
        let (bytes_in, bytes_out) = (self.bytes_in.clone(), self.bytes_out.clone());
        registry.register_with_unit("request_bodies", "Bodies of requests", Unit::Bytes, bytes_in);
        registry.register_with_unit("reply_bodies", "Bodies of replies", Unit::Bytes, bytes_out);
        let unread = self.replies_unread.clone();
        registry.register(
            "replies_unread",
            "Replies that could not be read, and are holes in the audit log",
            unread,
        );
        let gave_way = self.connections_gave_way.clone();
        registry.register(
            "connections_gave_way",
            "Idle connections that were closed because others needed their places",
            gave_way,
        );
        let refused = self.reloads_refused.clone();
        registry.register(
            "reloads_refused",
            "Reloads that kept some or all of the old configuration",
            refused,
        );
        let gauges = [
            ("setups_live", "Configurations that requests still work with", &self.setups),
            ("configuration_generation", "The configuration in force", &self.generation),
            (
                "configuration_parts_not_in_force",
                "Parts of the configuration whose files say something else and can't be used",
                &self.parts_held,
            ),
            ("sources_allowed", "Entries of the allow-list", &self.sources),
            ("observe", "1 where strangers are let in (sources.unknown or unidentified)", &self.observe),
            (
                "deployments_not_understood",
                "Deployments of which no body was understood for a day",
                &self.unrecognised,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        registry.register("ready", "1 where the relay can do its work", self.ready.clone());
        let mut out = String::new();
        // Writing to a String doesn't fail.
        let _ = text::encode(&mut out, &registry);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Arrival;
    use super::super::labels::WayIn;
    use super::*;

    #[test]
    fn an_exchange_is_counted_by_its_verdict_and_nothing_of_a_client_is_a_label() {
        let metrics = Metrics::default();
        let mut access =
            Access::new(uuid::Uuid::nil(), [10, 0, 0, 1].into(), Some(WayIn::Connect), Arrival::default());
        access.understood("sync", Some("secret-id".into()), None);
        access.read_body(7);
        metrics.count(&access);
        metrics.count(&access);
        let text = metrics.text();
        assert!(text.contains("exchange=\"sync\",verdict=\"allow\""), "{text}");
        assert!(
            text.contains("} 2\n") && text.contains("license_relay_request_bodies_bytes_total 14"),
            "{text}"
        );
        assert!(!text.contains("secret-id") && !text.contains("10.0.0.1"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
