//! The status comment, the pull request and the commit message: pure text, made from a task and its
//! run. Each holds its marker, by which it is found again.

use std::time::Duration;

use super::markdown::{capped, code, fenced, inline, quoted, title};
use super::money::Usd;
use super::prompt::Inputs;
use super::run::{Ending, RunFacts, Step};
use super::task::{Outcome, Task};
use super::text::{count, cut_marked, duration};

/// Items of the agent's to-do list that are shown.
const MAX_PLAN: usize = 15;

/// Everything the status comment tells.
#[derive(Debug, Clone)]
pub struct StatusComment<'a> {
    pub task: &'a Task,
    pub facts: &'a RunFacts,
    pub step: Step,
    pub elapsed: Duration,
    /// Address of the page with the live log.
    pub log_url: &'a str,
    pub hidden_removed: usize,
}

/// The line by which a status comment is recognised.
pub fn task_marker(task: &Task) -> String {
    format!("<!-- hireling:task={} -->", task.id)
}

impl StatusComment<'_> {
    pub fn markdown(&self) -> String {
        let mut parts = vec![task_marker(self.task)];
        match &self.facts.ending {
            None => parts.extend(self.progress()),
            Some(ending) => parts.extend(self.result(ending)),
        }
        capped(&parts.join("\n"), self.log_url)
    }

    fn progress(&self) -> Vec<String> {
        let request = if self.task.request.is_empty() { "fix this" } else { &self.task.request };
        let mut parts = vec![format!(
            "**{}{} is working** on a request of {}: {}\n",
            code(&self.task.agent),
            self.model(),
            inline(&self.task.requester.login),
            inline(&cut_marked(request, 200))
        )];
        for step in Step::ALL {
            let is_wanted = step != Step::Review || self.task.options.review_by.is_some();
            if let Some(label) = step.label().filter(|_| is_wanted) {
                let mark = if step < self.step { "x" } else { " " };
                let now = if step == self.step { self.doing() } else { self.took(step) };
                parts.push(format!("- [{mark}] {label}{now}"));
                if step == Step::Agent {
                    parts.extend(self.plan());
                }
            }
        }
        parts.push(format!(
            "\n{} so far{} · [live log]({}) · to stop it, comment `/agent cancel`",
            duration(self.elapsed),
            self.facts.spent.map(|_| format!(" · {}", self.cost())).unwrap_or_default(),
            self.log_url
        ));
        parts.extend(self.notes());
        parts
    }

    /// The agent's own to-do list, below its step.
    fn plan(&self) -> Vec<String> {
        let mut items: Vec<String> = self
            .facts
            .plan
            .iter()
            .take(MAX_PLAN)
            .map(|item| {
                let (mark, text) = match item.strip_prefix("[x] ") {
                    Some(text) => ("x", text),
                    None => (" ", item.strip_prefix("[ ] ").unwrap_or(item)),
                };
                format!("  - [{mark}] {}", inline(&cut_marked(text, 120)))
            })
            .collect();
        if self.facts.plan.len() > MAX_PLAN {
            items.push(format!("  - and {} more", self.facts.plan.len() - MAX_PLAN));
        }
        items
    }

    /// Behind the step that is under way.
    fn doing(&self) -> String {
        match &self.facts.waiting_for {
            Some(what) => format!(" … waiting for {}", inline(what)),
            None if self.step == Step::Agent && self.facts.calls > 0 => {
                let calls = count(usize::try_from(self.facts.calls).unwrap_or(usize::MAX), "call");
                let last = self.facts.last_call.as_deref().map(|last| format!(", now {}", code(&cut_marked(last, 80))));
                format!(" … {calls} of tools{}", last.unwrap_or_default())
            }
            None => " …".to_owned(),
        }
    }

    /// Behind a step that is over: how long it took, if that is worth a word.
    fn took(&self, step: Step) -> String {
        let millis: u64 = self.facts.took.iter().filter(|(known, _)| *known == step).map(|(_, millis)| millis).sum();
        let warm = if step == Step::Provision && self.facts.is_warm { ", from a snapshot" } else { "" };
        if millis < 1_000 && warm.is_empty() {
            return String::new();
        }
        format!(" · {}{warm}", duration(Duration::from_millis(millis)))
    }

    fn result(&self, ending: &Ending) -> Vec<String> {
        let mut parts = vec![format!("{}\n", self.headline(ending))];
        if let Some(text) = self.facts.agent_text.as_deref().filter(|text| !text.trim().is_empty())
            && self.facts.review.is_none()
            && matches!(ending.outcome, Outcome::Succeeded | Outcome::NoChanges)
        {
            parts.push(format!("{}\n", quoted(text, 8_000)));
        }
        if !ending.detail.is_empty() {
            parts.push(format!("{}\n", fenced(&ending.detail)));
        }
        parts.extend(self.notes());
        parts.push(self.facts_line());
        parts.push(match ending.outcome {
            Outcome::Succeeded | Outcome::NoChanges => {
                format!("\nTo go on, comment `/agent {}` and what should be different.", self.task.agent)
            }
            _ if self.facts.commit.is_some() || self.facts.session.is_some() => {
                "\nTo go on from here, comment `/agent continue`; to start over, `/agent retry`.".to_owned()
            }
            _ => "\nTo try again, comment `/agent retry`.".to_owned(),
        });
        parts
    }

    fn headline(&self, ending: &Ending) -> String {
        let agent = code(&self.task.agent);
        let changed = count(self.facts.files_changed, "changed file");
        let reason = inline(&ending.reason);
        if let (Outcome::Succeeded, Some(review)) = (ending.outcome, &self.facts.review) {
            let remarks = if review.remarks.is_empty() {
                "nothing to say".to_owned()
            } else {
                count(review.remarks.len(), "remark")
            };
            return format!("🚀 **Done.** {agent} reviewed #{}: {remarks}.", self.task.thread.issue);
        }
        match (ending.outcome, &self.facts.pull, &self.facts.branch) {
            (Outcome::Succeeded, Some(pull), _) => {
                let did = if self.facts.pull_was_there { "went on with" } else { "opened" };
                format!("🚀 **Done.** {agent} {did} #{} with {changed}.", pull.number)
            }
            (Outcome::Succeeded, None, Some(branch)) => {
                format!("🚀 **Done.** {agent} pushed {changed} to {}.", code(branch))
            }
            (Outcome::Succeeded, None, None) => format!("🚀 **Done.** {reason}"),
            (Outcome::NoChanges, ..) if !ending.reason.is_empty() => format!("👍 **Nothing to do.** {reason}"),
            (Outcome::NoChanges, ..) => format!("👍 **Nothing to change.** {agent} ended without changing a file."),
            (Outcome::Failed, _, Some(branch)) if self.facts.commit.is_some() => {
                format!("😕 **Failed.** {reason} The work so far is on the branch {}.", code(branch))
            }
            (Outcome::Failed, ..) => format!("😕 **Failed.** {reason}"),
            (Outcome::Cancelled, ..) => format!("😕 **Cancelled.** {reason}"),
            (Outcome::TimedOut, _, Some(branch)) if self.facts.commit.is_some() => {
                format!("😕 **Out of time.** {reason} The work so far is on the branch {}.", code(branch))
            }
            (Outcome::TimedOut, ..) => format!("😕 **Out of time.** {reason}"),
            (Outcome::Refused, ..) => format!("😕 **Refused.** {reason}"),
        }
    }

    /// What the requester should know besides the result.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.hidden_removed > 0 {
            notes.push(format!(
                "> [!NOTE]\n> Hidden text was removed from what the agent reads ({}).\n",
                count(self.hidden_removed, "piece")
            ));
        }
        for note in &self.facts.notes {
            notes.push(format!("> [!NOTE]\n> {}\n", inline(note)));
        }
        if let Some(kept) = &self.facts.kept {
            let until = kept.until.for_people();
            let what = match &kept.address {
                Some(address) => format!("[look at it]({address}) until {until} ({})", code(&kept.about)),
                None => format!("until {until}; {}", inline(&kept.about)),
            };
            notes.push(format!("> [!NOTE]\n> The sandbox keeps running: {what}. `/agent cancel` stops it.\n"));
        }
        if !self.facts.held_back.is_empty() {
            let mut note = format!("> [!WARNING]\n> {} held back:", count(self.facts.held_back.len(), "file"));
            for held in self.facts.held_back.iter().take(20) {
                note.push_str(&format!("\n> - {}: {}", code(&held.path), inline(&held.reason)));
            }
            if self.facts.held_back.len() > 20 {
                note.push_str(&format!("\n> - and {} more", self.facts.held_back.len() - 20));
            }
            notes.push(note + "\n");
        }
        notes
    }

    fn facts_line(&self) -> String {
        let mut facts = vec![code(&self.task.agent)];
        facts.extend(self.facts.model.as_deref().map(|model| code(&cut_marked(model, 100))));
        facts.push(format!("for {}", inline(&self.task.requester.login)));
        facts.push(format!("{}{}", duration(self.elapsed), self.ready_after()));
        if let (Some(agent), true) = (&self.task.options.review_by, self.has_second_opinion()) {
            facts.push(format!("reviewed by {}", code(agent)));
        }
        facts.push(self.cost());
        facts.extend(self.facts.key_owner.clone());
        if !self.facts.connectors.is_empty() {
            let names: Vec<String> = self.facts.connectors.iter().map(|name| code(name)).collect();
            facts.push(format!("connectors {}", names.join(", ")));
        }
        facts.push(format!("[log]({})", self.log_url));
        facts.join(" · ")
    }

    fn has_second_opinion(&self) -> bool {
        self.facts.second.as_ref().is_some_and(|second| second.review.is_some())
    }

    /// How long it took until the agent could begin: what a snapshot shortens.
    fn ready_after(&self) -> String {
        let steps = [Step::Provision, Step::Prepare];
        let millis: u64 = self.facts.took.iter().filter(|(step, _)| steps.contains(step)).map(|(_, ms)| ms).sum();
        if millis < 1_000 && !self.facts.is_warm {
            return String::new();
        }
        let warm = if self.facts.is_warm { " from a snapshot" } else { "" };
        format!(" (ready after {}{warm})", duration(Duration::from_millis(millis)))
    }

    fn model(&self) -> String {
        let model = self.facts.model.as_deref();
        model.map(|model| format!(" ({})", code(&cut_marked(model, 100)))).unwrap_or_default()
    }

    /// What the gateway counted goes before what the agent says of itself.
    fn cost(&self) -> String {
        if let Some(spent) = self.facts.spent {
            let money = spent.sum.map_or("not reported".to_owned(), |sum| format!("{sum} by list price"));
            let about = if spent.is_estimate { "about " } else { "" };
            return format!("cost {money} ({about}{} tokens)", spent.tokens);
        }
        match self.facts.usage {
            Some(usage) => {
                let tokens = usage.input_tokens + usage.output_tokens;
                let told = |cost: f64| format!("{} as the agent says", Usd::from_micros_up(cost * 1e6));
                let money = usage.cost_usd.map_or("not reported".to_owned(), told);
                format!("cost {money} ({tokens} tokens)")
            }
            None => "cost not reported".to_owned(),
        }
    }
}

/// What became of a task, for a conversation on a line.
pub fn in_talk(task: &Task, facts: &RunFacts, ending: &Ending, log_url: &str) -> String {
    let agent = code(&task.agent);
    let did = match (ending.outcome, &facts.commit) {
        (Outcome::Succeeded, Some(commit)) => format!("🚀 {agent} changed it in {commit}."),
        (Outcome::Succeeded | Outcome::NoChanges, _) => format!("👍 {agent} looked at it and changed nothing."),
        _ => format!("😕 {agent} did not get it done: {}", inline(&ending.reason)),
    };
    let said = facts.agent_text.as_deref().filter(|text| !text.trim().is_empty());
    let said = said.map(|text| format!("\n\n{}", quoted(text, 2_000))).unwrap_or_default();
    format!("{did} [log]({log_url}){said}")
}

/// The line by which the review of a task's pull request is recognised.
pub fn review_marker(task: &Task) -> String {
    format!("<!-- hireling:review={} -->", task.id)
}

/// The body of a review that was asked for.
pub fn review_body_of(task: &Task, body: &str, log_url: &str) -> String {
    let asked =
        format!("---\nAsked for by {} · [log]({log_url})\n{}", inline(&task.requester.login), review_marker(task));
    capped(&format!("{body}\n\n{asked}"), log_url)
}

/// The body of a second agent's review.
pub fn review_body(task: &Task, agent: &str, text: &str, log_url: &str) -> String {
    let parts = [
        format!("**Second opinion** of {} on the work of {}:", code(agent), code(&task.agent)),
        quoted(text, 20_000),
        format!("---\nAsked for by {} · [log]({log_url})\n{}", inline(&task.requester.login), review_marker(task)),
    ];
    capped(&parts.join("\n\n"), log_url)
}

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
    let request = if task.request.is_empty() { "fix this" } else { &task.request };
    let what = facts.agent_text.as_deref().filter(|text| !text.trim().is_empty());
    let mut parts = vec![
        format!("### What\n\n{}", what.map_or("The agent left no summary.".to_owned(), |text| quoted(text, 20_000))),
        format!(
            "### Why\n\n{} asked on the issue:\n\n{}\n\nCloses #{}",
            inline(&task.requester.login),
            quoted(request, 4_000),
            task.thread.issue
        ),
    ];
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

pub fn commit_message(task: &Task, inputs: &Inputs) -> CommitMessage {
    CommitMessage {
        headline: headline(task, inputs),
        body: format!(
            "Asked for by {login} and made by {agent}.\n\nCo-authored-by: {login} <{email}>\n{trailer}",
            login = task.requester.login,
            agent = task.agent,
            email = task.requester.commit_email(),
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

#[cfg(test)]
mod tests;
