//! A second opinion: DuckDB reads the segments as they lie on disk, and SQL that an auditor can read says who held what,
//! what was changed, how many held it at most, and what was consumed. The readers must say the same.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::clients::{file, installed};
use crate::common::scenes::{Assignment, Deployment};
use crate::common::story::{Story, add, answer, columns, delete};
use crate::common::*;

/// What DuckDB says.
fn opinion(logs: &[&Path], at: &str, from: &str, to: &str) -> Value {
    let mut command = Command::new(installed("bin/python3"));
    command.arg(file("clients/opinion.py")).args([at, from, to]).args(logs);
    let output = run(&mut command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Rows of one part of it, as the readers' are.
fn part(opinion: &Value, name: &str, names: &[&str]) -> Vec<String> {
    columns(&serde_json::json!({ "rows": opinion[name] }), names)
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

/// Half a year of two relays and six deployments: people come and go, changes are told to all and told again, some are
/// rejected, replies are lost.
fn half_a_year(folder: &Path) -> [Story; 2] {
    let begin = "2026-01-20T07:30:00Z";
    let mut stories = ["one", "two"].map(|name| Story::begin(folder, name, begin).segments_of(700));
    let deployments: Vec<_> = (0..6).map(|n| Deployment::new(n, LICENSE)).collect();
    let mut stands = [0u64; 6];
    let mut told: Vec<Assignment> = Vec::new();
    let mut held: Vec<(String, String)> = Vec::new();
    let (mut random, mut total) = (1u64, [0i64; 12]);
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for turn in 0..2_000i64 {
        let minute = turn * 120 + i64::try_from(next(60)).unwrap();
        let n = usize::try_from(next(6)).unwrap();
        let (by, story) = (&deployments[n], &mut stories[n % 2]);
        let version = told.len() as u64 + 1;
        let allotment = ["professional", "analyzer"][usize::try_from(next(2)).unwrap()];
        let asked = match next(10) {
            0..3 => {
                let person = (allotment.to_owned(), format!("ACME\\user{}", next(60)));
                let change = add(&person.0, &person.1);
                if held.contains(&person) {
                    None
                } else if next(5) == 0 {
                    Some(change.told(version).rejected("no unit left"))
                } else {
                    held.push(person);
                    Some(change.told(version))
                }
            }
            3..5 if !held.is_empty() => {
                let (allotment, person) = held.swap_remove(usize::try_from(next(held.len() as u64)).unwrap());
                Some(delete(&allotment, &person).told(version))
            }
            _ => None,
        };
        let base = stands[n];
        let wish: Vec<_> = asked.iter().map(|told| Assignment { version: None, ..told.clone() }).collect();
        told.extend(asked);
        if next(20) == 0 {
            story.lost(minute, by, base, &wish, true);
        } else {
            let to = told.len() as u64;
            story.sync(minute, by, base, &wish, to, &told[usize::try_from(base).unwrap()..]);
            stands[n] = to;
        }
        if next(4) == 0 {
            let time = story.time(minute).to_string();
            let month = time[5..7].parse::<usize>().unwrap() - 1;
            let used = i64::try_from(next(50)).unwrap();
            total[month] += used;
            let answered = (next(10) > 0).then_some(total[month]);
            story.used(minute, by, &time[..7], used, answered);
        }
    }
    stories
}

#[test]
fn duckdb_says_what_the_readers_say() {
    let folder = tempfile::tempdir().unwrap();
    let logs = half_a_year(folder.path()).map(Story::end);
    let logs = [logs[0].as_path(), logs[1].as_path()];
    let (from, to) = ("2026-02-28T23:59:00Z", "2026-04-01T00:00:00Z");
    for at in ["2026-01-31T23:59:59Z", "2026-03-15T12:00:00Z", "2026-07-05T00:00:00Z"] {
        let theirs = opinion(&logs, at, from, to);
        let names = ["license", "allotment", "subject", "version", "since"];
        let mut state = answer(&logs, &["state", "--at", at]);
        state["rows"].as_array_mut().unwrap().retain(|row| row["status"] == "holds");
        let ours = sorted(columns(&state, &names));
        assert!(ours.len() > 5, "{state:#}");
        assert_eq!(sorted(part(&theirs, "holders", &names)), ours, "who held what at {at}");
    }
    let theirs = opinion(&logs, to, from, to);
    let names = ["time", "license", "allotment", "subject", "version", "change", "result"];
    let changes = sorted(columns(&answer(&logs, &["changes", "--from", from, "--to", to]), &names));
    assert!(changes.len() > 50);
    assert_eq!(sorted(part(&theirs, "changes", &names)), changes);

    let names = ["day", "license", "allotment", "peak", "at_end"];
    let days = sorted(columns(&answer(&logs, &["reconcile"]), &names));
    let mut peaks = sorted(part(&theirs, "peak", &names));
    peaks.retain(|row| days.contains(row) || !row.ends_with(" 0 0"));
    assert!(peaks.len() > 200);
    assert_eq!(peaks, days);

    let names = ["month", "confirmed", "unknown", "total"];
    for row in part(&theirs, "consumption", &names) {
        let [month, confirmed, unknown, total] = row.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let mut sums = answer(&logs, &["consumption", "--month", month]);
        sums["rows"]
            .as_array_mut()
            .unwrap()
            .retain(|row| row["source"].as_str().unwrap_or_default().is_empty());
        let high = confirmed.parse::<i64>().unwrap() + unknown.parse::<i64>().unwrap();
        let expected = [format!("{month} {confirmed} {high} {total}")];
        assert_eq!(columns(&sums, &["month", "delta_low", "delta_high", "total"]), expected);
    }
    let records: i64 = {
        let evidence = answer(&logs, &["denied"])["evidence"].clone();
        evidence.as_array().unwrap().iter().map(|log| log["records"].as_i64().unwrap()).sum()
    };
    assert_eq!(theirs["records"], records, "no line was passed over");
}
