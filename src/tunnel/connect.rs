//! The proxy face: a `CONNECT` judged, answered, and led to its conversation.
//!
//! Nothing is resolved or dialled here. The authority decides; `Host` can only contradict it.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::bounds;
use crate::config::model::{Destination, Mode};
use crate::config::names::{Endpoint, Host};
use crate::http::head::{Head, HeadError};
use crate::http::reply::{Cause, Refusal};
use crate::http::serve::{Conversations, Way};
use crate::ledger::record::{Action, Record};
use crate::observe::access::Access;
use crate::stream::{Client, First, Rewound, last_word};
use crate::tls::faces::Faces;
use crate::tls::handshake::{TLS, handshake};
use crate::tls::{Alert, distrust};

/// The reply that opens a tunnel; it carries no length (RFC 9110 §9.3.6).
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// The proxy face.
#[derive(Debug)]
pub struct Proxy {
    /// Where terminated tunnels lead.
    pub conversations: Arc<Conversations>,
    /// The certificates.
    pub faces: Arc<Faces>,
}

impl Proxy {
    /// Serves a client that speaks HTTP to the port.
    pub async fn serve(&self, mut stream: Client, client: IpAddr, mode: &'static str, sni: Option<String>) {
        let first = tokio::select! {
            first = Head::read(&mut stream, Instant::now() + bounds::FIRST_BYTE) => first,
            () = self.conversations.stop.cancelled() => return,
        };
        let mut access = Access::new(Uuid::now_v7(), client, mode);
        access.sni = sni;
        let head = match first {
            Ok(head) => head,
            Err(HeadError::Closed) => return,
            Err(HeadError::Io(e)) => {
                if let Some(words) = distrust(&e) {
                    access.verdict = "refuse";
                    access.error = Some("tls_protocol_error");
                    access.cause = Some(words.into());
                    self.conversations.access.write(access);
                }
                return;
            }
            Err(e) => return self.refuse(stream, access, &Refusal::from(&e)).await,
        };
        access.method = Some(head.method.clone());
        access.authority = Some(head.target.clone());
        let to = match self.judge(&head) {
            Ok(to) => to,
            Err(refusal) => {
                if refusal.cause == Cause::DestinationNotListed {
                    let mut record = Record::new(Action::AccessDenied, access.id);
                    record.reason = refusal.sentence.clone();
                    self.conversations.exchange.refusals.note(record, client);
                }
                return self.refuse(stream, access, &refusal).await;
            }
        };
        match timeout(bounds::STALL, stream.write_all(ESTABLISHED)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
        let early = head.bytes.slice(head.end..);
        self.terminate(Rewound::new(early, stream), access, to).await;
    }

    /// May this tunnel be opened, and to where?
    fn judge(&self, head: &Head) -> Result<Destination, Refusal> {
        if self.conversations.stop.is_cancelled() {
            return Err(Refusal::new(Cause::Draining, "the relay is stopping"));
        }
        if head.method != "CONNECT" {
            return Err(match head.target.split_once("://") {
                Some((_, rest)) => {
                    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
                    let host = host.rsplit('@').next().unwrap_or_default();
                    Refusal::new(
                        Cause::DestinationNotListed,
                        &format!("{host} is not a listed host for plain http"),
                    )
                }
                None => {
                    Refusal::new(Cause::Misdirected, "this port is a proxy; set it as the product's proxy")
                }
            });
        }
        let authority: Endpoint = head.target.parse().map_err(|e| {
            Refusal::new(
                Cause::Malformed,
                &format!("the authority of CONNECT is not host:port, because it {e}"),
            )
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
        match self.conversations.exchange.policy.destinations.find(&authority) {
            Some(to) if to.mode == Mode::Terminate => Ok(to.clone()),
            _ => Err(Refusal::new(
                Cause::DestinationNotListed,
                &format!("{authority} is not in the list of destinations"),
            )),
        }
    }

    /// TLS inside the tunnel, whose name must be the authority's; then its conversation.
    async fn terminate(&self, mut stream: Rewound<Client>, access: Access, to: Destination) {
        let first = tokio::select! {
            first = stream.first_byte(Instant::now() + bounds::FIRST_BYTE) => first,
            () = self.conversations.stop.cancelled() => return,
        };
        match first {
            First::Byte(TLS) => {}
            First::Closed => return,
            First::Silence => return last_word(&mut stream, &Alert::HandshakeFailure.to_bytes()).await,
            First::Byte(_) => {
                let refusal =
                    Refusal::new(Cause::Malformed, "inside the tunnel to this host only TLS is served");
                return self.refuse(stream, access, &refusal).await;
            }
        }
        let choose = |sni: Option<&str>| {
            let agrees = sni.is_none_or(|name| name.parse().is_ok_and(|name| to.host == name));
            agrees.then(|| self.faces.of_host(&to.host)).flatten()
        };
        match handshake(stream, choose).await {
            Ok((stream, sni)) => {
                let Access { client, mode, authority, .. } = access;
                let way = Way { client, mode, sni, authority, user: None, to };
                self.conversations.clone().serve(stream, way).await;
            }
            Err(failed) => {
                self.conversations.access.write(failed.access(access.client, access.mode, access.authority));
            }
        }
    }

    async fn refuse<S>(&self, mut stream: S, mut access: Access, refusal: &Refusal)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let status = refusal.on_connect();
        refusal.note(&mut access, status);
        let bytes = refusal.to_bytes(status, access.id);
        self.conversations.access.write(access);
        last_word(&mut stream, &bytes).await;
    }
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
