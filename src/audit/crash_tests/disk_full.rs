//! Disks that are full, that fail once, and that fail for good.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use super::trace_disk::{Call, DiskFault, Op, TraceDisk};
use super::*;
use crate::audit::journal::{CommitError, State};
use relay_log::verify::log::Verdict;

fn is_segment(path: &Path) -> bool {
    path.starts_with("segments")
}

fn is_writable(running: &Running) {
    eventually("the log can be written", || {
        (*running.journal.state().borrow() == State::Writable).then_some(())
    });
}

fn commit(running: &Running, number: u64) -> Result<(), CommitError> {
    wait(running.journal.commit(vec![record(number)])).map(drop)
}

/// Every line is whole, at any time.
fn is_whole(site: &Site) {
    let bytes = fs::read(site.active()).unwrap();
    assert!(bytes.is_empty() || bytes.ends_with(b"\n"));
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), site.lines().len());
}

#[test]
fn a_disk_that_is_full_blocks_the_log_and_it_goes_on_by_itself() {
    for short in [None, Some(0), Some(1), Some(300)] {
        let site = Site::new();
        let disk = TraceDisk::new(&site.log());
        let running = site.open_on(disk.clone());
        running.commit([1]);
        let writes = AtomicUsize::new(0);
        disk.order(move |call, path| match (call, short) {
            (Call::Write(_), Some(short)) if is_segment(path) => {
                let first = writes.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
                Some(if first { DiskFault::Short(short) } else { DiskFault::Error(Errno::NOSPC) })
            }
            (Call::Write(_), None) if is_segment(path) => Some(DiskFault::Error(Errno::DQUOT)),
            _ => None,
        });
        for number in 2..5 {
            let refused = commit(&running, number);
            assert!(matches!(refused, Err(CommitError::Blocked(_))), "{short:?} {refused:?}");
            assert!(matches!(*running.journal.state().borrow(), State::Blocked(_)));
            is_whole(&site);
        }
        disk.heal();
        is_writable(&running);
        running.commit([9]);
        running.close();
        assert_eq!(site.numbers(), [1, 9], "{short:?}");
        let lines = site.lines();
        assert!(lines.iter().any(|line| line.contains("3 batches of records were given up")), "{lines:?}");
        assert_eq!(site.verify().verdict(), Verdict::Fine);
    }
}

/// The kernel may have dropped what it could not write: the second sync would say that all is well.
#[test]
fn a_sync_that_fails_once_is_final_though_the_next_would_succeed() {
    let site = Site::new();
    let disk = TraceDisk::new(&site.log());
    let running = site.open_on(disk.clone());
    running.commit([1]);
    let syncs = disk.syncs("segments");
    let failed = AtomicUsize::new(0);
    disk.order(move |call, path| {
        let first = call == Call::Sync && is_segment(path) && failed.fetch_add(1, Ordering::Relaxed) == 0;
        first.then_some(DiskFault::Error(Errno::IO))
    });
    assert!(matches!(commit(&running, 2), Err(CommitError::Poisoned(_))));
    let from = disk.ops().len();
    for number in 3..6 {
        assert!(matches!(commit(&running, number), Err(CommitError::Poisoned(_))));
        assert!(matches!(
            wait(running.journal.commit_outcome(vec![record(number)])),
            Err(CommitError::Poisoned(_))
        ));
    }
    std::thread::sleep(bounds::JOURNAL_TICK * 2);
    assert!(matches!(*running.journal.state().borrow(), State::Poisoned(_)));
    running.close();
    assert_eq!(disk.syncs("segments"), syncs, "the file was synced again");
    let segment = disk.file(Path::new("segments/00000000000000000000.jsonl"));
    let touched = |op: &&Op| matches!(op, Op::Write(file, _) | Op::Cut(file, _) if *file == segment);
    assert_eq!(disk.ops()[from..].iter().filter(touched).count(), 0, "the file was written to again");

    // The next start keeps what it finds whole, writes it anew, and goes on.
    let running = site.open();
    running.commit([9]);
    running.close();
    let numbers = site.numbers();
    assert!(numbers == [1, 9] || numbers == [1, 2, 9], "{numbers:?}");
    assert_eq!(site.verify().verdict(), Verdict::Fine);
}

#[test]
fn what_is_neither_full_nor_short_of_memory_is_no_reason_to_wait() {
    for errno in [Errno::IO, Errno::ROFS, Errno::BADF] {
        let site = Site::new();
        let disk = TraceDisk::new(&site.log());
        let running = site.open_on(disk.clone());
        running.commit([1]);
        disk.order(move |call, path| {
            (matches!(call, Call::Write(_)) && is_segment(path)).then_some(DiskFault::Error(errno))
        });
        assert!(matches!(commit(&running, 2), Err(CommitError::Poisoned(_))), "{errno}");
        disk.heal();
        assert!(matches!(commit(&running, 3), Err(CommitError::Poisoned(_))), "{errno}");
        running.close();
        assert_eq!(site.numbers(), [1]);
    }
}

#[test]
fn a_write_that_can_not_be_taken_back_is_final() {
    for failing in [Call::Cut, Call::Sync] {
        let site = Site::new();
        let disk = TraceDisk::new(&site.log());
        let running = site.open_on(disk.clone());
        running.commit([1]);
        let writes = AtomicUsize::new(0);
        disk.order(move |call, path| match call {
            Call::Write(_) if is_segment(path) => Some(match writes.fetch_add(1, Ordering::Relaxed) {
                0 => DiskFault::Short(250),
                _ => DiskFault::Error(Errno::NOSPC),
            }),
            call if call == failing && is_segment(path) => Some(DiskFault::Error(Errno::IO)),
            _ => None,
        });
        assert!(matches!(commit(&running, 2), Err(CommitError::Poisoned(_))), "{failing:?}");
        disk.heal();
        assert!(matches!(commit(&running, 3), Err(CommitError::Poisoned(_))), "{failing:?}");
        running.close();
        let running = site.open();
        running.commit([4]);
        running.close();
        assert_eq!(site.numbers(), [1, 4]);
        assert_eq!(site.verify().verdict(), Verdict::Fine);
    }
}

#[test]
fn a_seal_that_gets_no_new_file_goes_on_in_the_old_one_and_says_so_once() {
    let site = Site::new();
    let disk = TraceDisk::new(&site.log());
    let running =
        Running::open(Opening { disk: disk.clone(), segment_bytes: 1000, ..site.opening() }).unwrap();
    let tries = Arc::new(AtomicUsize::new(0));
    let tried = tries.clone();
    disk.order(move |call, path| {
        let refused = call == Call::Create && is_segment(path);
        if refused {
            tried.fetch_add(1, Ordering::Relaxed);
        }
        refused.then_some(DiskFault::Error(Errno::NOSPC))
    });
    for number in 0..20 {
        running.commit([number]);
    }
    assert_eq!(segment::list(&site.log()).unwrap().len(), 1);
    assert!(tries.load(Ordering::Relaxed) > 0);
    disk.heal();
    running.commit([20]);
    running.close();
    assert_eq!(segment::list(&site.log()).unwrap().len(), 2);
    assert_eq!(site.numbers(), (0..21).collect::<Vec<_>>());
    assert_eq!(site.verify().verdict(), Verdict::Fine);
    assert_eq!(site.actions().iter().filter(|action| *action == "audit.sealed").count(), 1);
}

/// A folder that can't be synced: whether the new file is there after a power cut is not known, so no record may go into
/// the old one any more.
#[test]
fn a_seal_of_which_the_folder_can_not_be_synced_is_final_and_heals_at_the_next_start() {
    for failing in [Call::Sync, Call::SyncFolder] {
        let site = Site::new();
        let disk = TraceDisk::new(&site.log());
        let running =
            Running::open(Opening { disk: disk.clone(), segment_bytes: 1000, ..site.opening() }).unwrap();
        running.commit(0..4);
        disk.order(move |call, path| {
            let new = path.ends_with("00000000000000000004.jsonl") || path == Path::new("segments");
            (call == failing && new).then_some(DiskFault::Error(Errno::IO))
        });
        assert!(matches!(commit(&running, 4), Err(CommitError::Poisoned(_))), "{failing:?}");
        disk.heal();
        running.close();
        // As after a power cut that has kept the new name.
        fs::write(segment::path(&site.log(), 4), "").unwrap();
        let running = site.open();
        running.commit([5]);
        running.close();
        assert_eq!(site.numbers(), [0, 1, 2, 3, 5]);
        assert_eq!(site.verify().verdict(), Verdict::Fine);
    }
}

#[test]
fn checkpoints_that_can_not_be_written_stop_no_commit_and_come_later() {
    let site = Site::new();
    let disk = TraceDisk::new(&site.log());
    let running = site.open_on(disk.clone());
    running.commit([0]);
    wait(running.journal.sign());
    disk.order(|call, path| {
        let checkpoint = path.starts_with("checkpoint.new") || path.starts_with("checkpoints");
        (call == Call::Create && checkpoint).then_some(DiskFault::Error(Errno::NOSPC))
    });
    running.commit(1..10);
    wait(running.journal.sign());
    assert_eq!(site.verify().unsigned, 9);
    disk.heal();
    eventually("it is signed", || (site.verify().unsigned == 0).then_some(()));
    running.close();
    assert_eq!(site.verify().verdict(), Verdict::Fine);
}

#[test]
fn exchanges_that_went_through_a_log_that_is_given_up_are_told_at_the_next_start_exactly() {
    let site = Site::new();
    let disk = TraceDisk::new(&site.log());
    let running = site.open_on(disk.clone());
    running.commit([1]);
    disk.order(|call, path| (call == Call::Sync && is_segment(path)).then_some(DiskFault::Error(Errno::IO)));
    // As a relay under load: never a second of quiet, and then the stop.
    for number in 2..40 {
        assert!(commit(&running, number).is_err());
        running.journal.count_lost();
    }
    running.close();
    disk.heal();
    assert!(site.gap_file().exists());
    let running = site.open();
    running.commit([99]);
    running.close();
    assert!(!site.gap_file().exists());
    let verified = site.verify();
    assert_eq!((verified.gaps, verified.verdict()), (38, Verdict::Gaps));
    assert_eq!(site.actions().iter().filter(|action| *action == "audit.gap").count(), 1);
    // And once only.
    let running = site.open();
    running.commit([100]);
    running.close();
    assert_eq!(site.verify().gaps, 38);
}

#[test]
fn exchanges_that_went_through_a_full_disk_are_filed_under_load_as_well() {
    let site = Site::new();
    let disk = TraceDisk::new(&site.log());
    let running = site.open_on(disk.clone());
    running.commit([1]);
    disk.order(|call, path| {
        (matches!(call, Call::Write(_)) && is_segment(path)).then_some(DiskFault::Error(Errno::NOSPC))
    });
    let begun = SystemTime::now();
    let mut lost = 0;
    while begun.elapsed().unwrap() < bounds::JOURNAL_TICK * 3 {
        assert!(commit(&running, 2).is_err());
        running.journal.count_lost();
        lost += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    // A kill now must not lose the count, but for the last second of it.
    let filed: serde_json::Value = serde_json::from_slice(&fs::read(site.gap_file()).unwrap()).unwrap();
    assert!(filed["count"].as_u64().unwrap() > lost / 3, "{filed} of {lost}");
    disk.heal();
    is_writable(&running);
    running.commit([3]);
    running.close();
    assert_eq!(site.verify().gaps, lost);
    assert!(!site.gap_file().exists());
}

/// What the reserve has left behind is for outcomes alone: an intent that took it would be forwarded, and its own outcome
/// find no room.
#[test]
fn the_last_of_the_space_is_for_outcomes_until_there_is_a_reserve_again() {
    let site = Site::new();
    let disk = TraceDisk::new(&site.log());
    let running = site.open_on(disk.clone());
    running.commit([1]);
    let reserve = site.log().join("reserve");
    assert_eq!(fs::metadata(&reserve).unwrap().len(), bounds::RESERVE);
    let there = reserve.clone();
    disk.order(move |call, path| {
        let first = matches!(call, Call::Write(_)) && is_segment(path) && there.is_file();
        first.then_some(DiskFault::Error(Errno::NOSPC))
    });
    assert!(matches!(commit(&running, 2), Err(CommitError::Blocked(_))));
    assert!(reserve.is_file(), "an intent is not worth the reserve");
    // Nothing may take its place for now.
    let place = reserve.clone();
    disk.order(move |call, path| {
        let write = matches!(call, Call::Write(_)) && is_segment(path);
        if write && place.is_file() {
            return Some(DiskFault::Error(Errno::NOSPC));
        }
        if write && !place.exists() {
            fs::create_dir(&place).unwrap();
        }
        None
    });
    wait(running.journal.commit_outcome(vec![record(3)])).unwrap();
    assert!(!reserve.is_file());
    assert!(
        matches!(commit(&running, 4), Err(CommitError::Blocked(_))),
        "an intent took the space of outcomes"
    );
    wait(running.journal.commit_outcome(vec![record(5)])).unwrap();
    assert!(matches!(*running.journal.state().borrow(), State::Blocked(_)));
    std::thread::sleep(bounds::JOURNAL_TICK * 2);
    assert!(matches!(*running.journal.state().borrow(), State::Blocked(_)), "it flaps");
    disk.heal();
    fs::remove_dir(&reserve).unwrap();
    is_writable(&running);
    assert!(reserve.is_file());
    running.commit([6]);
    running.close();
    assert_eq!(site.numbers(), [1, 3, 5, 6]);
    let again = site.lines().iter().filter(|line| line.contains("can be written again")).count();
    assert_eq!(again, 1);
}
