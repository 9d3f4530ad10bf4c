//! Last step: the task gets its outcome, and what tells it is promised in the same transaction.

use std::sync::Arc;

use super::RunContext;
use super::patience::Stop;
use super::project::keep;
use crate::adapters::store::StoreError;
use crate::domain::comment::in_talk;
use crate::domain::effect::{Effect, Reaction};
use crate::domain::failure::Failure;
use crate::domain::prompt::Said;
use crate::domain::run::Ending;
use crate::domain::task::{Outcome, Task};

/// Tries to note what was said.
const MESSAGE_TRIES: u32 = 3;

pub(super) async fn settle(ctx: &mut RunContext) -> Result<(), Stop> {
    keep(ctx).await?;
    let ending = ctx.run.facts.ending.clone().unwrap_or_else(|| Failure::Internal.ending());
    let mut effects = effects_of_end(&ctx.task, &ending);
    effects.extend(replies(ctx, &ending));
    note_messages(ctx, &ending).await;
    {
        let (ctx, ending, effects) = (&*ctx, &ending, &effects);
        ctx.patiently_in_store(|_| async move {
            let settled = ctx.app.store.settle(&ctx.lease, ending, effects, ctx.app.clock.now());
            Ok(ctx.app.in_time(settled).await?)
        })
        .await?;
    }
    ctx.app.tell_end(&ctx.task, Some(&ctx.run), &ending);
    if let Some(sandbox) = ctx.run.sandbox().filter(|_| ctx.run.facts.kept.is_none()) {
        // On its own: the lease is over with the task, and this can take a while.
        let app = Arc::clone(&ctx.app);
        ctx.app.unawaited.spawn(async move { app.end_sandbox(&sandbox).await });
    }
    Ok(())
}

/// What tells the end of a task that was begun.
pub(crate) fn effects_of_end(task: &Task, ending: &Ending) -> Vec<Effect> {
    let (thread, id) = (|| task.thread.clone(), || task.id.clone());
    let reaction = Reaction::of(ending.outcome);
    let mut effects = vec![
        Effect::FinalStatus { thread: thread(), task: id() },
        Effect::SwapReaction { thread: thread(), subject: task.subject, reaction, delivery: task.delivery.clone() },
    ];
    if task.thread.is_pull {
        effects.push(Effect::Check { thread: thread(), task: id(), is_end: true });
    }
    let is_answered = matches!(ending.outcome, Outcome::Succeeded | Outcome::NoChanges);
    if let Some(request) = task.options.review_request.as_ref().filter(|_| is_answered) {
        let reviewer = request.reviewer.clone();
        effects.push(Effect::EndReviewRequest { thread: thread(), reviewer, task: id() });
    }
    effects
}

/// In each conversation of the review that the task was given in: what became of it, in one line.
fn replies(ctx: &RunContext, ending: &Ending) -> Vec<Effect> {
    let asked = ctx.inputs.iter().flat_map(|inputs| &inputs.talks).filter(|talk| talk.is_asked_in);
    let markdown = in_talk(&ctx.task, &ctx.run.facts, ending, &ctx.app.task_url(&ctx.task.id));
    asked
        .map(|talk| Effect::ReplyInTalk {
            thread: ctx.task.thread.clone(),
            first: talk.first,
            key: format!("talk:{}:{}", ctx.task.id, talk.first),
            markdown: markdown.clone(),
        })
        .collect()
}

/// Both sides of the task, for those that follow. The requester's is noted with the agent's: nobody
/// follows a task before it is over. A courtesy: the end does not wait for it for long.
async fn note_messages(ctx: &RunContext, ending: &Ending) {
    let person = Said { name: ctx.task.requester.login.clone(), is_agent: false, text: ctx.task.request.clone() };
    let answer = ctx.run.facts.agent_text.clone().filter(|text| !text.trim().is_empty());
    let text = answer.unwrap_or_else(|| ending.reason.clone());
    let agent = Said { name: ctx.task.agent.clone(), is_agent: true, text };
    for tries in 0..MESSAGE_TRIES {
        match store_messages(ctx, &person, &agent).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "what was said was not noted");
                tokio::time::sleep(super::retry_wait(tries, &*ctx.app.clock)).await;
            }
        }
    }
}

async fn store_messages(ctx: &RunContext, person: &Said, agent: &Said) -> Result<(), StoreError> {
    let (store, now, task) = (&ctx.app.store, ctx.app.clock.now(), &ctx.task.id);
    let status = store.comment(task).await?;
    store.store_message(task, person, ctx.task.subject.comment(), now).await?;
    store.store_message(task, agent, status, now).await
}
