//! From the lines an agent prints to one set of events, and from events to how it ended.
//! Pure: the recorded streams of the real programs are the tests.

mod claude;
mod codex;
mod copilot;
mod cursor;
mod gemini;
mod opencode;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text::cut_marked;

/// The longest text kept of one event.
const MAX_EVENT_BYTES: usize = 16 * 1024;
/// Its waits grow (0.8 s, 6 s, 16 s): the third is the last that is worth waiting for.
const NETWORK_WAITS: u32 = 3;
/// Error lines kept for the sentence about a failed agent.
const STDERR_LINES: usize = 20;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    #[default]
    Text,
    Claude,
    Codex,
    Copilot,
    Cursor,
    Gemini,
    Opencode,
}

/// What an agent did, whichever it is.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentEvent {
    Started {
        session: Option<String>,
        model: Option<String>,
    },
    /// The conversation's id, where it is told at the end.
    Session(String),
    Text(String),
    Reasoning(String),
    ToolCall {
        title: String,
    },
    ToolResult {
        ok: bool,
        output: String,
    },
    Plan {
        items: Vec<String>,
    },
    Usage(Usage),
    Retry(String),
    Warning(String),
    Done {
        text: Option<String>,
    },
    Failed {
        fault: AgentFault,
        message: String,
    },
    /// A line that is none of the above.
    Log(String),
}

/// Tokens and money of this run; `None` where the agent does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost_usd: Option<f64>,
}

/// Why an agent did not finish, as far as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentFault {
    Auth,
    Model,
    RateLimit,
    Overloaded,
    Limit,
    Interrupted,
    Internal,
}

impl AgentFault {
    fn of_status(status: u64) -> Self {
        match status {
            401 | 403 => Self::Auth,
            404 => Self::Model,
            429 => Self::RateLimit,
            500..=599 => Self::Overloaded,
            _ => Self::Internal,
        }
    }
}

/// How the process of an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// Our own time limit stopped it.
    TimedOut,
}

/// How the agent's part of a run ended: from its stream *and* its exit, never from one alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentEnd {
    Done,
    TimedOut,
    Failed { fault: AgentFault, message: String },
}

/// Reads the output of one agent from its first line on.
#[derive(Debug)]
pub struct Transcript {
    format: OutputFormat,
    pub session: Option<String>,
    pub model: Option<String>,
    /// The agent's last word.
    pub text: Option<String>,
    pub usage: Option<Usage>,
    /// The newest to-do list.
    pub plan: Vec<String>,
    /// Calls of tools so far, and what the last one is about.
    pub calls: u64,
    pub last_call: Option<String>,
    failure: Option<(AgentFault, String)>,
    is_done: bool,
    stderr: std::collections::VecDeque<String>,
    fragments: gemini::Fragments,
    /// Times in a row that the agent said it waits for the network.
    network_waits: u32,
}

impl Transcript {
    pub fn new(format: OutputFormat) -> Self {
        Self {
            format,
            session: None,
            model: None,
            text: None,
            usage: None,
            plan: Vec::new(),
            calls: 0,
            last_call: None,
            failure: None,
            is_done: false,
            stderr: std::collections::VecDeque::new(),
            fragments: gemini::Fragments::default(),
            network_waits: 0,
        }
    }

    /// One line of standard output, without its end.
    pub fn stdout(&mut self, line: &str) -> Vec<AgentEvent> {
        let events = match self.format {
            OutputFormat::Claude => json_or_log(line, claude::events),
            OutputFormat::Opencode if self.session.is_none() => {
                json_or_log(line, |line| opencode::session(line).into_iter().chain(opencode::events(line)).collect())
            }
            OutputFormat::Opencode => json_or_log(line, opencode::events),
            OutputFormat::Codex => json_or_log(line, codex::events),
            OutputFormat::Gemini => json_or_log(line, |line| self.fragments.events(line)),
            OutputFormat::Copilot => json_or_log(line, copilot::events),
            OutputFormat::Cursor => json_or_log(line, cursor::events),
            OutputFormat::Text => vec![AgentEvent::Text(line.to_owned())],
        };
        events.iter().for_each(|event| self.note(event));
        events
    }

    /// Whether the agent waits for something that does not come and will not end by itself: Codex goes
    /// on for ever where its model's host cannot be reached.
    pub fn is_hopeless(&self) -> bool {
        self.network_waits >= NETWORK_WAITS
    }

    /// One line of standard error.
    pub fn stderr(&mut self, line: &str) -> AgentEvent {
        if self.stderr.len() == STDERR_LINES {
            self.stderr.pop_front();
        }
        self.stderr.push_back(cut_marked(line, 4_000));
        AgentEvent::Log(line.to_owned())
    }

    fn note(&mut self, event: &AgentEvent) {
        match event {
            AgentEvent::Started { session, model } => {
                self.session = session.clone().or(self.session.take());
                self.model = model.clone().or(self.model.take());
            }
            AgentEvent::Session(session) => self.session = Some(session.clone()),
            AgentEvent::Text(text) if self.format == OutputFormat::Text => {
                // Plain text has no marked end: its last paragraphs are the answer.
                let so_far = self.text.take().unwrap_or_default();
                let joined = format!("{so_far}{text}\n");
                let start = joined.len().saturating_sub(4096);
                let start = (start..joined.len()).find(|at| joined.is_char_boundary(*at)).unwrap_or(0);
                self.text = joined.get(start..).map(ToOwned::to_owned);
            }
            AgentEvent::Text(text) => {
                self.network_waits = 0;
                self.text = Some(text.clone());
                self.is_done = false;
            }
            AgentEvent::ToolCall { title } => {
                self.calls += 1;
                self.last_call = Some(title.clone());
                self.is_done = false;
                self.network_waits = 0;
            }
            AgentEvent::Usage(usage) => {
                let sum = self.usage.get_or_insert_default();
                sum.input_tokens += usage.input_tokens;
                sum.output_tokens += usage.output_tokens;
                if let Some(cost) = usage.cost_usd {
                    sum.cost_usd = Some(sum.cost_usd.unwrap_or(0.0) + cost);
                }
            }
            AgentEvent::Done { text } => {
                self.is_done = true;
                if text.is_some() {
                    self.text.clone_from(text);
                }
            }
            AgentEvent::Failed { fault, message } => self.failure = Some((*fault, message.clone())),
            AgentEvent::Retry(message) if message.contains("waiting for network") => {
                self.network_waits += 1;
                if self.is_hopeless() {
                    self.failure = Some((AgentFault::Overloaded, message.clone()));
                }
            }
            AgentEvent::Plan { items } => self.plan.clone_from(items),
            AgentEvent::ToolResult { .. }
            | AgentEvent::Reasoning(_)
            | AgentEvent::Retry(_)
            | AgentEvent::Warning(_)
            | AgentEvent::Log(_) => {}
        }
    }

    /// Called once, after the last line.
    pub fn end(&self, exit: Exit) -> AgentEnd {
        let failed = |fault, message: String| AgentEnd::Failed { fault, message };
        if exit == Exit::TimedOut {
            return AgentEnd::TimedOut;
        }
        if let Some((fault, message)) = &self.failure {
            return failed(*fault, message.clone());
        }
        let done = self.is_done || self.format == OutputFormat::Text;
        match exit {
            Exit::Code(0) if done => AgentEnd::Done,
            Exit::Code(0) => failed(AgentFault::Interrupted, "it ended without a result".to_owned()),
            // A launcher tells the signal of what it launched so.
            Exit::Code(code @ (130 | 134 | 137 | 139 | 143)) => {
                failed(AgentFault::Interrupted, self.with_stderr(format!("it was ended by signal {}", code - 128)))
            }
            Exit::Code(code) => {
                failed(AgentFault::Internal, self.with_stderr(format!("it ended with exit code {code}")))
            }
            Exit::Signal(signal) => {
                failed(AgentFault::Interrupted, self.with_stderr(format!("it was ended by signal {signal}")))
            }
            Exit::TimedOut => AgentEnd::TimedOut,
        }
    }

    fn with_stderr(&self, what: String) -> String {
        let lines: Vec<&str> = self.stderr.iter().map(String::as_str).filter(|line| !line.trim().is_empty()).collect();
        if lines.is_empty() { what } else { format!("{what}:\n{}", lines.join("\n")) }
    }
}

fn json_or_log(line: &str, read: impl FnOnce(&Value) -> Vec<AgentEvent>) -> Vec<AgentEvent> {
    match serde_json::from_str::<Value>(line) {
        Ok(value) if value.is_object() => read(&value),
        _ => vec![AgentEvent::Log(line.to_owned())],
    }
}

fn str_of<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    value.pointer(path).and_then(Value::as_str)
}

fn number_of(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

fn kept(text: &str) -> String {
    cut_marked(text, MAX_EVENT_BYTES)
}

/// One line that tells a person what a tool is about to do.
fn tool_title(name: &str, input: &Value) -> String {
    let telling = ["command", "file_path", "filePath", "path", "pattern", "url", "query", "description"];
    let detail = telling.iter().find_map(|key| input.get(key).and_then(Value::as_str));
    match detail {
        Some(detail) => cut_marked(&format!("{name}: {}", detail.lines().next().unwrap_or("")), 300),
        None => name.to_owned(),
    }
}

/// The items of a to-do list, with a mark for those that are done.
fn plan_items(todos: &Value) -> Vec<String> {
    let mark = |status: Option<&str>| if status == Some("completed") { "x" } else { " " };
    todos
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| {
            let is_done = item.get("completed").and_then(Value::as_bool).unwrap_or(false);
            let status = if is_done { Some("completed") } else { str_of(item, "/status") };
            Some(format!("[{}] {}", mark(status), str_of(item, "/content").or(str_of(item, "/text"))?))
        })
        .take(50)
        .collect()
}
