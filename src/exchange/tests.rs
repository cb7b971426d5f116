//! Which bodies are read at once, and which wait for a place to be read in.

use super::*;

#[test]
fn short_bodies_are_quick_and_compressed_ones_never_are() {
    let plain = HeaderMap::new();
    assert!(is_quick(&plain, &[]) && is_quick(&plain, &[0; bounds::QUICK_BODY]));
    assert!(!is_quick(&plain, &[0; bounds::QUICK_BODY + 1]));
    let mut coded = HeaderMap::new();
    coded.insert(header::CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
    assert!(!is_quick(&coded, &[]));
}
