//! A conversation inside TLS: requests of one client for one destination, one after the other, over HTTP/1.1.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::body::{Outgoing, WholeBody};
use super::guard::{Busy, Guard};
use super::head::{self, Head, HeadError};
use super::headers::{add_via, end_to_end};
use super::reply::{Cause, Refusal};
use super::target;
use crate::app::App;
use crate::bounds;
use crate::config::model::Destination;
use crate::exchange::request::ReadRequest;
use crate::observe::facts::{Access, Arrival};
use crate::observe::shown::shown_path;
use crate::policy::identity::{ClientIdentity, WayIn};
use crate::policy::places::ConnectionPlace;
use crate::setup::Setup;
use crate::stream::{Rewound, last_word};
use crate::tls::left;
use relay_log::text::causes::whole_cause;
use relay_log::text::redact::word;

/// Serves the connections of clients; one for each.
#[derive(Debug)]
pub struct ConnectionServer {
    app: Arc<App>,
    info: ConnectionInfo,
    /// The next request has been counted for its address already.
    counted: AtomicBool,
}

/// How a client came to its conversation: what every access line of it says.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Who the client is.
    pub identity: ClientIdentity,
    /// What it said on its way in.
    pub arrival: Arrival,
    /// Where its requests go.
    pub to: Target,
    /// Its first request has been counted for its address already.
    pub counted: bool,
}

/// What does not hold any more of the facts that a conversation was let in by.
enum Fallen {
    /// Its address or its destination.
    Refused(Refusal),
    /// Its user.
    User,
}

/// Where the requests of a conversation go.
#[derive(Clone, Debug)]
pub enum Target {
    /// To one host, whatever they say.
    Host(Destination),
    /// Each to the listed host of mode `http` that its absolute-form target names.
    PerRequest,
}

impl ConnectionInfo {
    /// Which of the facts that it was let in by holds no more, which ends the conversation. Without its address or destination
    /// every request is refused; without its user it is judged as any other client.
    fn fallen(&self, setup: &Setup) -> Option<Fallen> {
        let listen = &setup.config.listen;
        if !listen.lets_connect(self.identity.address) {
            return Some(Fallen::Refused(Refusal::address(self.identity.address)));
        }
        if let Target::Host(to) = &self.to
            && setup.policy.destinations.still(to).is_none()
        {
            return Some(Fallen::Refused(Refusal::destination_gone(to)));
        }
        self.identity.lost_user(listen.credentials, &setup.users).map(|_| Fallen::User)
    }

    fn access(&self, id: Uuid) -> Access {
        Access::new(id, self.identity.address, Some(self.identity.way), self.arrival.clone())
    }
}

impl ConnectionServer {
    /// Prepares to serve a connection that came in like this.
    pub fn new(app: Arc<App>, info: ConnectionInfo) -> Self {
        let counted = AtomicBool::new(info.counted);
        Self { app, info, counted }
    }

    /// Serves a stream until the client, a wait or the relay's stop ends it, or its place is needed while it idles.
    pub async fn serve<S>(self, stream: S, place: Arc<ConnectionPlace>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let this = Arc::new(self);
        let stop = &this.app.stop;
        let mut stream = Rewound::new(Bytes::new(), stream);
        place.rest();
        place.ends_itself();
        let first = tokio::select! {
            begun = head::begun(&mut stream, &place, Instant::now() + bounds::UNUSED) => begun,
            () = stop.cancelled() => Err(HeadError::Silent),
            () = place.gone() => return close_at_once(&mut stream).await,
        };
        match first {
            Ok(()) => {}
            // A connection that a client opened ahead of need: a reply to nothing would only confuse it.
            Err(HeadError::Silent) => return last_word(&mut stream, b"").await,
            Err(e) => return this.note_left(e.io()),
        }
        let head = tokio::select! {
            head = Head::read(&mut stream, Instant::now() + bounds::HEAD) => head,
            () = stop.cancelled() => {
                return this.refuse_first(&mut stream, &Refusal::draining()).await;
            }
        };
        let head = match head {
            Ok(head) => head,
            Err(HeadError::Closed | HeadError::Cut | HeadError::Io(_)) => return,
            Err(e) => return this.refuse_first(&mut stream, &Refusal::from(&e)).await,
        };
        stream.put_back(head.bytes);
        let busy = Busy::default();
        let guarded = Guard::new(stream, busy.clone(), place.clone());
        let service = {
            let this = this.clone();
            service_fn(move |request| this.clone().answer(request, busy.clone()))
        };
        let mut connection = http1::Builder::new()
            .auto_date_header(false)
            .half_close(true)
            .header_read_timeout(None)
            .max_buf_size(bounds::HEAD_BYTES)
            .preserve_header_case(true)
            .serve_connection(TokioIo::new(guarded), service);
        let ended = tokio::select! {
            ended = &mut connection => Some(ended),
            () = stop.cancelled() => None,
            () = place.gone() => {
                let guarded = connection.into_parts().io.into_inner();
                return close_at_once(&mut guarded.into_inner()).await;
            }
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                Pin::new(&mut connection).graceful_shutdown();
                (&mut connection).await
            }
        };
        if let Err(e) = ended {
            tracing::debug!("a conversation ended: {}", whole_cause(&e));
        }
        // After an error or a CONNECT hyper just lets go; the client is to see an end, not a break.
        let _ = connection.into_parts().io.into_inner().shutdown().await;
    }

    /// The exchange is a task of its own: a client that hangs up doesn't cancel what may have reached the back end.
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        busy: Busy,
    ) -> Result<Response<Outgoing>, Infallible> {
        busy.turn();
        let id = Uuid::now_v7();
        let this = self.clone();
        let counted = self.counted.swap(false, Ordering::Relaxed);
        let task = self.app.tasks.spawn(async move { this.exchange(request, counted, id).await });
        let response = task.await.unwrap_or_else(|e| {
            tracing::error!("an exchange failed in a way that is our mistake: {e}");
            Refusal::new(Cause::Internal, "an internal error; see the relay's own log").to_response(id)
        });
        busy.turn();
        Ok(response)
    }

    async fn exchange(&self, request: Request<Incoming>, counted: bool, id: Uuid) -> Response<Outgoing> {
        let setup = self.app.setup.load_full();
        let mut access = self.info.access(id);
        let (method, path) = (word(request.method().as_str()), shown_path(request.uri()));
        access.requested(setup.generation, method, Some(path));
        let (client, fallen) = (self.info.identity.address, self.info.fallen(&setup));
        let ends = fallen.is_some();
        let answered = match fallen {
            Some(Fallen::Refused(refusal)) => {
                self.app.note_denied(&refusal, client, id);
                Err(refusal)
            }
            Some(Fallen::User) | None => self.forward(&setup, request, counted, id, &mut access).await,
        };
        let response = match answered {
            Ok(response) => response,
            Err(refusal) => {
                refusal.note(&mut access, refusal.inside());
                let mut response = refusal.to_response(id);
                if ends {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        };
        setup.access.write(access);
        response
    }

    async fn forward(
        &self,
        setup: &Setup,
        request: Request<Incoming>,
        counted: bool,
        id: Uuid,
        access: &mut Access,
    ) -> Result<Response<Outgoing>, Refusal> {
        if self.app.stop.is_cancelled() {
            return Err(Refusal::draining());
        }
        let ConnectionInfo { identity, to, .. } = self.info.clone();
        let client = identity.address;
        let to = match to {
            // A conversation outlives setups, and what it began with may not be listed any more.
            Target::Host(to) => {
                let still = setup.policy.destinations.still(&to).cloned();
                still.ok_or_else(|| Refusal::destination_gone(&to))?
            }
            Target::PerRequest => {
                let uri = request.uri();
                let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
                let listed = setup.policy.destinations.plain(authority);
                listed.cloned().ok_or_else(|| {
                    // hyper has cut off a fragment, and an @ in it: what looks like a port may be the start of a password.
                    let host = uri.host().filter(|_| !uri.to_string().contains('@'));
                    let refusal = Refusal::not_plain_http(host.unwrap_or("@"));
                    self.app.note_denied(&refusal, client, id);
                    refusal
                })?
            }
        };
        let target: Uri = target::check(&request, &to).map_err(|e| Refusal::from(&e))?;
        if !counted {
            self.app.exchange.admit_address(setup, client, id).map_err(|fault| Refusal::from(&fault))?;
        }
        let (credentials, users) = (setup.config.listen.credentials, &setup.users);
        let identity = match identity {
            // Each request in absolute form is one to the proxy, with credentials of its own.
            ClientIdentity { way: way @ WayIn::Absolute, .. } => {
                let sent = request.headers().get_all(header::PROXY_AUTHORIZATION);
                let sent: Vec<&[u8]> = sent.iter().map(HeaderValue::as_bytes).collect();
                let read = ClientIdentity::read(way, client, &sent, credentials, users).await;
                read.map_err(|unproven| self.app.refuse_credentials(&unproven, access))?
            }
            identity => identity.now(credentials, users),
        };
        let (parts, body) = request.into_parts();
        let has_body = parts.headers.contains_key(header::CONTENT_LENGTH)
            || parts.headers.contains_key(header::TRANSFER_ENCODING);
        let max_body = setup.config.limits.max_body;
        let memory = &self.app.exchange.memory.bodies;
        let body = WholeBody::read(memory, body, max_body, client).await.map_err(|e| Refusal::from(&e))?;
        access.read_body(body.bytes.len());

        let mut headers = end_to_end(&parts.headers);
        if has_body && !headers.contains_key(header::CONTENT_LENGTH) {
            // It came in chunks; read whole, it has a length (RFC 9112 §6: framing is each hop's own).
            headers.insert(header::CONTENT_LENGTH, body.bytes.len().into());
        }
        if !headers.contains_key(header::HOST)
            && let Ok(host) = to.host.as_str().parse()
        {
            headers.insert(header::HOST, host);
        }
        if setup.config.via {
            add_via(&mut headers);
        }
        let asked = ReadRequest {
            id,
            identity,
            to,
            method: parts.method,
            target,
            headers,
            extensions: parts.extensions,
            body: body.bytes.clone(),
        };
        let reply =
            self.app.exchange.run(setup, asked, access).await.map_err(|fault| Refusal::from(&fault))?;

        let (head, ()) = reply.head.into_parts();
        let headers = end_to_end(&head.headers);
        let sized = headers.contains_key(header::CONTENT_LENGTH);
        let mut response = Response::new(Outgoing::new(reply.body, sized));
        *response.status_mut() = head.status;
        *response.headers_mut() = headers;
        *response.extensions_mut() = head.extensions;
        Ok(response)
    }

    fn note_left(&self, error: Option<&io::Error>) {
        let mut access = self.info.access(Uuid::now_v7());
        access.no_tls(left(error).into());
        self.app.setup.load().access.write(access);
    }

    async fn refuse_first<S>(&self, stream: &mut S, refusal: &Refusal)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let id = Uuid::now_v7();
        let mut access = self.info.access(id);
        refusal.note(&mut access, refusal.inside());
        self.app.setup.load().access.write(access);
        last_word(stream, &refusal.to_bytes(refusal.inside(), id)).await;
    }
}

/// Closes our side of a stream that had nothing to say, without waiting: its place has been given away.
async fn close_at_once(stream: &mut (impl AsyncWrite + Unpin)) {
    let _ = timeout(Duration::ZERO, stream.shutdown()).await;
}
