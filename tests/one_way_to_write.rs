//! No file is written in a way of its own: the sources are read for calls that write, rename or link. Each module that may
//! have them is listed with the reason.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::path::{Path, PathBuf};

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

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            None => sources(&path, found),
            Some(extension) if extension == "rs" => found.push(path),
            Some(_) => {}
        }
    }
}

/// The lines of a source that are in the program: neither comments nor tests, which stand at the end of a file or in files
/// of their own.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let program = text.split("#[cfg(test)]\npub(crate) mod tests {").next().unwrap_or_default();
    let program = program.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    program.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn files_are_written_in_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    sources(&src, &mut all);
    assert!(all.len() > 100, "{} sources", all.len());
    let (mut others, mut used) = (Vec::new(), Vec::new());
    for path in &all {
        let name = path.strip_prefix(&src).unwrap().display().to_string();
        // Modules that are compiled for tests alone.
        if name.ends_with("tests.rs") || name.starts_with("audit/crash_tests") {
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
