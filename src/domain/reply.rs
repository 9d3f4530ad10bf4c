//! The short comments that answer a command which makes no task: help, lists, and what was wrong.

use super::command::{CommandError, OptionName, Verb};
use super::decision::LedgerLine;
use super::markdown::{code, fenced, inline};
use super::permission::Permission;
use super::policy::POLICY_FILE;
use super::task::{Task, TaskState};
use super::text::{count, cut_marked};

/// An agent, as `/agent agents` shows it.
#[derive(Debug, Clone)]
pub struct AgentLine {
    pub name: String,
    pub is_default: bool,
    /// Whose key it would use, or that there is none.
    pub key: String,
    pub model: Option<String>,
}

/// The line by which a reply is found again.
pub fn reply_marker(key: &str) -> String {
    format!("<!-- hireling:reply={key} -->")
}

pub fn help(handle: &str) -> String {
    let mut lines = vec![
        format!(
            "`/agent [AGENT[,AGENT…]] [VERB] [--option value …] [request …]`, or {} instead of `/agent`.\n",
            code(&format!("@{handle}"))
        ),
        "Without a verb, the agent does what the request says and opens a pull request.\n".to_owned(),
        "| verb | what it does |\n|---|---|".to_owned(),
    ];
    for (name, verb) in Verb::WRITTEN {
        lines.push(format!("| `{name}` | {} |", verb.help()));
    }
    lines.push("\n| option | what it takes or does |\n|---|---|".to_owned());
    for (name, option) in OptionName::ALL {
        lines.push(format!("| `--{name}` | {} |", option.help()));
    }
    lines.join("\n")
}

pub fn agents(list: &[AgentLine]) -> String {
    let mut lines = vec!["| agent | key | model | |\n|---|---|---|---|".to_owned()];
    for agent in list {
        let default = if agent.is_default { "default" } else { "" };
        let model = agent.model.as_deref().map(code).unwrap_or_default();
        lines.push(format!("| {} | {} | {model} | {default} |", code(&agent.name), inline(&agent.key)));
    }
    lines.join("\n")
}

pub fn status(tasks: &[(Task, String)]) -> String {
    if tasks.is_empty() {
        return "There are no tasks on this thread.".to_owned();
    }
    let mut lines = vec!["| task | agent | state | asked by | |\n|---|---|---|---|---|".to_owned()];
    for (task, url) in tasks {
        let state = match task.state {
            TaskState::Queued => "waiting for its turn".to_owned(),
            TaskState::Running => "running".to_owned(),
            TaskState::Finished(outcome) => outcome.name().replace('_', " "),
        };
        lines.push(format!(
            "| {} | {} | {state} | {} | [log]({url}) |",
            inline(&cut_marked(task.asked(), 80)),
            code(&task.agent),
            inline(&task.requester.login)
        ));
    }
    lines.join("\n")
}

pub fn why(ledger: &[LedgerLine]) -> String {
    if ledger.is_empty() {
        return "Nothing with a command was received on this thread before.".to_owned();
    }
    let mut lines = vec!["| when (UTC) | from | what became of it |\n|---|---|---|".to_owned()];
    for line in ledger {
        let what = line.code.map_or("not decided yet", super::decision::DecisionCode::meaning);
        let code_name = line.code.map_or(String::new(), |found| format!(" ({})", code(found.name())));
        lines.push(format!("| {} | {} | {what}{code_name} |", line.at.rfc3339(), inline(&line.sender)));
    }
    lines.join("\n")
}

pub fn command_error(error: &CommandError) -> String {
    let meant = error.suggestion.as_ref().map(|form| format!(" Did you mean {}?", code(form))).unwrap_or_default();
    format!(
        "{}{meant} Nothing was started.\n\n{}\n\n`/agent help` shows everything that can be written.",
        inline(&error.message),
        fenced(&error.pointer())
    )
}

pub fn no_permission(login: &str, needed: Permission) -> String {
    format!("{}, commands need {} access to this repository.", inline(login), needed.name())
}

pub fn agent_not_allowed(agent: &str, allowed: &[String]) -> String {
    let allowed: Vec<String> = allowed.iter().map(|name| code(name)).collect();
    format!(
        "This repository's policy ({}) does not allow {}; it allows {}. Nothing was started.",
        code(POLICY_FILE),
        code(agent),
        allowed.join(", ")
    )
}

/// One setting that holds, and whose word that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigLine {
    pub name: &'static str,
    pub value: String,
    pub whose: &'static str,
}

/// `fault`: why the policy file that is there now cannot be read.
pub fn config(lines: &[ConfigLine], has_file: bool, fault: Option<&str>) -> String {
    let file = code(POLICY_FILE);
    let mut parts = vec![match (has_file, fault) {
        (_, Some(fault)) => format!(
            "{file} cannot be read, so the last good one holds, if there was one:\n\n{}",
            fenced(&cut_marked(fault, 2_000))
        ),
        (true, None) => format!("{file} on the default branch holds."),
        (false, None) => format!("There is no {file} on the default branch."),
    }];
    let mut table = vec!["| what | value | from |\n|---|---|---|".to_owned()];
    table.extend(lines.iter().map(|line| format!("| {} | {} | {} |", line.name, inline(&line.value), line.whose)));
    parts.push(table.join("\n"));
    parts.join("\n\n")
}

pub fn agent_unavailable(agent: &str) -> String {
    format!("This version does not run {} yet. Nothing was started; `/agent agents` lists those it runs.", code(agent))
}

pub fn review_is_of_pulls() -> String {
    "A review is of a pull request: ask for it there. Nothing was started.".to_owned()
}

pub fn full_is_for_reviews() -> String {
    "`--full` is for reviews: `review --full`. Nothing was started.".to_owned()
}

pub fn review_takes_less() -> String {
    "A review changes nothing, so it takes only `--full`, `--model`, `--timeout`, `--max`, `--mcp`, `--no-mcp` and `--install`. \
     Nothing was started."
        .to_owned()
}

pub fn branch_is_the_pulls() -> String {
    "Work on a pull request goes to its own branch: leave out `--branch` and `--base`. Nothing was started.".to_owned()
}

/// `why`: which keys would do, and where one is linked.
pub fn no_key(why: &str) -> String {
    format!("{why} Nothing was started.")
}

pub fn retry_is_as_it_was() -> String {
    "`retry` repeats the last task as it was: it takes no options and no words. To change something, write a new \
     command. Nothing was started."
        .to_owned()
}

/// For a task that is older than what is kept.
pub fn text_is_forgotten() -> String {
    "What that task was given is not kept any more. Write the command again. Nothing was started.".to_owned()
}

pub fn nothing_to_review() -> String {
    "Without a pull request there is nothing to review: leave out `--no-pr` or `--review-by`. Nothing was started."
        .to_owned()
}

pub fn nothing_before() -> String {
    "Nothing has run to its end on this thread yet, so there is nothing to go on with.".to_owned()
}

pub fn bad_model(why: &str) -> String {
    format!("{}. Nothing was started.", inline(why))
}

pub fn no_connector(name: &str) -> String {
    format!(
        "There is no connector {} that you or this repository's account have linked. Nothing was started.",
        code(name)
    )
}

pub fn max_unavailable(agent: &str) -> String {
    format!(
        "The calls of {} do not pass the model gateway, so nobody could hold `--max`. Nothing was started.",
        code(agent)
    )
}

pub fn daily_limit(limit: i64) -> String {
    format!(
        "That was more than {} for today (UTC). Nothing was started.",
        count(usize::try_from(limit).unwrap_or(0), "command")
    )
}

pub fn queue_full(waiting: i64) -> String {
    format!(
        "{} waiting here already. Nothing was started; try again when some are done.",
        match waiting {
            1 => "1 task is".to_owned(),
            many => format!("{many} tasks are"),
        }
    )
}

pub fn nothing_to_cancel() -> String {
    "Nothing is running or waiting on this thread.".to_owned()
}

/// Nothing was running but a sandbox that had been left for people to look at.
pub fn kept_stopped() -> String {
    "The sandbox that was kept running is being stopped.".to_owned()
}

/// For a task that was stopped before a worker took it.
pub fn cancelled_in_queue(agent: &str, by: &str) -> String {
    format!("😕 **Cancelled.** The task for {} was stopped by {} before it started.", code(agent), inline(by))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::command::{Vocabulary, parse};

    fn words() -> Vocabulary {
        Vocabulary { handle: "hireling".into(), agents: vec!["claude".into()] }
    }

    #[test]
    fn an_error_reply_points_at_the_fault() {
        let error = parse("/agent claude --modle opus", &words()).remove(0).unwrap_err();
        insta::assert_snapshot!(command_error(&error), @r"
        There is no option “--modle”. Did you mean `--model`? Nothing was started.

        ```text
        /agent claude --modle opus
                      ^^^^^^^
        ```

        `/agent help` shows everything that can be written.
        ");
    }

    #[test]
    fn our_own_replies_hold_no_working_command() {
        let error = parse("/agent --x ```\n/agent", &words()).remove(0).unwrap_err();
        for text in [
            help("hireling"),
            command_error(&error),
            no_permission("/agent", Permission::Write),
            agent_not_allowed("/agent", &["/agent".to_owned()]),
            agent_unavailable("/agent"),
            config(&[], true, Some("`\n/agent")),
        ] {
            assert_eq!(parse(&text, &words()), [], "{text}");
        }
    }

    #[test]
    fn help_offers_exactly_what_is_there() {
        let text = help("hireling");
        assert!(text.contains("| `cancel` |") && text.contains("`--timeout`") && text.contains("| `review` |"));
        assert!(text.contains("| `config` |"));
    }
}
