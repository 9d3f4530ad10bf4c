//! Where the work starts: at the default branch or an earlier task's for an issue, at its head for a pull
//! request.

use super::RunContext;
use super::follow_up::find;
use super::patience::CallError;
use super::review_ledger::ledger;
use crate::adapters::github::PullInfo;
use crate::domain::failure::Failure;
use crate::domain::permission::Permission;
use crate::domain::prompt::Follows;
use crate::domain::pull::{PullAt, ReviewTalk};
use crate::domain::review::ledger::Ledger;

/// Tasks of the thread among which our own commits are looked for.
const LOOK_BACK: i64 = 20;

pub(super) struct Start {
    /// What the work is to be merged into.
    pub base_branch: String,
    pub base_sha: String,
    pub follows: Option<Follows>,
    pub pull: Option<PullAt>,
    pub talks: Vec<ReviewTalk>,
    pub ledger: Ledger,
}

pub(super) async fn start(ctx: &RunContext, default_branch: String) -> Result<Start, CallError> {
    match ctx.task.thread.is_pull {
        true => on_pull(ctx).await,
        false => on_issue(ctx, default_branch).await,
    }
}

async fn on_issue(ctx: &RunContext, default_branch: String) -> Result<Start, CallError> {
    let (place, github) = (ctx.place(), &ctx.app.github);
    let base_branch = ctx.task.options.base.clone().unwrap_or(default_branch);
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
    Ok(Start { base_branch, base_sha, follows, pull: None, talks: Vec::new(), ledger: Ledger::default() })
}

/// Code from a fork is worked with for those who may write, whatever a policy says (threat T04).
pub(super) async fn only_writers_on_forks(ctx: &RunContext, is_of_fork: bool) -> Result<(), CallError> {
    let login = &ctx.task.requester.login;
    if is_of_fork && ctx.app.github.permission(&ctx.place(), login).await? < Permission::Write {
        return Err(Failure::ForkOfStranger { login: login.clone() }.into());
    }
    Ok(())
}

/// The commit that the work is for: of a branch here the newest, for only people who may write push to it, and what is
/// pushed later is noticed; of a fork the one that was there at the command (threat T05), or our own on top of it.
async fn head_of(ctx: &RunContext, found: &PullInfo) -> Result<String, CallError> {
    let (now, store, task) = (&found.head_sha, &ctx.app.store, &ctx.task);
    let then = match &task.options.head {
        _ if found.fork.is_none() => return Ok(now.clone()),
        Some(then) if then == now => return Ok(now.clone()),
        Some(then) => then,
        None => return Err(Failure::HeadUnknown.into()),
    };
    for earlier in store.tasks_of_thread(task.thread.repository, task.thread.issue, LOOK_BACK).await? {
        let commit = store.latest_run(&earlier.id).await?.and_then(|run| run.facts.commit);
        if commit.as_ref() == Some(now) {
            return Ok(now.clone());
        }
    }
    Ok(then.clone())
}

async fn on_pull(ctx: &RunContext) -> Result<Start, CallError> {
    let (place, github, task) = (ctx.place(), &ctx.app.github, &ctx.task);
    let found = github.pull(&place, task.thread.issue.0).await?;
    if !found.is_open {
        return Err(Failure::PullClosed.into());
    }
    only_writers_on_forks(ctx, found.fork.is_some()).await?;
    let found = PullInfo { head_sha: head_of(ctx, &found).await?, ..found };
    let ledger = ledger(ctx, &found).await?;
    let talks = github.review_talks(&place, task.thread.issue, task.triggered_at, task.subject).await?;
    // The branch is that of the pull request, whatever an earlier task had.
    let follows = find(ctx).await?.map(|earlier| Follows { branch: None, ..earlier.follows });
    let pull = PullAt {
        head_branch: found.head_branch,
        base_branch: found.base_branch.clone(),
        merge_base: github.merge_base(&place, &found.base_sha, &found.head_sha).await?,
        base_sha: found.base_sha,
        url: found.url,
        fork: found.fork,
    };
    Ok(Start { base_branch: found.base_branch, base_sha: found.head_sha, follows, pull: Some(pull), talks, ledger })
}
