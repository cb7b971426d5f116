//! A file that a crash leaves beside `--out` may hold names and secrets. The next verb that writes into the folder takes it
//! away, and touches neither what another one writes just then nor what is somebody else's.

use std::fs::{self, File};
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::Command;

use crate::common::*;

/// An export of a relay's log into a file of this folder, through another command or alone.
fn export(relay: &Relay, by: Option<Command>, to: &Path) -> Command {
    let mut command = match by {
        Some(mut by) => {
            by.arg(env!("CARGO_BIN_EXE_license-relay"));
            by
        }
        None => program(),
    };
    command.args(["audit", "export", "--format", "jsonl", "--log"]).arg(relay.path("audit"));
    command.arg("--out").arg(to);
    command
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_a_crash_leaves_is_taken_away_by_the_next_verb_that_writes_into_the_folder() {
    let (_stub, mut relay, _folder) = pair();
    assert!(relay.stop().success());
    let folder = tempfile::tempdir().unwrap();
    let kill = "inject=rename,renameat,renameat2:signal=KILL";
    let options = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=rename,renameat,renameat2", "-e", kill];
    let Some(killed) = strace(&options) else { return };
    run(&mut export(&relay, Some(killed), &folder.path().join("answer")));
    let left = names(folder.path());
    assert!(left.len() == 1 && left[0].starts_with(".answer."), "nothing was cut off: {left:?}");
    assert!(fs::metadata(folder.path().join(&left[0])).unwrap().len() > 0);
    ended(&run(&mut export(&relay, None, &folder.path().join("other"))), 0, "");
    assert_eq!(names(folder.path()), ["other"]);
}

#[test]
fn what_somebody_writes_just_then_and_what_is_of_others_stays() {
    let (_stub, mut relay, _folder) = pair();
    assert!(relay.stop().success());
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut stays = vec![
        ".answer.0123456789abcdef.out",
        ".link.0123456789abcdef.out",
        ".folder.0123456789abcdef.out",
        ".answer.0123456789ABCDEF.out",
        ".answer.out",
        "answer.0123456789abcdef.out",
        "other",
    ];
    // Its writer lives, and has it locked.
    let living = File::create(at(stays[0])).unwrap();
    living.lock().unwrap();
    symlink(at("other"), at(stays[1])).unwrap();
    fs::create_dir(at(stays[2])).unwrap();
    stays[3..6].iter().for_each(|name| fs::write(at(name), "").unwrap());
    let foreign = ".foreign.0123456789abcdef.out";
    fs::write(at(foreign), "").unwrap();
    if chown(at(foreign), Some(65534), None).is_ok() {
        stays.push(foreign);
    } else {
        skip::skipped("only root can give files away");
    }
    fs::write(at(".gone.0123456789abcdef.out"), "secret").unwrap();
    ended(&run(&mut export(&relay, None, &at("other"))), 0, "");
    stays.sort_unstable();
    assert_eq!(names(folder.path()), stays);
    drop(living);
    ended(&run(&mut export(&relay, None, &at("other"))), 0, "");
    stays.retain(|name| *name != ".answer.0123456789abcdef.out");
    assert_eq!(names(folder.path()), stays);
}

#[test]
fn verbs_that_write_into_one_folder_at_once_take_nothing_from_each_other() {
    let (_stub, mut relay, _folder) = pair();
    assert!(relay.stop().success());
    let folder = tempfile::tempdir().unwrap();
    let verbs: Vec<_> =
        (0..8).map(|n| export(&relay, None, &folder.path().join(n.to_string())).spawn().unwrap()).collect();
    for mut verb in verbs {
        assert!(verb.wait().unwrap().success());
    }
    assert_eq!(names(folder.path()), (0..8).map(|n: u8| n.to_string()).collect::<Vec<_>>());
}
