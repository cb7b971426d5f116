//! Looks for texts that must not be anywhere, in every form in which somebody could find and read them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD, Engine as _};

use super::{run, tool};

/// What is looked for: bytes in lower case, by their first few, with what they are.
pub struct Wanted(HashMap<[u8; SHORTEST], Vec<(Vec<u8>, String)>>);

/// Shorter texts would be found by chance.
const SHORTEST: usize = 6;

impl Wanted {
    /// Raw, in JSON, escaped, in a URL, in base64, and as MD5, SHA-1 and SHA-256; all in three cases.
    pub fn new(texts: impl IntoIterator<Item = String>) -> Self {
        let mut wanted = Self(HashMap::new());
        let mut spellings = Vec::new();
        for text in texts {
            let mut all = vec![text.to_lowercase(), text.to_uppercase(), text.trim().to_owned(), text];
            all.sort();
            all.dedup();
            spellings.extend(all.into_iter().filter(|spelling| spelling.len() >= SHORTEST));
        }
        for spelling in &spellings {
            let mut add =
                |form: &str, found: &str| wanted.add(found.as_bytes(), format!("{spelling:?} {form}"));
            add("itself", spelling);
            add("in JSON", serde_json::to_string(spelling).unwrap().trim_matches('"'));
            add("escaped", &spelling.escape_default().to_string());
            add("in a URL", &in_url(spelling));
            add("in base64", &BASE64_STANDARD_NO_PAD.encode(spelling));
            add("in base64url", &BASE64_URL_SAFE_NO_PAD.encode(spelling));
        }
        for sum in ["md5sum", "sha1sum", "sha256sum"] {
            for (spelling, hex) in spellings.iter().zip(digests(sum, &spellings)) {
                wanted.add(hex.as_bytes(), format!("{spelling:?} as {sum}"));
            }
        }
        wanted
    }

    /// What is found in these bytes. Lower case is compared with lower case.
    pub fn found(&self, bytes: &[u8]) -> Vec<String> {
        let bytes = bytes.to_ascii_lowercase();
        let mut found = Vec::new();
        for (at, first) in bytes.windows(SHORTEST).enumerate() {
            for (whole, what) in self.0.get(first).into_iter().flatten() {
                if bytes[at..].starts_with(whole) {
                    let before = String::from_utf8_lossy(&bytes[at.saturating_sub(40)..at]);
                    found.push(format!("{what} behind {before:?}"));
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }

    fn add(&mut self, bytes: &[u8], what: String) {
        let bytes = bytes.to_ascii_lowercase();
        if let Some(first) = bytes.first_chunk() {
            let all = self.0.entry(*first).or_default();
            if all.iter().all(|(other, _)| *other != bytes) {
                all.push((bytes, what));
            }
        }
    }
}

/// All bytes but letters, digits and a few marks percent-encoded.
pub fn in_url(text: &str) -> String {
    text.bytes().fold(String::new(), |mut url, byte| {
        let plain = byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let _ = if plain { write!(url, "{}", char::from(byte)) } else { write!(url, "%{byte:02X}") };
        url
    })
}

/// All files below a folder, each once: links are left out.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let of = |entry: fs::DirEntry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => files(&entry.path()),
        kind if kind.is_symlink() => Vec::new(),
        _ => vec![entry.path()],
    };
    entries.flat_map(of).collect()
}

fn digests(sum: &str, texts: &[String]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (number, text) in texts.iter().enumerate() {
        fs::write(folder.path().join(number.to_string()), text).unwrap();
    }
    let mut command = tool(sum, "coreutils");
    let output = run(command.current_dir(&folder).args((0..texts.len()).map(|number| number.to_string())));
    let hex = |line: &str| line.split(' ').next().unwrap().to_owned();
    String::from_utf8(output.stdout).unwrap().lines().map(hex).collect()
}
