//! The way out of a log that can't be written to any more: it is put aside as it is, and a new one begins that names it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use super::disk::{self, Disk, RealDisk};
use super::journal::{Journal, Opening};
use super::recover::{OpenError, lock};
use crate::config::model::Audit;
use relay_log::ledger::action::{Action, Outcome};
use relay_log::ledger::log::{LogFile, Predecessor};
use relay_log::ledger::merkle::{Frontier, leaf};
use relay_log::ledger::note::{CHECKPOINT, KEPT, Signer, SigningKeyError};
use relay_log::ledger::record::Record;
use relay_log::ledger::segment::{self, is_begun};
use relay_log::ledger::tiles;
use relay_log::text::hex::hex;
use relay_log::text::redact::clip;

/// What stands between the name of a log and the number of its fork.
const FORK: &str = "/fork-";
/// The folder, below the log's own, of logs that were given up.
const FORKS: &str = "forks";

/// Why there is no fork.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// A relay writes the log, or it can't be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The signing key can't be used.
    #[error("{0}")]
    Key(#[from] SigningKeyError),
    /// There is nothing to fork.
    #[error("{0} has no log to fork; a relay makes one when it starts")]
    NoLog(PathBuf),
    /// The system refused.
    #[error("{path}: {cause}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
    /// The new log takes no first record.
    #[error("{0}")]
    FirstRecord(#[from] super::journal::CommitError),
}

/// What was done.
#[derive(Debug)]
pub struct Forked {
    /// The new log's name.
    pub origin: String,
    /// The old one.
    pub predecessor: Predecessor,
    /// Where it lies now.
    pub kept: PathBuf,
}

/// The name of the log in a folder: as configured, or a fork of that.
pub fn name(directory: &Path, configured: &str) -> String {
    let stored = LogFile::read(directory).ok().flatten().map(|log| log.origin);
    let fork =
        stored.filter(|stored| stored.strip_prefix(configured).is_some_and(|rest| rest.starts_with(FORK)));
    fork.unwrap_or_else(|| configured.to_owned())
}

/// Opens the log under its name. A fork may give it another one before its lock is taken; then it is opened under that.
///
/// # Errors
/// Those of the opening.
pub fn open_named<T, E>(audit: &Audit, mut open: impl FnMut(&str) -> Result<T, E>) -> Result<T, E> {
    let mut origin = name(&audit.directory, &audit.origin);
    loop {
        let opened = open(&origin);
        let now = name(&audit.directory, &audit.origin);
        // Each further turn takes another fork.
        if opened.is_ok() || now == origin {
            return opened;
        }
        origin = now;
    }
}

/// Puts the log aside and begins a new one, whose first record says why.
///
/// # Errors
/// See [`ForkError`]; what was done until then is gone on from by the next try, and no relay starts meanwhile.
pub async fn fork(audit: &Audit, reason: &str) -> Result<Forked, ForkError> {
    fork_on(Arc::new(RealDisk), audit, reason).await
}

async fn fork_on(disk: Arc<dyn Disk>, audit: &Audit, reason: &str) -> Result<Forked, ForkError> {
    let directory = &audit.directory;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |cause| ForkError::Io { path, cause }
    };
    if !is_begun(directory) {
        return Err(ForkError::NoLog(directory.clone()));
    }
    let held = lock(directory)?;
    let plan = ForkPlan::make(audit).map_err(io(directory))?;
    let ForkPlan { origin, predecessor, kept, .. } = &plan;
    let signer = Signer::load(&audit.signing_key, origin)?;
    let about = LogFile::new(origin, signer.verifier.to_string(), Some(predecessor.clone()));
    plan.carry_out(disk.as_ref(), directory, &about).map_err(io(kept))?;

    // Nobody else opens the new log before its first record is written.
    let (journal, writer) = Journal::open_held(held, Opening::new(audit, signer, disk))?;
    let mut record = Record::new(Action::AuditFork, uuid::Uuid::now_v7());
    record.outcome = Outcome::Success;
    record.reason = format!(
        "goes on from {} at {} records, root {}: {}",
        predecessor.origin,
        predecessor.size,
        predecessor.root,
        clip(reason)
    );
    let committed = journal.commit(vec![record]).await;
    journal.close().await;
    writer.finish();
    committed?;
    let ForkPlan { origin, predecessor, kept, .. } = plan;
    Ok(Forked { origin, predecessor, kept })
}

/// What a fork is to do, or what is left to do of one that was interrupted.
struct ForkPlan {
    origin: String,
    predecessor: Predecessor,
    kept: PathBuf,
    /// `log.json` as it was; `None` where the new one is in its place already.
    old: Option<LogFile>,
}

impl ForkPlan {
    fn make(audit: &Audit) -> io::Result<Self> {
        let directory = &audit.directory;
        let folder = |number| folder(directory, number);
        let moved = segment::list(directory)?.is_empty();
        // One that has signed something of its own was finished, whatever has become of it since.
        let signed = |origin: &str| {
            fs::read(directory.join(CHECKPOINT))
                .is_ok_and(|note| note.starts_with(format!("{origin}\n").as_bytes()))
        };
        let old = match LogFile::read(directory)? {
            Some(LogFile { origin, predecessor: Some(predecessor), .. }) if moved && !signed(&origin) => {
                // All but the last step was done.
                let number =
                    origin.rsplit_once(FORK).and_then(|(_, number)| number.parse().ok()).unwrap_or(1);
                return Ok(Self { origin, predecessor, kept: folder(number), old: None });
            }
            Some(old) => old,
            None => {
                let signer = Signer::load(&audit.signing_key, &audit.origin).map_err(io::Error::other)?;
                LogFile::new(&audit.origin, signer.verifier.to_string(), None)
            }
        };
        let number = number_for(directory, &old.origin)?;
        let frontier = read_all(if moved { folder(number) } else { directory.clone() }.as_path())?;
        Ok(Self {
            origin: format!("{}{FORK}{number}", audit.origin),
            predecessor: Predecessor {
                origin: old.origin.clone(),
                size: frontier.size(),
                root: hex(&frontier.root()),
            },
            kept: folder(number),
            old: Some(old),
        })
    }

    /// The checkpoints stay until the new `log.json` is there: as long as they are over more than there is, or not of this
    /// log, no relay starts, and nobody signs a second history under the old name.
    fn carry_out(&self, disk: &dyn Disk, directory: &Path, new: &LogFile) -> io::Result<()> {
        let file = LogFile::path(directory);
        if let Some(old) = &self.old {
            disk::make_folder(disk, &self.kept)?;
            for name in [segment::FOLDER, tiles::FOLDER, "quarantine"] {
                move_into(disk, &self.kept, &directory.join(name))?;
            }
            match fs::read(directory.join(CHECKPOINT)) {
                Ok(note) => disk::put(disk, &self.kept.join(CHECKPOINT), &note)?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
            disk.sync_folder(directory)?;
            disk::put(disk, &LogFile::path(&self.kept), &old.to_bytes())?;
            disk::put(disk, &file, &new.to_bytes())?;
            disk::make_read_only(&file)?;
        }
        move_into(disk, &self.kept, &directory.join(KEPT))?;
        disk.sync_folder(&self.kept)?;
        match disk.remove(&directory.join(CHECKPOINT)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        disk.sync_folder(directory)
    }
}

/// Where a log lies that was put aside.
fn folder(directory: &Path, number: u32) -> PathBuf {
    directory.join(FORKS).join(number.to_string())
}

/// The number of the fork that goes on from this log. A folder that holds this very log, or no whole one, is of a try that
/// was interrupted.
fn number_for(directory: &Path, origin: &str) -> io::Result<u32> {
    let mut number = 1;
    loop {
        match LogFile::read(&folder(directory, number)) {
            Ok(kept) if kept.as_ref().is_none_or(|kept| kept.origin == origin) => return Ok(number),
            // One that can't be looked at may be of that try.
            Err(e) if e.kind() != io::ErrorKind::InvalidData => return Err(e),
            _ => number += 1,
        }
    }
}

fn move_into(disk: &dyn Disk, kept: &Path, from: &Path) -> io::Result<()> {
    let to = kept.join(from.file_name().unwrap_or_default());
    match disk.rename(from, &to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        // A start that was refused meanwhile has made the folder again, with nothing in it.
        Err(_) if to.exists() && fs::remove_dir(from).is_ok() => Ok(()),
        moved => moved,
    }
}

/// The tree over what is there. What was pruned has left its hashes; where these are lost as well, the log is what is
/// left of it.
fn read_all(directory: &Path) -> io::Result<Frontier> {
    let mut frontier = Frontier::default();
    let pruned = segment::begin(directory)?;
    if tiles::read_first(directory, pruned, |leaf| frontier.push(leaf)).is_err() {
        frontier = Frontier::default();
    }
    for segment in segment::list(directory)? {
        let mut lines = segment::Lines::of(&segment)?;
        while let Some(line) = lines.next_whole()? {
            frontier.push(leaf(line));
        }
    }
    Ok(frontier)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::io::Errno;

    use super::*;
    use crate::audit::crash_tests::trace_disk::{DiskFault, TraceDisk};
    use crate::audit::crash_tests::{Running, Site, wait};
    use crate::config::model::OnFailure;
    use relay_log::ledger::subject::{SubjectCase, SubjectForm};
    use relay_log::verify::log::{Verdict, verify};

    fn audit(site: &Site) -> Audit {
        Audit {
            directory: site.log(),
            on_failure: OnFailure::Block,
            subject: SubjectForm::HmacSha256,
            subject_key: site.log(),
            subject_case: SubjectCase::Fold,
            signing_key: site.key(),
            origin: super::super::crash_tests::ORIGIN.into(),
            anchors: Vec::new(),
            queue: crate::bounds::JOURNAL_QUEUE,
        }
    }

    /// What a relay would do in this folder.
    fn start(site: &Site) -> Result<Running, OpenError> {
        let audit = audit(site);
        let origin = name(&audit.directory, &audit.origin);
        let signer = Signer::load(&audit.signing_key, &origin).unwrap();
        Running::open(Opening { signer, ..site.opening() })
    }

    #[test]
    fn a_fork_that_is_interrupted_is_finished_by_the_next_try_and_no_second_history_begins_meanwhile() {
        let site = Site::new();
        let running = site.open();
        running.commit(0..20);
        running.close();
        let log = site.tree();
        let mut whole = 0;
        for step in 0.. {
            let site = site.with_log(&log);
            let disk = TraceDisk::new(&site.log());
            let calls = AtomicUsize::new(0);
            // From this call on nothing is done any more, as after a kill.
            disk.order(move |_, _| {
                (calls.fetch_add(1, Ordering::Relaxed) >= step).then_some(DiskFault::Error(Errno::IO))
            });
            let done = wait(fork_on(disk, &audit(&site), "a test"));
            if done.is_ok() {
                assert!(step > 10, "{step}");
                break;
            }
            match start(&site) {
                Err(OpenError::WentBack { .. } | OpenError::Foreign { .. }) => {}
                Err(e) => panic!("step {step}: {e}"),
                Ok(running) => {
                    // Nothing was done yet, or all of it.
                    running.close();
                    let origin = LogFile::read(&site.log()).unwrap().unwrap().origin;
                    let all = site.numbers() == (0..20).collect::<Vec<_>>();
                    assert!(all || origin.ends_with("/fork-1"), "step {step}: a second history of {origin}");
                }
            }
            let done = wait(fork(&audit(&site), "again")).unwrap_or_else(|e| panic!("step {step}: {e}"));
            let verified = verify(&site.log(), &[], |_| {}).unwrap();
            assert_eq!(verified.verdict(), Verdict::Fine, "step {step}: {verified:#?}");
            assert_eq!(verified.origin, done.origin);
            assert!(site.lines()[0].contains("again"), "step {step}");
            let old = verify(&site.log().join("forks/1"), &[], |_| {}).unwrap();
            assert_eq!(
                (old.verdict(), old.records, old.unsigned),
                (Verdict::Fine, 20, 0),
                "step {step}: {old:#?}"
            );
            if done.origin.ends_with("/fork-1") {
                whole += 1;
                assert_eq!(verified.predecessor.map(|old| Some(old.root)), Some(old.root), "step {step}");
            }
        }
        assert!(whole > 10, "{whole}");
    }

    #[test]
    fn a_log_that_has_lost_all_its_segments_is_forked_as_what_is_left_of_it() {
        let site = Site::new();
        let running = site.open();
        running.commit(0..5);
        running.close();
        for expected in ["/fork-1", "/fork-2", "/fork-3"] {
            fs::remove_dir_all(site.log().join(segment::FOLDER)).unwrap();
            assert!(matches!(start(&site).map(drop), Err(OpenError::WentBack { .. })));
            let done = wait(fork(&audit(&site), "all segments are gone")).unwrap();
            assert!(done.origin.ends_with(expected), "{}", done.origin);
            assert_eq!(verify(&site.log(), &[], |_| {}).unwrap().verdict(), Verdict::Fine);
        }
    }
}
