//! From the commands of a comment to tasks and answers.

use super::{Case, Hindrance};
use crate::app::App;
use crate::app::keys::Payer;
use crate::domain::agent::Agent;
use crate::domain::command::{Command, CommandError, CommandErrorKind, Options, Verb};
use crate::domain::decision::DecisionCode;
use crate::domain::effect::{Effect, Reaction};
use crate::domain::failure::no_key;
use crate::domain::ids::TaskId;
use crate::domain::reply;
use crate::domain::task::NewTask;

/// What a comment comes to.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub tasks: Vec<NewTask>,
    replies: Vec<Effect>,
    /// Codes of commands that start nothing, in order.
    refusals: Vec<DecisionCode>,
    /// A verb was answered or carried out.
    answered: bool,
    stopped: bool,
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
        let reaction = match (self.tasks.is_empty(), self.stopped, self.refusals.is_empty()) {
            (false, ..) => Some(Reaction::Eyes),
            (true, true, _) => Some(Reaction::ThumbsUp),
            (true, false, false) => Some(Reaction::Confused),
            (true, false, true) => None,
        };
        let react = |reaction| Effect::React { thread: case.thread.clone(), subject: case.writing.subject, reaction };
        reaction.map(react).into_iter().chain(self.replies.iter().cloned()).collect()
    }
}

/// Two agents in one command are two tasks on two branches.
fn branch_for(command: &Command, agent: &str) -> Option<String> {
    let branch = command.options.branch.as_ref()?;
    Some(if command.agents.len() > 1 { format!("{branch}-{agent}") } else { branch.clone() })
}

impl App {
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
                Ok(command) if !command.verb.is_available() => {
                    let name =
                        Verb::WRITTEN.iter().find(|(_, verb)| *verb == command.verb).map_or("", |(name, _)| name);
                    plan.refusals.push(DecisionCode::PolicyForbids);
                    plan.replies.push(self.reply(case, &key, reply::verb_unavailable(name)));
                }
                Ok(command) if command.verb == Verb::Work => {
                    self.plan_work(case, &mut plan, &key, ordinal, command).await?;
                }
                Ok(command) => self.answer(case, &mut plan, &key, handle, command.verb).await?,
            }
        }
        Ok(plan)
    }

    async fn plan_work(
        &self,
        case: &Case<'_>,
        plan: &mut Plan,
        key: &str,
        ordinal: usize,
        command: Command,
    ) -> Result<(), Hindrance> {
        if case.thread.is_pull {
            plan.refusals.push(DecisionCode::PolicyForbids);
            plan.replies.push(self.reply(case, key, reply::pull_unavailable()));
            return Ok(());
        }
        let agents = match command.agents.is_empty() {
            true => vec![self.settings.default_agent.clone()],
            false => command.agents.clone(),
        };
        for name in agents {
            let key = format!("{key}-{name}");
            let Some(agent) = self.settings.agent(&name) else {
                plan.refusals.push(DecisionCode::UnknownAgent);
                plan.replies.push(self.reply(case, &key, reply::agent_unavailable(&name)));
                continue;
            };
            if let Some((code, markdown)) = self.why_not(case, agent, &command.options).await? {
                plan.refusals.push(code);
                plan.replies.push(self.reply(case, &key, markdown));
                continue;
            }
            let origin = case.pending.meaning.clone().unwrap_or_else(|| case.pending.id.0.clone());
            plan.tasks.push(NewTask {
                id: TaskId(self.clock.new_id()),
                delivery: case.pending.id.clone(),
                meaning: format!("{origin}:{ordinal}:{name}"),
                thread: case.thread.clone(),
                subject: case.writing.subject,
                triggered_at: case.writing.written_at,
                requester: case.sender.clone(),
                options: Options { branch: branch_for(&command, &name), ..command.options.clone() },
                agent: name,
                request: self.redactor.redact(&command.request),
            });
        }
        Ok(())
    }

    /// What keeps an agent from doing what is asked, before anything is started.
    async fn why_not(
        &self,
        case: &Case<'_>,
        agent: &Agent,
        options: &Options,
    ) -> Result<Option<(DecisionCode, String)>, Hindrance> {
        if let Some(Err(fault)) = options.model.as_deref().map(|model| agent.check_model(model)) {
            return Ok(Some((DecisionCode::BadOption, reply::bad_model(&fault))));
        }
        let payer = Payer { requester: case.sender.id, installation: case.thread.installation, account: case.account };
        let model = options.model.clone().or_else(|| self.settings.default_model(agent, None));
        Ok(match self.choose_keys(agent, model.as_deref(), payer).await? {
            Err(missing) => {
                let why = no_key(&agent.name, &missing, &self.keys_url());
                Some((DecisionCode::NoKey, reply::no_key(&why)))
            }
            Ok(keys) => {
                let is_metered = !keys.is_empty() && keys.iter().all(|key| key.provider.has_gateway());
                (options.max_cents.is_some() && !is_metered)
                    .then(|| (DecisionCode::BadOption, reply::max_unavailable(&agent.name)))
            }
        })
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
            Verb::Work | Verb::Review | Verb::Retry | Verb::Continue | Verb::Config => None,
        };
        plan.answered = true;
        plan.replies.extend(markdown.map(|markdown| self.reply(case, key, markdown)));
        Ok(())
    }
}
