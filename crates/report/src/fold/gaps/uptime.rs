//! When relays were up, as far as their logs show it: between two records of one run. A crash is known only by the next
//! start, and with several logs one may be behind the others, so what is certain is asked for apart.
//!
//! Times are in microseconds since 1970, by the clock of the log they stand in.

use std::collections::VecDeque;

use relay_log::ledger::entry::Entry;

/// The relays of all logs together.
#[derive(Debug, Default)]
pub(crate) struct Uptime {
    logs: Vec<Life>,
    /// Up to here it has been told when none was up.
    told: Option<i64>,
}

/// The relay of one log.
#[derive(Debug, Default)]
struct Life {
    /// What is not told yet, and the last run in any case.
    runs: VecDeque<Run>,
    running: bool,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    from: i64,
    /// The last record of it so far.
    to: i64,
}

impl Uptime {
    /// The next record of a log.
    pub(crate) fn take(&mut self, log: usize, entry: &Entry<'_>) {
        let now = entry.time.as_microsecond();
        self.told.get_or_insert(now);
        let life = self.life(log);
        match &*entry.action {
            "relay.start" => life.begin(now),
            "relay.stop" => {
                life.go_on(now);
                life.running = false;
            }
            // These stand before a start too, and whoever keeps the log of a relay that is down writes them.
            "relay.clock_step" => {}
            action if action.starts_with("audit.") => {}
            _ if life.running => life.go_on(now),
            _ => life.begin(now),
        }
    }

    /// The clock of a log was set: what came before is seen by the new one.
    pub(crate) fn step(&mut self, log: usize, delta: i64) {
        let alone = self.logs.len() <= 1;
        for run in &mut self.life(log).runs {
            run.from = run.from.saturating_add(delta.min(0));
            run.to = run.to.saturating_add(delta);
        }
        // Beside others, the time that is told is theirs as well.
        if alone && let Some(told) = &mut self.told {
            *told = told.saturating_add(delta.min(0));
        }
    }

    /// Up to here every record has come that says whether a relay was up: one that runs writes each minute or two.
    pub(crate) fn certain(&self) -> i64 {
        let running = self.logs.iter().filter(|life| life.running);
        running.filter_map(|life| Some(life.runs.back()?.to)).min().unwrap_or(i64::MAX)
    }

    /// The times up to `until`, and since the last call, in which no relay was up. A relay that has not been heard of
    /// since counts as down.
    pub(crate) fn down(&mut self, until: i64) -> Vec<(i64, i64)> {
        let mut down = Vec::new();
        let Some(mut at) = self.told else { return down };
        while at < until {
            let runs = || self.logs.iter().flat_map(|life| &life.runs);
            let up_to = runs().filter(|run| run.from <= at && at < run.to).map(|run| run.to).max();
            let next = up_to.or_else(|| runs().map(|run| run.from).filter(|from| *from > at).min());
            let next = next.unwrap_or(until).min(until);
            if up_to.is_none() {
                down.push((at, next));
            }
            at = next;
        }
        self.told = Some(at);
        for life in &mut self.logs {
            while life.runs.len() > 1 && life.runs.front().is_some_and(|run| run.to <= at) {
                life.runs.pop_front();
            }
        }
        down
    }

    fn life(&mut self, log: usize) -> &mut Life {
        if self.logs.len() <= log {
            self.logs.resize_with(log + 1, Life::default);
        }
        &mut self.logs[log]
    }
}

impl Life {
    fn begin(&mut self, now: i64) {
        self.runs.push_back(Run { from: now, to: now });
        self.running = true;
    }

    fn go_on(&mut self, now: i64) {
        if self.running
            && let Some(run) = self.runs.back_mut()
        {
            run.to = run.to.max(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::test_records::{fed, record};

    const MINUTE: i64 = 60_000_000;

    /// What the records of these logs, in the order of time, show up to a minute.
    fn down(records: &[(usize, i64, &str)], until: i64) -> Vec<(i64, i64)> {
        let mut uptime = Uptime::default();
        for (log, minute, action) in records {
            fed(minute * 60, &record(action, ""), |entry| uptime.take(*log, entry));
        }
        let down = uptime.down(until * MINUTE);
        down.into_iter().map(|(from, to)| (from / MINUTE, to / MINUTE)).collect()
    }

    #[test]
    fn a_relay_is_down_from_its_stop_or_its_last_sign_of_life_to_its_start() {
        let clean = [(0, 0, "relay.start"), (0, 7, "relay.stop"), (0, 20, "relay.start")];
        assert_eq!(down(&clean, 20), [(7, 20)]);
        let crash = [
            (0, 0, "relay.start"),
            (0, 7, "relay.heartbeat"),
            (0, 20, "audit.recovered"),
            (0, 21, "relay.start"),
            (0, 22, "relay.heartbeat"),
        ];
        assert_eq!(down(&crash, 22), [(7, 21)]);
        let kept = [(0, 0, "relay.start"), (0, 7, "relay.stop"), (0, 9, "audit.key"), (0, 12, "audit.key")];
        assert_eq!(down(&kept, 12), [(7, 12)], "a key was made meanwhile");
        assert_eq!(down(&[(0, 5, "license.sync.response"), (0, 9, "relay.heartbeat")], 9), []);
    }

    #[test]
    fn several_relays_are_down_only_while_all_are() {
        let records = [
            (0, 0, "relay.start"),
            (1, 1, "relay.start"),
            (1, 10, "relay.stop"),
            (0, 20, "relay.heartbeat"),
            (1, 40, "relay.start"),
            (0, 50, "relay.start"),
            (1, 60, "relay.heartbeat"),
            (0, 60, "relay.heartbeat"),
        ];
        assert_eq!(down(&records, 60), [(20, 40)]);
    }

    #[test]
    fn what_is_certain_waits_for_the_log_that_is_behind_unless_that_relay_has_stopped() {
        let mut uptime = Uptime::default();
        let mut take = |log, minute: i64, action| {
            fed(minute * 60, &record(action, ""), |entry| uptime.take(log, entry));
            uptime.certain() / MINUTE
        };
        assert_eq!(take(0, 0, "relay.start"), 0);
        assert_eq!(take(1, 3, "relay.start"), 0);
        assert_eq!(take(0, 5, "relay.stop"), 3);
        assert_eq!(take(1, 9, "relay.heartbeat"), 9);
    }
}
