//! The proxy face: a `CONNECT` judged, answered, and led to its conversation or its tunnel.
//!
//! The authority alone decides. A well-formed `Host` is ignored, as other proxies do: there are clients that send the
//! proxy's own name in it. In `terminate` nothing is resolved or dialled here.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::copy::{Buffers, Copied, copy};
use crate::app::App;
use crate::bounds;
use crate::config::model::{Destination, Mode};
use crate::config::names::Endpoint;
use crate::exchange::tunnel::{EndedBy, OpenTunnel};
use crate::http::head::{self, Head, HeadError};
use crate::http::reply::{Cause, Refusal};
use crate::http::serve::{ConnectionInfo, ConnectionServer, Target};
use crate::observe::facts::{Access, Arrival};
use crate::observe::labels::ErrorClass;
use crate::observe::shown::{is_authority, shown_authority, shown_target};
use crate::policy::identity::{ClientIdentity, Unproven, WayIn};
use crate::policy::places::ConnectionPlace;
use crate::setup::Setup;
use crate::stream::{AnyStream, First, Rewound, last_word};
use crate::tls::handshake::{TLS, handshake, read_hello};
use crate::tls::{Alert, left};
use relay_log::text::redact::word;

/// The reply that opens a tunnel; it carries no length (RFC 9110 §9.3.6).
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// The proxy face.
#[derive(Debug)]
pub struct Proxy {
    app: Arc<App>,
    /// Buffers that all tunnels share.
    buffers: Buffers,
}

/// Why a request on the proxy face leads nowhere.
enum Stopped {
    /// Because of what it asks for.
    Refused(Refusal),
    /// Because of the credentials it came with.
    Unproven(Unproven),
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Where a request on the proxy face leads.
enum Route {
    /// A `CONNECT` whose TLS ends here.
    Terminate(Destination),
    /// A `CONNECT` whose bytes are copied.
    Tunnel(Destination),
    /// Requests in absolute form, for the legacy hosts.
    Absolute,
}

impl Proxy {
    /// The proxy face of this app.
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app, buffers: Buffers::default() }
    }

    /// Serves a client that speaks HTTP to the port.
    pub async fn serve(
        &self,
        stream: AnyStream,
        client: IpAddr,
        way: WayIn,
        sni: Option<String>,
        place: Arc<ConnectionPlace>,
    ) {
        let mut stream = Rewound::new(bytes::Bytes::new(), stream);
        for turn in 0..bounds::CHALLENGES {
            let arrival = Arrival { sni: sni.clone(), ..Arrival::default() };
            let mut access = Access::new(Uuid::now_v7(), client, Some(way), arrival);
            place.rest();
            let first = tokio::select! {
                first = read_head(&mut stream, &place) => first,
                () = self.app.stop.cancelled() => {
                    return self.refuse(stream, access, &Refusal::draining()).await;
                }
            };
            let head = match first {
                Ok(head) => head,
                // A client that has asked before has trusted our certificate.
                Err(e @ (HeadError::Closed | HeadError::Io(_))) if way == WayIn::TlsConnect && turn == 0 => {
                    return self.note_left(access, e.io());
                }
                Err(HeadError::Closed | HeadError::Cut | HeadError::Io(_)) => return,
                Err(e) => return self.refuse(stream, access, &Refusal::from(&e)).await,
            };
            let setup = self.app.setup.load_full();
            access.requested(setup.generation, word(&head.method), None);
            access.arrived(shown_target(&head.target), other_host(&head));
            // Before anything is done for it: each attempt costs us more than its bytes.
            if let Err(fault) = self.app.exchange.admit_address(&setup, client, access.id()) {
                return self.refuse(stream, access, &Refusal::from(&fault)).await;
            }
            if !setup.config.listen.lets_connect(client) {
                return self.refuse(stream, access, &Refusal::address(client)).await;
            }
            let (route, identity) = match self.judge(&setup, &head, client, way).await {
                Ok(judged) => judged,
                Err(Stopped::Unproven(unproven)) => {
                    let refusal = self.app.refuse_credentials(&unproven, &mut access);
                    if refusal.cause != Cause::Credentials {
                        return self.refuse(stream, access, &refusal).await;
                    }
                    // Kept open, so that a client that waits for the challenge can answer it.
                    stream.put_back(head.bytes.slice(head.end..));
                    if self.challenge(&mut stream, access, &refusal).await { continue } else { return }
                }
                Err(Stopped::Refused(refusal)) => {
                    if matches!(refusal.cause, Cause::DestinationNotListed | Cause::PlainHttp) {
                        self.app.note_denied(&refusal, client, access.id());
                    }
                    return self.refuse(stream, access, &refusal).await;
                }
            };
            return match route {
                Route::Terminate(to) => {
                    stream.put_back(head.bytes.slice(head.end..));
                    self.terminate(setup, stream, access, to, identity, place).await;
                }
                Route::Tunnel(to) => {
                    stream.put_back(head.bytes.slice(head.end..));
                    self.tunnel(setup, stream, access, to, identity, &place).await;
                }
                Route::Absolute => {
                    drop(setup);
                    stream.put_back(head.bytes);
                    let to = Target::PerRequest;
                    let info = ConnectionInfo {
                        identity,
                        arrival: Arrival { sni, ..Arrival::default() },
                        to,
                        counted: true,
                    };
                    ConnectionServer::new(self.app.clone(), info).serve(stream, place).await;
                }
            };
        }
    }

    /// Decides whether this may be asked and by whom, and where it leads.
    async fn judge(
        &self,
        setup: &Setup,
        head: &Head,
        client: IpAddr,
        way: WayIn,
    ) -> Result<(Route, ClientIdentity), Stopped> {
        if self.app.stop.is_cancelled() {
            return Err(Refusal::draining().into());
        }
        let route = if head.method == "CONNECT" {
            Self::judge_connect(setup, head)?
        } else {
            Self::judge_absolute(setup, head)?
        };
        let way = if matches!(route, Route::Absolute) { WayIn::Absolute } else { way };
        let sent: Vec<&[u8]> = head.values("proxy-authorization").collect();
        let identity =
            ClientIdentity::read(way, client, &sent, setup.config.listen.credentials, &setup.users);
        let identity = identity.await.map_err(Stopped::Unproven)?;
        let route = match route {
            Route::Terminate(to) if setup.policy.wants_tunnel(&identity) => Route::Tunnel(to),
            route => route,
        };
        Ok((route, identity))
    }

    fn judge_connect(setup: &Setup, head: &Head) -> Result<Route, Refusal> {
        if head.target.contains("://") {
            let words = "the target of CONNECT is host:port alone, without a scheme in front";
            return Err(Refusal::new(Cause::Malformed, words));
        }
        let authority: Endpoint = head.target.parse().map_err(|e| {
            let words = format!("the authority of CONNECT is not host:port, because it {e}");
            Refusal::new(Cause::Malformed, &words)
        })?;
        if let Some(host) = head.values("host").next()
            && !std::str::from_utf8(host).is_ok_and(is_authority)
        {
            return Err(Refusal::new(Cause::Malformed, "the Host of CONNECT is not host or host:port"));
        }
        let has_body = head.values("transfer-encoding").next().is_some()
            || head.values("content-length").any(|length| length.iter().any(|b| *b != b'0'));
        if has_body {
            return Err(Refusal::new(Cause::Malformed, "CONNECT has no body"));
        }
        match setup.policy.destinations.find(&authority) {
            Some(to) if to.mode == Mode::Terminate => Ok(Route::Terminate(to.clone())),
            Some(to) if to.mode == Mode::Tunnel => Ok(Route::Tunnel(to.clone())),
            _ => {
                let words = format!("{authority} is not in the list of destinations");
                Err(Refusal::new(Cause::DestinationNotListed, &words))
            }
        }
    }

    /// Absolute form is for hosts of mode `http` alone; each request of the conversation is looked up again.
    fn judge_absolute(setup: &Setup, head: &Head) -> Result<Route, Refusal> {
        let Some((scheme, rest)) = head.target.split_once("://") else {
            return Err(Refusal::new(
                Cause::Misdirected,
                "this port is a proxy; set it as the product's proxy",
            ));
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if scheme.eq_ignore_ascii_case("https") {
            let words = "an https URL is reached through CONNECT host:port, not by sending it to the proxy";
            return Err(Refusal::new(Cause::PlainHttp, words));
        }
        let plain = scheme.eq_ignore_ascii_case("http");
        let listed = setup.policy.destinations.plain(authority);
        if plain && listed.is_some() {
            return Ok(Route::Absolute);
        }
        Err(Refusal::not_plain_http(&head.target))
    }

    /// Ends the TLS inside the tunnel, whose name must be the authority's, then serves its conversation.
    async fn terminate(
        &self,
        setup: Arc<Setup>,
        mut stream: Rewound<AnyStream>,
        access: Access,
        to: Destination,
        identity: ClientIdentity,
        place: Arc<ConnectionPlace>,
    ) {
        if !establish(&mut stream).await {
            return;
        }
        place.rest();
        let first = tokio::select! {
            first = stream.first_byte(Instant::now() + bounds::FIRST_BYTE) => first,
            () = self.app.stop.cancelled() => First::Silence,
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
            |sni: Option<&str>| to.takes_sni(sni).then(|| faces.of_host(&to.host, access.client())).flatten();
        let shaken = handshake(stream, access.client(), faces, choose).await;
        // What follows takes what is in force then, and old setups go with their last request.
        drop(setup);
        match shaken {
            Ok((stream, sni)) => {
                let to = Target::Host(to);
                let arrival = Arrival { sni, ..access.arrival().clone() };
                let info = ConnectionInfo { identity, arrival, to, counted: false };
                ConnectionServer::new(self.app.clone(), info).serve(stream, place).await;
            }
            Err(failed) => {
                let line = failed.access(access.client(), identity.way, access.arrival().authority.clone());
                self.app.setup.load().access.write(line);
            }
        }
    }

    /// Copies bytes, and reads of them only the name in the ClientHello, which must be the authority's.
    async fn tunnel(
        &self,
        setup: Arc<Setup>,
        mut stream: Rewound<AnyStream>,
        mut access: Access,
        to: Destination,
        identity: ClientIdentity,
        place: &ConnectionPlace,
    ) {
        place.ends_itself();
        let exchange = &self.app.exchange;
        let (opened, tunnel) = match exchange.open_tunnel(&setup, &to, &identity, &mut access).await {
            Ok(opened) => opened,
            Err(fault) => return self.refuse(stream, access, &Refusal::from(&fault)).await,
        };
        drop(setup);
        let mut copied = Copied { sent: 0, received: 0, ended_by: EndedBy::Client };
        let mut why_revoked = None;
        if establish(&mut stream).await {
            access.answered(200);
            match read_hello(&mut stream).await {
                Ok(sni) if to.takes_sni(sni.as_deref()) => {
                    access.greeted(sni);
                    let client = AnyStream::new(stream);
                    let ended = async {
                        tokio::select! {
                            why = self.revoked(&tunnel) => {
                                why_revoked = Some(why);
                                EndedBy::Revocation
                            }
                            () = place.gone() => EndedBy::Limit,
                        }
                    };
                    place.rest_as_tunnel();
                    copied = copy(client, opened.stream, &self.buffers, &self.app.stop, ended).await;
                }
                wrong => {
                    let alert = if wrong.is_ok() { Alert::UnrecognizedName } else { Alert::HandshakeFailure };
                    let cause = "inside the tunnel there was no TLS to this host";
                    access.failed(ErrorClass::TlsProtocolError, cause.into());
                    last_word(&mut stream, &alert.to_bytes()).await;
                }
            }
        }
        let Copied { sent, received, ended_by } = copied;
        access.ended(ended_by.as_str(), sent, received, why_revoked.clone());
        exchange.close_tunnel(tunnel, sent, received, ended_by, why_revoked.as_deref()).await;
        self.app.setup.load().access.write(access);
    }

    /// Judges a tunnel again under each setup that follows, and returns once it would not be let in any more: why not.
    async fn revoked(&self, tunnel: &OpenTunnel) -> String {
        let mut judged = tunnel.generation();
        loop {
            let setup = self.app.setup.after(judged).await;
            if let Some(why) = tunnel.revoked(&setup) {
                return why;
            }
            judged = setup.generation;
        }
    }

    fn note_left(&self, mut access: Access, error: Option<&std::io::Error>) {
        access.no_tls(left(error).into());
        self.app.setup.load().access.write(access);
    }

    /// Sends a 407 after which the connection stays; `false` where it is gone.
    async fn challenge(
        &self,
        stream: &mut Rewound<AnyStream>,
        mut access: Access,
        refusal: &Refusal,
    ) -> bool {
        let status = refusal.on_connect();
        refusal.note(&mut access, status);
        let bytes = refusal.to_kept_bytes(status, access.id());
        self.app.setup.load().access.write(access);
        matches!(timeout(bounds::STALL, stream.write_all(&bytes)).await, Ok(Ok(())))
    }

    async fn refuse<S>(&self, mut stream: S, mut access: Access, refusal: &Refusal)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let status = refusal.on_connect();
        refusal.note(&mut access, status);
        let bytes = refusal.to_bytes(status, access.id());
        self.app.setup.load().access.write(access);
        last_word(&mut stream, &bytes).await;
    }
}

/// Reads a head; from its first byte on the connection keeps its place.
async fn read_head(stream: &mut Rewound<AnyStream>, place: &ConnectionPlace) -> Result<Head, HeadError> {
    let deadline = Instant::now() + bounds::FIRST_BYTE;
    head::begun(stream, place, deadline).await?;
    Head::read(stream, deadline).await
}

async fn establish(stream: &mut Rewound<AnyStream>) -> bool {
    matches!(timeout(bounds::STALL, stream.write_all(ESTABLISHED)).await, Ok(Ok(())))
}

/// The `Host` of a `CONNECT`, where it is not just its authority. They are compared as they were sent: this is for people.
fn other_host(head: &Head) -> Option<String> {
    let host = head.values("host").next().filter(|_| head.method == "CONNECT")?;
    let host = String::from_utf8_lossy(host);
    let same = host.eq_ignore_ascii_case(&head.target)
        || head.target.rsplit_once(':').is_some_and(|(name, _)| host.eq_ignore_ascii_case(name));
    (!same).then(|| shown_authority(&host))
}
