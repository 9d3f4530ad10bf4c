//! The page of a task with its live log. Works without script, apart from the living part.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use futures::Stream;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::Web;
use crate::domain::ids::TaskId;
use crate::domain::log_entry::LogEntry;
use crate::domain::run::{Run, Step};
use crate::domain::task::{Task, TaskState};
use crate::domain::text::duration;

/// Lines that the page itself holds; the rest is in the plain log.
const PAGE_LINES: usize = 2_000;
const EVENT_LINES: usize = 500;
/// A live page looks by itself this often: another process may have written.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Template)]
#[template(path = "home.html")]
struct Home;

#[derive(Template)]
#[template(path = "not_found.html")]
struct NotFound;

#[derive(Template)]
#[template(path = "task.html")]
struct TaskPage {
    task: Task,
    request: String,
    state: String,
    is_live: bool,
    steps: Vec<StepLine>,
    elapsed: String,
    facts: Vec<(&'static str, String)>,
    pull: Option<(i64, String)>,
    entries: Vec<LogEntry>,
    last_seq: i64,
    is_cut: bool,
}

struct StepLine {
    label: &'static str,
    is_done: bool,
    is_current: bool,
}

fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(error = %error, "a page cannot be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "this page cannot be shown\n").into_response()
        }
    }
}

pub async fn home() -> Response {
    render(&Home)
}

pub async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, render(&NotFound)).into_response()
}

pub async fn task(State(web): State<Arc<Web>>, Path(id): Path<String>) -> Response {
    let Some(task) = web.app.visible_task(&TaskId(id)).await else { return not_found().await };
    let run = web.app.store.latest_run(&task.id).await.ok().flatten();
    let entries = match web.app.store.log_after(&task.id, 0, PAGE_LINES).await {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a log cannot be read");
            return (StatusCode::SERVICE_UNAVAILABLE, "not available now, please try again\n").into_response();
        }
    };
    let until = task.finished_at.unwrap_or_else(|| web.app.clock.now());
    let since = task.started_at.unwrap_or(task.created_at);
    render(&TaskPage {
        request: if task.request.is_empty() { "fix this".to_owned() } else { task.request.clone() },
        state: task.state.name().replace('_', " "),
        is_live: !task.state.is_finished(),
        steps: steps(run.as_ref(), task.state),
        elapsed: duration(until.since(since)),
        facts: facts(run.as_ref()),
        pull: run.as_ref().and_then(|run| run.facts.pull.as_ref()).map(|pull| (pull.number, pull.url.clone())),
        last_seq: entries.last().map_or(0, |entry| entry.seq),
        is_cut: entries.len() >= PAGE_LINES,
        entries,
        task,
    })
}

fn steps(run: Option<&Run>, state: TaskState) -> Vec<StepLine> {
    let current = run.map_or(Step::Announce, |run| run.step);
    let shown = Step::ALL.into_iter().filter_map(|step| step.label().map(|label| (step, label)));
    shown
        .map(|(step, label)| StepLine {
            label,
            is_done: step < current,
            is_current: step == current && state == TaskState::Running,
        })
        .collect()
}

fn facts(run: Option<&Run>) -> Vec<(&'static str, String)> {
    let Some(run) = run else { return Vec::new() };
    let facts = &run.facts;
    [
        ("Model", facts.model.clone()),
        ("Branch", facts.branch.clone()),
        ("Commit", facts.commit.clone()),
        ("Key", facts.key_owner.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// The log as plain text.
pub async fn log(State(web): State<Arc<Web>>, Path(id): Path<String>) -> Response {
    let Some(task) = web.app.visible_task(&TaskId(id)).await else { return not_found().await };
    let Ok(place) = Arc::clone(&web.viewers).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many logs are being read\n").into_response();
    };
    let stream = futures::stream::unfold((web, task.id, Some(0), place), |(web, id, after, place)| async move {
        let after = after?;
        let entries = web.app.store.log_after(&id, after, EVENT_LINES).await.ok().filter(|found| !found.is_empty())?;
        let next = entries.last().map(|entry| entry.seq);
        let text: String = entries.iter().map(|entry| format!("{}\n", entry.text)).collect();
        Some((Ok::<_, Infallible>(text), (web, id, next, place)))
    });
    let body = axum::body::Body::from_stream(stream);
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

#[derive(Deserialize)]
pub struct From {
    after: Option<i64>,
}

/// New lines as they come: one event per line, its id is the line's place in the log.
pub async fn events(
    State(web): State<Arc<Web>>,
    Path(id): Path<String>,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Response {
    let Some(task) = web.app.visible_task(&TaskId(id)).await else { return not_found().await };
    let resumed = headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let after = resumed.or(from.after).unwrap_or(0);
    let Ok(place) = Arc::clone(&web.viewers).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many live pages are open\n").into_response();
    };
    let mut response = Sse::new(live(web, task.id, after, place))
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response();
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    response
}

fn live(
    web: Arc<Web>,
    id: TaskId,
    after: i64,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    use futures::StreamExt as _;
    let news = web.app.signals.log.subscribe();
    let state = Some((web, id, after, news, place));
    futures::stream::unfold(state, |state| async move {
        let (web, id, mut after, mut news, place) = state?;
        loop {
            // Asked before the log is read: what a task wrote before its end is seen.
            let found = web.app.store.task(&id).await;
            // A database that does not answer is no end.
            let ended = found.is_ok_and(|task| task.is_none_or(|task| task.state.is_finished()));
            let entries = web.app.store.log_after(&id, after, EVENT_LINES).await.unwrap_or_default();
            if let Some(last) = entries.last() {
                after = last.seq;
                let events: Vec<_> = entries.iter().map(|entry| Ok(event(entry))).collect();
                return Some((futures::stream::iter(events), Some((web, id, after, news, place))));
            }
            if ended {
                let end = Event::default().event("end").data("the task is over");
                return Some((futures::stream::iter(vec![Ok(end)]), None));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = async { while news.recv().await.is_ok_and(|found| found.task != id) {} } => {}
                () = web.stop.cancelled() => return None,
            }
        }
    })
    .flatten()
}

fn event(entry: &LogEntry) -> Event {
    let data = serde_json::json!({ "kind": entry.kind.name(), "text": entry.text }).to_string();
    Event::default().id(entry.seq.to_string()).data(data)
}

pub async fn asset(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.as_str() {
        "style.css" => ("text/css; charset=utf-8", include_str!("assets/style.css")),
        "log.js" => ("text/javascript; charset=utf-8", include_str!("assets/log.js")),
        _ => return not_found().await,
    };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=600")], text).into_response()
}
