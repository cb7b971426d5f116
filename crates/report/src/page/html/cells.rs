//! Values as HTML: escaped, and each kind of them in one way.

use jiff::Timestamp;
use jiff::civil::Date;

use relay_log::text::escape::escape;

/// A day.
pub(crate) fn date(day: Date) -> String {
    format!("<time datetime=\"{day}\">{day}</time>")
}

/// A time, to the minute.
pub(crate) fn time(at: Timestamp) -> String {
    format!("<time datetime=\"{at:.0}\">{}</time>", at.strftime("%Y-%m-%d %H:%M"))
}

/// Both ends of a time, to the second where minutes would hardly tell them apart.
pub(crate) fn ends(from: Timestamp, to: Timestamp) -> (String, String) {
    if to.duration_since(from).as_hours() > 0 {
        return (time(from), time(to));
    }
    let exact =
        |at: Timestamp| format!("<time datetime=\"{at:.0}\">{}</time>", at.strftime("%Y-%m-%d %H:%M:%S"));
    (exact(from), exact(to))
}

/// Text of others, which may run from right to left.
pub(crate) fn bdi(text: &str) -> String {
    format!("<bdi>{}</bdi>", escape(text))
}

/// Text of others that is an id, a number or a path.
pub(crate) fn mono(text: &str) -> String {
    format!("<bdi class=\"mono\">{}</bdi>", escape(text))
}

/// In place of a value that is not there.
pub(crate) fn none() -> String {
    "<span class=\"none\">–</span>".into()
}

/// In place of a number that is not known.
pub(crate) fn not_known() -> String {
    "<span class=\"none\">not known</span>".into()
}
