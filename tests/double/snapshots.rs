//! Disk images.

use std::sync::Arc;

use serde_json::{Value, json};

use super::state::{Snapshot, new_id};
use super::wire::{Answer, Asked, Outcome};
use super::{Inner, files};

/// Stops the session by it.
pub async fn create(inner: &Arc<Inner>, asked: &Asked, session: &str) -> Outcome {
    if !asked.body.is_empty() {
        let body = asked.json()?;
        if body.as_object().is_none_or(|map| map.keys().any(|key| key != "expiration")) {
            return Err(super::validate::bad("a snapshot takes an expiration only"));
        }
    }
    let now = inner.now();
    let mut state = inner.state.lock().await;
    let sandbox = state.by_session(session)?;
    let kept = tempfile::Builder::new().prefix("double-snapshot-").tempdir().unwrap();
    files::copy_tree(sandbox.session.root.path(), kept.path());
    sandbox.session.end(now, "stopped", true);
    let id = new_id("snap_", 28);
    let snapshot = Snapshot {
        project: sandbox.project.clone(),
        name: sandbox.name.clone(),
        session: session.to_owned(),
        status: "created",
        at: now,
        files: kept,
    };
    let answer = json!({ "snapshot": snapshot.json(&id), "session": sandbox.session.json(sandbox) });
    state.snapshots.insert(id, snapshot);
    Ok(Answer::json(201, &answer))
}

pub async fn list(inner: &Arc<Inner>, asked: &Asked) -> Outcome {
    let project = asked.project("project")?;
    let state = inner.state.lock().await;
    let found: Vec<Value> = state
        .snapshots
        .iter()
        .filter(|(_, one)| one.project == project && asked.query("name").is_none_or(|name| one.name == name))
        .map(|(id, one)| one.json(id))
        .collect();
    Ok(Answer::json(200, &json!({ "snapshots": found, "pagination": { "count": found.len(), "next": null } })))
}

pub async fn get(inner: &Arc<Inner>, _: &Asked, id: &str) -> Outcome {
    let state = inner.state.lock().await;
    match state.snapshots.get(id) {
        Some(one) => Ok(Answer::json(200, &json!({ "snapshot": one.json(id) }))),
        None => Err(Answer::error(404, "not_found", "there is no such snapshot")),
    }
}

pub async fn delete(inner: &Arc<Inner>, _: &Asked, id: &str) -> Outcome {
    let mut state = inner.state.lock().await;
    match state.snapshots.get_mut(id) {
        Some(one) => {
            one.status = "deleted";
            Ok(Answer::json(200, &json!({ "snapshot": one.json(id) })))
        }
        None => Err(Answer::error(404, "not_found", "there is no such snapshot")),
    }
}
