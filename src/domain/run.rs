//! A run is one attempt at a task on one sandbox. It has a step, and facts that each step learned.

use serde::{Deserialize, Serialize};

use super::agent_stream::{AgentEnd, Usage};
use super::attachment::Attached;
use super::change::{HeldBack, Selection};
use super::gateway::errors::Reached;
use super::ids::{Millis, RunId, TaskId};
use super::key::ChosenKey;
use super::money::Usd;
use super::review::ledger::{Remark, Standing};
use super::review::{Findings, LineComment};
use super::task::{Outcome, Task};

/// The steps of a run, in order. A step may run twice: it looks for its own result first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Announce,
    Freeze,
    Provision,
    Prepare,
    Agent,
    Collect,
    Publish,
    Review,
    Settle,
}

impl Step {
    pub const ALL: [Self; 9] = [
        Self::Announce,
        Self::Freeze,
        Self::Provision,
        Self::Prepare,
        Self::Agent,
        Self::Collect,
        Self::Publish,
        Self::Review,
        Self::Settle,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Announce => "announce",
            Self::Freeze => "freeze",
            Self::Provision => "provision",
            Self::Prepare => "prepare",
            Self::Agent => "agent",
            Self::Collect => "collect",
            Self::Publish => "publish",
            Self::Review => "review",
            Self::Settle => "settle",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }

    pub fn next(self) -> Self {
        Self::ALL.into_iter().find(|step| *step > self).unwrap_or(Self::Settle)
    }

    /// The line of the checklist in the status comment; the first and last step are not shown.
    pub fn label(self, task: &Task) -> Option<&'static str> {
        match self {
            Self::Announce | Self::Settle => None,
            Self::Freeze if task.thread.is_pull => Some("Read the pull request"),
            Self::Freeze => Some("Read the issue"),
            Self::Provision => Some("Start a sandbox"),
            Self::Prepare => Some("Fetch the code and the agent"),
            Self::Agent => Some("Work"),
            Self::Collect if task.options.is_review => Some("Sort out the findings"),
            Self::Collect => Some("Collect the changes"),
            Self::Publish if task.options.is_review => Some("Post the review"),
            Self::Publish => Some("Publish"),
            Self::Review => Some("Ask for a second opinion"),
        }
    }
}

/// Identity of a sandbox, enough to find it again after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxId {
    /// As the service named it: the id of its run.
    pub name: String,
    /// As its provider calls this life of it; empty where only the name is known.
    pub session: String,
}

impl SandboxId {
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), session: String::new() }
    }
}

/// What the steps of a run learned, stored before the next one starts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunFacts {
    /// Set before the status comment is made, so that a second try looks for it first.
    pub announcing: bool,
    /// Set before the sandbox is made, so that it is ended even if its making is never answered.
    pub sandbox_asked_for: bool,
    pub sandbox: Option<SandboxId>,
    pub sandbox_since: Option<Millis>,
    /// When the sandbox ends by itself.
    pub sandbox_ends_at: Option<Millis>,
    /// The agent's command in the sandbox, as the provider calls it.
    pub command: Option<String>,
    /// How long the agent was allowed to work, in milliseconds.
    pub agent_limit_ms: Option<u64>,
    /// What is done otherwise than asked or expected, each a sentence.
    pub notes: Vec<String>,
    /// What the run waits for, while it does.
    pub waiting_for: Option<String>,
    /// Steps that are over, with the milliseconds they took.
    pub took: Vec<(Step, u64)>,
    /// When each step ended.
    #[serde(default)]
    pub ended: Vec<(Step, Millis)>,
    /// The sandbox was started from a snapshot.
    pub is_warm: bool,
    /// The sandbox stays after the end.
    pub kept: Option<Kept>,
    /// Files beside the checkout that people attached to the thread.
    pub attached: Vec<Attached>,
    pub agent_end: Option<AgentEnd>,
    /// The agent's to-do list, calls of tools so far, and what the last one is about.
    pub plan: Vec<String>,
    pub calls: u64,
    pub last_call: Option<String>,
    pub agent_text: Option<String>,
    /// Names of the connectors the agent has, and where they lead.
    pub connectors: Vec<String>,
    pub connector_urls: Vec<String>,
    /// Their secrets are put on requests by the sandbox's network.
    pub connectors_injected: bool,
    /// The agent's conversation, as it calls it.
    pub session: Option<String>,
    /// It is an earlier one.
    pub is_resumed: bool,
    /// The sandbox is that of an earlier run, which kept it.
    pub took_over: bool,
    pub model: Option<String>,
    /// As the agent tells it.
    pub usage: Option<Usage>,
    /// As the model gateway counted it.
    pub spent: Option<Spent>,
    /// The limit that stopped the agent.
    pub stopped_by: Option<Reached>,
    pub selection: Option<Selection>,
    /// Set before the branch is made: from then on a branch of this name is our own.
    pub branch: Option<String>,
    pub commit: Option<String>,
    /// The head of the pull request moved meanwhile: the commit is made on top of this one.
    pub rebuilt_on: Option<String>,
    /// Files for agents that are those of the base, not of the pull request, and are not published.
    pub put_back: Vec<String>,
    pub pull: Option<PullLink>,
    /// The pull request was there before.
    pub pull_was_there: bool,
    /// By it a push to a fork is known as ours, if its answer is lost.
    pub push_mark: Option<String>,
    /// The work was told as so many suggestions on the pull request: nobody can push to its branch.
    pub suggested: Option<usize>,
    /// The keys the agent uses: none, one, or one for each vendor it wants.
    pub keys: Vec<ChosenKey>,
    /// Who stopped the agent.
    pub cancelled_by: Option<String>,
    /// What a review found, and what of it is said where.
    pub found: Option<Findings>,
    /// Files of a pull request that the reviewer was not handed whole.
    pub cut: Vec<String>,
    pub review: Option<ReviewFacts>,
    /// The second agent's look at the pull request.
    pub second: Option<SecondOpinion>,
    /// Who paid for the model, in words.
    pub key_owner: Option<String>,
    pub held_back: Vec<HeldBack>,
    pub files_changed: usize,
    /// The end, decided but not yet settled.
    pub ending: Option<Ending>,
}

impl RunFacts {
    /// Tells the requester something, once: a step that is taken up again says it again.
    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// What the review of another agent came to, as far as it got.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecondOpinion {
    pub keys: Vec<ChosenKey>,
    /// Its command in the sandbox.
    pub command: Option<String>,
    pub text: Option<String>,
    /// GitHub's number of the review.
    pub review: Option<i64>,
}

/// A review of a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewFacts {
    /// What it was made for.
    pub commit: String,
    pub remarks: Vec<Remark>,
    pub body: String,
    pub comments: Vec<LineComment>,
    /// Earlier remarks that it settles.
    pub fixed: Vec<Standing>,
    /// GitHub's number of it.
    pub id: Option<i64>,
}

/// What the calls of a task came to at the model gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Read and written.
    pub tokens: u64,
    /// `None`: a model was used whose price is not known.
    pub sum: Option<Usd>,
    /// A call was cut off, and counted by its size.
    pub is_estimate: bool,
}

/// A sandbox that stays after the end of its run, with what can be looked at in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub until: Millis,
    /// Public address of the development server, if the project has one.
    pub address: Option<String>,
    /// Why there is no server, or what it is.
    pub about: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullLink {
    pub number: i64,
    pub url: String,
}

/// How a run ended: an outcome with one sentence for the person who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub outcome: Outcome,
    pub reason: String,
    /// Foreign text that explains it, such as the last lines of a program; shown fenced.
    #[serde(default)]
    pub detail: String,
}

/// Where a run stands, as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: RunId,
    pub task: TaskId,
    pub attempt: i64,
    pub step: Step,
    pub facts: RunFacts,
    /// Bytes of the agent's output that are in the log already, always at the end of a line.
    pub log_at: LogPosition,
    pub started_at: Millis,
}

impl Run {
    /// The same, ended from outside.
    pub fn ended_as(mut self, ending: &Ending) -> Self {
        self.step = Step::Settle;
        self.facts.ending = Some(ending.clone());
        self
    }

    /// The sandbox that this run has, or may have: one whose making was never answered is known by
    /// its name alone.
    pub fn sandbox(&self) -> Option<SandboxId> {
        let known = self.facts.sandbox.clone();
        known.or_else(|| self.facts.sandbox_asked_for.then(|| SandboxId::named(&self.id.0)))
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogPosition {
    pub stdout: i64,
    pub stderr: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_each_other_to_the_end() {
        let mut step = Step::Announce;
        let mut seen = vec![step];
        while step != Step::Settle {
            step = step.next();
            seen.push(step);
        }
        assert_eq!(seen, Step::ALL);
    }

    #[test]
    fn facts_of_an_older_version_still_read() {
        assert_eq!(serde_json::from_str::<RunFacts>("{}").unwrap(), RunFacts::default());
    }
}
