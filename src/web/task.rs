//! The page of a task: what was asked, what is going on, the log, and the buttons. Works without
//! script, apart from the living part.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::Web;
use super::live_log::MAX_PLACE;
use super::page::{Frame, fail, refuse, render, then};
use super::tasks::{state_text, title_of};
use super::visitor::{Me, Posted, Visitor};
use crate::app::StoreError;
use crate::app::access::Unknown;
use crate::domain::ids::TaskId;
use crate::domain::log_entry::LogEntry;
use crate::domain::person::Person;
use crate::domain::prompt::Said;
use crate::domain::run::{Run, Step};
use crate::domain::task::{Task, TaskState};
use crate::domain::text::{count, cut_marked, duration};

/// Lines that the page itself holds; the rest comes when it is scrolled to, or asked for.
const PAGE_LINES: usize = 500;
const FOUND: usize = 200;
/// A retry is decided within moments; the page waits that long for its task.
const DECIDED_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Template)]
#[template(path = "task.html")]
struct TaskPage {
    frame: Frame,
    id: String,
    title: String,
    request: String,
    reason: String,
    agent: String,
    place: String,
    thread_url: String,
    requester: String,
    state: &'static str,
    state_text: String,
    is_live: bool,
    steps: Vec<StepLine>,
    plan: Vec<(bool, String)>,
    elapsed: String,
    when: String,
    facts: Vec<(&'static str, String)>,
    notes: Vec<String>,
    pull: Option<(i64, String)>,
    /// The second agent's review.
    review: Option<String>,
    /// The sandbox that was kept: its address, and until when.
    kept: Option<(String, String)>,
    messages: Vec<Said>,
    log: Log,
    /// Tokens of the buttons, for whoever may press them.
    cancel: Option<String>,
    retry: Option<String>,
    /// Tells this page's button from that of another.
    once: String,
}

/// The window of the log that the page holds.
struct Log {
    entries: Vec<LogEntry>,
    length: i64,
    first: i64,
    last: i64,
    /// A search instead of a window.
    words: String,
    search_on: Option<i64>,
}

struct StepLine {
    label: &'static str,
    is_done: bool,
    is_current: bool,
}

async fn log(web: &Web, task: &TaskId, query: &HashMap<String, String>) -> Result<Log, StoreError> {
    let place = |name: &str| query.get(name)?.parse::<i64>().ok().map(|place| place.clamp(0, MAX_PLACE));
    let words = query.get("q").map_or(String::new(), |words| cut_marked(words.trim(), 200));
    let length = web.app.store.log_length(task).await?;
    let (entries, search_on) = if words.is_empty() {
        let entries = match (place("before"), place("after")) {
            (Some(before), _) => web.app.store.log_before(task, before, PAGE_LINES).await?,
            (None, Some(after)) => web.app.store.some_log_after(task, after, PAGE_LINES).await?,
            (None, None) => web.app.store.log_before(task, i64::MAX, PAGE_LINES).await?,
        };
        (entries, None)
    } else {
        // Closed only with the process.
        let _place = web.searches.acquire().await.ok();
        let page = web.app.store.search_log(task, &words, place("after").unwrap_or(0), FOUND).await?;
        (page.items, page.next)
    };
    let (first, last) = (entries.first().map_or(0, |entry| entry.seq), entries.last().map_or(0, |entry| entry.seq));
    // It may have grown since it was measured.
    Ok(Log { entries, length: length.max(last), first, last, words, search_on })
}

fn steps(run: Option<&Run>, task: &Task) -> Vec<StepLine> {
    let current = run.map_or(Step::Announce, |run| run.step);
    let is_wanted = |step: &Step| *step != Step::Review || task.options.review_by.is_some();
    let shown = Step::ALL.into_iter().filter(is_wanted).filter_map(|step| step.label(task).map(|label| (step, label)));
    shown
        .map(|(step, label)| StepLine {
            label,
            is_done: step < current,
            is_current: step == current && task.state == TaskState::Running,
        })
        .collect()
}

fn facts(run: Option<&Run>) -> Vec<(&'static str, String)> {
    let Some(run) = run else { return Vec::new() };
    let facts = &run.facts;
    let cost = facts.spent.map(|spent| {
        let about = if spent.is_estimate { "about " } else { "" };
        let sum = spent.sum.map_or("price not known".to_owned(), |sum| format!("{about}{sum} by list price"));
        format!("{sum}, {about}{} tokens", spent.tokens)
    });
    [
        ("Model", facts.model.clone()),
        ("Key", facts.key_owner.clone()),
        ("Cost", cost),
        ("Branch", facts.branch.clone()),
        ("Commit", facts.commit.clone()),
        ("Waits for", facts.waiting_for.clone()),
        ("Held back", (!facts.held_back.is_empty()).then(|| count(facts.held_back.len(), "file"))),
        ("Connectors", (!facts.connectors.is_empty()).then(|| facts.connectors.join(", "))),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// The agent's to-do list.
fn plan(run: Option<&Run>) -> Vec<(bool, String)> {
    let items = run.map(|run| run.facts.plan.iter()).into_iter().flatten();
    items
        .map(|item| match item.strip_prefix("[x] ") {
            Some(text) => (true, text.to_owned()),
            None => (false, item.strip_prefix("[ ] ").unwrap_or(item).to_owned()),
        })
        .collect()
}

async fn page(
    web: &Web,
    visitor: &Visitor,
    task: Task,
    query: &HashMap<String, String>,
) -> Result<Response, StoreError> {
    let run = web.app.store.latest_run(&task.id).await?;
    let log = log(web, &task.id, query).await?;
    let messages = web.app.store.messages(&task.id).await?;
    let until = task.finished_at.unwrap_or_else(|| web.app.clock.now());
    let since = task.started_at.unwrap_or(task.created_at);
    let path = format!("/tasks/{}", task.id);
    let token = |action: &str| visitor.me.as_ref().map(|me| me.token(&format!("{path}/{action}")));
    let (is_theirs, may_write) = match visitor.person() {
        Some(person) => {
            (person.id == task.requester.id, web.app.seems_to_write(&task.thread, person).await == Ok(true))
        }
        None => (false, false),
    };
    let is_finished = task.state.is_finished();
    let kind = if task.thread.is_pull { "pull" } else { "issues" };
    let run = run.as_ref();
    Ok(render(&TaskPage {
        frame: Frame::of(web, visitor).await,
        title: title_of(&task),
        thread_url: format!("{}/{}/{kind}/{}", web.app.github.web_url(), task.thread.name, task.thread.issue),
        place: format!("{} #{}", task.thread.name, task.thread.issue),
        requester: task.requester.login.clone(),
        state: task.state.name(),
        state_text: state_text(task.state),
        is_live: !is_finished,
        steps: steps(run, &task),
        plan: plan(run),
        elapsed: duration(until.since(since)),
        when: task.created_at.for_people(),
        facts: facts(run),
        notes: run.map(|run| run.facts.notes.clone()).unwrap_or_default(),
        pull: run.and_then(|run| run.facts.pull.as_ref()).map(|pull| (pull.number, pull.url.clone())),
        review: run.and_then(|run| {
            let (pull, id) = (run.facts.pull.as_ref()?, run.facts.second.as_ref()?.review?);
            Some(format!("{}#pullrequestreview-{id}", pull.url))
        }),
        kept: run.and_then(|run| {
            let kept = run.facts.kept.as_ref().filter(|kept| kept.until > web.app.clock.now())?;
            Some((kept.address.clone()?, kept.until.for_people()))
        }),
        messages,
        log,
        cancel: token("cancel").filter(|_| !is_finished && (is_theirs || may_write)),
        once: web.app.clock.new_id(),
        retry: token("retry").filter(|_| is_finished && may_write),
        id: task.id.to_string(),
        request: task.request,
        reason: task.reason,
        agent: task.agent,
    }))
}

pub async fn task(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let task = match task_for(&web, &visitor, id).await {
        Ok(task) => task,
        Err(refusal) => return refusal,
    };
    match page(&web, &visitor, task, &query).await {
        Ok(page) => page,
        Err(error) => fail(&web, &error),
    }
}

/// The task, for who may see it; else the same answer as for one that is not there.
pub(super) async fn task_for(web: &Arc<Web>, visitor: &Visitor, id: String) -> Result<Task, Response> {
    match web.app.visible_task(&TaskId(id), visitor.person()).await {
        Ok(Some(task)) => Ok(task),
        Ok(None) => Err(refuse(web, StatusCode::NOT_FOUND)),
        Err(Unknown) => Err(refuse(web, StatusCode::SERVICE_UNAVAILABLE)),
    }
}

/// The task of a button, for whoever asked for it and whoever may write, now.
async fn acted_on(web: &Arc<Web>, posted: Posted, id: String) -> Result<(Task, Person), Response> {
    let visitor = Visitor { me: Some(posted.me), done: None };
    let task = task_for(web, &visitor, id).await?;
    let Some(Me { person, .. }) = visitor.me else { return Err(refuse(web, StatusCode::FORBIDDEN)) };
    let may = person.id == task.requester.id || web.app.may_write(&task.thread, &person).await.unwrap_or(false);
    if may { Ok((task, person)) } else { Err(refuse(web, StatusCode::FORBIDDEN)) }
}

pub async fn cancel(State(web): State<Arc<Web>>, Path(id): Path<String>, posted: Posted) -> Response {
    let (task, person) = match acted_on(&web, posted, id).await {
        Ok(found) => found,
        Err(refusal) => return refusal,
    };
    let page = format!("/tasks/{}", task.id);
    match web.app.cancel_task(&task, &person).await {
        Ok(true) => then(&page, "cancelling"),
        Ok(false) => then(&page, "no-longer"),
        Err(error) => fail(&web, &error),
    }
}

/// Leads to the new task as soon as there is one.
pub async fn retry(State(web): State<Arc<Web>>, Path(id): Path<String>, posted: Posted) -> Response {
    let once = posted.field("once").to_owned();
    let (task, person) = match acted_on(&web, posted, id).await {
        Ok(found) => found,
        Err(refusal) => return refusal,
    };
    let delivery = match web.app.ask_for_retry(&task, &person, &once).await {
        Ok(found) => found,
        Err(error) => return fail(&web, &error),
    };
    let decided = async {
        loop {
            // Asked first: a decision has made its task.
            let code = web.app.store.decision_of(&delivery).await.ok().flatten();
            if let Ok(Some(task)) = web.app.store.task_of_delivery(&delivery).await {
                return Some(task);
            }
            if code.is_some() {
                return None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(DECIDED_WITHIN, decided).await {
        Ok(Some(task)) => Redirect::to(&format!("/tasks/{task}")).into_response(),
        Ok(None) => then(&format!("/tasks/{}", task.id), "no-task"),
        Err(_) => then(&format!("/tasks/{}", task.id), "queued"),
    }
}
