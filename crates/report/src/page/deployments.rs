//! Section "Deployments": each license on each deployment, those that were heard of last first.

use super::html::cells::{bdi, mono, none, time};
use super::html::{Html, N, T, W};
use super::{Section, Truncated};
use crate::fold::deployments::{Deployment, Deployments};
use crate::input::deployment_names::DeploymentNames;
use relay_log::text::number::count;

/// Deployments listed.
const LISTED: usize = 200;
/// Addresses shown of one.
const ADDRESSES: usize = 4;

pub(super) const SECTION: Section = Section::new("deployments", "Deployments", draw);

/// The newest seen first, with the names that the allow-list has for them.
pub(super) fn listed(all: &Deployments, called: &DeploymentNames) -> Truncated<Deployment> {
    let mut rows: Vec<&Deployment> = all.rows().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.last_seen));
    let total = rows.len() as u64;
    let named = |one: &Deployment| Deployment { name: called.name(&one.source), ..one.clone() };
    Truncated { rows: rows.into_iter().take(LISTED).map(named).collect(), total }
}

fn draw(html: &mut Html<'_>) {
    let listed = &html.page.deployments;
    let rows = listed.rows.iter().take(LISTED).map(|one| {
        let above = |text: &str| if text.is_empty() { String::new() } else { format!("{}<br>", bdi(text)) };
        let addresses: Vec<_> =
            one.addresses.iter().take(ADDRESSES).map(|address| mono(&address.to_string())).collect();
        let product = match one.product() {
            (product, "") => product.to_owned(),
            (product, version) => format!("{product} {version}"),
        };
        vec![
            format!("{}{}", above(one.name.as_deref().unwrap_or_default()), mono(&one.source)),
            mono(&one.license),
            format!("{}{}", above(&product), addresses.join(" ")),
            format!("{}<br>{}", time(one.first_seen), time(one.last_seen)),
            count(one.syncs),
            format!("+{} −{}", count(one.adds), count(one.deletes)),
            one.last_consumption.map(time).unwrap_or_else(none),
        ]
    });
    let columns = [
        ("Source", W),
        ("License", W),
        ("Product, addresses", W),
        ("First and last seen", T),
        ("Syncs", N),
        ("Asked", N),
        ("Last consumption", T),
    ];
    if listed.total == 0 {
        html.instead("No deployment was seen.");
    } else {
        html.table("Deployments by license, newest seen first", &columns, rows);
    }
    html.rest(listed, LISTED, ("deployment", "deployments"), "deployments");
}
