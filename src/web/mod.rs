//! The thin edge: routes, headers, limits. What happens behind a route is in `app`.

mod body;
mod gateway;
mod health;
mod pages;
mod serve;
mod webhook;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::routing::{any, get, post};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::app::App;
use crate::domain::secret::Secret;

pub use health::metrics_router;
pub use serve::{Grace, serve};

/// What the handlers share.
#[derive(Debug)]
pub struct Web {
    pub app: Arc<App>,
    /// Any of them may have signed; several while one is replaced.
    pub webhook_secrets: Vec<Secret>,
    /// Live pages end when the service stops.
    pub stop: CancellationToken,
    bodies: body::BodyBudget,
    /// Places for pages that stay open: they must not crowd out deliveries.
    viewers: Arc<Semaphore>,
    /// Places for calls of models, and room for what they send.
    model_calls: Arc<Semaphore>,
    model_room: Arc<Semaphore>,
}

/// Live pages and logs that are read at once.
const MAX_VIEWERS: usize = 500;

impl Web {
    pub fn new(app: Arc<App>, webhook_secrets: Vec<Secret>, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            app,
            webhook_secrets,
            stop,
            bodies: body::BodyBudget::default(),
            viewers: Arc::new(Semaphore::new(MAX_VIEWERS)),
            model_calls: Arc::new(Semaphore::new(gateway::MAX_CALLS)),
            model_room: Arc::new(Semaphore::new(gateway::ROOM)),
        })
    }
}

/// What a process answers that only works: whether it lives.
pub fn worker_router(web: Arc<Web>) -> Router {
    Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready)).with_state(web)
}

/// Everything that the public address answers.
pub fn router(web: Arc<Web>) -> Router {
    let https = web.app.settings.public_url.starts_with("https://");
    let mut router = Router::new()
        .route("/webhooks/github", post(webhook::receive))
        .route("/gateway/{provider}/{*path}", any(gateway::call))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/", get(pages::home))
        .route("/tasks/{id}", get(pages::task))
        .route("/tasks/{id}/events", get(pages::events))
        .route("/tasks/{id}/log", get(pages::log))
        .route("/assets/{name}", get(pages::asset))
        .fallback(pages::not_found)
        .with_state(web)
        .layer(CatchPanicLayer::new());
    for (name, value) in security_headers(https) {
        router = router.layer(SetResponseHeaderLayer::if_not_present(name, value));
    }
    router
}

fn security_headers(https: bool) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = vec![
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                 form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
            ),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    if https {
        headers.push((header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000")));
    }
    headers
}
