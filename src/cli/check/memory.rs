//! The memory that a relay takes at most, added up from what the configuration and the bounds allow.

use std::fmt;
use std::thread::available_parallelism;

use super::sums::listed;
use crate::bounds;
use crate::config::model::Config;
use crate::memory::Parts;

/// What takes memory, and how many bytes of it at most.
#[derive(Debug)]
pub(super) struct AtMost(Vec<(String, u64)>);

impl AtMost {
    /// Adds up a configuration, on this machine.
    pub(super) fn of(config: &Config) -> Self {
        Self::with(config, available_parallelism().map_or(1, usize::from) as u64)
    }

    fn with(config: &Config, processors: u64) -> Self {
        let connections = u64::try_from(config.listen.max_connections).unwrap_or(u64::MAX);
        let each = bounds::CONNECTION;
        let bodies = Parts::of(config).sum();
        // A value that is too small for reading one bounds only what arrives.
        let of_bodies =
            if bodies == config.limits.all_bodies { "limits.all_bodies" } else { "bodies, and reading them" };
        let mut parts = vec![
            (of_bodies.to_owned(), bodies),
            ("audit.queue".to_owned(), config.audit.queue),
            (
                format!("{connections} connections of {} KiB (listen.max_connections)", each >> 10),
                connections.saturating_mul(each),
            ),
            (format!("{processors} workers"), processors.saturating_mul(bounds::WORKER)),
            ("buffers of tunnels".to_owned(), (bounds::TUNNEL_BUFFERS * bounds::TUNNEL_BUFFER) as u64),
            ("tables".to_owned(), bounds::TABLES),
            ("the program itself".to_owned(), bounds::PROGRAM),
        ];
        let sum = parts.iter().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes));
        parts.push(("what the allocator keeps".to_owned(), sum / bounds::ALLOCATOR_SHARE));
        parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        Self(parts)
    }

    /// The sum.
    fn bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes))
    }
}

impl fmt::Display for AtMost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |bytes: u64| format!("{} MiB", mebibytes(bytes));
        let parts = self.0.iter().map(|(what, bytes)| (what.clone(), told(*bytes)));
        f.write_str(&listed(&format!("memory at most: {}", told(self.bytes())), parts))
    }
}

fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file;

    fn config(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        std::fs::write(&path, text).unwrap();
        file::load(&path).unwrap().0
    }

    #[test]
    fn the_sum_grows_with_each_value_that_it_is_made_of() {
        let sum = |text: &str, processors| AtMost::with(&config(text), processors).bytes();
        let plain = sum("", 2);
        let more = |of: u64| of + of / bounds::ALLOCATOR_SHARE;
        let close = |a: u64, b: u64| a.abs_diff(b) <= 1;
        assert!(close(sum("[limits]\nall_bodies = \"1GiB\"", 2) - plain, more(768 << 20)));
        assert!(close(sum("[listen]\nmax_connections = 10001", 2) - plain, more(bounds::CONNECTION)));
        assert!(close(sum("", 3) - plain, more(bounds::WORKER)));
    }

    #[test]
    fn what_reading_takes_beside_a_small_all_bodies_is_not_told_as_that_value() {
        let words = AtMost::with(&config("[limits]\nall_bodies = \"100MiB\""), 2).to_string();
        assert!(words.contains("\n  bodies, and reading them: 250 MiB\n"), "{words}");
    }

    #[test]
    fn the_largest_parts_are_told_first() {
        let few = "[listen]\nmax_connections = 16\nmax_connections_per_address = 16";
        let words = AtMost::with(&config(few), 2).to_string();
        assert!(words.starts_with("memory at most: "), "{words}");
        assert!(words.contains(" MiB\n  limits.all_bodies: 256 MiB\n"), "{words}");
        let many = AtMost::with(&config(""), 2).to_string();
        assert!(many.contains(" MiB\n  10000 connections of "), "{many}");
    }
}
