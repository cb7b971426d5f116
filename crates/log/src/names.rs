//! The names that records have of deployments and licenses: source ids, license numbers.
//!
//! Each is parsed once, at the edge, and is right from then on.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};

/// Why a text is not the name it should be: a phrase that completes "…, because it …".
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(&'static str);

impl NameError {
    /// With the phrase that completes the sentence.
    pub const fn new(phrase: &'static str) -> Self {
        Self(phrase)
    }
}

/// The hashed id a deployment sends as its *Source*: opaque text, trimmed, 1 to 128 bytes, no control characters.
/// The guide's table shows a UUID and its sample "my assignments", so no form is demanded.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SourceId(String);

impl SourceId {
    /// The longest id that is accepted, in bytes.
    pub const MAX: usize = 128;

    /// SHA-256 of the id, for lists that should not show it.
    pub fn digest(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, self.0.as_bytes()).as_ref());
        bytes
    }

    /// The id, without white space around it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SourceId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let id = text.trim();
        if id.is_empty() {
            return Err(NameError("is empty"));
        }
        if id.len() > Self::MAX {
            return Err(NameError("is longer than 128 bytes"));
        }
        if id.chars().any(char::is_control) {
            return Err(NameError("holds a control character"));
        }
        Ok(Self(id.to_owned()))
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An id in the allow-list.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum SourcePattern {
    /// In clear.
    Clear(SourceId),
    /// As SHA-256 of its bytes (`sha256:<64 hex>`), for lists that should not show it.
    Sha256([u8; 32]),
}

/// How the hash of an id begins.
const HASHED: &str = "sha256:";

impl SourcePattern {
    /// SHA-256 of the id: the same for an id in clear and for its hash.
    pub fn digest(&self) -> [u8; 32] {
        match self {
            Self::Clear(id) => id.digest(),
            Self::Sha256(digest) => *digest,
        }
    }
}

impl FromStr for SourcePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let Some(hex) = text.trim().strip_prefix(HASHED) else {
            return Ok(Self::Clear(text.parse()?));
        };
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(PatternError::Digest);
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(0..) {
            *byte = u8::from_str_radix(&hex[2 * pair..2 * pair + 2], 16).map_err(|_| PatternError::Digest)?;
        }
        Ok(Self::Sha256(digest))
    }
}

/// As the allow-list has it. An id in clear that looks like a hash would stand for another one there, so it is shown by its own
/// hash.
impl fmt::Display for SourcePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear(id) if id.as_str().starts_with(HASHED) => Self::Sha256(self.digest()).fmt(f),
            Self::Clear(id) => id.fmt(f),
            Self::Sha256(digest) => {
                f.write_str(HASHED)?;
                digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// Why a text is not an id of the allow-list: a phrase that completes "…, because it …".
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PatternError {
    /// It is not an id in clear.
    #[error(transparent)]
    Id(#[from] NameError),
    /// It says that it is a hash, and is not.
    #[error("has no 64 hexadecimal digits after sha256:")]
    Digest,
}

/// A license number, compared as digits only: the guide prints the same number as `9999 0000 0000 1253` and
/// as `9999000000001253`. 4 to 32 digits.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LicenseNumber(String);

impl LicenseNumber {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LicenseNumber {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '\u{a0}')).take(33).collect();
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NameError("has a character other than digits, spaces and hyphens"));
        }
        if !(4..=32).contains(&digits.len()) {
            return Err(NameError("has fewer than 4 or more than 32 digits"));
        }
        Ok(Self(digits))
    }
}

impl fmt::Display for LicenseNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn license_numbers_are_compared_as_digits() {
        let printed: LicenseNumber = "9999 0000 0000 1253".parse().unwrap();
        assert_eq!(printed, "9999000000001253".parse().unwrap());
        assert!("9999x".parse::<LicenseNumber>().is_err());
        assert!("".parse::<LicenseNumber>().is_err());
    }
}
