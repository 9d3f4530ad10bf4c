//! `POST /webhooks/github`: headers first, then the body hashed as it is read, then the signature,
//! and only then a look at what it says. Error bodies are short and constant.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::Web;
use super::body::BodyError;
use super::page::error_id;
use crate::app::StoreError;
use crate::app::receive::Received;
use crate::domain::delivery::Delivery;
use crate::domain::ids::DeliveryId;
use crate::domain::secret::Secret;
use crate::domain::text::cut_marked;

/// GitHub waits ten seconds; an answer that is later than this would count as failed anyway.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// What GitHub is told where a delivery is not taken.
struct Refusal {
    status: StatusCode,
    text: &'static str,
    /// For the operator.
    cause: Option<Arc<StoreError>>,
}

const BAD_SIGNATURE: Refusal = refusal(StatusCode::UNAUTHORIZED, "bad or absent signature");
const NO_ROOM: Refusal = refusal(StatusCode::SERVICE_UNAVAILABLE, "too many large ones at once, send it again");

const fn refusal(status: StatusCode, text: &'static str) -> Refusal {
    Refusal { status, text, cause: None }
}

fn not_stored(cause: Option<Arc<StoreError>>) -> Refusal {
    Refusal { status: StatusCode::SERVICE_UNAVAILABLE, text: "not stored, send it again", cause }
}

struct Headers {
    id: DeliveryId,
    event: String,
    signature: [u8; 32],
    length: Option<usize>,
}

pub async fn receive(State(web): State<Arc<Web>>, request: Request) -> Response {
    let delivery = request.headers().get("x-github-delivery").and_then(|id| id.to_str().ok()).map(ToOwned::to_owned);
    let answer = answer(&web, request).await;
    let status = answer.as_ref().map_or_else(|refusal| refusal.status, |()| StatusCode::ACCEPTED);
    metrics::counter!("hireling_webhooks_total", "status" => status.as_str().to_owned()).increment(1);
    let Err(Refusal { text, cause, .. }) = answer else { return (status, "stored\n").into_response() };
    // What GitHub shows of the answer leads to the line in the log.
    let id = error_id(&*web.app.clock);
    let delivery = delivery.map(|id| cut_marked(&id, 100)).unwrap_or_default();
    match cause {
        Some(cause) => {
            let error = &*cause as &dyn std::error::Error;
            tracing::error!(error_id = id, delivery.id = delivery, error, "a delivery could not be stored");
        }
        None if status.is_server_error() => {
            tracing::warn!(error_id = id, delivery.id = delivery, answer = text, "a delivery was not taken");
        }
        // Anybody can send these: they must not fill the log.
        None => tracing::debug!(error_id = id, delivery.id = delivery, answer = text, "a delivery was refused"),
    }
    (status, format!("{text}; error {id}\n")).into_response()
}

async fn answer(web: &Web, request: Request) -> Result<(), Refusal> {
    let (parts, body) = request.into_parts();
    let headers = read_headers(&parts.headers)?;
    let mut signers = Signers::new(&web.webhook_secrets);
    let held = match web.bodies.read(body, headers.length, |piece| signers.update(piece)).await {
        Ok(held) => held,
        Err(BodyError::TooLarge) => return Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, "more than 25 MiB")),
        Err(BodyError::Broken) => return Err(refusal(StatusCode::REQUEST_TIMEOUT, "the body did not arrive")),
        Err(BodyError::NoRoom) => return Err(NO_ROOM),
    };
    if !signers.verify(&headers.signature) {
        return Err(BAD_SIGNATURE);
    }
    let delivery = Delivery { id: headers.id, event: headers.event, body: held.bytes.clone() };
    match tokio::time::timeout(STORE_TIMEOUT, web.app.receive(&delivery)).await {
        Ok(Received::Taken(code)) => {
            tracing::debug!(delivery.id = %delivery.id, event = %delivery.event, code = ?code, "received");
            Ok(())
        }
        Ok(Received::NotJson) => Err(refusal(StatusCode::BAD_REQUEST, "the body is not a JSON object")),
        Ok(Received::Unavailable(cause)) => Err(not_stored(cause)),
        Err(_) => Err(not_stored(Some(Arc::new(StoreError::Silent)))),
    }
}

fn read_headers(headers: &HeaderMap) -> Result<Headers, Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let word = |name: &str, max: usize| {
        text(name).filter(|value| {
            (1..=max).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        })
    };
    let (Some(id), Some(event)) = (word("x-github-delivery", 100), word("x-github-event", 64)) else {
        return Err(refusal(StatusCode::BAD_REQUEST, "X-GitHub-Delivery or X-GitHub-Event is missing"));
    };
    let kind = text(header::CONTENT_TYPE.as_str()).unwrap_or("").to_ascii_lowercase();
    if kind.starts_with("application/x-www-form-urlencoded") || kind.starts_with("multipart/form-data") {
        return Err(refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "form-encoded: set the App's webhook content type to application/json",
        ));
    }
    let signature = text("x-hub-signature-256").and_then(|value| value.strip_prefix("sha256="));
    let mut bytes = [0u8; 32];
    match signature.map(|hexed| hex::decode_to_slice(hexed, &mut bytes)) {
        Some(Ok(())) => {}
        _ => return Err(BAD_SIGNATURE),
    }
    let length = text(header::CONTENT_LENGTH.as_str()).and_then(|value| value.parse().ok());
    Ok(Headers { id: DeliveryId(id.to_owned()), event: event.to_owned(), signature: bytes, length })
}

/// HMAC-SHA256 with each secret that is valid now.
struct Signers(Vec<Hmac<Sha256>>);

impl Signers {
    fn new(secrets: &[Secret]) -> Self {
        // A key of any length will do.
        Self(secrets.iter().filter_map(|secret| Hmac::new_from_slice(secret.expose().as_bytes()).ok()).collect())
    }

    fn update(&mut self, piece: &[u8]) {
        self.0.iter_mut().for_each(|signer| signer.update(piece));
    }

    /// In constant time, and without telling by time which secret it was.
    fn verify(self, signature: &[u8; 32]) -> bool {
        self.0.into_iter().map(|signer| signer.verify_slice(signature).is_ok()).fold(false, |any, one| any | one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GitHub's published test vector.
    #[test]
    fn the_signature_is_githubs() {
        let signature = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(signature, &mut bytes).unwrap();
        for secrets in [vec!["It's a Secret to Everybody"], vec!["new", "It's a Secret to Everybody"]] {
            let secrets: Vec<Secret> = secrets.into_iter().map(Secret::new).collect();
            let mut signers = Signers::new(&secrets);
            signers.update(b"Hello, ");
            signers.update(b"World!");
            assert!(signers.verify(&bytes));
        }
        let mut other = Signers::new(&[Secret::new("other")]);
        other.update(b"Hello, World!");
        assert!(!other.verify(&bytes));
        assert!(!Signers::new(&[]).verify(&bytes));
    }
}
