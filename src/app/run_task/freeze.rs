//! Second step: what the agent is told is read once, as of the trigger, and stored (design D6).

use super::RunContext;
use super::patience::{BEFORE_WORK, CallError, Stop};
use super::start::{Start, only_writers_on_forks, start};
use super::surroundings::around;
use crate::adapters::github::PullInfo;
use crate::domain::attachment::attachments;
use crate::domain::failure::Failure;
use crate::domain::policy::POLICY_FILE;
use crate::domain::prompt::{Inputs, Quoted, ThreadText};
use crate::domain::pull::ReviewTalk;
use crate::domain::surroundings::{FailedCheck, LinkedIssue, Surroundings};

pub(super) async fn freeze(ctx: &mut RunContext) -> Result<(), Stop> {
    match ctx.inputs.clone() {
        None => read(ctx).await?,
        // Read by an earlier task; what may be done is decided anew.
        Some(inputs) if ctx.task.options.is_retry => {
            let inputs = {
                let (ctx, inputs) = (&*ctx, &inputs);
                ctx.patiently(BEFORE_WORK, |_| async move { as_of_now(ctx, inputs.clone()).await }).await?
            };
            store(ctx, inputs).await?;
        }
        Some(_) => {}
    }
    Ok(())
}

/// The same inputs, with what the repository wants now, and what was remarked on since.
async fn as_of_now(ctx: &RunContext, inputs: Inputs) -> Result<Inputs, CallError> {
    let place = ctx.place();
    let terms = ctx.app.policy_of(&place).await?.policy.terms();
    let mut ledger = inputs.ledger;
    if let Some(pull) = &inputs.pull {
        only_writers_on_forks(ctx, pull.fork.is_some()).await?;
        let found = ctx.app.github.pull(&place, ctx.task.thread.issue.0).await?;
        if !found.is_open {
            return Err(Failure::PullClosed.into());
        }
        ledger = super::review_ledger::ledger(ctx, &PullInfo { head_sha: inputs.base_sha.clone(), ..found }).await?;
    }
    Ok(Inputs { terms, ledger, ..inputs })
}

async fn store(ctx: &mut RunContext, inputs: Inputs) -> Result<(), Stop> {
    {
        let (ctx, inputs) = (&*ctx, &inputs);
        ctx.patiently(BEFORE_WORK, |_| async move { Ok(ctx.app.store.store_inputs(&ctx.lease, inputs).await?) })
            .await?;
    }
    ctx.inputs = Some(inputs);
    Ok(())
}

async fn read(ctx: &mut RunContext) -> Result<(), Stop> {
    let (inputs, fault) = {
        let ctx = &*ctx;
        ctx.patiently(BEFORE_WORK, |_| async move {
            let (place, github) = (ctx.place(), &ctx.app.github);
            let repository = github.repository(&place).await?;
            let holding = ctx.app.policy_of(&place).await?;
            let terms = holding.policy.terms();
            let Start { base_branch, base_sha, follows, pull, talks, ledger } =
                start(ctx, holding.policy.base.unwrap_or(repository.default_branch)).await?;
            let bot = ctx.app.bot_login().await?;
            let task = &ctx.task;
            let comments =
                github.earlier_comments(&place, task.thread.issue, task.triggered_at, task.subject, &bot).await?;
            // As it was when the command was given: the delivery says so, GitHub no longer does.
            let opening = ctx.app.opening(&task.delivery).await?.unwrap_or_default();
            let thread = ThreadText { title: opening.title, body: opening.body, comments, talks };
            let frozen = Inputs::freeze(redacted(ctx, thread));
            let (surroundings, hidden) = match &pull {
                Some(_) => redacted_around(ctx, around(ctx, &base_sha).await?).freeze(),
                None => (Surroundings::default(), 0),
            };
            let hidden_removed = frozen.hidden_removed + hidden;
            let is_private = !repository.is_public;
            let frozen = Inputs { surroundings, hidden_removed, ..frozen };
            let attachments = attachments(&frozen.texts(), github.web_url());
            let inputs =
                Inputs { base_branch, base_sha, is_private, follows, pull, ledger, terms, attachments, ..frozen };
            Ok((inputs, holding.fault))
        })
        .await?
    };
    if let Some(fault) = fault {
        let first = fault.lines().next().unwrap_or_default();
        ctx.run
            .facts
            .note(format!("{POLICY_FILE} cannot be read ({first}), so the last good one holds, if there was one."));
    }
    store(ctx, inputs).await
}

fn redacted_around(ctx: &RunContext, found: Surroundings) -> Surroundings {
    let issue = |issue: LinkedIssue| LinkedIssue {
        title: ctx.redacted(&issue.title),
        body: Quoted { text: ctx.redacted(&issue.body.text), ..issue.body },
        ..issue
    };
    let check = |check: FailedCheck| FailedCheck { name: ctx.redacted(&check.name), text: ctx.redacted(&check.text) };
    Surroundings {
        issues: found.issues.into_iter().map(issue).collect(),
        checks: found.checks.into_iter().map(check).collect(),
    }
}

/// Somebody may have pasted one of our secrets into the thread.
fn redacted(ctx: &RunContext, thread: ThreadText) -> ThreadText {
    let quoted = |quoted: Quoted| Quoted { text: ctx.redacted(&quoted.text), ..quoted };
    let talk = |talk: ReviewTalk| ReviewTalk {
        hunk: ctx.redacted(&talk.hunk),
        said: talk.said.into_iter().map(quoted).collect(),
        ..talk
    };
    ThreadText {
        title: ctx.redacted(&thread.title),
        body: quoted(thread.body),
        comments: thread.comments.into_iter().map(quoted).collect(),
        talks: thread.talks.into_iter().map(talk).collect(),
    }
}
