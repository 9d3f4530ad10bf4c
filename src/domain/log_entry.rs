//! One redacted line of a run, as people read it live.

use serde::{Deserialize, Serialize};

use super::agent_stream::AgentEvent;
use super::ids::Millis;
use super::text::cut_marked;

/// Longer lines are cut, with a mark (fault F36).
pub const MAX_LINE_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Info,
    Command,
    Error,
    Success,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Command => "command",
            Self::Error => "error",
            Self::Success => "success",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Info, Self::Command, Self::Error, Self::Success].into_iter().find(|kind| kind.name() == name)
    }
}

/// A line before it has its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub kind: Kind,
    pub text: String,
}

impl Line {
    pub fn new(kind: Kind, text: impl AsRef<str>) -> Self {
        Self { kind, text: plain(text.as_ref()) }
    }
}

/// A line in its place: `seq` counts from 1 within a task, without holes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    pub seq: i64,
    pub at: Millis,
    pub kind: Kind,
    pub text: String,
}

/// No terminal sequences, no carriage returns, no control characters (threat T22).
fn plain(text: &str) -> String {
    cut_marked(&visible(text), MAX_LINE_BYTES)
}

/// What a terminal would show of a text.
pub fn visible(text: &str) -> String {
    let stripped = anstream::adapter::strip_str(text).to_string();
    stripped.chars().filter(|c| *c == '\t' || *c == '\n' || !c.is_control()).collect()
}

/// What of an event a reader of the log sees.
pub fn lines_of(event: &AgentEvent) -> Vec<Line> {
    let each = |kind: Kind, text: &str| text.lines().map(|line| Line::new(kind, line)).collect::<Vec<_>>();
    match event {
        AgentEvent::Started { model: Some(model), .. } => vec![Line::new(Kind::Info, format!("model: {model}"))],
        AgentEvent::Text(text) | AgentEvent::Reasoning(text) | AgentEvent::Log(text) => each(Kind::Info, text),
        AgentEvent::ToolCall { title } => vec![Line::new(Kind::Command, title)],
        AgentEvent::ToolResult { ok: true, output } => each(Kind::Info, output),
        AgentEvent::ToolResult { ok: false, output } => each(Kind::Error, output),
        AgentEvent::Plan { items } => items.iter().map(|item| Line::new(Kind::Info, item)).collect(),
        AgentEvent::Retry(text) | AgentEvent::Warning(text) => each(Kind::Error, text),
        AgentEvent::Failed { message, .. } => each(Kind::Error, message),
        AgentEvent::Done { text: Some(text) } => each(Kind::Success, text),
        AgentEvent::Started { .. }
        | AgentEvent::Session(_)
        | AgentEvent::Usage(_)
        | AgentEvent::Done { text: None } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_tricks_do_not_reach_the_log() {
        let hostile =
            "\u{1b}[31mred\u{1b}[0m \u{1b}]8;;http://evil\u{7}link\u{1b}]8;;\u{7} \u{1b}]52;c;aGk=\u{7}x\rover\u{0}";
        assert_eq!(Line::new(Kind::Info, hostile).text, "red link xover");
    }

    #[test]
    fn a_giant_line_is_cut_with_a_mark() {
        let line = Line::new(Kind::Info, "x".repeat(10_000_000));
        assert_eq!(line.text.len(), MAX_LINE_BYTES);
        assert!(line.text.ends_with("[…]"));
    }
}
