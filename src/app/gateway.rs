//! The model gateway: an agent's call goes to the vendor with the real key in place of its run's
//! grant, is counted while the answer passes through, and stops at a limit.

mod counting;
pub(super) mod places;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::App;
use crate::adapters::models::Answer;
use crate::adapters::store::Granted;
use crate::adapters::vault;
use crate::domain::agent::Provider;
use crate::domain::gateway::errors::{Reached, Refusal};
use crate::domain::gateway::metering::{Meter, Tokens};
use crate::domain::gateway::price::cost;
use crate::domain::gateway::{self, Passage};
use crate::domain::money::Usd;
use crate::domain::redact::Redactor;
use crate::domain::secret::Secret;
use counting::{Counted, counted};

/// What is reserved for an answer at most: most are far shorter than they may be.
const MAX_OUTPUT: u64 = 8_000;
/// A vendor's refusal is a few lines.
const MAX_ERROR: usize = 64 * 1024;

/// A call as it came from the sandbox.
#[derive(Debug)]
pub struct ModelCall<'a> {
    pub provider: Provider,
    pub method: Method,
    /// Behind `/gateway/<provider>`.
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: Bytes,
}

/// The same call as the vendor gets it.
struct Onward {
    provider: Provider,
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
}

/// What the sandbox gets. The body ends early where the vendor breaks off.
pub struct ModelAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: BoxStream<'static, Result<Bytes, std::io::Error>>,
}

impl std::fmt::Debug for ModelAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelAnswer").field("status", &self.status).finish_non_exhaustive()
    }
}

impl App {
    /// Which path a call takes, and whose grant it shows: before its body is read.
    pub async fn admit_call(
        &self,
        provider: Provider,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<(Passage, Granted), Refusal> {
        let passage = gateway::passage(provider, method.as_str(), path).ok_or(Refusal::NoSuchPath)?;
        let shown = gateway::grant_in(|name| headers.get(name).and_then(|value| value.to_str().ok()));
        let hash = vault::hash(shown.ok_or(Refusal::NoGrant)?);
        let month = self.clock.now().month();
        let grant = self.store.grant(&hash, month).await.map_err(|error| unavailable(&error))?;
        let grant = grant.ok_or(Refusal::NoGrant)?;
        if grant.provider != provider {
            return Err(Refusal::WrongProvider);
        }
        if passage.wire.is_none() {
            return Ok((passage, grant));
        }
        if let Some(reached) = self.reached_by(&grant, Usd::default()) {
            // Once: a client that does not stop must not keep the database writing.
            if !grant.is_stopped
                && let Err(error) = self.store.stop_grant(&hash, &reached).await
            {
                return Err(unavailable(&error));
            }
            return Err(Refusal::OverLimit(reached));
        }
        // Calls under way may come to the limit: whoever waits for them knows.
        match self.reached_by(&grant, self.places.reserved(&grant.task)) {
            Some(_) => Err(Refusal::Busy),
            None => Ok((passage, grant)),
        }
    }

    /// Limits by month hold for the operator's keys.
    fn reached_by(&self, grant: &Granted, under_way: Usd) -> Option<Reached> {
        let spent = Usd(grant.spent.0.saturating_add(under_way.0));
        let monthly = if grant.key.is_none() { grant.spent_this_month } else { Default::default() };
        self.settings.cost_limits.reached(grant.max, spent, monthly)
    }

    /// Carries out a call that was admitted.
    pub async fn call_model(
        self: &std::sync::Arc<Self>,
        call: ModelCall<'_>,
        passage: &Passage,
        grant: Granted,
    ) -> Result<ModelAnswer, Refusal> {
        let provider = call.provider;
        let (mut model, mut body, mut max_output) = (passage.model.clone(), call.body.clone(), None);
        if let Some(wire) = passage.wire {
            let checked = gateway::check_body(wire, &body)?;
            model = model.or(checked.model).or_else(|| named_by(call.headers));
            (body, max_output) = (checked.body.map_or(body, Bytes::from), checked.max_output);
        }
        let key = self.gateway_key(provider, &grant).await?;
        let base = self.settings.base_urls.get(&provider).ok_or(Refusal::NoSuchPath)?;
        let query = gateway::query_that_passes(call.query);
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{base}{}{mark}{query}", passage.path);
        let headers = onward(call.headers, provider, &key)?;
        let model = model.unwrap_or_default();
        let counted_call = match passage.wire {
            Some(wire) => {
                let may_be = cost(provider, &model, &at_most(body.len(), max_output)).sum;
                let place = self.places.take(&grant.task, may_be).ok_or(Refusal::Busy)?;
                let meter = Meter::new(wire, &model, body.len());
                Some(Counted::new(std::sync::Arc::clone(self), grant, meter, place))
            }
            None => None,
        };
        let onward = Onward { provider, method: call.method, url, headers, body };
        self.pass_on(onward, counted_call, &key).await
    }

    async fn pass_on(
        &self,
        onward: Onward,
        counted_call: Option<Counted>,
        key: &Secret,
    ) -> Result<ModelAnswer, Refusal> {
        let Onward { provider, method, url, headers, body } = onward;
        let answer = match self.models.call(method, &url, headers, body).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::info!(
                    provider = provider.name(),
                    error = &error as &dyn std::error::Error,
                    "a model's vendor cannot be reached"
                );
                // What was sent may have been worked on: it is counted by its size.
                if let Some(unsent) = counted_call.filter(|_| error.was_not_sent()) {
                    unsent.forget();
                }
                return Err(Refusal::Unreachable);
            }
        };
        metrics::counter!("hireling_gateway_calls_total", "provider" => provider.name(), "status" => answer.status.as_u16().to_string())
            .increment(1);
        if !answer.status.is_success() {
            if let Some(refused) = counted_call {
                refused.forget();
            }
            return refused_by_vendor(provider, answer, key).await;
        }
        let headers = backward(&answer.headers);
        let Some(mut counted_call) = counted_call else {
            let body = answer.body.map(|piece| piece.map_err(std::io::Error::other)).boxed();
            return Ok(ModelAnswer { status: answer.status, headers, body });
        };
        let text = |name| answer.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or("");
        counted_call.begin(text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING) == "gzip", answer.body);
        Ok(ModelAnswer { status: answer.status, headers, body: counted(counted_call) })
    }

    async fn gateway_key(&self, provider: Provider, grant: &Granted) -> Result<Secret, Refusal> {
        match &grant.key {
            None => self.settings.keys.get(&provider).cloned().ok_or(Refusal::KeyGone),
            Some(id) => match self.open_key(id, provider, grant.requester, grant.installation).await {
                Ok(Some(key)) => Ok(key),
                Ok(None) => Err(Refusal::KeyGone),
                Err(error) => Err(unavailable(&error)),
            },
        }
    }
}

fn unavailable(error: &(dyn std::error::Error + 'static)) -> Refusal {
    tracing::warn!(error, "the model gateway cannot read the database");
    Refusal::Unavailable
}

/// Vercel's protocol names the model in a header.
fn named_by(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("ai-language-model-id").or_else(|| headers.get("ai-model-id"))?;
    value.to_str().ok().map(ToOwned::to_owned)
}

/// The headers of the vendor's request: those on the list, and the key.
fn onward(from: &HeaderMap, provider: Provider, key: &Secret) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::new();
    for name in gateway::REQUEST_HEADERS {
        // Of several, what is read here must be what the vendor reads.
        if let Some(value) = from.get(name) {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
    }
    let takes_gzip = from.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let encoding = if takes_gzip.is_some_and(|list| list.contains("gzip")) { "gzip" } else { "identity" };
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
    let (name, before) = gateway::key_header(provider);
    let mut value = HeaderValue::from_str(&format!("{before}{}", key.expose())).map_err(|_| Refusal::KeyRefused)?;
    value.set_sensitive(true);
    headers.insert(HeaderName::from_static(name), value);
    Ok(headers)
}

fn backward(from: &HeaderMap) -> HeaderMap {
    let passing = from.iter().filter(|(name, _)| gateway::passes_back(name.as_str()));
    passing.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What a call may come to: what it sends, and an answer as long as it asks for.
fn at_most(request_bytes: usize, max_output: Option<u64>) -> Tokens {
    Tokens {
        input: request_bytes as u64 / 4,
        output: max_output.unwrap_or(MAX_OUTPUT).min(MAX_OUTPUT),
        ..Tokens::default()
    }
}

/// A refusal of the vendor passes, but for one that is about the key: its words can show parts of it.
async fn refused_by_vendor(provider: Provider, answer: Answer, key: &Secret) -> Result<ModelAnswer, Refusal> {
    let mut bytes = Vec::new();
    let mut pieces = answer.body;
    while let Some(Ok(piece)) = pieces.next().await {
        let room = MAX_ERROR.saturating_sub(bytes.len());
        bytes.extend_from_slice(piece.get(..room).unwrap_or(&piece));
        if bytes.len() >= MAX_ERROR {
            break;
        }
    }
    let packed = answer.headers.get(header::CONTENT_ENCODING).is_some_and(|value| value == "gzip");
    let text = String::from_utf8_lossy(&if packed { unpacked(&bytes) } else { bytes }).into_owned();
    let about_the_key =
        answer.status == StatusCode::UNAUTHORIZED || (provider == Provider::Gemini && text.contains("API_KEY_INVALID"));
    if about_the_key {
        return Err(Refusal::KeyRefused);
    }
    let mut headers = backward(&answer.headers);
    headers.remove(header::CONTENT_ENCODING);
    let text = Redactor::new([key]).redact(&text);
    let body = futures::stream::once(async move { Ok(Bytes::from(text)) }).boxed();
    Ok(ModelAnswer { status: answer.status, headers, body })
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read as _;
    let mut text = Vec::new();
    // What could be unpacked is told, even if the rest is broken.
    let _ = flate2::read::GzDecoder::new(bytes).take(MAX_ERROR as u64).read_to_end(&mut text);
    text
}
