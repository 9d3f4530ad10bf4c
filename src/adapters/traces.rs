//! Traces to a collector of OpenTelemetry, by HTTP with JSON.

use std::time::Duration;

/// A stop waits for what is being sent.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Traces {
    http: reqwest::Client,
    url: String,
}

impl Traces {
    /// `endpoint`: as OTEL_EXPORTER_OTLP_ENDPOINT has it, without `/v1/traces`. The error is one sentence for the operator.
    pub fn new(endpoint: &str) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("hireling/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| format!("cannot set up the HTTP client: {error}"))?;
        Ok(Self { http, url: format!("{}/v1/traces", endpoint.trim_end_matches('/')) })
    }

    pub async fn send(&self, trace: &serde_json::Value) -> Result<(), String> {
        let answer = self.http.post(&self.url).json(trace).send().await;
        match answer.and_then(reqwest::Response::error_for_status) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}
