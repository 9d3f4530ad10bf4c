//! Codex's `exec --json`, as recorded from 0.169.0.

use serde_json::Value;

use super::{AgentEvent, AgentFault, Usage, kept, number_of, plan_items, str_of, tool_title};

pub(super) fn events(line: &Value) -> Vec<AgentEvent> {
    let item = line.get("item").unwrap_or(&Value::Null);
    match str_of(line, "/type") {
        Some("thread.started") => {
            vec![AgentEvent::Started { session: str_of(line, "/thread_id").map(ToOwned::to_owned), model: None }]
        }
        Some("item.started") => started(item).into_iter().collect(),
        Some("item.updated") if str_of(item, "/type") == Some("todo_list") => vec![plan(item)],
        Some("item.completed") => completed(item).into_iter().collect(),
        Some("turn.completed") => {
            let usage = Usage {
                input_tokens: number_of(line, "/usage/input_tokens"),
                output_tokens: number_of(line, "/usage/output_tokens"),
                cost_usd: None,
            };
            vec![AgentEvent::Usage(usage), AgentEvent::Done { text: None }]
        }
        Some("error") => error(str_of(line, "/message").unwrap_or("unknown error")),
        Some("turn.failed") => vec![failed(str_of(line, "/error/message").unwrap_or("unknown error"))],
        _ => Vec::new(),
    }
}

fn plan(item: &Value) -> AgentEvent {
    AgentEvent::Plan { items: item.get("items").map(plan_items).unwrap_or_default() }
}

fn started(item: &Value) -> Option<AgentEvent> {
    let title = match str_of(item, "/type")? {
        "command_execution" => tool_title("command", item),
        "file_change" => tool_title("edit", item.pointer("/changes/0").unwrap_or(&Value::Null)),
        "mcp_tool_call" => {
            format!("{}/{}", str_of(item, "/server").unwrap_or("connector"), str_of(item, "/tool").unwrap_or("tool"))
        }
        "web_search" => tool_title("search", item),
        "todo_list" => return Some(plan(item)),
        _ => return None,
    };
    Some(AgentEvent::ToolCall { title })
}

fn completed(item: &Value) -> Option<AgentEvent> {
    let text = || str_of(item, "/text").map(kept);
    let is_done = str_of(item, "/status") == Some("completed");
    Some(match str_of(item, "/type")? {
        "agent_message" => AgentEvent::Text(text()?),
        "reasoning" => AgentEvent::Reasoning(text()?),
        "command_execution" => AgentEvent::ToolResult {
            ok: is_done && item.get("exit_code").and_then(Value::as_i64).unwrap_or(0) == 0,
            output: kept(str_of(item, "/aggregated_output").unwrap_or("")),
        },
        "file_change" | "web_search" => AgentEvent::ToolResult { ok: is_done, output: String::new() },
        "mcp_tool_call" => {
            let said = str_of(item, "/error/message").or(str_of(item, "/result/content/0/text"));
            AgentEvent::ToolResult { ok: is_done, output: kept(said.unwrap_or("")) }
        }
        "todo_list" => plan(item),
        "error" => AgentEvent::Warning(kept(str_of(item, "/message").unwrap_or("unknown warning"))),
        _ => return None,
    })
}

/// A retry is told as an error, too; what ends the turn is repeated by `turn.failed`.
fn error(message: &str) -> Vec<AgentEvent> {
    if message.starts_with("Reconnecting") { vec![AgentEvent::Retry(kept(message))] } else { vec![failed(message)] }
}

/// The stream names no kind: it is read from the message.
fn failed(message: &str) -> AgentEvent {
    let lower = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let fault = if has(&["401", "403", "missing environment variable"]) {
        AgentFault::Auth
    } else if has(&["429", "rate limit", "quota"]) {
        AgentFault::RateLimit
    } else if has(&["404", "does not exist", "not supported"]) {
        AgentFault::Model
    } else if has(&["high demand", "unexpected status 5", "last status: 5", "stream disconnected"]) {
        AgentFault::Overloaded
    } else {
        AgentFault::Internal
    };
    AgentEvent::Failed { fault, message: kept(message) }
}
