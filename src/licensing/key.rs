//! The signed license key: a JWT that only Qlik can verify. Its claims identify; they prove nothing.
//!
//! The token is a bearer credential: it passes through, and what is kept of it is what can't be used in its place.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::json::Json;
use crate::config::names::LicenseNumber;
use crate::ledger::record::word;

/// The longest token that is read, in bytes; the published one has 528.
pub const MAX: usize = 16 * 1024;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A token in flight. It has no `Debug`, `Display` or `Serialize`, so it can't end up in a log by accident.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Token<'a>(&'a str);

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
    /// A text that looks like a JWT: three parts of base64url, at most [`MAX`] bytes.
    pub fn new(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(4, '.').collect();
        let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=');
        let fits = text.len() <= MAX
            && parts.len() == 3
            && parts[..2].iter().all(|part| !part.is_empty())
            && parts.iter().all(|part| part.bytes().all(base64));
        fits.then_some(Self(text))
    }

    /// The token of an `Authorization` header (RFC 6750 §2.1).
    pub fn bearer(header: &'a str) -> Option<Self> {
        let (scheme, token) = header.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| Self::new(token.trim())).flatten()
    }

    /// What it says of itself; absent claims are absent.
    pub fn claims(self) -> Claims {
        let mut parts = self.0.split('.');
        let (header, payload) = (decode(parts.next()), decode(parts.next()));
        let (header, payload) = (read(&header), read(&payload));
        let text = |json: &Option<Json<'_>>, name| {
            json.as_ref().and_then(|json| json.get(name)).and_then(Json::to_text).map(Cow::into_owned)
        };
        Claims {
            license: text(&payload, "license").and_then(|number| number.parse().ok()),
            jti: text(&payload, "jti").map(|jti| word(&jti)),
            kid: text(&header, "kid").map(|kid| word(&kid)),
            fingerprint: digest(&SHA256, self.0.as_bytes())
                .as_ref()
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect(),
        }
    }
}

fn decode(part: Option<&str>) -> Vec<u8> {
    part.and_then(|part| BASE64.decode(part).ok()).unwrap_or_default()
}

fn read(bytes: &[u8]) -> Option<Json<'_>> {
    Json::parse(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let long = format!("a.b.{}", "c".repeat(MAX));
        for text in ["", "a", "a.b", "a.b.c.d", "..", ".b.c", "a b.c.d", long.as_str()] {
            assert!(Token::new(text).is_none(), "{text:.20}");
        }
        assert!(Token::bearer("Basic a.b.c").is_none());
        assert_eq!(Token::new("a.b.c").unwrap().claims().license, None);
    }
}
