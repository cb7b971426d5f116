//! The middle of the story: one request through licensing, policy, the log and the back end.
//!
//! Read it top-down: understand, judge, write the intent, send once, write the outcome, hand back the reply.

pub mod aliases;
pub mod captured;
pub mod desk;
pub mod fault;
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
use crate::bounds;
use crate::config::model::Unread as Understanding;
use crate::config::names::{LicenseNumber, SourceId};
use crate::exchange::fault::Fault;
use crate::exchange::not_understood::{Unread, Who};
use crate::exchange::request::Asked;
use crate::ledger::action::Action;
use crate::ledger::qlik::Repeat;
use crate::ledger::record::Record;
use crate::ledger::subject::Pseudonyms;
use crate::licensing::asker::Said;
use crate::licensing::coding;
use crate::licensing::message::{Kind, Message};
use crate::licensing::outline::{Answered, Outline, Sent};
use crate::licensing::reply::{Told, What};
use crate::licensing::vocabulary::Words;
use crate::memory::{Memory, of_message, of_reply, with_records};
use crate::observe::facts::Access;
use crate::policy::Asker;
use crate::policy::denial::Denial;
use crate::policy::identity::Identity;
use crate::policy::pending::{self, Pending};
use crate::setup::Setup;
use crate::text::causes::whole_cause;
use crate::upstream::send::{Reply, ReplyBody, Room, SendError};
use aliases::Aliases;
use captured::Captured;
use desk::Desk;
use records::Scene;
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
    /// Whose bodies are not understood.
    pub unread: Arc<Unread>,
    /// The shapes of what passes.
    pub captured: Arc<Captured>,
    /// Where work is done that takes long.
    pub desk: Desk,
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
    pub async fn run(&self, setup: &Setup, mut asked: Asked, access: &mut Access) -> Result<Reply, Fault> {
        let words = &setup.words;
        let client = asked.identity.address;
        let is_quick = is_quick(&asked.headers, &asked.body);
        let most = of_message(coding::most(&asked.headers, asked.body.len()), words.count());
        let memory = self.memory.messages.take(client, most, Instant::now() + bounds::READING_WAIT).await;
        let mut memory = memory.ok_or(Fault::NoMemory)?;
        let read = || Message::read(&asked.method, &asked.target, &asked.headers, &asked.body, words);
        let message = self.desk.reading.work(client, is_quick, read).await;
        memory.shrink_to(with_records(message.bytes()));
        note_message(access, &message);
        if matches!(message.kind, Kind::Unrecognised { .. } | Kind::Unreadable { .. }) {
            self.note_unread(&message, client).await;
        }

        let other = message.other.as_deref().map(|other| asker(other, &asked.identity));
        let admission = match setup.policy.judge(asker(&message, &asked.identity), other) {
            Ok(admission) => admission,
            Err(denial) => return Err(self.refuse(setup, &asked, &message, denial).await),
        };
        if admission.identified_by == "test" && !setup.policy.is_proven(&asked.identity) {
            self.strip_test(&mut asked);
        }
        let scene = Scene::new(&asked, &message, admission);
        access.identified_by = Some(scene.admission.identified_by);
        access.verdict = if scene.admission.listed { "allow" } else { "observe" };
        access.room = scene.admission.room.clone();
        if scene.admission.listed && message.said() != Said::Test {
            self.pending.saw_listed(asked.identity.address);
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

        access.via_parent = setup.sender.dialer.has_parent();

        let kept = |headers: &HeaderMap, length| of_reply(coding::most(headers, length), words.count());
        let room = Room { account: &self.memory.replies, client, kept: &kept };
        match setup.sender.send(&asked.to, request(&asked), room).await {
            Ok(mut reply) => {
                note_reply(access, &reply);
                let is_quick = reply_is_quick(&reply);
                let told =
                    self.desk.reading.work(client, is_quick, || read_reply(&message, &reply, words)).await;
                if let Ok(memory) = &mut reply.memory {
                    memory.shrink_to(with_records(told.bytes()));
                }
                if matches!(told.what, What::Unread { .. }) {
                    access.reply_unread = true;
                    self.note_unread(&message, client).await;
                }
                self.captured.note(outline(&asked, &message, &reply, &told), client);
                let outcome = records::outcome(&scene, &reply.head, &told, &self.pseudonyms);
                self.write_outcome(&log, outcome, is_quick, logged).await;
                Ok(reply)
            }
            Err(SendError { error, sent, address }) => {
                access.upstream = address;
                access.error = Some(error.class());
                access.cause = Some(whole_cause(&error));
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
            let mut record = Record::new(Action::AccessLimited, id);
            record.reason = denial.to_string();
            self.refusals.note(record, client);
            Fault::Denied { denial, pending: None }
        })
    }

    /// Counts a body that was not understood; once that has lasted for a day it is a mark in the log.
    async fn note_unread(&self, message: &Message, address: IpAddr) {
        let source = message.source.id().map(ToString::to_string);
        let who = Who { source, license: message.license().map(ToString::to_string), address };
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
    fn strip_test(&self, asked: &mut Asked) {
        asked.headers =
            asked.headers.remove(header::HOST).map(|host| (header::HOST, host)).into_iter().collect();
        let mut record = Record::new(Action::AccessTest, asked.id);
        record.reason = "the connectivity test of a client that nothing proves".into();
        self.refusals.note(record, asked.identity.address);
    }

    async fn refuse(&self, setup: &Setup, asked: &Asked, message: &Message, denial: Denial) -> Fault {
        let source = message.source.id().map(SourceId::as_str);
        let license = message.license().map(LicenseNumber::as_str);
        let user_agent = records::user_agent(asked);
        let action = match denial {
            Denial::SourceLimit(_)
            | Denial::RecordLimit(_)
            | Denial::LogLimit(_)
            | Denial::StrangersLogLimit(_)
            | Denial::AddressLimit(_) => Action::AccessLimited,
            Denial::Unreadable(_)
            | Denial::Unrecognised
            | Denial::TwoSources
            | Denial::TwoKeys
            | Denial::TwoLicenses
            | Denial::UnfitSource(_)
            | Denial::Contradiction(_) => Action::AccessInvalid,
            Denial::UnknownSource(_)
            | Denial::WrongPlace(_)
            | Denial::LicenseElsewhere(_)
            | Denial::LicenseAlone(_)
            | Denial::Unidentified(_)
            | Denial::DirectTls
            | Denial::NoUser => Action::AccessDenied,
        };
        let fingerprint = message.claims.as_ref().map(|claims| claims.fingerprint.as_str());
        let sourceless = message.is_sourceless();
        let user = asked.identity.user.as_deref();
        let mut told = pending::Told {
            source,
            license,
            fingerprint,
            user,
            user_agent: user_agent.as_deref(),
            sourceless,
        };
        // A license would not let it in, unless it is an activation or a definition; nor would an id, where nothing of the
        // body is read. Such a client is let in for its network's sake.
        if matches!(message.said(), Said::Unreadable(_)) {
            (told.source, told.license) = (None, None);
        } else if !sourceless && !matches!(denial, Denial::LicenseElsewhere(_)) {
            told.license = told.license.filter(|_| told.source.is_some());
        }
        let licensing = &setup.config.licensing;
        let is_about_who = match denial {
            // Where the site wants them refused, whoever sends them, there is nobody to let in.
            Denial::Unreadable(_) => licensing.unreadable != Understanding::Deny,
            Denial::Unrecognised => licensing.unrecognised != Understanding::Deny,
            // No entry of the list is what credentials are wanting for.
            Denial::DirectTls | Denial::NoUser => false,
            _ => action == Action::AccessDenied,
        };
        let pending =
            is_about_who.then(|| self.pending.note(told, asked.identity.address, &denial.to_string()));
        let mut record = Record::new(action, asked.id);
        record.reason = denial.to_string();
        record.qlik.source_id = source.map(Into::into);
        record.qlik.license = license.map(Into::into);
        record.user_agent = user_agent;
        self.refusals.note(record, asked.identity.address);
        if let Some(noted) = pending {
            self.pending.on_disk(noted).await;
        }
        Fault::Denied { denial, pending: pending.map(|noted| noted.number) }
    }
}

/// Whether a body is read in no time: compressed ones may be of any length.
fn is_quick(headers: &HeaderMap, body: &[u8]) -> bool {
    body.len() <= bounds::QUICK_BODY && !headers.contains_key(header::CONTENT_ENCODING)
}

fn reply_is_quick(reply: &Reply) -> bool {
    match &reply.body {
        ReplyBody::Streamed(..) => true,
        ReplyBody::Whole(body) => is_quick(reply.head.headers(), body),
    }
}

fn asker<'a>(message: &'a Message, identity: &'a Identity) -> Asker<'a> {
    Asker {
        said: message.said(),
        source: &message.source,
        licenses: &message.licenses,
        identity,
        activates: matches!(message.kind, Kind::Activation { .. }),
        sourceless: message.is_sourceless(),
        records: message.records(),
    }
}

fn note_message(access: &mut Access, message: &Message) {
    access.exchange = Some(message.kind.name());
    access.license = message.license().map(ToString::to_string);
    access.source = message.source.id().map(ToString::to_string);
}

fn note_reply(access: &mut Access, reply: &Reply) {
    access.upstream = Some(reply.address);
    access.status = Some(reply.head.status().as_u16());
    access.made_by = Some("back end");
    access.resent = reply.resent;
    access.bytes_out = reply.body.length();
}

/// The request as it is sent: bytes, order and case as they came.
fn request(asked: &Asked) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(asked.body.clone()));
    *request.method_mut() = asked.method.clone();
    *request.uri_mut() = asked.target.clone();
    *request.headers_mut() = asked.headers.clone();
    *request.extensions_mut() = asked.extensions.clone();
    request
}

fn outline(asked: &Asked, message: &Message, reply: &Reply, told: &Told) -> Outline {
    let Asked { method, target, headers, body, .. } = asked;
    let sent = Sent { method, target, headers, is_empty: body.is_empty(), message };
    let is_empty = matches!(&reply.body, ReplyBody::Whole(body) if body.is_empty());
    let (status, headers) = (reply.head.status().as_u16(), reply.head.headers());
    Outline::of(sent, Answered { status, headers, is_empty, told })
}

fn read_reply(message: &Message, reply: &Reply, words: &Words) -> Told {
    match (&reply.memory, &reply.body) {
        (Err(why), _) => Told::unread(*why),
        (Ok(_), ReplyBody::Streamed(bytes, _) | ReplyBody::Whole(bytes)) => {
            Told::read(&message.kind, reply.head.status(), reply.head.headers(), bytes, words)
        }
    }
}

#[cfg(test)]
mod tests;
