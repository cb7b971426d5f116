//! `Content-Encoding`: a body decoded so that it can be read. What is forwarded stays as it came.
//!
//! A body must have one reading: two decoders that take the same bytes under different codings would make two messages
//! of one. So there is one coding at most, each coding is exactly what its specification says, and a coded body whose
//! raw bytes a careless decoder could take for JSON is a contradiction.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use http::{HeaderMap, header};
use zeroize::{Zeroize, Zeroizing};

use crate::bounds;

/// A body as it is read: as it came, or decoded and wiped afterwards, since it may hold a license key.
#[derive(Debug)]
pub enum Plain<'b> {
    /// It is not encoded.
    AsSent(&'b [u8]),
    /// Its coding is not in IANA's registry. If the body is JSON, no decoder has changed it.
    Unregistered(&'b [u8]),
    /// It was encoded.
    Decoded(Zeroizing<Vec<u8>>),
}

/// Why there is nothing to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CodingError {
    /// It can't be decoded here: another coding, broken, cut short, or longer than [`bounds::DECODED`].
    #[error("{0}")]
    Unreadable(&'static str),
    /// Two decoders could read two different bodies.
    #[error("{0}")]
    Contradiction(&'static str),
}

impl Plain<'_> {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::AsSent(bytes) | Self::Unregistered(bytes) => bytes,
            Self::Decoded(bytes) => bytes,
        }
    }
}

/// The most bytes that a body of so many has once its coding is off: deflate makes 1,032 of one, no more.
pub fn most(headers: &HeaderMap, length: usize) -> usize {
    match headers.contains_key(header::CONTENT_ENCODING) {
        true => length.saturating_mul(1032).min(bounds::DECODED).max(length),
        false => length,
    }
}

/// Takes `gzip` or `deflate` off a body.
///
/// # Errors
/// See [`CodingError`].
pub fn plain<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<Plain<'b>, CodingError> {
    use CodingError::{Contradiction, Unreadable};
    let lines = headers.get_all(header::CONTENT_ENCODING).iter();
    let text: Vec<Cow<'_, str>> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    let named = text.iter().flat_map(|line| line.split(',')).map(str::trim);
    let mut codings = named.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
    let Some(coding) = codings.next() else { return Ok(Plain::AsSent(body)) };
    // An empty body has nothing to take off: a HEAD's reply, or a 204.
    if body.is_empty() {
        return Ok(Plain::AsSent(body));
    }
    if codings.next().is_some() {
        return Err(Contradiction("the body has more than one content coding"));
    }
    let coding = coding.to_ascii_lowercase();
    if !REGISTERED.contains(&coding.as_str()) {
        return Ok(Plain::Unregistered(body));
    }
    if begins_as_json(body) {
        return Err(Contradiction("the body is marked as compressed and begins as JSON"));
    }
    match coding.as_str() {
        "gzip" | "x-gzip" => gunzip(body).map_err(Unreadable),
        "deflate" => inflate(body).map_err(Unreadable),
        _ => Err(Unreadable("the body is compressed, neither with gzip nor with deflate")),
    }
    .map(Plain::Decoded)
}

/// The HTTP Content Coding Registry of IANA, without `identity`.
const REGISTERED: [&str; 12] = [
    "aes128gcm",
    "br",
    "compress",
    "dcb",
    "dcz",
    "deflate",
    "exi",
    "gzip",
    "pack200-gzip",
    "x-compress",
    "x-gzip",
    "zstd",
];

/// Whether a reader that ignores the coding would begin to read a JSON value.
fn begins_as_json(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let first = body.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    first.is_some_and(|byte| matches!(byte, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'))
}

const BROKEN: &str = "the body's compression is broken or cut short";
const TOO_LONG: &str = "the body is longer than 16777216 bytes once it is decompressed";
const _: () = assert!(bounds::DECODED == 16_777_216, "the words above name the bound");
const NO_MEMORY: &str = "there is no memory to decompress the body in";

fn gunzip(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut decoder = MultiGzDecoder::new(body);
    decoded(|into| decoder.read(into).map_err(|_| BROKEN))
}

/// `deflate` is the zlib format (RFC 9110 §8.4.1.2). Bare RFC 1951 data, which some senders call so, has no checksum and
/// hardly any structure: too many bytes are valid, so it is not accepted.
fn inflate(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut state = Decompress::new(true);
    let mut ended = false;
    decoded(|into| {
        if ended {
            return Ok(0);
        }
        let at = |total: u64| usize::try_from(total).unwrap_or(usize::MAX);
        let before = state.total_out();
        let rest = body.get(at(state.total_in())..).unwrap_or_default();
        let status = state.decompress(rest, into, FlushDecompress::None).map_err(|_| BROKEN)?;
        let made = at(state.total_out() - before);
        ended = status == Status::StreamEnd;
        match status {
            Status::StreamEnd if at(state.total_in()) == body.len() => Ok(made),
            Status::Ok | Status::BufError if made > 0 => Ok(made),
            // Nothing more comes of it, and it has not ended; or something follows the end.
            _ => Err(BROKEN),
        }
    })
}

/// All that `read` gives, until it gives nothing. Memory that is outgrown is wiped.
fn decoded(
    mut read: impl FnMut(&mut [u8]) -> Result<usize, &'static str>,
) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut all = Zeroizing::new(Vec::with_capacity(64 * 1024));
    let mut chunk = Zeroizing::new([0; 16 * 1024]);
    loop {
        let made = read(chunk.as_mut_slice())?;
        if made == 0 {
            return Ok(all);
        }
        if all.len() + made > bounds::DECODED {
            return Err(TOO_LONG);
        }
        if all.len() + made > all.capacity() {
            let mut larger = Vec::new();
            // A plain growth would end the process where the system has no memory.
            larger.try_reserve_exact(2 * all.capacity()).map_err(|_| NO_MEMORY)?;
            larger.extend_from_slice(&all);
            all.zeroize();
            all = Zeroizing::new(larger);
        }
        all.extend_from_slice(&chunk[..made]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::CodingError::{Contradiction, Unreadable};
    use super::*;

    fn read(coding: &str, body: &[u8]) -> Result<Vec<u8>, CodingError> {
        let mut headers = HeaderMap::new();
        for line in coding.split('\n') {
            headers.append(header::CONTENT_ENCODING, line.parse().unwrap());
        }
        plain(&headers, body).map(|plain| plain.bytes().to_vec())
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn raw(text: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_and_zlib_are_decoded() {
        for length in [0, 1, 1000, 1 << 20] {
            let text: Vec<u8> =
                (0..length).map(|n: u32| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
            for (coding, body) in [("gzip", gzip(&text)), ("X-GZip", gzip(&text)), ("deflate", zlib(&text))] {
                assert_eq!(read(coding, &body).unwrap(), text, "{coding} of {length}");
            }
        }
        assert_eq!(read("identity", b"{}").unwrap(), b"{}");
        assert_eq!(read(" , Identity\n", b"{}").unwrap(), b"{}");
    }

    #[test]
    fn bare_deflate_data_is_not_deflate() {
        for text in [&br#"{"source":"a"}"#[..], b"", &[7; 5000]] {
            assert_eq!(read("deflate", &raw(text)), Err(Unreadable(BROKEN)));
        }
    }

    #[test]
    fn what_is_cut_short_or_followed_by_more_is_broken() {
        let text = b"a text of some length, and of some length, and of some length".repeat(50);
        for (coding, body) in [("gzip", gzip(&text)), ("deflate", zlib(&text))] {
            for end in 1..body.len() {
                assert_eq!(read(coding, &body[..end]), Err(Unreadable(BROKEN)), "{coding} cut to {end}");
            }
            let more = [&body, &b"more"[..]].concat();
            assert_eq!(read(coding, &more), Err(Unreadable(BROKEN)), "{coding} and more");
        }
    }

    #[test]
    fn a_bomb_and_other_codings_are_not_decoded() {
        let bomb = vec![0; bounds::DECODED + 1];
        for (coding, body) in [("gzip", gzip(&bomb)), ("deflate", zlib(&bomb))] {
            assert!(body.len() < bounds::DECODED / 100);
            assert_eq!(read(coding, &body), Err(Unreadable(TOO_LONG)));
        }
        assert_eq!(read("gzip", &gzip(&bomb[1..])).unwrap().len(), bounds::DECODED);
        assert!(matches!(read("br", b"x"), Err(Unreadable(why)) if why.contains("neither")));
    }

    #[test]
    fn more_than_one_coding_and_a_coded_body_that_begins_as_json_are_contradictions() {
        for several in ["gzip, gzip", "gzip\ndeflate", "identity, gzip, br", "gzip, identity, x", "x, y"] {
            let read = read(several, &gzip(b"{}"));
            assert!(matches!(read, Err(Contradiction(why)) if why.contains("more than one")), "{several}");
        }
        for coding in ["gzip", "deflate", "br", "zstd", "compress", "x-gzip"] {
            for body in ["{}", " \r\n\t[1]", "\"x\"", "-1", "8", "true", "false", "null", "\u{feff}{}"] {
                let read = read(coding, body.as_bytes());
                assert!(matches!(read, Err(Contradiction(why)) if why.contains("JSON")), "{coding} {body}");
            }
        }
    }

    #[test]
    fn a_coding_that_nobody_registered_changes_nothing() {
        assert_eq!(read("utf-8", b"{}").unwrap(), b"{}");
        assert_eq!(read("identity, x", b"{}").unwrap(), b"{}");
    }

    /// Bytes that are likely to be taken under some coding: data of each, some of it damaged or with a JSON head.
    fn bytes() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
        use proptest::prelude::*;
        let text = prop_oneof![
            any::<Vec<u8>>(),
            "[\\[{]?[\"0-9a-z:,]{0,20}[\\]}]?".prop_map(String::into_bytes),
            Just(br#"{"source":"a"}"#.to_vec()),
        ];
        let prefix = prop_oneof![Just(vec![]), Just(b" {".to_vec()), Just(b"8".to_vec()), any::<Vec<u8>>()];
        (text, 0..5, prefix, any::<bool>()).prop_map(|(text, coding, prefix, with_prefix)| {
            let body = match coding {
                0 => gzip(&text),
                1 => zlib(&text),
                2 => raw(&text),
                3 => gzip(&zlib(&text)),
                _ => text,
            };
            if with_prefix { [prefix, body].concat() } else { body }
        })
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoders_panic(bytes: Vec<u8>) {
            for coding in ["gzip", "deflate"] {
                let _ = read(coding, &bytes);
            }
        }

        #[test]
        fn no_bytes_are_accepted_under_two_codings(bytes in bytes()) {
            let is_json = |text: &[u8]| crate::licensing::json::Json::parse(text).is_ok();
            let accepted = ["identity", "x-unknown", "gzip", "deflate", "br"].into_iter().filter(|coding| {
                let decoded = read(coding, &bytes);
                match *coding {
                    // What is not JSON says nothing under these two, which are one reading.
                    "identity" => decoded.is_ok_and(|text| is_json(&text)),
                    "x-unknown" => false,
                    _ => decoded.is_ok(),
                }
            });
            let accepted: Vec<_> = accepted.collect();
            proptest::prop_assert!(bytes.is_empty() || accepted.len() <= 1, "{:?}", accepted);
        }
    }
}
