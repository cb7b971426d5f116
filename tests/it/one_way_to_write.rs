//! No file is written in a way of its own: the sources are read for calls that write, rename or link. Each module that may
//! have them is listed with the reason.

use std::fs;

use crate::common::sources::{all_in, is_test, program, src};

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
    ("config/edit.rs", "the one way itself"),
    ("config/folder.rs", "folders that appear whole, and links that are swapped"),
    ("config/regular.rs", "the one way to open a file that is read"),
    ("audit/disk.rs", "the log: appended to, and put in place with a trait that tests make fail"),
    ("audit/recover.rs", "the log: its lock, and what a crash left at its end, kept apart"),
    ("audit/reserve.rs", "the log: space that is given back once the disk is full"),
    ("ledger/tiles.rs", "the log: hashes that can be made anew, so that nothing is synced"),
    (
        "ledger/subject/rollover.rs",
        "a retired key: its second name, and its bytes, which are overwritten in place",
    ),
    ("listen/local.rs", "the admin socket, which is no file: bound beside its place, and renamed"),
    ("cli/out_file.rs", "files that are handed over, which may be pipes or devices"),
    ("cli/demo.rs", "the demonstration: files in a temporary folder, one of which it forges"),
    ("cli/stub.rs", "the stand-in for the back end: its root, which nothing depends on"),
];

/// The lines of a source that are in the program: neither comments nor tests.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    program(text).lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn files_are_written_in_one_way() {
    let src = src();
    let all = all_in(&src);
    assert!(all.len() > 100, "{} sources", all.len());
    let (mut others, mut used) = (Vec::new(), Vec::new());
    for path in &all {
        let name = path.strip_prefix(&src).unwrap().display().to_string();
        if is_test(&name) {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        for (at, line) in lines(&text).filter(|(_, line)| WAYS.iter().any(|way| line.contains(way))) {
            match ALLOWED.iter().find(|(allowed, _)| *allowed == name) {
                Some((allowed, _)) => used.push(*allowed),
                None => others.push(format!("src/{name}:{}: {}", at + 1, line.trim())),
            }
        }
    }
    assert!(
        others.is_empty(),
        "use config/edit.rs, or list the module with a reason:\n{}",
        others.join("\n")
    );
    for (allowed, why) in ALLOWED {
        assert!(used.contains(&allowed), "{allowed} ({why}) doesn't write any more; take it off the list");
    }
}
