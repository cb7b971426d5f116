//! The shape of a body: member names and types, no values. What may be shown of a message that isn't understood, and
//! what a vocabulary can be made of.

use std::fmt;

use super::json::{Json, same_name};
use super::message::heap;
use super::terms::{is_field, is_made_of, shown_name};
use crate::bounds;
use relay_log::text::redact::HIDDEN;

/// Where the text of a shape is long enough: what is left is room for the brackets that are open.
const FULL: usize = bounds::SHAPE - 8 * bounds::JSON_DEPTH;

/// A shape. In the log it is text, as in `{source:text,changes:[{user:text,units:number}]}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Shape {
    /// `null`, where nothing else ever stood.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string.
    Text,
    /// Now this, now that.
    Any,
    /// Not looked at: too much of it.
    Cut,
    /// An array, and what its elements have in all; `None` where it is empty.
    Array(Option<Box<Self>>),
    /// An object's members, in order.
    Object(Vec<(String, Self)>),
}

impl Shape {
    /// The shape of a body. Of an array it has what the first elements have in all.
    pub fn of(json: &Json<'_>) -> Self {
        Self::within(json, &mut { bounds::SHAPE_VALUES })
    }

    fn within(json: &Json<'_>, left: &mut usize) -> Self {
        let Some(fewer) = left.checked_sub(1) else { return Self::Cut };
        *left = fewer;
        match json {
            Json::Null => Self::Null,
            Json::Bool(_) => Self::Bool,
            Json::Number(_) | Json::Huge => Self::Number,
            Json::Text(_) => Self::Text,
            Json::Deep(_) => Self::Cut,
            Json::Array(elements) => {
                let shapes = elements.iter().take(bounds::SHAPE_ELEMENTS).map(|e| Self::within(e, left));
                Self::Array(shapes.reduce(Self::and).map(Box::new))
            }
            Json::Object(_) => {
                let mut members = Vec::new();
                let fields =
                    json.members().iter().take(bounds::SHAPE_MEMBERS).any(|(name, _)| is_field(name));
                for (name, value) in json.members().iter().take(bounds::SHAPE_MEMBERS) {
                    let shape = Self::within(value, left);
                    add(&mut members, if fields { shown_name(name) } else { HIDDEN }, shape);
                }
                if json.members().len() > bounds::SHAPE_MEMBERS {
                    members.push((String::new(), Self::Cut));
                }
                Self::Object(members)
            }
        }
    }

    /// What both have in all.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Null | Self::Cut, shape) | (shape, Self::Null | Self::Cut) => shape,
            (Self::Array(a), Self::Array(b)) => match (a, b) {
                (Some(a), Some(b)) => Self::Array(Some(Box::new(a.and(*b)))),
                (a, b) => Self::Array(a.or(b)),
            },
            (Self::Object(mut a), Self::Object(b)) => {
                for (name, shape) in b {
                    add(&mut a, &name, shape);
                }
                Self::Object(a)
            }
            _ => Self::Any,
        }
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Array(Some(element)) => size_of::<Self>() + element.bytes(),
            Self::Object(members) => {
                let member =
                    |(name, shape): &(String, Self)| size_of::<String>() + heap(name.len()) + shape.bytes();
                size_of::<Self>() + members.iter().map(member).sum::<usize>()
            }
            _ => size_of::<Self>(),
        }
    }

    /// What of it may be told outside the site. The log shows any plain name beside one that fields have; here such names
    /// must not outnumber those that fields have, so that a map of people in which one is called as a field tells nothing of
    /// the others, and none may have the digits of an id.
    pub(super) fn for_strangers(&self) -> Self {
        match self {
            Self::Array(Some(element)) => Self::Array(Some(Box::new(element.for_strangers()))),
            Self::Object(all) => {
                let names = || all.iter().map(|(name, _)| name.as_str());
                let fields = names().filter(|name| is_plain_field(name)).count();
                let others = names().filter(|name| !matches!(*name, "" | HIDDEN)).count() - fields;
                let mut members = Vec::new();
                for (name, shape) in all {
                    let shown = name.is_empty()
                        || is_plain_field(name)
                        || (others <= fields && shown_name(name) == name && has_few_digits(name));
                    add(&mut members, if shown { name } else { HIDDEN }, shape.for_strangers());
                }
                Self::Object(members)
            }
            other => other.clone(),
        }
    }

    /// Reads a shape from a log; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let shape = value(&mut rest, bounds::JSON_DEPTH + 1)?;
        rest.is_empty().then_some(shape)
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool => out.push_str("bool"),
            Self::Number => out.push_str("number"),
            Self::Text => out.push_str("text"),
            Self::Any => out.push_str("any"),
            Self::Cut => out.push('…'),
            _ if out.len() > FULL => out.push('…'),
            Self::Array(element) => {
                out.push('[');
                if let Some(element) = element {
                    element.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (at, (name, shape)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    if name.is_empty() || out.len() > FULL {
                        out.push('…');
                        break;
                    }
                    out.push_str(name);
                    out.push(':');
                    shape.write(out);
                }
                out.push('}');
            }
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out);
        f.write_str(&out)
    }
}

/// Whether a name is made of nothing but words that fields are named by.
pub(super) fn is_plain_field(name: &str) -> bool {
    shown_name(name) == name && has_few_digits(name) && is_made_of(name, &[])
}

fn has_few_digits(name: &str) -> bool {
    name.bytes().filter(u8::is_ascii_digit).count() <= bounds::NAME_DIGITS
}

fn add(members: &mut Vec<(String, Shape)>, name: &str, shape: Shape) {
    let full = members.len() >= bounds::SHAPE_MEMBERS;
    match members.iter_mut().find(|(known, _)| same_name(known, name)) {
        Some((_, known)) => *known = std::mem::replace(known, Shape::Null).and(shape),
        None if !full => members.push((name.to_owned(), shape)),
        None => {}
    }
}

fn value(rest: &mut &str, depth: usize) -> Option<Shape> {
    let inner = depth.checked_sub(1)?;
    if let Some(after) = rest.strip_prefix('[') {
        *rest = after;
        let element = if rest.starts_with(']') { None } else { Some(Box::new(value(rest, inner)?)) };
        *rest = rest.strip_prefix(']')?;
        return Some(Shape::Array(element));
    }
    if let Some(after) = rest.strip_prefix('{') {
        *rest = after;
        let mut members = Vec::new();
        while !rest.starts_with('}') {
            if !members.is_empty() {
                *rest = rest.strip_prefix(',')?;
            }
            if let Some(after) = rest.strip_prefix('…') {
                *rest = after;
                members.push((String::new(), Shape::Cut));
                break;
            }
            let (name, after) = rest.split_once(':')?;
            *rest = after;
            members.push((name.to_owned(), value(rest, inner)?));
        }
        *rest = rest.strip_prefix('}')?;
        return Some(Shape::Object(members));
    }
    let words = [
        ("null", Shape::Null),
        ("bool", Shape::Bool),
        ("number", Shape::Number),
        ("text", Shape::Text),
        ("any", Shape::Any),
        ("…", Shape::Cut),
    ];
    let (word, shape) = words.into_iter().find(|(word, _)| rest.starts_with(word))?;
    *rest = &rest[word.len()..];
    Some(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(body: &str) -> String {
        Shape::of(&Json::parse(body.as_bytes()).unwrap()).to_string()
    }

    #[test]
    fn an_object_that_may_be_a_map_of_people_shows_no_names() {
        let shape = |body: &str| Shape::of(&Json::parse(body.as_bytes()).unwrap()).to_string();
        assert_eq!(
            shape(r#"{"source":"x","assignments":{"bob":{"allotment":"a"},"carol":{"allotment":"b"}}}"#),
            "{source:text,assignments:{(other):{allotment:text}}}"
        );
        assert_eq!(shape(r#"{"bob.smith":1}"#), "{(other):number}");
        assert_eq!(shape(r#"{"op":"x","n":[{"who":"a","rank":1}]}"#), "{op:text,n:[{who:text,rank:number}]}");
        assert_eq!(shape(r#"{"sourceSystemCode":1,"x9":2}"#), "{sourceSystemCode:number,x9:number}");
    }

    #[test]
    fn a_shape_shows_names_and_types_only() {
        let body = r#"{"op":"x","n":[{"who":"ACME\\bob"}],"ACME\\bob":true,"9":null}"#;
        assert_eq!(shape(body), "{op:text,n:[{who:text}],(other):bool}");
    }

    #[test]
    fn an_array_shows_what_its_elements_have_in_all() {
        assert_eq!(shape(r#"[null,{},{"id":1,"b":null},{"b":"x","ID":2},[]]"#), "[any]");
        assert_eq!(shape(r#"[null,{},{"id":1,"b":null},{"b":"x","ID":"2"}]"#), "[{id:any,b:text}]");
        assert_eq!(shape(r#"{"id":[[],[1]],"b":[]}"#), "{id:[[number]],b:[]}");
    }

    #[test]
    fn a_shape_is_bounded_whatever_the_body() {
        let wide: String =
            (0..10_000).map(|n| format!("\"a_rather_long_name_{n}\":{{\"x\":[1]}},")).collect();
        let mut body = format!("{{{wide}\"z\":1}}");
        for _ in 0..20 {
            body = format!("{{\"a\":[{body}],\"b\":{body}}}").chars().take(4_000_000).collect();
            let Ok(json) = Json::parse(body.as_bytes()) else { break };
            let text = Shape::of(&json).to_string();
            assert!(text.len() <= bounds::SHAPE, "{}", text.len());
            assert!(Shape::parse(&text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        for text in ["{}", "[]", "[{a:text,b:[number],c:{d:any}}]", "{a:…,…}", "null"] {
            assert_eq!(Shape::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "{", "{a}", "[text,text]", "texts", "no body", &"[".repeat(1000)] {
            assert_eq!(Shape::parse(text), None, "{text:.20}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[{}\\[\\]:,a-z…]{0,60}") {
            let _ = Shape::parse(&text);
        }
    }
}
