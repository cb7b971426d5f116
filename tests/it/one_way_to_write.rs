//! No file is written in a way of its own: the sources are read for calls that write, rename or link. Each module that may
//! have them is listed with the reason.

use crate::common::sources::{all, is_test, program};

/// What writes, or takes the place of a file.
const WAYS: [&str; 14] = [
    "File::create",
    "File::options",
    "OpenOptions",
    "fs::copy",
    "fs::rename",
    "fs::write",
    "hard_link",
    "renameat",
    "set_len",
    "tempfile",
    "fs::symlink(",
    "symlinkat",
    "fs::openat",
    "mkdirat",
];

/// Modules that may write, and why.
const ALLOWED: [(&str, &str); 12] = [
    ("crates/log/src/files/edit.rs", "the one way itself"),
    ("crates/log/src/files/folder.rs", "folders that appear whole, and links that are swapped"),
    ("crates/log/src/files/regular.rs", "the one way to open a file that is read"),
    ("src/audit/disk.rs", "the log: appended to, and put in place with a trait that tests make fail"),
    ("src/audit/recover.rs", "the log: its lock, and what a crash left at its end, kept apart"),
    ("src/audit/reserve.rs", "the log: space that is given back once the disk is full"),
    ("crates/log/src/ledger/tiles.rs", "the log: hashes that can be made anew, so that nothing is synced"),
    (
        "crates/log/src/ledger/subject/rollover.rs",
        "a retired key: its second name, and its bytes, which are overwritten in place",
    ),
    ("src/listen/local.rs", "the admin socket, which is no file: bound beside its place, and renamed"),
    ("crates/log/src/console/out_file.rs", "files that are handed over, which may be pipes or devices"),
    ("src/cli/demo.rs", "the demonstration: files in a temporary folder, one of which it forges"),
    ("src/cli/stub.rs", "the stand-in for the back end: its root, which nothing depends on"),
];

/// The lines of a source that are in the program: neither comments nor tests.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    program(text).lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn files_are_written_in_one_way() {
    let all = all();
    assert!(all.len() > 100, "{} sources", all.len());
    let (mut others, mut used) = (Vec::new(), Vec::new());
    for (name, text) in all.iter().filter(|(name, _)| !is_test(name)) {
        for (at, line) in lines(text).filter(|(_, line)| WAYS.iter().any(|way| line.contains(way))) {
            match ALLOWED.iter().find(|(allowed, _)| allowed == name) {
                Some((allowed, _)) => used.push(*allowed),
                None => others.push(format!("{name}:{}: {}", at + 1, line.trim())),
            }
        }
    }
    assert!(
        others.is_empty(),
        "use crates/log/src/files/edit.rs, or list the module with a reason:\n{}",
        others.join("\n")
    );
    for (allowed, why) in ALLOWED {
        assert!(used.contains(&allowed), "{allowed} ({why}) doesn't write any more; take it off the list");
    }
}
