//! Seventh step: branch, commit, pull request, each looked for before it is made. Nothing here
//! takes the agent's word: the result is the commit on the branch and the number of the pull request.

use super::collect::content;
use super::patience::{CallError, FOR_RESULTS, Stop};
use super::{RunContext, unfinished};
use crate::adapters::github::{FileContent, GitHubError, NewCommit, NewPull, Permission};
use crate::adapters::store::Purpose;
use crate::domain::comment::{CommitMessage, commit_message, commit_trailer, pull_text};
use crate::domain::failure::Failure;
use crate::domain::run::{Ending, PullLink};
use crate::domain::task::Outcome;

/// Times a branch may move under us before we give way.
const MAX_MOVES: u32 = 5;

pub(super) async fn publish(ctx: &mut RunContext) -> Result<(), Stop> {
    // First of all: GitHub may make us wait for longer than the sandbox lives.
    let files = match (&ctx.run.facts.commit, &ctx.run.facts.selection) {
        (None, Some(selection)) => content(ctx, selection).await?,
        _ => FileContent::new(),
    };
    check_permission(ctx).await?;
    let branch = ctx.task.branch(&ctx.inputs()?.title);
    if !ctx.run.facts.branch_is_ours {
        check_branch_is_free(ctx, &branch).await?;
        ctx.run.facts.branch = Some(branch.clone());
        ctx.run.facts.branch_is_ours = true;
        ctx.record(&[]).await?;
    }
    if ctx.run.facts.commit.is_none() {
        let commit = push(ctx, &branch, &files).await?;
        ctx.run.facts.commit = Some(commit);
        ctx.record(&[]).await?;
    }
    let unfinished = unfinished(ctx);
    if ctx.run.facts.pull.is_none() && !ctx.task.options.no_pr && unfinished.is_none() {
        ctx.run.facts.pull = Some(open_pull(ctx, &branch).await?);
    }
    let done = || Ending { outcome: Outcome::Succeeded, reason: String::new(), detail: String::new() };
    let ending = unfinished.unwrap_or_else(done);
    Err(Stop::Ended(Box::new(ending)))
}

/// Who asked may have lost the right to while the agent worked (threat T31).
async fn check_permission(ctx: &RunContext) -> Result<(), Stop> {
    let login = &ctx.task.requester.login;
    let permission = ctx
        .patiently(FOR_RESULTS, |_| async move { Ok(ctx.app.github.permission(&ctx.place(), login).await?) })
        .await?;
    if permission < Permission::Write {
        return Err(Stop::Failed(Failure::PermissionLost { login: login.clone() }));
    }
    Ok(())
}

/// Nothing is ever pushed to a branch that was there before, be it the default branch.
async fn check_branch_is_free(ctx: &RunContext, branch: &str) -> Result<(), Stop> {
    ctx.patiently(FOR_RESULTS, |_| async move {
        match ctx.app.github.branch_head(&ctx.place(), branch).await? {
            None => Ok(()),
            Some(_) => Err(Failure::BranchTaken { branch: branch.to_owned() }.into()),
        }
    })
    .await
}

/// Brings the branch to a commit with the changes. Gives the commit's id.
async fn push(ctx: &RunContext, branch: &str, files: &FileContent) -> Result<String, Stop> {
    let inputs = ctx.inputs()?;
    let raw = commit_message(&ctx.task, inputs);
    let message = CommitMessage { headline: ctx.redacted(&raw.headline), body: ctx.redacted(&raw.body) };
    let message = &message;
    ctx.patiently(FOR_RESULTS, |_| async move { push_once(ctx, branch, message, files).await }).await
}

async fn push_once(
    ctx: &RunContext,
    branch: &str,
    message: &CommitMessage,
    files: &FileContent,
) -> Result<String, CallError> {
    let (place, github) = (ctx.place(), &ctx.app.github);
    let base = ctx.inputs()?.base_sha.as_str();
    let selection = ctx.run.facts.selection.as_ref().ok_or(Stop::Failed(Failure::Internal))?;
    for _ in 0..MAX_MOVES {
        match github.branch_head(&place, branch).await? {
            None => {
                ctx.app.take_write(&ctx.task.thread, Purpose::Result).await?;
                match github.create_branch(&place, branch, base).await {
                    Ok(()) => {}
                    // Somebody made it in between: look again.
                    Err(GitHubError::Moved { .. }) => continue,
                    Err(error) => return Err(refused_push(error)),
                }
            }
            Some(head) if head == base => {}
            Some(head) => {
                let found = github.commit(&place, &head).await?;
                let is_ours = found.parents == [base] && found.message.contains(&commit_trailer(&ctx.task));
                if is_ours {
                    return Ok(head);
                }
                return Err(Failure::BranchTaken { branch: branch.to_owned() }.into());
            }
        }
        ctx.app.take_write(&ctx.task.thread, Purpose::Result).await?;
        let commit = NewCommit { branch, parent: base, message, changes: &selection.changes, content: files };
        match github.create_commit(&place, &commit).await {
            Err(GitHubError::Moved { .. }) => {}
            Err(error) => return Err(refused_push(error)),
            Ok(id) => return Ok(id),
        }
    }
    Err(Failure::PushRefused { message: format!("The branch {branch} kept moving.") }.into())
}

/// A rule of the repository that says no is told as it is, and not tried again (fault F32).
fn refused_push(error: GitHubError) -> CallError {
    match error {
        GitHubError::Forbidden { message } | GitHubError::Refused { message, .. } => {
            Failure::PushRefused { message }.into()
        }
        other => other.into(),
    }
}

async fn open_pull(ctx: &RunContext, branch: &str) -> Result<PullLink, Stop> {
    let inputs = ctx.inputs()?;
    let text = pull_text(&ctx.task, inputs, &ctx.run.facts, &ctx.app.task_url(&ctx.task.id));
    let (title, body) = (ctx.redacted(&text.title), ctx.redacted(&text.body));
    let pull = NewPull {
        branch,
        base: &inputs.base_branch,
        title: &title,
        body: &body,
        draft: ctx.task.options.draft.unwrap_or(false),
    };
    let pull = &pull;
    let opened = ctx
        .patiently(FOR_RESULTS, |_| async move {
            let (place, github) = (ctx.place(), &ctx.app.github);
            if let Some(found) = github.find_pull(&place, branch).await? {
                return Ok(found);
            }
            ctx.app.take_write(&ctx.task.thread, Purpose::Result).await?;
            match github.create_pull(&place, pull).await {
                // Ours, of which the answer was lost; lists show it a moment later.
                Err(GitHubError::Moved { message }) => Err(GitHubError::Unavailable(message).into()),
                answer => Ok(answer?),
            }
        })
        .await?;
    Ok(PullLink { number: opened.number, url: opened.url })
}
