//! Commands that make tasks: new work, and what goes on with or repeats earlier work.

use super::plan::Plan;
use super::{Case, Hindrance, place};
use crate::adapters::store::PendingDelivery;
use crate::app::App;
use crate::app::from_page::RetryAsked;
use crate::domain::agent::Agent;
use crate::domain::command::{Command, Options, Verb};
use crate::domain::decision::DecisionCode;
use crate::domain::delivery::Writing;
use crate::domain::failure::no_key;
use crate::domain::ids::TaskId;
use crate::domain::key::ChosenKey;
use crate::domain::permission::Permission;
use crate::domain::reply;
use crate::domain::task::{NewTask, Task};

/// What `continue` asks for where it says nothing more.
const GO_ON: &str = "Go on where you left off, and finish what was asked for.";
/// Tasks of the thread among which `retry` and `continue` look for theirs.
const LOOK_BACK: i64 = 20;

/// What sets one task of a comment apart from another.
struct Wanted {
    agent: String,
    options: Options,
    request: String,
    inputs_of: Option<TaskId>,
}

/// Whether all that is spent passes the gateway.
fn is_metered(keys: &[ChosenKey]) -> bool {
    !keys.is_empty() && keys.iter().all(|key| key.provider.has_gateway())
}

/// Two agents in one command are two tasks on two branches.
fn branch_for(command: &Command, agent: &str) -> Option<String> {
    let branch = command.options.branch.as_ref()?;
    Some(if command.agents.len() > 1 { format!("{branch}-{agent}") } else { branch.clone() })
}

/// What a command leaves open, as the repository wants it, then as its writer does.
fn completed(case: &Case<'_>, options: Options, agent: &Agent) -> Options {
    let asked_max = options.max_cents;
    let by_policy = case.holding.policy.complete(options, &agent.name);
    let options = case.preferences.complete(by_policy, &agent.name);
    // What spends nothing needs no ceiling.
    let max_cents = if agent.access.is_empty() { asked_max } else { options.max_cents };
    Options { max_cents, ..options }
}

/// Why these options do not go with what is asked for there.
fn misfit(case: &Case<'_>, options: &Options, is_review: bool) -> Option<String> {
    match (is_review, case.thread.is_pull) {
        (true, false) => Some(reply::review_is_of_pulls()),
        (true, true) if !options.are_of_a_review() => Some(reply::review_takes_less()),
        (false, _) if options.full => Some(reply::full_is_for_reviews()),
        (_, true) if options.branch.is_some() || options.base.is_some() => Some(reply::branch_is_the_pulls()),
        _ => None,
    }
}

/// The same once more, within the limits of now.
fn again(case: &Case<'_>, last: &Task) -> Wanted {
    Wanted {
        agent: last.agent.clone(),
        // The branch of that name is there already.
        options: case.holding.policy.limit(Options { branch: None, is_retry: true, ..last.options.clone() }),
        request: last.request.clone(),
        inputs_of: Some(last.id.clone()),
    }
}

impl App {
    pub(super) async fn plan_work(
        &self,
        case: &Case<'_>,
        plan: &mut Plan,
        key: &str,
        ordinal: usize,
        command: Command,
    ) -> Result<(), Hindrance> {
        let is_review = command.verb == Verb::Review;
        if let Some(markdown) = misfit(case, &command.options, is_review) {
            plan.refusals.push(DecisionCode::BadOption);
            plan.replies.push(self.reply(case, key, markdown));
            return Ok(());
        }
        let agents = match command.agents.is_empty() {
            true => vec![self.default_agent_of(case)],
            false => command.agents.clone(),
        };
        for name in agents {
            let key = format!("{key}-{name}");
            let Some(agent) = self.settings.agent(&name) else {
                plan.refusals.push(DecisionCode::UnknownAgent);
                plan.replies.push(self.reply(case, &key, reply::agent_unavailable(&name)));
                continue;
            };
            let options = Options { branch: branch_for(&command, &name), ..command.options.clone() };
            let options = Options { is_review, ..options };
            let options = completed(case, options, agent);
            if let Some((code, markdown)) = self.why_not(case, agent, &options).await? {
                plan.refusals.push(code);
                plan.replies.push(self.reply(case, &key, markdown));
                continue;
            }
            let wanted =
                Wanted { options, agent: name, request: self.redactor.redact(&command.request), inputs_of: None };
            plan.tasks.push(self.new_task(case, ordinal, wanted));
        }
        Ok(())
    }

    fn new_task(&self, case: &Case<'_>, ordinal: usize, wanted: Wanted) -> NewTask {
        let origin = case.pending.meaning.clone().unwrap_or_else(|| case.pending.id.0.clone());
        NewTask {
            id: TaskId(self.clock.new_id()),
            delivery: case.pending.id.clone(),
            meaning: format!("{origin}:{ordinal}:{}", wanted.agent),
            thread: case.thread.clone(),
            subject: case.writing.subject,
            triggered_at: case.writing.written_at,
            requester: case.sender.clone(),
            options: wanted.options,
            agent: wanted.agent,
            request: wanted.request,
            inputs_of: wanted.inputs_of,
        }
    }

    /// `retry` and `continue`: about the last finished task of the thread, or of the agents named.
    pub(super) async fn plan_again(
        &self,
        case: &Case<'_>,
        plan: &mut Plan,
        key: &str,
        ordinal: usize,
        command: Command,
    ) -> Result<(), Hindrance> {
        if command.verb == Verb::Retry && (command.options != Options::default() || !command.request.trim().is_empty())
        {
            plan.refusals.push(DecisionCode::BadOption);
            plan.replies.push(self.reply(case, key, reply::retry_is_as_it_was()));
            return Ok(());
        }
        let tasks = self.store.tasks_of_thread(case.thread.repository, case.thread.issue, LOOK_BACK).await?;
        let finished = || tasks.iter().filter(|task| task.state.is_finished());
        let meant: Vec<&Task> = match command.agents.is_empty() {
            true => finished().take(1).collect(),
            false => command.agents.iter().filter_map(|name| finished().find(|task| task.agent == *name)).collect(),
        };
        if meant.is_empty() {
            plan.answered = true;
            plan.replies.push(self.reply(case, key, reply::nothing_before()));
        }
        for last in meant {
            let key = format!("{key}-{}", last.agent);
            let Some(agent) = self.settings.agent(&last.agent) else {
                plan.refusals.push(DecisionCode::UnknownAgent);
                plan.replies.push(self.reply(case, &key, reply::agent_unavailable(&last.agent)));
                continue;
            };
            if let Some(markdown) = misfit(case, &command.options, last.options.is_review) {
                plan.refusals.push(DecisionCode::BadOption);
                plan.replies.push(self.reply(case, &key, markdown));
                continue;
            }
            let wanted = self.wanted_again(case, &command, last, agent);
            match self.why_not(case, agent, &wanted.options).await? {
                Some((code, markdown)) => {
                    plan.refusals.push(code);
                    plan.replies.push(self.reply(case, &key, markdown));
                }
                None => plan.tasks.push(self.new_task(case, ordinal, wanted)),
            }
        }
        Ok(())
    }

    /// Decides what a person asked for on the page of a task.
    pub(super) async fn decide_retry(&self, pending: &PendingDelivery) -> Result<(), Hindrance> {
        let asked: Option<RetryAsked> = serde_json::from_slice(&pending.body).ok();
        let task = match &asked {
            Some(asked) => self.store.task(&asked.task).await?,
            None => None,
        };
        let (Some(asked), Some(task)) = (asked, task) else {
            return self.record(pending, DecisionCode::EventNotUsed, serde_json::Value::Null, &[]).await;
        };
        let writing = Writing {
            subject: task.subject,
            text: String::new(),
            written_at: self.github.in_its_time(pending.received_at),
            author: asked.by.id.0,
            via_app: None,
        };
        let account = &task.thread.name.owner;
        if let Some(code) = self.refusal_by_account(account, Some(task.thread.installation)).await? {
            return self.record(pending, code, serde_json::json!({ "account": account }), &[]).await;
        }
        let case = self.case((pending, &task.thread, &asked.by), &writing, account).await?;
        let permission = self.permission_to_retry(&case).await?;
        if permission < case.holding.policy.who() {
            return self.turn_away(&case, permission, true).await;
        }
        if !task.state.is_finished() {
            return self.record(pending, DecisionCode::Duplicate, serde_json::Value::Null, &[]).await;
        }
        let mut plan = Plan::default();
        if self.store.inputs(&task.id).await?.is_none() && self.opening(&task.delivery).await?.is_none() {
            plan.refusals.push(DecisionCode::BadOption);
            plan.replies.push(self.reply(&case, "retry", reply::text_is_forgotten()));
            return self.carry_out(&case, plan).await;
        }
        let wanted = again(&case, &task);
        match self.settings.agent(&task.agent) {
            None => {
                plan.refusals.push(DecisionCode::UnknownAgent);
                plan.replies.push(self.reply(&case, "retry", reply::agent_unavailable(&task.agent)));
            }
            Some(agent) => match self.why_not(&case, agent, &wanted.options).await? {
                Some((code, markdown)) => {
                    plan.refusals.push(code);
                    plan.replies.push(self.reply(&case, "retry", markdown));
                }
                None => plan.tasks.push(self.new_task(&case, 0, wanted)),
            },
        }
        self.carry_out(&case, plan).await
    }

    async fn permission_to_retry(&self, case: &Case<'_>) -> Result<Permission, Hindrance> {
        let asked = self.github.permission_of(&place(case.thread), &case.sender.login, case.sender.id).await;
        self.settled_permission(case, asked)
    }

    fn wanted_again(&self, case: &Case<'_>, command: &Command, last: &Task, agent: &Agent) -> Wanted {
        match command.verb {
            Verb::Retry => again(case, last),
            _ => {
                let is_review = last.options.is_review;
                let branch = branch_for(command, &last.agent);
                let options = Options { branch, is_review, ..command.options.clone() };
                Wanted {
                    agent: last.agent.clone(),
                    request: match command.request.trim() {
                        "" if is_review => last.request.clone(),
                        "" => GO_ON.to_owned(),
                        request => self.redactor.redact(request),
                    },
                    options: completed(case, options, agent),
                    inputs_of: None,
                }
            }
        }
    }

    /// What keeps an agent from doing what is asked, before anything is started.
    async fn why_not(
        &self,
        case: &Case<'_>,
        agent: &Agent,
        options: &Options,
    ) -> Result<Option<(DecisionCode, String)>, Hindrance> {
        let policy = &case.holding.policy;
        if !policy.allows(&agent.name) {
            let allowed = policy.agents.as_deref().unwrap_or_default();
            return Ok(Some((DecisionCode::PolicyForbids, reply::agent_not_allowed(&agent.name, allowed))));
        }
        if let Some(Err(fault)) = options.model.as_deref().map(|model| agent.check_model(model)) {
            return Ok(Some((DecisionCode::BadOption, reply::bad_model(&fault))));
        }
        let payer = case.payer();
        if let Some(name) = self.connectors_for(options, payer).await?.missing.first() {
            return Ok(Some((DecisionCode::BadOption, reply::no_connector(name))));
        }
        let model = options.model.clone().or_else(|| self.settings.default_model(agent, None));
        if let Some(reviewer) = &options.review_by {
            if options.no_pr {
                return Ok(Some((DecisionCode::BadOption, reply::nothing_to_review())));
            }
            if !case.holding.policy.allows(reviewer) {
                let markdown =
                    reply::agent_not_allowed(reviewer, case.holding.policy.agents.as_deref().unwrap_or_default());
                return Ok(Some((DecisionCode::PolicyForbids, markdown)));
            }
            let Some(reviewer) = self.settings.agent(reviewer) else {
                return Ok(Some((DecisionCode::UnknownAgent, reply::agent_unavailable(reviewer))));
            };
            let model = self.settings.default_model(reviewer, None);
            match self.choose_keys(reviewer, model.as_deref(), payer).await? {
                Err(missing) => {
                    let why = no_key(&reviewer.name, &missing, &self.keys_url());
                    return Ok(Some((DecisionCode::NoKey, reply::no_key(&why))));
                }
                Ok(keys) if options.max_cents.is_some() && !is_metered(&keys) => {
                    return Ok(Some((DecisionCode::BadOption, reply::max_unavailable(&reviewer.name))));
                }
                Ok(_) => {}
            }
        }
        Ok(match self.choose_keys(agent, model.as_deref(), payer).await? {
            Err(missing) => {
                let why = no_key(&agent.name, &missing, &self.keys_url());
                Some((DecisionCode::NoKey, reply::no_key(&why)))
            }
            Ok(keys) => (options.max_cents.is_some() && !is_metered(&keys))
                .then(|| (DecisionCode::BadOption, reply::max_unavailable(&agent.name))),
        })
    }
}
