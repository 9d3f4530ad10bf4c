//! What a pull request's list of checks shows: a task from its first moment to its end, and whether a changed
//! policy file can be read.

use super::markdown::{fenced, inline};
use super::policy::POLICY_FILE;
use super::task::{Outcome, Task, TaskState};

/// A check run, as it should look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    /// Ours: what it is found again by.
    pub external_id: String,
    pub url: Option<String>,
    /// GitHub's word for the end; `None`: it goes on.
    pub conclusion: Option<&'static str>,
    pub title: String,
    pub summary: String,
}

/// What was refused or had nothing to do holds no merge up; what went wrong is for people to look at, where the check
/// is required.
fn conclusion(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "success",
        Outcome::NoChanges | Outcome::Refused => "neutral",
        Outcome::Failed => "failure",
        Outcome::Cancelled => "cancelled",
        Outcome::TimedOut => "timed_out",
    }
}

impl Check {
    pub fn of_task(task: &Task, reason: &str, url: &str) -> Self {
        let what = if task.options.is_review { "review" } else { "work" };
        let (conclusion, title) = match task.state {
            TaskState::Queued => (None, "Waiting for its turn".to_owned()),
            TaskState::Running => (None, "Working".to_owned()),
            TaskState::Finished(outcome) => (Some(conclusion(outcome)), outcome.name().replace('_', " ")),
        };
        let asked = format!("{} asked for it. [Log]({url})", inline(&task.requester.login));
        let summary = if reason.is_empty() { asked } else { format!("{}\n\n{asked}", inline(reason)) };
        Self {
            name: format!("{} {what}", task.agent),
            external_id: task.id.0.clone(),
            url: Some(url.to_owned()),
            conclusion,
            title,
            summary,
        }
    }

    /// On a pull request that changes the policy. `fault`: why it cannot be read.
    pub fn of_policy(commit: &str, fault: Option<&str>) -> Self {
        let (conclusion, title, summary) = match fault {
            None => ("success", "The policy can be read", "It holds once it is on the default branch.".to_owned()),
            Some(fault) => {
                let summary = format!("{}\n\nUntil it is mended, the last good one holds.", fenced(fault));
                ("failure", "The policy cannot be read", summary)
            }
        };
        Self {
            name: POLICY_FILE.to_owned(),
            external_id: format!("policy:{commit}"),
            url: None,
            conclusion: Some(conclusion),
            title: title.to_owned(),
            summary,
        }
    }
}
