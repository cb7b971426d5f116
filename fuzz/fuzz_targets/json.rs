//! A body as Go reads it and as we do: whenever Go reads a source, a license, a person, an allotment or a change, we read
//! the same one, or refuse the body.
#![no_main]

#[path = "../../tests/it/common/gojson.rs"]
mod gojson;

use std::sync::{LazyLock, Mutex};

use gojson::{Go, disagreement};
use libfuzzer_sys::fuzz_target;
use license_relay::licensing::vocabulary::Words;

/// The Go program lives as long as the fuzzer. It is an oracle and no part of what is measured.
static GO: LazyLock<Mutex<Go>> = LazyLock::new(|| {
    let program = std::env::var_os("LICENSE_RELAY_GOJSON")
        .expect("LICENSE_RELAY_GOJSON names no program: fuzz/run builds tests/clients/gojson and sets it");
    Mutex::new(Go::start(program.as_ref()).expect("LICENSE_RELAY_GOJSON names a program that does not start"))
});

fuzz_target!(|body: &[u8]| {
    static WORDS: LazyLock<Words> = LazyLock::new(|| Words::load(None).expect("a test parses the same text"));
    let readings = GO.lock().expect("one thread").read(body);
    if let Some(why) = disagreement(body, &readings, &WORDS) {
        panic!("{why}");
    }
});
