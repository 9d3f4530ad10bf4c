//! A pull request as it was at the trigger, and what of its head is not trusted.

use serde::{Deserialize, Serialize};

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
