//! What may be told of an exchange outside the site, to somebody who helps with a vocabulary: how its two messages are
//! made, and no value of either. Whatever is no word of the vendor's or of HTTP is shown as `(other)`.

use http::{HeaderMap, HeaderName, Method, Uri, header};
use serde::{Deserialize, Serialize};

use super::message::{Message, NO_BODY};
use super::reply::ReplyFacts;
use super::shape::{Shape, is_plain_field};
use super::terms::is_made_of;
use crate::bounds;
use relay_log::text::redact::HIDDEN;

/// An exchange, as far as it may be told.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Outline {
    /// How the request was understood.
    pub(crate) exchange: String,
    method: String,
    path: String,
    /// The names of its query parameters.
    query: Vec<String>,
    request: Content,
    /// What is out of the ordinary in the request.
    odd: Vec<String>,
    status: u16,
    reply: Content,
}

/// What one of the two messages is made of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Content {
    /// The names of its headers.
    headers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coding: Option<String>,
    /// Member names and types.
    body: String,
}

/// A request as it was forwarded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent<'a> {
    pub(crate) method: &'a Method,
    pub(crate) target: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) is_empty: bool,
    pub(crate) message: &'a Message,
}

/// Its reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered<'a> {
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) is_empty: bool,
    pub(crate) told: &'a ReplyFacts,
}

impl Outline {
    /// The outline of an exchange.
    pub(crate) fn of(sent: Sent<'_>, answered: Answered<'_>) -> Self {
        let Sent { method, target, headers, is_empty, message } = sent;
        Self {
            exchange: message.kind.name().into(),
            method: of_known(method.as_str(), &METHODS),
            path: path(target),
            query: query(target),
            request: Content::of(headers, is_empty, message.shape.as_ref()),
            odd: odd(message),
            status: answered.status,
            reply: Content::of(answered.headers, answered.is_empty, answered.told.shape.as_ref()),
        }
    }
}

impl Content {
    fn of(headers: &HeaderMap, is_empty: bool, shape: Option<&Shape>) -> Self {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(HIDDEN));
        let body = match shape {
            Some(shape) => shape.for_strangers().to_string(),
            None if is_empty => NO_BODY.into(),
            None => "not read".into(),
        };
        Self {
            headers: names(headers.keys().map(header_name)),
            content_type: text(header::CONTENT_TYPE).map(content_type),
            coding: text(header::CONTENT_ENCODING).map(|coding| of_known(coding.trim(), &CODINGS)),
            body,
        }
    }
}

/// In order, each once: how often one came, and where, may tell more than that it came.
fn names(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = names.take(bounds::OUTLINE_NAMES).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn odd(message: &Message) -> Vec<String> {
    let mut odd: Vec<String> = message.lenient.iter().map(|&word| word.into()).collect();
    for (is_so, words) in [
        (!message.doubled.is_empty(), "a member comes twice"),
        (message.unread.is_some(), "a part was not read"),
        (!message.other_sources.is_empty(), "several places of a source id"),
        (message.other.is_some(), "the built-in vocabulary reads it otherwise"),
    ] {
        if is_so {
            odd.push(words.into());
        }
    }
    odd
}

fn path(target: &Uri) -> String {
    let mut segments = target.path().split('/');
    let mut shown: Vec<&str> = segments.by_ref().take(bounds::OUTLINE_PATH).map(segment).collect();
    if segments.next().is_some() {
        shown.push("…");
    }
    shown.join("/")
}

/// A segment of a path: `v1`, or made of words that fields and paths are named by.
fn segment(text: &str) -> &str {
    let is_version = || {
        let digits = text.strip_prefix('v').unwrap_or_default();
        (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    };
    if text.is_empty() || is_version() || is_word(text) { text } else { HIDDEN }
}

fn query(target: &Uri) -> Vec<String> {
    let Some(query) = target.query() else { return vec![] };
    let name = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if is_plain_field(name) => name.to_owned(),
        _ => HIDDEN.to_owned(),
    };
    names(query.split('&').map(name))
}

fn header_name(name: &HeaderName) -> String {
    let name = name.as_str();
    if HEADERS.contains(&name) || is_word(name) { name.to_owned() } else { HIDDEN.into() }
}

/// Whether a text has only letters and hyphens, in words that fields, paths and headers are named by.
fn is_word(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_');
    text.len() <= 40 && text.bytes().all(fits) && is_made_of(text, &MORE)
}

/// Type and subtype, and a charset of these two; other parameters may hold anything.
fn content_type(text: &str) -> String {
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let essence = of_known(essence.trim(), &TYPES);
    let parameters = parameters.trim().to_ascii_lowercase();
    match parameters.as_str() {
        "" => essence,
        "charset=utf-8" | "charset=us-ascii" => format!("{essence}; {parameters}"),
        _ => format!("{essence}; {HIDDEN}"),
    }
}

fn of_known(text: &str, all: &[&'static str]) -> String {
    let known = all.iter().find(|known| known.eq_ignore_ascii_case(text));
    known.copied().unwrap_or(HIDDEN).to_owned()
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const CODINGS: [&str; 7] = ["gzip", "deflate", "br", "zstd", "compress", "x-gzip", "identity"];
const TYPES: [&str; 13] = [
    "application/json",
    "application/problem+json",
    "application/vnd.api+json",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/jwt",
    "application/jose",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "text/json",
    "text/html",
    "text/plain",
];
/// Words of paths and headers that no field has.
const MORE: [&str; 24] = [
    "x",
    "api",
    "public",
    "portable",
    "sync",
    "syncs",
    "activation",
    "activations",
    "activate",
    "capacity",
    "capacities",
    "consumptions",
    "assignment",
    "allocation",
    "signed",
    "qlik",
    "service",
    "services",
    "health",
    "refresh",
    "update",
    "register",
    "correlation",
    "http",
];
/// Headers that are everybody's.
const HEADERS: [&str; 50] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "last-modified",
    "location",
    "origin",
    "pragma",
    "range",
    "referer",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-content-type-options",
    "x-forwarded-for",
    "x-frame-options",
    "x-http-method-override",
    "x-powered-by",
    "x-request-id",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::licensing::json::Json;

    fn told(body: &str) -> String {
        Shape::of(&Json::parse(body.as_bytes()).unwrap()).for_strangers().to_string()
    }

    #[test]
    fn names_of_fields_are_told_and_names_that_are_data_are_not() {
        assert_eq!(
            told(r#"{"source":"a","patches":[{"subject":"b","widget":1,"licenseKey":null}]}"#),
            "{source:text,patches:[{subject:text,widget:number,licenseKey:null}]}"
        );
        // As many others as fields are shown, one more and none is.
        assert_eq!(told(r#"{"page":1,"jsmith":1}"#), "{page:number,jsmith:number}");
        assert_eq!(told(r#"{"page":1,"jsmith":1,"mmuller":"x"}"#), "{page:number,(other):any}");
        assert_eq!(told(r#"{"jsmith":{"id":1},"mmuller":{"id":2}}"#), "{(other):{id:number}}");
        for id in ["fbe89d02-6d24-4595-915e-c52ce76f2195", "L9999000000001253", "user-4711"] {
            assert_eq!(
                told(&format!(r#"{{"source":1,"version":2,"{id}":3}}"#)),
                "{source:number,version:number,(other):number}"
            );
        }
    }

    #[test]
    fn of_a_target_only_words_of_the_vendor_are_told() {
        for (target, shown) in [
            ("/", "/"),
            ("/v1/definitions/portable/info", "/v1/definitions/portable/info"),
            ("/v1/users/jsmith/9999000000001253", "/v1/(other)/(other)/(other)"),
            ("/v123/license%20x/licenses", "/(other)/(other)/licenses"),
            ("/a/a/a/a/a/a/a/a/a", "/(other)/(other)/(other)/(other)/(other)/(other)/(other)/…"),
        ] {
            assert_eq!(path(&target.parse().unwrap()), shown);
        }
        let names = query(&"/?key=s3cret&jsmith&licenseId=1&x%20y=2&s3cret=1".parse().unwrap());
        assert_eq!(names, ["(other)", "key", "licenseId"]);
    }

    #[test]
    fn of_headers_no_parameter_and_no_name_of_somebodys_own_is_told() {
        for (sent, shown) in [
            ("Application/JSON", "application/json"),
            ("application/json; charset=UTF-8", "application/json; charset=utf-8"),
            ("application/json; user=jsmith", "application/json; (other)"),
            ("jsmith/json", "(other)"),
        ] {
            assert_eq!(content_type(sent), shown);
        }
        for (name, shown) in [
            ("user-agent", "user-agent"),
            ("x-license-key", "x-license-key"),
            ("x-jsmith", "(other)"),
            ("x-user-4711", "(other)"),
        ] {
            assert_eq!(header_name(&HeaderName::from_static(name)), shown);
        }
    }
}
