//! The pull request of a branch with published work.

use super::RunContext;
use super::patience::{FOR_RESULTS, Stop};
use super::publish::to_approve;
use crate::adapters::github::{GitHubError, NewPull};
use crate::adapters::store::Purpose;
use crate::domain::comment::{Beside, pull_text};
use crate::domain::pull::PullAt;
use crate::domain::run::PullLink;

/// The pull request of the branch, and whether it was there before this task.
pub(super) async fn open_pull(ctx: &RunContext, branch: &str) -> Result<(PullLink, bool), Stop> {
    let inputs = ctx.inputs()?;
    let beside = asked_beside(ctx).await?;
    let text = pull_text(&ctx.task, inputs, &ctx.run.facts, &ctx.app.task_url(&ctx.task.id), &beside);
    let (title, body) = (ctx.redacted(&text.title), ctx.redacted(&text.body));
    let onto = inputs.pull.as_ref().and_then(PullAt::own_branch).unwrap_or(&inputs.base_branch);
    let is_to_be_approved = !to_approve(ctx)?.is_empty();
    let pull = NewPull {
        branch,
        base: onto,
        title: &title,
        body: &body,
        // Who wants a second opinion wants it before others look.
        draft: ctx.task.options.draft.unwrap_or(false) || ctx.task.options.review_by.is_some() || is_to_be_approved,
    };
    let (pull, labels) = (&pull, &inputs.terms.labels);
    let (opened, was_found) = ctx
        .patiently(FOR_RESULTS, |_| async move {
            let (place, github) = (ctx.place(), &ctx.app.github);
            if let Some(found) = github.find_pull(&place, branch).await? {
                return Ok((found, true));
            }
            ctx.take_write(Purpose::Result).await?;
            let made = match github.create_pull(&place, pull).await {
                // Ours, of which the answer was lost; lists show it a moment later.
                Err(GitHubError::Moved { message }) => return Err(GitHubError::Unavailable(message).into()),
                answer => answer?,
            };
            let has_room = ctx.take_write(Purpose::Courtesy).await.is_ok();
            if !labels.is_empty() && has_room {
                // A label that does not exist is no reason to lose the pull request.
                if let Err(error) = github.add_labels(&place, made.number, labels).await {
                    tracing::info!(error = %ctx.redacted(&error.to_string()), "labels were not put on a pull request");
                }
            }
            Ok((made, false))
        })
        .await?;
    let is_followed = inputs.follows.as_ref().is_some_and(|follows| follows.branch.as_deref() == Some(branch));
    Ok((PullLink { number: opened.number, url: opened.url }, is_followed && was_found))
}

/// Other agents of the same command, with the pull request of those that have one already.
async fn asked_beside(ctx: &RunContext) -> Result<Vec<Beside>, Stop> {
    ctx.patiently(FOR_RESULTS, |_| async move {
        let mut beside = Vec::new();
        for other in ctx.app.store.tasks_beside(&ctx.task).await? {
            let run = ctx.app.store.latest_run(&other.id).await?;
            let pull = run.and_then(|run| run.facts.pull).map(|pull| pull.number);
            beside.push(Beside { url: ctx.app.task_url(&other.id), agent: other.agent, pull });
        }
        Ok(beside)
    })
    .await
}
