//! What a task's pull request and its commit say.

use crate::domain::markdown::{capped, code, inline, quoted, title};
use crate::domain::prompt::Inputs;
use crate::domain::run::RunFacts;
use crate::domain::task::Task;
use crate::domain::text::cut_marked;

/// Title and body of the pull request of a task.
#[derive(Debug, PartialEq, Eq)]
pub struct PullText {
    pub title: String,
    pub body: String,
}

/// Another agent that was asked the same in the same command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    pub agent: String,
    pub pull: Option<i64>,
    /// Of its task's page.
    pub url: String,
}

fn beside_line(beside: &[Beside]) -> String {
    let names: Vec<String> = beside
        .iter()
        .map(|other| match other.pull {
            Some(number) => format!("{} (#{number})", code(&other.agent)),
            None => format!("{} ([its task]({}))", code(&other.agent), other.url),
        })
        .collect();
    format!("The same was asked of {}.", names.join(", "))
}

pub fn pull_text(task: &Task, inputs: &Inputs, facts: &RunFacts, log_url: &str, beside: &[Beside]) -> PullText {
    // Merging it settles an issue, but not another pull request.
    let (place, effect) = if task.thread.is_pull { ("pull request", "For") } else { ("issue", "Closes") };
    let what = facts.agent_text.as_deref().filter(|text| !text.trim().is_empty());
    let mut parts = vec![
        format!("### What\n\n{}", what.map_or("The agent left no summary.".to_owned(), |text| quoted(text, 20_000))),
        format!(
            "### Why\n\n{} asked on the {place}:\n\n{}\n\n{effect} #{}",
            inline(&task.requester.login),
            quoted(task.asked(), 4_000),
            task.thread.issue
        ),
    ];
    if let Some(pull) = inputs.pull.as_ref().filter(|pull| pull.fork.is_some()) {
        parts.push(format!(
            "It holds the commits of #{} from {} as of {}, and this work on top of them; merging it merges both. No workflow has \
             run for it (`[skip ci]`): look at all of it before you let one.",
            task.thread.issue,
            code(&pull.head_branch),
            inputs.base_sha
        ));
    }
    if !beside.is_empty() {
        parts.push(beside_line(beside));
    }
    if !facts.held_back.is_empty() {
        let list: Vec<String> = facts
            .held_back
            .iter()
            .take(20)
            .map(|held| format!("- {}: {}", code(&held.path), inline(&held.reason)))
            .collect();
        parts.push(format!("### Held back\n\n{}", list.join("\n")));
    }
    let model = facts.model.as_deref().map(|model| format!(" ({})", code(&cut_marked(model, 100)))).unwrap_or_default();
    parts.push(format!(
        "---\nMade by {}{model} for {} · [log]({log_url})\n<!-- hireling:task={} -->",
        code(&task.agent),
        inline(&task.requester.login),
        task.id
    ));
    PullText { title: title(&inputs.title, 200), body: capped(&parts.join("\n\n"), log_url) }
}

/// Headline and body of the commit. The trailer tells which task made it.
#[derive(Debug, PartialEq, Eq)]
pub struct CommitMessage {
    pub headline: String,
    pub body: String,
}

pub fn commit_message(task: &Task, inputs: &Inputs, web_url: &str) -> CommitMessage {
    CommitMessage {
        headline: headline(task, inputs),
        body: format!(
            "Asked for by {login} and made by {agent}.\n\nCo-authored-by: {login} <{email}>\n{trailer}",
            login = task.requester.login,
            agent = task.agent,
            email = task.requester.commit_email(web_url),
            trailer = commit_trailer(task),
        ),
    }
}

/// A follow-up and work on a pull request are about their own request, the first work about the issue.
fn headline(task: &Task, inputs: &Inputs) -> String {
    let is_more = inputs.follows.is_some() || inputs.pull.is_some();
    let asked = task.request.lines().next().filter(|line| is_more && !line.trim().is_empty());
    title(asked.unwrap_or(&inputs.title), 100)
}

/// By this line a commit is recognised as the task's own.
pub fn commit_trailer(task: &Task) -> String {
    format!("Hireling-Task: {}", task.id)
}
