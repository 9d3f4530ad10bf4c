//! GitHub Copilot CLI's `--output-format json`, as recorded from 1.0.102.

use serde_json::Value;

use super::{AgentEvent, AgentFault, kept, str_of, tool_title};

pub(super) fn events(line: &Value) -> Vec<AgentEvent> {
    let data = line.get("data").unwrap_or(&Value::Null);
    match str_of(line, "/type") {
        Some("session.tools_updated") => {
            vec![AgentEvent::Started { session: None, model: str_of(data, "/model").map(ToOwned::to_owned) }]
        }
        Some("assistant.message") => {
            let text = str_of(data, "/content").filter(|text| !text.is_empty());
            text.map(|text| AgentEvent::Text(kept(text))).into_iter().collect()
        }
        Some("assistant.reasoning") => {
            str_of(data, "/content").map(|text| AgentEvent::Reasoning(kept(text))).into_iter().collect()
        }
        Some("tool.execution_start") => vec![AgentEvent::ToolCall { title: title(data) }],
        Some("tool.execution_complete") => vec![result(data)],
        Some("assistant.turn_retry") => {
            let reason = str_of(data, "/reason").unwrap_or("unknown");
            vec![AgentEvent::Retry(format!("The model did not answer ({reason}), trying again"))]
        }
        Some("session.error") => vec![failed(data)],
        Some("abort") => {
            let message = str_of(data, "/reason").unwrap_or("it was interrupted").to_owned();
            vec![AgentEvent::Failed { fault: AgentFault::Interrupted, message }]
        }
        Some("result") => end(line),
        _ => Vec::new(),
    }
}

fn title(data: &Value) -> String {
    let name = str_of(data, "/toolName").unwrap_or("tool");
    tool_title(name, data.get("arguments").unwrap_or(&Value::Null))
}

/// A command that failed is a call that succeeded: its exit code tells.
fn result(data: &Value) -> AgentEvent {
    let exit = data.pointer("/shellExecution/exitCode").and_then(Value::as_i64).unwrap_or(0);
    let ok = data.get("success").and_then(Value::as_bool) == Some(true) && exit == 0;
    let output = str_of(data, "/result/content").or(str_of(data, "/error/message")).unwrap_or("");
    AgentEvent::ToolResult { ok, output: kept(output) }
}

fn failed(data: &Value) -> AgentEvent {
    let message = str_of(data, "/message").unwrap_or("unknown error");
    let fault = match (str_of(data, "/errorType"), data.get("statusCode").and_then(Value::as_u64)) {
        (Some("authentication"), _) => AgentFault::Auth,
        (Some("rate_limit"), _) => AgentFault::RateLimit,
        (_, Some(status)) => AgentFault::of_status(status),
        _ => AgentFault::Internal,
    };
    AgentEvent::Failed { fault, message: kept(message) }
}

/// The last line, with the conversation's id. It says 0 after an interruption, too.
fn end(line: &Value) -> Vec<AgentEvent> {
    let session = str_of(line, "/sessionId").map(|id| AgentEvent::Session(id.to_owned()));
    let done = line.get("exitCode").and_then(Value::as_i64) == Some(0);
    session.into_iter().chain(done.then_some(AgentEvent::Done { text: None })).collect()
}
