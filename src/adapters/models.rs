//! Calls to the vendors of models. Bodies pass through as they are: nothing is unpacked or kept.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, Method, StatusCode};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Models think for minutes, but not in silence for longer than this.
const SILENCE: Duration = Duration::from_secs(600);

/// The vendor cannot be reached, or broke off. Its own refusals are answers.
#[derive(Debug, thiserror::Error)]
#[error("the vendor of the model cannot be reached")]
pub struct Unreachable(#[source] reqwest::Error);

impl Unreachable {
    /// Nobody has got the call: it cost nothing.
    pub fn was_not_sent(&self) -> bool {
        self.0.is_connect() || self.0.is_builder()
    }
}

/// An answer as it arrives.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: BoxStream<'static, Result<Bytes, Unreachable>>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Models {
    http: reqwest::Client,
}

impl Models {
    /// The error is one sentence for the operator.
    pub fn new() -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_gzip()
            .build()
            .map_err(|error| format!("no client for models can be made: {error}"))?;
        Ok(Self { http })
    }

    /// `headers` hold the key.
    pub async fn call(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Unreachable> {
        let request = self.http.request(method, url).headers(headers).body(body);
        // The address could hold a query; what is told never does.
        let answer = request.send().await.map_err(|error| Unreachable(error.without_url()))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes_stream().map_err(|error| Unreachable(error.without_url())).boxed();
        Ok(Answer { status, headers, body })
    }
}
