//! Calls by the id of a session. When it is over, only looking at it is answered.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use super::validate::{self, bad, check_policy};
use super::wire::{Answer, Asked, Outcome};
use super::{Inner, commands, files, snapshots};

pub async fn answer(inner: &Arc<Inner>, asked: &Asked, id: &str, rest: &[&str]) -> Outcome {
    if (&asked.method, rest) == (&Method::GET, &[]) {
        return get(inner, id).await;
    }
    if (&asked.method, rest) == (&Method::POST, &["stop"]) {
        return stop(inner, id).await;
    }
    check_running(inner, id).await?;
    match (&asked.method, rest) {
        (&Method::POST, ["cmd"]) => commands::run(inner, asked, id).await,
        (&Method::GET, ["cmd"]) => commands::list(inner, id).await,
        (&Method::GET, ["cmd", command]) => commands::get(inner, asked, id, command).await,
        (&Method::GET, ["cmd", command, "logs"]) => commands::logs(inner, id, command).await,
        (&Method::POST, ["cmd", command, "kill"]) => commands::kill(inner, asked, id, command).await,
        (&Method::POST, ["fs", "write"]) => files::write(inner, asked, id).await,
        (&Method::POST, ["fs", "read"]) => files::read(inner, asked, id).await,
        (&Method::POST, ["fs", "mkdir"]) => files::mkdir(inner, asked, id).await,
        (&Method::POST, ["extend-timeout"]) => extend(inner, asked, id).await,
        (&Method::POST, ["network-policy"]) => policy(inner, asked, id).await,
        (&Method::POST, ["snapshot"]) => snapshots::create(inner, asked, id).await,
        _ => {
            Err(Answer { violation: Some("no such route".into()), ..Answer::error(404, "not_found", "no such route") })
        }
    }
}

async fn check_running(inner: &Arc<Inner>, id: &str) -> Result<(), Answer> {
    let mut state = inner.state.lock().await;
    let session = &state.by_session(id)?.session;
    match session.status {
        "running" => Ok(()),
        "pending" => Err(Answer::error(409, "conflict", "the session does not run yet")),
        "stopping" => Err(Answer::error(422, "sandbox_stopping", "the session is going away")),
        "failed" => Err(Answer::error(410, "sandbox_failed", "the machine failed")),
        _ => Err(Answer::error(410, "sandbox_stopped", "the session is over")),
    }
}

async fn get(inner: &Arc<Inner>, id: &str) -> Outcome {
    let mut state = inner.state.lock().await;
    let sandbox = state.by_session(id)?;
    if sandbox.session.status == "pending" {
        sandbox.session.pending_polls -= 1;
        if sandbox.session.pending_polls == 0 {
            sandbox.session.status = "running";
        }
    }
    let answer = json!({ "session": sandbox.session.json(sandbox), "routes": sandbox.routes() });
    Ok(Answer::json(200, &answer))
}

async fn stop(inner: &Arc<Inner>, id: &str) -> Outcome {
    let knobs = inner.knobs();
    let is_strict = knobs.strict_stop;
    if knobs.stopping_ms > 0 {
        let mut state = inner.state.lock().await;
        let session = &mut state.by_session(id)?.session;
        if session.is_running() {
            session.status = "stopping";
        }
        drop(state);
        tokio::time::sleep(std::time::Duration::from_millis(knobs.stopping_ms)).await;
    }
    let now = inner.now();
    let mut state = inner.state.lock().await;
    let sandbox = state.by_session(id)?;
    if sandbox.session.stopped_at.is_some() && is_strict {
        return Err(Answer::error(410, "sandbox_stopped", "the session is over"));
    }
    sandbox.session.end(now, "stopped", true);
    let answer = json!({ "session": sandbox.session.json(sandbox), "sandbox": sandbox.json() });
    Ok(Answer::json(200, &answer))
}

async fn extend(inner: &Arc<Inner>, asked: &Asked, id: &str) -> Outcome {
    let order: validate::Duration = validate::body(asked)?;
    if order.duration < 1000 {
        return Err(bad("duration is too small"));
    }
    let longest = inner.knobs().max_timeout;
    let mut state = inner.state.lock().await;
    let sandbox = state.by_session(id)?;
    if sandbox.session.timeout + order.duration > longest {
        return Err(Answer::error(400, "sandbox_timeout_invalid", "your plan does not allow so long a timeout"));
    }
    sandbox.session.timeout += order.duration;
    Ok(Answer::json(200, &json!({ "session": sandbox.session.json(sandbox) })))
}

async fn policy(inner: &Arc<Inner>, asked: &Asked, id: &str) -> Outcome {
    let policy = asked.json()?;
    check_policy(&policy, &inner.knobs())?;
    let mut state = inner.state.lock().await;
    let sandbox = state.by_session(id)?;
    let mut answer = json!({ "session": sandbox.session.json(sandbox) });
    // The answer has another form, and never a header's value.
    answer["session"]["networkPolicy"] = match policy.get("mode") {
        Some(mode) => json!({ "mode": mode }),
        None => stripped(&policy),
    };
    sandbox.policies.push(policy);
    Ok(Answer::json(200, &answer))
}

/// The response form of a policy: names of hosts and headers, no value.
fn stripped(policy: &serde_json::Value) -> serde_json::Value {
    let names = |value: &serde_json::Value| match value {
        serde_json::Value::Array(list) => list.clone(),
        serde_json::Value::Object(map) => map.keys().map(|name| json!(name)).collect(),
        _ => Vec::new(),
    };
    let mut rules = Vec::new();
    for (domain, list) in policy["allow"].as_object().into_iter().flatten() {
        for rule in list.as_array().into_iter().flatten() {
            rules.push(json!({ "domain": domain, "headerNames": names(&rule["transform"][0]["headers"]) }));
        }
    }
    json!({ "mode": "custom", "allowedDomains": names(&policy["allow"]), "injectionRules": rules })
}
