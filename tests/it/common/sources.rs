//! The sources of the program, for tests that read them.

use std::fs;
use std::path::{Path, PathBuf};

/// Where they are.
pub(crate) fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All of them, in a folder and below.
pub(crate) fn all_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            None => found.extend(all_in(&path)),
            Some(extension) if extension == "rs" => found.push(path),
            Some(_) => {}
        }
    }
    found
}

/// Whether a source, by its path below `src`, is compiled for tests alone.
pub(crate) fn is_test(name: &str) -> bool {
    name.ends_with("tests.rs") || name.starts_with("audit/crash_tests")
}

/// The part of a source that is in the program: tests stand at its end.
pub(crate) fn program(text: &str) -> &str {
    let mut end = text.len();
    for tests in ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\npub(crate) mod tests {"] {
        end = end.min(text.find(tests).unwrap_or(end));
    }
    &text[..end]
}
