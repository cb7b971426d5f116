//! Lines exactly as [`Record::line`](crate::ledger::record::Record::line) writes them, read in a fifth of the time that a
//! JSON parser takes: readers pass over millions of them. Names are expected in the order in which they are written, and
//! what deviates in any way (another order, a name that is not known, an escape, a list with objects) is left to the parser.
//! So this never decides that a line is no record, and where it reads one, the parser would have read the same.

use std::borrow::Cow;
use std::str::FromStr;

use super::{Ended, Entry, QlikMembers, Text};

/// The record of a line; `None` where that must be asked of the JSON parser.
pub(super) fn scan(line: &[u8]) -> Option<Entry<'_>> {
    let mut rest = Rest { text: std::str::from_utf8(line).ok()?, at: 0 };
    rest.expect("{\"@timestamp\":")?;
    let time = rest.parsed()?;
    rest.expect(",\"ecs\":{\"version\":")?;
    rest.string()?;
    rest.expect("},\"event\":{\"kind\":")?;
    rest.string()?;
    rest.expect(",\"sequence\":")?;
    let sequence = rest.natural()?;
    rest.expect(",\"id\":")?;
    let exchange = rest.borrowed()?;
    rest.expect(",\"category\":")?;
    rest.strings()?;
    rest.expect(",\"type\":")?;
    rest.strings()?;
    rest.expect(",\"action\":")?;
    let action = rest.borrowed()?;
    rest.expect(",\"outcome\":")?;
    let outcome = match rest.string()? {
        "success" => Ended::Success,
        "failure" => Ended::Failure,
        _ => Ended::Unknown,
    };
    rest.expect(",\"reason\":")?;
    let reason = rest.borrowed()?;
    let mut entry = Entry {
        time,
        sequence,
        exchange,
        action,
        outcome,
        reason,
        qlik: QlikMembers::default(),
        subject: None,
        client: None,
        user_agent: None,
        written_by: None,
    };
    rest.expect("},\"qlik\":{")?;
    members(&mut rest, &mut entry.qlik)?;
    if rest.skip(",\"user\":{\"target\":{\"hash\":") {
        entry.subject = Some(rest.borrowed()?);
        rest.expect("}}")?;
    }
    if rest.skip(",\"source\":{\"ip\":") {
        entry.client = Some(rest.parsed()?);
        rest.expect("}")?;
    }
    if rest.skip(",\"user_agent\":{\"original\":") {
        entry.user_agent = Some(rest.borrowed()?);
        rest.expect("}")?;
    }
    rest.expect(",\"observer\":{\"name\":")?;
    rest.string()?;
    rest.expect(",\"version\":")?;
    entry.written_by = Some(rest.borrowed()?);
    rest.expect("},\"sum\":")?;
    rest.string()?;
    rest.expect("}")?;
    (rest.at == line.len()).then_some(entry)
}

/// The members of `qlik`, up to and with the brace that closes it.
fn members<'a>(rest: &mut Rest<'a>, qlik: &mut QlikMembers<'a>) -> Option<()> {
    // A name that stands out of order, or twice, is met by none of these, and the closing brace is not where it should be.
    macro_rules! in_order {
        ($($name:literal $read:ident $($into:ident)?;)*) => {
            $(if rest.skip(concat!("\"", $name, "\":")) {
                let _value = rest.$read()?;
                $(qlik.$into = Some(_value);)?
                if !rest.skip(",") {
                    return rest.expect("}");
                }
            })*
        };
    }
    if rest.skip("}") {
        return Some(());
    }
    in_order! {
        "direction" borrowed direction;
        "source_id" borrowed source_id;
        "other_sources" strings;
        "identified_by" borrowed identified_by;
        "listed" boolean;
        "entry" string;
        "proxy_user" string;
        "destination" string;
        "license" borrowed license;
        "license_jti" borrowed license_jti;
        "cause" borrowed cause;
        "allotment" borrowed allotment;
        "instance" borrowed instance;
        "version" natural version;
        "base_version" natural base_version;
        "base_sent" natural base_sent;
        "patches" natural;
        "created" borrowed created;
        "rejection" borrowed rejection;
        "month" borrowed month;
        "delta" whole delta;
        "total" whole total;
        "class" borrowed class;
        "access_type" borrowed access_type;
        "count" whole count;
        "valid_from" borrowed valid_from;
        "valid_to" borrowed valid_to;
        "overage" borrowed overage;
        "http_status" short http_status;
        "server_date" borrowed server_date;
        "shape" borrowed shape;
        "tried_user" borrowed tried_user;
        "alias_of" borrowed alias_of;
        "key_id" borrowed key_id;
        "bytes" natural;
        "bytes_sent" natural;
        "bytes_received" natural;
        "retry_after" natural;
        "previous_stop" borrowed previous_stop;
        "dropped_bytes" natural;
        "quarantine_file" string;
        "from_index" natural from_index;
        "to_index" natural to_index;
    }
    None
}

/// What of a line is still to be read.
struct Rest<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Rest<'a> {
    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Passes over these characters, if they are next.
    #[inline(always)]
    fn skip(&mut self, what: &str) -> bool {
        let is_next = self.bytes().starts_with(what.as_bytes());
        if is_next {
            self.at += what.len();
        }
        is_next
    }

    #[inline(always)]
    fn expect(&mut self, what: &str) -> Option<()> {
        self.skip(what).then_some(())
    }

    /// A string in which nothing is escaped.
    fn string(&mut self) -> Option<&'a str> {
        self.expect("\"")?;
        let begin = self.at;
        let length = plain(self.bytes());
        self.at += length;
        self.expect("\"")?;
        self.text.get(begin..begin + length)
    }

    fn borrowed(&mut self) -> Option<Text<'a>> {
        self.string().map(|text| Text(Cow::Borrowed(text)))
    }

    /// A string that says a value of another type.
    fn parsed<T: FromStr>(&mut self) -> Option<T> {
        self.string()?.parse().ok()
    }

    /// A list of strings of which no reader wants anything.
    fn strings(&mut self) -> Option<()> {
        self.expect("[")?;
        loop {
            self.string()?;
            if !self.skip(",") {
                return self.expect("]");
            }
        }
    }

    /// A number without a sign, a point or an exponent, that surely fits.
    fn natural(&mut self) -> Option<u64> {
        let digits = self.bytes();
        let (mut number, mut length) = (0, 0);
        while let Some(digit) = digits.get(length).filter(|digit| digit.is_ascii_digit()) {
            (number, length) = (number * 10 + u64::from(digit - b'0'), length + 1);
            if length > 18 {
                return None;
            }
        }
        self.at += length;
        let leads_with_zero = length > 1 && digits.first() == Some(&b'0');
        (length > 0 && !leads_with_zero).then_some(number)
    }

    /// The same, with a sign.
    fn whole(&mut self) -> Option<i64> {
        let negative = self.skip("-");
        let number = i64::try_from(self.natural()?).ok()?;
        match (negative, number) {
            (true, 0) => None,
            (true, _) => Some(-number),
            (false, _) => Some(number),
        }
    }

    fn short(&mut self) -> Option<u16> {
        self.natural()?.try_into().ok()
    }

    fn boolean(&mut self) -> Option<()> {
        (self.skip("true") || self.skip("false")).then_some(())
    }
}

/// How many bytes come before the first that ends a string, escapes something, or may not stand in one.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    /// The high bit is set in the lowest byte that is zero, and in none below it.
    fn zeros(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word & HIGH
    }
    let (words, tail) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found =
            zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\'))) | control;
        if found != 0 {
            return at * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    bytes.len() - tail.len() + tail.iter().position(ends).unwrap_or(tail.len())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::Number;
    use uuid::Uuid;

    use super::*;
    use crate::ledger::action::{Action, Direction, IdentifiedBy, Outcome};
    use crate::ledger::qlik::{Base, Qlik, Repeat};
    use crate::ledger::record::{Observer, Record};

    fn parsed(line: &[u8]) -> Option<Entry<'_>> {
        serde_json::from_slice(line).ok()
    }

    /// Where a line is scanned, the parser reads the same in it.
    fn agrees(line: &[u8]) -> bool {
        let Some(scanned) = scan(line) else { return false };
        assert_eq!(format!("{:?}", Some(scanned)), format!("{:?}", parsed(line)), "{}", line.escape_ascii());
        true
    }

    fn line(record: &Record, sequence: u64) -> Vec<u8> {
        let observer = Observer { name: "relay-01".into(), version: "0.1.0" };
        let mut line = record.line(sequence, Timestamp::UNIX_EPOCH, &observer).unwrap();
        line.pop();
        line
    }

    /// A record with all members that are scanned.
    fn full() -> Record {
        let text = |n: u32| Some(format!("text {n} ä"));
        let mut record = Record::new(Action::AssignmentAdd, Uuid::nil());
        record.outcome = Outcome::Success;
        record.reason = "because".into();
        record.subject = Some("hmac-sha256:k2026:00".into());
        record.client = Some([10, 0, 0, 7].into());
        record.user_agent = Some("Licenses/1.6.4 (windows) QSEfW".into());
        record.qlik = Qlik {
            direction: Some(Direction::In),
            source_id: text(1),
            other_sources: vec!["a".into(), "b".into()],
            identified_by: Some(IdentifiedBy::Source),
            listed: Some(false),
            entry: text(2),
            proxy_user: text(3),
            destination: text(4),
            license: text(5),
            license_jti: text(6),
            cause: text(7),
            allotment: text(8),
            instance: text(9),
            version: Some(u64::MAX / 100),
            base_version: Some(0),
            base_sent: Some(10),
            patches: Some(1),
            created: text(10),
            rejection: text(11),
            month: text(12),
            delta: Some(Number::from(-7)),
            total: Some(Number::from(0)),
            class: text(13),
            access_type: text(14),
            count: Some(Number::from(12)),
            valid_from: text(15),
            valid_to: text(16),
            overage: text(17),
            http_status: Some(200),
            server_date: text(18),
            shape: text(19),
            tried_user: text(20),
            alias_of: text(21),
            key_id: text(22),
            bytes: Some(1),
            bytes_sent: Some(2),
            bytes_received: Some(3),
            retry_after: Some(4),
            previous_stop: Some("clean"),
            dropped_bytes: Some(5),
            quarantine_file: text(23),
            from_index: Some(6),
            to_index: Some(7),
            ..Qlik::default()
        };
        record
    }

    #[test]
    fn all_that_is_usual_is_scanned() {
        assert!(agrees(&line(&full(), 7)));
        assert!(agrees(&line(&Record::new(Action::RelayStart, Uuid::nil()), 0)));
    }

    #[test]
    fn what_is_unusual_is_left_to_the_parser() {
        let left = |change: fn(&mut Record)| {
            let mut record = full();
            change(&mut record);
            let line = line(&record, 7);
            assert!(scan(&line).is_none() && parsed(&line).is_some(), "{}", line.escape_ascii());
        };
        left(|record| record.reason = "said \"yes\"".into());
        left(|record| record.subject = Some("raw:ACME\\anna".into()));
        left(|record| record.qlik.version = Some(u64::MAX));
        left(|record| record.qlik.delta = Number::from_f64(3.0));
        left(|record| record.qlik.bases = vec![Base { license: None, sent: Some(1), version: None }]);
        left(|record| record.qlik.doubled = vec!["a".into()]);
        let (first, last) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let mut record = full();
        record.qlik.repeat = Some(Repeat { count: 2, first, last });
        assert!(scan(&line(&record, 7)).is_none());
    }

    #[test]
    fn the_end_of_a_string_is_found_wherever_it_is() {
        for end in [b'"', b'\\', b'\n', 0, 0x1f] {
            for length in 0..40 {
                let mut bytes: Vec<u8> =
                    (0..length).map(|n| [b'a', 0x7f, 0x80, 0xff, b' ', b'!'][n % 6]).collect();
                assert_eq!(plain(&bytes), length);
                bytes.extend([end, b'"', b'a', b'\\', 0, b'"', b'b', b'c', b'd']);
                assert_eq!(plain(&bytes), length, "{end}");
            }
        }
    }

    proptest! {
        /// Whatever was done to a line: what is scanned in it is what the parser reads.
        #[test]
        fn a_changed_line_is_scanned_as_it_is_parsed(
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..4, any::<u8>()), 1..4),
            sequence in any::<u64>(),
            few in any::<bool>(),
        ) {
            let record = if few { Record::new(Action::RelayStart, Uuid::nil()) } else { full() };
            let mut line = line(&record, sequence);
            for (place, what, byte) in edits {
                let at = place.index(line.len());
                let likely = b"\"\\{}[],:0189-.eE \ntruenull";
                let byte = if byte < 128 { likely[usize::from(byte) % likely.len()] } else { byte };
                match what {
                    0 => line[at] = byte,
                    1 => line.insert(at, byte),
                    2 => drop(line.remove(at)),
                    _ => {
                        let end = line.len().min(at + usize::from(byte));
                        let piece = line[at..end].to_vec();
                        line.splice(end..end, piece);
                    }
                }
            }
            agrees(&line);
        }
    }
}
