//! The calls of the sandbox API, one method each. Paths and versions are here and nowhere else:
//! version 3 makes a sandbox, version 2 does everything else.

use std::time::Duration;

use futures::StreamExt as _;
use http::Method;
use serde::de::IgnoredAny;
use serde_json::json;

use super::api::{Answer, ApiError, Body, Call, MACHINE_TIMEOUT, Repeat, Timeout, lost};
use super::archive::{self, Entry};
use super::stream::Events;
use super::wire;
use super::{TAG, Vercel};
use crate::domain::network::{Injection, Network};
use crate::domain::run::SandboxId;
use crate::ports::sandbox::{CommandId, Result, SandboxError};

/// Pages of a list that are read at most, against a cursor that goes in circles.
const MAX_PAGES: usize = 200;

fn session<'a>(id: &'a SandboxId, rest: &[&'a str]) -> Vec<&'a str> {
    [&["v2", "sandboxes", "sessions", id.session.as_str()], rest].concat()
}

impl Vercel {
    pub(super) async fn post_sandbox(&self, body: &wire::Create<'_>) -> Answer<wire::Made> {
        let call = Call::post(&["v3", "sandboxes"]).json(body).repeat(Repeat::NeverNorWait);
        self.api.ask(&call.timeout(Timeout::Whole(MACHINE_TIMEOUT))).await
    }

    /// The session of a sandbox of this name, if there is one. Never wakes a stopped one.
    pub(super) async fn by_name(&self, name: &str) -> Answer<Option<wire::Session>> {
        let call =
            Call::get(&["v2", "sandboxes", name]).query("projectId", self.api.project()).query("resume", "false");
        match self.api.ask::<wire::Made>(&call).await {
            Ok(found) => Ok(Some(found.session)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn session(&self, id: &SandboxId) -> Answer<wire::SessionAnswer> {
        self.api.ask(&Call::get(&session(id, &[]))).await
    }

    pub(super) async fn command(&self, id: &SandboxId, command: &CommandId) -> Answer<wire::Command> {
        let found: wire::CommandAnswer = self.api.ask(&Call::get(&session(id, &["cmd", &command.0]))).await?;
        Ok(found.command)
    }

    pub(super) async fn commands(&self, id: &SandboxId) -> Answer<Vec<wire::Command>> {
        let found: wire::Commands = self.api.ask(&Call::get(&session(id, &["cmd"]))).await?;
        Ok(found.commands)
    }

    pub(super) async fn log_stream(&self, id: &SandboxId, command: &CommandId) -> Answer<Events> {
        let call = Call::get(&session(id, &["cmd", &command.0, "logs"])).timeout(Timeout::FirstByte);
        Events::of(self.api.send(&call).await?)
    }

    /// Starts a program and gives it back at once.
    pub(super) async fn post_command(&self, id: &SandboxId, run: &wire::Run<'_>) -> Answer<wire::Command> {
        let started: wire::CommandAnswer = self.api.ask(&Call::post(&session(id, &["cmd"])).json(run)).await?;
        Ok(started.command)
    }

    /// Starts a program and gives the stream of its life.
    pub(super) async fn post_command_and_wait(&self, id: &SandboxId, run: &wire::Run<'_>) -> Answer<Events> {
        Events::of(self.api.send(&Call::post(&session(id, &["cmd"])).json(run).timeout(Timeout::FirstByte)).await?)
    }

    pub(super) async fn post_kill(&self, id: &SandboxId, command: &CommandId, signal: i32) -> Answer<()> {
        let call = Call::post(&session(id, &["cmd", &command.0, "kill"])).json(&json!({ "signal": signal }));
        match self.api.ask::<IgnoredAny>(&call.repeat(Repeat::Fine)).await {
            // It has ended already.
            Ok(_) | Err(ApiError::Answer { status: 400 | 404 | 409, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn upload(&self, id: &SandboxId, entries: &[Entry<'_>]) -> Result<()> {
        let packed = archive::pack(entries)
            .map_err(|error| SandboxError::Refused(format!("a file cannot be packed: {error}")))?;
        let mut call =
            Call::post(&session(id, &["fs", "write"])).repeat(Repeat::Fine).timeout(Timeout::Whole(MACHINE_TIMEOUT));
        call.body = Body::Gzip(packed);
        self.api.send(&call).await?;
        Ok(())
    }

    /// The bytes of a file; `cwd` is absolute.
    pub(super) async fn download(&self, id: &SandboxId, cwd: &str, path: &str, limit: u64) -> Result<Vec<u8>> {
        let call = Call::post(&session(id, &["fs", "read"])).json(&json!({ "path": path, "cwd": cwd }));
        let answer = match self.api.send(&call.repeat(Repeat::Fine).timeout(Timeout::Whole(MACHINE_TIMEOUT))).await {
            Err(ApiError::Answer { status: 404, .. }) => {
                return Err(SandboxError::Refused(format!("{path} is not a file")));
            }
            answer => answer?,
        };
        let kind = answer.headers().get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("application/octet-stream")) {
            return Err(SandboxError::Unavailable(format!("Vercel sent {} for a file", kind.unwrap_or("nothing"))));
        }
        let mut bytes = Vec::new();
        let mut body = answer.bytes_stream();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.map_err(lost)?);
            if bytes.len() as u64 > limit {
                return Err(SandboxError::TooLarge { limit });
            }
        }
        Ok(bytes)
    }

    /// Fine for a session that is over. Waits until the machine is down.
    pub(super) async fn post_stop(&self, id: &SandboxId) -> Answer<()> {
        let call = Call::post(&session(id, &["stop"])).repeat(Repeat::Fine).timeout(Timeout::Whole(MACHINE_TIMEOUT));
        match self.api.send(&call).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_over() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Fine for one that is gone. A snapshot made of it stays.
    pub(super) async fn delete_sandbox(&self, name: &str) -> Answer<()> {
        let call = Call::new(Method::DELETE, &["v2", "sandboxes", name]).query("projectId", self.api.project());
        match self.api.send(&call.timeout(Timeout::Whole(MACHINE_TIMEOUT))).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Adds to the session's time: what is not known to have failed must not be sent again.
    pub(super) async fn post_extension(&self, id: &SandboxId, by: Duration) -> Answer<wire::Session> {
        let duration = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let call = Call::post(&session(id, &["extend-timeout"])).json(&json!({ "duration": duration }));
        match self.api.ask::<wire::SessionAnswer>(&call).await {
            Err(ApiError::Unclear(_)) => Ok(self.session(id).await?.session),
            answer => Ok(answer?.session),
        }
    }

    pub(super) async fn post_policy(&self, id: &SandboxId, network: &Network, headers: &[Injection]) -> Answer<()> {
        let call = Call::post(&session(id, &["network-policy"])).json(&wire::policy(network, headers));
        self.api.send(&call.repeat(Repeat::Fine)).await.map(|_| ())
    }

    pub(super) async fn post_snapshot(&self, id: &SandboxId) -> Answer<wire::Snapshot> {
        let call = Call::post(&session(id, &["snapshot"])).timeout(Timeout::Whole(MACHINE_TIMEOUT * 2));
        match self.api.ask::<wire::SnapshotAnswer>(&call).await {
            Ok(made) => Ok(made.snapshot),
            Err(error @ ApiError::Unclear(_)) => {
                let call = Call::get(&["v2", "sandboxes", "snapshots"])
                    .query("project", self.api.project())
                    .query("name", id.name.as_str());
                let found: wire::Snapshots = self.api.ask(&call).await?;
                let mut made = found.snapshots.into_iter();
                made.find(|one| one.source_session_id == id.session && one.status == "created").ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn delete_snapshot(&self, snapshot: &str) -> Answer<()> {
        match self.api.send(&Call::new(Method::DELETE, &["v2", "sandboxes", "snapshots", snapshot])).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sandboxes with our tag, `limit` to a page; all pages, or only the first.
    pub(super) async fn tagged(&self, limit: u32, only_first: bool) -> Answer<Vec<SandboxId>> {
        let mut found = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut call = Call::get(&["v2", "sandboxes"])
                .query("project", self.api.project())
                .query("limit", limit.to_string())
                .query("tags", format!("{}:{}", TAG.0, TAG.1));
            if let Some(cursor) = &cursor {
                call = call.query("cursor", cursor.as_str());
            }
            let page: wire::Sandboxes = self.api.ask(&call).await?;
            found.extend(
                page.sandboxes.into_iter().map(|one| SandboxId { name: one.name, session: one.current_session_id }),
            );
            match page.pagination.next {
                Some(next) if !only_first && cursor.as_ref() != Some(&next) => cursor = Some(next),
                _ => break,
            }
        }
        Ok(found)
    }
}
