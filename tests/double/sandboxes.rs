//! Calls by the name of a sandbox.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::state::{Sandbox, Session, new_id};
use super::validate::{self, bad};
use super::wire::{Answer, Asked, Outcome};
use super::{Inner, files};

pub async fn create(inner: &Arc<Inner>, asked: &Asked) -> Outcome {
    let order: validate::Create = validate::body(asked)?;
    let knobs = inner.knobs();
    order.check(&knobs)?;
    let now = inner.now();
    let mut state = inner.state.lock().await;
    let name = order.name.clone().unwrap_or_else(|| new_id("sb-", 12));
    if state.by_name(&order.project_id, &name).is_ok() {
        let message = format!("a sandbox named {name} exists for this project");
        return Err(Answer::error(400, "bad_request", &message));
    }
    if state.alive().len() >= knobs.max_running {
        return Err(Answer::error(429, "too_many_sandboxes", "the limit of concurrent sandboxes is reached"));
    }
    let root = empty_root();
    if let Some(validate::Source::Snapshot { snapshot_id }) = &order.source {
        let found = state.snapshots.get(snapshot_id).filter(|one| one.status == "created");
        let found = found.ok_or_else(|| Answer::error(410, "snapshot_not_found", "the snapshot is gone"))?;
        files::copy_tree(found.files.path(), root.path());
    }
    let sandbox = Sandbox {
        name,
        project: order.project_id,
        persistent: order.persistent.unwrap_or(true),
        tags: order.tags.unwrap_or_default(),
        env: order.env.unwrap_or_default(),
        created_at: now,
        is_deleted: false,
        session: Session {
            id: new_id("sbx_", 24),
            status: match (knobs.born_failed, knobs.pending_polls) {
                (true, _) => "failed",
                (false, 0) => "running",
                (false, _) => "pending",
            },
            timeout: order.timeout.unwrap_or(300_000),
            started_at: now,
            stopped_at: None,
            requested_stop_at: None,
            pending_polls: knobs.pending_polls,
            odd_words: knobs.noise,
            commands: Vec::new(),
            root,
            over: tokio_util::sync::CancellationToken::new(),
        },
        policies: order.network_policy.into_iter().collect(),
        ports: order.ports,
        vcpus: order.resources.map_or(2, |resources| resources.vcpus),
    };
    let made = sandbox.made();
    state.sandboxes.push(sandbox);
    inner.most_alive.fetch_max(state.most_alive(), Ordering::SeqCst);
    Ok(Answer::json(200, &made))
}

impl Sandbox {
    /// A new session: on the same files if they were to be kept, else on none.
    fn resume(&mut self, now: i64) {
        let root = empty_root();
        if self.persistent {
            files::copy_tree(self.session.root.path(), root.path());
        }
        self.session = Session {
            id: new_id("sbx_", 24),
            status: "running",
            timeout: self.session.timeout,
            started_at: now,
            stopped_at: None,
            requested_stop_at: None,
            pending_polls: 0,
            odd_words: false,
            commands: Vec::new(),
            root,
            over: tokio_util::sync::CancellationToken::new(),
        };
    }
}

fn empty_root() -> tempfile::TempDir {
    let root = tempfile::Builder::new().prefix("double-").tempdir().unwrap();
    for dir in ["vercel/sandbox", "tmp"] {
        std::fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    root
}

pub async fn get(inner: &Arc<Inner>, asked: &Asked, name: &str) -> Outcome {
    let project = asked.project("projectId")?;
    let mut state = inner.state.lock().await;
    let sandbox = state.by_name(&project, name)?;
    let mut answer = sandbox.made();
    if asked.query("resume") == Some("true") && !sandbox.session.is_up() {
        inner.resumes.fetch_add(1, Ordering::SeqCst);
        sandbox.resume(inner.now());
        answer = sandbox.made();
        answer["resumed"] = true.into();
    }
    Ok(Answer::json(200, &answer))
}

pub async fn list(inner: &Arc<Inner>, asked: &Asked) -> Outcome {
    let project = asked.project("project")?;
    let limit: usize = asked.query("limit").map_or(Ok(20), str::parse).map_err(|_| bad("limit is no number"))?;
    if !(1..=50).contains(&limit) {
        return Err(bad("limit is out of range"));
    }
    if asked.query("namePrefix").is_some() && asked.query("sortBy") != Some("name") {
        return Err(bad("namePrefix needs sortBy=name"));
    }
    let offset = match asked.query("cursor") {
        None => 0,
        Some(cursor) => read_cursor(cursor).ok_or_else(|| bad("the cursor is unknown"))?,
    };
    let state = inner.state.lock().await;
    let mut found: Vec<&Sandbox> = state
        .sandboxes
        .iter()
        .filter(|one| one.project == project && !one.is_deleted)
        .filter(|one| asked.query("namePrefix").is_none_or(|prefix| one.name.starts_with(prefix)))
        .filter(|one| asked.query("status").is_none_or(|status| one.session.status == status))
        .filter(|one| {
            asked.query("tags").is_none_or(|pair| {
                pair.split_once(':').is_some_and(|(name, value)| one.tags.get(name).is_some_and(|known| known == value))
            })
        })
        .collect();
    if asked.query("sortBy") == Some("name") {
        found.sort_by(|a, b| a.name.cmp(&b.name));
    } else {
        found.reverse();
    }
    let page: Vec<Value> = found.iter().skip(offset).take(limit).map(|one| one.json()).collect();
    let next = (offset + limit < found.len()).then(|| write_cursor(offset + limit));
    Ok(Answer::json(200, &json!({ "sandboxes": page, "pagination": { "count": page.len(), "next": next } })))
}

fn write_cursor(offset: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!("cursor:{offset}"))
}

fn read_cursor(cursor: &str) -> Option<usize> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    String::from_utf8(bytes).ok()?.strip_prefix("cursor:")?.parse().ok()
}

pub async fn delete(inner: &Arc<Inner>, asked: &Asked, name: &str) -> Outcome {
    let project = asked.project("projectId")?;
    let now = inner.now();
    let mut state = inner.state.lock().await;
    let sandbox = state.by_name(&project, name)?;
    sandbox.session.end(now, "stopped", true);
    sandbox.is_deleted = true;
    Ok(Answer::json(200, &json!({ "sandbox": sandbox.json() })))
}
