//! The admin address: `/healthz` says that the process lives, `/readyz` that it can do its work (with `?verbose`, also which
//! files are not in force), `/status` what it works with, `/metrics` what it has done.

use std::convert::Infallible;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use crate::bounds;

/// What a relay tells of itself.
pub trait Insight: Send + Sync {
    /// What keeps it from doing its work now, if anything does.
    fn unready(&self) -> Option<String>;
    /// Each part of the configuration that is not what its files say, and why. None of them keeps it from its work.
    fn differences(&self) -> Vec<String>;
    /// What it works with.
    fn status(&self) -> serde_json::Value;
    /// What it has done, in the text format of OpenMetrics.
    fn metrics(&self) -> String;
    /// What is demanded as `Authorization: Bearer` now, if anything is.
    fn token(&self) -> Option<Arc<Zeroizing<String>>>;
}

/// The admin address of a relay.
#[derive(Clone)]
pub struct Admin(pub Arc<dyn Insight>);

impl Admin {
    /// Serves until it is dropped; it goes last and abruptly, so that no scraper holds the relay up. One request a
    /// connection, and all of it in time: whoever holds places open here takes descriptors from the clients.
    pub async fn serve(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(bounds::ADMIN_CONNECTIONS));
        // Those beyond wait unaccepted, in turn.
        while let Ok(place) = places.clone().acquire_owned().await {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::debug!("no connection to the admin address can be accepted for now: {e}");
                    sleep(bounds::ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let admin = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let response = admin.answer(&request);
                    async { Ok::<_, Infallible>(response) }
                });
                let connection = http1::Builder::new()
                    .keep_alive(false)
                    .header_read_timeout(None)
                    .max_buf_size(bounds::ADMIN_HEAD_BYTES)
                    .serve_connection(TokioIo::new(stream), service);
                let _ = timeout(bounds::ADMIN, connection).await;
                drop(place);
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !self.may_see(request) {
            return plain(StatusCode::UNAUTHORIZED, String::new());
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, String::new());
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
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
    fn may_see(&self, request: &Request<Incoming>) -> bool {
        let Some(token) = self.0.token() else { return true };
        let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        sent.and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|sent| verify_slices_are_equal(sent.as_bytes(), token.as_bytes()).is_ok())
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

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}
