//! Third step: a sandbox.

use std::time::Duration;

use super::RunContext;
use super::patience::Stop;
use crate::domain::failure::Failure;
use crate::domain::log_entry::{Kind, Line};
use crate::domain::network::Network;
use crate::domain::project::PORTS;
use crate::domain::text::duration;
use crate::ports::sandbox::{Created, SandboxError, SandboxSpec};

/// A sandbox lives longer than its agent: fetching before and collecting after take time, too.
const MARGIN: Duration = Duration::from_secs(15 * 60);

pub(super) async fn provision(ctx: &mut RunContext) -> Result<(), Stop> {
    ctx.run.facts.sandbox_asked_for = true;
    ctx.record(&[]).await?;
    let mut spec = SandboxSpec {
        name: ctx.run.id.0.clone(),
        task: ctx.task.id.clone(),
        lifetime: (ctx.time_limit() + MARGIN).min(ctx.app.settings.max_duration),
        network: network(ctx)?,
        ports: if ctx.task.options.keep_alive { PORTS.to_vec() } else { Vec::new() },
        snapshot: ctx.app.usable_snapshot().await,
    };
    let created = match create(ctx, &spec).await {
        Err(Stop::Failed(Failure::SnapshotGone)) => {
            ctx.app.lose_snapshot(spec.snapshot.take()).await;
            create(ctx, &spec).await?
        }
        created => created?,
    };
    let made_at = ctx.app.clock.now();
    let facts = &mut ctx.run.facts;
    facts.waiting_for = None;
    facts.is_warm = spec.snapshot.is_some();
    facts.sandbox_since = Some(made_at);
    facts.sandbox = Some(created.id);
    facts.sandbox_ends_at = created.ends_at;
    if let Some(granted) = created.shortened_to {
        facts.notes.push(format!("The plan of the sandbox's provider ends it after {}.", duration(granted)));
    }
    Ok(())
}

/// What the agent may reach: GitHub, its model, and what the operator says.
pub(super) fn network(ctx: &RunContext) -> Result<Network, Stop> {
    let settings = &ctx.app.settings;
    let model = ctx.agent()?.key.and_then(|(provider, _)| settings.base_urls.get(&provider));
    let github = ctx.app.github.clone_url(&ctx.task.thread.name);
    let urls = [github.as_str(), settings.public_url.as_str()].into_iter().chain(model.map(String::as_str));
    Ok(settings.network.network(urls))
}

/// Waits for a free place, and says so.
async fn create(ctx: &mut RunContext, spec: &SandboxSpec) -> Result<Created, Stop> {
    match ctx.app.sandbox.create(spec).await {
        Ok(created) => return Ok(created),
        Err(SandboxError::Busy { message, .. }) => {
            tracing::info!(message = %ctx.redacted(&message), "waiting for a free sandbox");
            ctx.run.facts.waiting_for = Some("a free sandbox".to_owned());
            ctx.record(&[Line::new(Kind::Info, "Waiting for a free sandbox.")]).await?;
            ctx.app.show_progress(&ctx.task, &ctx.run, ctx.inputs.as_ref()).await;
        }
        Err(error) => tracing::debug!(error = %error, "a sandbox was not made at the first try"),
    }
    let ctx = &*ctx;
    ctx.patiently_in_sandbox(|| async move { Ok(ctx.app.sandbox.create(spec).await?) }).await
}
