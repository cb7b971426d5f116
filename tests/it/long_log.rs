//! What readers need of memory does not grow with the log: one of many records is read in as much as one of a tenth.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::length::by_length;
use crate::common::scenes::Deployment;
use crate::common::story::{Story, add, delete};
use crate::common::*;

/// Records of a sync that asks for a change and is told so.
const OF_A_SYNC: i64 = 4;
/// People who come and go.
const PEOPLE: i64 = 200;
/// A segment, in records.
const SEGMENT: u64 = 100_000;
/// The most that the peak may differ by, in KiB: two threads, and what they have in hand.
const SLACK: u64 = 48 * 1024;

/// The peak of a process's memory in KiB; it must succeed.
fn peak(command: &mut Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let ended = loop {
        let told = std::fs::read_to_string(&status).unwrap_or_default();
        let now = told.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        most = now.map_or(most, |now| now.trim().parse().unwrap());
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(ended.success(), "{command:?}: {ended}");
    most
}

/// The peaks of the verbs that read a log of so many records.
fn peaks(records: i64) -> Vec<u64> {
    let (folder, mut story) = Story::alone("2004-01-01T00:00:00Z");
    story = story.segments_of(SEGMENT);
    let by = Deployment::new(1, LICENSE);
    for n in 0..records / OF_A_SYNC {
        let (person, version) = (format!("acme\\person{}", n % PEOPLE), n.cast_unsigned());
        let make = if n / PEOPLE % 2 == 0 { add } else { delete };
        let change = make("professional", &person);
        story.sync(
            n,
            &by,
            version,
            std::slice::from_ref(&change),
            version + 1,
            &[change.clone().told(version + 1)],
        );
    }
    let log = story.end();
    let verbs = [&["verify"][..], &["state", "--json"]];
    let peaks = verbs.iter().map(|verb| peak(program().arg("audit").args(*verb).arg("--log").arg(&log)));
    let peaks = peaks.collect();
    drop(folder);
    peaks
}

#[test]
fn ten_times_the_records_take_no_more_memory() {
    let records = by_length(200_000, 1_000_000, 10_000_000);
    let (tenth, all) = (peaks(records / 10), peaks(records));
    println!("peaks in KiB: {tenth:?} for {} records, {all:?} for {records}", records / 10);
    for (tenth, all) in tenth.iter().zip(&all) {
        assert!(*all < tenth + SLACK, "{all} KiB for {records} records, {tenth} KiB for a tenth of them");
    }
}
