//! The admin address and the admin socket: `/healthz` says that the process lives, `/readyz` that it can do its work (with
//! `?verbose`, also which files are not in force), `/status` what it works with, `/metrics` what it has done.
//!
//! The socket is for this machine alone. Its mode says who may ask, so it demands no token; and it takes `POST /reload`,
//! which reads everything again and answers with what is in force then.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use crate::bounds;

/// What a relay reports about itself.
pub trait StatusSource: Send + Sync {
    /// What keeps it from doing its work now, if anything does.
    fn unready(&self) -> Option<String>;
    /// Each part of the configuration that is not what its files say, and why. None of them keeps it from its work.
    fn differences(&self) -> Vec<String>;
    /// What it works with.
    fn status(&self) -> serde_json::Value;
    /// What it has done, in the text format of OpenMetrics.
    fn metrics(&self) -> String;
    /// The token that `Authorization: Bearer` must carry, if one is demanded.
    fn token(&self) -> Option<Arc<Zeroizing<String>>>;
}

/// The admin address of a relay.
#[derive(Clone)]
pub struct AdminService(pub Arc<dyn StatusSource>);

/// A request to read all files of the configuration again.
#[derive(Debug)]
pub struct ReloadRequest {
    /// Who waits for the answer; `None` for a signal.
    pub by: Option<ReloadWaiter>,
}

/// Who waits for the answer to a reload.
#[derive(Debug)]
pub struct ReloadWaiter {
    /// The user that runs the verb, as the system knows it.
    pub user: Option<u32>,
    /// Takes the answer.
    pub reply: oneshot::Sender<serde_json::Value>,
}

/// How a request came in.
#[derive(Clone, Debug)]
enum AdminRoute {
    /// Over the admin address.
    Address,
    /// Over the admin socket, from this user; reloads go here.
    Socket { user: Option<u32>, reloads: mpsc::Sender<ReloadRequest> },
}

impl AdminService {
    /// Serves until it is dropped; it goes last and abruptly, so that no scraper holds the relay up. One request a
    /// connection, and all of it in time: connections that stay open here take descriptors from the clients.
    pub async fn serve(self, listener: TcpListener) {
        let accept = |cx: &mut Context<'_>| {
            listener.poll_accept(cx).map_ok(|(stream, _)| (stream, AdminRoute::Address))
        };
        self.serve_all(accept, bounds::ADMIN, bounds::ADMIN).await;
    }

    /// Serves the socket in the same way; requests for a reload are passed on.
    pub async fn serve_local(self, listener: UnixListener, reloads: mpsc::Sender<ReloadRequest>) {
        let accept = |cx: &mut Context<'_>| {
            listener.poll_accept(cx).map_ok(|(stream, _)| {
                let user = stream.peer_cred().ok().map(|peer| peer.uid());
                (stream, AdminRoute::Socket { user, reloads: reloads.clone() })
            })
        };
        self.serve_all(accept, bounds::SOCKET_HEAD, bounds::SOCKET).await;
    }

    async fn serve_all<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(S, AdminRoute)>>,
        head: Duration,
        all: Duration,
    ) {
        let places = Arc::new(Semaphore::new(bounds::ADMIN_CONNECTIONS));
        let silent = Arc::new(Silent::default());
        loop {
            let (stream, route) = match poll_fn(&mut accept).await {
                Ok(accepted) => accepted,
                Err(e) => {
                    tracing::debug!("no connection for administration can be accepted for now: {e}");
                    sleep(bounds::ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let place = match places.clone().try_acquire_owned() {
                Ok(place) => place,
                Err(_) => {
                    silent.close_oldest();
                    let Ok(place) = places.clone().acquire_owned().await else { return };
                    place
                }
            };
            let (admin, silent) = (self.clone(), silent.clone());
            let gives_way = silent.add();
            tokio::spawn(async move {
                let (asking, begun) = (silent.clone(), gives_way.clone());
                let service = service_fn(move |request| {
                    asking.remove(&begun);
                    let (admin, route) = (admin.clone(), route.clone());
                    async move { Ok::<_, Infallible>(admin.answer(&request, &route).await) }
                });
                let connection = http1::Builder::new()
                    .keep_alive(false)
                    .timer(TokioTimer::new())
                    .header_read_timeout(head)
                    .max_buf_size(bounds::ADMIN_HEAD_BYTES)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    _ = timeout(all, connection) => {}
                    () = gives_way.notified() => {}
                }
                silent.remove(&gives_way);
                drop(place);
            });
        }
    }

    async fn answer(&self, request: &Request<Incoming>, route: &AdminRoute) -> Response<Full<Bytes>> {
        if !self.may_see(request, route) {
            return plain(StatusCode::UNAUTHORIZED, String::new());
        }
        match (request.method(), route) {
            (&Method::POST, AdminRoute::Socket { user, reloads }) if request.uri().path() == "/reload" => {
                reload(*user, reloads).await
            }
            (&Method::GET | &Method::HEAD, _) => self.show(request),
            _ => {
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, String::new());
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
        }
    }

    fn show(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/healthz" => plain(StatusCode::OK, "alive\n".into()),
            "/readyz" => {
                let (status, mut body) = match self.0.unready() {
                    None => (StatusCode::OK, "ready\n".to_owned()),
                    Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
                };
                let query = request.uri().query().unwrap_or_default();
                if query.split('&').any(|pair| pair == "verbose" || pair.starts_with("verbose=")) {
                    self.0.differences().iter().for_each(|line| body.push_str(&format!("{line}\n")));
                }
                plain(status, body)
            }
            "/status" => text("application/json", format!("{:#}\n", self.0.status())),
            "/metrics" => {
                text("application/openmetrics-text; version=1.0.0; charset=utf-8", self.0.metrics())
            }
            _ => plain(StatusCode::NOT_FOUND, String::new()),
        }
    }

    /// Whether it has the token, where one is demanded.
    fn may_see(&self, request: &Request<Incoming>, route: &AdminRoute) -> bool {
        let (AdminRoute::Address, Some(token)) = (route, self.0.token()) else { return true };
        let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        sent.and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|sent| verify_slices_are_equal(sent.as_bytes(), token.as_bytes()).is_ok())
    }
}

/// Connections that have asked for nothing yet, the oldest first: where all places are taken, the oldest gives way, so
/// that silent connections keep no scraper and no probe out.
#[derive(Debug, Default)]
struct Silent(Mutex<VecDeque<Arc<Notify>>>);

impl Silent {
    fn add(&self) -> Arc<Notify> {
        let gives_way = Arc::new(Notify::new());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(gives_way.clone());
        gives_way
    }

    fn remove(&self, one: &Arc<Notify>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| !Arc::ptr_eq(one, other));
    }

    fn close_oldest(&self) {
        if let Some(oldest) = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            oldest.notify_one();
        }
    }
}

async fn reload(user: Option<u32>, reloads: &mpsc::Sender<ReloadRequest>) -> Response<Full<Bytes>> {
    let (reply, answer) = oneshot::channel();
    if reloads.try_send(ReloadRequest { by: Some(ReloadWaiter { user, reply }) }).is_err() {
        let words = "so many reloads are asked for already that no more are taken for now; try again\n";
        return plain(StatusCode::SERVICE_UNAVAILABLE, words.into());
    }
    match answer.await {
        Ok(answer) => text("application/json", format!("{answer:#}\n")),
        Err(_) => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "the relay stops, and reads nothing any more\n".into())
        }
    }
}

fn plain(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = text("text/plain; charset=utf-8", body);
    *response.status_mut() = status;
    response
}

fn text(kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

impl std::fmt::Debug for AdminService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminService").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    struct NoStatus;

    impl StatusSource for NoStatus {
        fn unready(&self) -> Option<String> {
            None
        }

        fn differences(&self) -> Vec<String> {
            Vec::new()
        }

        fn status(&self) -> serde_json::Value {
            serde_json::Value::Null
        }

        fn metrics(&self) -> String {
            String::new()
        }

        fn token(&self) -> Option<Arc<Zeroizing<String>>> {
            None
        }
    }

    /// Serves these, one after the other; what comes after them is told by `accept`.
    async fn serve(
        mut streams: Vec<(DuplexStream, AdminRoute)>,
        mut accept: impl FnMut() -> Poll<io::Result<(DuplexStream, AdminRoute)>> + Send,
    ) {
        let next = |_: &mut Context<'_>| streams.pop().map_or_else(&mut accept, |next| Poll::Ready(Ok(next)));
        AdminService(Arc::new(NoStatus)).serve_all(next, bounds::SOCKET_HEAD, bounds::SOCKET).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_that_never_ends_keeps_its_connection_for_so_long_and_no_longer() {
        let (reloads, _nobody_answers) = mpsc::channel(1);
        let (mut client, ours) = duplex(1024);
        let serving = serve(vec![(ours, AdminRoute::Socket { user: None, reloads })], || Poll::Pending);
        let asking = async {
            client.write_all(b"POST /reload HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let (begun, mut told) = (Instant::now(), Vec::new());
            client.read_to_end(&mut told).await.unwrap();
            (told, begun.elapsed().as_secs())
        };
        tokio::select! {
            () = serving => {}
            told = asking => assert_eq!(told, (Vec::new(), bounds::SOCKET.as_secs())),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_connection_can_be_accepted_that_is_tried_again_after_a_pause() {
        let tried = Mutex::new(Vec::new());
        let serving = serve(Vec::new(), || {
            tried.lock().unwrap().push(Instant::now());
            Poll::Ready(Err(io::Error::other("no descriptor is left")))
        });
        assert!(timeout(bounds::ACCEPT_PAUSE * 10, serving).await.is_err());
        let tried = tried.into_inner().unwrap();
        assert!((9..=11).contains(&tried.len()), "{tried:?}");
        assert!(tried.windows(2).all(|pair| pair[1] - pair[0] >= bounds::ACCEPT_PAUSE), "{tried:?}");
    }
}
