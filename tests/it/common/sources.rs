//! The sources of the program, for tests that read them.

use std::fs;
use std::path::{Path, PathBuf};

/// All of them: the path of each from the root of the workspace, and what it holds.
pub(crate) fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let files = crates.chain([root.join("src")]).flat_map(|folder| texts(&folder));
    let sources = files.filter(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"));
    sources.map(|(path, text)| (path.strip_prefix(root).unwrap().display().to_string(), text)).collect()
}

/// All text files below a folder.
pub(crate) fn texts(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(texts(&entry.path())),
            kind if kind.is_file() => {
                found.extend(fs::read_to_string(entry.path()).ok().map(|text| (entry.path(), text)));
            }
            _ => {}
        }
    }
    found
}

/// Whether a source is compiled for tests alone, by its path.
pub(crate) fn is_test(name: &str) -> bool {
    name.ends_with("tests.rs") || name.starts_with("src/audit/crash_tests")
}

/// The part of a source that is in the program: tests stand at its end.
pub(crate) fn program(text: &str) -> &str {
    let mut end = text.len();
    for tests in ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\npub(crate) mod tests {"] {
        end = end.min(text.find(tests).unwrap_or(end));
    }
    &text[..end]
}
