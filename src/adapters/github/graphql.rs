//! GraphQL by our own hand: octocrab posts it to the wrong place on Enterprise Server and drops
//! what came along with an error.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{GitHub, GitHubError, MAX_ANSWER_BYTES, Place, Result, Scope, error, figures};
use crate::domain::ids::Millis;
use crate::domain::secret::Secret;
use crate::domain::text::cut_marked;

#[derive(Deserialize)]
struct GraphQlAnswer {
    /// With an error, what was asked for is `null` in it.
    #[serde(default)]
    data: Value,
    #[serde(default)]
    errors: Vec<GraphQlError>,
}

#[derive(Deserialize)]
struct GraphQlError {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    message: String,
}

impl GitHub {
    pub(super) async fn graphql<T: DeserializeOwned>(
        &self,
        place: &Place<'_>,
        scope: Scope,
        query: &'static str,
        variables: &Value,
    ) -> Result<T> {
        let mut refused = 0u32;
        loop {
            let token = self.token(place, scope).await?;
            let request = self
                .http
                .post(&self.graphql_url)
                .bearer_auth(token.expose())
                .json(&json!({ "query": query, "variables": variables }));
            match self.graphql_once(request).await {
                Err(GitHubError::Unauthorized) if refused < 3 => {
                    self.auth.forget(place, scope, &token).await;
                    tokio::time::sleep(Duration::from_secs(u64::from(refused))).await;
                    refused += 1;
                }
                Err(error) if refused < 3 && error.is_of_fresh_token() && self.is_fresh(place, scope).await => {
                    refused += 1;
                    tokio::time::sleep(Duration::from_secs(u64::from(refused))).await;
                }
                answer => return answer,
            }
        }
    }

    /// One call with a person's token.
    pub(super) async fn graphql_as<T: DeserializeOwned>(
        &self,
        token: &Secret,
        query: &'static str,
        variables: &Value,
    ) -> Result<T> {
        let request = self.http.post(&self.graphql_url).bearer_auth(token.expose());
        self.graphql_once(request.json(&json!({ "query": query, "variables": variables }))).await
    }

    async fn graphql_once<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T> {
        let read = read(request).await;
        let now = self.clock.now();
        figures::count(&Method::POST, read.as_ref().ok().map(|(status, headers, _)| (*status, headers)), now);
        let (status, headers, body) = read?;
        if status != StatusCode::OK {
            return Err(error::of_answer(status, &headers, &body, now));
        }
        let unreadable =
            |error: serde_json::Error| GitHubError::Unavailable(format!("an answer that cannot be read: {error}"));
        let answer: GraphQlAnswer = serde_json::from_slice(&body).map_err(unreadable)?;
        match answer.errors.first() {
            Some(first) => Err(of_error(first, now)),
            None => serde_json::from_value(answer.data).map_err(unreadable),
        }
    }
}

/// Sends, and reads the whole answer.
async fn read(request: reqwest::RequestBuilder) -> Result<(StatusCode, HeaderMap, Vec<u8>)> {
    let unavailable = |error: reqwest::Error| GitHubError::Unavailable(error::describe(&error.without_url()));
    let mut response = request.send().await.map_err(unavailable)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(GitHubError::Unavailable("an answer that is too long".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, headers, body))
}

fn of_error(error: &GraphQlError, now: Millis) -> GitHubError {
    let message = cut_marked(&error.message, 1_000);
    let lower = message.to_ascii_lowercase();
    match error.kind.as_str() {
        "RATE_LIMITED" => GitHubError::Limited { until: Millis(now.0 + 60_000) },
        "STALE_DATA" => GitHubError::Moved { message },
        "NOT_FOUND" => GitHubError::Missing,
        "FORBIDDEN" => GitHubError::Forbidden { message },
        _ if lower.contains("expected branch to point to") => GitHubError::Moved { message },
        _ if lower.contains("something went wrong") || lower.contains("timeout") => GitHubError::Unavailable(message),
        _ => GitHubError::Refused { status: 422, message },
    }
}
