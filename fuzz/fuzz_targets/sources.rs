//! An allow-list that anybody may have written: a list, or problems that name its lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use license_relay::config::sources;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match sources::parse(text, "sources.toml".as_ref()) {
        Ok(list) => assert!(list.sources.iter().all(|source| source.line > 0)),
        Err(problems) => assert!(problems.has_errors() && !problems.to_string().is_empty()),
    }
});
