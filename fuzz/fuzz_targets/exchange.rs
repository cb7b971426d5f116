//! A request and its reply, whatever they hold: never a panic, and never a token or a subject in what would be shown.
#![no_main]

use std::sync::OnceLock;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use libfuzzer_sys::fuzz_target;
use license_relay::licensing::message::Message;
use license_relay::licensing::reply::ReplyFacts;
use license_relay::licensing::vocabulary::Words;

// The first byte picks coding and method; the body is both asked and told.
fuzz_target!(|data: &[u8]| {
    static WORDS: OnceLock<Words> = OnceLock::new();
    let words = WORDS.get_or_init(|| Words::load(None).expect("a test parses the same text"));
    let Some((how, body)) = data.split_first() else { return };
    let mut headers = HeaderMap::new();
    if let Some(coding) = ["gzip", "deflate", "identity"].get(usize::from(how & 3)) {
        headers.insert("content-encoding", HeaderValue::from_static(coding));
    }
    let method = [Method::POST, Method::PUT, Method::GET, Method::DELETE][usize::from(how >> 2 & 3)].clone();
    let message = Message::read(&method, &Uri::from_static("/v1/any"), &headers, body, words);
    let told = ReplyFacts::read(&message.kind, StatusCode::OK, &headers, body, words);
    let shown = format!("{message:?} {told:?}");
    // Only what the seeds hold: a fuzzer can't be told what is secret in what it makes up.
    for secret in ["ACME\\\\carol", "acme\\\\bob", "YJqTct2ngqLfl2VP3jxW4RsDNK2MTL"] {
        assert!(!shown.contains(secret), "{secret}");
    }
});
