//! A vocabulary that anybody may have written, and a message read by it: names, or problems that name their lines.
#![no_main]

use http::{HeaderMap, Method, Uri};
use libfuzzer_sys::fuzz_target;
use license_relay::licensing::message::Message;
use license_relay::licensing::vocabulary::Vocabulary;

const SYNC: &[u8] = include_bytes!("../../tests/samples/sync-request-wrapped.json");

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Vocabulary::parse(text, "vocabulary.toml".as_ref()) {
        Ok(words) => {
            let both = words.clone().try_into().expect("a test parses the built-in names");
            let _ = Message::read(&Method::POST, &Uri::from_static("/"), &HeaderMap::new(), SYNC, &both);
            let again = Vocabulary::parse(&words.to_toml(), "shown.toml".as_ref());
            assert!(again.is_ok(), "what is shown is no vocabulary");
        }
        Err(problems) => assert!(problems.has_errors() && !problems.to_string().is_empty()),
    }
});
