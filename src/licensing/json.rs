//! JSON as it was written: members in order, doubled ones kept, strings borrowed where they have no escapes.
//!
//! `serde_json::Value` keeps the last of two members of one name; where a member decides who is asking, that is a
//! way around the allow-list. Names are told apart as the back end, a Go program, tells them apart: see
//! [`same_name`].

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::shape::shown_name;
use super::terms::is_field;
use crate::bounds;
use crate::ledger::record::HIDDEN;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number of up to 64 bits, exactly, or a fraction.
    Number(serde_json::Number),
    /// A number that is larger. To keep it as the nearest double would make one number of many, so it is no id, no
    /// version and no consumption.
    Huge,
    /// A string.
    Text(Cow<'a, str>),
    /// An array.
    Array(Vec<Self>),
    /// An object.
    Object(Members<'a>),
}

/// The members of an object, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members<'a> {
    list: Vec<(Cow<'a, str>, Json<'a>)>,
    /// Two of them have one name.
    doubled: bool,
}

impl<'a> Json<'a> {
    /// Reads a body; a byte order mark before it is passed over.
    ///
    /// # Errors
    /// It is no JSON, too deep, or has too many values; the message holds no value of the body.
    pub fn parse(body: &'a [u8]) -> Result<Self, NotJson> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let text = std::str::from_utf8(body).map_err(|e| NotJson::not_utf8(body, e.valid_up_to()))?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let limits = Limits { values: Cell::new(bounds::JSON_VALUES), fault: Cell::new(None) };
        let fault = |e: &serde_json::Error| NotJson::new(e, limits.fault.get());
        let value = Seed { limits: &limits, depth: 0 }.deserialize(&mut reader).map_err(|e| fault(&e))?;
        reader.end().map_err(|e| fault(&e))?;
        Ok(value)
    }

    /// The first member of this name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.named(name).next()
    }

    /// All members of this name: more than one where it is doubled.
    pub fn named<'j>(&'j self, name: &str) -> impl Iterator<Item = &'j Self> {
        self.members().iter().filter(move |(member, _)| same_name(member, name)).map(|(_, value)| value)
    }

    /// The members of an object, in order; none of anything else.
    pub fn members(&self) -> &[(Cow<'a, str>, Self)] {
        match self {
            Self::Object(members) => &members.list,
            _ => &[],
        }
    }

    /// Whether it is an object in which two members have one name.
    pub fn is_doubled(&self) -> bool {
        matches!(self, Self::Object(members) if members.doubled)
    }

    /// The names that are doubled in any object of it, as far as they may be shown: at most
    /// [`bounds::DOUBLED`].
    pub fn doubled(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.note_doubled(&mut names);
        names
    }

    fn note_doubled(&self, names: &mut Vec<String>) {
        if self.is_doubled() {
            let mut seen = HashSet::new();
            for (name, _) in self.members() {
                // Somebody's name twice is not for the log.
                let shown = if is_field(name) { shown_name(name) } else { HIDDEN };
                if !seen.insert(folded(name))
                    && names.len() < bounds::DOUBLED
                    && !names.iter().any(|known| same_name(known, shown))
                {
                    names.push(shown.to_owned());
                }
            }
        }
        for inner in self.elements().iter().chain(self.members().iter().map(|(_, value)| value)) {
            inner.note_doubled(names);
        }
    }

    /// The elements of an array; none of anything else.
    pub fn elements(&self) -> &[Self] {
        match self {
            Self::Array(elements) => elements,
            _ => &[],
        }
    }

    /// Whether it is an array or an object that holds something.
    pub fn is_filled(&self) -> bool {
        !self.elements().is_empty() || !self.members().is_empty()
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number, from a number or a string of digits.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A number, from a number or a string of digits.
    pub fn to_number(&self) -> Option<serde_json::Number> {
        match self {
            Self::Number(number) => Some(number.clone()),
            other => other.as_u64().map(Into::into),
        }
    }

    /// A whole number or a string, as text. A fraction has more than one spelling, and is none.
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Number(number) if !number.is_f64() => Some(number.to_string().into()),
            Self::Text(text) => Some(Cow::Borrowed(text)),
            _ => None,
        }
    }
}

/// Whether two members have one name to the back end. Go's `encoding/json` takes `Source` for `source`, and folds the
/// two letters outside ASCII that have a lower case inside: `ſ` is an `s`, and the Kelvin sign a `k`.
pub fn same_name(a: &str, b: &str) -> bool {
    if a.eq_ignore_ascii_case(b) {
        return true;
    }
    // Three bytes are the most that a letter takes where another spelling takes one.
    a.len() <= 3 * b.len()
        && b.len() <= 3 * a.len()
        && !(a.is_ascii() && b.is_ascii())
        && a.chars().map(fold).eq(b.chars().map(fold))
}

fn fold(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => c.to_ascii_lowercase(),
    }
}

fn folded(name: &str) -> String {
    name.chars().map(fold).collect()
}

/// Few members are compared with each other; of many, the folded names are looked up.
fn has_doubles(members: &[(Cow<'_, str>, Json<'_>)]) -> bool {
    if members.len() <= 12 {
        return members
            .iter()
            .enumerate()
            .any(|(at, (name, _))| members[..at].iter().any(|(before, _)| same_name(before, name)));
    }
    let mut seen = HashSet::with_capacity(members.len());
    !members.iter().all(|(name, _)| seen.insert(folded(name)))
}

/// Why a body is no JSON, without a value of it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{kind} at line {line} column {column}")]
pub struct NotJson {
    kind: &'static str,
    line: usize,
    column: usize,
}

impl NotJson {
    fn new(e: &serde_json::Error, fault: Option<&'static str>) -> Self {
        // serde_json tells these apart by its words alone, which hold no value.
        let words = e.to_string();
        let kind = match fault {
            Some(fault) => fault,
            None if e.is_eof() => "the body ends too early",
            None if words.starts_with("number out of range") => "a number is out of range",
            None if words.contains("surrogate") || words.starts_with("unexpected end of hex escape") => {
                "a text has one half of a surrogate pair"
            }
            None => "the body is not JSON",
        };
        Self { kind, line: e.line(), column: e.column() }
    }

    fn not_utf8(body: &[u8], good: usize) -> Self {
        let good = &body[..good];
        let lines = good.iter().filter(|byte| **byte == b'\n').count();
        let column = good.iter().rev().take_while(|byte| **byte != b'\n').count();
        Self { kind: "the body is not UTF-8", line: 1 + lines, column: 1 + column }
    }
}

/// What is left of the limits, and which of them was met.
struct Limits {
    values: Cell<usize>,
    fault: Cell<Option<&'static str>>,
}

#[derive(Clone, Copy)]
struct Seed<'l> {
    limits: &'l Limits,
    depth: usize,
}

impl Seed<'_> {
    fn refuse<E: Error>(self, fault: &'static str) -> E {
        self.limits.fault.set(Some(fault));
        E::custom(fault)
    }

    /// For what stands inside an array or an object.
    fn inner<E: Error>(self) -> Result<Self, E> {
        if self.depth == bounds::JSON_DEPTH {
            return Err(self.refuse("the body is nested too deeply"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Json<'de>, D::Error> {
        let Some(left) = self.limits.values.get().checked_sub(1) else {
            return Err(self.refuse("the body has too many values"));
        };
        self.limits.values.set(left);
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    /// Fractions, and whole numbers of more than 64 bits.
    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        // From 2^53 on a double stands for more than one whole number.
        let exact = value.abs() < 9_007_199_254_740_992.0;
        let number = exact.then(|| serde_json::Number::from_f64(value)).flatten();
        Ok(number.map_or(Json::Huge, Json::Number))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json<'de>, A::Error> {
        let inner = self.inner()?;
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element_seed(inner)? {
            elements.push(element);
        }
        Ok(Json::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(name) = map.next_key_seed(Name)? {
            list.push((name, map.next_value_seed(inner)?));
        }
        let doubled = has_doubles(&list);
        Ok(Json::Object(Members { list, doubled }))
    }
}

struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Cow<'de, str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(body: &[u8]) -> String {
        Json::parse(body).unwrap_err().to_string()
    }

    #[test]
    fn doubled_members_are_both_kept_in_order() {
        let json = Json::parse(br#"{"source":"a","x":1,"source":"b"}"#).unwrap();
        let both: Vec<_> = json.named("source").filter_map(Json::as_str).collect();
        assert_eq!(both, ["a", "b"]);
    }

    #[test]
    fn one_name_in_two_spellings_is_a_doubled_member_as_it_is_to_the_back_end() {
        for other in ["Source", "SOURCE", "\u{17f}ource"] {
            let body = format!(r#"{{"a":[{{"source":"a","{other}":"b"}}]}}"#);
            let json = Json::parse(body.as_bytes()).unwrap();
            assert_eq!(json.doubled(), [if other.is_ascii() { other } else { "(other)" }]);
            assert_eq!(json.get("A").unwrap().elements()[0].named("source").count(), 2);
        }
        assert!(same_name("\u{212a}ey", "KEY") && !same_name("source", "sourc\u{e9}"));
        assert!(!same_name("", "a") && !same_name("ss", "\u{df}"));
    }

    #[test]
    fn a_double_among_very_many_members_is_found_in_no_time() {
        let many: String = (0..100_000).map(|n| format!("\"item-{n}\":0,")).collect();
        let started = tokio::time::Instant::now();
        assert!(!Json::parse(format!("{{{many}\"x\":0}}").as_bytes()).unwrap().is_doubled());
        let json = format!("{{{many}\"Item-7\":0}}");
        assert_eq!(Json::parse(json.as_bytes()).unwrap().doubled(), ["Item-7"]);
        assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
    }

    #[test]
    fn nineteen_digits_survive_as_text_and_as_number() {
        let json = Json::parse(br#"["5382018630938057025",5382018630938057025]"#).unwrap();
        for element in json.elements() {
            assert_eq!(element.to_text().unwrap(), "5382018630938057025");
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_not_taken_for_its_neighbour() {
        let body =
            b"[18446744073709551616,18446744073709551617,-9223372036854775809,1e300,5382018630938057025.0]";
        for element in Json::parse(body).unwrap().elements() {
            assert_eq!(*element, Json::Huge);
            assert!(
                element.to_text().is_none() && element.as_u64().is_none() && element.to_number().is_none()
            );
        }
        let json = Json::parse(b"[18446744073709551615,-9223372036854775808,242.5]").unwrap();
        let [most, least, fraction] = json.elements() else { panic!("{json:?}") };
        assert_eq!(most.as_u64(), Some(u64::MAX));
        assert_eq!(least.to_text().unwrap(), i64::MIN.to_string());
        assert!(fraction.to_text().is_none() && fraction.to_number().is_some());
    }

    #[test]
    fn what_can_not_be_read_is_told_in_words_without_a_value() {
        for (body, expected) in [
            (&br#"{"key": secret}"#[..], "the body is not JSON at line 1"),
            (br#"{"key": "secret"} secret"#, "the body is not JSON at line 1"),
            (b"{\"key\":\n\"secret", "the body ends too early at line 2"),
            (b"{\"key\":\n \"\xffsecret\"}", "the body is not UTF-8 at line 2 column 3"),
            (br#"["secret \ud800 "]"#, "a text has one half of a surrogate pair"),
            (br#"["secret \udc00"]"#, "a text has one half of a surrogate pair"),
            (br#"["secret", 1e999]"#, "a number is out of range"),
            (b"", "the body ends too early"),
        ] {
            let reason = reason(body);
            assert!(reason.starts_with(expected) && !reason.contains("secret"), "{reason}");
        }
    }

    #[test]
    fn a_body_that_is_too_deep_or_too_large_is_refused() {
        let nested = |depth: usize| format!("{}0{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::parse(nested(bounds::JSON_DEPTH).as_bytes()).is_ok());
        assert!(
            reason(nested(bounds::JSON_DEPTH + 1).as_bytes()).starts_with("the body is nested too deeply")
        );
        assert!(reason("{\"a\":".repeat(1000).as_bytes()).starts_with("the body is nested too deeply"));
        let wide = format!("[{}0]", "0,".repeat(bounds::JSON_VALUES));
        assert!(reason(wide.as_bytes()).starts_with("the body has too many values"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = Json::parse(&bytes).map(|json| json.doubled());
        }
    }
}
