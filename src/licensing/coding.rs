//! `Content-Encoding`: a body decoded so that it can be read. What is forwarded stays as it came.

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
    /// It was not encoded.
    AsSent(&'b [u8]),
    /// It was.
    Decoded(Zeroizing<Vec<u8>>),
}

impl Plain<'_> {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::AsSent(bytes) => bytes,
            Self::Decoded(bytes) => bytes,
        }
    }
}

/// Takes `gzip` or `deflate` off a body.
///
/// # Errors
/// It is encoded in another way, more than once, broken or cut short, or longer than [`bounds::DECODED`].
pub fn plain<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<Plain<'b>, &'static str> {
    let lines = headers.get_all(header::CONTENT_ENCODING).iter();
    let text: Vec<Cow<'_, str>> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    let named = text.iter().flat_map(|line| line.split(',')).map(str::trim);
    let mut codings = named.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
    let Some(coding) = codings.next() else { return Ok(Plain::AsSent(body)) };
    if codings.next().is_some() {
        return Err("the body is compressed more than once");
    }
    // An empty body has nothing to take off: a HEAD's reply, or a 204.
    if body.is_empty() {
        return Ok(Plain::AsSent(body));
    }
    match coding.to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => gunzip(body),
        "deflate" => inflate(body),
        _ => Err("the body is compressed, neither with gzip nor with deflate"),
    }
    .map(Plain::Decoded)
}

const BROKEN: &str = "the body's compression is broken or cut short";
const TOO_LONG: &str = "the body is too long once it is decompressed";

fn gunzip(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut decoder = MultiGzDecoder::new(body);
    decoded(|into| decoder.read(into).map_err(|_| BROKEN))
}

/// `deflate` is zlib (RFC 9110 §8.4.1.2), but some send it bare.
fn inflate(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    match inflate_as(true, body) {
        Err(BROKEN) => inflate_as(false, body),
        done => done,
    }
}

fn inflate_as(zlib: bool, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut state = Decompress::new(zlib);
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
            let mut larger = Vec::with_capacity(2 * all.capacity());
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

    use super::*;

    fn read(coding: &str, body: &[u8]) -> Result<Vec<u8>, &'static str> {
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
    fn gzip_zlib_and_bare_deflate_are_decoded() {
        for length in [0, 1, 1000, 1 << 20] {
            let text: Vec<u8> =
                (0..length).map(|n: u32| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
            for (coding, body) in [
                ("gzip", gzip(&text)),
                ("X-GZip", gzip(&text)),
                ("deflate", zlib(&text)),
                ("Deflate", raw(&text)),
            ] {
                assert_eq!(read(coding, &body).unwrap(), text, "{coding} of {length}");
            }
        }
        assert_eq!(read("identity", b"{}").unwrap(), b"{}");
        assert_eq!(read(" , Identity\n", b"{}").unwrap(), b"{}");
    }

    #[test]
    fn what_is_cut_short_followed_by_more_or_no_compression_at_all_is_broken() {
        let text = b"a text of some length, and of some length, and of some length".repeat(50);
        for (coding, body) in [("gzip", gzip(&text)), ("deflate", zlib(&text)), ("deflate", raw(&text))] {
            for end in 1..body.len() {
                assert_eq!(read(coding, &body[..end]), Err(BROKEN), "{coding} cut to {end}");
            }
            assert_eq!(read(coding, &[&body, &b"more"[..]].concat()), Err(BROKEN), "{coding} and more");
            assert_eq!(read(coding, b"{\"source\":\"a\"}"), Err(BROKEN));
        }
    }

    #[test]
    fn a_bomb_other_codings_and_several_are_not_decoded() {
        let bomb = vec![0; bounds::DECODED + 1];
        for (coding, body) in [("gzip", gzip(&bomb)), ("deflate", zlib(&bomb)), ("deflate", raw(&bomb))] {
            assert!(body.len() < bounds::DECODED / 100);
            assert_eq!(read(coding, &body), Err(TOO_LONG));
        }
        assert_eq!(read("gzip", &gzip(&bomb[1..])).unwrap().len(), bounds::DECODED);
        assert!(read("br", b"x").unwrap_err().contains("neither"));
        for several in ["gzip, gzip", "gzip\ndeflate", "identity, gzip, br"] {
            assert!(read(several, b"x").unwrap_err().contains("more than once"), "{several}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoders_panic(bytes: Vec<u8>) {
            for coding in ["gzip", "deflate"] {
                let _ = read(coding, &bytes);
            }
        }
    }
}
