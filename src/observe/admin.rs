//! The admin address: `/healthz` says that the process lives, `/readyz` that it can do its work, `/status` what it works
//! with, `/metrics` what it has done.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

/// What a relay tells of itself.
pub trait Insight: Send + Sync {
    /// What keeps it from doing its work now, if anything does.
    fn unready(&self) -> Option<String>;
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
    /// Serves until it is dropped; it goes last and abruptly, so that no scraper holds the relay up.
    pub async fn serve(self, listener: TcpListener) {
        let app = Router::new()
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(ready))
            .route("/status", get(status))
            .route("/metrics", get(metrics))
            .layer(middleware::from_fn_with_state(self.clone(), demand_token))
            .with_state(self);
        if let Err(e) = axum::serve(listener, app).await {
            tracing::error!("the admin address is closed: {e}");
        }
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    match admin.0.unready() {
        None => (StatusCode::OK, "ready\n".into()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn status(State(admin): State<Admin>) -> ([(HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, "application/json")], format!("{:#}\n", admin.0.status()))
}

async fn metrics(State(admin): State<Admin>) -> ([(HeaderName, &'static str); 1], String) {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, FORMAT)], admin.0.metrics())
}

async fn demand_token(
    State(admin): State<Admin>,
    request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    if let Some(token) = admin.0.token() {
        let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let sent = sent.and_then(|value| value.strip_prefix("Bearer ")).ok_or(StatusCode::UNAUTHORIZED)?;
        verify_slices_are_equal(sent.as_bytes(), token.as_bytes()).map_err(|_| StatusCode::UNAUTHORIZED)?;
    }
    Ok(next.run(request).await)
}
