//! One call of the REST API: address, token, retries, errors. Which calls may be repeated is said
//! by each; the waits are those of the official SDK.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use http::{Method, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::secret::Secret;
use crate::domain::text::cut_marked;
use crate::ports::clock::Clock;
use crate::ports::sandbox::SandboxError;

/// Where the API is, and as whom we speak.
#[derive(Debug, Clone)]
pub struct Account {
    /// `https://vercel.com/api`; no trailing slash.
    pub base_url: String,
    pub token: Secret,
    pub team: String,
    /// Id or name.
    pub project: String,
}

/// Calls that wait for a machine: to start, to go down, to be copied.
pub(super) const MACHINE_TIMEOUT: Duration = Duration::from_secs(180);
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Besides the first.
const RETRIES: u32 = 2;
/// A longer wait than this is the caller's affair.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How long to wait where a 429 does not say it.
const USUAL_WAIT: Duration = Duration::from_secs(5);

/// Whether a call may be sent again when it is not known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    Fine,
    /// It would do its work twice.
    Never,
    /// As `Never`, and a refusal for want of room is the caller's affair, too.
    NeverNorWait,
}

#[derive(Debug)]
pub(super) enum Body {
    None,
    Json(Vec<u8>),
    Gzip(Vec<u8>),
}

#[derive(Debug)]
pub(super) struct Call {
    pub method: Method,
    /// Below the base, each part as it is.
    pub path: Vec<String>,
    pub query: Vec<(&'static str, String)>,
    pub body: Body,
    pub repeat: Repeat,
    pub timeout: Timeout,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Timeout {
    Usual,
    /// For calls that wait for a machine.
    Whole(Duration),
    /// A stream: the usual time until its first byte, then none.
    FirstByte,
}

impl Call {
    pub(super) fn new(method: Method, path: &[&str]) -> Self {
        Self {
            repeat: if method == Method::POST { Repeat::Never } else { Repeat::Fine },
            method,
            path: path.iter().map(|part| (*part).to_owned()).collect(),
            query: Vec::new(),
            body: Body::None,
            timeout: Timeout::Usual,
        }
    }

    pub(super) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn post(path: &[&str]) -> Self {
        Self::new(Method::POST, path)
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Our own requests always have a JSON form.
    pub(super) fn json(mut self, body: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(body);
        self.body = Body::Json(bytes.unwrap_or_else(|error| unreachable!("a request without JSON form: {error}")));
        self
    }

    pub(super) fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    pub(super) fn timeout(mut self, timeout: Timeout) -> Self {
        self.timeout = timeout;
        self
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The call did not leave this machine.
    #[error("{0}")]
    Unsent(String),
    /// It is not known whether the call took effect.
    #[error("{0}")]
    Unclear(String),
    /// `wait`: as long as the API says, if it does.
    #[error("{message}")]
    Busy { wait: Option<Duration>, message: String },
    /// A refusal, by status and by the API's own code.
    #[error("{message}")]
    Answer { status: u16, code: String, message: String },
}

impl ApiError {
    /// What was asked about does not exist (any more).
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Answer { status: 404 | 410, .. })
    }

    /// The session is over, or about to be.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Answer { status: 404 | 410 | 422, .. })
    }
}

impl From<ApiError> for SandboxError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Unsent(message) | ApiError::Unclear(message) => Self::Unavailable(message),
            ApiError::Busy { wait, message } => Self::Busy { wait: wait.unwrap_or(USUAL_WAIT), message },
            ApiError::Answer { status: 401 | 403, message, .. } => {
                Self::Denied(format!("Vercel refuses the token, the team or the project: {message}"))
            }
            ApiError::Answer { status: 402, message, .. } => {
                Self::Denied(format!("Vercel asks for payment: {message}"))
            }
            ApiError::Answer { code, .. } if code.starts_with("snapshot_") => Self::SnapshotGone,
            ApiError::Answer { status: 404 | 410 | 422, .. } => Self::Gone,
            ApiError::Answer { status: 409, message, .. } => Self::Unavailable(message),
            ApiError::Answer { status, code, message } => {
                Self::Refused(format!("Vercel answered {status} {code}: {message}"))
            }
        }
    }
}

pub(super) type Answer<T> = Result<T, ApiError>;

#[derive(Debug)]
pub(super) struct Api {
    http: reqwest::Client,
    /// Of calls that do not say otherwise.
    call_timeout: Duration,
    base: url::Url,
    account: Account,
    clock: Arc<dyn Clock>,
}

impl Api {
    /// The error is one sentence for the operator.
    pub(super) fn new(account: Account, call_timeout: Duration, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("hireling/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| format!("cannot set up the HTTP client: {error}"))?;
        let base = url::Url::parse(&account.base_url).map_err(|error| format!("VERCEL_API_URL: {error}"))?;
        Ok(Self { http, call_timeout, base, account, clock })
    }

    pub(super) fn project(&self) -> &str {
        &self.account.project
    }

    /// Sends a call, again where that is harmless, and gives the answer with its body unread.
    pub(super) async fn send(&self, call: &Call) -> Answer<reqwest::Response> {
        let mut tries = 0;
        loop {
            let error = match self.send_once(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let backoff = Duration::from_millis(400 << tries).mul_f64(1.0 + self.clock.jitter());
            let wait = match &error {
                ApiError::Unsent(_) => backoff,
                ApiError::Unclear(_) if call.repeat == Repeat::Fine => backoff,
                ApiError::Busy { wait, .. } if call.repeat != Repeat::NeverNorWait => {
                    wait.unwrap_or_default() + backoff
                }
                _ => return Err(error),
            };
            if tries == RETRIES || wait > LONGEST_WAIT {
                return Err(error);
            }
            tries += 1;
            tracing::debug!(error = %error, "a call to Vercel is sent again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Sends a call and reads its JSON. A broken answer to one that was carried out is unclear.
    pub(super) async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Answer<T> {
        let body = self.read(self.send(call).await?).await?;
        serde_json::from_slice(&body)
            .map_err(|error| ApiError::Unclear(format!("Vercel's answer cannot be read: {error}")))
    }

    async fn send_once(&self, call: &Call) -> Answer<reqwest::Response> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&call.path);
        }
        url.query_pairs_mut()
            .append_pair("teamId", &self.account.team)
            .extend_pairs(call.query.iter().map(|(name, value)| (*name, value.as_str())));
        let mut request = self.http.request(call.method.clone(), url).bearer_auth(self.account.token.expose());
        request = match &call.body {
            Body::None => request.header(header::CONTENT_TYPE, "application/json"),
            Body::Json(bytes) => request.header(header::CONTENT_TYPE, "application/json").body(bytes.clone()),
            Body::Gzip(bytes) => {
                request.header(header::CONTENT_TYPE, "application/gzip").header("x-cwd", "/").body(bytes.clone())
            }
        };
        let since = tokio::time::Instant::now();
        let answer = match call.timeout {
            Timeout::Usual => request.timeout(self.call_timeout).send().await.map_err(lost),
            Timeout::Whole(timeout) => request.timeout(timeout).send().await.map_err(lost),
            // A stream that is unpacked on the way could hold back its newest lines.
            Timeout::FirstByte => {
                let request = request.header(header::ACCEPT_ENCODING, "identity");
                match tokio::time::timeout(self.call_timeout, request.send()).await {
                    Ok(answer) => answer.map_err(lost),
                    Err(_) => Err(ApiError::Unclear("Vercel did not answer in time".to_owned())),
                }
            }
        };
        let status =
            answer.as_ref().map_or("none", |answer| if answer.status().is_success() { "ok" } else { "refused" });
        metrics::counter!("hireling_sandbox_calls_total", "method" => call.method.to_string(), "status" => status)
            .increment(1);
        metrics::histogram!("hireling_sandbox_call_seconds").record(since.elapsed().as_secs_f64());
        let answer = answer?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    async fn read(&self, answer: reqwest::Response) -> Answer<Vec<u8>> {
        let mut body = Vec::new();
        let mut stream = answer.bytes_stream();
        while let Some(piece) = stream.next().await {
            body.extend_from_slice(&piece.map_err(lost)?);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(ApiError::Unclear("Vercel's answer is too large".to_owned()));
            }
        }
        Ok(body)
    }

    /// An error body may be JSON, HTML, or empty.
    async fn refusal(&self, answer: reqwest::Response) -> ApiError {
        let status = answer.status();
        let after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = self.read(answer).await.unwrap_or_default();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |pointer: &str| json.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default();
        let code = text("/error/code").to_owned();
        let message = [text("/error/message"), text("/error"), status.canonical_reason().unwrap_or("no reason given")]
            .into_iter()
            .find(|text| !text.is_empty())
            .map(|text| cut_marked(text, 500))
            .unwrap_or_default();
        match status {
            StatusCode::TOO_MANY_REQUESTS => ApiError::Busy { wait: after.map(Duration::from_secs), message },
            status if status.is_server_error() || !status.is_client_error() => {
                ApiError::Unclear(format!("Vercel answered {}: {message}", status.as_u16()))
            }
            status => ApiError::Answer { status: status.as_u16(), code, message },
        }
    }
}

/// The address is left out: it says nothing new.
pub(super) fn lost(error: reqwest::Error) -> ApiError {
    let was_sent = !error.is_connect() && !error.is_builder();
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    if was_sent { ApiError::Unclear(text) } else { ApiError::Unsent(text) }
}
