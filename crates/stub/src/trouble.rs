//! How the stub misbehaves, at the level of bytes, for the next requests or until it is told to stop.
//!
//! `stale` and `status` keep a request from being done. With all the others it *is* done, so that a request
//! that is sent twice shows in the totals.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

use super::wire::{Connection, Framing, Reply, Socket};

/// One switch, `KIND`, `KIND=VALUE`, and `*COUNT` behind either for so many requests only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    what: What,
    left: Option<u32>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    /// The reply is late.
    Delay(Duration),
    /// A kept connection is reset when the next request's first bytes arrive.
    Stale,
    /// The connection is closed, in order, without a byte of reply.
    CloseBefore,
    /// The same with a TCP reset.
    ResetBefore,
    /// The connection is closed after the head and half of the body; or half of the head if there is no body.
    CloseMiddle,
    /// The connection is closed after a whole reply that promised to keep it.
    CloseAfter,
    /// Content-Length says more than there is; then the connection is closed.
    WrongLength,
    /// A second, forged reply follows behind the body; the connection stays.
    ShortLength,
    /// This status, with nothing done.
    Status(u16),
    /// A head with one header that does not end.
    EndlessHeader,
    /// Nothing, until the client gives up.
    NoAnswer,
    /// Bytes that are not HTTP.
    Garbage,
}

/// Why a text is no switch.
#[derive(Debug, thiserror::Error)]
#[error("no such trouble: {0:?}; try one of {KINDS}, each with *COUNT if it shall end")]
pub struct TroubleError(String);

/// What becomes of the connection.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Then {
    Keep,
    Close,
    Reset,
}

impl FromStr for Trouble {
    type Err = TroubleError;

    fn from_str(text: &str) -> Result<Self, TroubleError> {
        let unknown = || TroubleError(text.to_owned());
        let (spec, left) = match text.split_once('*') {
            Some((spec, count)) => (spec, Some(count.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        let what = match spec.split_once('=') {
            Some(("delay", value)) => What::Delay(duration(value).ok_or_else(unknown)?),
            Some(("status", value)) => {
                What::Status(value.parse().ok().filter(|code| (200..600).contains(code)).ok_or_else(unknown)?)
            }
            Some(_) => return Err(unknown()),
            None => match spec {
                "stale" => What::Stale,
                "close-before" => What::CloseBefore,
                "reset-before" => What::ResetBefore,
                "close-middle" => What::CloseMiddle,
                "close-after" => What::CloseAfter,
                "wrong-length" => What::WrongLength,
                "short-length" => What::ShortLength,
                "endless-header" => What::EndlessHeader,
                "no-answer" => What::NoAnswer,
                "garbage" => What::Garbage,
                _ => return Err(unknown()),
            },
        };
        Ok(Self { what, left })
    }
}

/// Takes one turn of the first switch that fits; one that is used up goes.
pub(super) fn take(switches: &mut Vec<Trouble>, fits: impl Fn(What) -> bool) -> Option<What> {
    switches.retain(|trouble| trouble.left != Some(0));
    let trouble = switches.iter_mut().find(|trouble| fits(trouble.what))?;
    trouble.left = trouble.left.map(|left| left - 1);
    Some(trouble.what)
}

/// A duration as people write it: `2s`, `500ms`.
pub fn duration(text: &str) -> Option<Duration> {
    text.parse::<SignedDuration>().ok()?.try_into().ok()
}

/// Sends the reply, or what the trouble makes of it.
pub(super) async fn send<S: Socket>(
    connection: &mut Connection<S>,
    what: Option<What>,
    mut reply: Reply,
    head_only: bool,
    keep: bool,
) -> io::Result<Then> {
    if what == Some(What::WrongLength) {
        reply.framing = Framing::Overstated(16);
    }
    let mut bytes = reply.render(head_only, keep);
    let then = match what {
        Some(What::CloseBefore) => return Ok(Then::Close),
        Some(What::ResetBefore) => return Ok(Then::Reset),
        Some(What::NoAnswer) => {
            connection.drain(SILENCE).await;
            return Ok(Then::Close);
        }
        Some(What::EndlessHeader) => {
            connection.write(b"HTTP/1.1 200 OK\r\nX-Endless: ").await?;
            for _ in 0..ENDLESS / 1024 {
                connection.write(&[b'a'; 1024]).await?;
            }
            return Ok(Then::Close);
        }
        Some(What::Garbage) => {
            bytes = GARBAGE.to_vec();
            Then::Close
        }
        Some(What::CloseMiddle) => {
            let missing = if reply.body.is_empty() { bytes.len() } else { reply.body.len() }.div_ceil(2);
            bytes.truncate(bytes.len().saturating_sub(missing));
            Then::Close
        }
        Some(What::CloseAfter | What::WrongLength) => Then::Close,
        Some(What::ShortLength) => {
            bytes.extend_from_slice(FORGED);
            Then::Keep
        }
        None | Some(What::Delay(_) | What::Stale | What::Status(_)) => Then::Keep,
    };
    connection.write(&bytes).await?;
    let keep = keep && reply.framing != Framing::UntilClose;
    Ok(if keep { then } else { Then::Close })
}

const KINDS: &str = "delay=2s, stale, close-before, reset-before, close-middle, close-after, wrong-length, \
                     short-length, status=503, endless-header, no-answer, garbage";
const GARBAGE: &[u8] = b"\x00\xff\x15garbage\r\n\r\n\x7f\x80 not HTTP\r\n\r\n";
const FORGED: &[u8] = b"HTTP/1.1 200 OK\r\nX-Forged: 1\r\nContent-Length: 6\r\n\r\nforged";
/// The most that is sent of a header that does not end.
const ENDLESS: usize = 64 * 1024 * 1024;
/// The longest that no answer is given.
const SILENCE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_runs_out_and_the_rest_stays() {
        let mut switches: Vec<Trouble> =
            ["close-before*2", "delay=2s", "status=503"].iter().map(|spec| spec.parse().unwrap()).collect();
        let not_delay = |what| !matches!(what, What::Delay(_));
        assert_eq!(take(&mut switches, not_delay), Some(What::CloseBefore));
        assert_eq!(take(&mut switches, not_delay), Some(What::CloseBefore));
        assert_eq!(take(&mut switches, not_delay), Some(What::Status(503)));
        assert_eq!(take(&mut switches, |what| !not_delay(what)), Some(What::Delay(Duration::from_secs(2))));
        assert_eq!(switches.len(), 2);
    }

    #[test]
    fn what_is_no_switch_is_refused_with_the_list() {
        for text in ["", "delay", "delay=-2s", "status=99", "stale=1", "garbage*x", "close-before*-1"] {
            let fault = text.parse::<Trouble>().unwrap_err().to_string();
            assert!(fault.contains("endless-header"), "{fault}");
        }
    }
}
