//! Third step: a sandbox.

use std::time::Duration;

use super::follow_up::take_over;
use super::patience::{BEFORE_WORK, Stop};
use super::prepare::set_headers;
use super::{RunContext, connectors};
use crate::domain::failure::Failure;
use crate::domain::key::ChosenKey;
use crate::domain::log_entry::{Kind, Line};
use crate::domain::money::Usd;
use crate::domain::network::Network;
use crate::domain::project::PORTS;
use crate::domain::text::duration;
use crate::ports::sandbox::{Created, SandboxError, SandboxSpec};

/// A sandbox lives longer than its agent: fetching before and collecting after take time, too.
const MARGIN: Duration = Duration::from_secs(15 * 60);

pub(super) async fn provision(ctx: &mut RunContext) -> Result<(), Stop> {
    choose_keys(ctx).await?;
    connectors::choose(ctx).await?;
    if take_over(ctx).await? {
        return set_headers(ctx, &[]).await.map(|_| ());
    }
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
        facts.note(format!("The plan of the sandbox's provider ends it after {}.", duration(granted)));
    }
    Ok(())
}

/// Which model is used, and whose key pays: known before a sandbox is made for it.
async fn choose_keys(ctx: &mut RunContext) -> Result<(), Stop> {
    let agent = ctx.agent()?.clone();
    let wished = ctx.task.options.model.clone().or_else(|| ctx.app.settings.default_model(&agent, None));
    let keys = ctx.keys_for(&agent, wished.as_deref()).await?;
    if keys.iter().any(ChosenKey::counts_by_month) {
        let monthly = {
            let (ctx, task) = (&*ctx, &ctx.task);
            let month = ctx.app.clock.now().month();
            let ask = || ctx.app.store.spent_in_month(task.requester.id, task.thread.repository, month);
            ctx.patiently(BEFORE_WORK, |_| async move { Ok(ask().await?) }).await?
        };
        if let Some(reached) = ctx.app.settings.cost_limits.reached(None, Usd::default(), monthly) {
            return Err(Stop::Failed(Failure::OverLimit { agent: agent.name, reached, has_begun: false }));
        }
    }
    let access = keys.first().map(|key| key.access);
    let facts = &mut ctx.run.facts;
    facts.model = wished.or_else(|| ctx.app.settings.default_model(&agent, access));
    facts.key_owner = keys.first().map(|key| key.whose(&ctx.task.requester.login));
    facts.keys = keys;
    Ok(())
}

/// What the agent may reach: GitHub, the model gateway, what cannot stand behind it, and what the
/// operator says.
pub(super) fn network(ctx: &RunContext) -> Result<Network, Stop> {
    let settings = &ctx.app.settings;
    let github = ctx.app.github.clone_url(&ctx.task.thread.name);
    let agent = ctx.agent()?;
    let vendors = ctx.run.facts.keys.iter().flat_map(|key| key.provider.hosts()).map(|host| format!("https://{host}"));
    let reviewer = ctx.task.options.review_by.as_deref().and_then(|name| settings.agent(name));
    let of_reviewer = reviewer.into_iter().flat_map(|agent| {
        let hosts = agent.access.iter().flat_map(|access| access.provider.hosts());
        hosts.map(|host| format!("https://{host}")).chain(agent.install_hosts().map(ToOwned::to_owned))
    });
    let urls: Vec<String> = [github, settings.public_url.clone()]
        .into_iter()
        .chain(agent.install_hosts().map(ToOwned::to_owned))
        .chain(vendors)
        .chain(of_reviewer)
        .collect();
    let of_policy: Vec<String> = ctx.inputs()?.terms.hosts.iter().map(|host| format!("https://{host}")).collect();
    let wished = ctx.run.facts.connector_urls.iter().chain(&of_policy).map(String::as_str);
    Ok(settings.network.network(urls.iter().map(String::as_str), wished))
}

/// Waits for a free place, and says so.
async fn create(ctx: &mut RunContext, spec: &SandboxSpec) -> Result<Created, Stop> {
    ctx.still_held()?;
    match ctx.app.sandbox.create(spec).await {
        Ok(created) => return Ok(created),
        Err(SandboxError::Busy { message, .. }) => {
            tracing::info!(message = %ctx.redacted(&message), "waiting for a free sandbox");
            ctx.run.facts.waiting_for = Some("a free sandbox".to_owned());
            ctx.record(&[Line::new(Kind::Info, "Waiting for a free sandbox.")]).await?;
            ctx.app.show_progress((&ctx.task, &ctx.run), ctx.inputs.as_ref(), &ctx.gate).await;
        }
        Err(error) => tracing::debug!(error = %error, "a sandbox was not made at the first try"),
    }
    let ctx = &*ctx;
    ctx.patiently_in_sandbox(|| async move { Ok(ctx.app.sandbox.create(spec).await?) }).await
}
