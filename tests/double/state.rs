//! What the double remembers: sandboxes, their sessions, commands and snapshots.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::commands::Process;
use super::firewall::headers_of;
use super::wire::{Answer, Asked};

/// One call, for assertions.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// `POST /api/v3/sandboxes?teamId=…`
    pub route: String,
    /// JSON as text; for uploads the names and contents of the files.
    pub body: String,
}

impl Recorded {
    pub fn of(asked: &Asked, query: &str) -> Self {
        let kind = asked.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let body = match kind {
            "application/gzip" => super::files::describe(&asked.body),
            _ => String::from_utf8_lossy(&asked.body).into_owned(),
        };
        Self { route: format!("{} /{}?{query}", asked.method, asked.path.join("/")), body }
    }
}

/// A sandbox that was made, for assertions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    pub name: String,
    pub task: String,
    /// Deleted, or stopped and left.
    pub is_deleted: bool,
    pub is_running: bool,
    pub timeout: i64,
    /// Network policies as they were asked for, in order.
    pub policies: Vec<String>,
}

#[derive(Default)]
pub struct State {
    pub sandboxes: Vec<Sandbox>,
    pub snapshots: BTreeMap<String, Snapshot>,
}

pub struct Sandbox {
    pub name: String,
    pub project: String,
    pub persistent: bool,
    pub tags: BTreeMap<String, String>,
    pub env: BTreeMap<String, String>,
    pub created_at: i64,
    pub is_deleted: bool,
    pub session: Session,
    pub policies: Vec<Value>,
    pub ports: Vec<u16>,
    pub vcpus: u64,
}

pub struct Session {
    pub id: String,
    pub status: &'static str,
    pub timeout: i64,
    pub started_at: i64,
    pub stopped_at: Option<i64>,
    pub requested_stop_at: Option<i64>,
    pub pending_polls: usize,
    /// Says that it runs by a word nobody knows.
    pub odd_words: bool,
    pub commands: Vec<Arc<Process>>,
    pub root: tempfile::TempDir,
    /// Tells open streams that the session is over.
    pub over: tokio_util::sync::CancellationToken,
}

pub struct Snapshot {
    pub project: String,
    pub name: String,
    pub session: String,
    pub status: &'static str,
    pub at: i64,
    pub files: tempfile::TempDir,
}

impl Session {
    pub fn deadline(&self) -> i64 {
        self.started_at + self.timeout
    }

    /// Over, with everything in it; a second end changes nothing.
    pub fn end(&mut self, now: i64, status: &'static str, was_requested: bool) {
        if matches!(self.status, "stopped" | "failed" | "aborted") {
            return;
        }
        self.status = status;
        self.stopped_at = Some(now);
        self.requested_stop_at = was_requested.then_some(now);
        self.over.cancel();
        for process in &self.commands {
            process.kill(9);
        }
    }

    pub fn is_running(&self) -> bool {
        matches!(self.status, "pending" | "running")
    }

    /// The machine is not down yet.
    pub fn is_up(&self) -> bool {
        self.is_running() || self.status == "stopping"
    }

    pub fn json(&self, sandbox: &Sandbox) -> Value {
        let status = if self.odd_words && self.status == "running" { "purring" } else { self.status };
        let mut value = json!({
            "id": self.id, "memory": sandbox.vcpus * 2048, "vcpus": sandbox.vcpus, "region": "iad1",
            "timeout": self.timeout, "status": status, "requestedAt": self.started_at,
            "createdAt": self.started_at, "updatedAt": self.started_at, "cwd": "/vercel/sandbox",
            "startedAt": self.started_at, "sourceSandboxName": sandbox.name, "projectId": sandbox.project,
            "aFieldOfTomorrow": { "x": 1 },
        });
        if let Some(at) = self.stopped_at {
            value["stoppedAt"] = at.into();
            value["duration"] = (at - self.started_at).into();
            value["activeCpuDurationMs"] = 1.into();
            value["networkTransfer"] = json!({ "ingress": 1, "egress": 1 });
        }
        if let Some(at) = self.requested_stop_at {
            value["requestedStopAt"] = at.into();
        }
        value
    }
}

impl Sandbox {
    pub fn json(&self) -> Value {
        json!({
            "name": self.name, "persistent": self.persistent, "createdAt": self.created_at,
            "updatedAt": self.created_at, "currentSessionId": self.session.id, "status": self.session.status,
            "timeout": self.session.timeout, "tags": self.tags, "region": "iad1", "cwd": "/vercel/sandbox",
            "vcpus": self.vcpus, "aFieldOfTomorrow": [],
        })
    }

    pub fn routes(&self) -> Value {
        let routes: Vec<Value> = self
            .ports
            .iter()
            .map(|port| {
                let subdomain = format!("sb-{}-{port}", &self.session.id[4..12]);
                json!({ "url": format!("https://{subdomain}.vercel.run"), "subdomain": subdomain, "port": port })
            })
            .collect();
        routes.into()
    }

    pub fn made(&self) -> Value {
        json!({ "sandbox": self.json(), "session": self.session.json(self), "routes": self.routes() })
    }
}

impl Snapshot {
    pub fn json(&self, id: &str) -> Value {
        json!({
            "id": id, "sourceSessionId": self.session, "region": "iad1", "status": self.status,
            "sizeBytes": 1, "createdAt": self.at, "updatedAt": self.at,
        })
    }
}

impl State {
    pub fn by_name(&mut self, project: &str, name: &str) -> Result<&mut Sandbox, Answer> {
        self.sandboxes
            .iter_mut()
            .find(|one| one.name == name && one.project == project && !one.is_deleted)
            .ok_or_else(|| Answer::error(404, "not_found", "there is no sandbox of this name"))
    }

    pub fn by_session(&mut self, id: &str) -> Result<&mut Sandbox, Answer> {
        self.sandboxes
            .iter_mut()
            .find(|one| one.session.id == id)
            .ok_or_else(|| Answer::error(404, "not_found", "there is no such session"))
    }

    pub fn alive(&self) -> Vec<String> {
        self.sandboxes.iter().filter(|one| one.session.is_up()).map(|one| one.name.clone()).collect()
    }

    /// Machines that run for one task, the most of any task.
    pub fn most_alive(&self) -> usize {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for one in self.sandboxes.iter().filter(|one| one.session.is_up()) {
            *counts.entry(one.tags.get("task").map_or("", String::as_str)).or_default() += 1;
        }
        counts.into_values().max().unwrap_or(0)
    }

    pub fn lives(&self) -> Vec<Life> {
        self.sandboxes
            .iter()
            .map(|one| Life {
                name: one.name.clone(),
                task: one.tags.get("task").cloned().unwrap_or_default(),
                is_deleted: one.is_deleted,
                is_running: one.session.is_running(),
                timeout: one.session.timeout,
                policies: one.policies.iter().map(ToString::to_string).collect(),
            })
            .collect()
    }

    pub fn root(&self, name: &str) -> PathBuf {
        let one = self.sandboxes.iter().find(|one| one.name == name).expect("a sandbox");
        one.session.root.path().to_owned()
    }

    pub fn end(&mut self, name: &str, now: i64, status: &'static str, was_requested: bool) {
        for one in self.sandboxes.iter_mut().filter(|one| one.name == name) {
            one.session.end(now, status, was_requested);
        }
    }

    pub fn end_due(&mut self, now: i64) {
        for one in &mut self.sandboxes {
            if one.session.is_running() && now >= one.session.deadline() {
                one.session.end(now, "stopped", false);
            }
        }
    }

    /// Headers that the policies of running sandboxes put on a request.
    pub fn headers_for(&self, host: &str, path: &str) -> Vec<(String, String)> {
        let running = self.sandboxes.iter().filter(|one| one.session.is_running());
        running.filter_map(|one| one.policies.last()).flat_map(|policy| headers_of(policy, host, path)).collect()
    }

    pub fn lose_snapshots(&mut self) {
        for one in self.snapshots.values_mut() {
            one.status = "deleted";
        }
    }

    pub fn kill_all(&mut self) {
        for one in &mut self.sandboxes {
            one.session.end(0, "stopped", false);
        }
    }
}

/// An id as the service makes them, never made from a name.
pub fn new_id(prefix: &str, length: usize) -> String {
    const ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let random = (0..length).map(|_| ALPHABET[usize::from(rand::random::<u8>()) % ALPHABET.len()] as char);
    prefix.chars().chain(random).collect()
}
