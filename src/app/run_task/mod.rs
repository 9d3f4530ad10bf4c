//! The recipe of one run: announce → freeze → provision → prepare → agent → collect → publish →
//! settle. What a step learned is stored before the next starts, and each step looks for its own
//! result first, so a run can be taken up at any step by any worker.

mod agent;
mod agent_files;
mod announce;
mod collect;
mod commands;
mod connectors;
mod context;
mod conversation;
mod follow_up;
mod fork;
mod freeze;
mod launch;
mod open_pull;
mod patience;
mod prepare;
mod project;
mod provision;
mod publish;
mod review_ledger;
mod review_pull;
mod second_opinion;
mod settle;
mod start;
mod surroundings;

use std::time::Duration;

use crate::domain::agent_stream::AgentEnd;
use crate::domain::failure::{Failure, cancelled, sandbox_stopped, sandbox_timed_out, timed_out};
use crate::domain::run::{Ending, Step};
use crate::domain::task::Outcome;
use crate::ports::sandbox::Fate;

pub use context::{Held, RunContext};
pub(crate) use conversation::sealed_for as conversation_sealed_for;
pub(crate) use patience::{Stop, retry_wait};
pub(crate) use settle::effects_of_end;

/// Workers that may die in the middle of one task before it is given up.
pub(super) const MAX_DEATHS: i64 = 3;
/// A sandbox that is lost this near to its end has reached it: clocks differ.
const CLOSE_TO_THE_END: Duration = Duration::from_secs(5);
/// Sandboxes that may get lost under one task.
const MAX_ATTEMPTS: i64 = 2;

/// Carries a run from its stored step to its end. `Err(Stop::Lost)`: another worker has it now.
pub async fn run(ctx: &mut RunContext) -> Result<(), Stop> {
    if ctx.task.deaths >= MAX_DEATHS && ctx.run.facts.ending.is_none() {
        let failure = Failure::WorkerDied { times: ctx.task.deaths };
        // Work that is published stays a success, whoever dies after it.
        let ending = if ctx.run.step >= Step::Review { publish::done() } else { failure.ending() };
        ctx.end(ending).await?;
    }
    Box::pin(guard_secrets(ctx)).await?;
    loop {
        let step = ctx.run.step;
        tracing::info!(step = step.name(), "step");
        match take_step(ctx, step).await {
            Ok(()) if step == Step::Settle => return Ok(()),
            Ok(()) => Box::pin(ctx.advance()).await?,
            Err(Stop::Lost) => return Err(Stop::Lost),
            Err(Stop::SandboxLost) => Box::pin(after_loss(ctx)).await?,
            Err(Stop::Ended(ending)) => Box::pin(ctx.end(*ending)).await?,
            Err(Stop::Failed(failure)) => Box::pin(ctx.end(failure.ending())).await?,
        }
    }
}

/// Has the redactor know the secrets that the sandbox of a run that is taken up was given before.
async fn guard_secrets(ctx: &mut RunContext) -> Result<(), Stop> {
    let has_begun = ctx.run.step > Step::Provision && ctx.run.step < Step::Settle;
    if !has_begun || ctx.run.facts.ending.is_some() {
        return Ok(());
    }
    launch::guard_keys(ctx).await;
    connectors::guard(ctx).await
}

/// Each step in a place of its own: a run that waits for its agent keeps no room for the others.
async fn take_step(ctx: &mut RunContext, step: Step) -> Result<(), Stop> {
    match step {
        Step::Announce => Box::pin(announce::announce(ctx)).await,
        Step::Freeze => Box::pin(freeze::freeze(ctx)).await,
        Step::Provision => Box::pin(provision::provision(ctx)).await,
        Step::Prepare => Box::pin(prepare::prepare(ctx)).await,
        Step::Agent => Box::pin(agent::work(ctx)).await,
        Step::Collect => {
            Box::pin(conversation::save(ctx)).await?;
            if ctx.task.options.is_review {
                return Box::pin(review_pull::collect(ctx)).await;
            }
            Box::pin(collect::collect(ctx)).await?;
            judge(ctx)
        }
        Step::Publish if ctx.task.options.is_review => Box::pin(review_pull::publish(ctx)).await,
        Step::Publish => Box::pin(publish::publish(ctx)).await,
        Step::Review => Box::pin(second_opinion::review(ctx)).await,
        Step::Settle => Box::pin(settle::settle(ctx)).await,
    }
}

/// A sandbox that is gone because its time was over, or because somebody ended it, is not replaced.
async fn after_loss(ctx: &mut RunContext) -> Result<(), Stop> {
    let now = ctx.app.clock.now();
    let is_over = ctx.run.facts.sandbox_ends_at.is_some_and(|at| now.after(CLOSE_TO_THE_END) >= at);
    let fate = match ctx.sandbox() {
        _ if is_over => Fate::TimedOut,
        Ok(sandbox) => ctx.app.sandbox.fate(&sandbox).await.unwrap_or(Fate::Lost),
        Err(_) => Fate::Lost,
    };
    tracing::info!(fate = ?fate, "the sandbox is gone");
    // One that was taken over may be gone for reasons of its own.
    let is_stale = ctx.run.facts.took_over && ctx.run.facts.command.is_none();
    match fate {
        _ if is_stale && ctx.run.attempt < MAX_ATTEMPTS => ctx.begin_again().await,
        Fate::TimedOut => {
            let since = ctx.run.facts.sandbox_since.unwrap_or(ctx.run.started_at);
            ctx.end(sandbox_timed_out(now.since(since))).await
        }
        Fate::Stopped => ctx.end(sandbox_stopped()).await,
        Fate::Running | Fate::Lost if ctx.run.attempt < MAX_ATTEMPTS => ctx.begin_again().await,
        Fate::Running | Fate::Lost => ctx.end(Failure::SandboxLost.ending()).await,
    }
}

/// The end of a run whose agent did not finish. What it changed so far is saved on a branch.
fn unfinished(ctx: &RunContext) -> Option<Ending> {
    let agent = ctx.task.agent.clone();
    if let Some(by) = &ctx.run.facts.cancelled_by {
        return Some(cancelled(by));
    }
    if let Some(reached) = ctx.run.facts.stopped_by {
        return Some(Failure::OverLimit { agent, reached, has_begun: true }.ending());
    }
    match ctx.run.facts.agent_end.as_ref()? {
        AgentEnd::Done => None,
        AgentEnd::TimedOut => Some(timed_out(&agent, ctx.agent_limit())),
        AgentEnd::Failed { fault, message } => {
            Some(Failure::AgentFailed { agent, fault: *fault, message: message.clone() }.ending())
        }
    }
}

/// After collecting, facts decide: without a change there is nothing to publish, whatever was said.
fn judge(ctx: &RunContext) -> Result<(), Stop> {
    let held_back = ctx.run.facts.held_back.len();
    let nothing = ctx.run.facts.selection.as_ref().is_none_or(|selection| selection.changes.is_empty());
    match unfinished(ctx) {
        Some(ending) if nothing => Err(Stop::Ended(Box::new(ending))),
        None if nothing && held_back > 0 => Err(Stop::Failed(Failure::AllHeldBack { files: held_back })),
        None if nothing => Err(Stop::Ended(Box::new(Ending {
            outcome: Outcome::NoChanges,
            reason: format!("{} ended without changing a file.", ctx.task.agent),
            detail: String::new(),
        }))),
        _ => Ok(()),
    }
}
