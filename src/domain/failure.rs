//! Why a run did not reach its goal: each case with its own sentence for the person who asked.

use super::agent::Provider;
use super::agent_stream::AgentFault;
use super::gateway::errors::Reached;
use super::permission::Permission;
use super::run::Ending;
use super::task::Outcome;
use super::text::{cut_marked, duration};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    AgentFailed {
        agent: String,
        fault: AgentFault,
        message: String,
    },
    NoKey {
        agent: String,
        /// Any one of them would do.
        missing: Vec<Provider>,
        /// Where a key is linked.
        page: String,
    },
    /// A stored key was deleted meanwhile, or cannot be opened.
    KeyUnusable {
        agent: String,
        page: String,
    },
    /// A limit of money.
    OverLimit {
        agent: String,
        reached: Reached,
        /// The agent was at work.
        has_begun: bool,
    },
    UnknownAgent {
        agent: String,
    },
    InstallFailed {
        agent: String,
        tail: String,
    },
    CloneFailed {
        tail: String,
    },
    SandboxFailed,
    /// The provider refuses the instance, not the work.
    SandboxDenied,
    SandboxUnavailable {
        waited: std::time::Duration,
    },
    SnapshotGone,
    NoSandboxFree {
        waited: std::time::Duration,
    },
    SandboxLost,
    AllHeldBack {
        files: usize,
    },
    TooManyFiles {
        files: usize,
    },
    TooMuch {
        bytes: u64,
    },
    ListUnreadable {
        tail: String,
    },
    BranchTaken {
        branch: String,
    },
    /// A branch that a follow-up went on with got other commits meanwhile.
    BranchMoved {
        branch: String,
    },
    BaseMissing {
        branch: String,
    },
    PushRefused {
        message: String,
    },
    ThreadGone,
    GitHubRefused {
        message: String,
    },
    GitHubUnavailable {
        waited: std::time::Duration,
    },
    /// Code from a fork is worked with only for those who may write, whatever a policy says (threat T04).
    ForkOfStranger {
        login: String,
    },
    PullClosed,
    /// Of a fork: which commit was meant when it was asked for.
    HeadUnknown,
    /// The commits of a fork change what may not get onto a branch here.
    ForkNotHere {
        path: String,
        /// The work that has no place.
        patch: String,
    },
    /// The answer is in no form that can be read.
    NoReview {
        agent: String,
        said: String,
    },
    WorkerDied {
        times: i64,
    },
    PermissionLost {
        login: String,
        needed: Permission,
    },
    Internal,
}

impl Failure {
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::AllHeldBack { .. }
            | Self::PermissionLost { .. }
            | Self::PushRefused { .. }
            | Self::ForkOfStranger { .. }
            | Self::PullClosed
            | Self::HeadUnknown
            | Self::ForkNotHere { .. }
            | Self::NoKey { .. }
            | Self::KeyUnusable { .. }
            | Self::OverLimit { has_begun: false, .. } => Outcome::Refused,
            _ => Outcome::Failed,
        }
    }

    /// The sentence and the foreign text that goes with it.
    pub fn ending(&self) -> Ending {
        let (reason, detail) = self.words();
        Ending { outcome: self.outcome(), reason, detail: cut_marked(detail.trim(), 3_000) }
    }

    fn words(&self) -> (String, String) {
        let plain = |text: &str| (text.to_owned(), String::new());
        match self {
            Self::AgentFailed { agent, fault, message } => (agent_sentence(agent, *fault), message.clone()),
            Self::NoKey { .. } | Self::KeyUnusable { .. } | Self::OverLimit { .. } => self.words_about_keys(),
            Self::UnknownAgent { agent } => plain(&format!("The agent {agent} is no longer set up on this instance.")),
            Self::InstallFailed { agent, tail } => {
                (format!("{agent} could not be installed in the sandbox."), tail.clone())
            }
            Self::CloneFailed { tail } => ("The repository could not be fetched.".to_owned(), tail.clone()),
            Self::SandboxFailed
            | Self::SandboxDenied
            | Self::SandboxUnavailable { .. }
            | Self::SnapshotGone
            | Self::NoSandboxFree { .. }
            | Self::SandboxLost => self.words_about_the_sandbox(),
            Self::AllHeldBack { files } => {
                plain(&format!("Everything that was changed is held back ({}).", super::text::count(*files, "file")))
            }
            Self::TooManyFiles { files } => plain(&format!(
                "The agent changed {files} files, more than the {} that are published at once.",
                super::change::MAX_FILES
            )),
            Self::TooMuch { bytes } => plain(&format!(
                "The agent's changes have {} MB, more than the {} MB that are published at once.",
                bytes / 1_048_576,
                super::change::MAX_TOTAL_BYTES / 1_048_576
            )),
            Self::ListUnreadable { tail } => {
                ("The changed files could not be read from the sandbox.".to_owned(), tail.clone())
            }
            Self::BranchTaken { branch } => {
                plain(&format!("The branch {branch} exists already. Name another one with --branch."))
            }
            Self::BranchMoved { branch } => plain(&format!("Somebody pushed to the branch {branch} meanwhile.")),
            Self::BaseMissing { branch } => plain(&format!("The repository has no branch {branch} to start from.")),
            Self::PushRefused { message } => ("GitHub refused the push.".to_owned(), message.clone()),
            Self::ThreadGone => plain("The issue or its repository is gone, or the App may no longer see it."),
            Self::GitHubRefused { message } => {
                ("GitHub refused a call that this task needs.".to_owned(), message.clone())
            }
            Self::GitHubUnavailable { waited } => {
                plain(&format!("GitHub could not be reached for {}.", duration(*waited)))
            }
            Self::ForkNotHere { patch, .. } => (self.sentence_about_pulls(), patch.clone()),
            Self::ForkOfStranger { .. } | Self::HeadUnknown | Self::PullClosed => plain(&self.sentence_about_pulls()),
            Self::NoReview { agent, said } => {
                (format!("{agent} ended without a review in the form that it was asked for."), said.clone())
            }
            Self::WorkerDied { times } => {
                plain(&format!("The service stopped {times} times in the middle of this task, so it was given up."))
            }
            Self::PermissionLost { login, needed } => plain(&format!(
                "{login} no longer has {} access to this repository, so nothing was published.",
                needed.name()
            )),
            Self::Internal => plain("Something went wrong inside the service. Its log has the details."),
        }
    }

    fn sentence_about_pulls(&self) -> String {
        match self {
            Self::ForkOfStranger { login } => format!(
                "On pull requests from forks, commands need write access to this repository, which {login} does not have."
            ),
            Self::HeadUnknown => "GitHub did not tell which commit was meant. Ask again.".to_owned(),
            Self::ForkNotHere { path, .. } => format!(
                "The work cannot be handed back: the fork changes {path}, so its commits do not get onto a branch of this \
                 repository, where they could run with its rights."
            ),
            Self::PullClosed => "The pull request is closed, so there is nothing to go on with.".to_owned(),
            _ => String::new(),
        }
    }

    fn words_about_keys(&self) -> (String, String) {
        let sentence = match self {
            Self::NoKey { agent, missing, page } => no_key(agent, missing, page),
            Self::KeyUnusable { agent, page } => {
                format!("The stored key for {agent} cannot be opened. Save it anew at {page}.")
            }
            Self::OverLimit { agent, reached, has_begun } => {
                let what = if *has_begun { "was stopped" } else { "was not started" };
                format!("{agent} {what}: {}", reached.sentence())
            }
            _ => String::new(),
        };
        (sentence, String::new())
    }

    /// Nothing of what the provider said: that is for the operator, and in the service's log.
    fn words_about_the_sandbox(&self) -> (String, String) {
        let sentence = match self {
            Self::SandboxDenied => {
                "The provider of sandboxes refused this instance: its operator has to look at the token, the plan or \
                 the quota."
                    .to_owned()
            }
            Self::SandboxUnavailable { waited } => {
                format!("The provider of sandboxes could not be used for {}.", duration(*waited))
            }
            Self::NoSandboxFree { waited } => format!("No sandbox became free for {}.", duration(*waited)),
            Self::SnapshotGone => "The snapshot that sandboxes start from is gone.".to_owned(),
            Self::SandboxLost => "The sandbox disappeared while the agent was working.".to_owned(),
            _ => "The sandbox could not be used. The log of the service has the details.".to_owned(),
        };
        (sentence, String::new())
    }
}

/// What to do where no key pays for an agent.
pub fn no_key(agent: &str, missing: &[Provider], page: &str) -> String {
    let names: Vec<&str> = missing.iter().map(|provider| provider.title()).collect();
    let names = match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "its vendor".to_owned(),
    };
    format!("There is no key for {agent} yet. Link one of {names} at {page}, or ask the operator of this instance.")
}

fn agent_sentence(agent: &str, fault: AgentFault) -> String {
    match fault {
        AgentFault::Auth => format!("{agent}'s key was refused by the model's vendor."),
        AgentFault::Model => format!("{agent} could not use the model it was asked to use."),
        AgentFault::RateLimit => format!("{agent} was stopped by the limits of its key."),
        AgentFault::Overloaded => format!("The model of {agent} did not answer."),
        AgentFault::Limit => format!("{agent} reached its own limit."),
        AgentFault::Interrupted => format!("{agent} was interrupted."),
        AgentFault::Internal => format!("{agent} failed."),
    }
}

/// The sentence for a run that took too long.
pub fn timed_out(agent: &str, limit: std::time::Duration) -> Ending {
    Ending {
        outcome: Outcome::TimedOut,
        reason: format!("{agent} was stopped after {}.", duration(limit)),
        detail: String::new(),
    }
}

/// The sentence for a run whose sandbox ended before its work could be saved.
pub fn sandbox_timed_out(lifetime: std::time::Duration) -> Ending {
    Ending {
        outcome: Outcome::TimedOut,
        reason: format!("The sandbox reached the end of its {} before the work was saved.", duration(lifetime)),
        detail: String::new(),
    }
}

/// The sentence for a run whose sandbox was stopped by somebody outside.
pub fn sandbox_stopped() -> Ending {
    Ending {
        outcome: Outcome::Cancelled,
        reason: "The sandbox was stopped from outside, so nothing was saved.".to_owned(),
        detail: String::new(),
    }
}

/// The sentence for a run that was stopped by a person.
pub fn cancelled(by: &str) -> Ending {
    Ending { outcome: Outcome::Cancelled, reason: format!("Stopped by {by}."), detail: String::new() }
}

/// The sentence for a review that has nothing new to look at.
pub fn reviewed_already(agent: &str, commit: &str) -> Ending {
    let commit = commit.get(..7).unwrap_or(commit);
    Ending {
        outcome: Outcome::NoChanges,
        reason: format!(
            "{agent} has reviewed {commit} before, and nothing was pushed since. With --full, all of it is reviewed again."
        ),
        detail: String::new(),
    }
}
