//! Second step: what the agent is told is read once, as of the trigger, and stored (design D6).

use super::RunContext;
use super::patience::{BEFORE_WORK, Stop};
use super::start::{Start, start};
use super::surroundings::around;
use crate::domain::attachment::attachments;
use crate::domain::policy::POLICY_FILE;
use crate::domain::prompt::{Inputs, Quoted, ThreadText};
use crate::domain::pull::ReviewTalk;
use crate::domain::surroundings::{FailedCheck, LinkedIssue, Surroundings};

pub(super) async fn freeze(ctx: &mut RunContext) -> Result<(), Stop> {
    if ctx.inputs.is_some() {
        return Ok(());
    }
    let (inputs, fault) = {
        let ctx = &*ctx;
        ctx.patiently(BEFORE_WORK, |_| async move {
            let (place, github) = (ctx.place(), &ctx.app.github);
            let repository = github.repository(&place).await?;
            let holding = ctx.app.policy_of(&place).await?;
            let terms = holding.policy.terms();
            let Start { base_branch, base_sha, follows, pull, talks, ledger } =
                start(ctx, repository.default_branch).await?;
            let bot = ctx.app.bot_login().await?;
            let task = &ctx.task;
            let comments =
                github.earlier_comments(&place, task.thread.issue, task.triggered_at, task.subject, &bot).await?;
            // As it was when the command was given: the delivery says so, GitHub no longer does.
            let opening = ctx.app.opening(&task.delivery).await?;
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
        ctx.run.facts.notes.push(format!("{POLICY_FILE} cannot be read ({first}), so the last good one holds."));
    }
    {
        let (ctx, inputs) = (&*ctx, &inputs);
        ctx.patiently(BEFORE_WORK, |_| async move { Ok(ctx.app.store.store_inputs(&ctx.lease, inputs).await?) })
            .await?;
    }
    ctx.inputs = Some(inputs);
    Ok(())
}

fn redacted_around(ctx: &RunContext, found: Surroundings) -> Surroundings {
    let issue = |issue: LinkedIssue| LinkedIssue {
        title: ctx.redacted(&issue.title),
        body: Quoted { text: ctx.redacted(&issue.body.text), ..issue.body },
        ..issue
    };
    let check = |check: FailedCheck| FailedCheck { text: ctx.redacted(&check.text), ..check };
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
