//! What is expensive to make and the same for many tests is made once a run, by the test that needs it first. Tests are
//! processes of their own, so they share it through the file system.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// No run takes so long: what is older is left over from one that has ended.
const LONGEST_RUN: Duration = Duration::from_secs(4 * 3600);

/// The folder that `make` has filled in this run, under this name. It is shared: whoever changes something changes a copy.
pub fn once_a_run(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| std::process::id().to_string());
    let runs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runs");
    fs::create_dir_all(&runs).unwrap();
    let folder = runs.join(run);
    if fs::create_dir(&folder).is_ok() {
        remove_old(&runs);
    }
    let made = folder.join(name);
    let lock = File::create(folder.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if !made.exists() {
        // Under another name until it is whole: a test may fail on the way, and the next one makes it then.
        let begun = tempfile::tempdir_in(&folder).unwrap();
        make(begun.path());
        fs::rename(begun.keep(), &made).unwrap();
    }
    made
}

fn remove_old(runs: &Path) {
    for run in fs::read_dir(runs).unwrap() {
        let run = run.unwrap();
        let begun = run.metadata().and_then(|data| data.created()).unwrap_or_else(|_| SystemTime::now());
        if begun.elapsed().unwrap_or_default() > LONGEST_RUN {
            // Another run may do the same just now.
            let _ = fs::remove_dir_all(run.path());
        }
    }
}
