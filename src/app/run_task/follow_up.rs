//! What a task goes on with: the newest work of the same agent on the same thread.

use super::RunContext;
use super::patience::{BEFORE_WORK, CallError, Stop};
use crate::domain::ids::RunId;
use crate::domain::prompt::{Follows, Said};
use crate::domain::run::{Run, SandboxId};
use crate::domain::task::Task;

/// Earlier tasks that are looked at.
const LOOK_BACK: i64 = 5;
/// A kept sandbox that ends sooner is not worth taking over.
const WORTH_TAKING: std::time::Duration = std::time::Duration::from_secs(300);

/// Finds the earlier work, with the end of its branch. A branch whose pull request was merged or closed
/// is done with: then the work starts from the default branch again, and only the talk goes on.
pub(super) async fn find(ctx: &RunContext) -> Result<Option<(Follows, Option<String>)>, CallError> {
    if ctx.task.options.starts_anew() {
        return Ok(None);
    }
    let (app, place) = (&ctx.app, ctx.place());
    for earlier in app.store.earlier_tasks(&ctx.task, LOOK_BACK).await? {
        let Some(run) = app.store.latest_run(&earlier.id).await? else { continue };
        let said = said_so_far(ctx, &earlier).await?;
        if run.facts.commit.is_none() && run.facts.session.is_none() && said.len() < 2 {
            continue;
        }
        let branch = run.facts.branch.filter(|_| run.facts.commit.is_some());
        let mut standing = None;
        if let Some(branch) = branch
            && let Some(head) = app.github.branch_head(&place, &branch).await?
            && (run.facts.pull.is_none() || app.github.find_pull(&place, &branch).await?.is_some())
        {
            standing = Some((branch, head));
        }
        let (branch, head) = standing.unzip();
        return Ok(Some((Follows { task: earlier.id.0, branch, said }.capped(), head)));
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

/// Takes over the sandbox that the earlier run kept, while it is there. True: it is ours.
pub(super) async fn take_over(ctx: &mut RunContext) -> Result<bool, Stop> {
    let Some(earlier) = ctx.inputs()?.follows.as_ref().map(|follows| follows.task.clone()) else { return Ok(false) };
    let now = ctx.app.clock.now();
    let found = {
        let (ctx, earlier) = (&*ctx, crate::domain::ids::TaskId(earlier));
        let earlier = &earlier;
        ctx.patiently(BEFORE_WORK, |_| async move { Ok(ctx.app.store.latest_run(earlier).await?) }).await?
    };
    let worth_it = |run: &Run| run.facts.kept.as_ref().is_some_and(|kept| kept.until.since(now) > WORTH_TAKING);
    let Some(run) = found.filter(worth_it) else { return Ok(false) };
    let Some(sandbox) = run.facts.sandbox.clone() else { return Ok(false) };
    if !taken(ctx, &run.id, &sandbox).await? {
        return Ok(false);
    }
    let facts = &mut ctx.run.facts;
    facts.sandbox = Some(sandbox);
    facts.sandbox_since = run.facts.sandbox_since;
    facts.sandbox_ends_at = run.facts.sandbox_ends_at;
    facts.took_over = true;
    ctx.record(&[]).await?;
    Ok(true)
}

async fn taken(ctx: &RunContext, from: &RunId, sandbox: &SandboxId) -> Result<bool, Stop> {
    ctx.patiently(BEFORE_WORK, |_| async move {
        let now = ctx.app.clock.now();
        Ok(ctx.app.store.take_over(&ctx.lease, &ctx.run.id, from, &sandbox.name, now).await?)
    })
    .await
}
