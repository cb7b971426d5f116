//! Section "Who held what": how many hold each allotment at the end of the period, and who.

use std::fmt::Write as _;

use super::{ALLOTMENTS, Allotment, HOLDERS, LICENSES, License, cap_cell, overage_cell, units};
use crate::fold::assignments::Status;
use crate::page::Section;
use crate::page::html::cells::{bdi, mono, none, not_known, time};
use crate::page::html::{Html, N, T, W};
use crate::page::people::{PSEUDONYM_DIGITS, pseudonym};
use relay_log::text::number::count;
use relay_log::text::shell::quoted;

pub(crate) const SECTION: Section = Section::new("holders", "Who held what", draw);

fn draw(html: &mut Html<'_>) {
    put!(
        html,
        "<p>At {}. <b>Holds</b>: the back end has told it and not rejected it. <b>Opening</b>: from an export of the \
         product's console, unsigned. <b>Pending</b>: asked for, not answered. <b>Unknown</b>: the outcome is not \
         known. A pseudonym is shown with its key's name and its first {PSEUDONYM_DIGITS} digits.</p>",
        time(html.page.period.to)
    );
    let licenses = &html.page.licenses;
    for license in licenses.rows.iter().take(LICENSES) {
        put!(html, "<h3>License {}</h3>", mono(license.number()));
        let allotments = &license.allotments;
        let rows = allotments.rows.iter().take(ALLOTMENTS).map(|allotment| {
            let Allotment { counts, allowed, .. } = allotment;
            let of = |status| count(counts.of(status));
            vec![
                bdi(&allotment.allotment),
                allowed.access_type.as_deref().map(bdi).unwrap_or_else(none),
                format!("<b>{}</b>", of(Status::Holds)),
                of(Status::Opening),
                format!("+{} −{}", of(Status::PendingAdd), of(Status::PendingDelete)),
                count(counts.unknown()),
                units(allowed).map_or_else(not_known, count),
                overage_cell(allowed.overage),
                cap_cell(allowed),
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
        html.table("Counts and entitlement, as last seen in a definition", &columns, rows);
        html.more(allotments.total, ALLOTMENTS, ("allotment", "allotments"));
        for allotment in allotments.rows.iter().take(ALLOTMENTS) {
            holders_of(html, license, allotment);
        }
    }
    html.more(licenses.total, LICENSES, ("license", "licenses"));
}

fn holders_of(html: &mut Html<'_>, license: &License, Allotment { allotment, holders, .. }: &Allotment) {
    if holders.total == 0 {
        return;
    }
    put!(html, "<h4>{} <span class=\"soft\">{}</span></h4>", bdi(allotment), count(holders.total));
    let named = holders.rows.iter().any(|holder| holder.name.is_some());
    let rows = holders.rows.iter().take(HOLDERS).map(|holder| {
        let one = &holder.assignment;
        let mut row = vec![
            pseudonym(&one.subject),
            status(one.status).into(),
            one.since.map(time).unwrap_or_else(none),
            Some(one.version).filter(|version| *version > 0).map(count).unwrap_or_else(none),
        ];
        if named {
            row.insert(0, holder.name.as_deref().map(bdi).unwrap_or_else(none));
        }
        row
    });
    let columns = [("Name", W), ("Pseudonym", W), ("Status", W), ("Known since", T), ("Version", N)];
    let columns = if named { &columns[..] } else { &columns[1..] };
    html.table(&format!("Holders of {allotment} of {}", license.number()), columns, rows);
    let more = holders.total.saturating_sub(holders.shown(HOLDERS));
    if more > 0 {
        let command = format!("state {} --at {:.0}", html.page.logs, html.page.period.to);
        let command = format!("{command} --license {}", quoted(license.number()));
        html.and_more(more, ("holder", "holders"), &command);
    }
}

fn status(status: Status) -> &'static str {
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
