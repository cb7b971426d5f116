//! What of a request's target and authority may be shown: nothing that may be a secret.

use http::Uri;

use crate::config::names::{Endpoint, Host};
use relay_log::text::redact::{HIDDEN, word};

/// The path of a target as it may be shown: a part of it that is no plain word may be a name or a key, and behind an
/// authority all of it may be the rest of a password.
pub fn shown_path(target: &Uri) -> String {
    let path = target.path();
    if target.authority().is_some() && target.to_string().contains('@') {
        return HIDDEN.into();
    }
    path.split('/').map(word).collect::<Vec<_>>().join("/")
}

/// A Host or an authority, as far as it may be shown: whole, if it is `uri-host [":" port]` (RFC 9110 §7.2).
pub fn shown_authority(sent: &str) -> String {
    if is_authority(sent) { sent.to_owned() } else { HIDDEN.into() }
}

/// The scheme and authority of a request target as they were sent, on the terms of [`shown_host`].
pub fn shown_target(target: &str) -> Option<String> {
    let (scheme, rest) = match target.split_once("://") {
        Some((scheme, rest)) => (format!("{}://", word(scheme)), rest),
        None => (String::new(), target),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority {
        "" if scheme.is_empty() => None,
        _ if target.contains('@') => Some(HIDDEN.into()),
        "" => Some(scheme),
        authority => Some(format!("{scheme}{}", shown_authority(authority))),
    }
}

/// Whether a text is `uri-host [":" port]` (RFC 9110 §7.2), in which no userinfo fits; with the lengths of DNS, so that
/// no key does either.
pub fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
    };
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').map(str::parse::<std::net::Ipv6Addr>);
        return matches!(address, Some(Ok(_))) && port.bytes().all(|byte| byte.is_ascii_digit());
    }
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    (1..=253).contains(&host.len())
        && host.split('.').all(|label| label.len() <= 63)
        && host.bytes().all(of_name)
        && port.len() <= 5
        && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// The host of a request target, with its port if it has one. Userinfo may hold `/`, `?` and `#`, and clients don't agree
/// on where it ends, so of a target with an `@` anywhere, or with anything but a host in front, nothing is shown.
pub fn shown_host(target: &str) -> Option<String> {
    let (_, rest) = target.split_once("://").unwrap_or(("", target));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_host = || {
        let name = authority.trim_start_matches('[').trim_end_matches(']');
        authority.parse::<Endpoint>().is_ok() || name.parse::<Host>().is_ok()
    };
    match authority {
        "" => None,
        _ if target.contains('@') || !is_host() => Some(HIDDEN.into()),
        host => Some(host.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_target_only_what_holds_no_secret_is_shown() {
        let path = |target: &'static str| shown_path(&Uri::from_static(target));
        assert_eq!(path("/v1/definitions/portable/info"), "/v1/definitions/portable/info");
        assert_eq!(path("/v1/ACME%5Cbob/x"), "/v1/(other)/x");
        assert_eq!(path("http://host/v1/sync"), "/v1/sync");
        assert_eq!(path("http://qlik:s3cr/t/PW2@other.example/"), "(other)");
        let host = |target| shown_host(target).unwrap_or_default();
        assert_eq!(host("license.qlikcloud.com:443"), "license.qlikcloud.com:443");
        assert_eq!(host("http://host.example/a?b"), "host.example");
        assert_eq!(host("http://[::1]:80/a"), "[::1]:80");
        assert_eq!((host("/v1?key=a"), host("http:///a")), (String::new(), String::new()));
        for secret in [
            "u:p@",
            "p@host:443",
            "http://u:p@host:80/a?b@c",
            "http://qlik:s3cr/tPW2@other.example/",
            "http://qlik:80/tPW2@other.example/",
            "http://qlik:s3cr?tPW2@other.example/",
            "http://qlik:s3cr#tPW2@other.example/",
            "http://qlik:s3cr/",
            "a b",
        ] {
            assert_eq!(host(secret), "(other)", "{secret}");
        }
    }

    #[test]
    fn of_a_target_the_scheme_and_the_authority_are_shown_as_they_were_sent() {
        let shown = |target| shown_target(target).unwrap_or_default();
        for whole in
            ["license.qlikcloud.com:443", "http://License.QlikCloud.com:443", "*.x:1", "127.1", "[::1]:80"]
        {
            assert_eq!(shown(whole), whole);
        }
        assert_eq!(shown("https://a/b?c=d"), "https://a");
        assert_eq!(shown("/v1?key=a"), "");
        assert_eq!(shown("http:///a"), "http://");
        let label = "a".repeat(64);
        for hidden in ["u:p@", "p@host:443", "u:p", "a b", "::1", "[::1", label.as_str()] {
            assert_eq!(shown(hidden), "(other)", "{hidden}");
        }
        for secret in ["http://u:p@host:80/a?b@c", "http://qlik:80/tPW2@other.example/", "a:80#b@c"] {
            assert_eq!(shown(secret), "(other)", "{secret}");
        }
        assert_eq!(shown("http://qlik:s3cr/"), "http://(other)");
    }
}
