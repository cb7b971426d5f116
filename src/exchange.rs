//! The middle of the story: one request through licensing, policy, the log and the back end.
//!
//! Read it top-down: understand, judge, write the intent, send once, write the outcome, hand back the reply.

pub mod aliases;
pub mod captured;
pub mod fault;
pub mod heavy_work;
pub mod not_understood;
pub mod records;
pub mod request;
pub mod tunnel;
mod writing;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::Full;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use crate::audit::journal::Journal;
use crate::audit::refusals::Refusals;
use crate::body_cost::{of_message, of_reply, with_records};
use crate::bounds;
use crate::exchange::fault::Fault;
use crate::exchange::not_understood::{NotUnderstood, UnreadClient};
use crate::exchange::request::ReadRequest;
use crate::licensing::asker::Understanding;
use crate::licensing::coding;
use crate::licensing::message::{Message, MessageKind};
use crate::licensing::outline::{Answered, Outline, Sent};
use crate::licensing::reply::{ReplyFacts, What};
use crate::licensing::vocabulary::Words;
use crate::memory::Memory;
use crate::observe::facts::{Access, Replied};
use crate::policy::denial::Denial;
use crate::policy::identity::ClientIdentity;
use crate::policy::pending::{self, Pending};
use crate::policy::{Admission, PolicyInput};
use crate::setup::Setup;
use crate::upstream::send::{Reply, ReplyBody, ReplyRoom, SendError};
use aliases::Aliases;
use captured::Captured;
use heavy_work::HeavyWork;
use records::Scene;
use relay_log::ledger::action::{Action, IdentifiedBy};
use relay_log::ledger::qlik::Repeat;
use relay_log::ledger::record::Record;
use relay_log::ledger::subject::Pseudonyms;
use relay_log::names::{LicenseNumber, SourceId};
use relay_log::text::causes::whole_cause;
use writing::{Hand, Unwritten};

/// What all exchanges share, whatever the setup.
#[derive(Debug)]
pub struct Exchange {
    /// Turns subjects into pseudonyms.
    pub pseudonyms: Pseudonyms,
    /// Whose pseudonyms are linked to older ones.
    pub aliases: Arc<Aliases>,
    /// The assignment log.
    pub journal: Journal,
    /// Refusals in it.
    pub refusals: Refusals,
    /// Who was refused lately.
    pub pending: Arc<Pending>,
    /// Clients whose bodies are not understood.
    pub unread: Arc<NotUnderstood>,
    /// The shapes of what passes.
    pub captured: Arc<Captured>,
    /// Does long work aside.
    pub heavy_work: HeavyWork,
    /// What bodies, and what is understood of them, may take.
    pub memory: Memory,
    /// Ids that enrolments have learned, to be written into `sources.toml`.
    pub learned: mpsc::Sender<SourceId>,
}

impl Exchange {
    /// Takes a request to the back end and its reply back, under one setup from its begin to its end.
    ///
    /// # Errors
    /// It is refused here, or there is no reply.
    pub async fn run(
        &self,
        setup: &Setup,
        mut request: ReadRequest,
        access: &mut Access,
    ) -> Result<Reply, Fault> {
        let words = &setup.words;
        let client = request.identity.address;
        let is_quick = is_quick(&request.headers, &request.body);
        let most = of_message(coding::most(&request.headers, request.body.len()), words.count());
        let memory = self.memory.messages.take(client, most, Instant::now() + bounds::READING_WAIT).await;
        let mut memory = memory.ok_or(Fault::NoMemory)?;
        let read = || Message::read(&request.method, &request.target, &request.headers, &request.body, words);
        let message = self.heavy_work.reading.work(client, is_quick, read).await;
        memory.shrink_to(with_records(message.bytes()));
        note_message(access, &message);
        if matches!(message.kind, MessageKind::Unrecognised { .. } | MessageKind::Unreadable { .. }) {
            self.note_unread(&message, client).await;
        }

        let other = message.other.as_deref().map(|other| policy_input(other, &request.identity));
        let admission = match setup.policy.judge(policy_input(&message, &request.identity), other) {
            Ok(admission) => admission,
            Err(denial) => return Err(self.refuse(setup, &request, &message, denial).await),
        };
        if admission.identified_by == IdentifiedBy::Test && !setup.policy.is_proven(&request.identity) {
            self.strip_test(&mut request);
        }
        let scene = Scene::new(&request, &message, admission);
        let Admission { identified_by, listed, room, .. } = &scene.admission;
        access.admitted(*identified_by, *listed, room.clone());
        if scene.admission.listed && message.understanding() != Understanding::Test {
            self.pending.saw_listed(request.identity.address);
        }
        if let Some(id) = &scene.admission.learned {
            // It holds as many enrolments as nobody makes at once; one too many is bound until the next restart only.
            if self.learned.try_send(id.clone()).is_err() {
                tracing::error!("source {id} is enrolled, but not written into sources.toml; add it there");
            }
        }

        let log = Hand::of(&scene.admission, &message, client);
        let is_quick = message.records() <= bounds::QUICK_RECORDS;
        let intent = records::intent(&scene, &self.pseudonyms);
        let logged = match self.write_intent(setup, &log, intent, is_quick).await {
            Ok(logged) => logged,
            Err(Unwritten { error, is_begun }) => {
                if is_begun {
                    // It did not go through, so it is no gap where this can't be written either.
                    self.write_outcome(&log, records::withheld(&scene), true, false).await;
                }
                return Err(error.into());
            }
        };

        access.sent(setup.sender.dialer.has_parent());

        let kept = |headers: &HeaderMap, length| of_reply(coding::most(headers, length), words.count());
        let room = ReplyRoom { account: &self.memory.replies, client, kept: &kept };
        match setup.sender.send(&request.to, outgoing(&request), room).await {
            Ok(mut reply) => {
                note_reply(access, &reply);
                let is_quick = reply_is_quick(&reply);
                let facts = self
                    .heavy_work
                    .reading
                    .work(client, is_quick, || read_reply(&message, &reply, words))
                    .await;
                if let Ok(memory) = &mut reply.memory {
                    memory.shrink_to(with_records(facts.bytes()));
                }
                if matches!(facts.what, What::Unread { .. }) {
                    access.reply_not_read();
                    self.note_unread(&message, client).await;
                }
                self.captured.note(outline(&request, &message, &reply, &facts), client);
                let outcome = records::outcome(&scene, &reply.head, &facts, &self.pseudonyms);
                self.write_outcome(&log, outcome, is_quick, logged).await;
                Ok(reply)
            }
            Err(SendError { error, sent, address }) => {
                access.reached(address);
                access.failed(error.class(), whole_cause(&error));
                self.write_outcome(&log, records::failure(&scene, &error, sent), true, logged).await;
                Err(error.into())
            }
        }
    }

    /// Takes one request of a client's address, before anything of it is read.
    ///
    /// # Errors
    /// There were too many; it is in the log.
    pub fn admit_address(&self, setup: &Setup, client: IpAddr, id: Uuid) -> Result<(), Fault> {
        setup.policy.per_address.check(client).map_err(|wait| {
            let denial = Denial::AddressLimit(wait);
            let mut record = Record::new(denial.action(), id);
            record.reason = denial.to_string();
            self.refusals.note(record, client);
            Fault::Denied { denial, pending: None }
        })
    }

    /// Counts a body that was not understood; once that has lasted for a day it is a mark in the log.
    async fn note_unread(&self, message: &Message, address: IpAddr) {
        let source = message.source.id().map(ToString::to_string);
        let who = UnreadClient { source, license: message.license().map(ToString::to_string), address };
        let Some(told) = self.unread.note(who, Timestamp::now()) else { return };
        let who = &told.who;
        tracing::warn!(
            "{} bodies of {who} have not been understood since {:.0}, so the audit log does not hold what they say; \
             run: license-relay vocabulary suggest",
            told.count,
            told.since
        );
        let mut record = Record::new(Action::UnrecognisedLasting, Uuid::now_v7());
        record.reason = "bodies of this deployment have not been understood for a day or more".into();
        record.client = Some(who.address);
        record.qlik.source_id.clone_from(&who.source);
        record.qlik.license.clone_from(&who.license);
        record.qlik.repeat = Some(Repeat { count: told.count, first: told.since, last: told.last });
        if let Err(e) = self.journal.commit(vec![record]).await {
            tracing::warn!("that is not in the audit log: {e}");
        }
    }

    /// Of a stranger's connectivity test only Host is passed on, and it is counted: it may carry nothing out.
    fn strip_test(&self, request: &mut ReadRequest) {
        request.headers =
            request.headers.remove(header::HOST).map(|host| (header::HOST, host)).into_iter().collect();
        let mut record = Record::new(Action::AccessTest, request.id);
        record.reason = "the connectivity test of a client that nothing proves".into();
        self.refusals.note(record, request.identity.address);
    }

    async fn refuse(&self, setup: &Setup, request: &ReadRequest, message: &Message, denial: Denial) -> Fault {
        let source = message.source.id().map(SourceId::as_str);
        let license = message.license().map(LicenseNumber::as_str);
        let user_agent = records::user_agent(request);
        let fingerprint = message.claims.as_ref().map(|claims| claims.fingerprint.as_str());
        let sourceless = message.is_sourceless();
        let user = request.identity.user.as_deref();
        let names = denial.names(message.understanding(), source, license, sourceless);
        let told = pending::DeploymentFacts {
            source: names.0,
            license: names.1,
            fingerprint,
            user,
            user_agent: user_agent.as_deref(),
            sourceless,
        };
        let is_about_who = denial.is_about_who(&setup.config.licensing);
        let pending =
            is_about_who.then(|| self.pending.note(told, request.identity.address, &denial.to_string()));
        let mut record = Record::new(denial.action(), request.id);
        record.reason = denial.to_string();
        record.qlik.source_id = source.map(Into::into);
        record.qlik.license = license.map(Into::into);
        record.user_agent = user_agent;
        self.refusals.note(record, request.identity.address);
        if let Some(noted) = pending {
            self.pending.on_disk(noted).await;
        }
        Fault::Denied { denial, pending: pending.map(|noted| noted.number) }
    }
}

/// Whether a body is read quickly. Compressed ones may be of any length.
fn is_quick(headers: &HeaderMap, body: &[u8]) -> bool {
    body.len() <= bounds::QUICK_BODY && !headers.contains_key(header::CONTENT_ENCODING)
}

fn reply_is_quick(reply: &Reply) -> bool {
    match &reply.body {
        ReplyBody::Streamed(..) => true,
        ReplyBody::Whole(body) => is_quick(reply.head.headers(), body),
    }
}

fn policy_input<'a>(message: &'a Message, identity: &'a ClientIdentity) -> PolicyInput<'a> {
    PolicyInput {
        understanding: message.understanding(),
        source: &message.source,
        licenses: &message.licenses,
        identity,
        activates: matches!(message.kind, MessageKind::Activation { .. }),
        sourceless: message.is_sourceless(),
        records: message.records(),
    }
}

fn note_message(access: &mut Access, message: &Message) {
    let source = message.source.id().map(ToString::to_string);
    access.understood(message.kind.name(), source, message.license().map(ToString::to_string));
}

fn note_reply(access: &mut Access, reply: &Reply) {
    access.replied(Replied {
        upstream: reply.address,
        status: reply.head.status().as_u16(),
        resent: reply.resent,
        bytes: reply.body.length(),
    });
}

/// The request as it is sent: bytes, order and case as they came in.
fn outgoing(request: &ReadRequest) -> Request<Full<Bytes>> {
    let mut outgoing = Request::new(Full::new(request.body.clone()));
    *outgoing.method_mut() = request.method.clone();
    *outgoing.uri_mut() = request.target.clone();
    *outgoing.headers_mut() = request.headers.clone();
    *outgoing.extensions_mut() = request.extensions.clone();
    outgoing
}

fn outline(request: &ReadRequest, message: &Message, reply: &Reply, facts: &ReplyFacts) -> Outline {
    let ReadRequest { method, target, headers, body, .. } = request;
    let sent = Sent { method, target, headers, is_empty: body.is_empty(), message };
    let is_empty = matches!(&reply.body, ReplyBody::Whole(body) if body.is_empty());
    let (status, headers) = (reply.head.status().as_u16(), reply.head.headers());
    Outline::of(sent, Answered { status, headers, is_empty, told: facts })
}

fn read_reply(message: &Message, reply: &Reply, words: &Words) -> ReplyFacts {
    match (&reply.memory, &reply.body) {
        (Err(why), _) => ReplyFacts::unread(*why),
        (Ok(_), ReplyBody::Streamed(bytes, _) | ReplyBody::Whole(bytes)) => {
            ReplyFacts::read(&message.kind, reply.head.status(), reply.head.headers(), bytes, words)
        }
    }
}

#[cfg(test)]
mod tests;
