//! Bytes as hexadecimal digits.

use std::fmt::Write as _;

/// Bytes as people compare them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
