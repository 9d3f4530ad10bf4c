//! Alive, ready, and figures for Prometheus; the figures on an address of their own.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

use super::Web;

pub async fn alive() -> &'static str {
    "ok\n"
}

/// Ready means that a delivery could be stored now. The tables are brought up to date before the
/// service listens at all.
pub async fn ready(State(web): State<Arc<Web>>) -> (StatusCode, &'static str) {
    match web.app.can_store().await {
        Ok(()) => (StatusCode::OK, "ready\n"),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    }
}

/// The second listener: never the public one.
pub fn metrics_router(handle: PrometheusHandle, web: Arc<Web>) -> Router {
    Router::new().route(
        "/metrics",
        get(move || {
            let (handle, web) = (handle.clone(), Arc::clone(&web));
            async move {
                if let Err(error) = web.app.gather_figures().await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "some figures cannot be read");
                }
                handle.render()
            }
        }),
    )
}
