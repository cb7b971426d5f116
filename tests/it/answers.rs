//! What readers say of histories that are told by hand: the cases that lists get wrong.

use std::os::unix::fs::PermissionsExt;

use relay_log::ledger::subject::Pseudonyms;
use relay_log::ledger::subject::{SubjectCase, SubjectForm};

use crate::common::scenes::{Assignment, Deployment};
use crate::common::story::{Story, add, answer, columns, delete, units};
use crate::common::*;

const BOB: &str = "ACME\\bob";
const PRO: &str = "professional";

/// The allotment, the person's name, and how it stands.
fn holders(story: &Story, at: &str) -> Vec<String> {
    let folder = story.log.parent().unwrap();
    let names = folder.join("names.csv");
    std::fs::write(&names, "ACME\\bob\nACME\\carol\nACME\\dave\nACME\\erin\n").unwrap();
    let (names, key) = (names.display().to_string(), folder.join("subject.key").display().to_string());
    let state = answer(&[&story.log], &["state", "--at", at, "--names", &names, "--subject-key", &key]);
    columns(&state, &["allotment", "name", "status"])
}

fn bob(verb: Assignment, version: u64) -> Assignment {
    verb.told(version)
}

#[test]
fn one_change_told_to_five_deployments_is_one_holder() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    story.sync(0, &Deployment::new(0, LICENSE), 0, &[add(PRO, BOB)], 1, &[bob(add(PRO, BOB), 1)]);
    for n in 1..5 {
        story.sync(n, &Deployment::new(n as u32, LICENSE), 0, &[], 1, &[bob(add(PRO, "acme\\BOB"), 1)]);
    }
    story.sign();
    assert_eq!(holders(&story, "2026-05-02T00:00:00Z"), ["professional ACME\\bob holds"]);
    let changes = answer(&[&story.log], &["changes"]);
    assert_eq!(columns(&changes, &["time", "change", "result"]), ["2026-05-01T00:00:00Z add done"]);
    assert_eq!(columns(&answer(&[&story.log], &["state"]), &["since"]), ["2026-05-01T00:00:00Z"]);
}

#[test]
fn who_was_rejected_and_then_accepted_holds_since_then() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.sync(0, &by, 0, &[add(PRO, BOB)], 1, &[add(PRO, BOB).told(1).rejected("no unit left")]);
    story.sync(10, &by, 1, &[add(PRO, BOB)], 2, &[add(PRO, BOB).told(2)]);
    story.sign();
    assert!(holders(&story, "2026-05-01T00:05:00Z").is_empty());
    assert_eq!(holders(&story, "2026-05-01T00:10:00Z"), ["professional ACME\\bob holds"]);
    let changes = answer(&[&story.log], &["changes"]);
    assert_eq!(
        columns(&changes, &["result", "rejection", "version"]),
        ["rejected no unit left 1", "done - 2"]
    );
}

#[test]
fn who_was_deleted_and_added_again_holds_since_the_second_time() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.sync(0, &by, 0, &[add(PRO, BOB)], 1, &[add(PRO, BOB).told(1)]);
    story.sync(10, &by, 1, &[delete(PRO, BOB)], 2, &[delete(PRO, BOB).told(2)]);
    story.sync(20, &by, 2, &[add(PRO, BOB)], 3, &[add(PRO, BOB).told(3)]);
    story.sign();
    assert!(holders(&story, "2026-05-01T00:15:00Z").is_empty());
    let state = answer(&[&story.log], &["state"]);
    assert_eq!(columns(&state, &["status", "since", "version"]), ["holds 2026-05-01T00:20:00Z 3"]);
}

#[test]
fn delete_and_add_in_one_reply_count_in_the_order_of_their_versions() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    let told = [add(PRO, BOB).told(1), delete(PRO, BOB).told(2), add(PRO, "ACME\\carol").told(3)];
    story.sync(0, &by, 0, &[], 3, &told);
    story.sign();
    assert_eq!(holders(&story, "2026-05-02T00:00:00Z"), ["professional ACME\\carol holds"]);
    let days = answer(&[&story.log], &["reconcile"]);
    assert_eq!(columns(&days, &["day", "at_end", "peak"]), ["2026-05-01 1 1"]);
}

#[test]
fn what_is_told_late_does_not_undo_what_is_newer() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let (one, two) = (Deployment::new(1, LICENSE), Deployment::new(2, LICENSE));
    story.sync(0, &one, 2, &[], 3, &[delete(PRO, BOB).told(3)]);
    story.sync(
        10,
        &two,
        0,
        &[],
        3,
        &[add(PRO, BOB).told(1), add(PRO, "ACME\\carol").told(2), delete(PRO, BOB).told(3)],
    );
    story.sign();
    assert_eq!(holders(&story, "2026-05-02T00:00:00Z"), ["professional ACME\\carol holds"]);
}

#[test]
fn a_delete_that_names_only_an_instance_is_of_whoever_holds_that() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.sync(0, &by, 0, &[], 2, &[add(PRO, BOB).told(1), add(PRO, "ACME\\carol").told(2)]);
    let mut nameless = delete(PRO, BOB).told(1);
    (nameless.person, nameless.version) = (None, Some(3));
    story.sync(10, &by, 2, &[], 3, &[nameless]);
    story.sign();
    assert_eq!(holders(&story, "2026-05-02T00:00:00Z"), ["professional ACME\\carol holds"]);
}

#[test]
fn what_was_asked_and_is_not_settled_is_told_apart() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.sync(0, &by, 0, &[], 1, &[add(PRO, "ACME\\dave").told(1)]);
    story.sync(10, &by, 1, &[add(PRO, BOB)], 1, &[]); // The reply does not mention it.
    story.lost(20, &by, 1, &[add(PRO, "ACME\\carol")], true); // No reply.
    story.failed(30, &by, 1, &[delete(PRO, "ACME\\dave")]); // An error: nothing.
    story.asked(40, &by, 1, &[delete(PRO, "ACME\\dave")]); // No reply yet.
    story.sign();
    let mut now = holders(&story, "2026-05-01T00:45:00Z");
    now.sort();
    let pending = [
        "professional ACME\\bob pending add",
        "professional ACME\\carol unknown add",
        "professional ACME\\dave holds",
        "professional ACME\\dave pending delete",
    ];
    assert_eq!(now, pending);
    story.started(50, Some("unclean"));
    story.sign();
    let mut now = holders(&story, "2026-05-01T01:00:00Z");
    now.sort();
    assert_eq!(now[3], "professional ACME\\dave unknown delete", "the relay was cut off meanwhile");
    story.sync(60, &by, 1, &[], 3, &[add(PRO, "ACME\\carol").told(2), delete(PRO, "ACME\\dave").told(3)]);
    story.sign();
    let mut now = holders(&story, "2026-05-01T02:00:00Z");
    now.sort();
    assert_eq!(now, ["professional ACME\\bob pending add", "professional ACME\\carol holds"]);
}

#[test]
fn one_version_may_have_several_changes() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let (one, two) = (Deployment::new(1, LICENSE), Deployment::new(2, LICENSE));
    let told =
        [add(PRO, BOB).told(4), add(PRO, "ACME\\carol").told(4), add("analyzer", "ACME\\dave").told(4)];
    story.sync(0, &one, 3, &[], 4, &told);
    story.sync(1, &two, 3, &[], 4, &told);
    story.sign();
    assert_eq!(holders(&story, "2026-05-02T00:00:00Z").len(), 3);
    assert_eq!(columns(&answer(&[&story.log], &["changes"]), &["version"]), ["4", "4", "4"]);
}

#[test]
fn holders_before_the_first_version_seen_are_not_known() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.sync(0, &by, 7, &[], 8, &[add(PRO, BOB).told(8)]);
    story.sync(10, &by, 11, &[], 12, &[add(PRO, "ACME\\carol").told(12)]);
    story.sign();
    let state = answer(&[&story.log], &["state"]);
    let coverage = &state["coverage"][0];
    assert_eq!(coverage["known_from"], 7, "{coverage}");
    assert_eq!(coverage["complete_to"], 8, "{coverage}");
    assert_eq!(coverage["holes"][0]["from"], 9, "{coverage}");
    assert_eq!(coverage["holes"][0]["to"], 11, "{coverage}");
    assert_eq!(coverage["holes"][0]["inferred"], true, "{coverage}");
    let said = String::from_utf8(story::audit(&[&story.log], &["state"]).stdout).unwrap();
    assert!(said.contains("not known"), "{said}");
}

#[test]
fn an_opening_balance_counts_until_something_is_told() {
    let (folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.sync(0, &by, 7, &[], 8, &[delete(PRO, BOB).told(8)]);
    story.sign();
    let (opening, key) = (folder.path().join("opening.csv"), folder.path().join("subject.key"));
    let text = format!("license,allotment,subject\n{LICENSE},{PRO},ACME\\bob\n{LICENSE},{PRO},acme\\Carol\n");
    std::fs::write(&opening, text).unwrap();
    let (opening, key) = (opening.display().to_string(), key.display().to_string());
    let state = answer(&[&story.log], &["state", "--opening", &opening, "--subject-key", &key]);
    assert_eq!(columns(&state, &["status"]), ["opening"], "bob was deleted: {state:#}");
}

#[test]
fn units_count_on_the_days_on_which_they_are_valid_both_ends_included() {
    let (_folder, mut story) = Story::alone("2026-01-30T12:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.defined(
        0,
        &by,
        &[
            units(PRO, 1, "", "", None),                                          // Always.
            units(PRO, 2, "2026-01-01", "2026-01-31", None), // To the last day of the month.
            units(PRO, 4, "2026-01-31", "", None),           // From then on: two that overlap.
            units(PRO, 8, "", "2026-01-29", None),           // Over.
            units(PRO, 16, "2026-02-01T00:00:00Z", "2026-02-01T10:00:00Z", None), // A time of day counts as its day.
        ],
    );
    story.sync(1, &by, 0, &[], 1, &[add(PRO, BOB).told(1)]);
    story.heartbeat(4 * 24 * 60);
    story.sign();
    let days = answer(&[&story.log], &["reconcile", "--license", LICENSE]);
    let expected = [
        "2026-01-30 1 1 3 3 0",
        "2026-01-31 1 1 7 7 0",
        "2026-02-01 1 1 21 21 0",
        "2026-02-02 1 1 5 5 0",
        "2026-02-03 1 1 5 5 0",
    ];
    assert_eq!(columns(&days, &["day", "at_end", "peak", "units", "cap", "over"]), expected);
}

#[test]
fn overage_is_added_once_and_unlimited_has_no_cap() {
    let (_folder, mut story) = Story::alone("2026-01-31T12:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.defined(
        0,
        &by,
        &[
            units(PRO, 1, "", "", Some("2")),
            units(PRO, 1, "", "", Some("2")),
            units("analyzer", 1, "", "", Some("unlimited")),
        ],
    );
    let told: Vec<_> = ["a", "b", "c", "d", "e", "f"]
        .iter()
        .enumerate()
        .flat_map(|(n, name)| {
            let version = 2 * n as u64;
            [add(PRO, name).told(version + 1), add("analyzer", name).told(version + 2)]
        })
        .collect();
    story.sync(1, &by, 0, &[], 12, &told);
    story.sync(2, &by, 12, &[], 13, &[delete(PRO, "a").told(13)]);
    story.sign();
    let days = answer(&[&story.log], &["reconcile"]);
    let mut rows = columns(&days, &["allotment", "at_end", "peak", "units", "cap", "over"]);
    rows.sort();
    assert_eq!(rows, ["analyzer 6 6 1 - -", "professional 5 6 2 4 2"]);
}

#[test]
fn a_definition_counts_from_its_day_on_and_not_before() {
    let (_folder, mut story) = Story::alone("2024-02-28T23:58:00Z");
    let by = Deployment::new(1, LICENSE);
    story.sync(0, &by, 0, &[], 1, &[add(PRO, BOB).told(1)]);
    story.defined(2, &by, &[units(PRO, 0, "", "", None)]); // At 00:00:00 of the 29th.
    story.defined(2 + 24 * 60 - 1, &by, &[units(PRO, 5, "2024-02-29", "2024-02-29", None)]);
    story.heartbeat(3 * 24 * 60);
    story.sign();
    let days = answer(&[&story.log], &["reconcile"]);
    let expected = ["2024-02-28 1 - - -", "2024-02-29 1 5 5 0", "2024-03-01 1 0 0 1", "2024-03-02 1 0 0 1"];
    assert_eq!(columns(&days, &["day", "peak", "units", "cap", "over"]), expected);
}

#[test]
fn consumption_of_a_month_is_what_its_reports_say_whenever_they_came() {
    let (_folder, mut story) = Story::alone("2026-01-31T23:50:00Z");
    let (one, two) = (Deployment::new(1, LICENSE), Deployment::new(2, LICENSE));
    story.used(0, &one, "2026-01", 30, Some(130));
    story.used(5, &two, "2026-01", 12, None);
    story.used(20, &one, "2026-01", 3, Some(150)); // Of January, after midnight.
    story.used(21, &two, "2026-02", 7, Some(7));
    story.sign();
    let january = answer(&[&story.log], &["consumption", "--month", "2026-01"]);
    let mut rows = columns(&january, &["source", "delta", "delta_unknown"]);
    rows.retain(|row| !row.starts_with(' ') && !row.starts_with('-'));
    rows.sort();
    let expected = [format!("{} 33 0", one.source), format!("{} 0 12", two.source)];
    assert_eq!(rows, expected);
    let sums: Vec<_> =
        columns(&january, &["source", "delta_low", "delta_high", "total", "difference", "difference_low"]);
    assert!(sums.contains(&" 33 45 150 117 105".to_owned()), "{sums:?}");
    let newest = answer(&[&story.log], &["consumption"]);
    assert!(
        columns(&newest, &["month"]).iter().all(|month| month == "2026-02"),
        "the newest month unless told"
    );
}

/// Minutes of a gap: all, and those of each kind.
const GAP: [&str; 11] = [
    "from",
    "to",
    "kind",
    "minutes",
    "relay_down",
    "refused",
    "failing",
    "silent",
    "around",
    "waiting",
    "ongoing",
];

fn gaps(story: &Story) -> Vec<String> {
    let mut rows = columns(&answer(&[&story.log], &["gaps"]), &GAP);
    for row in &mut rows {
        *row = row.replace("2026-05-01T", "").replace(":00Z", "");
    }
    rows
}

#[test]
fn twenty_five_minutes_are_no_gap_and_twenty_six_are() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    for minute in [0, 25, 51, 61] {
        story.sync(minute, &by, 0, &[], 0, &[]);
    }
    story.sign();
    assert_eq!(gaps(&story), ["00:25 00:51 silent 26 0 0 0 26 0 0 false"]);
}

#[test]
fn a_source_that_is_silent_to_the_end_of_the_log_is_told() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.idle(0..=10, &by, 0);
    story.heartbeat(47);
    story.sign();
    assert_eq!(gaps(&story), ["00:10 00:47 silent 37 0 0 0 37 0 0 true"]);
}

#[test]
fn the_minutes_of_a_relay_that_was_stopped_are_its_own() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.started(0, None);
    story.idle(0..=10, &by, 0);
    story.stopped(13);
    story.started(44, Some("clean"));
    story.idle(50..=60, &by, 0);
    story.sign();
    assert_eq!(gaps(&story), ["00:10 00:50 relay_down 40 31 0 0 0 0 9 false"]);
}

#[test]
fn a_relay_that_was_killed_was_down_since_its_last_record() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.idle(0..=10, &by, 0);
    story.heartbeat(11);
    story.heartbeat(12);
    story.started(38, Some("unclean"));
    story.idle(40..=50, &by, 0);
    story.sign();
    assert_eq!(gaps(&story), ["00:10 00:40 relay_down 30 26 0 0 0 0 4 false"]);
}

#[test]
fn refused_and_limited_tries_are_told_from_a_back_end_that_fails() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.idle(0..=0, &by, 0);
    story.refused(10, &by);
    story.limited(20, &by);
    story.refused(30, &by);
    story.failed(40, &by, 0, &[]);
    story.lost(50, &by, 0, &[], false);
    story.lost(60, &by, 0, &[], true);
    story.idle(70..=70, &by, 0);
    story.sign();
    // From 00:00 to the first refusal it ends at one; from 00:30 it begins at one; from 00:40 it begins at a failure.
    assert_eq!(gaps(&story), ["00:00 01:10 refused 70 0 40 30 0 0 0 false"]);
}

#[test]
fn a_source_that_comes_back_with_a_later_version_went_around_and_that_is_inferred() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.sync(0, &by, 3, &[], 4, &[add(PRO, BOB).told(4)]);
    story.sync(60, &by, 6, &[], 6, &[]);
    story.idle(70..=70, &by, 6);
    story.sign();
    assert_eq!(gaps(&story), ["00:00 01:00 around 60 0 0 0 0 60 0 false"]);
    let gaps = answer(&[&story.log], &["gaps"]);
    assert_eq!(columns(&gaps, &["inferred"]), ["true"]);
}

#[test]
fn one_gap_of_all_kinds_adds_up_to_the_minute() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.idle(0..=0, &by, 0);
    story.refused(10, &by);
    story.heartbeat(14);
    story.stopped(17); // 10 refused, then 7 that begin at a refusal.
    story.started(37, Some("clean")); // 20 down.
    story.heartbeat(38);
    story.failed(45, &by, 0, &[]); // 8 that end at a failure.
    story.heartbeat(90);
    story.idle(100..=110, &by, 0); // 55 of silence.
    story.sign();
    assert_eq!(gaps(&story), ["00:00 01:40 silent 100 20 17 8 55 0 0 false"]);
}

#[test]
fn two_relays_are_down_only_while_both_are() {
    let folder = tempfile::tempdir().unwrap();
    let by = Deployment::new(1, LICENSE);
    let mut one = Story::begin(folder.path(), "one", "2026-05-01T00:00:00Z");
    let mut two = Story::begin(folder.path(), "two", "2026-05-01T00:00:00Z");
    one.started(0, None);
    two.started(0, None);
    one.idle(0..=10, &by, 0);
    one.stopped(12);
    two.stopped(20);
    two.started(32, Some("clean"));
    one.started(50, Some("clean"));
    two.idle(60..=70, &by, 0);
    one.heartbeat(70);
    let (one, two) = (one.end(), two.end());
    let both = answer(&[&one, &two], &["gaps"]);
    assert_eq!(columns(&both, &["minutes", "relay_down", "silent", "waiting"]), ["50 12 28 10"]);
    assert_eq!(both["evidence"].as_array().unwrap().len(), 2, "each log has its own evidence");
}

#[test]
fn the_logs_of_two_relays_are_one_history() {
    let folder = tempfile::tempdir().unwrap();
    let by = Deployment::new(1, LICENSE);
    let mut one = Story::begin(folder.path(), "one", "2026-05-01T00:00:00Z");
    let mut two = Story::begin(folder.path(), "two", "2026-05-01T00:00:00Z");
    one.sync(0, &by, 0, &[add(PRO, BOB)], 1, &[add(PRO, BOB).told(1)]);
    two.sync(10, &by, 1, &[delete(PRO, BOB)], 2, &[delete(PRO, BOB).told(2)]);
    one.sync(20, &by, 2, &[add(PRO, BOB)], 3, &[add(PRO, BOB).told(3)]);
    two.sync(30, &by, 3, &[add("analyzer", BOB)], 4, &[add("analyzer", BOB).told(4)]);
    let (one, two) = (one.end(), two.end());
    let at = |time: &str| columns(&answer(&[&one, &two], &["state", "--at", time]), &["allotment", "since"]);
    assert!(at("2026-05-01T00:15:00Z").is_empty());
    let now = at("2026-05-02T00:00:00Z");
    assert_eq!(now, ["analyzer 2026-05-01T00:30:00Z", "professional 2026-05-01T00:20:00Z"]);
    let changes = answer(&[&two, &one], &["changes"]);
    assert_eq!(columns(&changes, &["change", "version"]), ["add 1", "delete 2", "add 3", "add 4"]);
    assert_eq!(changes["coverage"][0]["complete_to"], 4, "together nothing is missing: {changes:#}");
    assert_eq!(answer(&[&one], &["changes"])["coverage"][0]["complete_to"], 1, "alone something is");
}

#[test]
fn one_unit_that_moves_between_people_is_told_once() {
    let (_folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    let day = 24 * 60;
    story.sync(0, &by, 0, &[], 2, &[add(PRO, BOB).told(1), add(PRO, "ACME\\carol").told(2)]);
    story.sync(10, &by, 2, &[], 3, &[delete(PRO, BOB).told(3)]);
    story.sync(20, &by, 3, &[], 4, &[add(PRO, BOB).told(4)]); // The same person: nothing moved.
    story.sync(30, &by, 4, &[], 5, &[delete(PRO, "ACME\\carol").told(5)]);
    story.sync(30 + 2 * day, &by, 5, &[], 6, &[add(PRO, "ACME\\dave").told(6)]);
    story.sync(40 + 2 * day, &by, 6, &[], 7, &[delete(PRO, BOB).told(7)]);
    story.sync(40 + 10 * day, &by, 7, &[], 8, &[add(PRO, "ACME\\erin").told(8)]); // Too late.
    story.sign();
    let churn = answer(&[&story.log], &["churn", "--within", "7d"]);
    let columns = columns(&churn, &["deleted", "added", "hours"]);
    // bob's first delete finds dave, whom nobody has used yet; carol's finds nobody any more within the time.
    assert_eq!(columns, ["2026-05-01T00:10:00Z 2026-05-03T00:30:00Z 48.3"]);
}

/// A key file with this id.
fn key(path: &std::path::Path, id: &str, digits: &str) -> Pseudonyms {
    std::fs::write(path, format!("{id}:{}\n", digits.repeat(32))).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Pseudonyms::open_or_make(path, SubjectForm::HmacSha256, SubjectCase::Fold).unwrap()
}

#[test]
fn one_person_under_two_spellings_and_two_keys_has_one_history() {
    let folder = tempfile::tempdir().unwrap();
    let (newest, retired) = (folder.path().join("subject.key"), folder.path().join("subject.key.k2025"));
    let by = Deployment::new(1, LICENSE);
    let older = key(&newest, "k2025", "1a");
    let mut story = Story::begin(folder.path(), "log", "2025-12-31T23:50:00Z");
    let told =
        [add(PRO, "acme\\bob").told(1), add(PRO, "acme\\carol").told(2), add(PRO, "ACME\\dave").told(3)];
    story.sync(0, &by, 0, &[add(PRO, "ACME\\Bob")], 3, &told);

    std::fs::rename(&newest, &retired).unwrap();
    story.names = key(&newest, "k2026", "2b");
    for (n, name) in [BOB, "ACME\\carol"].iter().enumerate() {
        let of = |key: &Pseudonyms| key.of(&scenes::subject(name));
        let alias = scenes::alias(900 + n as u128, of(&story.names), of(&older));
        story.write(10, &[alias]);
    }
    story.sync(20, &by, 3, &[delete(PRO, "Acme\\BOB")], 4, &[delete(PRO, "ACME\\BOB").told(4)]);
    story.sync(30, &by, 4, &[add("analyzer", "ACME\\CAROL")], 5, &[add("analyzer", "ACME\\CAROL").told(5)]);
    // Nobody has linked dave: his two pseudonyms are two people to whoever has no key.
    story.sync(40, &by, 5, &[], 6, &[add("analyzer", "ACME\\dave").told(6)]);
    story.sign();

    assert_eq!(holders(&story, "2026-01-01T00:05:00Z").len(), 3);
    let now = ["analyzer ACME\\carol holds", "analyzer ACME\\dave holds"];
    let mut held = holders(&story, "2026-01-02T00:00:00Z");
    held.sort();
    assert_eq!(held[..2], now);
    assert_eq!(held[2..], ["professional ACME\\carol holds", "professional ACME\\dave holds"]);

    let state = answer(&[&story.log], &["state"]);
    let pseudonyms = columns(&state, &["subject"]);
    let under = |id: &str| pseudonyms.iter().filter(|pseudonym| pseudonym.contains(id)).count();
    assert_eq!(
        (under(":k2026:"), under(":k2025:")),
        (3, 1),
        "linked people are told by the newest: {state:#}"
    );
    let days = columns(&answer(&[&story.log], &["reconcile"]), &["day", "allotment", "at_end", "peak"]);
    let expected = ["2025-12-31 professional 3 3", "2026-01-01 analyzer 2 2", "2026-01-01 professional 2 3"];
    let mut days: Vec<_> = days.into_iter().filter(|day| !day.ends_with(" 0 0")).collect();
    days.sort();
    assert_eq!(days, expected);

    // Either pseudonym, or the name in any spelling, gives all of it.
    let hash = older.of(&scenes::subject(BOB));
    let by_hash =
        columns(&answer(&[&story.log], &["history", "--hash", &hash]), &["time", "change", "version"]);
    let file = newest.display().to_string();
    let by_name = answer(&[&story.log], &["history", "--subject", "aCME\\bOB", "--subject-key", &file]);
    assert_eq!(columns(&by_name, &["time", "change", "version"]), by_hash);
    assert_eq!(by_hash.iter().filter(|row| row.contains(" add ") || row.contains(" delete ")).count(), 4);

    // A key that is destroyed takes the names under it along, but not what was linked.
    std::fs::remove_file(&retired).unwrap();
    let mut held = holders(&story, "2026-01-02T00:00:00Z");
    held.sort();
    assert_eq!(held.len(), 4);
    assert_eq!(held.iter().filter(|row| row.contains("ACME")).count(), 3, "{held:?}");
}
