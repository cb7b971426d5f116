//! The report page: one reading of the logs through all folds at once, and one file of HTML.
//!
//! A section of the page is one file (or folder) here: the folds that it takes, the values that they come to, how many
//! rows it lists at most, and its drawing. This file says which records go to which section, and in which order the
//! sections stand. A [`Page`] holds the values of all sections, so that it can be drawn without a log, and its length is
//! bounded by the sections' constants. Times are UTC. No value is escaped here; the drawings do that.

#[macro_use]
mod html;

mod changes;
mod charts;
mod churn;
mod clock;
mod consumption;
mod denied;
mod deployments;
mod evidence;
mod frame;
mod licenses;
mod not_understood;
mod notes;
mod people;
mod period;
mod summary;
mod svg;
mod syncs;
mod truncated;

use std::path::PathBuf;

use jiff::SignedDuration;

use super::ask::evidence::{self as verdicts, Made};
use super::fold::account::Account;
use super::fold::consumption::Consumption;
use super::fold::coverage::Coverage;
use super::fold::deployments::{Deployment, Deployments};
use super::fold::gaps::find::Rhythm;
use super::fold::not_understood::{Unread, Who};
use super::fold::refusals::Denied;
use super::input::deployment_names::DeploymentNames;
use super::input::names::Names;
use super::input::opening::OpeningHolder;
use super::read::merge::ReadError;
use super::read::open::{self, Read};
use html::Html;
use relay_log::console::period::Period;
use relay_log::ledger::entry::Entry;
use relay_log::verify::log::Verdict;

pub use changes::{CHANGES, ListedChange};
pub use churn::{ListedMove, MovedUnits};
pub use clock::ClockSkew;
pub use consumption::{AllotmentConsumption, Month};
pub use evidence::Evidence;
pub use frame::NameCounts;
pub use licenses::{Allotment, HOLDERS, Holder, License, Opening};
pub use people::Person;
pub use period::KnownPeriod;
pub use syncs::gaps::{GapKind, GapSum, ListedGap};
pub use syncs::strip::{STRIP_SOURCES, Strip, StripCell, Syncs};
pub use truncated::Truncated;

/// The sections in the order in which they stand on the page.
const SECTIONS: &[Section] = &[
    not_understood::SECTION,
    summary::SECTION,
    licenses::coverage::SECTION,
    licenses::holders::SECTION,
    licenses::over_time::SECTION,
    licenses::usage::SECTION,
    syncs::SECTION,
    consumption::SECTION,
    deployments::SECTION,
    changes::SECTION,
    denied::SECTION,
    churn::SECTION,
    clock::SECTION,
    evidence::SECTION,
];

/// A section of the page: its place in the table of contents, and what draws it.
struct Section {
    /// What links lead to.
    id: &'static str,
    title: &'static str,
    /// Its class in the style; empty for most.
    class: &'static str,
    /// Whether it stands on this page.
    is_on: fn(&Page) -> bool,
    /// Draws what stands below its title.
    draw: fn(&mut Html<'_>),
}

impl Section {
    /// One that stands on every page.
    const fn new(id: &'static str, title: &'static str, draw: fn(&mut Html<'_>)) -> Self {
        Self { id, title, class: "", is_on: |_| true, draw }
    }
}

/// The values of the whole page.
#[derive(Debug)]
pub struct Page {
    /// When and with which command it was made.
    pub made: Made,
    /// The part of the command that names the logs (`--log DIR …`), for the commands that the page tells to run.
    pub logs: String,
    /// What of the log it is about.
    pub period: KnownPeriod,
    /// How many pseudonyms were resolved to names.
    pub names: NameCounts,
    /// Sentences about what is not on the page, such as records that are newer than this program.
    pub notes: Vec<String>,
    /// Deployments that say something that is not understood, most bodies first.
    pub not_understood: Truncated<(Who, Unread)>,
    /// Each license, in the order shown. Where not all are, those with holes or over-allocated days come first, so that
    /// what is cut has neither if it can be helped; the answers speak of the licenses that are here, and say so.
    pub licenses: Truncated<License>,
    /// Syncs of each source over the period; `None` where there was no sync.
    pub syncs: Option<Syncs>,
    /// Gaps in the rhythm of sources, and those the log itself tells of: newest first.
    pub gaps: Truncated<ListedGap>,
    /// Minutes of all gaps in the period by kind, and how many gaps of each there are; kinds without gaps left out.
    pub gap_sums: Vec<GapSum>,
    /// Consumption by license and allotment.
    pub consumption: Vec<AllotmentConsumption>,
    /// Deployments, newest seen first.
    pub deployments: Truncated<Deployment>,
    /// What the back end told in the period, newest first.
    pub changes: Truncated<ListedChange>,
    /// Refusals summed by what they have in common, most often first.
    pub denied: Truncated<Denied>,
    /// Units that moved between people; only where it was asked for.
    pub churn: Option<MovedUnits>,
    /// The largest difference between our clock and the back end's; `None` where no reply told a time.
    pub clock: Option<ClockSkew>,
    /// What all of this rests on, a block for each log.
    pub evidence: Vec<Evidence>,
}

impl Page {
    /// The worst verdict on any of its logs.
    pub fn verdict(&self) -> Verdict {
        verdicts::worst(self.evidence.iter().map(|log| log.verified.verdict()))
    }
}

/// What a report is asked for.
#[derive(Debug)]
pub struct ReportOptions {
    /// The logs.
    pub logs: Vec<PathBuf>,
    /// Checkpoints that were kept elsewhere.
    pub anchors: Vec<PathBuf>,
    /// Of each log only so many records, the first ones; of a log that is not in this list, all.
    pub sizes: Vec<u64>,
    /// Of this time; holders are those of its end.
    pub period: Period,
    /// Who is who.
    pub names: Names,
    /// What deployments are called.
    pub called: DeploymentNames,
    /// Who held what before the log began, and the file that says so.
    pub opening: Option<(PathBuf, Vec<OpeningHolder>)>,
    /// Units that moved between people within this time, and how it was written; only where it is asked for.
    pub churn: Option<(SignedDuration, String)>,
    /// By whom.
    pub made: Made,
    /// How the logs were named, for the commands that the page tells to run.
    pub named: String,
}

/// Reads the logs and makes the page.
///
/// # Errors
/// A log can't be read.
pub fn report(options: ReportOptions, progress: impl FnMut(u64) + Send) -> Result<Page, ReadError> {
    let mut folds = Folds::new(&options);
    let mut coverage = Coverage::default();
    let period = options.period;
    let mut read = open::read(&options.logs, &options.anchors, &options.sizes, progress, |log, entry| {
        if period.to.is_none_or(|to| entry.time <= to) {
            folds.take(log, entry, &coverage, period);
            coverage.take(log, entry);
        }
        true
    })?;
    read.cover(&mut coverage);
    Ok(folds.finish(read, options))
}

/// The page as one file of HTML.
pub fn render(page: &Page) -> String {
    let mut html = Html::new(page);
    frame::head(&mut html);
    for section in SECTIONS.iter().filter(|section| (section.is_on)(page)) {
        html.section(section);
    }
    frame::foot(&mut html);
    html.out
}

/// What the sections take of the records.
#[derive(Default)]
struct Folds {
    account: Account,
    rhythm: Rhythm,
    consumption: Consumption,
    deployments: Deployments,
    changes: changes::LatestChanges,
    denied: denied::Sums,
    churn: Option<churn::LatestMoves>,
    clock: clock::Comparison,
    evidence: evidence::Origins,
}

impl Folds {
    fn new(options: &ReportOptions) -> Self {
        let opening = options.opening.as_ref().map(|(_, held)| held.as_slice()).unwrap_or_default();
        Self {
            account: Account::opened_with(opening),
            churn: options.churn.clone().map(|(within, written)| churn::LatestMoves::new(within, written)),
            ..Self::default()
        }
    }

    /// The next record that is not behind the period; `coverage` has taken all before it.
    fn take(&mut self, log: usize, entry: &Entry<'_>, coverage: &Coverage, period: Period) {
        self.evidence.take(log, entry);
        self.rhythm.take(log, entry);
        self.consumption.take(log, entry);
        self.deployments.take(log, entry);
        self.clock.take(log, entry);
        let change = self.account.take(log, entry, coverage);
        if !period.has(entry.time) {
            return;
        }
        self.denied.take(entry);
        if let Some(change) = change {
            if let Some(churn) = &mut self.churn {
                churn.take(&change, entry.time);
            }
            self.changes.take(entry, &change, &self.account.all);
        }
    }

    /// The values of the page, once all is read.
    fn finish(mut self, read: Read, options: ReportOptions) -> Page {
        let ReportOptions { sizes, mut names, called, opening, made, named, .. } = options;
        let Self { account, consumption, .. } = &mut self;
        account.entitlements.finish();
        consumption.finish();
        let period = KnownPeriod::of(options.period, read.span, made.at);
        let found = self.rhythm.finish();
        let mut notes = names.notes.clone();
        notes.extend(notes::of_the_reading(&read, &sizes));
        let too_many = [
            (found.beyond, "gaps"),
            (found.unwatched, "syncs"),
            (found.strip.beyond, "syncs in the strip"),
            (self.deployments.beyond, "records of deployments"),
            (self.consumption.beyond(), "reports of consumption"),
            (self.denied.beyond, "refusals"),
            (read.not_understood.beyond, "records that are not understood"),
        ];
        notes.extend(too_many.into_iter().filter_map(|(count, what)| notes::too_many(count, what)));
        notes.extend(notes::of_nobody(self.account.all.of_nobody));

        let licenses = licenses::of(&self.account, &read, opening.as_ref(), &mut names, period);
        let changes = self.changes.finish(&mut names);
        let churn = self.churn.map(|churn| churn.finish(&self.account.all, &mut names));
        let (gaps, gap_sums) = syncs::gaps::listed(&found, period);
        let (resolved, unresolved) = names.counts();
        Page {
            made,
            logs: named,
            period,
            names: NameCounts { given: names.given(), resolved, unresolved },
            notes,
            not_understood: not_understood::listed(read.not_understood),
            licenses,
            syncs: syncs::strip::of(&found, period, &called),
            gaps,
            gap_sums,
            consumption: consumption::by_allotment(&self.consumption, &self.account.entitlements, period.to),
            deployments: deployments::listed(&self.deployments, &called),
            changes,
            denied: self.denied.finish(),
            churn,
            clock: self.clock.finish(),
            evidence: self.evidence.finish(read.verified),
        }
    }
}
