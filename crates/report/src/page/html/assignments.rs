//! Who held what: holders, assignments over time, use against entitlement, changes.

use std::fmt::Write as _;

use jiff::civil::Date;

use super::cells::*;
use super::summary::{peak, use_said};
use super::{Html, N, T, W};
use crate::page::charts::axis::Width;
use crate::page::charts::marks::key;
use crate::page::charts::{self, LINE_INKS, Words, largest};
use crate::page::svg::Ink;
use crate::page::*;
use relay_log::text::escape::escape;
use relay_log::text::number::count;
use relay_log::text::shell::quoted;

/// Charts of use against entitlement, those with over-allocation first; the table has them all.
const USE_CHARTS: usize = 24;
/// Licenses with a chart of assignments over time.
const ASSIGNMENT_CHARTS: usize = 6;
/// Rows of the table beside the chart of assignments.
const SAMPLES: usize = 13;

impl Html<'_> {
    pub(super) fn holders(&mut self) {
        self.section("holders");
        put!(
            self,
            "<p>At {}. <b>Holds</b>: the back end has told it and not rejected it. <b>Opening</b>: from an export of the \
             product's console, unsigned. <b>Pending</b>: asked for, not answered. <b>Unknown</b>: the outcome is not \
             known. A pseudonym is shown with its key's name and its first {PSEUDONYM} digits.</p>",
            time(self.page.period.to)
        );
        let licenses = &self.page.licenses;
        for license in licenses.rows.iter().take(LICENSES) {
            put!(self, "<h3>License {}</h3>", mono(&license.license));
            let allotments = &license.allotments;
            let rows = allotments.rows.iter().take(ALLOTMENTS).map(|allotment| {
                let (counts, entitlement) = (&allotment.counts, &allotment.entitlement);
                vec![
                    bdi(&allotment.allotment),
                    allotment.access_type.as_deref().map(bdi).unwrap_or_else(none),
                    format!("<b>{}</b>", count(counts.holds)),
                    count(counts.opening),
                    format!("+{} −{}", count(counts.pending_add), count(counts.pending_delete)),
                    count(counts.unknown),
                    entitlement.units.map_or_else(|| "<span class=\"none\">not known</span>".into(), count),
                    overage(entitlement.overage),
                    cap(entitlement),
                ]
            });
            let columns = [
                ("Allotment", W),
                ("Access type", W),
                ("Holds", N),
                ("Opening", N),
                ("Pending", N),
                ("Unknown", N),
                ("Units", N),
                ("Overage", N),
                ("Cap", N),
            ];
            self.table("Counts and entitlement, as last seen in a definition", &columns, rows);
            self.more(allotments.total, ALLOTMENTS, ("allotment", "allotments"));
            for allotment in allotments.rows.iter().take(ALLOTMENTS) {
                self.holders_of(license, allotment);
            }
        }
        self.more(licenses.total, LICENSES, ("license", "licenses"));
        self.end();
    }

    pub(super) fn holders_of(&mut self, license: &License, allotment: &Allotment) {
        let holders = &allotment.holders;
        if holders.total == 0 {
            return;
        }
        put!(
            self,
            "<h4>{} <span class=\"soft\">{}</span></h4>",
            bdi(&allotment.allotment),
            count(holders.total)
        );
        let named = holders.rows.iter().any(|holder| holder.person.name.is_some());
        let rows = holders.rows.iter().take(HOLDERS).map(|holder| {
            let mut row = vec![
                pseudonym(&holder.person.subject),
                status(holder.status).into(),
                holder.since.map(time).unwrap_or_else(none),
                holder.version.filter(|version| *version > 0).map(count).unwrap_or_else(none),
            ];
            if named {
                row.insert(0, holder.person.name.as_deref().map(bdi).unwrap_or_else(none));
            }
            row
        });
        let columns = [("Name", W), ("Pseudonym", W), ("Status", W), ("Known since", T), ("Version", N)];
        let columns = if named { &columns[..] } else { &columns[1..] };
        self.table(&format!("Holders of {} of {}", allotment.allotment, license.license), columns, rows);
        if holders.total > shown(holders, HOLDERS) {
            let command = format!("state {} --at {:.0}", self.page.made.logs, self.page.period.to);
            let command = format!("{command} --license {}", quoted(&license.license));
            self.and_more(holders.total - shown(holders, HOLDERS), ("holder", "holders"), &command);
        }
    }

    pub(super) fn assignments(&mut self) {
        self.section("assignments");
        let mut drawn = 0;
        for (n, license) in self.page.licenses.rows.iter().take(LICENSES).enumerate() {
            let lines = largest(license);
            if lines.is_empty() || drawn == ASSIGNMENT_CHARTS {
                continue;
            }
            drawn += 1;
            put!(self, "<h3>License {}</h3><figure>", mono(&license.license));
            let ends: Vec<String> = lines
                .iter()
                .filter_map(|line| {
                    let (first, last) = (line.days.first()?, line.days.last()?);
                    Some(format!("{} from {} to {}", line.allotment, first.at_end, last.at_end))
                })
                .collect();
            let words = Words {
                id: &format!("assignments{n}"),
                title: &format!("Assignments of license {} over time, by allotment", license.license),
                description: &format!("{}.", ends.join(", ")),
            };
            for width in [Width::Wide, Width::Narrow] {
                self.out.push_str(&charts::assignments(license, width, words).unwrap_or_default());
            }
            put!(self, "<ul class=\"keys\">");
            for (line, ink) in lines.iter().zip(LINE_INKS) {
                put!(self, "<li>{}{}</li>", key(ink, true), bdi(&line.allotment));
            }
            put!(self, "</ul><figcaption>Assignments at the end of each day that this log knows of.");
            if license.coverage.known_from.is_some_and(|from| from > 0) && license.coverage.opening.is_none()
            {
                put!(self, " Holders before its first version are not among them.");
            }
            put!(self, "</figcaption></figure>");
            let mut columns = vec![("End of", T)];
            columns.extend(lines.iter().map(|line| (line.allotment.as_str(), N)));
            let days = samples(&lines);
            let rows = days.into_iter().map(|day| {
                let mut row = vec![day.to_string()];
                row.extend(lines.iter().map(|line| {
                    let at = line.days.iter().find(|known| known.day == day);
                    at.map_or_else(none, |day| count(day.at_end))
                }));
                row
            });
            self.table("The same as numbers", &columns, rows);
        }
        if drawn == 0 {
            self.instead("No assignment is known in this period.");
        }
        self.more_than(self.page.licenses.total, drawn as u64, ("license", "licenses"));
        self.end();
    }

    pub(super) fn usage(&mut self) {
        self.section("use");
        let mut all: Vec<(&License, &Allotment)> = self
            .page
            .licenses
            .rows
            .iter()
            .take(LICENSES)
            .flat_map(|license| {
                license.allotments.rows.iter().take(ALLOTMENTS).map(move |one| (license, one))
            })
            .filter(|(_, allotment)| !allotment.days.is_empty())
            .collect();
        if all.is_empty() {
            self.instead("No use is known in this period.");
            self.end();
            return;
        }
        put!(
            self,
            "<p>The most that was assigned at one moment of each day, against what was allowed that day as last seen in a \
             definition: units that are valid, and the overage.</p>"
        );
        let rows: Vec<_> = all.iter().map(|(license, allotment)| use_row(license, allotment)).collect();
        let columns = [
            ("License", W),
            ("Allotment", W),
            ("Peak", N),
            ("First on", T),
            ("Cap on that day", N),
            ("Days over", N),
            ("At most over", N),
        ];
        self.table("Peak use in the period", &columns, rows.into_iter());
        all.sort_by_key(|(_, allotment)| std::cmp::Reverse(allotment.over.total));
        put!(
            self,
            "<ul class=\"keys\"><li>{}peak of the day</li><li>{}cap: units and overage</li><li>{}over the cap, marked ▼</li></ul>\
             <div class=\"pair\">",
            key(Ink::Use, true),
            key(Ink::Cap, true),
            key(Ink::Over, false)
        );
        for (n, (license, allotment)) in all.iter().take(USE_CHARTS).enumerate() {
            let said = use_said(allotment);
            let words = Words {
                id: &format!("use{n}"),
                title: &format!(
                    "Use of {} of license {} against its cap",
                    allotment.allotment, license.license
                ),
                description: &said,
            };
            let chart = charts::usage(allotment, words).unwrap_or_default();
            put!(
                self,
                "<figure><h4>{} <span class=\"soft mono\">{}</span></h4>{chart}<figcaption>{}</figcaption></figure>",
                bdi(&allotment.allotment),
                escape(&license.license),
                escape(&said)
            );
        }
        put!(self, "</div>");
        self.more_than(all.len() as u64, all.len().min(USE_CHARTS) as u64, ("allotment", "allotments"));
        self.over_days(&all);
        self.end();
    }

    pub(super) fn over_days(&mut self, all: &[(&License, &Allotment)]) {
        let total: u64 = all.iter().map(|(_, allotment)| allotment.over.total).sum();
        if total == 0 {
            put!(self, "<p>On no day was more used than allowed, as far as a cap is known.</p>");
            return;
        }
        let mut stretches: Vec<_> = all
            .iter()
            .flat_map(|(license, one)| {
                stretches(&one.over.rows).into_iter().map(move |days| (license, one, days))
            })
            .collect();
        stretches.sort_by_key(|(_, _, days)| std::cmp::Reverse(days.to));
        stretches.truncate(OVER_DAYS);
        let rows = stretches.iter().map(|(license, allotment, days)| {
            let entitlement = &days.worst.entitlement;
            vec![
                days.from.to_string(),
                days.to.to_string(),
                count(days.days),
                mono(&license.license),
                bdi(&allotment.allotment),
                entitlement.units.map_or_else(none, count),
                overage(entitlement.overage),
                cap(entitlement),
                count(days.worst.peak),
                format!("<span class=\"bad\">+{}</span>", count(days.worst.over())),
                days.worst.day.to_string(),
            ]
        });
        let columns = [
            ("From", T),
            ("To", T),
            ("Days", N),
            ("License", W),
            ("Allotment", W),
            ("Units", N),
            ("Overage", N),
            ("Cap", N),
            ("Peak", N),
            ("Most over", N),
            ("On", T),
        ];
        put!(self, "<h3>Days with more than allowed</h3>");
        self.table("Over-allocated days under one cap, newest first", &columns, rows);
        let listed: u64 = stretches.iter().map(|(_, _, days)| days.days).sum();
        let command = format!("reconcile {}", self.page.made.logs);
        if total > listed {
            self.and_more(total - listed, ("day", "days"), &command);
        } else {
            put!(
                self,
                "<p class=\"more\">Each day by itself: <code>license-relay audit {}</code></p>",
                escape(&command)
            );
        }
    }

    pub(super) fn changes(&mut self) {
        self.section("changes");
        let listed = &self.page.changes;
        if listed.total == 0 {
            self.instead("The back end told no change in this period.");
            self.end();
            return;
        }
        let named = listed.rows.iter().any(|change| change.person.name.is_some());
        let rows = listed.rows.iter().take(CHANGES).map(|change| {
            let what = match change.kind {
                ChangeKind::Add => "+ assigned",
                ChangeKind::Delete => "− taken away",
                ChangeKind::Unknown => "? not known",
            };
            let result = match &change.rejection {
                Some(why) => format!("{what}<br><span class=\"bad\">rejected: {}</span>", bdi(why)),
                None => what.into(),
            };
            let mut row = vec![
                time(change.time),
                result,
                pseudonym(&change.person.subject),
                format!("{}<br>{}", bdi(&change.allotment), mono(&change.license)),
                change.version.filter(|version| *version > 0).map(count).unwrap_or_else(none),
                change
                    .asked_by
                    .as_deref()
                    .map(mono)
                    .unwrap_or_else(|| "<span class=\"none\">elsewhere</span>".into()),
            ];
            if named {
                row.insert(2, change.person.name.as_deref().map(bdi).unwrap_or_else(none));
            }
            row
        });
        let mut columns = vec![
            ("Time", T),
            ("Change", T),
            ("Pseudonym", W),
            ("Allotment and license", W),
            ("Version", N),
            ("Asked by", W),
        ];
        if named {
            columns.insert(2, ("Name", W));
        }
        self.table("Changes that the back end told, newest first", &columns, rows);
        let command = format!("changes {} --from {:.0}", self.page.made.logs, self.page.period.from);
        let listed_rows = shown(listed, CHANGES);
        if listed.total > listed_rows {
            self.and_more(
                listed.total - listed_rows,
                ("change", "changes"),
                &format!("{command} --to {:.0}", self.page.period.to),
            );
        }
        self.end();
    }

    pub(super) fn churn(&mut self) {
        let Some(churn) = &self.page.churn else { return };
        self.section("churn");
        put!(
            self,
            "<p>A unit that was taken from one person and given to another within {}. It says nothing about why.</p>",
            escape(&churn.within)
        );
        if churn.moves.total == 0 {
            put!(self, "<p>There was none.</p>");
            self.end();
            return;
        }
        let rows = churn.moves.rows.iter().take(CHURN).map(|one| {
            let hours = one.added.duration_since(one.deleted).as_secs_f64() / 3600.0;
            vec![
                time(one.deleted),
                time(one.added),
                format!("{hours:.1}"),
                person(&one.from),
                person(&one.to),
                bdi(&one.allotment),
                mono(&one.license),
            ]
        });
        let columns = [
            ("Taken", T),
            ("Given", T),
            ("Hours", N),
            ("From", W),
            ("To", W),
            ("Allotment", W),
            ("License", W),
        ];
        self.table("Moves, newest first", &columns, rows);
        self.rest(&churn.moves, CHURN, ("move", "moves"), &format!("churn --within {}", churn.within));
        self.end();
    }
}

fn use_row(license: &License, allotment: &Allotment) -> Vec<String> {
    let peak = peak(allotment);
    vec![
        mono(&license.license),
        bdi(&allotment.allotment),
        peak.map_or_else(none, |day| count(day.peak)),
        peak.map_or_else(none, |day| day.day.to_string()),
        peak.map_or_else(none, |day| cap(&day.entitlement)),
        match allotment.over.total {
            0 => "0".into(),
            days => format!("<span class=\"bad\">{}</span>", count(days)),
        },
        match allotment.days.iter().map(Day::over).max() {
            None | Some(0) => "0".into(),
            Some(most) => format!("+{}", count(most)),
        },
    ]
}

/// Days for the table beside the chart: the ends of months, or evenly spread ones where there are few; always the last.
fn samples(lines: &[&Allotment]) -> Vec<Date> {
    let mut days: Vec<Date> = lines.iter().flat_map(|line| line.days.iter().map(|day| day.day)).collect();
    days.sort_unstable();
    days.dedup();
    let ends: Vec<Date> = days.iter().copied().filter(|day| *day == day.last_of_month()).collect();
    let mut chosen = if ends.len() >= 3 { ends } else { days.clone() };
    let every = chosen.len().div_ceil(SAMPLES - 1).max(1);
    chosen = chosen.into_iter().rev().step_by(every).collect();
    chosen.reverse();
    if let Some(last) = days.last().filter(|last| chosen.last() != Some(last)) {
        chosen.push(*last);
    }
    chosen
}

/// Days with too many that follow each other, under one cap.
struct Stretch {
    from: Date,
    to: Date,
    days: u64,
    worst: Day,
}

/// Of days that are newest first.
fn stretches(days: &[Day]) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for day in days {
        match all.last_mut() {
            Some(last)
                if day.day.tomorrow().is_ok_and(|next| next == last.from)
                    && day.entitlement.cap() == last.worst.entitlement.cap() =>
            {
                last.from = day.day;
                last.days += 1;
                if day.over() > last.worst.over() {
                    last.worst = *day;
                }
            }
            _ => all.push(Stretch { from: day.day, to: day.day, days: 1, worst: *day }),
        }
    }
    all
}
