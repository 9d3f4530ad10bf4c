//! What a task goes on with: the newest work of the same agent on the same thread.

use super::RunContext;
use super::patience::{BEFORE_WORK, CallError, Stop};
use crate::domain::ids::{RunId, TaskId};
use crate::domain::prompt::{Follows, Said};
use crate::domain::run::{RunFacts, SandboxId};
use crate::domain::task::Task;

/// Earlier tasks that are looked at.
const LOOK_BACK: i64 = 5;
/// A kept sandbox that ends sooner is not worth taking over.
const WORTH_TAKING: std::time::Duration = std::time::Duration::from_secs(600);

/// The earlier work, and where its branch stands.
pub(super) struct Found {
    pub follows: Follows,
    /// End of the branch, and what it is to be merged into.
    pub branch: Option<(String, String)>,
}

/// Finds the earlier work, with the end of its branch. A branch whose pull request was merged or closed
/// is done with: then the work starts from the default branch again, and only the talk goes on.
pub(super) async fn find(ctx: &RunContext) -> Result<Option<Found>, CallError> {
    if ctx.task.options.starts_anew() {
        return Ok(None);
    }
    let app = &ctx.app;
    for earlier in app.store.earlier_tasks(&ctx.task, LOOK_BACK).await? {
        let Some(run) = app.store.latest_run(&earlier.id).await? else { continue };
        let said = said_so_far(ctx, &earlier).await?;
        if run.facts.commit.is_none() && run.facts.session.is_none() && said.len() < 2 {
            continue;
        }
        let published = match run.facts.commit.is_some() {
            true => Some((earlier.id.clone(), run.facts)),
            false => last_published(ctx, &earlier).await?,
        };
        let mut follows = Follows { task: earlier.id.0, branch: None, said }.capped();
        let mut branch = None;
        if let Some((task, facts)) = published
            && let Some(name) = facts.branch
            && let Some(head) = standing(ctx, &name, facts.pull.is_some()).await?
        {
            follows.branch = Some(name);
            let base = app.store.inputs(&task).await?.map(|inputs| inputs.base_branch).unwrap_or_default();
            branch = Some((head, base));
        }
        return Ok(Some(Found { follows, branch }));
    }
    Ok(None)
}

/// The end of a branch that is still there, and still to be merged.
async fn standing(ctx: &RunContext, branch: &str, had_pull: bool) -> Result<Option<String>, CallError> {
    let (github, place) = (&ctx.app.github, ctx.place());
    let Some(head) = github.branch_head(&place, branch).await? else { return Ok(None) };
    let is_open = !had_pull || github.find_pull(&place, branch).await?.is_some();
    Ok(is_open.then_some(head))
}

/// A task that changed nothing went on with another, which may have.
async fn last_published(ctx: &RunContext, task: &Task) -> Result<Option<(TaskId, RunFacts)>, CallError> {
    let mut id = task.id.clone();
    for _ in 0..LOOK_BACK {
        let Some(follows) = ctx.app.store.inputs(&id).await?.and_then(|inputs| inputs.follows) else { break };
        id = TaskId(follows.task);
        let Some(run) = ctx.app.store.latest_run(&id).await? else { break };
        if run.facts.commit.is_some() {
            return Ok(Some((id, run.facts)));
        }
    }
    Ok(None)
}

/// Both sides of the earlier task, after what that one followed.
async fn said_so_far(ctx: &RunContext, earlier: &Task) -> Result<Vec<Said>, CallError> {
    let before = ctx.app.store.inputs(&earlier.id).await?.and_then(|inputs| inputs.follows);
    let mut said = before.map(|follows| follows.said).unwrap_or_default();
    said.extend(ctx.app.store.messages(&earlier.id).await?);
    Ok(said)
}

/// Takes over the sandbox that the earlier run kept, while it is there, for the same person: whatever
/// that one's agent left running in it sees what the next is given. True: it is ours.
pub(super) async fn take_over(ctx: &mut RunContext) -> Result<bool, Stop> {
    if ctx.run.facts.took_over && ctx.run.facts.sandbox.is_some() {
        return Ok(true);
    }
    let Some(follows) = &ctx.inputs()?.follows else { return Ok(false) };
    let earlier = TaskId(follows.task.clone());
    let now = ctx.app.clock.now();
    let found = {
        let (ctx, earlier) = (&*ctx, &earlier);
        ctx.patiently(BEFORE_WORK, |_| async move {
            let store = &ctx.app.store;
            Ok(store.task(earlier).await?.zip(store.latest_run(earlier).await?))
        })
        .await?
    };
    let Some((task, run)) = found else { return Ok(false) };
    let is_worth_it = run.facts.kept.as_ref().is_some_and(|kept| kept.until.since(now) > WORTH_TAKING);
    if !is_worth_it || task.requester.id != ctx.task.requester.id {
        return Ok(false);
    }
    let Some(sandbox) = run.facts.sandbox.clone() else { return Ok(false) };
    if !taken(ctx, &run.id, &sandbox).await? {
        return Ok(false);
    }
    let facts = &mut ctx.run.facts;
    facts.sandbox = Some(sandbox);
    // What it may be extended by counts from here.
    facts.sandbox_since = Some(now);
    facts.sandbox_ends_at = run.facts.sandbox_ends_at;
    facts.took_over = true;
    ctx.record(&[]).await?;
    Ok(true)
}

async fn taken(ctx: &RunContext, from: &RunId, sandbox: &SandboxId) -> Result<bool, Stop> {
    ctx.patiently_in_store(|_| async move {
        let now = ctx.app.clock.now();
        Ok(ctx.app.store.take_over(&ctx.lease, &ctx.run.id, from, &sandbox.name, now).await?)
    })
    .await
}
