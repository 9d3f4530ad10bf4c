//! How the agent is started: its time, its environment, and the grants it calls its model with.

use std::time::Duration;

use super::commands::named_for;
use super::patience::Stop;
use super::{RunContext, connectors, review_pull};
use crate::adapters::store::NewGrant;
use crate::adapters::vault;
use crate::app::keys::KeyError;
use crate::domain::agent::{Agent, Granted, LaunchFor, Session};
use crate::domain::attachment::told;
use crate::domain::connector::config::environment;
use crate::domain::failure::{Failure, sandbox_timed_out};
use crate::domain::gateway::GRANT_PREFIX;
use crate::domain::key::{ChosenKey, KeyOwner};
use crate::domain::listing::Deed;
use crate::domain::money::Usd;
use crate::domain::run::SandboxId;
use crate::domain::secret::Secret;
use crate::domain::text::duration;
use crate::ports::sandbox::{CommandId, CommandSpec, LONGEST_COMMAND, SCRATCH};

/// The agent is stopped this long before its sandbox ends, so that its work can be saved.
const RESERVE: Duration = Duration::from_secs(120);
/// Less than this is not worth a call, nor a word.
const WORTH_ASKING: Duration = Duration::from_secs(60);
/// Name of the command, of which there is one per sandbox: starting it twice finds the first.
const COMMAND: &str = "agent";
const PROMPT_FILE: &str = "prompt.txt";

/// Starts the agent, once. What is learned here is stored before anything is waited for.
pub(super) async fn start(ctx: &mut RunContext, sandbox: &SandboxId) -> Result<CommandId, Stop> {
    let limit = time_limit(ctx, sandbox).await?;
    let spec = command(ctx, limit).await?;
    let is_resumed = ctx.run.facts.is_resumed;
    let prompt = match ctx.task.options.is_review {
        true => review_pull::prompt(ctx).await?,
        false => ctx.inputs()?.prompt(&ctx.task.requester.login, &ctx.task.request, is_resumed),
    };
    let prompt = prompt + &told(&ctx.run.facts.attached, SCRATCH);
    let started = start_once(ctx, sandbox, &spec, PROMPT_FILE, &prompt).await?;
    ctx.run.facts.command = Some(started.0.clone());
    ctx.record(&[]).await?;
    Ok(started)
}

/// Starts a command that reads its prompt from a file, or finds that it was started before.
pub(super) async fn start_once(
    ctx: &RunContext,
    sandbox: &SandboxId,
    spec: &CommandSpec,
    prompt_file: &str,
    prompt: &str,
) -> Result<CommandId, Stop> {
    ctx.patiently_in_sandbox(|| async move {
        // The prompt of a command that was started before is read already: leave it alone.
        if let Some(found) = ctx.app.sandbox.find(sandbox, &spec.name).await? {
            return Ok(found);
        }
        ctx.still_held()?;
        ctx.app.sandbox.write_file(sandbox, prompt_file, prompt.as_bytes()).await?;
        // A stop waits for what begins here: whoever goes on has to find it.
        let _inside = ctx.gate.enter().await?;
        Ok(ctx.app.sandbox.start(sandbox, spec).await?)
    })
    .await
}

/// What the agent gets of the sandbox's time: all that was asked for, or what leaves enough to save
/// the work. A sandbox that took long to get ready is extended as far as the operator allows.
async fn time_limit(ctx: &mut RunContext, sandbox: &SandboxId) -> Result<Duration, Stop> {
    let asked = ctx.time_limit().min(LONGEST_COMMAND);
    let lifetime = |ctx: &RunContext| {
        ctx.run.facts.sandbox_ends_at.zip(ctx.run.facts.sandbox_since).map(|(end, start)| end.since(start))
    };
    let left = |ctx: &RunContext| {
        let ends_at = ctx.run.facts.sandbox_ends_at?;
        let reserve = RESERVE.min(lifetime(ctx)? / 4);
        Some(ends_at.since(ctx.app.clock.now()).saturating_sub(reserve))
    };
    if let (Some(left), Some(lifetime)) = (left(ctx), lifetime(ctx)) {
        let wanted = asked.saturating_sub(left).min(ctx.app.settings.max_duration.saturating_sub(lifetime));
        if wanted >= WORTH_ASKING {
            ctx.still_held()?;
            match ctx.app.sandbox.extend(sandbox, wanted).await {
                Ok(ends_at) => {
                    ctx.run.facts.sandbox_ends_at = ends_at;
                    ctx.record(&[]).await?;
                }
                Err(error) => {
                    let error = ctx.redacted(&error.to_string());
                    tracing::info!(error = %error, "the sandbox's life was not extended");
                }
            }
        }
    }
    let limit = left(ctx).map_or(asked, |left| left.min(asked));
    if limit.is_zero() {
        let lifetime = lifetime(ctx).unwrap_or_default();
        return Err(Stop::Ended(Box::new(sandbox_timed_out(lifetime))));
    }
    let wished = ctx.time_limit();
    if ctx.task.options.timeout_s.is_some() && wished > limit + WORTH_ASKING {
        let note = format!("The agent may work for {}, not {}.", duration(limit), duration(wished));
        ctx.run.facts.note(note);
    }
    ctx.run.facts.agent_limit_ms = Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
    Ok(limit)
}

/// What opens a model for the agent, and where its calls go.
pub(super) struct Opener {
    chosen: ChosenKey,
    base_url: String,
    key: Secret,
}

async fn command(ctx: &mut RunContext, timeout: Duration) -> Result<CommandSpec, Stop> {
    let agent = ctx.agent()?.clone();
    let openers = openers(ctx, &agent.name, ctx.run.facts.keys.clone()).await?;
    let access: Vec<Granted<'_>> = openers.iter().filter_map(|opener| granted(&agent, opener)).collect();
    let servers = connectors::servers(ctx).await?;
    let args = connectors::written(ctx).await?.map(|written| written.args).unwrap_or_default();
    let model = ctx.run.facts.model.as_deref();
    let new_session = uuid_of(&ctx.run.id.0);
    let session = match &ctx.run.facts.session {
        Some(session) if ctx.run.facts.is_resumed => Session::Resumed(session),
        _ => Session::New(&new_session),
    };
    let launch = agent.launch(LaunchFor { model, session, access: &access, args: &args });
    let mut env = launch.env;
    env.extend(environment(&servers));
    env.extend(git_identity(&agent));
    let spec = CommandSpec {
        name: COMMAND.to_owned(),
        argv: launch.argv,
        env,
        stdin: Some(PROMPT_FILE.to_owned()),
        stdout: None,
        timeout,
    };
    if !ctx.run.facts.is_resumed && agent.sessions.is_some_and(|sessions| !sessions.begin.is_empty()) {
        ctx.run.facts.session = Some(new_session);
    }
    Ok(named_for(ctx, spec))
}

/// 32 hex digits with the dashes of a UUID.
fn uuid_of(id: &str) -> String {
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| id.get(range).unwrap_or(""));
    parts.join("-")
}

/// Commits the agent makes are taken apart again; without a name Git refuses to make them.
pub(super) fn git_identity(agent: &Agent) -> Vec<(String, Secret)> {
    [
        ("GIT_AUTHOR_NAME", agent.name.as_str()),
        ("GIT_COMMITTER_NAME", agent.name.as_str()),
        ("GIT_AUTHOR_EMAIL", "agent@localhost"),
        ("GIT_COMMITTER_EMAIL", "agent@localhost"),
    ]
    .map(|(name, value)| (name.to_owned(), Secret::new(value)))
    .to_vec()
}

/// What opens the models of these keys, which the redactor knows from here on.
pub(super) async fn openers(ctx: &mut RunContext, agent: &str, keys: Vec<ChosenKey>) -> Result<Vec<Opener>, Stop> {
    let mut openers = Vec::new();
    for chosen in keys {
        // One that cannot be opened is said now, not by the vendor.
        let real = key_of(ctx, agent, &chosen).await?;
        ctx.guard(&real);
        note_use(ctx, &chosen).await?;
        let opener = match chosen.provider.has_gateway() {
            true => grant(ctx, chosen).await?,
            // An agent that takes no other address has the key itself.
            false => Opener { chosen, base_url: String::new(), key: real },
        };
        ctx.guard(&opener.key);
        openers.push(opener);
    }
    Ok(openers)
}

/// The owner of a stored key can see when it was used, and what for.
async fn note_use(ctx: &RunContext, chosen: &ChosenKey) -> Result<(), Stop> {
    let Some((key, owner)) = &chosen.stored else { return Ok(()) };
    let about = format!("{} in task {}", chosen.provider.title(), ctx.task.id);
    let by = match owner {
        KeyOwner::Person(user) => Some(*user),
        KeyOwner::Installation(_) => None,
    };
    let deed = &Deed { by, account: owner.account(), action: "used a key", about: &about };
    ctx.patiently_in_store(|_| async move {
        let now = ctx.app.clock.now();
        ctx.app.store.note_key_use(key, now).await?;
        Ok(ctx.app.store.audit(deed, now).await?)
    })
    .await
}

pub(super) fn granted<'a>(agent: &'a Agent, opener: &'a Opener) -> Option<Granted<'a>> {
    let access = agent.access.get(opener.chosen.access)?;
    Some(Granted { access, base_url: &opener.base_url, key: &opener.key })
}

/// A right to call one vendor through the gateway, for as long as the agent works.
async fn grant(ctx: &RunContext, chosen: ChosenKey) -> Result<Opener, Stop> {
    let provider = chosen.provider;
    let token = Secret::new(format!("{GRANT_PREFIX}{}", hex::encode(ctx.app.clock.new_secret())));
    let hash = vault::hash(token.expose());
    let asked = ctx.task.options.max_cents.map(Usd::from_cents);
    let max = [asked, ctx.app.settings.cost_limits.per_task].into_iter().flatten().min();
    let key = chosen.stored.as_ref().map(|(id, _)| id);
    let grant = NewGrant { hash: &hash, run: &ctx.run.id, provider, key, max };
    let grant = &grant;
    ctx.patiently_in_store(|_| async move {
        let now = ctx.app.clock.now();
        Ok(ctx.app.store.store_grant(&ctx.lease, grant, now).await?)
    })
    .await?;
    let base_url = format!("{}/gateway/{}", ctx.app.settings.public_url, provider.name());
    Ok(Opener { chosen, base_url, key: token })
}

async fn key_of(ctx: &RunContext, agent: &str, chosen: &ChosenKey) -> Result<Secret, Stop> {
    let gone = || Stop::Failed(Failure::KeyUnusable { agent: agent.to_owned(), page: ctx.app.keys_url() });
    ctx.patiently_in_store(|_| async move {
        match ctx.app.key_value(chosen, ctx.payer()).await {
            Ok(Some(key)) => Ok(key),
            Err(KeyError::Store(error)) => Err(error.into()),
            Ok(None) => Err(gone().into()),
            Err(error) => {
                tracing::error!(error = %error, "a stored key cannot be opened");
                Err(gone().into())
            }
        }
    })
    .await
}

/// Has the redactor know the keys that were chosen, whichever worker goes on. One that is gone cannot be
/// printed by anybody any more.
pub(super) async fn guard_keys(ctx: &mut RunContext) {
    let of_the_second = ctx.run.facts.second.iter().flat_map(|second| &second.keys);
    let keys: Vec<ChosenKey> = ctx.run.facts.keys.iter().chain(of_the_second).cloned().collect();
    for chosen in keys.iter().filter(|key| key.stored.is_some()) {
        if let Ok(key) = key_of(ctx, &ctx.task.agent, chosen).await {
            ctx.guard(&key);
        }
    }
}
