//! What the settings add up to: how much the log and the access lines may grow in a day, whoever asks.

use std::fmt::Write as _;

#[cfg(any(feature = "report", test))]
use serde_json::{Value, json};

use crate::bounds;
use crate::config::model::{AllowList, Limits, Source};

/// Bytes in a day.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct GrowthAtMost {
    /// Requests that entries let in, and what they are answered.
    entries: u64,
    /// Those of whom no entry lets in.
    strangers: u64,
    /// Refusals in the log, with what is counted of them.
    refusals: u64,
    /// The same in the access lines.
    refusal_lines: u64,
    /// What the relay writes of itself into the log.
    own: u64,
    /// Hashes of the log's lines, in a folder of their own.
    hashes: u64,
    /// What adds most, and what makes it less.
    advice: String,
}

impl GrowthAtMost {
    /// Of these limits and this list. Each client of an entry that has a budget of its own is counted with the whole of it.
    pub(super) fn of(limits: &Limits, list: &AllowList) -> Self {
        let share = |source: &Source| source.limit.unwrap_or(limits.per_source).log_per_day;
        let of_entry = |source: &Source| clients(source).saturating_mul(share(source));
        let entries = list.sources.iter().map(of_entry).fold(0, u64::saturating_add);
        let strangers = limits.strangers_log_per_day;
        let refusals = strangers.saturating_add(bounds::REFUSAL_COUNTS_A_DAY);
        let refusal_lines = strangers.saturating_add(bounds::REFUSAL_LINES_A_DAY);
        let own = bounds::OWN_RECORDS_A_DAY;
        let lines = [entries, strangers, refusals, own].into_iter().fold(0, u64::saturating_add);
        let dearest = list.sources.iter().max_by_key(|source| of_entry(source));
        let advice = match dearest.filter(|source| of_entry(source) > strangers) {
            Some(source) => advice(source, share(source)),
            None => "Strangers and refusals add most: lower limits.strangers_log_per_day".to_owned(),
        };
        Self {
            entries,
            strangers,
            refusals,
            refusal_lines,
            own,
            hashes: lines / bounds::HASHES_SHARE,
            advice,
        }
    }

    /// Of the log, with all that lies in its folder.
    fn log(&self) -> u64 {
        let Self { entries, strangers, refusals, own, hashes, .. } = self;
        [entries, strangers, refusals, own, hashes]
            .into_iter()
            .fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Of the access lines. What an entry lets in may fill as much there as in the log.
    fn access_lines(&self) -> u64 {
        self.entries.saturating_add(self.strangers).saturating_add(self.refusal_lines)
    }

    /// For people.
    pub(super) fn lines(&self) -> [String; 2] {
        let Self { entries, strangers, refusals, refusal_lines, own, hashes, advice } = self;
        let told = |what: &str, sum, parts: &[(&str, u64)]| {
            let parts = parts.iter().map(|(what, bytes)| ((*what).to_owned(), size(*bytes)));
            listed(&format!("{what} a day at most: {}", size(sum)), parts)
        };
        let let_in = [("entries", *entries), ("strangers and connectivity tests", *strangers)];
        let own = own.saturating_add(*hashes);
        let log =
            [let_in.as_slice(), &[("refusals", *refusals), ("the relay's own records, and hashes", own)]]
                .concat();
        let access = [let_in.as_slice(), &[("refusals", *refusal_lines)]].concat();
        [
            format!(
                "{}\n  A dearer message or reply goes beyond that once, and is then owed. {advice}.",
                told("log", self.log(), &log)
            ),
            told("access lines", self.access_lines(), &access),
        ]
    }

    /// For programs.
    #[cfg(any(feature = "report", test))]
    pub(super) fn json(&self) -> Value {
        let Self { entries, strangers, refusals, refusal_lines, own, hashes, .. } = self;
        json!({
            "log": {
                "bytes": self.log(),
                "entries": entries,
                "strangers": strangers,
                "refusals": refusals,
                "own": own,
                "hashes": hashes,
            },
            "access_lines": {
                "bytes": self.access_lines(),
                "entries": entries,
                "strangers": strangers,
                "refusals": refusal_lines,
            },
        })
    }
}

/// How many have a budget of their own at this entry: the deployment, where it lists networks or users, and whoever else it
/// lets in, each address up to a number and all further ones together. A license lets in activations from anywhere.
fn clients(source: &Source) -> u64 {
    let is_placed = is_placed(source);
    let by_address = !is_placed || !source.licenses.is_empty();
    let addresses = bounds::ADDRESSES_PER_SOURCE as u64 + 1;
    u64::from(is_placed) + if by_address { addresses } else { 0 }
}

fn is_placed(source: &Source) -> bool {
    !source.networks.is_empty() || !source.users.is_empty()
}

fn advice(source: &Source, share: u64) -> String {
    let key = match source.limit {
        Some(_) => "log_per_day of its limit",
        None => "limits.per_source.log_per_day",
    };
    let (name, clients, share) = (source.label(), clients(source), size(share));
    let list = match (is_placed(source), source.licenses.is_empty()) {
        (false, true) => "list its networks, or ",
        (false, false) => {
            "list its networks in place of its licenses, which let in activations from anywhere, or "
        }
        (true, true) => "",
        (true, false) => "leave out its licenses, which let in activations from anywhere, or ",
    };
    format!("Entry {name:?} adds most, {clients} times {share}: {list}lower {key}")
}

/// A sum, and below it what it is made of.
pub(super) fn listed(sum: &str, parts: impl IntoIterator<Item = (String, String)>) -> String {
    let mut text = sum.to_owned();
    for (what, bytes) in parts {
        // A `String` takes whatever is written to it.
        let _ = write!(text, "\n  {what}: {bytes}");
    }
    text
}

/// Rounded up, so that it is no less than it says.
fn size(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit);
    let Some((unit, name)) = unit else { return format!("{bytes} bytes") };
    let tenths = (u128::from(bytes) * 10).div_ceil(unit.into());
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        rest => format!("{}.{rest} {name}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{file, sources};

    const MIB: u64 = 1 << 20;

    fn growth(limits: &str, list: &str) -> GrowthAtMost {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        std::fs::write(&path, limits).unwrap();
        let (config, _) = file::load(&path).unwrap();
        GrowthAtMost::of(&config.limits, &sources::parse(list, "sources.toml".as_ref()).unwrap())
    }

    #[test]
    fn each_client_that_has_a_budget_of_its_own_is_counted_with_the_whole_of_it() {
        for (list, clients, words) in [
            (
                "id = \"a\"",
                17,
                "\"id a\" adds most, 17 times 256 MiB: list its networks, or lower limits.per_source",
            ),
            (
                "id = \"a\"\nnetworks = \"10.0.0.1\"",
                1,
                "1 times 256 MiB: lower limits.per_source.log_per_day",
            ),
            ("users = \"a\"", 1, "1 times 256 MiB: lower"),
            ("licenses = \"9999000000001253\"", 17, "list its networks in place of its licenses, which let"),
            ("users = \"a\"\nlicenses = \"9999000000001253\"", 18, "leave out its licenses, which let"),
        ] {
            let growth = growth(
                "",
                &format!(
                    "[[source]]\nid = \"b\"\nnetworks = \"10.9.9.9\"\nlimit = {{ requests = 1, log_per_day = \"1MiB\" }}\n[[source]]\n{list}"
                ),
            );
            assert_eq!(growth.entries, clients * 256 * MIB + MIB, "{list}");
            if clients > 1 {
                assert!(growth.advice.contains(words), "{list}: {}", growth.advice);
            }
        }
    }

    #[test]
    fn the_sums_are_the_sums_of_their_parts_and_are_told_rounded_up() {
        let limits = "limits.strangers_log_per_day = \"2MiB\"\n\
                      limits.per_source = { requests = 9, log_per_day = \"1MiB\" }";
        let growth = growth(limits, "[[source]]\nid = \"a\"\n");
        assert_eq!((growth.entries, growth.strangers), (17 * MIB, 2 * MIB));
        let lines = 17 * MIB + 2 * MIB + growth.refusals + growth.own;
        assert_eq!(growth.log(), lines + lines / bounds::HASHES_SHARE);
        let json = growth.json();
        assert_eq!(json["log"]["bytes"], growth.log());
        assert_eq!(json["access_lines"]["bytes"], 21 * MIB + bounds::REFUSAL_LINES_A_DAY);
        let [log, access] = growth.lines();
        assert!(log.starts_with("log a day at most: ") && log.contains("\n  entries: 17 MiB\n"), "{log}");
        assert!(access.contains("connectivity tests: 2 MiB"), "{access}");
        assert_eq!([size(1023), size(1025), size(3 << 30)], ["1023 bytes", "1.1 KiB", "3 GiB"]);
    }

    #[test]
    fn where_nobody_is_listed_refusals_add_most() {
        let growth = growth("", "# nobody\n");
        assert_eq!(growth.entries, 0);
        assert!(growth.advice.contains("lower limits.strangers_log_per_day"), "{}", growth.advice);
    }
}
