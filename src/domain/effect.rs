//! Outward effects: promised in a transaction, delivered after it, safe to deliver twice.

use serde::{Deserialize, Serialize};

use super::ask::Reviewer;
use super::ids::{DeliveryId, TaskId};
use super::task::{Outcome, Subject, Thread};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    Eyes,
    Rocket,
    ThumbsUp,
    Confused,
}

impl Reaction {
    pub const ALL: [Self; 4] = [Self::Eyes, Self::Rocket, Self::ThumbsUp, Self::Confused];

    /// GitHub's name for it.
    pub fn content(self) -> &'static str {
        match self {
            Self::Eyes => "eyes",
            Self::Rocket => "rocket",
            Self::ThumbsUp => "+1",
            Self::Confused => "confused",
        }
    }

    pub fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Rocket,
            Outcome::NoChanges => Self::ThumbsUp,
            Outcome::Failed | Outcome::Cancelled | Outcome::TimedOut | Outcome::Refused => Self::Confused,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Effect {
    React {
        thread: Thread,
        subject: Subject,
        reaction: Reaction,
        /// What it is for.
        #[serde(default)]
        delivery: DeliveryId,
    },
    /// 👀 goes and the final reaction comes.
    SwapReaction {
        thread: Thread,
        subject: Subject,
        reaction: Reaction,
        #[serde(default)]
        delivery: DeliveryId,
    },
    Reply {
        thread: Thread,
        key: String,
        markdown: String,
    },
    /// An answer in a conversation on a line of a pull request, whose first comment this is.
    ReplyInTalk {
        thread: Thread,
        first: i64,
        key: String,
        markdown: String,
    },
    /// The check run of a task on a pull request, as the task then stands.
    Check {
        thread: Thread,
        task: TaskId,
        is_end: bool,
    },
    /// Whether the policy file that a pull request brings can be read.
    PolicyVerdict {
        thread: Thread,
        commit: String,
        fault: Option<String>,
    },
    /// A request for a review that is answered.
    EndReviewRequest {
        thread: Thread,
        reviewer: Reviewer,
        task: TaskId,
    },
    /// The status comment in its last form.
    FinalStatus {
        thread: Thread,
        task: TaskId,
    },
}

impl Effect {
    pub fn thread(&self) -> &Thread {
        match self {
            Self::React { thread, .. }
            | Self::SwapReaction { thread, .. }
            | Self::Reply { thread, .. }
            | Self::ReplyInTalk { thread, .. }
            | Self::Check { thread, .. }
            | Self::PolicyVerdict { thread, .. }
            | Self::EndReviewRequest { thread, .. }
            | Self::FinalStatus { thread, .. } => thread,
        }
    }

    /// The same promise made twice has the same key.
    pub fn key(&self) -> String {
        let on = |subject: &Subject, thread: &Thread, delivery: &DeliveryId| match subject {
            // Several things can be asked for on it: by its text, by labels, by review requests.
            Subject::Issue => format!("{}#{}/{delivery}", thread.repository, thread.issue),
            Subject::IssueComment(id) => format!("c{id}"),
            Subject::ReviewComment(id) => format!("r{id}"),
            Subject::Review(id) => format!("v{id}"),
        };
        match self {
            Self::React { thread, subject, reaction, delivery } => {
                format!("react:{}:{}", on(subject, thread, delivery), reaction.content())
            }
            Self::SwapReaction { thread, subject, reaction, delivery } => {
                format!("swap:{}:{}", on(subject, thread, delivery), reaction.content())
            }
            Self::Reply { key, .. } | Self::ReplyInTalk { key, .. } => format!("reply:{key}"),
            Self::Check { task, is_end, .. } => format!("check:{task}:{is_end}"),
            Self::PolicyVerdict { thread, commit, .. } => format!("policy:{}:{commit}", thread.repository),
            Self::EndReviewRequest { task, .. } => format!("asked:{task}"),
            Self::FinalStatus { task, .. } => format!("status:{task}"),
        }
    }

    /// Results are never held up by a scarce write budget; courtesies are.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::SwapReaction { .. }
                | Self::FinalStatus { .. }
                | Self::ReplyInTalk { .. }
                | Self::EndReviewRequest { .. }
                | Self::Check { is_end: true, .. }
        )
    }
}
