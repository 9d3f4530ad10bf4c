//! What is asked for without a comment: by labels, by requests for a review, by what happens to the thread.

use super::plan::Plan;
use super::{Case, Hindrance};
use crate::adapters::store::{Asked, PendingDelivery};
use crate::app::App;
use crate::domain::ask::{Ask, Moment, PullNow, ReviewRequest, Reviewer};
use crate::domain::command::{Command, Options, Verb, agent_name};
use crate::domain::decision::DecisionCode;
use crate::domain::delivery::{Notice, Writing};
use crate::domain::effect::Effect;
use crate::domain::ids::Millis;
use crate::domain::policy::POLICY_FILE;
use crate::domain::task::{Subject, Task, TaskState, Thread};

use super::answers::cancelled_in_queue;

/// Tasks of the thread that are looked at.
const LOOK_BACK: i64 = 50;

/// The command that a label stands for.
fn command_of_label(name: Option<&str>) -> Command {
    let verb = if name == Some("review") { Verb::Review } else { Verb::Work };
    let agents = name.filter(|_| verb == Verb::Work).map(agent_name);
    Command { agents: agents.into_iter().collect(), verb, options: Options::default(), request: String::new() }
}

impl App {
    pub(super) async fn decide_ask(
        &self,
        pending: &PendingDelivery,
        notice: &Notice,
        ask: &Ask,
    ) -> Result<(), Hindrance> {
        let (Some(thread), Some(sender)) = (&notice.thread, &notice.sender) else {
            return self.record(pending, DecisionCode::EventNotUsed, serde_json::Value::Null, &[]).await;
        };
        let (subject, text) = (Subject::Issue, String::new());
        let writing = Writing { subject, text, written_at: notice.asked_at, author: sender.id.0, via_app: None };
        if *ask == Ask::Closed {
            return self.close(pending, thread, &sender.login, notice.asked_at).await;
        }
        let case = self.case((pending, thread, sender), &writing, &notice.account).await?;
        let pull = notice.pull.clone().unwrap_or_default();
        let case = Case { head: Some(pull.head.clone()).filter(|head| !head.is_empty()), ..case };
        match ask {
            Ask::Closed => Ok(()),
            Ask::Label(name) => self.decide_label(&case, name.as_deref()).await,
            Ask::Review(reviewer) => self.decide_review_request(&case, reviewer, &pull).await,
            Ask::NoReview(reviewer) => self.withdraw(&case, reviewer).await,
            Ask::Moment(moment) => self.decide_moment(&case, *moment, &pull).await,
        }
    }

    async fn decide_label(&self, case: &Case<'_>, name: Option<&str>) -> Result<(), Hindrance> {
        let permission = self.permission_of(case).await?;
        if permission < case.holding.policy.who() {
            return self.turn_away(case, permission, true).await;
        }
        let mut plan = Plan::default();
        self.plan_work(case, &mut plan, "label", 0, command_of_label(name)).await?;
        self.carry_out(case, plan).await
    }

    async fn decide_review_request(
        &self,
        case: &Case<'_>,
        reviewer: &Reviewer,
        pull: &PullNow,
    ) -> Result<(), Hindrance> {
        let policy = &case.holding.policy;
        if !policy.is_asked_as(reviewer, &self.settings.review_aliases) {
            let facts = serde_json::json!({ "asked": reviewer.name });
            return self.record(case.pending, DecisionCode::NotForUs, facts, &[]).await;
        }
        if pull.is_draft && !policy.review.drafts {
            let facts = serde_json::json!({ "why": "a draft: it waits until it is ready" });
            return self.record(case.pending, DecisionCode::PolicyForbids, facts, &[]).await;
        }
        let permission = self.permission_of(case).await?;
        if permission < policy.who() {
            return self.turn_away(case, permission, true).await;
        }
        self.review(case, Some(reviewer), pull).await
    }

    /// The same click comes under several ids.
    async fn review(&self, case: &Case<'_>, reviewer: Option<&Reviewer>, pull: &PullNow) -> Result<(), Hindrance> {
        // One that is being stopped answers nothing any more.
        let is_wanted = |task: &Task| !task.state.is_finished() && task.cancelled_by.is_none();
        let request = reviewer.map(|reviewer| ReviewRequest { reviewer: reviewer.clone(), head: pull.head.clone() });
        if let Some(request) = &request
            && self
                .tasks_asked_as(case.thread, &request.reviewer)
                .await?
                .iter()
                .any(|task| is_wanted(task) && task.options.review_request.as_ref() == Some(request))
        {
            return self.record(case.pending, DecisionCode::Duplicate, serde_json::Value::Null, &[]).await;
        }
        let options = Options { review_request: request, ..Options::default() };
        let agents = case.holding.policy.review.agent.clone();
        let (agents, request) = (agents.into_iter().collect(), String::new());
        let mut plan = Plan { is_quiet: reviewer.is_none(), ..Plan::default() };
        self.plan_work(case, &mut plan, "review", 0, Command { agents, verb: Verb::Review, options, request }).await?;
        self.carry_out(case, plan).await
    }

    async fn tasks_asked_as(&self, thread: &Thread, reviewer: &Reviewer) -> Result<Vec<Task>, Hindrance> {
        let tasks = self.store.tasks_of_thread(thread.repository, thread.issue, LOOK_BACK).await?;
        let is_asked = |task: &Task| task.options.review_request.as_ref().is_some_and(|one| one.reviewer == *reviewer);
        Ok(tasks.into_iter().filter(is_asked).collect())
    }

    /// A request that is taken back stops its task.
    async fn withdraw(&self, case: &Case<'_>, reviewer: &Reviewer) -> Result<(), Hindrance> {
        if !case.holding.policy.is_asked_as(reviewer, &self.settings.review_aliases) {
            return self.record(case.pending, DecisionCode::NotForUs, serde_json::Value::Null, &[]).await;
        }
        let tasks = self.tasks_asked_as(case.thread, reviewer).await?;
        self.stop_tasks(case.pending, tasks, &case.sender.login).await
    }

    /// What waits on a thread that is closed is not begun.
    async fn close(&self, pending: &PendingDelivery, thread: &Thread, by: &str, at: Millis) -> Result<(), Hindrance> {
        self.store.note_stop(thread, by, at).await?;
        let tasks = self.store.tasks_of_thread(thread.repository, thread.issue, LOOK_BACK).await?;
        let waiting =
            tasks.into_iter().filter(|task| task.state == TaskState::Queued && task.triggered_at <= at).collect();
        self.stop_tasks(pending, waiting, by).await
    }

    async fn stop_tasks(&self, pending: &PendingDelivery, tasks: Vec<Task>, by: &str) -> Result<(), Hindrance> {
        let now = self.clock.now();
        let mut stopped = Vec::new();
        for task in tasks.into_iter().filter(|task| !task.state.is_finished()) {
            let asked = Asked { by, written_at: now, now };
            if self.stop_task(&task, &asked, &cancelled_in_queue(&task, by)).await? {
                stopped.push(task.id.0);
            }
        }
        self.record(pending, DecisionCode::Accepted, serde_json::json!({ "stopped": stopped }), &[]).await
    }

    /// A policy that a pull request brings is judged before it counts.
    async fn judge_policy(&self, case: &Case<'_>, moment: Moment, pull: &PullNow) -> Result<(), Hindrance> {
        if moment == Moment::Ready {
            return Ok(());
        }
        let (place, github) = (super::place(case.thread), &self.github);
        let Some(file) = github.file(&place, POLICY_FILE, Some(&pull.head)).await? else { return Ok(()) };
        if file.sha == case.holding.sha {
            return Ok(());
        }
        // It may be the default branch that has another one by now.
        let base = github.pull(&place, case.thread.issue.0).await?.base_sha;
        let merge_base = github.merge_base(&place, &base, &pull.head).await?;
        let before = github.file(&place, POLICY_FILE, Some(&merge_base)).await?;
        if before.is_some_and(|before| before.sha == file.sha) {
            return Ok(());
        }
        let fault = self.judged(file.text).err();
        let (thread, commit) = (case.thread.clone(), pull.head.clone());
        self.store.promise(&[Effect::PolicyVerdict { thread, commit, fault }], case.now).await?;
        Ok(())
    }

    /// Opened, made ready or pushed to: reviewed where the repository wants that, or where a request waits
    /// for it. Nobody asked in so many words, so nobody is told when nothing comes of it.
    async fn decide_moment(&self, case: &Case<'_>, moment: Moment, pull: &PullNow) -> Result<(), Hindrance> {
        self.judge_policy(case, moment, pull).await?;
        let policy = &case.holding.policy;
        if pull.is_draft && !policy.review.drafts {
            let facts = serde_json::json!({ "why": "a draft" });
            return self.record(case.pending, DecisionCode::EventNotUsed, facts, &[]).await;
        }
        let waiting = pull.reviewers.iter().find(|one| policy.is_asked_as(one, &self.settings.review_aliases));
        let waiting = waiting.filter(|_| moment == Moment::Ready);
        if waiting.is_none() && !policy.review.on.contains(&moment) {
            return self.record(case.pending, DecisionCode::EventNotUsed, serde_json::Value::Null, &[]).await;
        }
        if moment == Moment::Push {
            let due = case.pending.received_at.after(policy.debounce());
            if case.now < due {
                return Ok(self.store.postpone_delivery(case.pending.seq, due).await?);
            }
        }
        let now = self.github.pull(&super::place(case.thread), case.thread.issue.0).await?;
        if !now.is_open || (moment == Moment::Push && now.head_sha != pull.head) {
            let facts = serde_json::json!({ "why": "more was pushed since, or it was closed" });
            return self.record(case.pending, DecisionCode::Duplicate, facts, &[]).await;
        }
        let permission = self.permission_of(case).await?;
        if permission < policy.who() {
            return self.turn_away(case, permission, false).await;
        }
        self.review(case, waiting, pull).await
    }
}
