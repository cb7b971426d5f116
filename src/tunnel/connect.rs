//! The proxy face: a `CONNECT` judged, answered, and led to its conversation or its tunnel.
//!
//! The authority decides; `Host` can only contradict it. In `terminate` nothing is resolved or dialled here.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::copy::{Buffers, Copied, copy};
use crate::bounds;
use crate::config::model::{Credentials, Destination, Mode};
use crate::config::names::{Endpoint, Host};
use crate::http::head::{Head, HeadError};
use crate::http::reply::{Cause, Refusal};
use crate::http::serve::{Conversations, To, Way};
use crate::ledger::record::{Action, Record, word};
use crate::observe::access::{Access, shown_host};
use crate::policy::users::Checked;
use crate::setup::Setup;
use crate::stream::{AnyStream, First, Rewound, last_word};
use crate::tls::handshake::{TLS, handshake, read_hello};
use crate::tls::{Alert, left};

/// The reply that opens a tunnel; it carries no length (RFC 9110 §9.3.6).
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// The proxy face.
#[derive(Debug)]
pub struct Proxy {
    /// Where terminated tunnels lead.
    pub conversations: Arc<Conversations>,
    /// What tunnels copy with.
    pub buffers: Buffers,
}

/// Where a request on the proxy face leads.
enum Step {
    /// A `CONNECT` whose TLS ends here.
    Terminate(Destination),
    /// A `CONNECT` whose bytes are copied.
    Tunnel(Destination),
    /// Requests in absolute form, for the legacy hosts.
    Absolute,
}

impl Proxy {
    /// Serves a client that speaks HTTP to the port.
    pub async fn serve(&self, stream: AnyStream, client: IpAddr, mode: &'static str, sni: Option<String>) {
        let mut stream = Rewound::new(bytes::Bytes::new(), stream);
        for turn in 0..bounds::CHALLENGES {
            let mut access = Access::new(Uuid::now_v7(), client, mode);
            access.sni.clone_from(&sni);
            let first = tokio::select! {
                first = Head::read(&mut stream, Instant::now() + bounds::FIRST_BYTE) => first,
                () = self.conversations.stop.cancelled() => {
                    return self.refuse(stream, access, &Refusal::draining()).await;
                }
            };
            let head = match first {
                Ok(head) => head,
                // Whoever has asked before has believed our certificate.
                Err(e @ (HeadError::Closed | HeadError::Io(_))) if mode == "tls" && turn == 0 => {
                    return self.note_left(access, e.io());
                }
                Err(HeadError::Closed | HeadError::Cut | HeadError::Io(_)) => return,
                Err(e) => return self.refuse(stream, access, &Refusal::from(&e)).await,
            };
            let setup = self.conversations.setup.load_full();
            access.generation = Some(setup.generation);
            access.method = Some(word(&head.method));
            access.authority = shown_host(&head.target);
            // Before anything is done for it: each attempt costs us more than its bytes.
            if let Err(fault) = self.conversations.exchange.admit_address(&setup, client, access.id) {
                return self.refuse(stream, access, &Refusal::from(&fault)).await;
            }
            let (step, user) = match self.judge(&setup, &head, client).await {
                Ok(judged) => judged,
                // Kept open, so that a client that waits for the challenge can answer it.
                Err(refusal) if refusal.cause == Cause::Credentials => {
                    stream.put_back(head.bytes.slice(head.end..));
                    if self.challenge(&mut stream, access, &refusal).await { continue } else { return }
                }
                Err(refusal) => {
                    if matches!(refusal.cause, Cause::DestinationNotListed | Cause::PlainHttp) {
                        let mut record = Record::new(Action::AccessDenied, access.id);
                        record.reason = refusal.sentence.clone();
                        self.conversations.exchange.refusals.note(record, client);
                    }
                    return self.refuse(stream, access, &refusal).await;
                }
            };
            return match step {
                Step::Terminate(to) => {
                    stream.put_back(head.bytes.slice(head.end..));
                    self.terminate(setup, stream, access, to, user).await;
                }
                Step::Tunnel(to) => {
                    stream.put_back(head.bytes.slice(head.end..));
                    self.tunnel(setup, stream, access, to, user).await;
                }
                Step::Absolute => {
                    drop(setup);
                    stream.put_back(head.bytes);
                    let to = To::ByTarget;
                    let way = Way { client, mode: "absolute", sni, authority: None, user, to, counted: true };
                    self.conversations.clone().serve(stream, way).await;
                }
            };
        }
    }

    /// May this be asked, by whom, and where does it lead?
    async fn judge(
        &self,
        setup: &Setup,
        head: &Head,
        client: IpAddr,
    ) -> Result<(Step, Option<String>), Refusal> {
        if self.conversations.stop.is_cancelled() {
            return Err(Refusal::draining());
        }
        let step = if head.method == "CONNECT" {
            Self::judge_connect(setup, head)?
        } else {
            Self::judge_absolute(setup, head)?
        };
        let user = Self::user(setup, head, client).await?;
        let step = match step {
            Step::Terminate(to) if setup.policy.wants_tunnel(user.as_deref(), client) => Step::Tunnel(to),
            step => step,
        };
        Ok((step, user))
    }

    fn judge_connect(setup: &Setup, head: &Head) -> Result<Step, Refusal> {
        let authority: Endpoint = head.target.parse().map_err(|e| {
            let words = format!("the authority of CONNECT is not host:port, because it {e}");
            Refusal::new(Cause::Malformed, &words)
        })?;
        if let Some(host) = head.values("host").next()
            && !agrees(host, &authority)
        {
            return Err(Refusal::new(Cause::Misdirected, "Host and the authority of CONNECT disagree"));
        }
        let has_body = head.values("transfer-encoding").next().is_some()
            || head.values("content-length").any(|length| length.iter().any(|b| *b != b'0'));
        if has_body {
            return Err(Refusal::new(Cause::Malformed, "CONNECT has no body"));
        }
        match setup.policy.destinations.find(&authority) {
            Some(to) if to.mode == Mode::Terminate => Ok(Step::Terminate(to.clone())),
            Some(to) if to.mode == Mode::Tunnel => Ok(Step::Tunnel(to.clone())),
            _ => {
                let words = format!("{authority} is not in the list of destinations");
                Err(Refusal::new(Cause::DestinationNotListed, &words))
            }
        }
    }

    /// Absolute form is for hosts of mode `http` alone; each request of the conversation is looked up again.
    fn judge_absolute(setup: &Setup, head: &Head) -> Result<Step, Refusal> {
        let Some((scheme, rest)) = head.target.split_once("://") else {
            return Err(Refusal::new(
                Cause::Misdirected,
                "this port is a proxy; set it as the product's proxy",
            ));
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let plain = scheme.eq_ignore_ascii_case("http");
        let listed = setup.policy.destinations.plain(authority);
        if plain && listed.is_some() {
            return Ok(Step::Absolute);
        }
        Err(Refusal::not_plain_http(&head.target))
    }

    /// The Basic user, where credentials are looked at and right.
    async fn user(setup: &Setup, head: &Head, client: IpAddr) -> Result<Option<String>, Refusal> {
        let sent: Vec<&[u8]> = head.values("proxy-authorization").collect();
        match (setup.config.listen.credentials, sent.as_slice()) {
            (Credentials::Off, _) | (Credentials::Optional, []) => Ok(None),
            (_, [header]) => match setup.users.check(header, client).await {
                Checked::User(user) => Ok(Some(user)),
                Checked::Wrong => Err(Refusal::new(Cause::Credentials, "user name or password is wrong")),
                Checked::TooMany(wait) => {
                    let words = "too many wrong credentials of this address";
                    Err(Refusal::new(Cause::RateLimited, words).after(wait))
                }
                Checked::Busy => {
                    Err(Refusal::new(Cause::Overloaded, "too many passwords are being checked at once"))
                }
            },
            (_, []) => Err(Refusal::new(Cause::Credentials, "this relay demands a user name and password")),
            (_, _) => Err(Refusal::new(Cause::Malformed, "more than one Proxy-Authorization")),
        }
    }

    /// TLS inside the tunnel, whose name must be the authority's; then its conversation.
    async fn terminate(
        &self,
        setup: Arc<Setup>,
        mut stream: Rewound<AnyStream>,
        access: Access,
        to: Destination,
        user: Option<String>,
    ) {
        if !establish(&mut stream).await {
            return;
        }
        let first = tokio::select! {
            first = stream.first_byte(Instant::now() + bounds::FIRST_BYTE) => first,
            () = self.conversations.stop.cancelled() => First::Silence,
        };
        match first {
            First::Byte(TLS) => {}
            First::Closed(_) => return,
            First::Silence => return last_word(&mut stream, &Alert::HandshakeFailure.to_bytes()).await,
            First::Byte(_) => {
                let refusal =
                    Refusal::new(Cause::Malformed, "inside the tunnel to this host only TLS is served");
                return self.refuse(stream, access, &refusal).await;
            }
        }
        let faces = &setup.faces;
        let choose =
            |sni: Option<&str>| named(sni, &to).then(|| faces.of_host(&to.host, access.client)).flatten();
        let shaken = handshake(stream, access.client, faces, choose).await;
        // What follows takes what is in force then, and old setups go with their last request.
        drop(setup);
        match shaken {
            Ok((stream, sni)) => {
                let Access { client, mode, authority, .. } = access;
                let way = Way { client, mode, sni, authority, user, to: To::Host(to), counted: false };
                self.conversations.clone().serve(stream, way).await;
            }
            Err(failed) => {
                let line = failed.access(access.client, access.mode, access.authority);
                self.conversations.setup.load().access.write(line);
            }
        }
    }

    /// Bytes copied, unread but for the name in the ClientHello, which must be the authority's.
    async fn tunnel(
        &self,
        setup: Arc<Setup>,
        mut stream: Rewound<AnyStream>,
        mut access: Access,
        to: Destination,
        user: Option<String>,
    ) {
        let exchange = &self.conversations.exchange;
        let (opened, passage) = match exchange.open_tunnel(&setup, &to, user.as_deref(), &mut access).await {
            Ok(opened) => opened,
            Err(fault) => return self.refuse(stream, access, &Refusal::from(&fault)).await,
        };
        drop(setup);
        let mut copied = Copied { sent: 0, received: 0, ended_by: "client" };
        if establish(&mut stream).await {
            access.status = Some(200);
            access.made_by = Some("relay");
            match read_hello(&mut stream).await {
                Ok(sni) if named(sni.as_deref(), &to) => {
                    access.sni = sni;
                    let client = AnyStream::new(stream);
                    copied = copy(client, opened.stream, &self.buffers, &self.conversations.stop).await;
                }
                wrong => {
                    let alert = if wrong.is_ok() { Alert::UnrecognizedName } else { Alert::HandshakeFailure };
                    access.error = Some("tls_protocol_error");
                    access.cause = Some("inside the tunnel there was no TLS to this host".into());
                    last_word(&mut stream, &alert.to_bytes()).await;
                }
            }
        }
        access.bytes_in = copied.sent;
        access.bytes_out = copied.received;
        access.reason = Some(format!("ended by {}", copied.ended_by));
        exchange.close_tunnel(passage, copied.sent, copied.received, copied.ended_by).await;
        self.conversations.setup.load().access.write(access);
    }

    fn note_left(&self, mut access: Access, error: Option<&std::io::Error>) {
        access.verdict = "refuse";
        access.error = Some("tls_protocol_error");
        access.cause = Some(left(error).into());
        self.conversations.setup.load().access.write(access);
    }

    /// A 407 after which the connection stays; `false` where it is gone.
    async fn challenge(
        &self,
        stream: &mut Rewound<AnyStream>,
        mut access: Access,
        refusal: &Refusal,
    ) -> bool {
        let status = refusal.on_connect();
        refusal.note(&mut access, status);
        let bytes = refusal.to_kept_bytes(status, access.id);
        self.conversations.setup.load().access.write(access);
        matches!(timeout(bounds::STALL, stream.write_all(&bytes)).await, Ok(Ok(())))
    }

    async fn refuse<S>(&self, mut stream: S, mut access: Access, refusal: &Refusal)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let status = refusal.on_connect();
        refusal.note(&mut access, status);
        let bytes = refusal.to_bytes(status, access.id);
        self.conversations.setup.load().access.write(access);
        last_word(&mut stream, &bytes).await;
    }
}

async fn establish(stream: &mut Rewound<AnyStream>) -> bool {
    matches!(timeout(bounds::STALL, stream.write_all(ESTABLISHED)).await, Ok(Ok(())))
}

/// A ClientHello may leave the name out; it may not name another host.
fn named(sni: Option<&str>, to: &Destination) -> bool {
    sni.is_none_or(|name| name.parse().is_ok_and(|name| to.host == name))
}

/// A `Host` may leave the port out; it may not name another host or port.
fn agrees(host: &[u8], authority: &Endpoint) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    match host.parse::<Endpoint>() {
        Ok(endpoint) => endpoint == *authority,
        Err(_) => host.trim_matches(['[', ']']).parse::<Host>().is_ok_and(|host| host == authority.host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_may_leave_out_the_port_and_nothing_else() {
        let authority = "license.qlikcloud.com:443".parse().unwrap();
        for host in ["license.qlikcloud.com:443", "License.QlikCloud.com", "license.qlikcloud.com."] {
            assert!(agrees(host.as_bytes(), &authority), "{host}");
        }
        for host in ["evil.example:443", "license.qlikcloud.com:80", "", "x@license.qlikcloud.com"] {
            assert!(!agrees(host.as_bytes(), &authority), "{host}");
        }
        assert!(agrees(b"[::1]", &"[::1]:443".parse().unwrap()));
    }
}
