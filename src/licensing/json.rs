//! JSON as the back end, a Go program, reads it: what Go's `encoding/json` takes, this reader takes.
//!
//! Invalid UTF-8 and lone surrogates become U+FFFD, names are compared as Go folds them (see [`same_name`]), and of
//! members that come twice the last wins, where objects merge. What a strict reader would have refused is noted in
//! [`Odd`]; members that came twice with different values are marked, so that whoever decides by one can refuse.
//! The reader keeps its own stack: no nesting of a body uses the stack of the thread.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use super::terms::{is_field, shown_name};
use crate::bounds;
use relay_log::text::redact::HIDDEN;

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
    /// An array or an object below [`bounds::JSON_DEPTH`] others, as it was written: well formed, but not read.
    Deep(&'a [u8]),
}

/// The members of an object, one of each name, in the order in which the names came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members<'a> {
    list: Vec<(Cow<'a, str>, Json<'a>)>,
    /// Which of them came twice, and whether with different values.
    #[expect(
        clippy::box_collection,
        reason = "hardly any object has one, and a body may have a great many objects"
    )]
    twice: Option<Box<BTreeMap<usize, bool>>>,
}

impl Members<'_> {
    fn twice(&self) -> impl Iterator<Item = (usize, bool)> {
        self.twice.iter().flat_map(|twice| twice.iter().map(|(at, differ)| (*at, *differ)))
    }
}

/// A body as Go's `encoding/json` reads it, and what of it a strict reader would not have taken.
#[derive(Debug)]
pub struct Reading<'a> {
    /// What was read.
    pub json: Json<'a>,
    /// What was odd.
    pub odd: Odd,
}

/// What a strict reader would not have taken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Odd(u8);

impl Odd {
    const MARK: Self = Self(1);
    const NOT_UTF8: Self = Self(2);
    const SURROGATE: Self = Self(4);
    const DEEP: Self = Self(8);
    const TWICE: Self = Self(16);

    fn note(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether nothing was odd.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What was odd, in words for the log.
    pub fn words(self) -> Vec<&'static str> {
        [
            (Self::MARK, "byte order mark"),
            (Self::NOT_UTF8, "invalid UTF-8"),
            (Self::SURROGATE, "lone surrogate"),
            (Self::DEEP, "nested deeper than 32"),
            (Self::TWICE, "a member twice"),
        ]
        .into_iter()
        .filter(|(odd, _)| self.0 & odd.0 != 0)
        .map(|(_, words)| words)
        .collect()
    }
}

/// Reads a body.
///
/// # Errors
/// Go would not read it either, it is larger than the bounds allow, or data follows the value; the message holds no value
/// of the body.
pub fn read(body: &[u8]) -> Result<Reading<'_>, NotJson> {
    read_within(body, bounds::JSON_VALUES)
}

/// As [`read`], with so many values at most.
fn read_within(body: &[u8], values: usize) -> Result<Reading<'_>, NotJson> {
    let left_text = bounds::JSON_TEXT;
    let mut reader = Reader { body, at: 0, values, left: values, left_text, odd: Odd::default() };
    if body.starts_with(b"\xef\xbb\xbf") {
        reader.at = 3;
        reader.odd.note(Odd::MARK);
    }
    let json = reader.value()?;
    reader.space();
    if reader.at < body.len() {
        return Err(reader.fault(FOLLOWED));
    }
    Ok(Reading { json, odd: reader.odd })
}

impl<'a> Json<'a> {
    /// Reads a body; what was odd is not told.
    ///
    /// # Errors
    /// As [`read`].
    pub fn parse(body: &'a [u8]) -> Result<Self, NotJson> {
        read(body).map(|reading| reading.json)
    }

    /// Reads what is wrapped in a value of another body, which is in memory beside it.
    pub(super) fn parse_wrapped(body: &'a [u8]) -> Result<Self, NotJson> {
        read_within(body, bounds::WRAPPED_VALUES).map(|reading| reading.json)
    }

    /// The member of this name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.named(name).next()
    }

    /// The member of this name; an object keeps one.
    pub fn named<'j>(&'j self, name: &str) -> impl Iterator<Item = &'j Self> {
        self.members().iter().filter(move |(member, _)| same_name(member, name)).map(|(_, value)| value)
    }

    /// The same, with its name as it is written.
    pub(super) fn member(&self, name: &str) -> Option<(&str, &Self)> {
        let found = self.members().iter().find(|(member, _)| same_name(member, name));
        found.map(|(member, value)| (&**member, value))
    }

    /// The members of an object, in order; none of anything else.
    pub fn members(&self) -> &[(Cow<'a, str>, Self)] {
        match self {
            Self::Object(members) => &members.list,
            _ => &[],
        }
    }

    /// Whether the member of this name came twice with different values.
    pub fn conflict(&self, name: &str) -> bool {
        let Self::Object(members) = self else { return false };
        let is_it = |at: usize| members.list.get(at).is_some_and(|(member, _)| same_name(member, name));
        members.twice().any(|(at, differ)| differ && is_it(at))
    }

    /// Whether any member came twice with different values.
    pub(super) fn has_conflict(&self) -> bool {
        matches!(self, Self::Object(members) if members.twice().any(|(_, differ)| differ))
    }

    /// Whether it is an object in which a member came twice.
    pub fn is_doubled(&self) -> bool {
        matches!(self, Self::Object(members) if members.twice.is_some())
    }

    /// The names that are doubled in any object of it, as far as they may be shown: at most
    /// [`bounds::DOUBLED`].
    pub fn doubled(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.note_doubled(&mut names);
        names
    }

    fn note_doubled(&self, names: &mut Vec<String>) {
        if let Self::Object(members) = self {
            for (name, _) in members.twice().filter_map(|(at, _)| members.list.get(at)) {
                // Somebody's name twice is not for the log.
                let shown = if is_field(name) { shown_name(name) } else { HIDDEN };
                if names.len() < bounds::DOUBLED && !names.iter().any(|known| same_name(known, shown)) {
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
        matches!(self, Self::Deep(_)) || !self.elements().is_empty() || !self.members().is_empty()
    }

    /// Whether it is neither an array nor an object, and not `null`.
    pub(super) fn is_scalar(&self) -> bool {
        matches!(self, Self::Bool(_) | Self::Number(_) | Self::Huge | Self::Text(_))
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

    /// Whether it is a number, of any size.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Number(_) | Self::Huge)
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

/// Whether two members have one name to the back end. Go's `encoding/json` takes `Source` for `source`, and folds letters
/// as Unicode does where one letter stands for one: `ſ` is an `s`, the Kelvin sign a `k`, and `Ä` an `ä`.
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

/// The letter that stands for all its cases: the small one of its capital, as Unicode's simple case folding has it. The
/// dotless `ı`, whose capital is `I`, is a letter of its own; three pairs have capitals of several letters.
fn fold(c: char) -> char {
    fn only(mut cases: impl Iterator<Item = char>, c: char) -> char {
        match (cases.next(), cases.next()) {
            (Some(case), None) => case,
            _ => c,
        }
    }
    match c {
        _ if c.is_ascii() => c.to_ascii_lowercase(),
        '\u{131}' => c,
        '\u{1fd3}' => '\u{390}',
        '\u{1fe3}' => '\u{3b0}',
        '\u{fb05}' => '\u{fb06}',
        _ => {
            let capital = only(c.to_uppercase(), c);
            only(capital.to_lowercase(), capital)
        }
    }
}

/// The members in the order of their folded names' hashes, and of those with one hash in the order in which they came, if
/// two may have one name. Few members are compared with each other. Of many, nothing but hashes is kept: their names would
/// take more memory than the members.
fn by_name(members: &[(Cow<'_, str>, Json<'_>)]) -> Option<Vec<(u64, usize)>> {
    let is_double = |at: usize| members[..at].iter().any(|(before, _)| same_name(before, &members[at].0));
    if members.len() <= FEW && !(1..members.len()).any(is_double) {
        return None;
    }
    let keyed = RandomState::new();
    let hash = |name: &str| {
        let mut hasher = keyed.build_hasher();
        name.chars().for_each(|c| fold(c).hash(&mut hasher));
        hasher.finish()
    };
    let mut order: Vec<_> = members.iter().enumerate().map(|(at, (name, _))| (hash(name), at)).collect();
    order.sort_unstable();
    order.windows(2).any(|pair| pair[0].0 == pair[1].0).then_some(order)
}

/// So many members are compared with each other.
const FEW: usize = 12;

const FOLLOWED: &str = "data follows the JSON value";
const NOT_JSON: &str = "the body is not JSON";
const TOO_EARLY: &str = "the body ends too early";
const TOO_DEEP: &str = "the body has more than 10000 arrays and objects within each other";
const TOO_MANY: &str = "the body has more than 750000 values";
const TOO_MANY_WRAPPED: &str = "what is wrapped in the body has more than 50000 values";
const TOO_MANY_MEMBERS: &str = "the body has an object of more than 50000 members";
const TOO_MUCH_TEXT: &str = "the body has more than 16777216 bytes of text that is not written as it is";
const _: () = assert!(
    bounds::JSON_LEVELS == 10_000
        && bounds::JSON_VALUES == 750_000
        && bounds::WRAPPED_VALUES == 50_000
        && bounds::JSON_MEMBERS == 50_000
        && bounds::JSON_TEXT == 16_777_216,
    "the words above name the bounds"
);

/// Why a body is no JSON, without a value of it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{kind} at line {line} column {column}")]
pub struct NotJson {
    kind: &'static str,
    line: usize,
    column: usize,
}

impl NotJson {
    /// Whether a complete value is followed by other data: a back end that reads one value would have read it, one
    /// that reads the whole body would not.
    pub fn is_contradiction(&self) -> bool {
        self.kind == FOLLOWED
    }
}

/// An array or an object that isn't closed yet.
enum Open<'a> {
    Array(Vec<Json<'a>>),
    /// Its members, and the name of the next.
    Object(Vec<(Cow<'a, str>, Json<'a>)>, Cow<'a, str>),
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
    /// How many values are read at most.
    values: usize,
    /// How many more are read; merging objects takes from it too.
    left: usize,
    /// How many more bytes of text are read that had to be decoded, so that the body does not hold them as they are.
    left_text: usize,
    odd: Odd,
}

impl<'a> Reader<'a> {
    fn fault(&self, kind: &'static str) -> NotJson {
        let before = &self.body[..self.at.min(self.body.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        NotJson { kind, line, column }
    }

    fn unexpected(&self) -> NotJson {
        self.fault(if self.at >= self.body.len() { TOO_EARLY } else { NOT_JSON })
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn spend(&mut self, values: usize) -> Result<(), NotJson> {
        let too_many = if self.values == bounds::JSON_VALUES { TOO_MANY } else { TOO_MANY_WRAPPED };
        self.left = self.left.checked_sub(values).ok_or_else(|| self.fault(too_many))?;
        Ok(())
    }

    /// Room for text that has to be decoded.
    fn room(&mut self, bytes: usize) -> Result<String, NotJson> {
        self.left_text = self.left_text.checked_sub(bytes).ok_or_else(|| self.fault(TOO_MUCH_TEXT))?;
        Ok(String::with_capacity(bytes))
    }

    fn value(&mut self) -> Result<Json<'a>, NotJson> {
        let mut open: Vec<Open<'a>> = Vec::new();
        loop {
            self.space();
            let mut done = match self.peek() {
                Some(b'[' | b'{') if open.len() == bounds::JSON_DEPTH => self.deep()?,
                Some(b'[') => {
                    self.spend(1)?;
                    self.at += 1;
                    self.space();
                    if !self.take(b']') {
                        open.push(Open::Array(Vec::new()));
                        continue;
                    }
                    Json::Array(Vec::new())
                }
                Some(b'{') => {
                    self.spend(1)?;
                    self.at += 1;
                    self.space();
                    if !self.take(b'}') {
                        let name = self.name()?;
                        open.push(Open::Object(Vec::new(), name));
                        continue;
                    }
                    Json::Object(Members::default())
                }
                _ => self.scalar()?,
            };
            // What is done goes into what holds it, which may be done with that.
            loop {
                let Some(holder) = open.pop() else { return Ok(done) };
                self.space();
                match holder {
                    Open::Array(mut list) => {
                        list.push(done);
                        if self.take(b',') {
                            open.push(Open::Array(list));
                            break;
                        }
                        if !self.take(b']') {
                            return Err(self.unexpected());
                        }
                        done = Json::Array(fitted(list));
                    }
                    Open::Object(mut list, name) => {
                        if list.len() == bounds::JSON_MEMBERS {
                            return Err(self.fault(TOO_MANY_MEMBERS));
                        }
                        list.push((name, done));
                        if self.take(b',') {
                            self.space();
                            let name = self.name()?;
                            open.push(Open::Object(list, name));
                            break;
                        }
                        if !self.take(b'}') {
                            return Err(self.unexpected());
                        }
                        done = Json::Object(match by_name(&list) {
                            Some(order) => self.united(list, BTreeMap::new(), order)?,
                            None => Members { list: fitted(list), twice: None },
                        });
                    }
                }
            }
        }
    }

    /// Passes over an array or an object that is too deep to be of use, and checks it as Go does.
    fn deep(&mut self) -> Result<Json<'a>, NotJson> {
        self.odd.note(Odd::DEEP);
        let start = self.at;
        // What closes each that is open.
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.space();
            match self.peek() {
                Some(bracket @ (b'[' | b'{')) => {
                    if bounds::JSON_DEPTH + open.len() == bounds::JSON_LEVELS {
                        return Err(self.fault(TOO_DEEP));
                    }
                    self.spend(1)?;
                    self.at += 1;
                    self.space();
                    let close = if bracket == b'[' { b']' } else { b'}' };
                    if !self.take(close) {
                        if close == b'}' {
                            self.name()?;
                        }
                        open.push(close);
                        continue;
                    }
                }
                _ => drop(self.scalar()?),
            }
            loop {
                let Some(close) = open.last().copied() else {
                    return Ok(Json::Deep(&self.body[start..self.at]));
                };
                self.space();
                if self.take(b',') {
                    if close == b'}' {
                        self.space();
                        self.name()?;
                    }
                    break;
                }
                if !self.take(close) {
                    return Err(self.unexpected());
                }
                open.pop();
            }
        }
    }

    /// A member's name and the colon behind it.
    fn name(&mut self) -> Result<Cow<'a, str>, NotJson> {
        let name = self.text()?;
        self.space();
        if self.take(b':') { Ok(name) } else { Err(self.unexpected()) }
    }

    fn scalar(&mut self) -> Result<Json<'a>, NotJson> {
        self.spend(1)?;
        match self.peek() {
            Some(b'"') => self.text().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let words = [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))];
                let rest = &self.body[self.at..];
                for (word, value) in words {
                    if rest.starts_with(word.as_bytes()) {
                        self.at += word.len();
                        return Ok(value);
                    }
                    if !rest.is_empty() && word.as_bytes().starts_with(rest) {
                        return Err(self.fault(TOO_EARLY));
                    }
                }
                Err(self.unexpected())
            }
        }
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected()) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Json<'a>, NotJson> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        let mut whole = true;
        if self.take(b'.') {
            whole = false;
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            whole = false;
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let text = std::str::from_utf8(&self.body[start..self.at]).unwrap_or_default();
        if whole && text != "-0" {
            let number = text.parse::<u64>().map(Into::into).or_else(|_| text.parse::<i64>().map(Into::into));
            return Ok(number.map_or(Json::Huge, Json::Number));
        }
        // From 2^53 on a double stands for more than one whole number.
        let exact = text.parse::<f64>().ok().filter(|value| value.abs() < 9_007_199_254_740_992.0);
        Ok(exact.and_then(serde_json::Number::from_f64).map_or(Json::Huge, Json::Number))
    }

    fn text(&mut self) -> Result<Cow<'a, str>, NotJson> {
        if !self.take(b'"') {
            return Err(self.unexpected());
        }
        let plain = self.plain()?;
        if self.take(b'"') {
            return Ok(plain);
        }
        // What is decoded is no longer than what it is written as, but for bytes that are no UTF-8, which are mended first.
        let mut text = self.room(plain.len() + self.until_quote())?;
        text.push_str(&plain);
        loop {
            // A run without escapes ends at a quote or at a backslash.
            if self.take(b'"') {
                return Ok(Cow::Owned(text));
            }
            self.at += 1;
            let Some(escape) = self.peek() else { return Err(self.unexpected()) };
            text.push(match escape {
                b'"' | b'\\' | b'/' => char::from(escape),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => self.unit()?,
                _ => return Err(self.unexpected()),
            });
            self.at += 1;
            let plain = self.plain()?;
            if plain.len() > text.capacity() - text.len() {
                let grown = self.room(2 * text.capacity() + plain.len())?;
                let before = std::mem::replace(&mut text, grown);
                text.push_str(&before);
            }
            text.push_str(&plain);
        }
    }

    /// How many bytes a string has from here to its end.
    fn until_quote(&self) -> usize {
        let mut escaped = false;
        let ends = |byte: &u8| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        };
        let rest = self.body.get(self.at..).unwrap_or_default();
        rest.iter().position(ends).unwrap_or(rest.len())
    }

    /// What stands before the next quote or backslash.
    fn plain(&mut self) -> Result<Cow<'a, str>, NotJson> {
        let rest = &self.body[self.at..];
        let length = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len());
        self.at += length;
        if !matches!(self.peek(), Some(b'"' | b'\\')) {
            return Err(self.unexpected());
        }
        let mut rest = &rest[..length];
        if let Ok(text) = std::str::from_utf8(rest) {
            return Ok(Cow::Borrowed(text));
        }
        self.odd.note(Odd::NOT_UTF8);
        // A byte becomes a character of three at most.
        let bad = rest.iter().filter(|byte| !byte.is_ascii()).count();
        let mut mended = self.room(rest.len() + 2 * bad)?;
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => return Ok(Cow::Owned(mended + text)),
                Err(e) => {
                    let (good, bad) = rest.split_at(e.valid_up_to());
                    mended.push_str(std::str::from_utf8(good).unwrap_or_default());
                    // Go replaces each byte, not each sequence.
                    let length = e.error_len().unwrap_or(bad.len());
                    mended.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, length));
                    rest = &bad[length..];
                }
            }
        }
    }

    /// The character of an escape `u` with its four digits, and of the one behind it where they are a pair; stops at the
    /// last digit.
    fn unit(&mut self) -> Result<char, NotJson> {
        let first = self.hex()?;
        if let Some(c) = char::from_u32(first) {
            return Ok(c);
        }
        if self.body[self.at + 1..].starts_with(b"\\u") {
            let before = self.at;
            self.at += 2;
            let second = self.hex()?;
            if (0xd800..0xdc00).contains(&first) && (0xdc00..0xe000).contains(&second) {
                let both = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            // No pair: the second escape is read on its own.
            self.at = before;
        }
        self.odd.note(Odd::SURROGATE);
        Ok(char::REPLACEMENT_CHARACTER)
    }

    /// Four digits behind the `u`; stops at the last.
    fn hex(&mut self) -> Result<u32, NotJson> {
        let mut unit = 0;
        for _ in 0..4 {
            self.at += 1;
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit << 4 | digit.ok_or_else(|| self.unexpected())?;
        }
        Ok(unit)
    }

    /// Merges members into others as Go does. What it costs is limited as values are, for merging one by one into a large
    /// object is more work than reading it.
    fn merge(&mut self, mut into: Members<'a>, from: Members<'a>) -> Result<Members<'a>, NotJson> {
        // A long name costs as much as many short ones.
        self.spend(into.list.iter().map(|(name, _)| 1 + name.len() / 16).sum())?;
        let shift = into.list.len();
        let twice = into.twice().chain(from.twice().map(|(at, differ)| (shift + at, differ))).collect();
        into.list.extend(from.list);
        match by_name(&into.list) {
            Some(order) => self.united(into.list, twice, order),
            None => Ok(Members { list: into.list, twice: (!twice.is_empty()).then(|| Box::new(twice)) }),
        }
    }

    /// Makes one member of those that have one name: the last wins, objects merge. It stands where the first stood, under
    /// the last one's name.
    fn united(
        &mut self,
        mut list: Vec<(Cow<'a, str>, Json<'a>)>,
        twice: BTreeMap<usize, bool>,
        order: Vec<(u64, usize)>,
    ) -> Result<Members<'a>, NotJson> {
        let mut gone = vec![false; list.len()];
        let mut united = BTreeMap::new();
        for of_hash in order.chunk_by(|a, b| a.0 == b.0) {
            // As a rule one name: that two have one hash happens by chance alone.
            let mut firsts: Vec<usize> = Vec::new();
            for at in of_hash.iter().map(|(_, at)| *at) {
                let is_it = |first: &&usize| same_name(&list[**first].0, &list[at].0);
                let Some(first) = firsts.iter().find(is_it).copied() else {
                    firsts.push(at);
                    if let Some(differ) = twice.get(&at) {
                        united.insert(at, *differ);
                    }
                    continue;
                };
                let (name, value) = std::mem::replace(&mut list[at], (Cow::Borrowed(""), Json::Null));
                let before = std::mem::replace(&mut list[first].1, Json::Null);
                let differ = before != value;
                list[first] = match (before, value) {
                    (Json::Object(a), Json::Object(b)) if differ => (name, Json::Object(self.merge(a, b)?)),
                    (_, last) => (name, last),
                };
                *united.entry(first).or_default() |= differ || twice.get(&at).is_some_and(|differ| *differ);
                gone[at] = true;
            }
        }
        if united.is_empty() {
            return Ok(Members { list, twice: None });
        }
        self.odd.note(Odd::TWICE);
        // Where each stands once those that are gone have left.
        let mut places = Vec::with_capacity(gone.len());
        let mut next = 0;
        for gone in &gone {
            places.push(next);
            next += usize::from(!gone);
        }
        let mut stays = gone.iter().map(|gone| !gone);
        list.retain(|_| stays.next().unwrap_or_default());
        let twice = united.into_iter().map(|(at, differ)| (places[at], differ)).collect();
        Ok(Members { list: fitted(list), twice: Some(Box::new(twice)) })
    }
}

/// A list without room for more. A body may have a great many short ones; of a long one, memory that was never written to
/// costs nothing, and moving it would.
fn fitted<T>(mut list: Vec<T>) -> Vec<T> {
    if list.len() <= LONG {
        list.shrink_to_fit();
    }
    list
}

/// So many values are a long list.
const LONG: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn folded(name: &str) -> String {
        name.chars().map(fold).collect()
    }

    fn reason(body: &[u8]) -> String {
        Json::parse(body).unwrap_err().to_string()
    }

    #[test]
    fn of_members_that_come_twice_the_last_wins_and_a_difference_is_marked() {
        let json = Json::parse(br#"{"source":"a","x":1,"Source":"b","X":1}"#).unwrap();
        assert_eq!(json.get("source").unwrap().as_str(), Some("b"));
        assert!(json.conflict("source") && !json.conflict("x") && json.is_doubled());
        let json = Json::parse(br#"{"m":{"a":1,"b":1},"m":{"b":2,"c":3}}"#).unwrap();
        let inner = json.get("m").unwrap();
        assert!(json.conflict("m") && inner.conflict("b") && !inner.conflict("a"));
        assert_eq!(inner.members().len(), 3);
        assert!(Json::parse(br#"{"source":"a","source":null}"#).unwrap().conflict("source"));
    }

    #[test]
    fn odd_text_is_read_as_go_reads_it() {
        for (body, text, odd) in [
            (&b"\"\xe2\x82x\xff\""[..], "\u{fffd}\u{fffd}x\u{fffd}", "invalid UTF-8"),
            (br#""\ud800A""#, "\u{fffd}A", "lone surrogate"),
            (br#""\ud800\u0041""#, "\u{fffd}A", "lone surrogate"),
            (br#""\udc00\ud83d\ude00""#, "\u{fffd}\u{1f600}", "lone surrogate"),
            (b"\xef\xbb\xbf\"x\"", "x", "byte order mark"),
        ] {
            let reading = read(body).unwrap();
            assert_eq!((reading.json.as_str(), reading.odd.words()), (Some(text), vec![odd]));
        }
        for body in
            [&b"\"\n\""[..], br#""\'""#, br#""\u12g4""#, b"01", b"+1", b"-", b"1.", b"1e", b"[1,]", b"\xff"]
        {
            assert!(read(body).is_err(), "{body:?}");
        }
        assert!(read(b"{} x").unwrap_err().is_contradiction() && !read(b"{").unwrap_err().is_contradiction());
    }

    #[test]
    fn sixty_four_megabytes_of_one_string_are_borrowed() {
        let mut body = vec![b'a'; 64 << 20];
        body[0] = b'"';
        body.push(b'"');
        assert!(matches!(Json::parse(&body), Ok(Json::Text(Cow::Borrowed(_)))));
    }

    #[test]
    fn one_name_in_two_spellings_is_a_doubled_member_as_it_is_to_the_back_end() {
        for other in ["Source", "SOURCE", "\u{17f}ource"] {
            let body = format!(r#"{{"a":[{{"source":"a","{other}":"b"}}]}}"#);
            let json = Json::parse(body.as_bytes()).unwrap();
            assert_eq!(json.doubled(), [if other.is_ascii() { other } else { "(other)" }]);
            assert_eq!(json.get("A").unwrap().elements()[0].named("source").count(), 1);
        }
        assert!(same_name("\u{212a}ey", "KEY") && !same_name("source", "sourc\u{e9}"));
        assert!(!same_name("", "a") && !same_name("ss", "\u{df}"));
        assert!(same_name("gr\u{f6}\u{df}e", "GR\u{d6}\u{1e9e}E") && !same_name("i", "\u{131}"));
    }

    #[test]
    fn a_double_among_very_many_members_is_found_in_no_time() {
        let many: String = (0..bounds::JSON_MEMBERS - 1).map(|n| format!("\"item-{n}\":0,")).collect();
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
            (br#"{"key": "secret"} secret"#, "data follows the JSON value at line 1"),
            (b"{\"key\":\n\"secret", "the body ends too early at line 2"),
            (b"", "the body ends too early"),
        ] {
            let reason = reason(body);
            assert!(reason.starts_with(expected) && !reason.contains("secret"), "{reason}");
        }
    }

    #[test]
    fn a_body_that_is_too_deep_or_too_large_is_refused() {
        let nested = |depth: usize| format!("{}0{}", "[".repeat(depth), "]".repeat(depth));
        let reading = |depth: usize| read(nested(depth).as_bytes()).map(|reading| reading.odd.words());
        assert_eq!(reading(bounds::JSON_DEPTH), Ok(vec![]));
        assert_eq!(reading(bounds::JSON_LEVELS), Ok(vec!["nested deeper than 32"]));
        assert!(reason(nested(bounds::JSON_LEVELS + 1).as_bytes()).starts_with(TOO_DEEP));
        let wide = format!("[{}0]", "0,".repeat(bounds::JSON_VALUES));
        assert!(reason(wide.as_bytes()).starts_with(TOO_MANY));
        let members = |count: usize| format!("{{{}}}", vec!["\"a\":0"; count].join(","));
        assert!(Json::parse(members(bounds::JSON_MEMBERS).as_bytes()).is_ok());
        assert!(reason(members(bounds::JSON_MEMBERS + 1).as_bytes()).starts_with(TOO_MANY_MEMBERS));
        let wrapped = format!("[{}0]", "0,".repeat(bounds::WRAPPED_VALUES));
        let why = Json::parse_wrapped(wrapped.as_bytes()).unwrap_err().to_string();
        assert!(why.starts_with(TOO_MANY_WRAPPED), "{why}");
    }

    #[test]
    fn text_that_has_to_be_decoded_is_bounded_and_other_text_is_not() {
        let plain = "x".repeat(bounds::JSON_TEXT + 1);
        assert_eq!(Json::parse(format!("\"{plain}\"").as_bytes()).unwrap().as_str(), Some(&*plain));
        for escape in ["\\n", "\\u0041"] {
            let text = format!("\"{escape}{plain}\"");
            assert!(reason(text.as_bytes()).starts_with(TOO_MUCH_TEXT));
            let parts = format!("[\"{0}{escape}\",\"{0}{escape}\"]", &plain[..bounds::JSON_TEXT / 2]);
            assert!(reason(parts.as_bytes()).starts_with(TOO_MUCH_TEXT));
        }
        let odd = [b"\"", &vec![0xff; bounds::JSON_TEXT / 3 + 1][..], b"\""].concat();
        assert!(reason(&odd).starts_with(TOO_MUCH_TEXT));
        // An escape and bytes that are no UTF-8: the text is longer than what it is written as.
        let mixed = [&b"\"\\n"[..], &[0xff; 1000], b"\\n", &[0xff; 1000], b"\""].concat();
        let bad = "\u{fffd}".repeat(1000);
        let whole = Json::parse(&mixed).unwrap();
        assert_eq!(whole.as_str(), Some(format!("\n{bad}\n{bad}").as_str()));
    }

    #[test]
    fn as_many_levels_as_go_reads_fit_on_a_workers_stack() {
        let list = |depth: usize| format!("{}0{}", "[".repeat(depth), "]".repeat(depth));
        let object = |depth: usize| format!("{}0{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        // Each level is doubled, so that all of them are merged and compared.
        let doubled =
            |depth: usize| format!("{}{{}}{}", "{\"a\":{},\"A\":".repeat(depth - 1), "}".repeat(depth - 1));
        // What tokio gives its workers.
        let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
            for nested in [list, object, doubled] {
                let body = nested(bounds::JSON_LEVELS);
                let reading = read(body.as_bytes()).unwrap();
                let mut json = &reading.json;
                for _ in 0..bounds::JSON_DEPTH {
                    json = json.elements().first().or_else(|| json.get("a")).unwrap();
                }
                assert!(matches!(json, Json::Deep(_)));
                assert!(reading.odd.words().contains(&"nested deeper than 32"));
                let copy = reading.json.clone();
                assert!(copy == reading.json && copy.doubled().len() <= 1);
                drop((copy, reading));
                assert!(reason(nested(bounds::JSON_LEVELS + 1).as_bytes()).starts_with(TOO_DEEP));
                // Neither does a body that never closes what it opens.
                assert!(reason(&body.as_bytes()[..body.len() / 2]).starts_with(TOO_EARLY));
            }
        });
        worker.unwrap().join().unwrap();
    }

    #[test]
    fn merging_into_a_large_object_or_one_with_a_long_name_has_its_limit() {
        let merged = |into: &str, times: usize| {
            let body = format!("{{\"m\":{{{into}}}{}}}", ",\"m\":{\"x\":1}".repeat(times));
            read(body.as_bytes()).map(|reading| reading.odd.words())
        };
        let many: String = (0..10_000).map(|n| format!("\"n{n}\":0,")).collect::<String>() + "\"x\":0";
        let long = format!("\"{}\":0", "n".repeat(1 << 20));
        for into in [&many, &long] {
            assert_eq!(merged(into, 5), Ok(vec!["a member twice"]));
            assert!(merged(into, 200).unwrap_err().to_string().starts_with(TOO_MANY));
        }
        // Ordinary doubles are far from it.
        assert_eq!(merged("\"a\":1", bounds::JSON_MEMBERS - 1), Ok(vec!["a member twice"]));
    }

    /// Our reading, for comparison with that of a strict reader.
    fn as_value(json: &Json<'_>) -> serde_json::Value {
        use serde_json::Value;
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => Value::Number(number.clone()),
            Json::Text(text) => Value::String(text.clone().into_owned()),
            Json::Array(list) => list.iter().map(as_value).collect(),
            Json::Object(members) => members
                .list
                .iter()
                .map(|(name, value)| (name.clone().into_owned(), as_value(value)))
                .collect(),
            Json::Huge | Json::Deep(_) => unreachable!("no value here is so large"),
        }
    }

    /// Any value whose members have names of their own, whatever their case, and whose numbers are no larger than can be
    /// told apart.
    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-9e15..9e15).prop_map(Value::from),
            (-1e-3..1e-3).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[\"\\\\/\u{0}-\u{20}\u{7f}-\u{ff}\u{2028}\u{ffff}\u{10ffff}]*".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            let members = proptest::collection::vec((any::<String>(), inner.clone()), 0..8);
            let object = members.prop_map(|members| {
                let mut seen = HashSet::new();
                members.into_iter().filter(|(name, _)| seen.insert(folded(name))).collect::<Value>()
            });
            prop_oneof![proptest::collection::vec(inner, 0..8).prop_map(Value::from), object]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = Json::parse(&bytes).map(|json| json.doubled());
        }

        #[test]
        fn nothing_that_looks_like_json_makes_the_reader_panic(
            text in r#"([\[\]{}",:\\ 0-9eE.+-]|\\u[dD][89a-fA-F0-9]{3}|"[aAsS\u{17f}]":|null|true|\u{feff}){0,60}"#,
        ) {
            let _ = Json::parse(text.as_bytes()).map(|json| json.doubled());
        }

        #[test]
        fn what_is_not_odd_is_read_as_a_strict_reader_reads_it(value in any_value(), pretty: bool) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
            let text = text.unwrap();
            let reading = read(&text).unwrap();
            prop_assert!(reading.odd.is_empty());
            // Of doubles, serde_json reads some as their neighbours; what was written was the value itself.
            prop_assert_eq!(as_value(&reading.json), value);
        }
    }
}
