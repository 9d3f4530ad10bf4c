//! Seventh step: branch, commit, pull request, each looked for before it is made. Nothing here
//! takes the agent's word: the result is the commit on the branch and the number of the pull request.

use super::collect::content;
use super::fork::{self, Handed};
use super::open_pull::open_pull;
use super::patience::{CallError, FOR_RESULTS, Stop};
use super::{RunContext, unfinished};
use crate::adapters::github::{FileContent, GitHubError, NewCommit};
use crate::adapters::store::Purpose;
use crate::domain::comment::{CommitMessage, commit_message, commit_trailer};
use crate::domain::failure::Failure;
use crate::domain::permission::Permission;
use crate::domain::prompt::Inputs;
use crate::domain::pull::{PullAt, applies_cleanly};
use crate::domain::run::{Ending, PullLink};
use crate::domain::task::Outcome;
use crate::domain::text::cut_marked;

/// Times a branch may move under us before we give way.
const MAX_MOVES: u32 = 5;

pub(super) async fn publish(ctx: &mut RunContext) -> Result<(), Stop> {
    // First of all: GitHub may make us wait for longer than the sandbox lives.
    let files = match (&ctx.run.facts.commit, &ctx.run.facts.selection) {
        (None, Some(selection)) => content(ctx, selection).await?,
        _ => FileContent::new(),
    };
    let suggested = fork::suggested(ctx).await?;
    check_permission(ctx).await?;
    match fork::hand_back(ctx, suggested, &files).await? {
        Handed::Pushed => {}
        Handed::Suggested => return Err(Stop::Ended(Box::new(done()))),
        Handed::No(note) => {
            fork::check_may_stand_here(ctx).await?;
            note.into_iter().for_each(|note| ctx.run.facts.note(note));
            publish_here(ctx, &files).await?;
        }
    }
    let unfinished = unfinished(ctx);
    let is_to_be_reviewed =
        ctx.task.options.review_by.is_some() && ctx.run.facts.pull.is_some() && unfinished.is_none();
    match unfinished {
        None if is_to_be_reviewed => Ok(()),
        unfinished => Err(Stop::Ended(Box::new(unfinished.unwrap_or_else(done)))),
    }
}

/// On a branch of this repository, with a pull request where there is none.
async fn publish_here(ctx: &mut RunContext, files: &FileContent) -> Result<(), Stop> {
    let branch = choose_branch(ctx).await?;
    let branch = push_somewhere(ctx, branch, files).await?;
    let unfinished = unfinished(ctx);
    let is_to_be_approved = note_approval(ctx)?;
    let pull = ctx.inputs()?.pull.clone().filter(|pull| pull.fork.is_none() && !is_to_be_approved);
    if let Some(pull) = pull {
        let number = ctx.task.thread.issue.0;
        let is_there = branch == pull.head_branch;
        ctx.run.facts.pull = is_there.then_some(PullLink { number, url: pull.url });
        ctx.run.facts.pull_was_there = is_there;
    } else if ctx.run.facts.pull.is_none() && !ctx.task.options.no_pr && unfinished.is_none() {
        let (pull, was_there) = open_pull(ctx, &branch).await?;
        (ctx.run.facts.pull, ctx.run.facts.pull_was_there) = (Some(pull), was_there);
    }
    Ok(())
}

/// Changed paths that people have to approve, by the policy as it was when the task began.
pub(super) fn to_approve(ctx: &RunContext) -> Result<Vec<&str>, Stop> {
    let changes = ctx.run.facts.selection.iter().flat_map(|selection| &selection.changes);
    Ok(ctx.inputs()?.terms.to_approve(changes.map(|change| change.path.as_str())))
}

/// Says what has to be approved. False: nothing has.
fn note_approval(ctx: &mut RunContext) -> Result<bool, Stop> {
    let paths = to_approve(ctx)?;
    if paths.is_empty() {
        return Ok(false);
    }
    let names = cut_marked(&paths.join(", "), 500);
    let with_draft = if ctx.task.options.no_pr || unfinished(ctx).is_some() { "" } else { ", with a draft" };
    let note = format!(
        "By the policy these paths need somebody's approval, so the work is on a branch of its own{with_draft}: {names}."
    );
    ctx.run.facts.note(note);
    Ok(true)
}

/// Pushes to the branch, or, where somebody else has changed the same, to one of its own. Gives the branch.
async fn push_somewhere(ctx: &mut RunContext, branch: String, files: &FileContent) -> Result<String, Stop> {
    for _ in 0..MAX_MOVES {
        match push_unless_done(ctx, &branch, files).await {
            Err(Stop::Failed(Failure::BranchMoved { branch: moved })) => {
                if rebuild(ctx, &moved).await? {
                    continue;
                }
                let own = give_way(ctx, &moved).await?;
                push_unless_done(ctx, &own, files).await?;
                return Ok(own);
            }
            pushed => return pushed.map(|()| branch),
        }
    }
    Err(Stop::Failed(Failure::PushRefused { message: format!("The branch {branch} kept moving.") }))
}

/// The head of a pull request has moved: the commit is made on top of the new one, if nothing that it
/// changes was changed there.
async fn rebuild(ctx: &mut RunContext, branch: &str) -> Result<bool, Stop> {
    if ctx.inputs()?.pull.is_none() {
        return Ok(false);
    }
    let made_for = parent(ctx)?.to_owned();
    let found = {
        let (ctx, made_for) = (&*ctx, made_for.as_str());
        ctx.patiently(FOR_RESULTS, |_| async move {
            let (place, github) = (ctx.place(), &ctx.app.github);
            let Some(head) = github.branch_head(&place, branch).await? else { return Ok(None) };
            let theirs = github.files_between(&place, made_for, &head).await?;
            Ok(theirs.map(|theirs| (head, theirs)))
        })
        .await?
    };
    let Some((head, theirs)) = found else { return Ok(false) };
    let changes = ctx.run.facts.selection.iter().flat_map(|selection| &selection.changes);
    let ours: Vec<&str> = changes.map(|change| change.path.as_str()).collect();
    if !applies_cleanly(&ours, &theirs) {
        return Ok(false);
    }
    if ctx.run.facts.rebuilt_on.is_none() {
        let note = "Somebody pushed to the branch meanwhile; the changes stand on top of that.".to_owned();
        ctx.run.facts.note(note);
    }
    ctx.run.facts.rebuilt_on = Some(head);
    ctx.record(&[]).await?;
    Ok(true)
}

/// What the commit is made on top of.
fn parent(ctx: &RunContext) -> Result<&str, Stop> {
    let rebuilt_on = ctx.run.facts.rebuilt_on.as_deref();
    Ok(match rebuilt_on {
        Some(head) => head,
        None => ctx.inputs()?.base_sha.as_str(),
    })
}

/// The end of a run whose work is published.
pub(super) fn done() -> Ending {
    Ending { outcome: Outcome::Succeeded, reason: String::new(), detail: String::new() }
}

/// The branch of the earlier work, where this goes on with one, else a new one.
async fn choose_branch(ctx: &mut RunContext) -> Result<String, Stop> {
    if let Some(branch) = ctx.run.facts.branch.clone() {
        return Ok(branch);
    }
    if let Some(pull) = ctx.inputs()?.pull.clone() {
        // What is not finished, or is to be approved, does not get between other people's commits; and what is merged
        // or closed is done with.
        let is_for_it = unfinished(ctx).is_none() && to_approve(ctx)?.is_empty();
        if is_for_it && pull.fork.is_none() && !is_open(ctx).await? {
            let number = ctx.task.thread.issue;
            ctx.run.facts.note(format!("#{number} is closed, so this work is on a branch of its own."));
            return own_branch(ctx).await;
        }
        return match pull.own_branch().filter(|_| is_for_it) {
            Some(branch) => take_branch(ctx, branch.to_owned()).await,
            None => own_branch(ctx).await,
        };
    }
    let followed = ctx.inputs()?.follows.as_ref().and_then(|follows| follows.branch.clone());
    let goes_on = !ctx.task.options.is_retry && to_approve(ctx)?.is_empty();
    match followed.filter(|_| goes_on) {
        Some(branch) if is_there(ctx, &branch).await? => take_branch(ctx, branch).await,
        _ => own_branch(ctx).await,
    }
}

async fn is_open(ctx: &RunContext) -> Result<bool, Stop> {
    ctx.patiently(FOR_RESULTS, |_| async move {
        Ok(ctx.app.github.pull(&ctx.place(), ctx.task.thread.issue.0).await?.is_open)
    })
    .await
}

/// Merged meanwhile, a branch may be gone.
async fn is_there(ctx: &RunContext, branch: &str) -> Result<bool, Stop> {
    ctx.patiently(FOR_RESULTS, |_| async move { Ok(ctx.app.github.branch_head(&ctx.place(), branch).await?.is_some()) })
        .await
}

async fn own_branch(ctx: &mut RunContext) -> Result<String, Stop> {
    let branch = ctx.task.branch(&ctx.inputs()?.title);
    check_branch_is_free(ctx, &branch).await?;
    take_branch(ctx, branch).await
}

async fn take_branch(ctx: &mut RunContext, branch: String) -> Result<String, Stop> {
    ctx.run.facts.branch = Some(branch.clone());
    ctx.record(&[]).await?;
    Ok(branch)
}

/// Somebody pushed to the branch while the agent worked: the work goes to a branch of its own.
async fn give_way(ctx: &mut RunContext, moved: &str) -> Result<String, Stop> {
    let what = if is_there(ctx, moved).await? {
        format!("Somebody pushed to the branch {moved} meanwhile")
    } else {
        format!("The branch {moved} is gone")
    };
    let note = format!("{what}, so this work is on a branch of its own.");
    ctx.run.facts.note(note);
    ctx.run.facts.rebuilt_on = None;
    own_branch(ctx).await
}

async fn push_unless_done(ctx: &mut RunContext, branch: &str, files: &FileContent) -> Result<(), Stop> {
    if ctx.run.facts.commit.is_none() {
        ctx.run.facts.commit = Some(push(ctx, branch, files).await?);
        ctx.record(&[]).await?;
    }
    Ok(())
}

/// What the requester has to be allowed. Code from a fork is worked with only for those who may write, whatever a policy
/// says (threat T04).
fn needed(inputs: &Inputs) -> Permission {
    let who = inputs.terms.who.unwrap_or(Permission::Write);
    if inputs.is_of_fork() { who.max(Permission::Write) } else { who }
}

/// Who asked may have lost the right to while the agent worked (threat T31).
pub(super) async fn check_permission(ctx: &RunContext) -> Result<(), Stop> {
    let login = &ctx.task.requester.login;
    let permission = ctx
        .patiently(FOR_RESULTS, |_| async move { Ok(ctx.app.github.permission(&ctx.place(), login).await?) })
        .await?;
    let needed = needed(ctx.inputs()?);
    if permission < needed {
        return Err(Stop::Failed(Failure::PermissionLost { login: login.clone(), needed }));
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

pub(super) fn redacted_message(ctx: &RunContext) -> Result<CommitMessage, Stop> {
    let raw = commit_message(&ctx.task, ctx.inputs()?, ctx.app.github.web_url());
    Ok(CommitMessage { headline: ctx.redacted(&raw.headline), body: ctx.redacted(&raw.body) })
}

/// Brings the branch to a commit with the changes. Gives the commit's id.
async fn push(ctx: &RunContext, branch: &str, files: &FileContent) -> Result<String, Stop> {
    let mut message = redacted_message(ctx)?;
    if ctx.inputs()?.is_of_fork() {
        // Workflows would run the fork's code with the rights of this repository (threat T04).
        message.body =
            format!("It stands on commits of a fork, so no workflow runs for it: [skip ci]\n\n{}", message.body);
    }
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
    let base = parent(ctx)?;
    let selection = ctx.run.facts.selection.as_ref().ok_or(Stop::Failed(Failure::Internal))?;
    for _ in 0..MAX_MOVES {
        let is_the_pulls = ctx.inputs()?.pull.as_ref().and_then(PullAt::own_branch) == Some(branch);
        match github.branch_head(&place, branch).await? {
            // Deleted after a merge: nobody wants it back.
            None if is_the_pulls => return Err(Failure::BranchMoved { branch: branch.to_owned() }.into()),
            None if ctx.inputs()?.is_of_fork() => {
                ctx.take_write(Purpose::Result).await?;
                let commit = NewCommit { branch, parent: base, message, changes: &selection.changes, content: files };
                match github.begin_branch(&place, &commit).await {
                    Err(GitHubError::Moved { .. }) => continue,
                    answer => return answer.map_err(refused_push),
                }
            }
            None => {
                ctx.take_write(Purpose::Result).await?;
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
                let branch = branch.to_owned();
                let inputs = ctx.inputs()?;
                let is_followed = inputs.follows.as_ref().is_some_and(|f| f.branch.as_ref() == Some(&branch));
                let failure = if is_followed || is_the_pulls {
                    Failure::BranchMoved { branch }
                } else {
                    Failure::BranchTaken { branch }
                };
                return Err(failure.into());
            }
        }
        ctx.take_write(Purpose::Result).await?;
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
