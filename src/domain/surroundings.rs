//! What stands around a pull request and says what is wrong with it: issues that it closes, checks that failed.

use serde::{Deserialize, Serialize};

use super::log_entry::visible;
use super::prompt::{Quoted, data, fenced_as};
use super::text::{cut_marked, name_of, without_hidden};

pub const MAX_ISSUES: usize = 10;
/// Failed checks that are told, with the end of their logs.
pub const MAX_CHECKS: usize = 8;
const MAX_ISSUE_BYTES: usize = 16 * 1024;
const MAX_CHECK_BYTES: usize = 6 * 1024;
/// Of a log: so many lines before its last error, and behind it.
const LINES_BEFORE: usize = 60;
const LINES_BEHIND: usize = 5;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Surroundings {
    pub issues: Vec<LinkedIssue>,
    pub checks: Vec<FailedCheck>,
}

/// An issue that merging closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkedIssue {
    pub number: i64,
    pub title: String,
    pub body: Quoted,
}

/// A check that failed on the head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCheck {
    pub name: String,
    /// What it says, or the end of its log.
    pub text: String,
}

impl Surroundings {
    /// Cleans and caps. Gives how many hidden pieces were taken out.
    pub fn freeze(self) -> (Self, usize) {
        let mut removed = 0;
        let mut clean = |text: &str, max: usize| {
            let cleaned = without_hidden(text);
            removed += cleaned.removed;
            cut_marked(cleaned.text.trim(), max)
        };
        let issues = self.issues.into_iter().take(MAX_ISSUES).map(|issue| LinkedIssue {
            title: clean(&issue.title, 300),
            body: Quoted { text: clean(&issue.body.text, MAX_ISSUE_BYTES), ..issue.body },
            ..issue
        });
        let issues = issues.collect();
        let checks = self
            .checks
            .into_iter()
            .take(MAX_CHECKS)
            .map(|check| FailedCheck { name: clean(&check.name, 200), text: clean(&check.text, MAX_CHECK_BYTES) });
        let checks = checks.collect();
        (Self { issues, checks }, removed)
    }

    pub(super) fn prompt(&self) -> Vec<String> {
        let issues = self.issues.iter().map(|issue| {
            let whole = Quoted { text: format!("{}\n\n{}", issue.title, issue.body.text), ..issue.body.clone() };
            data(&format!("issue #{} that this closes,", issue.number), &whole)
        });
        let checks = self
            .checks
            .iter()
            .map(|check| fenced_as(&format!("This check failed on the head: {}", name_of(&check.name)), &check.text));
        issues.chain(checks).collect()
    }
}

/// What of a log shows why it failed: the lines around its last error, else its last lines.
pub fn end_of_log(log: &str) -> String {
    let log = visible(log);
    let lines: Vec<&str> = log.lines().map(without_time).collect();
    let last_error = lines.iter().rposition(|line| line.starts_with("##[error]"));
    let end = last_error.map_or(lines.len(), |at| (at + 1 + LINES_BEHIND).min(lines.len()));
    let mut from = end.saturating_sub(LINES_BEFORE + LINES_BEHIND);
    // Too long lines: the last of them count.
    let size = |from: usize| lines[from..end].iter().map(|line| line.len() + 1).sum::<usize>();
    while from < end && size(from) > MAX_CHECK_BYTES {
        from += 1;
    }
    lines[from..end].join("\n")
}

/// GitHub puts the time before each line.
fn without_time(line: &str) -> &str {
    match line.split_once("Z ") {
        Some((time, rest)) if time.len() > 18 && time.bytes().all(|b| b.is_ascii_digit() || b"-:.T".contains(&b)) => {
            rest
        }
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_log_the_lines_around_the_last_error_are_told() {
        let mut log: Vec<String> = (0..500).map(|n| format!("2026-01-02T03:04:05.1234567Z line {n}")).collect();
        log[300] = "2026-01-02T03:04:05.1234567Z ##[error]\u{1b}[31mexpected Z but got 3\u{1b}[0m".into();
        let end = end_of_log(&log.join("\n"));
        assert!(end.starts_with("line 241\n") && end.ends_with("line 305"), "{end}");
        assert!(end.contains("\n##[error]expected Z but got 3\n"), "{end}");
        assert_eq!(end_of_log("one\ntwo"), "one\ntwo");
        let long = format!("{}\n{}\nlast", "x".repeat(MAX_CHECK_BYTES), "y".repeat(100));
        assert_eq!(end_of_log(&long), format!("{}\nlast", "y".repeat(100)));
        assert_eq!(end_of_log(""), "");
    }

    #[test]
    fn what_is_told_is_cleaned_and_capped() {
        let quoted = |text: &str| Quoted { author: "eve".into(), is_insider: false, text: text.into() };
        let issue = |number| LinkedIssue { number, title: "Broken".into(), body: quoted("It <!-- x -->is.") };
        let checks = vec![FailedCheck { name: "test".into(), text: "```\nboom".into() }];
        let (frozen, removed) = Surroundings { issues: (1..20).map(issue).collect(), checks }.freeze();
        assert_eq!((frozen.issues.len(), removed), (MAX_ISSUES, MAX_ISSUES));
        let prompt = frozen.prompt().concat();
        assert!(prompt.contains("issue #1 that this closes, by eve (an outsider):\n```\nBroken\n\nIt is.\n```"));
        assert!(prompt.contains("This check failed on the head: `test`:\n````\n```\nboom\n````"), "{prompt}");
    }
}
