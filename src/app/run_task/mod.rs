//! The recipe of one run: announce → freeze → provision → prepare → agent → collect → publish →
//! settle. What a step learned is stored before the next starts, and each step looks for its own
//! result first, so a run can be taken up at any step by any worker.

mod agent;
mod announce;
mod collect;
mod context;
mod freeze;
mod patience;
mod prepare;
mod publish;
mod settle;

use crate::domain::agent_stream::AgentEnd;
use crate::domain::failure::Failure;
use crate::domain::run::{Ending, Step};
use crate::domain::task::Outcome;

pub use context::RunContext;
pub(crate) use patience::{Stop, retry_wait};

/// Workers that may die in the middle of one task before it is given up.
const MAX_DEATHS: i64 = 3;
/// Sandboxes that may get lost under one task.
const MAX_ATTEMPTS: i64 = 2;

/// Carries a run from its stored step to its end. `Err(Stop::Lost)`: another worker has it now.
pub async fn run(ctx: &mut RunContext) -> Result<(), Stop> {
    if ctx.task.deaths >= MAX_DEATHS && ctx.run.facts.ending.is_none() {
        let failure = Failure::WorkerDied { times: ctx.task.deaths };
        ctx.end(failure.ending()).await?;
    }
    loop {
        let step = ctx.run.step;
        tracing::info!(step = step.name(), "step");
        match take_step(ctx, step).await {
            Ok(()) if step == Step::Settle => return Ok(()),
            Ok(()) => ctx.advance().await?,
            Err(Stop::Lost) => return Err(Stop::Lost),
            Err(Stop::SandboxLost) if ctx.run.attempt < MAX_ATTEMPTS => ctx.begin_again().await?,
            Err(Stop::SandboxLost) => ctx.end(Failure::SandboxLost.ending()).await?,
            Err(Stop::Ended(ending)) => ctx.end(*ending).await?,
            Err(Stop::Failed(failure)) => {
                ctx.end(failure.ending()).await?;
            }
        }
    }
}

async fn take_step(ctx: &mut RunContext, step: Step) -> Result<(), Stop> {
    match step {
        Step::Announce => announce::announce(ctx).await,
        Step::Freeze => freeze::freeze(ctx).await,
        Step::Provision => prepare::provision(ctx).await,
        Step::Prepare => prepare::prepare(ctx).await,
        Step::Agent => agent::work(ctx).await,
        Step::Collect => {
            collect::collect(ctx).await?;
            judge(ctx)
        }
        Step::Publish => publish::publish(ctx).await,
        Step::Settle => settle::settle(ctx).await,
    }
}

/// After collecting, facts decide: without a change there is nothing to publish, whatever was said.
fn judge(ctx: &RunContext) -> Result<(), Stop> {
    let held_back = ctx.run.facts.held_back.len();
    let nothing = ctx.run.facts.selection.as_ref().is_none_or(|selection| selection.changes.is_empty());
    match ctx.run.facts.agent_end {
        Some(AgentEnd::TimedOut) if nothing => {
            Err(Stop::Ended(Box::new(crate::domain::failure::timed_out(&ctx.task.agent, ctx.time_limit()))))
        }
        Some(AgentEnd::Done) if nothing && held_back > 0 => {
            Err(Stop::Failed(Failure::AllHeldBack { files: held_back }))
        }
        Some(AgentEnd::Done) if nothing => Err(Stop::Ended(Box::new(Ending {
            outcome: Outcome::NoChanges,
            reason: format!("{} ended without changing a file.", ctx.task.agent),
            detail: String::new(),
        }))),
        _ => Ok(()),
    }
}
