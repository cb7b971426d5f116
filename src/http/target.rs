//! The target of a request inside a conversation: Host, SNI and authority agree, or it is no request for us.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header};

use super::head;
use crate::config::model::{Destination, Mode};

/// Why a request is not one for this destination.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Misdirected(&'static str);

/// Checks a request that hyper has parsed, and gives its target in origin form, byte for byte.
///
/// # Errors
/// Host is missing, doubled or of another host; the target is of another host or of no form that is passed on.
pub fn check<B>(request: &Request<B>, to: &Destination) -> Result<Uri, Misdirected> {
    let scheme = if to.mode == Mode::Http { "http" } else { "https" };
    check_framing(request.headers())?;
    check_host(request.headers(), request.version(), to)?;
    let target = request.uri();
    if request.method() == Method::CONNECT {
        return Err(Misdirected("CONNECT inside a conversation"));
    }
    if let Some(authority) = target.authority()
        && (target.scheme_str() != Some(scheme) || !to.is_named(authority.as_str()))
    {
        return Err(Misdirected("the target is of another host"));
    }
    match target.path_and_query().map(PathAndQuery::as_str) {
        Some(path) if path.starts_with('/') => {
            path.parse().map_err(|_| Misdirected("the target can't be passed on"))
        }
        _ => Err(Misdirected("the target is neither a path nor a URL")),
    }
}

/// The first head was judged before hyper saw it; of later ones only what hyper leaves of them is seen here, which is
/// less. It refuses different lengths, folds equal ones into one, drops a Content-Length beside `chunked` as RFC 9112 §6.3
/// allows, and takes a bare line feed for a line end. It reads such a head in one way only, and what is sent on is framed
/// anew, so the back end never sees the other reading; a proxy in front of the relay may.
fn check_framing(headers: &HeaderMap) -> Result<(), Misdirected> {
    let values = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    let (lengths, codings) = (values(header::CONTENT_LENGTH), values(header::TRANSFER_ENCODING));
    head::check_framing(&lengths, &codings).map_err(Misdirected)
}

fn check_host(headers: &HeaderMap, version: Version, to: &Destination) -> Result<(), Misdirected> {
    let hosts: Vec<_> = headers.get_all(header::HOST).iter().collect();
    head::check_hosts(hosts.len(), version == Version::HTTP_10).map_err(Misdirected)?;
    let is_named = |host: &&HeaderValue| host.to_str().is_ok_and(|host| to.is_named(host));
    if hosts.iter().all(is_named) { Ok(()) } else { Err(Misdirected("Host is of another host")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to() -> Destination {
        Destination {
            host: "license.qlikcloud.com".parse().unwrap(),
            port: 443,
            mode: Mode::Terminate,
            connect_to: None,
        }
    }

    fn request(method: Method, target: &str, hosts: &[&str]) -> Result<String, Misdirected> {
        let mut request = Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        check(&request.body(()).unwrap(), &to()).map(|uri| uri.to_string())
    }

    #[test]
    fn host_must_agree_in_any_case_with_or_without_the_port() {
        for host in ["license.qlikcloud.com", "LICENSE.qlikcloud.com:443", "license.qlikcloud.com."] {
            assert_eq!(request(Method::GET, "/a?b=%20", &[host]).unwrap(), "/a?b=%20");
        }
        for host in [
            "evil.example",
            "license.qlikcloud.com:80",
            "u@license.qlikcloud.com",
            "license.qlikcloud.com:",
            "",
        ] {
            assert!(request(Method::GET, "/", &[host]).is_err(), "{host} was accepted");
        }
        assert!(request(Method::GET, "/", &[]).is_err());
        assert!(request(Method::GET, "/", &["license.qlikcloud.com", "license.qlikcloud.com"]).is_err());
    }

    #[test]
    fn absolute_form_of_the_same_host_becomes_origin_form_and_no_other() {
        let host = ["license.qlikcloud.com"];
        assert_eq!(request(Method::GET, "https://license.qlikcloud.com/x?y", &host).unwrap(), "/x?y");
        assert!(request(Method::GET, "http://license.qlikcloud.com/x", &host).is_err());
        assert!(request(Method::GET, "https://evil.example/x", &host).is_err());
        assert!(request(Method::OPTIONS, "*", &host).is_err());
        assert!(request(Method::CONNECT, "license.qlikcloud.com:443", &host).is_err());
    }
}
