//! Second step: what the agent is told is read once, as of the trigger, and stored (design D6).

use super::RunContext;
use super::follow_up::find;
use super::patience::{BEFORE_WORK, Stop};
use crate::domain::failure::Failure;
use crate::domain::prompt::{Inputs, Quoted, ThreadText};

pub(super) async fn freeze(ctx: &mut RunContext) -> Result<(), Stop> {
    if ctx.inputs.is_some() {
        return Ok(());
    }
    if ctx.task.thread.is_pull {
        return Err(Stop::Failed(Failure::PullRequestUnsupported));
    }
    let inputs = {
        let ctx = &*ctx;
        ctx.patiently(BEFORE_WORK, |_| async move {
            let (place, github) = (ctx.place(), &ctx.app.github);
            let repository = github.repository(&place).await?;
            let base_branch = ctx.task.options.base.clone().unwrap_or(repository.default_branch);
            let found = find(ctx).await?;
            let (follows, branch) = found.map_or((None, None), |found| (Some(found.follows), found.branch));
            let (base_sha, base_branch) = match branch {
                Some((head, base)) => (Some(head), if base.is_empty() { base_branch } else { base }),
                None => (github.branch_head(&place, &base_branch).await?, base_branch),
            };
            let Some(base_sha) = base_sha else {
                return Err(Failure::BaseMissing { branch: base_branch }.into());
            };
            // A name that cannot be had is said now, not after the work.
            if let Some(branch) = &ctx.task.options.branch
                && github.branch_head(&place, branch).await?.is_some()
            {
                return Err(Failure::BranchTaken { branch: branch.clone() }.into());
            }
            let bot = ctx.app.bot_login().await?;
            let task = &ctx.task;
            let comments =
                github.earlier_comments(&place, task.thread.issue, task.triggered_at, task.subject, &bot).await?;
            // As it was when the command was given: the delivery says so, GitHub no longer does.
            let opening = ctx.app.opening(&task.delivery).await?;
            let thread = ThreadText { title: opening.title, body: opening.body, comments };
            let frozen = Inputs::freeze(redacted(ctx, thread));
            Ok(Inputs { base_branch, base_sha, is_private: !repository.is_public, follows, ..frozen })
        })
        .await?
    };
    {
        let (ctx, inputs) = (&*ctx, &inputs);
        ctx.patiently(BEFORE_WORK, |_| async move { Ok(ctx.app.store.store_inputs(&ctx.lease, inputs).await?) })
            .await?;
    }
    ctx.inputs = Some(inputs);
    Ok(())
}

/// Somebody may have pasted one of our secrets into the thread.
fn redacted(ctx: &RunContext, thread: ThreadText) -> ThreadText {
    let quoted = |quoted: Quoted| Quoted { text: ctx.redacted(&quoted.text), ..quoted };
    ThreadText {
        title: ctx.redacted(&thread.title),
        body: quoted(thread.body),
        comments: thread.comments.into_iter().map(quoted).collect(),
    }
}
