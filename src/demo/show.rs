//! What the demo prints for the person who waits.
#![expect(clippy::print_stdout, reason = "a command that talks to a person")]

use super::standin::Standin;
use crate::domain::log_entry::LogEntry;
use crate::domain::task::Task;

#[derive(Debug)]
pub(super) struct Screen;

impl Screen {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn line(&self, text: &str) {
        println!("{text}");
    }

    pub(super) fn entry(&self, entry: &LogEntry) {
        println!("  │ {}", entry.text);
    }

    /// The whole thread, without the parts that GitHub does not show.
    pub(super) async fn thread(&self, github: &Standin, repo: &str, issue: i64) {
        println!("\n── the thread {}", "─".repeat(50));
        for comment in github.thread(repo, issue).await {
            let shown: Vec<&str> = comment.body.lines().filter(|line| !line.starts_with("<!--")).collect();
            let reactions: Vec<String> = github
                .reactions(&format!("comment:{}", comment.id))
                .await
                .into_iter()
                .map(|reaction| format!(":{}:", reaction.content))
                .collect();
            println!("{}: {}", comment.author, shown.join("\n    "));
            if !reactions.is_empty() {
                println!("    {}", reactions.join(" "));
            }
            println!();
        }
    }

    /// The pull request and its diff. False: there is none.
    pub(super) async fn pull(&self, github: &Standin, repo: &str, task: &Task) -> anyhow::Result<bool> {
        let Some(pull) = github.pulls(repo).await.into_iter().next_back() else {
            println!("There is no pull request: {} {}", task.state.name(), task.reason);
            return Ok(false);
        };
        println!("── pull request #{}: {} ({} → {})", pull.number, pull.title, pull.head, pull.base);
        println!("{}", github.diff(repo, &pull.base, &pull.head).await?);
        println!("The pull request: {}/{repo}/pull/{}", github.url, pull.number);
        Ok(true)
    }
}
