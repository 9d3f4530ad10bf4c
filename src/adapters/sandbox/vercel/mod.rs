//! Sandboxes at Vercel: microVMs by its REST API. One sandbox is one session is one run; nothing in
//! it is kept, and it ends by itself.
//!
//! ```text
//! /vercel/sandbox/project home scratch      what every sandbox has
//! /vercel/sandbox/.hireling/run             starts a command (run.sh)
//! ```

mod api;
mod archive;
mod calls;
mod commands;
mod follow;
mod making;
mod stream;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::Mutex;

use crate::domain::ids::Millis;
use crate::domain::network::{Injection, Network};
use crate::domain::run::SandboxId;
use crate::ports::clock::Clock;
use crate::ports::sandbox::{
    CommandId, CommandSpec, CommandStatus, Created, Fate, Finished, Output, Result, Sandbox, SandboxError, SandboxSpec,
    checked_name, follow as follow_to_the_end,
};
use api::{Api, ApiError};
use archive::Entry;
use commands::exit_of;

pub use api::Account;

/// By this tag our sandboxes are listed.
const TAG: (&str, &str) = ("hireling", "1");
/// 2 GB of memory come with each.
const VCPUS: u32 = 4;
const SCRATCH: &str = "/vercel/sandbox/scratch";
const POLL: Duration = Duration::from_millis(500);
/// Between asking a command to end and ending it.
const GRACE: Duration = Duration::from_secs(5);

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// Of an ordinary call, and the first byte of a stream.
    pub call: Duration,
    /// With nothing to read on a stream for so long, it is asked whether there is more to come.
    pub idle: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self { call: Duration::from_secs(30), idle: Duration::from_secs(60) }
    }
}

#[derive(Debug)]
pub struct Vercel {
    api: Api,
    waits: Waits,
    clock: Arc<dyn Clock>,
    /// What the plan grants, learned from the API's refusals.
    longest_ms: AtomicU64,
    vcpus: AtomicU32,
    injection_refused: AtomicBool,
    /// Commands by sandbox and name, of the sandboxes that this process has to do with. One that is
    /// not in here may have been used elsewhere: its commands are asked for.
    known: Mutex<HashMap<String, HashMap<String, CommandId>>>,
}

impl Vercel {
    /// The error is one sentence for the operator.
    pub fn new(account: Account, clock: Arc<dyn Clock>) -> std::result::Result<Self, String> {
        Self::with_waits(account, Waits::default(), clock)
    }

    pub fn with_waits(account: Account, waits: Waits, clock: Arc<dyn Clock>) -> std::result::Result<Self, String> {
        Ok(Self {
            api: Api::new(account, waits.call, Arc::clone(&clock))?,
            waits,
            clock,
            longest_ms: AtomicU64::new(u64::MAX),
            vcpus: AtomicU32::new(VCPUS),
            injection_refused: AtomicBool::new(false),
            known: Mutex::default(),
        })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Sandbox for Vercel {
    fn provider(&self) -> &'static str {
        "vercel"
    }

    fn check(&self) -> BoxFuture<'_, Result<String>> {
        Box::pin(async {
            self.tagged(1, true).await.map_err(|error| match error {
                error if error.is_missing() => {
                    SandboxError::Denied(format!("Vercel does not know the project: {error}"))
                }
                error => error.into(),
            })?;
            Ok(format!("vercel, project {}", self.api.project()))
        })
    }

    fn create<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Result<Created>> {
        Box::pin(async move {
            checked_name(&spec.name)?;
            let (session, shortened_to) = self.make(spec).await?;
            let id = SandboxId { name: spec.name.clone(), session: session.id.clone() };
            let session = self.wait_until_it_runs(&id, session).await?;
            self.set_up(&id).await?;
            Ok(Created { id, ends_at: session.deadline().map(Millis), shortened_to })
        })
    }

    fn forget<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.known.lock().await.remove(&id.name);
        })
    }

    fn find<'a>(&'a self, id: &'a SandboxId, name: &'a str) -> BoxFuture<'a, Result<Option<CommandId>>> {
        Box::pin(async move { Ok(self.find_command(id, name).await?) })
    }

    fn start<'a>(&'a self, id: &'a SandboxId, spec: &'a CommandSpec) -> BoxFuture<'a, Result<CommandId>> {
        Box::pin(async move {
            match self.find_command(id, &spec.name).await? {
                Some(found) => Ok(found),
                None => self.start_command(id, spec).await,
            }
        })
    }

    fn run<'a>(&'a self, id: &'a SandboxId, spec: &'a CommandSpec) -> BoxFuture<'a, Result<Finished>> {
        Box::pin(async move {
            if self.find_command(id, &spec.name).await?.is_none()
                && let Some(finished) = self.run_waiting(id, spec).await?
            {
                return Ok(finished);
            }
            match self.find_command(id, &spec.name).await? {
                Some(command) => follow_to_the_end(self, id, &command).await,
                None => Err(SandboxError::Unavailable("a command was not started".to_owned())),
            }
        })
    }

    fn status<'a>(&'a self, id: &'a SandboxId, command: &'a CommandId) -> BoxFuture<'a, Result<CommandStatus>> {
        Box::pin(async move {
            let command = self.command(id, command).await?;
            Ok(exit_of(&command, self.clock.now()).map_or(CommandStatus::Running, CommandStatus::Ended))
        })
    }

    fn output<'a>(&'a self, id: &'a SandboxId, command: &'a CommandId) -> BoxStream<'a, Result<Output>> {
        let state = follow::Follow::new(self, id, command);
        futures::stream::try_unfold(state, follow::Follow::next).boxed()
    }

    fn kill<'a>(&'a self, id: &'a SandboxId, command: &'a CommandId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.post_kill(id, command, 15).await?;
            let deadline = tokio::time::Instant::now() + GRACE;
            while tokio::time::Instant::now() < deadline {
                if self.command(id, command).await?.exit_code.is_some() {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
            Ok(self.post_kill(id, command, 9).await?)
        })
    }

    fn write_file<'a>(&'a self, id: &'a SandboxId, name: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let path = format!("{}/{}", SCRATCH.trim_start_matches('/'), checked_name(name)?);
            self.upload(id, &[Entry { path, mode: 0o644, bytes }]).await
        })
    }

    fn read_file<'a>(&'a self, id: &'a SandboxId, name: &'a str, limit: u64) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move { self.download(id, SCRATCH, checked_name(name)?, limit).await })
    }

    fn extend<'a>(&'a self, id: &'a SandboxId, by: Duration) -> BoxFuture<'a, Result<Option<Millis>>> {
        Box::pin(async move { Ok(self.post_extension(id, by).await?.deadline().map(Millis)) })
    }

    fn can_inject(&self) -> bool {
        !self.injection_refused.load(Ordering::Relaxed)
    }

    fn set_network<'a>(
        &'a self,
        id: &'a SandboxId,
        network: &'a Network,
        headers: &'a [Injection],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let refused = match self.post_policy(id, network, headers).await {
                Err(error @ ApiError::Answer { status: 400 | 402 | 403, .. }) if !headers.is_empty() => error,
                answer => return Ok(answer?),
            };
            // A 400 may be about these headers, and says nothing of others.
            if !matches!(refused, ApiError::Answer { status: 400, .. }) {
                self.injection_refused.store(true, Ordering::Relaxed);
            }
            tracing::info!("the plan of Vercel does not put headers on requests");
            // Not the API's words: they could repeat the header.
            drop(refused);
            Err(SandboxError::Refused("headers are not put on requests".to_owned()))
        })
    }

    fn address<'a>(&'a self, id: &'a SandboxId, port: u16) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(async move {
            let routes = self.session(id).await?.routes;
            let route = routes.into_iter().find(|route| route.port == port);
            Ok(route.map(|route| match route.url.starts_with("https://") {
                true => route.url,
                false => format!("https://{}.vercel.run", route.subdomain),
            }))
        })
    }

    fn fate<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<Fate>> {
        Box::pin(async move {
            let session = match self.session(id).await {
                Ok(found) => found.session,
                Err(error) if error.is_missing() => return Ok(Fate::Lost),
                Err(error) => return Err(error.into()),
            };
            let ended_at = session.stopped_at.unwrap_or(self.clock.now().0);
            Ok(if !session.is_over() {
                Fate::Running
            } else if matches!(session.status.as_str(), "failed" | "aborted") {
                Fate::Lost
            } else if session.deadline().is_some_and(|deadline| ended_at.saturating_add(2_000) >= deadline) {
                Fate::TimedOut
            } else if session.requested_stop_at.is_some() {
                Fate::Stopped
            } else {
                Fate::Lost
            })
        })
    }

    fn stop<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.known.lock().await.remove(&id.name);
            if !id.session.is_empty() {
                // What stays is stopped by being deleted.
                if let Err(error) = self.post_stop(id).await {
                    tracing::info!(error = %error, "a session was not stopped; its sandbox is deleted");
                }
            }
            Ok(self.delete_sandbox(&id.name).await?)
        })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn has_fixed_paths(&self) -> bool {
        true
    }

    fn can_snapshot(&self) -> bool {
        true
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<SandboxId>>> {
        Box::pin(async { Ok(self.tagged(50, false).await?) })
    }

    fn snapshot<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move { Ok(self.post_snapshot(id).await?.id) })
    }

    fn forget_snapshot<'a>(&'a self, snapshot: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { Ok(self.delete_snapshot(snapshot).await?) })
    }
}
