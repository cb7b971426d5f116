//! What is known about a request, for its access line.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use crate::budget::Room;
use crate::text::redact::clip;

/// What is known of one exchange; what is not known is not written.
#[derive(Clone, Debug)]
pub struct Access {
    /// The exchange, or the connection that came to none.
    pub id: Uuid,
    /// The client's address.
    pub client: IpAddr,
    /// `connect`, `tls` or `direct`.
    pub mode: &'static str,
    /// The name in the ClientHello.
    pub sni: Option<String>,
    /// The authority of the `CONNECT`, or of a target in absolute form with its scheme, as it was sent.
    pub authority: Option<String>,
    /// The Host of a `CONNECT`, as it was sent, where it is another one.
    pub host: Option<String>,
    /// The Basic user name that was tried and refused.
    pub tried_user: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// The path alone, its plain words: a query may hold anything.
    pub path: Option<String>,
    /// The kind of the message.
    pub exchange: Option<&'static str>,
    /// Who says it is asking.
    pub source: Option<String>,
    /// The license it is about.
    pub license: Option<String>,
    /// `allow`, `observe` or `refuse`; `close` for a connection that gave way to another one.
    pub verdict: &'static str,
    /// What let it in.
    pub identified_by: Option<&'static str>,
    /// What the client was told instead of a reply.
    pub reason: Option<String>,
    /// Where it went: the back end's address, or the parent's.
    pub upstream: Option<SocketAddr>,
    /// It went through the parent proxy.
    pub via_parent: bool,
    /// The status that the client got.
    pub status: Option<u16>,
    /// `relay` or `back end`.
    pub made_by: Option<&'static str>,
    /// The class of an upstream error, or the token of a refusal.
    pub error: Option<&'static str>,
    /// All causes of an error; for the administrator alone.
    pub cause: Option<String>,
    /// The configuration it was judged by, counted from the start.
    pub generation: Option<u64>,
    /// It was sent a second time, because a kept connection handed it back unsent.
    pub resent: bool,
    /// The back end's reply could not be read, so the audit log does not hold what it tells.
    pub reply_unread: bool,
    /// How many others like it the line stands for, where it is not one.
    pub(crate) count: Option<u64>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the reply's body, as far as it was read here.
    pub bytes_out: u64,
    /// What the exchange may write into the logs; the line is a part of it.
    pub room: Arc<Room>,
    begun: Instant,
}

impl Access {
    /// The line of what has just begun.
    pub fn new(id: Uuid, client: IpAddr, mode: &'static str) -> Self {
        Self {
            id,
            client,
            mode,
            sni: None,
            authority: None,
            host: None,
            tried_user: None,
            method: None,
            path: None,
            exchange: None,
            source: None,
            license: None,
            verdict: "allow",
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

    /// In the order people read them.
    pub(super) fn pairs(&self, client: &str) -> [(&'static str, Value); 27] {
        let text = |value: &Option<String>| value.as_deref().map(clip).into();
        [
            ("id", self.id.to_string().into()),
            ("client", client.into()),
            ("mode", self.mode.into()),
            ("sni", text(&self.sni)),
            ("authority", text(&self.authority)),
            ("host", text(&self.host)),
            ("tried_user", text(&self.tried_user)),
            ("method", text(&self.method)),
            ("path", text(&self.path)),
            ("exchange", self.exchange.into()),
            ("source", text(&self.source)),
            ("license", text(&self.license)),
            ("verdict", self.verdict.into()),
            ("identified_by", self.identified_by.into()),
            ("status", self.status.into()),
            ("made_by", self.made_by.into()),
            ("reason", text(&self.reason)),
            ("upstream", self.upstream.map(|address| address.to_string()).into()),
            ("via_parent", self.via_parent.then_some(true).into()),
            ("error", self.error.into()),
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
