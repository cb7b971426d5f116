//! What is known about a request, for its access line.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::labels::{ErrorClass, MadeBy, Verdict, WayIn};
use crate::budget::Room;
use relay_log::ledger::action::IdentifiedBy;
use relay_log::text::redact::clip;

/// What is known of one exchange; what is not known is not written. Whoever learns something says so by the function for it,
/// and [`AccessLog::write`](super::access::AccessLog::write) takes it once all of it is known.
#[derive(Clone, Debug)]
pub struct Access {
    /// The exchange, or the connection that came to none.
    id: Uuid,
    client: IpAddr,
    /// `None` where it is not known yet.
    pub(super) way: Option<WayIn>,
    arrival: Arrival,
    /// The Basic user name that was tried and refused.
    tried_user: Option<String>,
    method: Option<String>,
    /// The path alone, its plain words: a query may hold anything.
    path: Option<String>,
    /// The kind of the message.
    pub(super) exchange: Option<&'static str>,
    /// Who says it is asking.
    pub(super) source: Option<String>,
    /// The license it is about.
    license: Option<String>,
    pub(super) verdict: Verdict,
    /// What let it in.
    identified_by: Option<IdentifiedBy>,
    /// What the client was told instead of a reply.
    pub(super) reason: Option<String>,
    /// Where it went: the back end's address, or the parent's.
    upstream: Option<SocketAddr>,
    /// It went through the parent proxy.
    via_parent: bool,
    /// The status that the client got.
    status: Option<u16>,
    pub(super) made_by: Option<MadeBy>,
    pub(super) error: Option<ErrorClass>,
    /// All causes of an error; for the administrator alone.
    cause: Option<String>,
    /// The configuration it was judged by, counted from the start.
    generation: Option<u64>,
    /// It was sent a second time, because a kept connection handed it back unsent.
    resent: bool,
    /// The back end's reply could not be read, so the audit log does not hold what it says.
    pub(super) reply_unread: bool,
    /// How many others like it the line stands for, where it is not one.
    pub(super) count: Option<u64>,
    /// Bytes of the request's body.
    pub(super) bytes_in: u64,
    /// Bytes of the reply's body, as far as it was read here.
    pub(super) bytes_out: u64,
    /// What the exchange may write into the logs; the line is a part of it.
    pub(super) room: Arc<Room>,
    begun: Instant,
}

/// What a client said on its way in, before its requests.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// The name in the ClientHello.
    pub sni: Option<String>,
    /// The authority of the `CONNECT`, or of a target in absolute form with its scheme, as it was sent.
    pub authority: Option<String>,
    /// The Host of a `CONNECT`, as it was sent, where it is another one.
    pub host: Option<String>,
}

/// A reply of the back end, as far as its line says something about it.
#[derive(Clone, Copy, Debug)]
pub struct Replied {
    /// The address that it came from.
    pub upstream: SocketAddr,
    /// Its status.
    pub status: u16,
    /// The request was sent a second time.
    pub resent: bool,
    /// The length of its body, as far as it was read here.
    pub bytes: u64,
}

impl Access {
    /// The line of what has just begun.
    pub fn new(id: Uuid, client: IpAddr, way: Option<WayIn>, arrival: Arrival) -> Self {
        Self {
            id,
            client,
            way,
            arrival,
            tried_user: None,
            method: None,
            path: None,
            exchange: None,
            source: None,
            license: None,
            verdict: Verdict::Allow,
            identified_by: None,
            reason: None,
            upstream: None,
            via_parent: false,
            status: None,
            made_by: None,
            error: None,
            cause: None,
            generation: None,
            resent: false,
            reply_unread: false,
            count: None,
            bytes_in: 0,
            bytes_out: 0,
            room: Arc::default(),
            begun: Instant::now(),
        }
    }

    /// The id of the exchange.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The client's address.
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// What the client said on its way in.
    pub(crate) fn arrival(&self) -> &Arrival {
        &self.arrival
    }

    /// The head of a `CONNECT`, or of a request in absolute form, was read.
    pub(crate) fn arrived(&mut self, authority: Option<String>, host: Option<String>) {
        self.arrival = Arrival { authority, host, ..std::mem::take(&mut self.arrival) };
    }

    /// The ClientHello was read.
    pub(crate) fn greeted(&mut self, sni: Option<String>) {
        self.arrival.sni = sni;
    }

    /// A request was read, and is judged by this generation of the configuration.
    pub(crate) fn requested(&mut self, generation: u64, method: String, path: Option<String>) {
        (self.generation, self.method, self.path) = (Some(generation), Some(method), path);
    }

    /// The body of the request was read.
    pub(crate) fn read_body(&mut self, length: usize) {
        self.bytes_in = length as u64;
    }

    /// Credentials prove nobody, and why.
    pub(crate) fn unproven(&mut self, tried_user: Option<String>, why: String) {
        (self.tried_user, self.cause) = (tried_user, Some(why));
    }

    /// What the request says was read.
    pub(crate) fn understood(&mut self, kind: &'static str, source: Option<String>, license: Option<String>) {
        (self.exchange, self.source, self.license) = (Some(kind), source, license);
    }

    /// Policy lets it in, and this may be written for it.
    pub(crate) fn admitted(&mut self, by: IdentifiedBy, is_listed: bool, room: Arc<Room>) {
        self.identified_by = Some(by);
        self.verdict = if is_listed { Verdict::Allow } else { Verdict::Observe };
        self.room = room;
    }

    /// It is sent, and by which way.
    pub(crate) fn sent(&mut self, via_parent: bool) {
        self.via_parent = via_parent;
    }

    /// A stream leads to this address.
    pub(crate) fn reached(&mut self, upstream: Option<SocketAddr>) {
        self.upstream = upstream;
    }

    /// The back end replied.
    pub(crate) fn replied(&mut self, reply: Replied) {
        self.reached(Some(reply.upstream));
        (self.status, self.made_by) = (Some(reply.status), Some(MadeBy::BackEnd));
        (self.resent, self.bytes_out) = (reply.resent, reply.bytes);
    }

    /// What the reply says could not be read.
    pub(crate) fn reply_not_read(&mut self) {
        self.reply_unread = true;
    }

    /// Something went wrong after it was let in.
    pub(crate) fn failed(&mut self, error: ErrorClass, cause: String) {
        (self.error, self.cause) = (Some(error), Some(cause));
    }

    /// There was no TLS with the client, and nothing could be said to it.
    pub(crate) fn no_tls(&mut self, cause: String) {
        self.verdict = Verdict::Refuse;
        self.failed(ErrorClass::TlsProtocolError, cause);
    }

    /// The relay replied itself, with a refusal. An exchange that was let in keeps its verdict, and an error its class.
    pub(crate) fn refused(&mut self, sentence: &str, token: ErrorClass, status: u16) {
        if self.identified_by.is_none() {
            self.verdict = Verdict::Refuse;
        }
        self.answered(status);
        self.reason = Some(sentence.to_owned());
        self.error.get_or_insert(token);
    }

    /// The relay replied itself.
    pub(crate) fn answered(&mut self, status: u16) {
        (self.status, self.made_by) = (Some(status), Some(MadeBy::Relay));
    }

    /// A tunnel has ended: how, after how many bytes each way, and why it was revoked, where it was.
    pub(crate) fn ended(&mut self, by: &str, sent: u64, received: u64, revoked: Option<String>) {
        (self.bytes_in, self.bytes_out) = (sent, received);
        self.reason = Some(format!("ended by {by}"));
        self.cause = revoked.or_else(|| self.cause.take());
    }

    /// The way in, as it is written.
    pub(super) fn mode(&self) -> &'static str {
        self.way.map_or("none", WayIn::as_str)
    }

    /// In the order people read them.
    pub(super) fn pairs(&self, client: &str) -> [(&'static str, Value); 27] {
        let text = |value: &Option<String>| value.as_deref().map(clip).into();
        [
            ("id", self.id.to_string().into()),
            ("client", client.into()),
            ("mode", self.mode().into()),
            ("sni", text(&self.arrival.sni)),
            ("authority", text(&self.arrival.authority)),
            ("host", text(&self.arrival.host)),
            ("tried_user", text(&self.tried_user)),
            ("method", text(&self.method)),
            ("path", text(&self.path)),
            ("exchange", self.exchange.into()),
            ("source", text(&self.source)),
            ("license", text(&self.license)),
            ("verdict", self.verdict.as_str().into()),
            ("identified_by", self.identified_by.map(IdentifiedBy::as_str).into()),
            ("status", self.status.into()),
            ("made_by", self.made_by.map(MadeBy::as_str).into()),
            ("reason", text(&self.reason)),
            ("upstream", self.upstream.map(|address| address.to_string()).into()),
            ("via_parent", self.via_parent.then_some(true).into()),
            ("error", self.error.map(ErrorClass::as_str).into()),
            ("cause", text(&self.cause)),
            ("resent", self.resent.then_some(true).into()),
            ("reply_unread", self.reply_unread.then_some(true).into()),
            ("generation", self.generation.into()),
            ("count", self.count.into()),
            ("bytes", format!("{}/{}", self.bytes_in, self.bytes_out).into()),
            ("ms", u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).into()),
        ]
    }
}
