//! The list of tasks, for whoever may read their repositories.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::Web;
use super::page::{Frame, fail, refuse, render};
use super::visitor::Visitor;
use crate::app::StoreError;
use crate::app::access::Unknown;
use crate::domain::ids::RepositoryId;
use crate::domain::listing::TaskFilter;
use crate::domain::task::{Outcome, Task, TaskState, Thread};
use crate::domain::text::{cut_marked, duration};

const PER_PAGE: usize = 50;
/// Pages of the table that are looked through for one page of what may be seen.
const MAX_LOOKS: usize = 4;
/// Repositories that GitHub is asked about for one page.
const MAX_ASKED: usize = 40;
/// GitHub and the database have so long for a page.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    frame: Frame,
    handle: String,
}

#[derive(Template)]
#[template(path = "tasks.html")]
struct TasksPage {
    frame: Frame,
    rows: Vec<Row>,
    agents: Vec<String>,
    states: Vec<(&'static str, String)>,
    wanted: Wanted,
    /// Address of the next page.
    older: Option<String>,
    is_filtered: bool,
    /// Signed in, but GitHub cannot be asked what they may read.
    is_off_github: bool,
}

/// The filter as the visitor wrote it.
#[derive(Default)]
struct Wanted {
    state: String,
    agent: String,
    repository: String,
    person: String,
    words: String,
}

pub(super) struct Row {
    pub id: String,
    pub title: String,
    pub agent: String,
    pub place: String,
    pub requester: String,
    pub state: &'static str,
    pub state_text: String,
    pub when: String,
    pub took: String,
}

/// A state for people.
pub(super) fn state_text(state: TaskState) -> String {
    state.name().replace('_', " ")
}

pub(super) fn title_of(task: &Task) -> String {
    let first = task.asked().lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    cut_marked(first.trim(), 160)
}

fn row(web: &Web, task: &Task) -> Row {
    let until = task.finished_at.unwrap_or_else(|| web.app.clock.now());
    Row {
        id: task.id.to_string(),
        title: title_of(task),
        agent: task.agent.clone(),
        place: format!("{}#{}", task.thread.name, task.thread.issue),
        requester: task.requester.login.clone(),
        state: task.state.name(),
        state_text: state_text(task.state),
        when: task.created_at.for_people(),
        took: task.started_at.map(|since| duration(until.since(since))).unwrap_or_default(),
    }
}

pub async fn home(State(web): State<Arc<Web>>, visitor: Visitor) -> Response {
    let handle = web.app.handle().await.unwrap_or_default();
    render(&HomePage { frame: Frame::of(&web, &visitor).await, handle })
}

impl Wanted {
    fn read(query: &HashMap<String, String>) -> Self {
        let field = |name: &str| query.get(name).map_or(String::new(), |value| cut_marked(value.trim(), 200));
        Self {
            state: field("state"),
            agent: field("agent"),
            repository: field("repository"),
            person: field("person"),
            words: field("q"),
        }
    }

    fn filter(&self) -> TaskFilter {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        TaskFilter {
            state: TaskState::parse(&self.state).map(TaskState::name),
            agent: given(&self.agent),
            repository: given(&self.repository),
            requester: given(&self.person),
            words: given(&self.words),
        }
    }

    /// The same list from another place on.
    fn address(&self, before: i64) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let fields = [
            ("state", &self.state),
            ("agent", &self.agent),
            ("repository", &self.repository),
            ("person", &self.person),
            ("q", &self.words),
        ];
        query.extend_pairs(fields.into_iter().filter(|(_, value)| !value.is_empty()));
        query.append_pair("before", &before.to_string());
        format!("/tasks?{}", query.finish())
    }
}

pub async fn list(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let wanted = Wanted::read(&query);
    let filter = wanted.filter();
    let before = query.get("before").and_then(|text| text.parse().ok());
    let found = async {
        let _place = if filter.needs_search() { web.searches.acquire().await.ok() } else { None };
        seen(&web, &visitor, &filter, before).await
    };
    let (rows, next) = match tokio::time::timeout(PATIENCE, found).await {
        Ok(Ok(found)) => found,
        Ok(Err(Unknown)) => return refuse(&web, StatusCode::SERVICE_UNAVAILABLE),
        Err(_) => return fail(&web, &StoreError::Silent),
    };
    let finished = Outcome::ALL.into_iter().map(TaskState::Finished);
    let states = [TaskState::Queued, TaskState::Running].into_iter().chain(finished);
    render(&TasksPage {
        frame: Frame::of(&web, &visitor).await,
        rows,
        agents: web.app.settings.agents.iter().map(|agent| agent.name.clone()).collect(),
        states: states.map(|state| (state.name(), state_text(state))).collect(),
        older: next.map(|next| wanted.address(next)),
        is_off_github: visitor.person().is_some_and(|person| !person.is_on_github()),
        is_filtered: filter != TaskFilter::default(),
        wanted,
    })
}

/// Asks about the repositories of some tasks, all at once, as far as that is not known.
async fn ask(
    web: &Web,
    visitor: &Visitor,
    tasks: &[(i64, Task)],
    known: &mut HashMap<RepositoryId, bool>,
) -> Result<(), Unknown> {
    let mut threads: Vec<&Thread> = Vec::new();
    for (_, task) in tasks {
        let is_new = !known.contains_key(&task.thread.repository);
        let is_listed = threads.iter().any(|thread| thread.repository == task.thread.repository);
        if is_new && !is_listed && known.len() + threads.len() < MAX_ASKED {
            threads.push(&task.thread);
        }
    }
    let asked = threads.iter().map(|thread| web.app.may_read(thread, visitor.person()));
    for (answer, thread) in futures::future::join_all(asked).await.into_iter().zip(threads) {
        known.insert(thread.repository, answer?);
    }
    Ok(())
}

/// Those of the tasks that the visitor may see, and where to look on.
async fn seen(
    web: &Web,
    visitor: &Visitor,
    filter: &TaskFilter,
    mut before: Option<i64>,
) -> Result<(Vec<Row>, Option<i64>), Unknown> {
    let mut rows = Vec::new();
    let mut known: HashMap<RepositoryId, bool> = HashMap::new();
    for _ in 0..MAX_LOOKS {
        let page = web.app.store.find_tasks(filter, before, PER_PAGE as i64).await.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "tasks cannot be listed");
            Unknown
        })?;
        ask(web, visitor, &page.items, &mut known).await?;
        for (seq, task) in &page.items {
            let Some(may) = known.get(&task.thread.repository) else { return Ok((rows, Some(seq + 1))) };
            if *may {
                rows.push(row(web, task));
            }
            if rows.len() == PER_PAGE {
                return Ok((rows, Some(*seq)));
            }
        }
        before = page.next;
        if before.is_none() || !rows.is_empty() {
            break;
        }
    }
    Ok((rows, before))
}
