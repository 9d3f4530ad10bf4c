//! The status comment, the pull request and the commit message: pure text, made from a task and its
//! run. Each holds its marker, by which it is found again.

mod published;

use std::time::Duration;

use super::markdown::{capped, code, fenced, inline, quoted};
use super::money::Usd;
use super::run::{Ending, RunFacts, Step};
use super::task::{Outcome, Task};
use super::text::{count, cut_marked, duration};

pub use published::{Beside, CommitMessage, PullText, commit_message, commit_trailer, pull_text};

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
        let mut parts = vec![format!(
            "**{}{} is working** on a request of {}: {}\n",
            code(&self.task.agent),
            self.model(),
            inline(&self.task.requester.login),
            inline(&cut_marked(self.task.asked(), 200))
        )];
        for step in Step::ALL {
            let is_wanted = step != Step::Review || self.task.options.review_by.is_some();
            if let Some(label) = step.label(self.task).filter(|_| is_wanted) {
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
            (Outcome::Succeeded, ..) if self.facts.suggested.is_some() => {
                let suggested = count(self.facts.suggested.unwrap_or_default(), "suggestion");
                format!("🚀 **Done.** {agent} made {suggested} on #{}.", self.task.thread.issue)
            }
            (Outcome::Succeeded, Some(pull), _) => {
                let did = if self.facts.pull_was_there { "went on with" } else { "opened" };
                format!("🚀 **Done.** {agent} {did} #{} with {changed}.", pull.number)
            }
            (Outcome::Succeeded, None, Some(branch)) => {
                format!("🚀 **Done.** {agent} pushed {changed} to {}.", code(branch))
            }
            (Outcome::Succeeded, None, None) => format!("🚀 **Done.** {reason}"),
            (Outcome::NoChanges, ..) if self.task.options.is_review => format!("👍 **Nothing new.** {reason}"),
            (Outcome::NoChanges, ..) => format!("👍 **Nothing to change.** {agent} ended without changing a file."),
            (Outcome::Failed, _, Some(branch)) if self.facts.commit.is_some() => {
                format!("😕 **Failed.** {reason} The work so far is on the branch {}.", code(branch))
            }
            (Outcome::Failed, ..) => format!("😕 **Failed.** {reason}"),
            (Outcome::Cancelled, _, Some(branch)) if self.facts.commit.is_some() => {
                format!("😕 **Cancelled.** {reason} The work so far is on the branch {}.", code(branch))
            }
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
        (Outcome::Succeeded, None) if facts.suggested.is_some() => {
            format!("🚀 {agent} made suggestions on this pull request.")
        }
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
    let asked = format!("---\nAsked for by {} · [log]({log_url})", inline(&task.requester.login));
    // First, for the end may be cut.
    capped(&format!("{}\n{body}\n\n{asked}", review_marker(task)), log_url)
}

/// The body of a second agent's review.
pub fn review_body(task: &Task, agent: &str, text: &str, log_url: &str) -> String {
    let parts = [
        format!("{}\n**Second opinion** of {} on the work of {}:", review_marker(task), code(agent), code(&task.agent)),
        quoted(text, 20_000),
        format!("---\nAsked for by {} · [log]({log_url})", inline(&task.requester.login)),
    ];
    capped(&parts.join("\n\n"), log_url)
}

#[cfg(test)]
mod tests;
