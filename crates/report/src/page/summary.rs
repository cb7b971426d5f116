//! Section "In short": six questions that every reader has, each answered in a sentence or two from the values of all
//! sections.

use std::fmt::Write as _;

use jiff::SignedDuration;

use super::html::Html;
use super::html::cells::{bdi, date, mono, time};
use super::licenses::{over, units};
use super::{Allotment, AllotmentConsumption, License, Month, Page, Section};
use crate::fold::assignments::Status;
use relay_log::console::period::day_of;
use relay_log::text::number::{count, number, plural};
use relay_log::verify::log::Verdict;

/// A relay that runs writes a record every minute or so: a log that ends this much before its period does, ends early.
const QUIET: SignedDuration = SignedDuration::from_hours(1);

/// How an answer is to be taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sign {
    Yes,
    No,
    Open,
}

/// An answer: how it is to be taken, and its sentences as HTML.
type Answer = (Sign, String);

pub(super) const SECTION: Section = Section::new("answers", "In short", draw);

/// How one of the questions at the top is answered from the page.
type AnswerOf = fn(&Page) -> Answer;

fn draw(html: &mut Html<'_>) {
    let answers: [(&str, AnswerOf); 6] = [
        ("Is the log whole?", whole),
        ("Is anything missing?", missing),
        ("Is the list of holders complete?", complete),
        ("Was anything over-allocated?", over_allocated),
        ("Was more consumed than the quota?", over_consumed),
        ("Could the relay's own administrator have changed it unseen?", protected),
    ];
    put!(html, "<dl class=\"answers\">");
    for (question, answer) in answers {
        let (sign, words) = answer(html.page);
        let (class, mark, spoken) = match sign {
            Sign::Yes => ("yes", "✓", "good"),
            Sign::No => ("no", "!", "attention"),
            Sign::Open => ("open", "?", "with limits"),
        };
        put!(
            html,
            "<div><span class=\"sign {class}\" role=\"img\" aria-label=\"{spoken}\">{mark}</span><dt>{question}</dt>\
             <dd>{words}</dd></div>"
        );
    }
    put!(html, "</dl>");
}

/// The worst that was found of any log, if it is worse than gaps that the log itself tells of.
fn worst(page: &Page) -> Option<Verdict> {
    Some(page.verdict()).filter(|worst| !matches!(worst, Verdict::Fine | Verdict::Gaps))
}

/// Where the log ends before the period that was asked for does, or begins after it.
fn outside(page: &Page) -> Option<String> {
    let (first, last) = page.period.known?;
    let asked = page.period.asked;
    let late = asked.from.is_some_and(|from| from < first);
    let until = asked.to.map(|to| to.min(page.made.at));
    let early = until.is_some_and(|until| until.duration_since(last) > QUIET);
    match (late, early) {
        (false, false) => None,
        (true, false) => {
            Some(format!("The log begins {}; nothing is known of the time before.", time(first)))
        }
        (false, true) => Some(format!("The log ends {}; nothing is known of the time after.", time(last))),
        (true, true) => Some(format!(
            "The log begins {} and ends {}; nothing is known of the time before and after.",
            time(first),
            time(last)
        )),
    }
}

/// An answer about the period, as far as the log can speak for it: a plain yes rests on a log that is whole and knows
/// all of the period.
fn as_far_as_known(page: &Page, (sign, words): Answer) -> Answer {
    if let Some(nothing) = page.period.nothing_known() {
        return (Sign::Open, nothing);
    }
    let doubt = worst(page).map(|verdict| match verdict {
        Verdict::RolledBack => "this log is not what an anchor covers",
        Verdict::StaleTail => "the end of the log is not signed, and nothing shows who wrote it",
        _ => "what was changed or is missing is not counted",
    });
    let (sign, words) = match (doubt, sign) {
        (None, _) => (sign, words),
        (Some(doubt), Sign::No) => (sign, format!("{words} Beyond this it can't be told: {doubt}.")),
        (Some(doubt), Sign::Yes) => (Sign::Open, format!("<b>That can't be told</b>: {doubt}.")),
        (Some(doubt), Sign::Open) => {
            (sign, format!("<b>That can't be told</b>: {doubt}. What is left says: {words}"))
        }
    };
    match (outside(page), sign) {
        (None, _) => (sign, words),
        (Some(outside), Sign::No) => (sign, format!("{words} {outside}")),
        (Some(outside), _) => (Sign::Open, format!("{words} {outside}")),
    }
}

fn whole(page: &Page) -> Answer {
    let unsigned: u64 = page.evidence.iter().map(|log| log.verified.unsigned).sum();
    let records: u64 = page.evidence.iter().map(|log| log.verified.records).sum();
    match worst(page) {
        None if records == 0 => (Sign::Open, "There is no record in it that can be read.".into()),
        None if unsigned > 0 => (
            Sign::Open,
            format!(
                "{} of {} as signed; {} not signed (yet), and nothing shows who wrote {}.",
                count(records.saturating_sub(unsigned)),
                plural(records, "record is", "records are"),
                plural(unsigned, "is", "are"),
                if unsigned == 1 { "it" } else { "them" }
            ),
        ),
        None => {
            let words = plural(records, "record is as it was", "records are as they were");
            (Sign::Yes, format!("Yes: {words} signed."))
        }
        Some(Verdict::Damaged) => {
            let faults: u64 = page.evidence.iter().map(|log| log.faults().total).sum();
            (
                Sign::No,
                format!(
                    "<b>No</b>: {} found in lines, segments or checkpoints; <a href=\"#evidence\">which</a>. What can be read \
                     is listed all the same.",
                    plural(faults, "fault was", "faults were")
                ),
            )
        }
        Some(Verdict::RolledBack) => (
            Sign::No,
            "<b>No</b>: a checkpoint that was kept elsewhere covers more than this log has, or another history.".into(),
        ),
        Some(_) => (
            Sign::No,
            "<b>Up to its last checkpoint</b>: what follows is not signed, and older than a running relay leaves it.".into(),
        ),
    }
}

fn missing(page: &Page) -> Answer {
    let holes: u64 = page.licenses.rows.iter().map(|license| license.coverage.holes.len() as u64).sum();
    let unwritten: u64 = page.evidence.iter().map(|log| log.verified.gaps).sum();
    let gaps = page.gap_sums.iter().map(|sum| sum.gaps).sum::<u64>();
    let mut parts = Vec::new();
    if unwritten > 0 {
        parts.push(format!(
            "{} went through without being written down",
            plural(unwritten, "exchange", "exchanges")
        ));
    }
    if holes > 0 {
        parts.push(format!(
            "{} in the versions (inferred) went around this relay",
            plural(holes, "hole", "holes")
        ));
    }
    if page.not_understood.total > 0 {
        parts.push(format!(
            "{} not understood",
            plural(page.not_understood.total, "deployment is", "deployments are")
        ));
    }
    let silence = match gaps {
        0 if page.syncs.is_none() => "but no source came".to_owned(),
        0 => "every source came in its rhythm".to_owned(),
        gaps => format!(
            "{} in the rhythm of sources, <a href=\"#syncs\">each with its kind</a>",
            plural(gaps, "gap", "gaps")
        ),
    };
    let answer = if parts.is_empty() {
        let sign = if gaps == 0 && page.syncs.is_some() { Sign::Yes } else { Sign::Open };
        (sign, format!("Nothing that is known of; {silence}."))
    } else {
        (Sign::No, format!("<b>Yes</b>: {}; {silence}.", parts.join("; ")))
    };
    as_far_as_known(page, answer)
}

fn complete(page: &Page) -> Answer {
    let licenses = &page.licenses.rows;
    let later = licenses.iter().filter(|license| license.coverage.known_from != Some(0)).count() as u64;
    let holes = licenses.iter().filter(|license| !license.coverage.holes.is_empty()).count() as u64;
    let before = format!(
        "of {}, holders before the first version seen are not known to this log",
        plural(later, "license", "licenses")
    );
    let gone = format!("of {}, versions are missing", plural(holes, "license", "licenses"));
    let how = "<a href=\"#coverage\">How far each is known</a>.";
    let how = format!("{how}{}", cut(page));
    let answer = match (later, holes) {
        _ if licenses.is_empty() => (Sign::Open, "No license was spoken of, so no holder is known.".into()),
        (0, 0) => (
            Sign::Yes,
            format!("Yes: each license is known from its first version on, without a hole.{}", cut(page)),
        ),
        (0, _) => (Sign::No, format!("<b>No</b>: {gone}. {how}")),
        (_, 0) => (Sign::Open, format!("From the first version seen on, yes; {before}. {how}")),
        _ => (Sign::No, format!("<b>No</b>: {gone}; {before}. {how}")),
    };
    as_far_as_known(page, answer)
}

/// What an answer must add where not all licenses or allotments are on the page.
fn cut(page: &Page) -> String {
    let licenses = page.licenses.total.saturating_sub(page.licenses.rows.len() as u64);
    let missing =
        |license: &License| license.allotments.total.saturating_sub(license.allotments.rows.len() as u64);
    let allotments: u64 = page.licenses.rows.iter().map(missing).sum();
    match (licenses, allotments) {
        (0, 0) => String::new(),
        (0, more) => format!(" {} not on this page.", plural(more, "allotment is", "allotments are")),
        (more, _) => format!(" {} not on this page.", plural(more, "license is", "licenses are")),
    }
}

fn over_allocated(page: &Page) -> Answer {
    let all = || {
        page.licenses
            .rows
            .iter()
            .flat_map(|license| license.allotments.rows.iter().map(move |one| (license, one)))
    };
    let worst = all()
        .filter_map(|(license, allotment)| {
            let day = allotment.days.iter().max_by_key(|day| over(day))?;
            Some((license, allotment, day))
        })
        .filter(|(_, _, day)| over(day) > 0)
        .max_by_key(|(_, _, day)| over(day));
    let unknown = all()
        .filter(|(_, one)| one.counts.of(Status::Holds) > 0 && units(&one.allowed).is_none())
        .count() as u64;
    let limits = match unknown {
        0 => String::new(),
        unknown => format!(
            " Of {} no definition was seen, so no cap is known.",
            plural(unknown, "allotment", "allotments")
        ),
    };
    // Who held something before the log began is in no count.
    let is_open = |license: &&License| {
        license.opening.is_none() && license.coverage.known_from != Some(0)
            || !license.coverage.holes.is_empty()
    };
    let at_least = page.licenses.rows.iter().filter(is_open).count() as u64;
    let limits = match at_least {
        0 => limits,
        some => format!(
            "{limits} Of {}, not all holders are known, so use is at least what is shown.",
            plural(some, "license", "licenses")
        ),
    };
    let limits = format!("{limits}{}", cut(page));
    let answer = match worst {
        Some((license, allotment, day)) => {
            let days_over = |one: &Allotment| one.days_over().count() as u64;
            let days: u64 = all().map(|(_, one)| days_over(one)).sum();
            let several = all().filter(|(_, one)| days_over(one) > 0).count() > 1;
            let each = if several { ", those of each allotment counted" } else { "" };
            (
                Sign::No,
                format!(
                    "<b>Yes</b>: on {}{each}; the most was {} too many of {} of {}, on {}.{limits}",
                    plural(days, "day", "days"),
                    count(over(day)),
                    bdi(&allotment.allotment),
                    mono(license.number()),
                    date(day.used.day)
                ),
            )
        }
        None if unknown > 0 => (Sign::Open, format!("Not where a cap is known.{limits}")),
        None if at_least > 0 => (Sign::Open, format!("Not as far as holders are known.{limits}")),
        None if all().next().is_none() => {
            (Sign::Open, format!("No allotment was spoken of, so no use and no cap is known.{limits}"))
        }
        None => (Sign::Yes, format!("No, on no day of the period.{limits}")),
    };
    as_far_as_known(page, answer)
}

/// Of the months of the period, as long as they are shown.
fn over_consumed(page: &Page) -> Answer {
    let begin = day_of(page.period.from).first_of_month();
    let reported = || {
        let months = |one: &AllotmentConsumption| -> Vec<Month> {
            let shown = one.newest().iter().filter(|month| month.month >= begin && month.at_most() > 0.0);
            shown.copied().collect()
        };
        page.consumption.iter().map(move |one| (one, months(one))).filter(|(_, months)| !months.is_empty())
    };
    let worst = |consumed: fn(&Month) -> f64| {
        let above = move |month: &Month| month.quota().map(|quota| consumed(month) - quota);
        let all = reported().flat_map(|(one, months)| months.into_iter().map(move |month| (one, month)));
        let mut over: Vec<_> = all.filter_map(|(one, month)| Some((one, month, above(&month)?))).collect();
        over.retain(|(_, _, above)| *above > 0.0);
        let count = over.len() as u64;
        let (one, month, _) = over.into_iter().max_by(|a, b| a.2.total_cmp(&b.2))?;
        let quota = number(month.quota().unwrap_or(0.0));
        let (name, license, when) = (bdi(&one.allotment), mono(&one.license), month.month.strftime("%Y-%m"));
        Some((
            count,
            format!("{name} of {license}, {when}, {} of {quota}.{}", used(&month), one.ended_words()),
        ))
    };
    let unknown = reported().filter(|(_, months)| months.iter().any(|month| month.quota().is_none())).count();
    let limits = match unknown as u64 {
        0 => String::new(),
        unknown => format!(
            " Of {}, no quota is known for some month, or there is no limit.",
            plural(unknown, "allotment", "allotments")
        ),
    };
    let others = |count: u64| match count {
        0 | 1 => String::new(),
        count => format!(
            " The same in {}, those of each allotment counted; <a href=\"#consumption\">which</a>.",
            plural(count - 1, "other month", "other months")
        ),
    };
    let answer = if let Some((count, most)) = worst(Month::certain) {
        (Sign::No, format!("<b>Yes</b>: {most}{}{limits}", others(count)))
    } else if let Some((count, most)) = worst(Month::at_most) {
        (
            Sign::Open,
            format!("It may be, if what has no known outcome counts: {most}{}{limits}", others(count)),
        )
    } else if reported().next().is_none() {
        (Sign::Open, "No consumption was reported through this relay in this period.".into())
    } else if unknown > 0 {
        (Sign::Open, format!("Not where a quota is known.{limits}"))
    } else {
        (Sign::Yes, "No, in no month of the period.".into())
    };
    as_far_as_known(page, answer)
}

fn used(month: &Month) -> String {
    if month.at_most() > month.certain() {
        format!("between {} and {}", number(month.certain()), number(month.at_most()))
    } else {
        number(month.certain())
    }
}

fn protected(page: &Page) -> Answer {
    let without = page.evidence.iter().filter(|log| log.verified.protected_since().is_none()).count() as u64;
    let kept = "if they were out of reach since then";
    match page.evidence.iter().filter_map(|log| log.verified.protected_since()).max() {
        Some(since) if without == 0 => (
            Sign::Yes,
            format!(
                "Not what the anchors cover, {kept}: the oldest is of {}; <a href=\"#evidence\">how far each reaches</a>.",
                time(since)
            ),
        ),
        Some(since) => (
            Sign::Open,
            format!(
                "Of {}, yes: no anchor was given that covers anything. The others have anchors since {}, {kept}.",
                plural(without, "log", "logs"),
                time(since)
            ),
        ),
        None => (
            Sign::Open,
            "<b>That can't be ruled out</b>: no checkpoint that was kept elsewhere was given, and only such a one shows it.".into(),
        ),
    }
}
