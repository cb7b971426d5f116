//! What an exchange leaves in the log: before it is sent, after its reply, and when there is none.

use http::{Response, header};

use super::ReadRequest;
use crate::bounds;
use crate::licensing::compare::{Known, known, unreported};
use crate::licensing::message::{Change, Consumption, Message, MessageKind, Patch, Sync};
use crate::licensing::reply::{Entitlement, ReplyFacts, What};
use crate::policy::Admission;
use crate::upstream::error::UpstreamError;
use relay_log::ledger::action::{Action, Direction, Outcome};
use relay_log::ledger::qlik::{Base, OtherReading, Qlik};
use relay_log::ledger::record::{Record, UNREAD_REPLY};
use relay_log::ledger::subject::{Pseudonyms, Subject, without_subject};
use relay_log::names::LicenseNumber;
use relay_log::text::redact::clip;

/// What is true of all records of one exchange.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Why it was let in.
    pub admission: Admission,
    request: &'a ReadRequest,
    message: &'a Message,
}

impl<'a> Scene<'a> {
    /// The scene of a request that was let in.
    pub fn new(request: &'a ReadRequest, message: &'a Message, admission: Admission) -> Self {
        Self { admission, request, message }
    }

    fn record(&self, action: Action, direction: Direction, outcome: Outcome) -> Record {
        let mut record = Record::new(action, self.request.id);
        record.outcome = outcome;
        record.client = Some(self.request.identity.address);
        record.user_agent = user_agent(self.request);
        let claims = self.message.claims.as_ref();
        record.qlik = Qlik {
            direction: Some(direction),
            source_id: self.message.source.id().map(ToString::to_string),
            other_sources: self.message.other_sources.clone(),
            identified_by: Some(self.admission.identified_by),
            listed: (!self.admission.listed).then_some(false),
            license: self.message.license().map(ToString::to_string),
            license_jti: claims.and_then(|claims| claims.jti.clone()),
            doubled: self.message.doubled.clone(),
            lenient: self.message.lenient.clone(),
            ..Qlik::default()
        };
        record
    }

    /// What the built-in vocabulary reads where the site's own one reads something else.
    fn other_reading(&self) -> OtherReading {
        let mut reading = OtherReading { vocabulary: "built-in", ..OtherReading::default() };
        let Some(other) = &self.message.other else { return reading };
        if other.kind.name() != self.message.kind.name() {
            reading.exchange = Some(other.kind.name());
        }
        if other.source != self.message.source {
            reading.source_id = other.source.id().map(ToString::to_string);
        }
        if other.license() != self.message.license() {
            reading.license = other.license().map(ToString::to_string);
        }
        reading
    }

    /// A change as the built-in vocabulary reads it. Of one that both read, but one as an add and the other as a delete,
    /// nobody here knows what it is.
    fn other_patch<'p>(
        &self,
        patch: &'p Patch,
        known: Known,
        direction: Direction,
        names: &Pseudonyms,
    ) -> NamedRecord<'p> {
        let NamedRecord { mut record, subject } = self.patch_record(patch, direction, names);
        let mut reading = self.other_reading();
        if known != Known::Not {
            record.action = Action::AssignmentUnknown;
            reading.change = Some(match patch.change {
                Change::Add => "add",
                Change::Delete => "delete",
                Change::Unknown => "unknown",
            });
        }
        record.qlik.other_reading = Some(reading);
        NamedRecord { record, subject }
    }

    fn sync_record(&self, action: Action, direction: Direction, outcome: Outcome, sync: &Sync) -> Record {
        let mut record = self.record(action, direction, outcome);
        let asked = match &self.message.kind {
            MessageKind::Sync(asked) if direction == Direction::In => asked.bases.as_slice(),
            _ => &[],
        };
        let bases = bases(asked, &sync.bases);
        if let Some(first) = bases.first() {
            (record.qlik.base_version, record.qlik.base_sent) = (first.version, first.sent);
        }
        let of_record = |base: &Base| base.license.is_none() || base.license == record.qlik.license;
        if bases.len() > 1 || !bases.iter().all(of_record) {
            record.qlik.bases = bases;
        }
        record.qlik.patches = Some(sync.patches.len() as u64);
        record
    }

    fn patch_record<'p>(
        &self,
        patch: &'p Patch,
        direction: Direction,
        names: &Pseudonyms,
    ) -> NamedRecord<'p> {
        let action = match patch.change {
            Change::Add => Action::AssignmentAdd,
            Change::Delete => Action::AssignmentDelete,
            Change::Unknown => Action::AssignmentUnknown,
        };
        let rejection = patch.rejection.as_deref().unwrap_or_default();
        let outcome = match direction {
            Direction::Out => Outcome::Unknown,
            Direction::In if rejection.is_empty() => Outcome::Success,
            Direction::In => Outcome::Failure,
        };
        let mut record = self.record(action, direction, outcome);
        if patch.license.is_some() || patch.unfit_license {
            record.qlik.license = patch.license.as_ref().map(ToString::to_string);
        }
        record.qlik.allotment.clone_from(&patch.allotment);
        record.qlik.instance.clone_from(&patch.instance);
        record.qlik.version = patch.version;
        record.qlik.created.clone_from(&patch.created);
        let words = patch.rejection.as_ref();
        record.qlik.rejection = words.map(|words| clip(&without_subject(words, patch.subject.as_ref())));
        record.subject = patch.subject.as_ref().map(|subject| names.of(subject));
        NamedRecord { record, subject: patch.subject.as_ref() }
    }
}

/// The bases of a sync, each with the one of the same license that was asked with.
fn bases(
    asked: &[(Option<LicenseNumber>, Option<u64>)],
    said: &[(Option<LicenseNumber>, Option<u64>)],
) -> Vec<Base> {
    let first = |all: &[_]| all.len().min(relay_log::bounds::LICENSES);
    let (asked, said) = (&asked[..first(asked)], &said[..first(said)]);
    let sent = |license: &Option<LicenseNumber>| asked.iter().find(|(asked, _)| asked == license);
    let mut bases: Vec<Base> = said
        .iter()
        .map(|(license, version)| Base {
            license: license.as_ref().map(ToString::to_string),
            sent: sent(license).and_then(|(_, sent)| *sent),
            version: *version,
        })
        .collect();
    // What the reply does not repeat was asked all the same.
    let left_out = asked.iter().filter(|(license, _)| !said.iter().any(|(said, _)| said == license));
    bases.extend(left_out.map(|(license, sent)| Base {
        license: license.as_ref().map(ToString::to_string),
        sent: *sent,
        version: None,
    }));
    bases
}

/// A record, and the person that it names.
#[derive(Debug)]
pub struct NamedRecord<'s> {
    /// The record.
    pub record: Record,
    /// The person, by name.
    pub subject: Option<&'s Subject>,
}

impl From<Record> for NamedRecord<'_> {
    /// A record that names nobody.
    fn from(record: Record) -> Self {
        Self { record, subject: None }
    }
}

/// Records that are made as they are taken: those of a long message never all at once.
pub type Records<'s> = Box<dyn Iterator<Item = NamedRecord<'s>> + Send + 's>;

/// What is written before the request is sent: nothing for what changes nothing.
pub fn intent<'s>(scene: &'s Scene<'_>, names: &'s Pseudonyms) -> Records<'s> {
    let message = scene.message;
    if !message.changes_something() {
        return Box::new(std::iter::empty());
    }
    let own = asked(scene, &message.kind, names);
    let Some(other) = &message.other else {
        return with_first(own, |record| record.qlik.shape = with_shape(record, message.unread.as_ref()));
    };
    let reading = scene.other_reading();
    let of_first = reading.clone();
    let own = with_first(own, move |record| {
        record.qlik.shape = with_shape(record, message.unread.as_ref());
        record.qlik.other_reading = Some(of_first);
    });
    // The comparison is a part of the work that is done off the workers.
    let extra = move || -> Records<'s> {
        match (&message.kind, &other.kind) {
            (MessageKind::Sync(own), MessageKind::Sync(sync)) => {
                let known = sync.patches.iter().zip(known(&sync.patches, &own.patches));
                let extra = known.filter(|(_, known)| *known != Known::Whole);
                Box::new(extra.map(|(patch, known)| scene.other_patch(patch, known, Direction::Out, names)))
            }
            (MessageKind::Capacity(own), MessageKind::Capacity(report)) => {
                Box::new(unreported(report, own).into_iter().map(|element| consumption(scene, element)))
            }
            (own, other) if own.name() != other.name() => asked(scene, other, names),
            _ => Box::new(std::iter::empty()),
        }
    };
    Box::new(own.chain(std::iter::once_with(extra).flatten().map(move |mut named| {
        named.record.qlik.other_reading.get_or_insert_with(|| reading.clone());
        named
    })))
}

/// The shape of what was not read in a message, on a record that has none of its own.
fn with_shape(record: &mut Record, unread: Option<&String>) -> Option<String> {
    record.qlik.shape.take().or_else(|| unread.cloned())
}

/// Changes the first of these records.
fn with_first<'s>(records: Records<'s>, change: impl FnOnce(&mut Record) + Send + 's) -> Records<'s> {
    let mut change = Some(change);
    Box::new(records.map(move |mut named| {
        if let Some(change) = change.take() {
            change(&mut named.record);
        }
        named
    }))
}

/// What a request of this kind asks for.
fn asked<'s>(scene: &'s Scene<'_>, kind: &'s MessageKind, names: &'s Pseudonyms) -> Records<'s> {
    let out = |action| scene.record(action, Direction::Out, Outcome::Unknown);
    let only = |record: Record| -> Records<'s> { Box::new(std::iter::once(record.into())) };
    match kind {
        MessageKind::ConnectivityTest | MessageKind::Definition | MessageKind::Bare => {
            Box::new(std::iter::empty())
        }
        MessageKind::Sync(sync) => {
            let head = scene.sync_record(Action::SyncRequest, Direction::Out, Outcome::Unknown, sync);
            let patches =
                sync.patches.iter().map(move |patch| scene.patch_record(patch, Direction::Out, names));
            Box::new(only(head).chain(patches))
        }
        MessageKind::Activation { cause } => {
            let mut record = out(Action::ActivationRequest);
            record.qlik.cause = Some(cause.clone());
            only(record)
        }
        MessageKind::Capacity(report) => {
            Box::new(report.iter().map(move |element| consumption(scene, element)))
        }
        MessageKind::Unrecognised { shape: words } | MessageKind::Unreadable { why: words } => {
            let mut record = out(Action::UnrecognisedRequest);
            record.qlik.shape = Some(words.clone());
            record.qlik.bytes = Some(scene.request.body.len() as u64);
            only(record)
        }
    }
}

/// What a deployment reports as consumed.
fn consumption(scene: &Scene<'_>, element: &Consumption) -> NamedRecord<'static> {
    let mut record = scene.record(Action::ConsumptionReport, Direction::Out, Outcome::Unknown);
    record.qlik.allotment = Some(element.allotment.clone());
    record.qlik.month = Some(element.month.clone());
    record.qlik.delta.clone_from(&element.delta);
    record.into()
}

/// What is written once the back end has replied.
pub fn outcome<'s>(
    scene: &'s Scene<'_>,
    head: &'s Response<()>,
    told: &'s ReplyFacts,
    names: &'s Pseudonyms,
) -> Records<'s> {
    let success = head.status().is_success();
    let outcome = if success { Outcome::Success } else { Outcome::Failure };
    let told_in = move |action| scene.record(action, Direction::In, outcome);
    let answer = response_action(&scene.message.kind);
    let mut first: Vec<Record> = answer.map(told_in).into_iter().collect();
    let mut changes: Records<'s> = Box::new(std::iter::empty());
    match &told.what {
        What::Sync(sync) => {
            let head = scene.sync_record(Action::SyncResponse, Direction::In, outcome, sync);
            // A sync is answered by a sync; told by any other reply, it is one more thing that the reply says.
            if answer == Some(Action::SyncResponse) {
                first = vec![head];
            } else {
                first.push(head);
            }
            let patch = move |patch| as_told(scene.patch_record(patch, Direction::In, names), success);
            changes = Box::new(sync.patches.iter().map(patch));
        }
        // Without a total it is an answer all the same.
        What::Totals(totals) if !totals.is_empty() => {
            if answer == Some(Action::ConsumptionResponse) {
                first.clear();
            }
            changes = Box::new(totals.iter().map(move |total| {
                let mut record = told_in(Action::ConsumptionResponse);
                record.qlik.allotment = Some(total.allotment.clone());
                record.qlik.month = Some(total.month.clone());
                record.qlik.total.clone_from(&total.total);
                record.into()
            }));
        }
        // What was asked changes nothing; but a reply that says something unknown must not pass unseen.
        What::Unread { .. } if first.is_empty() => first.push(told_in(Action::UnrecognisedResponse)),
        What::Entitlements(all) if first.is_empty() && all.is_empty() && told.unread.is_some() => {
            first.push(told_in(Action::UnrecognisedResponse));
        }
        What::Entitlements(all) => {
            changes = Box::new(all.iter().map(move |unit| entitlement(scene, unit)));
        }
        _ => {}
    }
    if let What::Unread { why } = &told.what {
        for record in &mut first {
            record.outcome = Outcome::Unknown;
            record.reason = UNREAD_REPLY.into();
            record.qlik.shape = Some(why.clone());
        }
    }
    let other = move || {
        let known = told.other.iter().zip(known(&told.other, told.what.patches()));
        known.map(move |(patch, known)| {
            as_told(scene.other_patch(patch, known, Direction::In, names), success)
        })
    };
    let other = std::iter::once_with(other).flatten();
    let all: Records<'s> = match told.what {
        What::Entitlements(_) => Box::new(other.chain(changes)),
        _ => Box::new(changes.chain(other)),
    };
    let all = with_first(Box::new(first.into_iter().map(NamedRecord::from).chain(all)), |record| {
        record.qlik.shape = with_shape(record, told.unread.as_ref());
        for name in &told.doubled {
            if record.qlik.doubled.len() < bounds::DOUBLED && !record.qlik.doubled.contains(name) {
                record.qlik.doubled.push(name.clone());
            }
        }
    });
    let server_date = head.headers().get(header::DATE).and_then(|date| date.to_str().ok()).map(clip);
    let status = head.status().as_u16();
    Box::new(all.map(move |mut named| {
        named.record.qlik.http_status = Some(status);
        named.record.qlik.server_date.clone_from(&server_date);
        named
    }))
}

/// What the back end says that a license entitles to.
fn entitlement(scene: &Scene<'_>, unit: &Entitlement) -> NamedRecord<'static> {
    let mut record = scene.record(Action::Entitlement, Direction::In, Outcome::Success);
    let license = unit.license.as_ref().map(LicenseNumber::to_string);
    record.qlik.license = license.or(record.qlik.license);
    record.qlik.allotment = Some(unit.name.clone());
    record.qlik.class.clone_from(&unit.class);
    record.qlik.access_type.clone_from(&unit.access_type);
    record.qlik.count.clone_from(&unit.count);
    record.qlik.valid_from = Some(unit.valid.0.clone());
    record.qlik.valid_to = Some(unit.valid.1.clone());
    record.qlik.overage.clone_from(&unit.overage);
    record.into()
}

/// A change that a reply tells of. With a status that is no success, nobody here knows whether it holds.
fn as_told(mut named: NamedRecord<'_>, success: bool) -> NamedRecord<'_> {
    if !success {
        named.record.outcome = Outcome::Unknown;
        named.record.reason = "told in a reply whose status is no success".into();
    }
    named
}

/// What is written when there is no reply. Once bytes may have reached the back end, the outcome is unknown.
pub fn failure(scene: &Scene<'_>, error: &UpstreamError, sent: bool) -> Records<'static> {
    let outcome = if sent { Outcome::Unknown } else { Outcome::Failure };
    let reason = if sent { "sent, and no whole reply came" } else { "not sent" };
    let mut upstream = scene.record(Action::UpstreamError, Direction::In, Outcome::Failure);
    upstream.reason = format!("{}: {error}", error.class());
    Box::new(std::iter::once(upstream).chain(unanswered(scene, outcome, reason)).map(NamedRecord::from))
}

/// What is written where an intent could not be written whole, and so was not sent.
pub fn withheld(scene: &Scene<'_>) -> Records<'static> {
    let reason = "not sent: the audit log could not be written";
    Box::new(unanswered(scene, Outcome::Failure, reason).into_iter().map(NamedRecord::from))
}

/// What stands in place of a reply; none for messages whose replies are not written either.
fn unanswered(scene: &Scene<'_>, outcome: Outcome, reason: &str) -> Option<Record> {
    let mut record = scene.record(response_action(&scene.message.kind)?, Direction::In, outcome);
    record.reason = reason.into();
    Some(record)
}

/// The client's `User-Agent`, cut to what is kept.
pub(super) fn user_agent(request: &ReadRequest) -> Option<String> {
    let value = request.headers.get(header::USER_AGENT)?;
    Some(clip(&String::from_utf8_lossy(value.as_bytes())))
}

fn response_action(kind: &MessageKind) -> Option<Action> {
    match kind {
        MessageKind::Sync(_) => Some(Action::SyncResponse),
        MessageKind::Activation { .. } => Some(Action::ActivationResponse),
        MessageKind::Capacity(_) => Some(Action::ConsumptionResponse),
        MessageKind::Unrecognised { .. } | MessageKind::Unreadable { .. } => {
            Some(Action::UnrecognisedResponse)
        }
        MessageKind::ConnectivityTest | MessageKind::Definition | MessageKind::Bare => None,
    }
}
