//! The admin address: `/healthz` says that the process lives, `/readyz` that it can do its work.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

/// What the admin address shows.
#[derive(Clone)]
pub struct Admin {
    /// What keeps the relay from doing its work now, if anything does.
    pub unready: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// Demanded as `Authorization: Bearer`, where there is one. It can't be printed.
    pub token: Option<Arc<Zeroizing<String>>>,
}

impl Admin {
    /// Serves until it is dropped; it goes last and abruptly, so that no scraper holds the relay up.
    pub async fn serve(self, listener: TcpListener) {
        let app = Router::new()
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(ready))
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
    match (admin.unready)() {
        None => (StatusCode::OK, "ready\n".into()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn demand_token(
    State(admin): State<Admin>,
    request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    if let Some(token) = &admin.token {
        let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let sent = sent.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        verify_slices_are_equal(sent.as_bytes(), token.as_bytes()).map_err(|_| StatusCode::UNAUTHORIZED)?;
    }
    Ok(next.run(request).await)
}

/// Binds the admin address.
///
/// # Errors
/// The address is taken, or not ours.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}
