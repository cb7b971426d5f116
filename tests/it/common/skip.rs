//! A test that lacks root or something of the kernel says so where it can't be overlooked: one line, with its name and its
//! reason, in the file that `LICENSE_RELAY_SKIPS` names (`target/skipped` unless set). `tests/run` shows them at the end;
//! `.ci/run` fails on any that it does not know. Unit tests use this file too.

use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Adds the line of the test that runs on this thread.
pub(crate) fn skipped(reason: &str) {
    let file = std::env::var("LICENSE_RELAY_SKIPS")
        .unwrap_or_else(|_| workspace().join("target/skipped").display().to_string());
    let program = std::env::current_exe().unwrap();
    let program = program.file_stem().unwrap().to_string_lossy();
    // Cargo adds a hash to the name.
    let program = program.rsplit_once('-').map_or(&*program, |(name, _)| name);
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = format!("{program}::{}: {reason}\n", test());
    // One write, so that tests in parallel don't mix their lines.
    File::options()
        .append(true)
        .create(true)
        .open(&file)
        .and_then(|mut to| to.write_all(line.as_bytes()))
        .unwrap_or_else(|e| panic!("{file}: {e}; set LICENSE_RELAY_SKIPS to a file for this line: {line}"));
}

/// The folder of the workspace, whichever of its crates this is compiled into.
fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().filter(|folder| folder.join("Cargo.lock").exists()).last().unwrap_or(own)
}

/// The test that runs: cargo-nextest names it, and elsewhere its thread has its name.
fn test() -> String {
    let thread = || std::thread::current().name().unwrap_or("?").to_owned();
    std::env::var("NEXTEST_TEST_NAME").unwrap_or_else(|_| thread())
}
