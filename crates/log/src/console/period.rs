//! Days in UTC: what a time is of, and what people write on a command line.

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

/// The day of a time.
pub fn day_of(time: Timestamp) -> Date {
    Offset::UTC.to_datetime(time).date()
}

/// When a day begins.
pub fn begin_of(day: Date) -> Timestamp {
    Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).unwrap_or(Timestamp::MAX)
}

/// The last moment of a day.
pub fn end_of(day: Date) -> Timestamp {
    day.tomorrow().map_or(Timestamp::MAX, |next| begin_of(next) - SignedDuration::from_nanos(1))
}

/// A text is no time.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoTime {
    /// It is none at all.
    #[error("\"{0}\" is no time; write 2026-06-30 or 2026-06-30T23:59:59Z (UTC)")]
    Malformed(String),
    /// It is a time that the log can't know of.
    #[error("{0} has not been yet")]
    InTheFuture(String),
    /// It ends before it begins.
    #[error("the period from {0:.0} to {1:.0} ends before it begins")]
    Backwards(Timestamp, Timestamp),
}

/// Which end of a day is meant where only a day is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Edge {
    /// Its first moment.
    Begin,
    /// Its last.
    End,
}

/// A day, or a time with its offset.
///
/// # Errors
/// It is neither.
pub fn time(text: &str, edge: Edge) -> Result<Timestamp, NoTime> {
    let malformed = || NoTime::Malformed(text.to_owned());
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if text.len() != 10 {
        return Err(malformed());
    }
    let day = text.parse::<Date>().map_err(|_| malformed())?;
    Ok(if edge == Edge::Begin { begin_of(day) } else { end_of(day) })
}

/// A period, both ends of it included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Period {
    /// Its first moment; absent: from the log's begin.
    pub from: Option<Timestamp>,
    /// Its last; absent: to the log's end.
    pub to: Option<Timestamp>,
}

impl Period {
    /// As it was written.
    ///
    /// # Errors
    /// An end is no time, they are the wrong way round, or it begins in the future.
    pub fn parse(from: Option<&str>, to: Option<&str>, now: Timestamp) -> Result<Self, NoTime> {
        let begin = from.map(|text| time(text, Edge::Begin)).transpose()?;
        let end = to.map(|text| time(text, Edge::End)).transpose()?;
        if let (Some(begin), Some(end)) = (begin, end)
            && begin > end
        {
            return Err(NoTime::Backwards(begin, end));
        }
        if let Some(text) = from.filter(|_| begin.is_some_and(|begin| begin > now)) {
            return Err(NoTime::InTheFuture(text.to_owned()));
        }
        Ok(Self { from: begin, to: end })
    }

    /// Whether a time is in it.
    pub fn has(&self, time: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= time) && self.to.is_none_or(|to| time <= to)
    }
}

/// A length of time: `90m`, `36h`, `7d`.
pub fn length(text: &str) -> Option<SignedDuration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: i64 = number.parse().ok().filter(|number| (1..=100_000).contains(number))?;
    match unit {
        "m" => Some(SignedDuration::from_mins(number)),
        "h" => Some(SignedDuration::from_hours(number)),
        "d" => Some(SignedDuration::from_hours(24 * number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_first_or_its_last_moment() {
        let shown = |text, edge| time(text, edge).unwrap().to_string();
        assert_eq!(shown("2026-06-30", Edge::Begin), "2026-06-30T00:00:00Z");
        assert_eq!(shown("2026-06-30", Edge::End), "2026-06-30T23:59:59.999999999Z");
        assert_eq!(shown("2026-06-30T12:00:00+02:00", Edge::End), "2026-06-30T10:00:00Z");
        for text in
            ["", "yesterday", "2026-13-01", "2026-02-30", "30.6.2026", "2026-06", "2026-06-30T25:00:00Z"]
        {
            assert!(time(text, Edge::End).is_err(), "{text}");
        }
    }

    #[test]
    fn a_period_that_makes_no_sense_is_none() {
        let now: Timestamp = "2026-11-27T00:00:00Z".parse().unwrap();
        assert!(Period::parse(Some("2026-06-02"), Some("2026-06-01"), now).is_err());
        assert!(Period::parse(Some("2027-06-02"), None, now).is_err());
        let june = Period::parse(Some("2026-06-01"), Some("2026-06-30"), now).unwrap();
        assert!(june.has("2026-06-30T23:59:59.5Z".parse().unwrap()));
        assert!(!june.has("2026-07-01T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn lengths_are_minutes_hours_and_days() {
        assert_eq!(length("7d"), Some(SignedDuration::from_hours(168)));
        assert_eq!(length("90m"), Some(SignedDuration::from_mins(90)));
        for text in ["", "d", "0d", "-1d", "7", "7w", "é"] {
            assert_eq!(length(text), None, "{text}");
        }
    }
}
