//! One sync carries many, and nobody is released before it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use rustix::io::Errno;

use super::trace_disk::{Call, DiskFault, Op, TraceDisk};
use super::*;
use crate::audit::journal::{BatchKind, CommitError, Lane, Turn};

fn lane(client: u8) -> Lane {
    Lane::of([10, 0, 0, client].into(), None)
}

/// Writes records as an exchange does.
async fn in_turns(journal: &Journal, numbers: impl IntoIterator<Item = u64>) -> Result<(), CommitError> {
    let mut records = numbers.into_iter().map(record);
    loop {
        let turn = Turn::of(&mut records);
        journal.write(&lane(1), BatchKind::Outcome, turn.records).await?;
        if turn.is_last {
            return Ok(());
        }
    }
}

fn is_segment(path: &Path) -> bool {
    path.starts_with("segments")
}

#[test]
fn an_acknowledgement_waits_for_the_sync_however_long_that_takes() {
    let site = Site::new();
    let disk = TraceDisk::new(&site.log());
    let running = site.open_on(disk.clone());
    running.commit([0]);
    let (entered, entering) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    disk.order(move |call, path| {
        if call == Call::Sync && is_segment(path) {
            entered.send(()).unwrap();
            released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        None
    });
    wait(async {
        let mut commit = Box::pin(running.journal.commit(vec![record(1)]));
        assert!(std::future::poll_fn(|cx| Poll::Ready(commit.as_mut().poll(cx).is_pending())).await);
        entering.recv_timeout(PATIENCE).unwrap();
        // It is written, and the sync has begun; a second one waits behind it.
        assert!(site.lines().len() >= 2);
        let mut second = Box::pin(running.journal.commit(vec![record(2)]));
        for _ in 0..50 {
            assert!(std::future::poll_fn(|cx| Poll::Ready(commit.as_mut().poll(cx).is_pending())).await);
            assert!(std::future::poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending())).await);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        release.send(()).unwrap();
        commit.await.unwrap();
        entering.recv_timeout(PATIENCE).unwrap();
        assert!(std::future::poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending())).await);
        release.send(()).unwrap();
        second.await.unwrap();
    });
    disk.heal();
    running.close();
    assert_eq!(site.numbers(), [0, 1, 2]);
}

#[test]
fn what_is_no_refusal_waits_for_its_place_where_the_queue_is_half_full() {
    let site = Site::new();
    let disk = TraceDisk::new(&site.log());
    let running = site.open_on(disk.clone());
    running.commit([0]);
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    disk.order(move |call, path| {
        if call == Call::Sync && is_segment(path) {
            let _ = released.lock().unwrap().recv_timeout(PATIENCE);
        }
        None
    });
    let mut noted = 1;
    while running.journal.note(vec![record(noted)]) {
        noted += 1;
        assert!(noted < 2 * bounds::JOURNAL_QUEUE, "the disk does not hang");
    }
    assert!(!running.journal.note(vec![record(noted)]), "a refusal is counted instead");
    wait(running.journal.note_in_turn(vec![record(noted)]));
    drop(release);
    disk.heal();
    running.close();
    let mut numbers = site.numbers();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..=noted));
}

#[test]
fn a_thousand_exchanges_at_once_take_fewer_than_200_syncs_and_each_is_on_disk() {
    let site = Site::new();
    let disk = TraceDisk::new(&site.log());
    let running = site.open_on(disk.clone());
    running.commit([5000]);
    // As slow as a real one.
    disk.order(|call, path| {
        if call == Call::Sync && is_segment(path) {
            std::thread::sleep(Duration::from_millis(4));
        }
        None
    });
    let before = disk.syncs("segments");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let all: Vec<_> = (0..1000u64)
            .map(|n| {
                let journal = running.journal.clone();
                tokio::spawn(async move {
                    journal.commit(vec![record(n)]).await.unwrap();
                    journal.commit_outcome(vec![record(1000 + n)]).await.unwrap();
                })
            })
            .collect();
        for one in all {
            one.await.unwrap();
        }
    });
    let syncs = disk.syncs("segments") - before;
    assert!(syncs < 200, "{syncs} syncs");
    disk.heal();
    running.close();
    let mut numbers = site.numbers();
    let place = |n: u64| numbers.iter().position(|number| *number == n).unwrap();
    assert!((0..1000).all(|n| place(n) < place(1000 + n)), "an outcome stands before its intent");
    numbers.sort_unstable();
    assert_eq!(numbers, (0..2000).chain([5000]).collect::<Vec<_>>());
}

#[test]
fn a_turn_is_one_write_and_one_sync() {
    let site = Site::new();
    let disk = TraceDisk::new(&site.log());
    let running = site.open_on(disk.clone());
    running.commit([1]);
    let (before, from) = (disk.syncs("segments"), disk.ops().len());
    running.commit(10..10 + bounds::JOURNAL_TURN as u64);
    assert_eq!(disk.syncs("segments") - before, 1);
    let segment = disk.file(Path::new("segments/00000000000000000000.jsonl"));
    let writes =
        disk.ops()[from..].iter().filter(|op| matches!(op, Op::Write(file, _) if *file == segment)).count();
    assert_eq!(writes, 1);
    running.close();
    assert_eq!(site.numbers().len(), bounds::JOURNAL_TURN + 1);
}

#[test]
fn between_the_turns_of_a_message_with_50_000_records_others_have_theirs() {
    let site = Site::new();
    let running = site.open_on(Arc::new(RealDisk));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let journal = running.journal.clone();
        let large = tokio::spawn(async move {
            in_turns(&journal, 1..=50_000).await.unwrap();
        });
        running.journal.committed().wait_for(|size| *size > 0).await.unwrap();
        running.journal.write(&lane(2), BatchKind::Intent, vec![record(0)]).await.unwrap();
        assert!(!large.is_finished(), "it waited for all of it");
        large.await.unwrap();
    });
    running.close();
    let numbers = site.numbers();
    let place = numbers.iter().position(|number| *number == 0).unwrap();
    assert!(place <= 4 * bounds::JOURNAL_TURN, "behind {place} records");
    assert_eq!(numbers.len(), 50_001);
}

/// What one client hands over keeps the next write of another neither late nor out of the queue: each write takes of every
/// lane what it may have.
#[test]
fn a_lane_that_holds_all_it_may_is_no_wait_for_another() {
    let site = Site::new();
    let disk = TraceDisk::new(&site.log());
    let running =
        Running::open(Opening { disk: disk.clone(), queue: bounds::JOURNAL_QUEUE, ..site.opening() });
    let running = running.unwrap();
    let (entered, entering) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    disk.order(move |call, path| {
        if call == Call::Sync && is_segment(path) {
            let _ = entered.send(());
            let _ = released.lock().unwrap().recv_timeout(PATIENCE);
        }
        None
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let mut floods = Vec::new();
        for n in 0..40 {
            let journal = running.journal.clone();
            let records: Vec<Record> = (0..400).map(|of| record(1000 * (n + 1) + of)).collect();
            floods.push(tokio::spawn(
                async move { journal.write(&lane(1), BatchKind::Outcome, records).await },
            ));
        }
        // The first write waits for its sync; behind it the flood fills what it may have of the queue.
        entering.recv_timeout(PATIENCE).unwrap();
        let small = tokio::spawn({
            let journal = running.journal.clone();
            async move { journal.write(&lane(2), BatchKind::Intent, vec![record(0)]).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        release.send(()).unwrap();
        entering.recv_timeout(PATIENCE).unwrap();
        release.send(()).unwrap();
        small.await.unwrap().unwrap();
        drop(release);
        for flood in floods {
            flood.await.unwrap().unwrap();
        }
    });
    disk.heal();
    running.close();
    let place = site.numbers().iter().position(|number| *number == 0).unwrap();
    assert!(place <= 4 * 400, "behind {place} records");
}

#[test]
fn of_a_message_that_is_written_in_turns_what_follows_a_failure_is_not_written() {
    let site = Site::new();
    let disk = TraceDisk::new(&site.log());
    let running = site.open_on(disk.clone());
    let turn = bounds::JOURNAL_TURN as u64;
    let writes = AtomicUsize::new(0);
    disk.order(move |call, path| {
        let is_second =
            matches!(call, Call::Write(_)) && is_segment(path) && writes.fetch_add(1, Ordering::Relaxed) > 0;
        is_second.then_some(DiskFault::Error(Errno::NOSPC))
    });
    let refused = wait(in_turns(&running.journal, 0..3 * turn));
    assert!(matches!(refused, Err(CommitError::Blocked(_))), "{refused:?}");
    disk.heal();
    running.close();
    assert_eq!(site.numbers(), (0..turn).collect::<Vec<_>>());
}

#[test]
fn an_anchor_that_hangs_holds_up_no_commit() {
    let site = Site::new();
    let disk = TraceDisk::new(&site.log());
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let anchor = site.anchor();
    disk.order(move |call, path| {
        if call == Call::Create && path.starts_with(&anchor) {
            let _ = released.lock().unwrap().recv_timeout(PATIENCE);
        }
        None
    });
    let opening = Opening { anchors: vec![site.anchor()], disk, ..site.opening() };
    let running = Running::open(opening).unwrap();
    let begun = SystemTime::now();
    for n in 0..20 {
        running.commit([n]);
        wait(running.journal.sign());
    }
    assert!(begun.elapsed().unwrap() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(release);
    running.close();
    assert_eq!(fs::read_dir(site.anchor()).unwrap().count(), 1);
}

#[test]
fn the_log_is_open_for_one_at_a_time() {
    let site = Site::new();
    let running = site.open();
    running.commit([1]);
    // Its checkpoint comes by itself within a second, and is no change by others.
    wait(running.journal.sign());
    let before = site.tree();
    for _ in 0..2 {
        let refused = Running::open(site.opening());
        assert!(matches!(refused, Err(OpenError::Locked { .. })));
    }
    assert!(matches!(site.recover(), Err(OpenError::Locked { .. })));
    assert_eq!(site.tree(), before);
    running.close();
    let journals = Arc::new(site.open());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let journals = journals.clone();
            scope.spawn(move || (0..25).for_each(|n| journals.commit([100 + thread * 25 + n])));
        }
    });
    Arc::into_inner(journals).unwrap().close();
    let mut numbers = site.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [1].into_iter().chain(100..200).collect::<Vec<_>>());
}
