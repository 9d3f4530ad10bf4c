//! From the commands of a comment to tasks and answers.

use std::time::Duration;

use super::{Case, Hindrance, place};
use crate::app::App;
use crate::domain::command::{Command, CommandError, CommandErrorKind, Verb};
use crate::domain::decision::DecisionCode;
use crate::domain::effect::{Effect, Reaction};
use crate::domain::reply;
use crate::domain::task::NewTask;

/// A command that is decided within this time is about what its writer saw.
const PROMPT: Duration = Duration::from_secs(300);

/// What a comment comes to.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub tasks: Vec<NewTask>,
    pub(super) replies: Vec<Effect>,
    /// Codes of commands that start nothing, in order.
    pub(super) refusals: Vec<DecisionCode>,
    /// A verb was answered or carried out.
    pub(super) answered: bool,
    pub(super) stopped: bool,
    /// Nobody asked in so many words: nobody is told when nothing comes of it.
    pub(super) is_quiet: bool,
}

impl Plan {
    /// One code for the whole comment: accepted if anything of it was.
    pub(super) fn code(&self) -> DecisionCode {
        if !self.tasks.is_empty() || self.answered {
            return DecisionCode::Accepted;
        }
        self.refusals.first().copied().unwrap_or(DecisionCode::NoCommand)
    }

    pub(super) fn facts(&self) -> serde_json::Value {
        serde_json::json!({
            "tasks": self.tasks.iter().map(|task| &task.id.0).collect::<Vec<_>>(),
            "refused": self.refusals.iter().map(|code| code.name()).collect::<Vec<_>>(),
            "permission": "write",
        })
    }

    pub(super) fn effects(&self, case: &Case<'_>) -> Vec<Effect> {
        if self.is_quiet && self.tasks.is_empty() {
            return Vec::new();
        }
        let reaction = match (self.tasks.is_empty(), self.stopped, self.refusals.is_empty()) {
            (false, ..) => Some(Reaction::Eyes),
            (true, true, _) => Some(Reaction::ThumbsUp),
            (true, false, false) => Some(Reaction::Confused),
            (true, false, true) => None,
        };
        let react = |reaction| case.react(reaction);
        let tasks = self.tasks.iter().filter(|task| task.thread.is_pull);
        let check =
            |task: &NewTask| Effect::Check { thread: case.thread.clone(), task: task.id.clone(), is_end: false };
        reaction.map(react).into_iter().chain(self.replies.iter().cloned()).chain(tasks.map(check)).collect()
    }
}

impl App {
    /// A task on a pull request is for the head that was there when it was asked for (threat T05).
    pub(super) async fn fix_head(&self, case: &Case<'_>, plan: &mut Plan) -> Result<(), Hindrance> {
        if !case.thread.is_pull || plan.tasks.is_empty() {
            return Ok(());
        }
        let head = match &case.head {
            Some(head) => Some(head.clone()),
            None => match self.github.pull(&place(case.thread), case.thread.issue.0).await {
                // Of a fork, what came late may be about another commit than the one that is there by now.
                Ok(found) => Some(found.head_sha)
                    .filter(|_| found.fork.is_none() || self.github.now().since(case.writing.written_at) < PROMPT),
                Err(error) if error.is_passing() => return Err(error.into()),
                // The task itself says what is wrong.
                Err(_) => None,
            },
        };
        for task in &mut plan.tasks {
            task.options.head.clone_from(&head);
        }
        Ok(())
    }

    pub(super) async fn plan(
        &self,
        case: &Case<'_>,
        handle: &str,
        commands: Vec<Result<Command, CommandError>>,
    ) -> Result<Plan, Hindrance> {
        let mut plan = Plan::default();
        for (ordinal, command) in commands.into_iter().enumerate() {
            let key = format!("command-{ordinal}");
            match command {
                Err(error) => {
                    plan.refusals.push(match error.kind {
                        CommandErrorKind::UnknownAgent => DecisionCode::UnknownAgent,
                        CommandErrorKind::BadOption => DecisionCode::BadOption,
                    });
                    plan.replies.push(self.reply(case, &key, reply::command_error(&error)));
                }
                Ok(command) if matches!(command.verb, Verb::Work | Verb::Review) => {
                    self.plan_work(case, &mut plan, &key, ordinal, command).await?;
                }
                Ok(command) if matches!(command.verb, Verb::Retry | Verb::Continue) => {
                    self.plan_again(case, &mut plan, &key, ordinal, command).await?;
                }
                Ok(command) => self.answer(case, &mut plan, &key, handle, command.verb).await?,
            }
        }
        Ok(plan)
    }

    async fn answer(
        &self,
        case: &Case<'_>,
        plan: &mut Plan,
        key: &str,
        handle: &str,
        verb: Verb,
    ) -> Result<(), Hindrance> {
        let markdown = match verb {
            Verb::Help => Some(reply::help(handle)),
            Verb::Agents => Some(self.agents_answer(case).await?),
            Verb::Status => Some(self.status_answer(case).await?),
            Verb::Why => Some(self.why_answer(case).await?),
            Verb::Cancel => {
                let cancelled = self.cancel(case).await?;
                plan.stopped |= cancelled.tasks > 0;
                match (cancelled.tasks, cancelled.kept) {
                    (0, 0) => Some(reply::nothing_to_cancel()),
                    (0, _) => Some(reply::kept_stopped()),
                    _ => None,
                }
            }
            Verb::Config => Some(self.config_answer(case)),
            Verb::Work | Verb::Review | Verb::Retry | Verb::Continue => None,
        };
        plan.answered = true;
        plan.replies.extend(markdown.map(|markdown| self.reply(case, key, markdown)));
        Ok(())
    }
}
