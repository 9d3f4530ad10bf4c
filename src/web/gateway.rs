//! `/gateway/<provider>/…`: the agents' way to their models. What passes is decided in `app::gateway`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use tokio::sync::OwnedSemaphorePermit;

use super::Web;
use crate::app::gateway::ModelCall;
use crate::domain::agent::Provider;
use crate::domain::gateway::MAX_REQUEST;
use crate::domain::gateway::errors::Refusal;
use crate::domain::gateway::metering::Wire;

/// Calls under way at once: the other places of the server are for webhooks and pages.
pub const MAX_CALLS: usize = 1_000;
/// Room for bodies, all together, and the piece of it that is taken at once.
pub const ROOM: usize = 128 * 1024 * 1024 / STEP;
const STEP: usize = 256 * 1024;
/// A sender who is silent for this long is cut off, and the whole body has to be here by then.
const SILENCE: Duration = Duration::from_secs(15);
const TOTAL: Duration = Duration::from_secs(60);

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
    let Ok(place) = Arc::clone(&web.model_calls).try_acquire_owned() else {
        return refused(provider, None, &path, &Refusal::Busy);
    };
    let (passage, _) = match web.app.admit_call(provider, &method, &path, &headers).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refused(provider, None, &path, &refusal),
    };
    let wire = passage.wire;
    let (body, room) = match whole(&web, body).await {
        Ok(whole) => whole,
        Err(refusal) => return refused(provider, wire, &path, &refusal),
    };
    // The body may have taken its time: what held before it must hold after it.
    let grant = match web.app.admit_call(provider, &method, &path, &headers).await {
        Ok((_, grant)) => grant,
        Err(refusal) => return refused(provider, wire, &path, &refusal),
    };
    let query = query.unwrap_or_default();
    let call = ModelCall { provider, method, path: &path, query: &query, headers: &headers, body };
    let answered = web.app.call_model(call, &passage, grant).await;
    drop(room);
    match answered {
        Ok(answer) => {
            // The place is taken until the last piece is out.
            let body = answer.body.map(move |piece| {
                let _ = &place;
                piece
            });
            let mut response = Response::new(Body::from_stream(body));
            (*response.status_mut(), *response.headers_mut()) = (answer.status, answer.headers);
            response
        }
        Err(refusal) => refused(provider, wire, &path, &refusal),
    }
}

/// The whole request: the vendors want to know its length. Its room is taken as it arrives.
async fn whole(web: &Web, body: Body) -> Result<(Bytes, Vec<OwnedSemaphorePermit>), Refusal> {
    let (mut bytes, mut room, mut body) = (Vec::new(), Vec::new(), body);
    let deadline = tokio::time::Instant::now() + TOTAL;
    loop {
        let patience = SILENCE.min(deadline.saturating_duration_since(tokio::time::Instant::now()));
        let frame = match tokio::time::timeout(patience, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return Ok((Bytes::from(bytes), room)),
            // Whoever broke off hears nothing of it.
            Ok(Some(Err(_))) | Err(_) => return Err(Refusal::NotJson),
        };
        let Ok(piece) = frame.into_data() else { continue };
        if bytes.len() + piece.len() > MAX_REQUEST {
            return Err(Refusal::TooLarge);
        }
        let taken = room.len() * STEP;
        let wanted = (bytes.len() + piece.len()).saturating_sub(taken).div_ceil(STEP);
        for _ in 0..wanted {
            let step = Arc::clone(&web.model_room).acquire_owned();
            let step = tokio::time::timeout(SILENCE, step).await.map_err(|_| Refusal::Busy)?;
            room.push(step.map_err(|_| Refusal::Busy)?);
        }
        bytes.extend_from_slice(&piece);
    }
}

fn refused(provider: Provider, wire: Option<Wire>, path: &str, refusal: &Refusal) -> Response {
    tracing::info!(provider = provider.name(), path, reason = %refusal.sentence(), "a call of a model was refused");
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let body = refusal.body(provider, wire).to_string();
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if *refusal == Refusal::Busy {
        // It passes when a call ends.
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
