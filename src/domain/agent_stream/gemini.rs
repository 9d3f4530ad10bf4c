//! Gemini's `--output-format stream-json`, as recorded from 0.61.0. Text comes in fragments, which
//! are one text until another kind of line comes.

use serde_json::Value;

use super::{AgentEvent, AgentFault, MAX_EVENT_BYTES, Usage, kept, number_of, str_of, tool_title};

/// Text that is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Fragments(String);

impl Fragments {
    pub(super) fn events(&mut self, line: &Value) -> Vec<AgentEvent> {
        if str_of(line, "/type") == Some("message") {
            // The other role is our own prompt, repeated.
            if str_of(line, "/role") == Some("assistant") && self.0.len() < MAX_EVENT_BYTES {
                self.0.push_str(str_of(line, "/content").unwrap_or(""));
            }
            return Vec::new();
        }
        let text = std::mem::take(&mut self.0);
        let text = (!text.is_empty()).then(|| AgentEvent::Text(kept(&text)));
        text.into_iter().chain(other(line)).collect()
    }
}

fn other(line: &Value) -> Vec<AgentEvent> {
    match str_of(line, "/type") {
        Some("init") => vec![AgentEvent::Started {
            session: str_of(line, "/session_id").map(ToOwned::to_owned),
            model: str_of(line, "/model").map(ToOwned::to_owned),
        }],
        Some("tool_use") => {
            let name = str_of(line, "/tool_name").unwrap_or("tool");
            vec![AgentEvent::ToolCall { title: tool_title(name, line.get("parameters").unwrap_or(&Value::Null)) }]
        }
        Some("tool_result") => vec![AgentEvent::ToolResult {
            ok: str_of(line, "/status") == Some("success"),
            output: kept(str_of(line, "/output").or(str_of(line, "/error/message")).unwrap_or("")),
        }],
        Some("error") => vec![AgentEvent::Warning(kept(str_of(line, "/message").unwrap_or("unknown warning")))],
        Some("result") => result(line),
        _ => Vec::new(),
    }
}

/// The last line. It has no text of its own.
fn result(line: &Value) -> Vec<AgentEvent> {
    let usage = AgentEvent::Usage(Usage {
        input_tokens: number_of(line, "/stats/input_tokens"),
        output_tokens: number_of(line, "/stats/output_tokens"),
        cost_usd: None,
    });
    if str_of(line, "/status") == Some("success") {
        return vec![usage, AgentEvent::Done { text: None }];
    }
    let message = str_of(line, "/error/message").unwrap_or("unknown error");
    vec![usage, AgentEvent::Failed { fault: fault(str_of(line, "/error/type"), message), message: kept(message) }]
}

/// The status stands in the message, as JSON or in words.
fn fault(kind: Option<&str>, message: &str) -> AgentFault {
    if kind == Some("FatalTurnLimitedError") {
        return AgentFault::Limit;
    }
    let json = message.find('{').and_then(|start| message.get(start..)).and_then(|rest| {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        values.next()?.ok()
    });
    if let Some(status) = json.as_ref().and_then(|json| json.pointer("/error/code")).and_then(Value::as_u64) {
        return AgentFault::of_status(status);
    }
    let lower = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["rate limit", "quota"]) {
        AgentFault::RateLimit
    } else if has(&["does not exist", "not found"]) {
        AgentFault::Model
    } else if has(&["api key", "unauthenticated"]) {
        AgentFault::Auth
    } else if has(&["terminated", "overloaded", "unavailable"]) {
        AgentFault::Overloaded
    } else {
        AgentFault::Internal
    }
}
