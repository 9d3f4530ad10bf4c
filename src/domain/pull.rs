//! A pull request as it was at the trigger, and what of its head is not trusted.

use serde::{Deserialize, Serialize};

use super::ids::RepoName;

/// What a task on a pull request works with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullAt {
    /// Where its commits are; the work goes there, too.
    pub head_branch: String,
    /// What it is to be merged into, and the end of that then: whose files for agents count.
    pub base_branch: String,
    pub base_sha: String,
    /// Where the two went apart: what the pull request changes is told from there.
    pub merge_base: String,
    pub url: String,
    /// Its commits are in another repository.
    #[serde(default)]
    pub fork: Option<Fork>,
}

impl PullAt {
    /// The branch of this repository that it is made of.
    pub fn own_branch(&self) -> Option<&str> {
        self.fork.is_none().then_some(self.head_branch.as_str())
    }
}

/// Somebody's copy of the repository, from which a pull request comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// As in `eve/shop`; `None`: it is gone.
    pub name: Option<RepoName>,
    pub is_of_organization: bool,
    /// Its author lets people who may write here push to the branch.
    pub is_open_to_maintainers: bool,
}

impl Fork {
    /// Why nobody but its author can push there, in half a sentence; `None`: those who may write here can.
    pub fn why_closed(&self) -> Option<&'static str> {
        match self {
            Self { name: None, .. } => Some("the fork is gone"),
            // https://docs.github.com/pull-requests/collaborating-with-pull-requests/working-with-forks
            Self { is_of_organization: true, .. } => {
                Some("the fork belongs to an organization, and GitHub lets nobody else push to those")
            }
            Self { is_open_to_maintainers: false, .. } => Some("the author lets nobody else push to the fork"),
            Self { .. } => None,
        }
    }
}

/// A conversation about a line, as far as it was there at the trigger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewTalk {
    /// GitHub's number of its first comment, which is replied to.
    pub first: i64,
    pub path: String,
    /// Of the new side; `None`: the line is gone since.
    pub line: Option<i64>,
    /// The end of the hunk that it is about.
    pub hunk: String,
    pub said: Vec<super::prompt::Quoted>,
    /// The command was given in it.
    pub is_asked_in: bool,
}

/// Files by which a repository tells agents what to do, or what to run: on a pull request those of its
/// base count, whatever its head holds (threat T06). `agents.md` 10 shows which of them steal keys.
pub const AGENT_FILES: [&str; 17] = [
    "CLAUDE.md",
    "CLAUDE.local.md",
    "AGENTS.md",
    "GEMINI.md",
    ".claude",
    ".mcp.json",
    ".cursor",
    ".cursorrules",
    ".gemini",
    ".codex",
    ".opencode",
    "opencode.json",
    "opencode.jsonc",
    ".env",
    ".github/copilot-instructions.md",
    ".github/hooks",
    ".github/mcp.json",
];

/// As Git is told to look at them, wherever they are: the agents read those of folders, too.
pub fn agent_pathspecs() -> Vec<String> {
    let both = |name: &&str| {
        let anywhere = if name.contains('/') { "" } else { "**/" };
        [format!(":(glob){anywhere}{name}"), format!(":(glob){anywhere}{name}/**")]
    };
    AGENT_FILES.iter().flat_map(both).collect()
}

/// Whether a commit made for one head can be made for another one: nothing that it changes has changed
/// there since.
pub fn applies_cleanly(ours: &[&str], theirs: &[String]) -> bool {
    let touches = |one: &str, other: &str| {
        one == other || one.starts_with(&format!("{other}/")) || other.starts_with(&format!("{one}/"))
    };
    !ours.iter().any(|one| theirs.iter().any(|other| touches(one, other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_different_files_go_together() {
        let theirs = ["src/a.rs".to_owned(), "docs".to_owned()];
        assert!(applies_cleanly(&["src/b.rs", "src/a.rs.orig"], &theirs));
        for ours in ["src/a.rs", "docs/x.md", "src"] {
            assert!(!applies_cleanly(&[ours], &theirs), "{ours}");
        }
    }
}
