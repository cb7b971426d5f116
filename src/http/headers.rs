//! What is passed on and what is not: end-to-end headers, in order, and no others.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers for one hop only (RFC 9110 §7.6.1), and those that are the proxy's own (§11.7). `Expect` is answered
/// here, since the body is read whole before anything is sent on.
const ONE_HOP: [&str; 13] = [
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "proxy-features",
    "proxy-instruction",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Headers that `Connection` can't take away: without them the message is another one.
const KEPT: [HeaderName; 4] =
    [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING];

/// The end-to-end headers of a message. A new map, because removing from one changes the order of the others.
pub fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| !KEPT.contains(name))
        .collect();
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if !ONE_HOP.contains(&name.as_str()) && !named.contains(name) {
            kept.append(name, value.clone());
        }
    }
    kept
}

/// Adds this hop to `Via` (RFC 9110 §7.6.3), where the site asked for it.
pub fn add_via(headers: &mut HeaderMap) {
    headers.append(header::VIA, HeaderValue::from_static("1.1 license-relay"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_hop_headers_go_and_the_order_stays() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "a"),
            ("x-b", "1"),
            ("connection", "close, X-Secret, Content-Length"),
            ("x-secret", "s"),
            ("content-length", "3"),
            ("proxy-authorization", "Basic eDp5"),
            ("x-a", "2"),
            ("te", "trailers"),
            ("x-b", "3"),
        ] {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let kept = end_to_end(&headers);
        let names: Vec<_> = kept.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["host", "x-b", "content-length", "x-a"]);
        assert_eq!(kept.get_all("x-b").iter().collect::<Vec<_>>(), ["1", "3"]);
    }
}
