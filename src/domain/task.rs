//! A task is what a person asked for; it lives until it has an outcome. Every legal move is here.

use serde::{Deserialize, Serialize};

use super::command::Options;
use super::ids::{CommentId, DeliveryId, InstallationId, IssueNumber, Millis, RepoName, RepositoryId, TaskId, UserId};

/// How a task ended, in terms a person understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Succeeded,
    NoChanges,
    Failed,
    Cancelled,
    TimedOut,
    Refused,
}

impl Outcome {
    pub const ALL: [Self; 6] =
        [Self::Succeeded, Self::NoChanges, Self::Failed, Self::Cancelled, Self::TimedOut, Self::Refused];

    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::NoChanges => "no_changes",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    Queued,
    Running,
    Finished(Outcome),
}

/// What can happen to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEvent {
    /// A worker took it from the queue.
    Claimed,
    /// The worker before died; another took the lease and goes on at the stored step.
    TakenOver,
    /// It reached its end.
    Ended(Outcome),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {from} cannot be moved by {event:?}")]
pub struct IllegalMove {
    pub from: &'static str,
    pub event: TaskEvent,
}

impl TaskState {
    /// Every legal move of a task, and nothing else.
    pub fn on(self, event: TaskEvent) -> Result<Self, IllegalMove> {
        use TaskEvent::{Claimed, Ended, TakenOver};
        match (self, event) {
            (Self::Queued, Claimed) | (Self::Running, TakenOver) => Ok(Self::Running),
            // Only a task that never started can end without a worker: by being cancelled.
            (Self::Queued, Ended(Outcome::Cancelled)) => Ok(Self::Finished(Outcome::Cancelled)),
            (Self::Running, Ended(outcome)) => Ok(Self::Finished(outcome)),
            (from, event) => Err(IllegalMove { from: from.name(), event }),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished(outcome) => outcome.name(),
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "queued" => Some(Self::Queued),
            "running" => Some(Self::Running),
            _ => Outcome::ALL.into_iter().find(|outcome| outcome.name() == name).map(Self::Finished),
        }
    }

    pub fn is_finished(self) -> bool {
        matches!(self, Self::Finished(_))
    }
}

/// What a reaction is put on: the text that held the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "on", content = "id")]
pub enum Subject {
    /// The body of the issue or pull request itself.
    Issue,
    IssueComment(CommentId),
    ReviewComment(CommentId),
    /// The body of a submitted review: GitHub offers no reactions there.
    Review(CommentId),
}

impl Subject {
    /// GitHub's number of the comment or review, or that of the issue.
    pub fn number(self, thread: &Thread) -> i64 {
        self.comment().map_or(thread.issue.0, |id| id.0)
    }

    /// The comment it is, if it is one.
    pub fn comment(self) -> Option<CommentId> {
        match self {
            Self::Issue => None,
            Self::IssueComment(id) | Self::ReviewComment(id) | Self::Review(id) => Some(id),
        }
    }
}

/// The conversation a task belongs to. Tasks of one thread run one at a time, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    pub installation: InstallationId,
    pub repository: RepositoryId,
    pub name: RepoName,
    pub issue: IssueNumber,
    pub is_pull: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    pub id: UserId,
    pub login: String,
}

impl Requester {
    /// The address GitHub attributes commits by. `web_url`: an Enterprise Server has addresses of its own.
    pub fn commit_email(&self, web_url: &str) -> String {
        let host = url::Url::parse(web_url).ok().and_then(|url| url.domain().map(ToOwned::to_owned));
        let host = host.filter(|host| host.contains('.')).unwrap_or_else(|| "github.com".to_owned());
        format!("{}+{}@users.noreply.{host}", self.id, self.login)
    }
}

/// A task before it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    pub id: TaskId,
    pub delivery: DeliveryId,
    /// Unique: the same command under another delivery id starts nothing (threat T14).
    pub meaning: String,
    pub thread: Thread,
    pub subject: Subject,
    /// When the command was written, by GitHub's clock: what came later is not read (threat T05).
    pub triggered_at: Millis,
    pub requester: Requester,
    pub agent: String,
    pub options: Options,
    pub request: String,
    /// Another task whose frozen inputs it gets.
    pub inputs_of: Option<TaskId>,
}

impl NewTask {
    /// As it is stored.
    pub fn queued(&self, now: Millis) -> Task {
        let Self { id, delivery, thread, subject, triggered_at, requester, agent, options, request, .. } = self.clone();
        Task {
            id,
            delivery,
            thread,
            subject,
            triggered_at,
            requester,
            agent,
            options,
            request,
            state: TaskState::Queued,
            reason: String::new(),
            created_at: now,
            started_at: None,
            finished_at: None,
            cancelled_by: None,
            deaths: 0,
        }
    }
}

/// A stored task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub id: TaskId,
    pub delivery: DeliveryId,
    pub thread: Thread,
    pub subject: Subject,
    pub triggered_at: Millis,
    pub requester: Requester,
    pub agent: String,
    pub options: Options,
    pub request: String,
    pub state: TaskState,
    /// One sentence about the end, redacted; empty before.
    pub reason: String,
    pub created_at: Millis,
    pub started_at: Option<Millis>,
    pub finished_at: Option<Millis>,
    /// Login of the person who asked to stop it.
    pub cancelled_by: Option<String>,
    /// How often a worker died while it held this task.
    pub deaths: i64,
}

impl Task {
    /// What was asked for, in words: a command without any means what is usual there.
    pub fn asked(&self) -> &str {
        match self.request.trim() {
            "" if self.options.is_review => "review this",
            "" if self.thread.is_pull => "address the open feedback",
            "" => "fix this",
            request => request,
        }
    }

    pub fn branch(&self, issue_title: &str) -> String {
        if let Some(branch) = &self.options.branch {
            return branch.clone();
        }
        format!("agent/{}-{}-{}", self.thread.issue, super::text::slug(issue_title, 40), self.id.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_name_people_by_the_address_of_their_github() {
        let maria = Requester { id: UserId(7), login: "maria".into() };
        for (web_url, host) in [
            ("https://github.com", "github.com"),
            ("https://git.example.org", "git.example.org"),
            ("http://127.0.0.1:8080", "github.com"),
            ("http://localhost:8080", "github.com"),
        ] {
            assert_eq!(maria.commit_email(web_url), format!("7+maria@users.noreply.{host}"));
        }
    }

    #[test]
    fn a_task_moves_only_forward() {
        use TaskEvent::{Claimed, Ended, TakenOver};
        let states = [TaskState::Queued, TaskState::Running].into_iter().chain(Outcome::ALL.map(TaskState::Finished));
        let events = [Claimed, TakenOver].into_iter().chain(Outcome::ALL.map(Ended));
        let mut legal = Vec::new();
        for state in states {
            for event in events.clone() {
                if let Ok(next) = state.on(event) {
                    legal.push(format!("{} -> {}", state.name(), next.name()));
                }
            }
        }
        assert_eq!(
            legal,
            [
                "queued -> running",
                "queued -> cancelled",
                "running -> running",
                "running -> succeeded",
                "running -> no_changes",
                "running -> failed",
                "running -> cancelled",
                "running -> timed_out",
                "running -> refused",
            ]
        );
    }

    #[test]
    fn states_read_back_from_their_names() {
        for outcome in Outcome::ALL {
            let state = TaskState::Finished(outcome);
            assert_eq!(TaskState::parse(state.name()), Some(state));
        }
        assert_eq!(TaskState::parse("done"), None);
    }
}
