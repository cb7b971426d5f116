//! JSON as it was written: members in order, doubled ones kept, strings borrowed where they have no escapes.
//!
//! `serde_json::Value` keeps the last of two members of one name; where a member decides who is asking, that is a
//! way around the allow-list.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Values in one body, all levels together; a body with more is not read. Depth is serde_json's own limit, 128.
const VALUES: usize = 1_000_000;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number; integers of up to 64 bits are kept exactly.
    Number(serde_json::Number),
    /// A string.
    Text(Cow<'a, str>),
    /// An array.
    Array(Vec<Self>),
    /// An object's members, in order.
    Object(Vec<(Cow<'a, str>, Self)>),
}

impl<'a> Json<'a> {
    /// Reads a body; a byte order mark before it is passed over.
    ///
    /// # Errors
    /// It is no JSON, too deep, or has too many values; the message holds no value of the body.
    pub fn parse(body: &'a [u8]) -> Result<Self, NotJson> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let mut reader = serde_json::Deserializer::from_slice(body);
        let left = Cell::new(VALUES);
        let value = Seed(&left).deserialize(&mut reader).map_err(|e| NotJson::new(&e))?;
        reader.end().map_err(|e| NotJson::new(&e))?;
        Ok(value)
    }

    /// The first member of this name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => {
                members.iter().find(|(member, _)| member == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// All members of this name: more than one where it is doubled.
    pub fn members(&self, name: &str) -> Vec<&Self> {
        match self {
            Self::Object(members) => {
                members.iter().filter(|(member, _)| member == name).map(|(_, value)| value).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The elements of an array; none of anything else.
    pub fn elements(&self) -> &[Self] {
        match self {
            Self::Array(elements) => elements,
            _ => &[],
        }
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

    /// A number or a string, as text.
    pub fn to_text(&self) -> Option<String> {
        match self {
            Self::Number(number) => Some(number.to_string()),
            Self::Text(text) => Some(text.clone().into_owned()),
            _ => None,
        }
    }

    /// Member names and types, no values: what may be shown of a body that isn't understood. Arrays show their
    /// first element. At most about 2,000 bytes.
    pub fn shape(&self) -> String {
        let mut out = String::new();
        self.write_shape(&mut out, 0);
        out
    }

    fn write_shape(&self, out: &mut String, depth: usize) {
        if out.len() > 1800 || depth > 6 {
            out.push('…');
            return;
        }
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(_) => out.push_str("bool"),
            Self::Number(_) => out.push_str("number"),
            Self::Text(_) => out.push_str("text"),
            Self::Array(elements) => {
                out.push('[');
                if let Some(first) = elements.first() {
                    first.write_shape(out, depth + 1);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().take(40).enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    out.push_str(shown_name(name));
                    out.push(':');
                    value.write_shape(out, depth + 1);
                }
                out.push('}');
            }
        }
    }
}

/// Names of members are the vendor's; one that looks like data (a map keyed by users, say) is not shown.
fn shown_name(name: &str) -> &str {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$'));
    if plain && (1..=40).contains(&name.len()) && !name.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
        name
    } else {
        "(other)"
    }
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
    fn new(e: &serde_json::Error) -> Self {
        use serde_json::error::Category;
        let kind = match e.classify() {
            Category::Eof => "the body ends too early",
            Category::Data => "the body has too many values",
            Category::Io | Category::Syntax => "the body is not JSON",
        };
        Self { kind, line: e.line(), column: e.column() }
    }
}

struct Seed<'l>(&'l Cell<usize>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Json<'de>, D::Error> {
        let Some(left) = self.0.get().checked_sub(1) else {
            return Err(D::Error::custom("too many values"));
        };
        self.0.set(left);
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

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Json::Null, Json::Number))
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
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element_seed(Seed(self.0))? {
            elements.push(element);
        }
        Ok(Json::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key_seed(Name)? {
            members.push((name, map.next_value_seed(Seed(self.0))?));
        }
        Ok(Json::Object(members))
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

    #[test]
    fn doubled_members_are_both_kept_in_order() {
        let json = Json::parse(br#"{"source":"a","x":1,"source":"b"}"#).unwrap();
        let both: Vec<_> = json.members("source").into_iter().filter_map(Json::as_str).collect();
        assert_eq!(both, ["a", "b"]);
    }

    #[test]
    fn nineteen_digits_survive_as_text_and_as_number() {
        let json = Json::parse(br#"["5382018630938057025",5382018630938057025]"#).unwrap();
        for element in json.elements() {
            assert_eq!(element.to_text().unwrap(), "5382018630938057025");
        }
    }

    #[test]
    fn a_body_that_is_too_deep_or_too_large_is_refused_without_its_values() {
        let deep = "[".repeat(1000);
        assert!(Json::parse(deep.as_bytes()).is_err());
        let wide = format!("[{}0]", "0,".repeat(VALUES));
        assert_eq!(Json::parse(wide.as_bytes()).unwrap_err().kind, "the body has too many values");
        let secret = Json::parse(br#"{"key": secret}"#).unwrap_err().to_string();
        assert!(!secret.contains("secret"), "{secret}");
    }

    #[test]
    fn a_shape_shows_names_and_types_only() {
        let json = Json::parse(br#"{"op":"x","n":[{"who":"ACME\\bob"}],"ACME\\bob":true}"#).unwrap();
        assert_eq!(json.shape(), "{op:text,n:[{who:text}],(other):bool}");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = Json::parse(&bytes).map(|json| json.shape());
        }
    }
}
