//! One value of a row, as people, programs and spreadsheets read it.

use jiff::Timestamp;
use serde_json::Value;

use super::csv::harmless;

/// One value of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Cell {
    /// There is none, or it is not known: never zero.
    #[default]
    None,
    /// Text, whatever it holds.
    Text(String),
    /// A whole number.
    Number(i64),
    /// A number with one digit behind the point.
    Tenths(f64),
    /// A time, in UTC.
    Time(Timestamp),
    /// Yes or no.
    Flag(bool),
    /// Several texts.
    List(Vec<String>),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<Timestamp> for Cell {
    fn from(time: Timestamp) -> Self {
        Self::Time(time)
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

impl Cell {
    /// As people read it; times to the second.
    pub fn text(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Tenths(number) => format!("{number:.1}"),
            Self::Time(time) => format!("{time:.0}"),
            Self::Flag(true) => "yes".into(),
            Self::Flag(false) => "no".into(),
            Self::List(texts) => texts.join(", "),
        }
    }

    /// As a program reads it; times as they were recorded.
    pub fn json(&self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Text(text) => text.as_str().into(),
            Self::Number(number) => (*number).into(),
            Self::Tenths(number) => ((number * 10.0).round() / 10.0).into(),
            Self::Time(time) => time.to_string().into(),
            Self::Flag(flag) => (*flag).into(),
            Self::List(texts) => texts.as_slice().into(),
        }
    }

    /// As a spreadsheet reads it: text that it would take for a formula gets an apostrophe before it.
    pub(super) fn csv(&self) -> String {
        match self {
            Self::Time(time) => time.to_string(),
            Self::Text(_) | Self::List(_) => harmless(&self.text()),
            _ => self.text(),
        }
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Number(_) | Self::Tenths(_))
    }
}
