//! The signed license key: a JWT that only Qlik can verify. Its claims identify; they prove nothing.
//!
//! The token is a bearer credential: it passes through, and what is kept of it is what can't be used in its place.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::json::Json;
use super::read::license_number;
use relay_log::names::LicenseNumber;
use relay_log::text::hex::hex;
use relay_log::text::redact::word;

/// The longest token whose claims are read, in bytes; the published one has 528.
pub const MAX: usize = 16 * 1024;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A token in flight. It has no `Debug`, `Display` or `Serialize`, so it can't end up in a log by accident; a test asserts it.
pub struct Token<'a>(Cow<'a, str>);

/// What a token says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Claims {
    /// The license number.
    pub license: Option<LicenseNumber>,
    /// The token's id (`jti`).
    pub jti: Option<String>,
    /// The signing key's id (`kid`).
    pub kid: Option<String>,
    /// SHA-256 of the whole token, in hex.
    pub fingerprint: String,
}

impl<'a> Token<'a> {
    /// A text that looks like a JWT: three parts of base64url. Ends of lines inside of it count for nothing, as to many
    /// decoders of base64, Go's among them.
    pub fn new(text: &'a str) -> Option<Self> {
        let is_end = |c| matches!(c, '\r' | '\n');
        let text = text.trim();
        let text: Cow<'_, str> =
            if text.contains(is_end) { text.replace(is_end, "").into() } else { text.into() };
        let parts: Vec<&str> = text.splitn(4, '.').collect();
        let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=');
        let fits = parts.len() == 3
            && parts[..2].iter().all(|part| !part.is_empty())
            && parts.iter().all(|part| part.bytes().all(base64));
        fits.then_some(Self(text))
    }

    /// The token of an `Authorization` header (RFC 6750 §2.1).
    pub fn bearer(header: &'a str) -> Option<Self> {
        let (scheme, token) = header.trim().split_once([' ', '\t'])?;
        scheme.eq_ignore_ascii_case("bearer").then(|| Self::new(token)).flatten()
    }

    /// Whether both are the same text.
    pub fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// What it says of itself; absent claims are absent, and so are all where it is longer than [`MAX`]. A license
    /// that is claimed twice is claimed by nobody.
    pub fn claims(&self) -> Claims {
        let fingerprint = hex(digest(&SHA256, self.0.as_bytes()).as_ref());
        if self.0.len() > MAX {
            return Claims { fingerprint, ..Claims::default() };
        }
        let mut parts = self.0.split('.');
        let (header, payload) = (decode(parts.next()), decode(parts.next()));
        let (header, payload) = (Json::parse(&header).ok(), Json::parse(&payload).ok());
        let text = |json: &Option<Json<'_>>, name| {
            json.as_ref().and_then(|json| json.get(name)).and_then(Json::to_text).map(|text| word(&text))
        };
        let license = payload.as_ref().and_then(|claims| {
            // Claimed twice with different values, it is claimed by nobody.
            license_number(claims.get("license").filter(|_| !claims.conflict("license"))?)
        });
        Claims { license, jti: text(&payload, "jti"), kid: text(&header, "kid"), fingerprint }
    }
}

fn decode(part: Option<&str>) -> Vec<u8> {
    part.and_then(|part| BASE64.decode(part).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Display};

    use serde::Serialize;

    use super::*;

    /// Compiles where the type has none of these traits: with one of them there are two implementations of `Absent`, and
    /// none can be inferred.
    macro_rules! assert_not_impl {
        ($type:ty: $($trait:path),+) => {$({
            trait Absent<T> {
                fn is_absent() {}
            }
            impl<T: ?Sized> Absent<()> for T {}
            struct Present;
            impl<T: ?Sized + $trait> Absent<Present> for T {}
            <$type as Absent<_>>::is_absent();
        })+};
    }

    #[test]
    fn a_token_can_not_be_printed() {
        assert_not_impl!(Token<'static>: Debug, Display, Serialize);
    }

    const PUBLISHED: &str = include_str!("../../tests/samples/signed-license-key.jwt");

    #[test]
    fn the_published_key_names_its_license() {
        let claims = Token::bearer(&format!("bearer {PUBLISHED}")).unwrap().claims();
        assert_eq!(claims.license.unwrap().as_str(), "9999000000001253");
        assert_eq!(claims.jti.unwrap(), "623aa9af-950f-47f7-8bf0-f4d39f42d96c");
        assert_eq!(claims.fingerprint.len(), 64);
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in ["", "a", "a.b", "a.b.c.d", "..", ".b.c", "a b.c.d"] {
            assert!(Token::new(text).is_none(), "{text}");
        }
        assert!(Token::bearer("Basic a.b.c").is_none());
        assert_eq!(Token::new("a.b.c").unwrap().claims().license, None);
    }

    fn license(claims: &str) -> Option<String> {
        let token = format!("e30.{}.sig", BASE64.encode(claims));
        Token::new(&token).unwrap().claims().license.map(|license| license.to_string())
    }

    #[test]
    fn a_license_that_is_claimed_twice_is_claimed_by_nobody() {
        assert_eq!(license(r#"{"license":"9999 0000"}"#).unwrap(), "99990000");
        assert_eq!(license(r#"{"license":99990000}"#).unwrap(), "99990000");
        assert_eq!(license(r#"{"license":"99990000","license":"88880000"}"#), None);
        assert_eq!(license(r#"{"license":"99990000","License":"88880000"}"#), None);
        assert_eq!(license(r#"{"license":-99990000}"#), None);
        assert_eq!(license(r#"{"license":99990000000000000000000}"#), None);
    }

    #[test]
    fn the_claims_of_an_oversized_token_are_not_read() {
        let long = format!("{}{}", PUBLISHED.trim(), "c".repeat(MAX));
        let claims = Token::new(&long).unwrap().claims();
        assert_eq!((claims.license, claims.jti, claims.fingerprint.len()), (None, None, 64));
    }
}
