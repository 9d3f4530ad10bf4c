//! What GitHub's answers cost and leave, for Prometheus.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use http::{HeaderMap, Method, StatusCode};

use crate::domain::ids::Millis;

/// By resource: the least that an answer left, and when GitHub counts anew.
type Left = HashMap<String, (i64, Millis)>;

/// Of the process, as the figures are.
static LEFT: LazyLock<Mutex<Left>> = LazyLock::new(Mutex::default);

/// Counts a call. `answer`: `None` where none came, or half of one.
pub(super) fn count(method: &Method, answer: Option<(StatusCode, &HeaderMap)>, now: Millis) {
    let status = answer.map_or("none".to_owned(), |(status, _)| status.as_str().to_owned());
    metrics::counter!("hireling_github_calls_total", "method" => method.to_string(), "status" => status).increment(1);
    let Some((_, headers)) = answer else { return };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let number = |name: &str| text(name).and_then(|text| text.parse::<i64>().ok());
    let (Some(left), Some(resource)) = (number("x-ratelimit-remaining"), text("x-ratelimit-resource")) else { return };
    let until = number("x-ratelimit-reset").map_or(now, |seconds| Millis(seconds.saturating_mul(1000)));
    let mut all = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    let least = least(&mut all, resource, (left, until), now);
    metrics::gauge!("hireling_github_remaining", "resource" => resource.to_owned()).set(least as f64);
}

/// Each account has a limit of its own: the one with the least left is shown until GitHub counts anew there.
fn least(all: &mut Left, resource: &str, (left, until): (i64, Millis), now: Millis) -> i64 {
    let known = all.entry(resource.to_owned()).or_insert((left, until));
    if left <= known.0 || known.1 <= now {
        *known = (left, until);
    }
    known.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_with_the_least_left_is_shown_until_its_hour_is_over() {
        let mut all = Left::new();
        let mut told = |left, until, now| least(&mut all, "core", (left, Millis(until)), Millis(now));
        assert_eq!(told(4_000, 100, 1), 4_000);
        assert_eq!(told(10, 50, 2), 10);
        assert_eq!(told(3_999, 100, 3), 10);
        assert_eq!(told(3_998, 100, 50), 3_998);
    }
}
