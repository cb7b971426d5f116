use serde_json::Number;

use super::*;
use crate::fold::gaps::gap::GapCause;
use crate::fold::test_records::{LICENSE, fed, record};
use relay_log::ledger::action::Outcome;
use relay_log::ledger::qlik::{Base, Repeat};
use relay_log::ledger::record::Record;

/// Follows records of these logs at these seconds.
fn found(records: &[(usize, i64, Record)]) -> FoundGaps {
    let mut rhythm = Rhythm::default();
    for (log, second, record) in records {
        fed(*second, record, |entry| rhythm.take(*log, entry));
    }
    rhythm.finish()
}

/// One log, by the minute; `s` is answered, `r` refused, `f` failed, the rest is the relay's own.
fn of(events: &[(i64, &str)]) -> FoundGaps {
    let records: Vec<_> = events.iter().map(|(minute, what)| (0, minute * 60, made(what))).collect();
    found(&records)
}

fn made(what: &str) -> Record {
    match what {
        "s" => record("license.sync.response", "a"),
        "r" => record("access.limited", "a"),
        "f" => record("upstream.error", "a"),
        relays_own => record(relays_own, ""),
    }
}

fn synced(sent: u64, told: u64) -> Record {
    let mut record = made("s");
    (record.qlik.base_sent, record.qlik.base_version) = (Some(sent), Some(told));
    record
}

/// From, minutes, kind, and the six parts.
fn rows(found: &FoundGaps) -> Vec<(i64, i64, GapCause, [i64; 6])> {
    let gaps = found.gaps.iter();
    gaps.map(|gap| (gap.from.as_second() / 60, gap.minutes, gap.kind, gap.parts.all())).collect()
}

#[test]
fn twenty_five_minutes_are_the_rhythm_and_a_second_more_is_not() {
    let at = |second| found(&[(0, 0, made("s")), (0, second, made("s"))]);
    assert!(at(1500).gaps.is_empty());
    assert_eq!(rows(&at(1501)), [(0, 25, GapCause::Silent, [0, 0, 0, 25, 0, 0])]);
}

#[test]
fn each_kind_of_gap_is_told_apart_to_the_minute() {
    let down = of(&[(0, "relay.start"), (1, "s"), (5, "relay.stop"), (47, "relay.start"), (49, "s")]);
    assert_eq!(rows(&down), [(1, 48, GapCause::RelayDown, [42, 0, 0, 0, 0, 6])]);
    let refused = of(&[(0, "s"), (10, "r"), (20, "r"), (30, "r"), (40, "s")]);
    assert_eq!(rows(&refused), [(0, 40, GapCause::Refused, [0, 40, 0, 0, 0, 0])]);
    let failing = of(&[(0, "s"), (10, "f"), (20, "f"), (30, "s")]);
    assert_eq!(rows(&failing), [(0, 30, GapCause::Failing, [0, 0, 30, 0, 0, 0])]);
    let silent = of(&[(0, "s"), (30, "relay.heartbeat"), (61, "s")]);
    assert_eq!(rows(&silent), [(0, 61, GapCause::Silent, [0, 0, 0, 61, 0, 0])]);
    let around = found(&[(0, 0, synced(3, 5)), (0, 2400, synced(6, 6))]);
    assert_eq!(rows(&around), [(0, 40, GapCause::Around, [0, 0, 0, 0, 40, 0])]);
    assert!(around.gaps[0].inferred && !silent.gaps[0].inferred);
}

#[test]
fn a_response_that_failed_or_is_unknown_is_a_failed_try_of_any_kind() {
    for outcome in [Outcome::Failure, Outcome::Unknown] {
        let mut response = record("license.consumption.response", "a");
        response.outcome = outcome;
        let found = found(&[(0, 0, made("s")), (0, 1200, response), (0, 2400, made("s"))]);
        assert_eq!(rows(&found), [(0, 40, GapCause::Failing, [0, 0, 40, 0, 0, 0])]);
    }
}

#[test]
fn a_gap_of_many_causes_is_split_at_each_try_and_at_each_stop() {
    let mixed = of(&[
        (0, "relay.start"),
        (0, "s"),
        (10, "r"),
        (20, "f"),
        (25, "relay.heartbeat"),
        (27, "relay.heartbeat"),
        (57, "audit.recovered"),
        (57, "relay.start"),
        (60, "f"),
        (90, "r"),
        (95, "relay.heartbeat"),
        (120, "s"),
    ]);
    // Refused 0-10 and 10-20, failing 20-27, down 27-57, failing 57-60, silent 60-90 and 90-120.
    assert_eq!(rows(&mixed), [(0, 120, GapCause::Silent, [30, 20, 10, 60, 0, 0])]);
    let restart = of(&[(0, "s"), (20, "relay.stop"), (21, "relay.start"), (30, "s")]);
    assert_eq!(rows(&restart), [(0, 30, GapCause::RelayDown, [1, 0, 0, 0, 0, 29])]);
}

#[test]
fn what_has_not_ended_goes_to_the_end_of_the_log() {
    let found = of(&[(0, "s"), (10, "relay.stop"), (100, "relay.start"), (130, "relay.heartbeat")]);
    assert_eq!(rows(&found), [(0, 130, GapCause::RelayDown, [90, 0, 0, 30, 0, 10])]);
    assert!(found.gaps[0].ongoing);
    assert_eq!(found.gaps[0].to.as_second(), 130 * 60);
}

#[test]
fn a_clock_that_is_set_makes_no_gap_and_hides_none() {
    let step = |seconds: f64| {
        let mut record = made("relay.clock_step");
        record.qlik.delta = Number::from_f64(seconds);
        record.reason = format!("the clock was set by {seconds:.3} s");
        record
    };
    let hour = 3600;
    for delta in [-3600.0, -3600.25, 3600.0, 3600.75, -86_400.5, 86_400.0] {
        let set = delta as i64;
        let run = |later: i64| {
            found(&[
                (0, 100 * hour, made("s")),
                (0, 100 * hour + 300 + set, step(delta)),
                (0, 100 * hour + 300 + set, made("relay.heartbeat")),
                (0, 100 * hour + 60 * later + set, made("s")),
            ])
        };
        assert!(run(10).gaps.is_empty(), "{delta}");
        let told = run(40);
        assert_eq!(rows(&told), [(6000, 40, GapCause::Silent, [0, 0, 0, 40, 0, 0])], "{delta}");
    }
    // Where the record does not say by how much, what is not known is not taken for a gap.
    let records = [(0, 0, made("s")), (0, hour, made("relay.clock_step")), (0, hour + 300, made("s"))];
    assert!(found(&records).gaps.is_empty());
    // A relay that is stopped while the clock goes back was down for what can be told at least.
    let stopped = found(&[
        (0, 7000, made("relay.start")),
        (0, 7100, made("s")),
        (0, 7200, made("relay.stop")),
        (0, 3600, step(-3600.0)),
        (0, 3660, made("relay.start")),
        (0, 5100, made("relay.stop")),
        (0, 6900, made("relay.start")),
        (0, 6900, made("s")),
    ]);
    assert_eq!(rows(&stopped)[0].3, [31, 0, 0, 0, 0, 26]);
}

#[test]
fn with_several_logs_a_relay_is_down_only_while_all_are() {
    let found = found(&[
        (0, 0, made("relay.start")),
        (1, 0, made("relay.start")),
        (0, 60, made("s")),
        (0, 600, made("relay.stop")),
        (1, 1200, made("relay.heartbeat")),
        // The other has crashed, which is known only once it starts again, after the source is back.
        (0, 3600, made("relay.start")),
        (0, 3660, made("s")),
        (0, 3700, made("relay.heartbeat")),
        (1, 7200, made("relay.start")),
        (0, 7260, made("s")),
    ]);
    assert_eq!(
        rows(&found),
        [(1, 60, GapCause::RelayDown, [40, 0, 0, 0, 0, 20]), (61, 60, GapCause::Silent, [0, 0, 0, 60, 0, 0])]
    );
}

#[test]
fn a_log_that_has_ended_for_good_keeps_nothing_back_for_ever() {
    let mut rhythm = Rhythm::default();
    fed(0, &made("relay.start"), |entry| rhythm.take(1, entry));
    fed(1, &made("relay.start"), |entry| rhythm.take(0, entry));
    for n in 0..WAITING as i64 + 500 {
        fed(n + 2, &made("s"), |entry| rhythm.take(0, entry));
    }
    assert!(rhythm.waiting.len() <= WAITING);
    assert!(rhythm.finish().gaps.is_empty());
}

#[test]
fn around_is_concluded_for_the_license_that_it_was_told_of_and_not_from_what_is_unknown() {
    let two = |bases: [(&str, u64, u64); 2]| {
        let mut record = made("s");
        record.qlik.bases = bases
            .map(|(license, sent, version)| Base {
                license: Some(license.into()),
                sent: Some(sent),
                version: Some(version),
            })
            .to_vec();
        record
    };
    let other = "9999000000001254";
    let first = (0, 0, two([(LICENSE, 1, 100), (other, 1, 5)]));
    let kinds = |last| found(&[first.clone(), (0, 3000, last)]).gaps[0].kind;
    assert_eq!(kinds(two([(LICENSE, 100, 100), (other, 5, 5)])), GapCause::Silent);
    assert_eq!(kinds(two([(LICENSE, 100, 100), (other, 6, 6)])), GapCause::Around);
    // What was told and could not be read, or is not in the log, may be how it came to know.
    let mut unread = made("s");
    (unread.outcome, unread.reason) = (Outcome::Unknown, UNREAD_REPLY.into());
    let mut gap = made("audit.gap");
    let time = Timestamp::from_second(700).unwrap();
    gap.qlik.repeat = Some(Repeat { count: 4, first: time, last: time });
    for unknown in [unread, gap] {
        let found = found(&[(0, 0, synced(1, 5)), (0, 60, unknown), (0, 6000, synced(9, 9))]);
        assert!(!found.gaps[0].inferred);
    }
}

#[test]
fn what_a_log_says_is_not_in_it_is_added_up() {
    let gap = |count, first, last| {
        let mut record = made("audit.gap");
        let at = |second| Timestamp::from_second(second).unwrap();
        record.qlik.repeat = Some(Repeat { count, first: at(first), last: at(last) });
        record
    };
    let found = found(&[(1, 50, gap(3, 20, 40)), (0, 60, made("s")), (1, 90, gap(2, 60, 80))]);
    let [told] = found.unwritten.as_slice() else { panic!("{:?}", found.unwritten) };
    assert_eq!((told.log, told.count, told.records), (1, 5, 2));
    assert_eq!((told.first.as_second(), told.last.as_second()), (20, 80));
    assert_eq!(found.strip.row(0).collect::<Vec<_>>(), [(0, 1)]);
    assert_eq!(&*found.sources[0].1, LICENSE);
}

/// The same by other means, minute by minute: all records of all logs are known beforehand.
fn oracle(events: &[(usize, i64, &str)], logs: usize) -> Vec<(i64, i64, [i64; 6])> {
    let is_up = |minute: i64| {
        (0..logs).any(|log| {
            let own: Vec<_> = events.iter().filter(|event| event.0 == log).collect();
            own.windows(2).any(|pair| {
                let within = pair[0].1 <= minute && minute < pair[1].1;
                within && pair[0].2 != "relay.stop" && pair[1].2 != "relay.start"
            })
        })
    };
    let answers: Vec<_> = events.iter().filter(|event| event.2 == "s").map(|event| event.1).collect();
    let mut rows = Vec::new();
    for pair in answers.windows(2) {
        let mut parts = [0; 6];
        let (mut begin, mut kind) = (pair[0], "");
        for minute in pair[0]..pair[1] {
            let next = minute + 1;
            if !is_up(minute) {
                parts[0] += 1;
                (begin, kind) = (next, "");
                continue;
            }
            let what = events.iter().find(|event| event.1 == next && ["s", "r", "f"].contains(&event.2));
            let ends = what.map_or("", |event| event.2);
            if ends.is_empty() && is_up(next) {
                continue;
            }
            let part = match (kind, ends) {
                _ if next - begin > 25 => 3,
                ("r", _) => 1,
                ("f", _) => 2,
                (_, "r") => 1,
                (_, "f") => 2,
                _ => 5,
            };
            parts[part] += next - begin;
            (begin, kind) = (next, ends);
        }
        if pair[1] - pair[0] > 25 {
            rows.push((pair[0], pair[1] - pair[0], parts));
        }
    }
    rows
}

#[test]
fn random_histories_of_one_and_of_several_logs_are_told_as_the_oracle_tells_them() {
    let mut seed = 7_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut gaps, mut downs) = (0, 0);
    for history in 0..240 {
        let logs = 1 + history % 3;
        let mut events: Vec<_> = (0..logs).map(|log| (log, log as i64, "relay.start")).collect();
        let (mut minute, mut up) = (logs as i64, [true; 3]);
        for _ in 0..60 {
            let far = if random(4) == 0 { 60 } else { 12 };
            minute += 1 + random(far) as i64;
            let log = random(logs as u64) as usize;
            let what = match random(10) {
                _ if !up[log] => "relay.start",
                // A crash shows as a start without a stop.
                0 => "relay.start",
                1 | 2 => "relay.stop",
                3 => "relay.heartbeat",
                4 | 5 => "r",
                6 => "f",
                _ => "s",
            };
            up[log] = what != "relay.stop";
            events.push((log, minute, what));
        }
        let records: Vec<_> =
            events.iter().map(|(log, minute, what)| (*log, minute * 60, made(what))).collect();
        let mut told = rows(&found(&records));
        // The oracle looks at no end of the log.
        let last = events.iter().rfind(|event| event.2 == "s").map_or(0, |event| event.1);
        told.retain(|row| row.0 != last);
        let told: Vec<_> = told.into_iter().map(|(from, all, _, parts)| (from, all, parts)).collect();
        assert_eq!(told, oracle(&events, logs), "{events:?}");
        gaps += told.len();
        downs += told.iter().filter(|row| row.2[0] > 0).count();
    }
    assert!(gaps > 500 && downs > 200, "{gaps} {downs}");
}
