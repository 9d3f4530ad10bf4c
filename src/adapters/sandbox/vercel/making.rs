//! Making a sandbox, once: a lost answer is looked up by name, a limit of the plan is learned from
//! its refusal.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::api::ApiError;
use super::archive::Entry;
use super::stream::Event;
use super::{POLL, TAG, Vercel, millis, wire};
use crate::domain::run::SandboxId;
use crate::ports::sandbox::{Result, SandboxError, SandboxSpec};

/// Where the machine's user may write.
const ROOT: &str = "/vercel/sandbox";
const RUNNER_TEXT: &str = include_str!("run.sh");
const FEWER_VCPUS: u32 = 2;
/// Longest lives of the plans, longest first: where the API names no limit, the next one is tried.
const PLAN_LIFETIMES: [Duration; 3] =
    [Duration::from_secs(24 * 3600), Duration::from_secs(5 * 3600), Duration::from_secs(45 * 60)];
const SHORTEST_LIFETIME: Duration = Duration::from_secs(60);
const START_PATIENCE: Duration = Duration::from_secs(120);
const SET_UP_MS: u64 = 30_000;

impl Vercel {
    /// Makes the machine, or finds the one of this name; learns what the plan does not grant.
    pub(super) async fn make(&self, spec: &SandboxSpec) -> Result<(wire::Session, Option<Duration>)> {
        loop {
            let lifetime = spec.lifetime.min(Duration::from_millis(self.longest_ms.load(Ordering::Relaxed)));
            let shortened = (lifetime < spec.lifetime).then_some(lifetime);
            let made_at = self.clock.now();
            let body = self.create_body(spec, lifetime);
            let refusal = match self.post_sandbox(&body).await {
                Ok(made) => {
                    let mut session = made.session;
                    // Counted by our own clock, from before the asking.
                    session.started_at = Some(made_at.0);
                    self.known.lock().await.insert(spec.name.clone(), HashMap::new());
                    return Ok((session, shortened));
                }
                Err(error @ (ApiError::Unclear(_) | ApiError::Answer { status: 400 | 409, .. })) => error,
                Err(error @ ApiError::Answer { status: 402 | 403, .. }) => {
                    self.learn(&error, lifetime)?;
                    continue;
                }
                Err(ApiError::Answer { status: 404, message, .. }) => {
                    return Err(SandboxError::Denied(format!(
                        "Vercel does not know the team or the project: {message}"
                    )));
                }
                Err(ApiError::Answer { status: 422, message, .. }) => return Err(SandboxError::Unavailable(message)),
                Err(error) => return Err(error.into()),
            };
            // The answer got lost, or the name is taken: by ourselves.
            match self.by_name(&spec.name).await? {
                Some(session) => return Ok((session, shortened)),
                None if matches!(refusal, ApiError::Unclear(_)) => return Err(refusal.into()),
                None => self.learn(&refusal, lifetime)?,
            }
        }
    }

    fn create_body<'a>(&'a self, spec: &'a SandboxSpec, lifetime: Duration) -> wire::Create<'a> {
        wire::Create {
            project_id: self.api.project(),
            name: &spec.name,
            persistent: false,
            ports: &spec.ports,
            source: spec.snapshot.as_deref().map(|snapshot_id| wire::Source { snapshot_id }),
            timeout: millis(lifetime),
            resources: wire::Resources { vcpus: self.vcpus.load(Ordering::Relaxed) },
            tags: BTreeMap::from([TAG, ("task", spec.task.as_str())]),
            network_policy: wire::policy(&spec.network, &[]),
        }
    }

    /// Takes a limit out of a refusal, so that the next try keeps to it. An error that tells of none
    /// is handed back.
    fn learn(&self, refusal: &ApiError, asked: Duration) -> Result<()> {
        let ApiError::Answer { status, code, message } = refusal else { return Ok(()) };
        let copy = || ApiError::Answer { status: *status, code: code.clone(), message: message.clone() };
        let lower = message.to_ascii_lowercase();
        if code == "sandbox_timeout_invalid" || lower.contains("timeout") {
            let Some(shorter) = shorter_lifetime(&lower, asked) else { return Err(copy().into()) };
            tracing::info!(seconds = shorter.as_secs(), "the plan of Vercel grants sandboxes a shorter life");
            self.longest_ms.store(millis(shorter), Ordering::Relaxed);
            return Ok(());
        }
        if lower.contains("vcpu") && self.vcpus.load(Ordering::Relaxed) > FEWER_VCPUS {
            tracing::info!(vcpus = FEWER_VCPUS, "the plan of Vercel grants sandboxes fewer vCPUs");
            self.vcpus.store(FEWER_VCPUS, Ordering::Relaxed);
            return Ok(());
        }
        Err(copy().into())
    }

    pub(super) async fn wait_until_it_runs(&self, id: &SandboxId, mut session: wire::Session) -> Result<wire::Session> {
        let deadline = tokio::time::Instant::now() + START_PATIENCE;
        while session.status == "pending" {
            if tokio::time::Instant::now() > deadline {
                return Err(SandboxError::Unavailable("the sandbox does not start".to_owned()));
            }
            tokio::time::sleep(POLL).await;
            let started_at = session.started_at;
            session = self.session(id).await?.session;
            session.started_at = session.started_at.or(started_at);
        }
        if session.is_over() { Err(SandboxError::Gone) } else { Ok(session) }
    }

    /// Folders and the script that starts commands. Harmless to do twice.
    pub(super) async fn set_up(&self, id: &SandboxId) -> Result<()> {
        let path = format!("{}/.hireling/run", ROOT.trim_start_matches('/'));
        self.upload(id, &[Entry { path, mode: 0o755, bytes: RUNNER_TEXT.as_bytes() }]).await?;
        let args = ["-p", "project", "home", "scratch"].map(ToOwned::to_owned);
        let run = wire::Run {
            command: "mkdir",
            args: &args,
            cwd: ROOT,
            env: BTreeMap::new(),
            timeout: SET_UP_MS,
            wait: true,
            logs: true,
        };
        let mut events = self.post_command_and_wait(id, &run).await?;
        let mut said = String::new();
        while let Ok(Some(event)) = events.next_within(self.waits.idle).await? {
            match event {
                Event::Command(wire::Command { exit_code: Some(0), .. }) => return Ok(()),
                Event::Command(wire::Command { exit_code: Some(_), .. }) => return Err(SandboxError::Faulty(said)),
                Event::Command(_) => {}
                Event::Output(_, text) => said.push_str(&text),
                Event::Closed(why) => return Err(SandboxError::Unavailable(why)),
            }
        }
        Err(SandboxError::Unavailable("a stream of Vercel ended early".to_owned()))
    }
}

/// A life the plan may grant: the limit that the message names, else that of the next smaller plan.
fn shorter_lifetime(message: &str, asked: Duration) -> Option<Duration> {
    let named = message
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .map(Duration::from_millis)
        .filter(|limit| (SHORTEST_LIFETIME..asked).contains(limit))
        .max();
    named.or_else(|| PLAN_LIFETIMES.into_iter().find(|limit| *limit < asked))
}
