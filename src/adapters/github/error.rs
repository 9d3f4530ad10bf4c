//! What can go wrong with GitHub, as decisions a caller can make.

use http::{HeaderMap, StatusCode};

use crate::domain::ids::Millis;
use crate::domain::text::cut_marked;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitHubError {
    /// Not reached, a 5xx, or an answer nobody can read. Whether the call took effect is unknown.
    #[error("GitHub is not available: {0}")]
    Unavailable(String),
    /// The same of a call that makes something anew each time. GitHub may still be at it: who looks at once may not see it.
    #[error("GitHub is not available: {0}")]
    Unclear(String),
    /// A primary or secondary limit: this installation has to be left alone until then.
    #[error("GitHub asks to wait")]
    Limited { until: Millis },
    #[error("GitHub refused the token")]
    Unauthorized,
    /// 404 or 410: deleted, moved out of sight, or not there yet.
    #[error("GitHub does not find it")]
    Missing,
    #[error("GitHub forbids it: {message}")]
    Forbidden { message: String },
    /// The branch is not where it was expected.
    #[error("the branch has moved: {message}")]
    Moved { message: String },
    /// 422 and other answers that say no to what was sent.
    #[error("GitHub says no ({status}): {message}")]
    Refused { status: u16, message: String },
}

impl GitHubError {
    /// Trying the same again later can help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unclear(_) | Self::Limited { .. } | Self::Unauthorized)
    }

    /// GitHub's words for a token that may not do this, or is not known yet.
    pub(super) fn is_of_fresh_token(&self) -> bool {
        matches!(self, Self::Forbidden { message } if message.contains("Resource not accessible"))
    }

    /// GitHub's words for an account that has the App suspended.
    pub fn is_of_suspension(&self) -> bool {
        matches!(self, Self::Forbidden { message } if message.contains("suspended"))
    }

    /// What GitHub said, for the person who asked.
    pub fn message(&self) -> String {
        match self {
            Self::Forbidden { message } | Self::Moved { message } | Self::Refused { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }
}

#[derive(serde::Deserialize, Default)]
struct ErrorBody {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<serde_json::Value>,
}

/// The chain of causes in one line; octocrab's own text leaves them out.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string().lines().next().unwrap_or("").to_owned();
    let mut source = error.source();
    while let Some(cause) = source {
        let line = cause.to_string();
        let line = line.lines().next().unwrap_or("");
        if !text.contains(line) {
            text = format!("{text}: {line}");
        }
        source = cause.source();
    }
    cut_marked(&text, 500)
}

/// From a refusing answer to an error.
pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8], now: Millis) -> GitHubError {
    let parsed: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
    let message = message_of(&parsed);
    match status.as_u16() {
        429 => GitHubError::Limited { until: wait_until(headers, now) },
        403 if is_limit(headers, &parsed.message) => GitHubError::Limited { until: wait_until(headers, now) },
        401 => GitHubError::Unauthorized,
        403 | 451 => GitHubError::Forbidden { message },
        404 | 410 => GitHubError::Missing,
        400..=499 => GitHubError::Refused { status: status.as_u16(), message },
        other => GitHubError::Unavailable(format!("status {other}")),
    }
}

fn message_of(body: &ErrorBody) -> String {
    let details = body.errors.iter().filter_map(|error| {
        error.as_str().or_else(|| error.get("message").and_then(serde_json::Value::as_str)).map(ToOwned::to_owned)
    });
    let parts: Vec<String> =
        std::iter::once(body.message.clone()).chain(details).filter(|part| !part.is_empty()).collect();
    cut_marked(&parts.join(": "), 1_000)
}

fn is_limit(headers: &HeaderMap, message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    headers.contains_key("retry-after")
        || number(headers, "x-ratelimit-remaining") == Some(0)
        || message.contains("rate limit")
        || message.contains("abuse")
}

/// `Retry-After` first, else the reset time when nothing remains, else a minute.
fn wait_until(headers: &HeaderMap, now: Millis) -> Millis {
    if let Some(seconds) = number(headers, "retry-after") {
        return Millis(now.0 + seconds.clamp(0, 86_400) * 1000);
    }
    if number(headers, "x-ratelimit-remaining") == Some(0)
        && let Some(reset) = number(headers, "x-ratelimit-reset")
    {
        // By GitHub's clock, which may not be ours.
        let wait = reset.saturating_mul(1000).saturating_sub(date(headers).unwrap_or(now).0);
        return Millis(now.0 + wait.clamp(1_000, 86_400_000));
    }
    Millis(now.0 + 60_000)
}

/// When GitHub answered, by its own clock.
pub(super) fn date(headers: &HeaderMap) -> Option<Millis> {
    Millis::parse_http_date(headers.get(http::header::DATE)?.to_str().ok()?)
}

fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, headers: &[(&'static str, &str)], body: &str) -> GitHubError {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        of_answer(StatusCode::from_u16(status).unwrap(), &map, body.as_bytes(), Millis(1_000_000))
    }

    #[test]
    fn limits_are_told_from_refusals() {
        let limited = |until| GitHubError::Limited { until: Millis(until) };
        assert_eq!(error(429, &[("retry-after", "7")], ""), limited(1_007_000));
        assert_eq!(
            error(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1200")], "{}"),
            limited(1_200_000)
        );
        let by_its_clock =
            [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "7260"), ("date", "Thu, 01 Jan 1970 02:00:00 GMT")];
        assert_eq!(error(403, &by_its_clock, "{}"), limited(1_060_000));
        assert_eq!(error(403, &[], r#"{"message":"You have exceeded a secondary rate limit"}"#), limited(1_060_000));
        assert_eq!(
            error(403, &[("x-ratelimit-remaining", "4000")], r#"{"message":"Resource not accessible"}"#),
            GitHubError::Forbidden { message: "Resource not accessible".into() }
        );
    }

    #[test]
    fn other_answers_keep_what_github_said() {
        assert_eq!(error(502, &[], "<html>"), GitHubError::Unavailable("status 502".into()));
        assert_eq!(error(404, &[], ""), GitHubError::Missing);
        assert_eq!(
            error(422, &[], r#"{"message":"Validation Failed","errors":[{"message":"too long"},"odd"]}"#),
            GitHubError::Refused { status: 422, message: "Validation Failed: too long: odd".into() }
        );
    }
}
