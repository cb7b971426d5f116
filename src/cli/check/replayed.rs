//! The exchanges of a log, each put together from its records and judged once, and what is found by deployment. What is
//! kept is bounded, whatever the log holds.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::bounds;
use crate::config::names::client;
use crate::licensing::message::{NO_BODY, UNFIT_LICENSE};
use crate::licensing::shape::Shape;
use crate::policy::replay::{Judgement, Passed, PassedKind, PassedReading, Replay};
use relay_log::ledger::entry::{Entry, Text};
use relay_log::names::LicenseNumber;
use relay_report::fold::in_flight::Open;

/// Reads records, and judges the exchanges that they make.
pub(super) struct Replayed<'p> {
    replay: Replay<'p>,
    /// Exchanges that have asked and have no outcome yet.
    open: Open<Option<PassedExchange>>,
    /// For each log the exchange whose answer is being read.
    answering: Vec<Option<Answering>>,
    found: ReplayResult,
    by_key: HashMap<KnownBy, usize>,
}

/// All that was found.
#[derive(Default)]
pub(super) struct ReplayResult {
    /// Those that would be refused first, the others by their time.
    pub(super) deployments: Vec<ReplayedDeployment>,
    /// Those beyond the limit, together.
    pub(super) others: Option<ReplayedDeployment>,
    /// Requests that were refused when they came.
    pub(super) refused_then: u64,
}

/// A deployment, and what would become of its exchanges.
#[derive(Debug)]
pub(super) struct ReplayedDeployment {
    pub(super) source: Option<String>,
    pub(super) license: Option<String>,
    /// As the entry that lets it in calls it.
    pub(super) name: Option<String>,
    pub(super) addresses: Vec<IpAddr>,
    /// It came from further addresses.
    pub(super) elsewhere: bool,
    pub(super) let_in: u64,
    pub(super) refused: Vec<(String, u64)>,
    pub(super) unknown: Vec<(String, u64)>,
    pub(super) last: Timestamp,
}

/// What a deployment is known by: its id, else its license and its network, else that network.
#[derive(Debug, Eq, Hash, PartialEq)]
enum KnownBy {
    Source(String),
    License(String, Option<IpAddr>),
    Network(Option<IpAddr>),
}

/// An exchange, as far as its records were read.
#[derive(Debug)]
struct PassedExchange {
    passed: Passed,
    time: Timestamp,
}

/// An exchange of which only the answer is in the log, or whose request was judged already.
struct Answering {
    id: Box<str>,
    alone: Option<PassedExchange>,
}

impl<'p> Replayed<'p> {
    pub(super) fn new(replay: Replay<'p>) -> Self {
        Self {
            replay,
            open: Open::default(),
            answering: Vec::new(),
            found: ReplayResult::default(),
            by_key: HashMap::new(),
        }
    }

    /// The next record.
    pub(super) fn take(&mut self, log: usize, entry: &Entry<'_>) {
        match &*entry.action {
            "access.denied" | "access.limited" | "access.invalid" => {
                self.found.refused_then += entry.qlik.repeat.map_or(1, |repeat| repeat.count);
                return;
            }
            "relay.start" => {
                let ended = self.open.restart(log);
                self.judge_all(ended);
                return;
            }
            // It stands between the records of an exchange.
            "audit.alias" => return,
            _ => {}
        }
        match entry.qlik.direction.as_deref() {
            Some("out") => {
                let (open, given_up) = self.open.of(log, entry);
                match open {
                    Some(exchange) => exchange.add(entry),
                    None => *open = Some(PassedExchange::asked(entry)),
                }
                self.judge_all(given_up);
            }
            Some("in") => self.answered(log, entry),
            _ => {}
        }
    }

    /// All is read.
    pub(super) fn finish(mut self) -> ReplayResult {
        let rest = self.open.rest();
        self.judge_all(rest);
        let alone: Vec<_> = std::mem::take(&mut self.answering).into_iter().flatten().collect();
        self.judge_all(alone.into_iter().map(|answering| answering.alone));
        self.found.deployments.sort_by_key(|one| (one.refused.is_empty(), one.unknown.is_empty(), one.last));
        self.found
    }

    /// The records of an answer stand together; of an exchange that asked for nothing they are all there is.
    fn answered(&mut self, log: usize, entry: &Entry<'_>) {
        if self.answering.len() <= log {
            self.answering.resize_with(log + 1, || None);
        }
        if let Some(Some(answering)) = self.answering.get(log)
            && *answering.id == *entry.exchange
        {
            return;
        }
        let alone = match self.open.end(&entry.exchange) {
            Some(asked) => {
                self.judge_all([asked]);
                None
            }
            None => Some(PassedExchange::answered(entry)),
        };
        let new = Answering { id: (*entry.exchange).into(), alone };
        if let Some(before) = self.answering.get_mut(log).and_then(|answering| answering.replace(new)) {
            self.judge_all([before.alone]);
        }
    }

    fn judge_all(&mut self, all: impl IntoIterator<Item = Option<PassedExchange>>) {
        for PassedExchange { passed, time } in all.into_iter().flatten() {
            let verdict = self.replay.judge(passed.clone());
            self.deployment(&passed, time).count(verdict, passed.client, time);
        }
    }

    fn deployment(&mut self, passed: &Passed, time: Timestamp) -> &mut ReplayedDeployment {
        let PassedReading { source, licenses, .. } = &passed.reading;
        let license = licenses.first().map(ToString::to_string);
        let network = || passed.client.map(client);
        let key = match (source, &license) {
            (Some(source), _) => KnownBy::Source(source.clone()),
            (None, Some(license)) => KnownBy::License(license.clone(), network()),
            (None, None) => KnownBy::Network(network()),
        };
        let ReplayResult { deployments, others, .. } = &mut self.found;
        let at = match self.by_key.get(&key) {
            Some(at) => Some(*at),
            None if deployments.len() < bounds::REPLAYED => {
                deployments.push(ReplayedDeployment::new(source.clone(), license.clone(), time));
                self.by_key.insert(key, deployments.len() - 1);
                Some(deployments.len() - 1)
            }
            None => None,
        };
        match at.and_then(|at| deployments.get_mut(at)) {
            Some(deployment) => {
                deployment.license = deployment.license.take().or(license);
                deployment
            }
            None => others.get_or_insert_with(|| ReplayedDeployment::new(None, None, time)),
        }
    }
}

impl ReplayResult {
    /// Exchanges in all, those that would be refused, and those of which it can't be told.
    pub(super) fn sums(&self) -> (u64, u64, u64) {
        let sum = |all: &[(String, u64)]| all.iter().map(|(_, count)| count).sum::<u64>();
        self.deployments.iter().chain(&self.others).fold((0, 0, 0), |(total, refused, unknown), one| {
            let (out, open) = (sum(&one.refused), sum(&one.unknown));
            (total + one.let_in + out + open, refused + out, unknown + open)
        })
    }
}

impl ReplayedDeployment {
    fn new(source: Option<String>, license: Option<String>, last: Timestamp) -> Self {
        Self {
            source,
            license,
            name: None,
            addresses: Vec::new(),
            elsewhere: false,
            let_in: 0,
            refused: Vec::new(),
            unknown: Vec::new(),
            last,
        }
    }

    fn count(&mut self, verdict: Judgement, client: Option<IpAddr>, time: Timestamp) {
        self.last = self.last.max(time);
        if let Some(client) = client.filter(|client| !self.addresses.contains(client)) {
            if self.addresses.len() < bounds::REPLAYED_OF_ONE {
                self.addresses.push(client);
            } else {
                self.elsewhere = true;
            }
        }
        match verdict {
            Judgement::In(name) => {
                self.let_in += 1;
                self.name = self.name.take().or_else(|| Some(name).filter(|name| !name.is_empty()));
            }
            Judgement::Out(reason) => add(&mut self.refused, reason),
            Judgement::Unknown(why) => add(&mut self.unknown, why.to_owned()),
        }
    }
}

/// Counts a reason; those beyond the limit share one.
fn add(all: &mut Vec<(String, u64)>, reason: String) {
    let reason = match all.iter().any(|(known, _)| *known == reason) {
        false if all.len() >= bounds::REPLAYED_OF_ONE => "for other reasons".to_owned(),
        _ => reason,
    };
    match all.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, count)) => *count += 1,
        None => all.push((reason, 1)),
    }
}

impl PassedExchange {
    /// By the first record of a request.
    fn asked(entry: &Entry<'_>) -> Self {
        let shape = entry.qlik.shape.as_deref().unwrap_or_default();
        let kind = match &*entry.action {
            "license.tunnel.open" => PassedKind::Tunnel,
            "license.activation.request" => PassedKind::Activation,
            "license.unrecognised.request" if shape == NO_BODY || Shape::parse(shape).is_some() => {
                PassedKind::Unrecognised
            }
            "license.unrecognised.request" => PassedKind::Unreadable(shape.to_owned()),
            _ if entry.qlik.lenient.iter().any(|mark| **mark == *UNFIT_LICENSE) => PassedKind::Unrecognised,
            _ => PassedKind::Message,
        };
        let mut exchange = Self::of(entry, kind);
        exchange.add(entry);
        exchange
    }

    /// By the first record of an answer to what changes nothing.
    fn answered(entry: &Entry<'_>) -> Self {
        let kind = match (&*entry.action, entry.qlik.identified_by.as_deref()) {
            (_, Some("test")) => PassedKind::Test,
            // What asks for nothing, sends a key and is told of entitlements fetches the definition of that key's license.
            ("license.entitlement", _) if entry.qlik.license_jti.is_some() => PassedKind::Definition,
            _ => PassedKind::Quiet,
        };
        Self::of(entry, kind)
    }

    fn of(entry: &Entry<'_>, kind: PassedKind) -> Self {
        let text = |text: &Option<Text<'_>>| text.as_deref().map(str::to_owned);
        let licenses: Vec<LicenseNumber> = license(&entry.qlik.license).into_iter().collect();
        let reading = PassedReading { kind, source: text(&entry.qlik.source_id), licenses };
        let other = entry.qlik.other_reading.as_ref().map(|other| PassedReading {
            kind: other.exchange.as_deref().map_or_else(|| reading.kind.clone(), kind_of),
            source: text(&other.source_id).or_else(|| reading.source.clone()),
            licenses: license(&other.license)
                .map_or_else(|| reading.licenses.clone(), |license| vec![license]),
        });
        Self { passed: Passed { reading, other, client: entry.client }, time: entry.time }
    }

    /// One more record of the request, which may name further licenses.
    fn add(&mut self, entry: &Entry<'_>) {
        let licenses = &mut self.passed.reading.licenses;
        let bases = entry.qlik.bases.iter().map(|base| license(&base.license));
        for license in std::iter::once(license(&entry.qlik.license)).chain(bases).flatten() {
            if licenses.len() < relay_log::bounds::LICENSES && !licenses.contains(&license) {
                licenses.push(license);
            }
        }
    }
}

fn license(text: &Option<Text<'_>>) -> Option<LicenseNumber> {
    text.as_deref()?.parse().ok()
}

/// A kind by its name in the log.
fn kind_of(name: &str) -> PassedKind {
    match name {
        "test" => PassedKind::Test,
        "activation" => PassedKind::Activation,
        "definition" => PassedKind::Definition,
        "unrecognised" => PassedKind::Unrecognised,
        "unreadable" => PassedKind::Unreadable(String::new()),
        _ => PassedKind::Message,
    }
}
