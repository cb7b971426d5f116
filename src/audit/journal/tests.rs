//! What a handle on the log promises where the disk does as it should; `crash_tests` has the disks that don't.

use std::path::Path;

use uuid::Uuid;

use super::*;
use crate::audit::disk::RealDisk;

const NAME: &str = "license-relay/journal";

fn open(folder: &Path) -> Result<(Journal, Writer), OpenError> {
    Journal::open(Opening {
        directory: folder.join("log"),
        anchors: vec![],
        observer: Observer { name: NAME.into(), version: "0" },
        signer: Signer::open_or_make(&folder.join("log.key"), NAME).unwrap(),
        disk: Arc::new(RealDisk),
        gap_file: folder.join("gap.json"),
        segment_bytes: bounds::SEGMENT_BYTES,
        queue: 32 << 20,
    })
}

fn record(action: Action) -> Record {
    Record::new(action, Uuid::now_v7())
}

/// The actions in the log, in its order.
fn actions(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(segment::path(&folder.join("log"), 0)).unwrap();
    let action = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["event"]["action"].as_str().unwrap().to_owned()
    };
    text.lines().map(action).collect()
}

#[tokio::test]
async fn what_is_committed_is_on_disk_in_order_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _writer) = open(folder.path()).unwrap();
    assert_eq!((journal.previous_stop(), journal.check().is_ok()), (None, true));
    assert_eq!(journal.commit(vec![]).await.unwrap(), 0, "nothing is a unit of nothing");
    let bytes =
        journal.commit(vec![record(Action::RelayStart), record(Action::AssignmentAdd)]).await.unwrap();
    assert_eq!(actions(folder.path()), ["relay.start", "license.assignment.add"]);
    assert_eq!(bytes, std::fs::metadata(segment::path(&folder.path().join("log"), 0)).unwrap().len());
    assert_eq!(*journal.committed().borrow(), 2);
    journal.commit_outcome(vec![record(Action::AssignmentDelete)]).await.unwrap();
    assert_eq!(*journal.committed().borrow(), 3);
}

#[tokio::test]
async fn how_the_last_run_ended_is_known_and_two_do_not_write_one_log() {
    let folder = tempfile::tempdir().unwrap();
    for (last, before) in [
        (Action::RelayStart, None),
        (Action::RelayStop, Some("unclean")),
        (Action::RelayHeartbeat, Some("clean")),
    ] {
        let (journal, writer) = open(folder.path()).unwrap();
        assert_eq!(journal.previous_stop(), before);
        assert!(open(folder.path()).is_err(), "another one has its lock");
        let mut last = record(last);
        last.outcome = Outcome::Success;
        journal.commit(vec![last]).await.unwrap();
        journal.close().await;
        assert!(journal.commit(vec![record(Action::RelayStart)]).await.is_err(), "it is closed");
        writer.finish();
    }
}

#[tokio::test]
async fn notes_are_on_disk_by_the_next_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, writer) = open(folder.path()).unwrap();
    assert!(journal.note(vec![record(Action::AccessDenied)]));
    journal.note_in_turn(vec![record(Action::AccessLimited)]).await;
    journal.close().await;
    writer.finish();
    assert_eq!(actions(folder.path()), ["access.denied", "access.limited"]);
}

#[test]
fn a_turn_is_bounded_in_records_and_in_bytes_and_says_when_it_is_the_last() {
    let mut few = vec![record(Action::AssignmentAdd); 3].into_iter();
    let turn = Turn::of(&mut few);
    assert_eq!((turn.records.len(), turn.is_last), (3, true));
    let mut many = vec![record(Action::AssignmentAdd); bounds::JOURNAL_TURN + 1].into_iter();
    let turn = Turn::of(&mut many);
    assert_eq!((turn.records.len(), turn.is_last), (bounds::JOURNAL_TURN, false));
    let turn = Turn::of(&mut many);
    assert_eq!((turn.records.len(), turn.is_last), (1, true));
    let mut long = record(Action::AssignmentAdd);
    long.reason = "x".repeat(bounds::JOURNAL_TURN_BYTES);
    let turn = Turn::of(&mut vec![long; 2].into_iter());
    assert_eq!((turn.records.len(), turn.is_last), (1, false));
}
