//! Values as HTML: escaped, and each kind of them in one way.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::page::{Covered, Entitlement, GapKind, Listed, Overage, Person, Status};
use relay_log::text::escape::escape;
use relay_log::text::number::{count, plural};

/// Digits of a pseudonym that are shown; the verbs have all 64.
pub(super) const PSEUDONYM: usize = 16;

pub(super) fn kind_name(kind: GapKind) -> &'static str {
    match kind {
        GapKind::RelayDown => "relay down",
        GapKind::Refused => "refused or limited",
        GapKind::Failing => "back end failing",
        GapKind::Silent => "source silent",
        GapKind::Around => "around the relay (inferred)",
        GapKind::NotWritten => "not written down",
    }
}

pub(super) fn kind_means(kind: GapKind) -> &'static str {
    match kind {
        GapKind::RelayDown => "the relay did not run, so nothing went through it",
        GapKind::Refused => "the source came and was turned away",
        GapKind::Failing => "the source came, the back end or the way to it did not answer",
        GapKind::Silent => "the source did not come",
        GapKind::Around => "the source came back with a version that it was not told through this relay",
        GapKind::NotWritten => "exchanges went through that the relay could not write down",
    }
}

pub(super) fn shown<R>(listed: &Listed<R>, most: usize) -> u64 {
    listed.rows.len().min(most) as u64
}

pub(super) fn status(status: Status) -> &'static str {
    match status {
        Status::Holds => "holds",
        Status::Opening => "opening, unsigned",
        Status::PendingAdd => "pending: to be added",
        Status::PendingDelete => "pending: to be taken away",
        Status::UnknownAdd => "unknown: asked to add",
        Status::UnknownDelete => "unknown: asked to take away",
        Status::Unknown => "unknown",
    }
}

pub(super) fn overage(overage: Overage) -> String {
    match overage {
        Overage::Unknown => "<span class=\"none\">not known</span>".into(),
        Overage::Units(units) => count(units),
        Overage::Unlimited => "no limit".into(),
    }
}

pub(super) fn cap(entitlement: &Entitlement) -> String {
    match (entitlement.cap(), entitlement.units) {
        (Some(cap), _) => count(cap),
        (None, Some(_)) => "no cap".into(),
        (None, None) => "<span class=\"none\">not known</span>".into(),
    }
}

pub(super) fn covered(covered: &Covered) -> String {
    let signed = covered.time.map(|at| format!(", signed {}", time(at))).unwrap_or_default();
    format!("{}{signed}; {}", plural(covered.size, "record", "records"), mono(&covered.file))
}

pub(super) fn person(person: &Person) -> String {
    match &person.name {
        Some(name) => format!("{}<br>{}", bdi(name), pseudonym(&person.subject)),
        None => pseudonym(&person.subject),
    }
}

/// The key's name and the first digits; the whole of it where it has another form.
pub(super) fn pseudonym(subject: &str) -> String {
    if subject.is_empty() {
        return "<span class=\"none\">instance only</span>".into();
    }
    let short = subject.strip_prefix("hmac-sha256:").and_then(|rest| {
        let (key, digits) = rest.split_once(':')?;
        Some(format!("{key}:{}…", digits.get(..PSEUDONYM)?))
    });
    mono(short.as_deref().unwrap_or(subject))
}

/// A source id, and below it the license that it is about.
pub(super) fn stacked(source: &str, license: Option<&str>) -> String {
    match license {
        Some(license) => format!("{}<br>{}", mono(source), mono(license)),
        None => mono(source),
    }
}

/// Text of our own that has lines.
pub(super) fn lines(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
}

pub(super) fn date(day: Date) -> String {
    format!("<time datetime=\"{day}\">{day}</time>")
}

pub(super) fn time(at: Timestamp) -> String {
    format!("<time datetime=\"{at:.0}\">{}</time>", at.strftime("%Y-%m-%d %H:%M"))
}

/// Both ends of a time, to the second where minutes would hardly tell them apart.
pub(super) fn ends(from: Timestamp, to: Timestamp) -> (String, String) {
    if to.duration_since(from).as_hours() > 0 {
        return (time(from), time(to));
    }
    let exact =
        |at: Timestamp| format!("<time datetime=\"{at:.0}\">{}</time>", at.strftime("%Y-%m-%d %H:%M:%S"));
    (exact(from), exact(to))
}

pub(super) fn bdi(text: &str) -> String {
    format!("<bdi>{}</bdi>", escape(text))
}

pub(super) fn mono(text: &str) -> String {
    format!("<bdi class=\"mono\">{}</bdi>", escape(text))
}

pub(super) fn none() -> String {
    "<span class=\"none\">–</span>".into()
}

pub(super) fn list(of: &[Cow<'_, str>]) -> String {
    match of {
        [] => "no log".into(),
        [one] => format!("<bdi>{one}</bdi>"),
        [first, rest @ ..] => {
            format!("<bdi>{first}</bdi> and {}", plural(rest.len() as u64, "other log", "other logs"))
        }
    }
}
