//! A task as a trace of OpenTelemetry: made at its end from what is stored, so that a task that lived through
//! three processes is one trace. The form is that of OTLP over HTTP with JSON,
//! <https://opentelemetry.io/docs/specs/otlp/>.

use serde_json::{Value, json};

use super::ids::Millis;
use super::run::{Ending, Run};
use super::task::{Outcome, Task};

/// The body of a call of `/v1/traces`. `run`: the last attempt, if there was one.
pub fn otlp(task: &Task, run: Option<&Run>, ending: &Ending, now: Millis) -> Value {
    let trace = padded(&task.id.0, 32);
    let root = padded(&task.id.0.chars().rev().collect::<String>(), 16);
    let is_well = matches!(ending.outcome, Outcome::Succeeded | Outcome::NoChanges);
    let mut about = vec![
        text("task.id", &task.id.0),
        text("delivery.id", &task.delivery.0),
        text("repo", &task.thread.name.to_string()),
        text("issue", &task.thread.issue.to_string()),
        text("agent", &task.agent),
        text("outcome", ending.outcome.name()),
    ];
    about.extend(run.map(|run| text("attempt", &run.attempt.to_string())));
    let mut spans = vec![json!({ "traceId": trace, "spanId": root, "name": "task", "kind": 1,
        "startTimeUnixNano": nanos(task.created_at), "endTimeUnixNano": nanos(now), "attributes": about,
        "status": { "code": if is_well { 1 } else { 2 } } })];
    for (number, (name, from, to)) in parts(task, run, now).into_iter().enumerate() {
        let id = format!("{}{:04x}", &root[..12], number + 1);
        spans.push(json!({ "traceId": trace, "spanId": id, "parentSpanId": root, "name": name, "kind": 1,
            "startTimeUnixNano": nanos(from), "endTimeUnixNano": nanos(to) }));
    }
    let scope = json!({ "name": "hireling", "version": env!("CARGO_PKG_VERSION") });
    json!({ "resourceSpans": [{ "resource": { "attributes": [text("service.name", "hireling")] },
        "scopeSpans": [{ "scope": scope, "spans": spans }] }] })
}

/// Waiting in the queue, then the steps of the last attempt, each from the end of the one before.
fn parts(task: &Task, run: Option<&Run>, now: Millis) -> Vec<(&'static str, Millis, Millis)> {
    let started_at = task.started_at.unwrap_or(now);
    let mut parts = vec![("queue", task.created_at, started_at)];
    let Some(run) = run else { return parts };
    let mut from = run.started_at;
    for (step, to) in &run.facts.ended {
        parts.push((step.name(), from, *to));
        from = *to;
    }
    parts.push((run.step.name(), from, now));
    parts
}

/// Ids are hex digits of a fixed number, and never all zero.
fn padded(id: &str, digits: usize) -> String {
    let hex: String = id.chars().filter(char::is_ascii_hexdigit).take(digits).collect();
    format!("{hex:1<digits$}")
}

fn nanos(at: Millis) -> String {
    format!("{}000000", at.0.max(0))
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_their_length_whatever_they_are_made_of() {
        assert_eq!(padded("01a206b2d76176b68676b4ddd4370a6b", 32), "01a206b2d76176b68676b4ddd4370a6b");
        assert_eq!(padded("t-1", 16), "1111111111111111");
        assert_eq!(padded("", 16).len(), 16);
    }
}
