//! What an answer may claim: no more than the log shows. Each test is a claim that was once too large.

use std::fs;
use std::io::Read as _;
use std::process::Stdio;

use relay_log::ledger::action::Action;
use relay_log::ledger::note::{CHECKPOINT, Checkpoint, Signer};
use relay_log::ledger::record::Record;
use relay_log::ledger::segment;
use serde_json::Value;
use uuid::Uuid;

use crate::common::scenes::Deployment;
use crate::common::story::{Story, add, answer, audit, columns, delete, units};
use crate::common::*;

const BOB: &str = "ACME\\bob";
const PRO: &str = "professional";

fn verdict(story: &Story, more: &[&str], code: i32) -> String {
    let output = audit(&[&story.log], &[&["verify"], more].concat());
    assert_eq!(output.status.code(), Some(code), "{}", all_said(&output));
    all_said(&output)
}

fn by() -> Deployment {
    Deployment::new(1, LICENSE)
}

#[test]
fn a_log_that_nobody_has_signed_is_not_fine_whatever_it_is_dated() {
    for begin in ["2026-05-01T00:00:00Z", "2099-05-01T00:00:00Z"] {
        let (_folder, mut story) = Story::alone(begin);
        story.idle(0..=20, &by(), 3);
        story.sign();
        fs::remove_file(story.log.join(CHECKPOINT)).unwrap();
        let said = verdict(&story, &[], 3);
        assert!(said.contains("no checkpoint holds"), "{said}");
        let report = audit(&[&story.log], &["report"]);
        assert!(!String::from_utf8_lossy(&report.stdout).contains("as they were signed"));
    }
}

#[test]
fn an_anchor_protects_the_records_that_it_covers_since_it_was_signed_and_no_others() {
    let (folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    story.idle(0..=0, &by(), 3);
    story.sign();
    let first = folder.path().join("first.note");
    fs::copy(story.log.join(CHECKPOINT), &first).unwrap();
    story.idle(10..=50, &by(), 3);
    story.sign();
    let newest = folder.path().join("newest.note");
    fs::copy(story.log.join(CHECKPOINT), &newest).unwrap();
    let signer = Signer::load(&folder.path().join("log.key"), "license-relay/log").unwrap();
    let root = relay_log::ledger::merkle::empty();
    let time = Some("2020-01-01T00:00:00Z".parse().unwrap());
    let nothing = Checkpoint { origin: "license-relay/log".into(), size: 0, root, time };
    let empty = folder.path().join("empty.note");
    fs::write(&empty, signer.sign(&nothing)).unwrap();

    let [first, newest, empty] = [&first, &newest, &empty].map(|path| path.to_str().unwrap());
    let said = verdict(&story, &["--anchor", empty], 0);
    assert!(said.contains("cover no record") && !said.contains("2020"), "{said}");
    let said = verdict(&story, &["--anchor", empty, "--anchor", first, "--anchor", newest], 0);
    let claims =
        "the first 1 records since 2026-05-01T00:00:00Z, the first 6 records since 2026-05-01T00:50:00Z";
    assert!(said.contains(claims) && said.contains("if the anchor was out of their reach"), "{said}");
    let report = audit(&[&story.log], &["report", "--anchor", empty]);
    assert!(String::from_utf8_lossy(&report.stdout).contains("That can't be ruled out"));
}

#[test]
fn an_opening_balance_knows_a_person_under_every_key() {
    let (folder, mut story) = Story::alone("2026-05-01T00:00:00Z");
    story.sync(0, &by(), 7, &[], 9, &[delete(PRO, BOB).told(8), add(PRO, "ACME\\carol").told(9)]);
    story.sign();
    let key = folder.path().join("subject.key");
    let old = fs::read_to_string(&key).unwrap();
    let id = old.split(':').next().unwrap();
    let retired = folder.path().join(format!("subject.key.{id}"));
    fs::rename(&key, &retired).unwrap();
    fs::write(&key, format!("k9999:{}\n", "ab".repeat(32))).unwrap();
    fs::set_permissions(&key, fs::metadata(&retired).unwrap().permissions()).unwrap();
    let opening = folder.path().join("opening.csv");
    let rows = [BOB, "acme\\CAROL", "ACME\\dave"].map(|name| format!("{LICENSE},{PRO},{name}\n")).concat();
    fs::write(&opening, format!("license,allotment,subject\n{rows}")).unwrap();
    let (opening, key) = (opening.to_str().unwrap(), key.to_str().unwrap());
    let state = answer(&[&story.log], &["state", "--opening", opening, "--subject-key", key]);
    assert_eq!(
        columns(&state, &["status"]),
        ["holds", "opening"],
        "carol holds, dave may, bob does not: {state:#}"
    );
    let days = answer(&[&story.log], &["reconcile", "--opening", opening, "--subject-key", key]);
    assert_eq!(columns(&days, &["at_end", "peak"]), ["2 3"]);
}

#[test]
fn a_change_that_was_dated_by_a_clock_that_was_ahead_moves_no_later_day() {
    let (_folder, mut story) = Story::alone("2026-01-01T00:00:00Z");
    let day = 24 * 60;
    story.defined(0, &by(), &[units(PRO, 10, "", "", None)]);
    story.sync(1, &by(), 0, &[], 2, &[add(PRO, BOB).told(1), add(PRO, "ACME\\carol").told(2)]);
    story.sync(60 * day, &by(), 2, &[], 3, &[add(PRO, "ACME\\dave").told(3)]);
    story.sync(day, &by(), 3, &[], 4, &[delete(PRO, BOB).told(4)]);
    story.sync(2 * day, &by(), 4, &[], 5, &[delete(PRO, "ACME\\carol").told(5)]);
    story.sign();
    let days = answer(&[&story.log], &["reconcile"]);
    assert_eq!(columns(&days, &["at_end", "peak"])[..4], ["2 2", "2 3", "1 2", "1 1"]);
}

#[test]
fn use_is_at_least_what_is_shown_where_holders_from_before_are_not_known() {
    let (_folder, mut story) = Story::alone("2026-01-01T00:00:00Z");
    story.defined(0, &by(), &[units(PRO, 2, "", "", None)]);
    story.sync(1, &by(), 117, &[], 118, &[add(PRO, BOB).told(118)]);
    story.sign();
    let days = audit(&[&story.log], &["reconcile"]);
    assert!(all_said(&days).contains("its use is at least what stands here"), "{}", all_said(&days));
    let report = audit(&[&story.log], &["report"]);
    let page = String::from_utf8_lossy(&report.stdout);
    assert!(page.contains("Not as far as holders are known."), "the page claims more");
}

#[test]
fn an_answer_that_was_lost_is_settled_by_what_the_same_deployment_is_told_later() {
    let (_folder, mut story) = Story::alone("2026-01-01T00:00:00Z");
    let other = Deployment::new(2, LICENSE);
    story.sync(0, &other, 0, &[add(PRO, BOB)], 1, &[add(PRO, BOB).told(1)]);
    story.lost(10, &by(), 0, &[add(PRO, BOB)], true);
    story.sign();
    assert_eq!(columns(&answer(&[&story.log], &["state"]), &["status"]), ["holds", "unknown add"]);
    story.sync(20, &other, 0, &[], 1, &[add(PRO, BOB).told(1)]);
    story.sign();
    let before = columns(&answer(&[&story.log], &["state"]), &["status"]);
    assert_eq!(before, ["holds", "unknown add"], "somebody else's news is no answer");
    story.sync(30, &by(), 0, &[], 1, &[add(PRO, BOB).told(1)]);
    story.sign();
    assert_eq!(columns(&answer(&[&story.log], &["state"]), &["status"]), ["holds"]);
}

#[test]
fn who_asked_for_the_opposite_did_not_ask_for_a_change() {
    let (_folder, mut story) = Story::alone("2026-01-01T00:00:00Z");
    story.sync(0, &by(), 0, &[delete(PRO, BOB)], 0, &[]);
    story.sync(10, &Deployment::new(2, LICENSE), 0, &[], 1, &[add(PRO, BOB).told(1)]);
    story.sign();
    assert_eq!(columns(&answer(&[&story.log], &["changes"]), &["change", "asked_by"]), ["add -"]);
}

#[test]
fn lines_that_this_program_can_t_read_are_told_before_anything_else() {
    let (_folder, mut story) = Story::alone("2026-01-01T00:00:00Z");
    let mut newer = Record::new(Action::AssignmentAdd, Uuid::from_u128(1));
    newer.qlik.delta = Some(3.into());
    story.write(0, &[newer]);
    story.idle(1..=11, &by(), 0);
    story.sign();
    // The same record with a member that is of another type, under a sum and a signature that are right: made by a newer one.
    let path = segment::path(&story.log, 0);
    let text = fs::read_to_string(&path).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let bent = first.replace("\"delta\":3", "\"version\":\"three\"");
    let body = bent.split(",\"sum\"").next().unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{body}}}").as_bytes());
    let sum = relay_log::text::hex::hex(&digest.as_ref()[..8]);
    fs::write(&path, format!("{body},\"sum\":\"{sum}\"}}\n{rest}")).unwrap();
    let output = audit(&[&story.log], &["state", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    // The line is not the signed one, and that comes first of all.
    let notes: Vec<&str> = json["notes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(notes[0].starts_with("DAMAGED: "), "{notes:?}");
    assert!(notes[1].starts_with("1 whole records can't be read by this program"), "{notes:?}");
    assert_eq!(json["evidence"][0]["unreadable"], 1);
}

#[test]
fn what_stands_behind_a_stretch_of_junk_is_listed_all_the_same() {
    let (_folder, mut story) = Story::alone("2026-01-01T00:00:00Z");
    story.sync(0, &by(), 0, &[], 1, &[add(PRO, BOB).told(1)]);
    story.sync(10, &by(), 1, &[], 2, &[add(PRO, "ACME\\carol").told(2)]);
    story.sign();
    let path = segment::path(&story.log, 0);
    let mut lines: Vec<Vec<u8>> =
        fs::read(&path).unwrap().split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    // A disk that has lost some pages.
    lines[0] = [vec![0; 200_000], b"\n".to_vec()].concat();
    fs::write(&path, lines.concat()).unwrap();
    let output = audit(&[&story.log], &["state", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", all_said(&output));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(columns(&json, &["status"]).len(), 2, "{json:#}");
    let damage = json["evidence"][0]["damage"][0].as_str().unwrap();
    assert!(damage.starts_with("record 0 "), "{json:#}");
}

#[test]
fn an_answer_that_nobody_reads_any_more_ends_quietly() {
    let (_folder, mut story) = Story::alone("2026-01-01T00:00:00Z");
    story.idle(0..=40_000, &by(), 0);
    story.sign();
    let mut command = program();
    command.args(["audit", "export", "--log"]).arg(&story.log).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 100]).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!((all_said(&output).as_str(), output.status.success()), ("", true));
}
