//! What people write in comments. The grammar:
//!
//! ```text
//! /agent [AGENT[,AGENT…]] [VERB] [--option value …] [request …]
//! ```
//!
//! `parse` is pure: text in, commands or helpful errors out.

mod markdown;
mod options;
mod parse;

use serde::{Deserialize, Serialize};

pub use options::{OptionName, Options, cents as parse_cents, duration as parse_duration, is_branch};
pub use parse::{could_hold_a_command, parse};

/// The words this instance understands besides the fixed grammar.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// The bot's login without `[bot]`; `@handle` is equal to `/agent`.
    pub handle: String,
    /// Names of all agents, custom ones included.
    pub agents: Vec<String>,
}

/// One thing that a person asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// As written, aliases resolved; empty when none was named.
    pub agents: Vec<String>,
    pub verb: Verb,
    pub options: Options,
    /// What to do, in the person's words; may be empty.
    pub request: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Work,
    Review,
    Help,
    Agents,
    Status,
    Cancel,
    Retry,
    Continue,
    Why,
    Config,
}

impl Verb {
    /// Every verb that can be written; `Work` is what the absence of one means.
    pub const WRITTEN: [(&str, Self); 10] = [
        ("review", Self::Review),
        ("help", Self::Help),
        ("agents", Self::Agents),
        ("status", Self::Status),
        ("cancel", Self::Cancel),
        ("stop", Self::Cancel),
        ("retry", Self::Retry),
        ("continue", Self::Continue),
        ("why", Self::Why),
        ("config", Self::Config),
    ];

    pub fn parse(word: &str) -> Option<Self> {
        Self::WRITTEN.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, verb)| *verb)
    }

    /// One line for `/agent help`. No wildcard: a new verb does not compile until it is described.
    pub fn help(self) -> &'static str {
        match self {
            Self::Work => "do the work and open a pull request",
            Self::Review => "review a pull request",
            Self::Help => "show this text",
            Self::Agents => "list the agents of this instance",
            Self::Status => "show the tasks of this thread",
            Self::Cancel => "stop the tasks of this thread (also `stop`)",
            Self::Retry => "run the last task again with the same inputs",
            Self::Continue => "go on where the last task ended",
            Self::Why => "tell what became of the last commands here",
            Self::Config => "show the settings that hold for this repository",
        }
    }
}

/// Other names of agents.
pub const ALIASES: [(&str, &str); 2] = [("openai", "codex"), ("anthropic", "claude")];

/// An agent's own name, whatever it was called.
pub fn agent_name(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, agent)| (*agent).to_owned())
}

/// What is wrong with a command, where, and what was probably meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    pub kind: CommandErrorKind,
    /// One sentence for the person who wrote the command, without Markdown.
    pub message: String,
    /// The line with the command, cut to a readable length.
    pub line: String,
    /// First character of the fault in `line`, and how many characters it has.
    pub column: usize,
    pub width: usize,
    /// The nearest correct form, when there is one.
    pub suggestion: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandErrorKind {
    UnknownAgent,
    BadOption,
}

impl CommandError {
    /// The line with carets under the fault, to be put into a code block.
    pub fn pointer(&self) -> String {
        format!("{}\n{}{}", self.line, " ".repeat(self.column), "^".repeat(self.width.max(1)))
    }
}
