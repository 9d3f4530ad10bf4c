//! `/gateway/<provider>/…`: the agents' way to their models. What passes is decided in `app::gateway`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::Web;
use crate::app::gateway::ModelCall;
use crate::domain::agent::Provider;
use crate::domain::gateway::MAX_REQUEST;
use crate::domain::gateway::errors::Refusal;
use crate::domain::gateway::metering::Wire;

pub async fn call(
    State(web): State<Arc<Web>>,
    Path((provider, path)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some(provider) = Provider::parse(&provider).filter(|provider| provider.has_gateway()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let path = format!("/{path}");
    let (passage, grant) = match web.app.admit_call(provider, &method, &path, &headers).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refused(provider, None, &path, &refusal),
    };
    let wire = passage.wire;
    let body = match whole(body).await {
        Ok(body) => body,
        Err(refusal) => return refused(provider, wire, &path, &refusal),
    };
    let query = query.unwrap_or_default();
    let call = ModelCall { provider, method, path: &path, query: &query, headers: &headers, body };
    match web.app.call_model(call, &passage, grant).await {
        Ok(answer) => {
            let mut response = Response::new(Body::from_stream(answer.body));
            (*response.status_mut(), *response.headers_mut()) = (answer.status, answer.headers);
            response
        }
        Err(refusal) => refused(provider, wire, &path, &refusal),
    }
}

/// The whole request: the vendors want to know its length, and it costs what it holds.
async fn whole(body: Body) -> Result<bytes::Bytes, Refusal> {
    match Limited::new(body, MAX_REQUEST).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
        // Whoever broke off hears nothing of it.
        Err(_) => Err(Refusal::NotJson),
    }
}

fn refused(provider: Provider, wire: Option<Wire>, path: &str, refusal: &Refusal) -> Response {
    tracing::info!(provider = provider.name(), path, reason = %refusal.sentence(), "a call of a model was refused");
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let body = refusal.body(provider, wire).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
