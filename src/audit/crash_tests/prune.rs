//! Pruning, cut short: by a power cut after any step, and by a disk that fails at any call. The log is whole all the same,
//! the next try completes it, and nothing goes before that is signed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};
use rustix::io::Errno;

use super::power_cut::{Fate, Life};
use super::seal::sealed;
use super::trace_disk::{Call, DiskFault, Op, TraceDisk};
use super::*;
use crate::audit::prune::{Plan, PruneError, prune_on};
use relay_log::verify::log::Verdict;

const NEW: u64 = 1_000_000;

/// All that is sealed goes.
fn prune(site: &Site, disk: Arc<dyn Disk>) -> Result<Plan, PruneError> {
    let now = Timestamp::now() + SignedDuration::from_hours(1);
    let done = wait(prune_on(Opening { disk, ..site.opening() }, now, |_| true))?;
    Ok(done.unwrap())
}

/// What is left verifies, is gone on with, and is pruned to the end.
fn goes_on(site: &Site, numbers: &[u64], stays: &[u64], what: &str) {
    let running = Running::open(site.opening()).unwrap_or_else(|e| panic!("{what}: {e}"));
    // So it had ended before, and no verb changes that.
    assert_eq!(running.journal.previous_stop(), Some("unclean"), "{what}");
    running.commit([NEW]);
    running.close();
    let verified = site.verify();
    assert_eq!(verified.verdict(), Verdict::Fine, "{what}: {verified:#?}");
    let left = site.numbers();
    let (_, old) = left.split_last().unwrap();
    assert!(numbers.ends_with(old) && old.ends_with(stays), "{what}: {old:?}");
    // A pruned start is one that a record tells of, so that all others would be damage.
    assert_eq!(verified.pruned, segment::begin(&site.log()).unwrap(), "{what}");

    prune(site, Arc::new(RealDisk)).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(site.numbers(), [stays, &[NEW]].concat(), "{what}");
    let verified = site.verify();
    assert_eq!((verified.verdict(), verified.unsigned), (Verdict::Fine, 0), "{what}: {verified:#?}");
    assert_eq!(segment::list(&site.log()).unwrap().len(), 1, "{what}");
}

/// A log of several segments whose hashes are not there, and the numbers in it: all, and those in the active segment.
fn log() -> (Site, FileTree, Vec<u64>, Vec<u64>) {
    let site = sealed(6);
    let mut tree = site.tree();
    tree.retain(|path, _| !path.starts_with("hashes"));
    let active = fs::read_to_string(site.active()).unwrap();
    let (all, stays) = (site.numbers(), active.lines().filter_map(number_of).collect());
    (site, tree, all, stays)
}

#[test]
fn a_power_cut_at_any_step_of_a_pruning_leaves_a_log_that_is_whole_and_pruned_by_the_next_try() {
    let (site, tree, all, stays) = log();
    let life = Life::on(site.with_log(&tree));
    prune(&life.site, life.disk.clone()).unwrap();
    assert_eq!(life.site.numbers(), stays);
    let mut model = life.begin.clone();
    let mut seen = BTreeSet::new();
    for (step, op) in life.disk.ops().iter().enumerate() {
        model.step(op);
        for fate in Fate::all_at(step) {
            let left = model.left(fate);
            if seen.insert(left.clone()) {
                let what = format!("after step {step}, {op:.80?}, {fate:?}");
                goes_on(&site.with_log(&left), &all, &stays, &what);
            }
        }
    }
    assert!(seen.len() > 20, "only {} different folders", seen.len());
}

#[test]
fn a_disk_that_fails_at_any_call_of_a_pruning_leaves_a_log_that_is_whole() {
    let (site, tree, all, stays) = log();
    for step in 0.. {
        let site = site.with_log(&tree);
        let disk = TraceDisk::new(&site.log());
        let calls = AtomicUsize::new(0);
        // From this call on nothing is done any more, as after a kill.
        disk.order(move |_, _| {
            (calls.fetch_add(1, Ordering::Relaxed) >= step).then_some(DiskFault::Error(Errno::IO))
        });
        let done = prune(&site, disk.clone());
        let verified = site.verify();
        assert_eq!(verified.verdict(), Verdict::Fine, "step {step}: {verified:#?}");
        if done.is_ok() {
            assert!(step > 10, "{step}");
            return;
        }
        goes_on(&site, &all, &stays, &format!("step {step}"));
    }
}

#[test]
fn a_log_verifies_at_any_time_while_it_is_pruned() {
    let (site, tree, ..) = log();
    for round in 0..5 {
        let site = site.with_log(&tree);
        let disk = TraceDisk::new(&site.log());
        disk.order(|_, _| {
            std::thread::sleep(Duration::from_millis(1));
            None
        });
        let mut runs = 0;
        std::thread::scope(|scope| {
            let pruning = scope.spawn(|| prune(&site, disk.clone()).unwrap());
            while !pruning.is_finished() {
                let verified = site.verify();
                assert_eq!(verified.verdict(), Verdict::Fine, "round {round}, {runs}: {verified:#?}");
                runs += 1;
            }
        });
        assert!(runs > 10, "{runs}");
    }
}

/// By the trace alone.
#[test]
fn nothing_goes_before_its_hashes_and_the_record_of_it_are_on_disk_and_signed() {
    let (site, tree, ..) = log();
    let life = Life::on(site.with_log(&tree));
    let plan = prune(&life.site, life.disk.clone()).unwrap();
    let ops = life.disk.ops();
    let removed = |op: &Op| matches!(op, Op::Remove(path) if path.starts_with(segment::FOLDER));
    let first = ops.iter().position(removed).unwrap();
    let signed = ops.iter().position(|op| matches!(op, Op::Rename(_, to) if to == Path::new("checkpoint")));
    let folder = |name: &str| ops[..first].iter().rposition(|op| *op == Op::SyncFolder(name.into())).unwrap();
    let record = ops.iter().position(
        |op| matches!(op, Op::Write(_, bytes) if String::from_utf8_lossy(bytes).contains("audit.pruned")),
    );
    assert!(
        folder("hashes/0") < record.unwrap() && record < signed && signed.unwrap() < folder(""),
        "{ops:#?}"
    );
    assert!(folder("") < first && folder("hashes") < record.unwrap());
    // One after the other.
    let going: Vec<_> = ops[first..]
        .iter()
        .filter_map(|op| match op {
            Op::Remove(path) if path.starts_with(segment::FOLDER) => path.file_name(),
            Op::SyncFolder(path) if path == Path::new(segment::FOLDER) => Some("sync".as_ref()),
            _ => None,
        })
        .collect();
    let expected: Vec<_> = plan
        .going
        .iter()
        .flat_map(|going| [going.segment.path.file_name().unwrap(), "sync".as_ref()])
        .collect();
    assert_eq!(going, expected);
}

#[test]
fn a_checkpoint_that_can_not_be_written_lets_nothing_go() {
    let (site, tree, all, stays) = log();
    let site = site.with_log(&tree);
    let disk = TraceDisk::new(&site.log());
    disk.order(|call, path| {
        (call == Call::Create && path.starts_with("checkpoint.new")).then_some(DiskFault::Error(Errno::NOSPC))
    });
    assert!(matches!(prune(&site, disk).map(drop), Err(PruneError::Unsigned(_))));
    assert_eq!(site.numbers(), all);
    goes_on(&site, &all, &stays, "later");
}
