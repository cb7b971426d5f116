//! Where places lead to in a request: its target, its headers, and its body where that can be read.

use std::borrow::Cow;

use http::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;

use super::json::Json;
use super::read::Body;
use super::vocabulary::Place;

/// The head of a request.
pub(super) struct RequestHead<'w> {
    pub(super) method: &'w Method,
    pub(super) target: &'w Uri,
    pub(super) headers: &'w HeaderMap,
}

impl RequestHead<'_> {
    /// Whether it asks the back end to take it for a request of another method or target, as many frameworks do when they
    /// find a header or a parameter of such a name, of which there are many. A name that can't be decoded may be one to
    /// somebody.
    pub(super) fn has_override(&self) -> bool {
        let is_one = |name: &str| {
            ["method", "override"].iter().any(|word| name.contains(word))
                || ["x-original", "x_original", "x-rewrite", "x_rewrite"]
                    .iter()
                    .any(|start| name.starts_with(start))
        };
        // The names of headers are in lower case here.
        self.headers.keys().any(|name| is_one(name.as_str()))
            || parameters(self.target)
                .any(|(name, _)| name.is_none_or(|name| is_one(&name.to_ascii_lowercase())))
    }
}

/// The parameters of a target's query, each decoded; `None` for what can't be decoded to text.
fn parameters(target: &Uri) -> impl Iterator<Item = (Option<Cow<'_, str>>, Option<Cow<'_, str>>)> {
    let pairs = target.query().unwrap_or_default().split('&');
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(n, v)| (decoded(n), decoded(v)))
}

/// As `application/x-www-form-urlencoded`: `%61` is an `a`, and `+` a space. A semicolon separates for some decoders and
/// not for others, and a percent sign without two digits is kept by some and refused by others: neither is decoded.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    let whole =
        |at: usize| text.as_bytes().get(at + 1..at + 3).is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit));
    if text.contains(';') || text.match_indices('%').any(|(at, _)| !whole(at)) {
        return None;
    }
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Some(percent_decode_str(&spaced).decode_utf8().ok()?.into_owned().into());
    }
    percent_decode_str(text).decode_utf8().ok()
}

/// Where places may lead to: the target of a request, its headers, and its body where it can be read.
pub(super) struct Wire<'w, 'j, 'a> {
    pub(super) head: &'w RequestHead<'w>,
    pub(super) body: Option<&'w Body<'j, 'a>>,
}

impl<'w, 'j: 'w> Wire<'w, 'j, '_> {
    /// The texts at a place, as they stand there; what is neither text nor a whole number is `None`.
    pub(super) fn at(&self, place: &Place) -> Vec<Option<Cow<'w, str>>> {
        let mut texts = self.outside(place);
        if let (Some(body), Some(_)) = (self.body, place.steps()) {
            texts.extend(body.values(place).into_iter().map(Json::to_text));
        }
        texts
    }

    /// The same, of what stands in a header or in the target.
    pub(super) fn outside(&self, place: &Place) -> Vec<Option<Cow<'w, str>>> {
        if let Some(name) = place.header() {
            let lines = self.head.headers.get_all(name).iter();
            return lines.map(|line| line.to_str().ok().map(|text| text.trim().into())).collect();
        }
        let Some(wanted) = place.query() else { return vec![] };
        // A name that can't be decoded may be this one to somebody.
        let is_it = |name: &Option<Cow<'_, str>>| name.as_ref().is_none_or(|name| name == wanted);
        let found = parameters(self.head.target).filter(|(name, _)| is_it(name));
        found.map(|(name, value)| name.and(value).map(|value| value.into_owned().into())).collect()
    }
}
