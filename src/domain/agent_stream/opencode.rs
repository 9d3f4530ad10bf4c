//! opencode's `--format json`, as recorded from 1.18.33.

use serde_json::Value;

use super::{AgentEvent, AgentFault, Usage, kept, number_of, plan_items, str_of, tool_title};

/// The id of the conversation stands on every line; the first one that has it is the start.
pub(super) fn session(line: &Value) -> Option<AgentEvent> {
    let session = str_of(line, "/sessionID")?.to_owned();
    Some(AgentEvent::Started { session: Some(session), model: None })
}

pub(super) fn events(line: &Value) -> Vec<AgentEvent> {
    let part = line.get("part").unwrap_or(&Value::Null);
    match str_of(line, "/type") {
        Some("text") => str_of(part, "/text").map(|text| AgentEvent::Text(kept(text))).into_iter().collect(),
        Some("reasoning") => str_of(part, "/text").map(|text| AgentEvent::Reasoning(kept(text))).into_iter().collect(),
        Some("tool_use") => tool(part),
        Some("step_finish") => step_finish(part),
        Some("error") => vec![error(line)],
        _ => Vec::new(),
    }
}

/// Printed only when the tool is done: call and result in one.
fn tool(part: &Value) -> Vec<AgentEvent> {
    let name = str_of(part, "/tool").unwrap_or("tool");
    let input = part.pointer("/state/input").unwrap_or(&Value::Null);
    if let (true, Some(todos)) = (name == "todowrite", input.get("todos")) {
        return vec![AgentEvent::Plan { items: plan_items(todos) }];
    }
    let exit = part.pointer("/state/metadata/exit").and_then(Value::as_i64).unwrap_or(0);
    let ok = str_of(part, "/state/status") == Some("completed") && exit == 0;
    let output = str_of(part, "/state/error").or(str_of(part, "/state/output")).unwrap_or("");
    vec![AgentEvent::ToolCall { title: tool_title(name, input) }, AgentEvent::ToolResult { ok, output: kept(output) }]
}

fn step_finish(part: &Value) -> Vec<AgentEvent> {
    let usage = AgentEvent::Usage(Usage {
        input_tokens: number_of(part, "/tokens/input")
            + number_of(part, "/tokens/cache/read")
            + number_of(part, "/tokens/cache/write"),
        output_tokens: number_of(part, "/tokens/output") + number_of(part, "/tokens/reasoning"),
        cost_usd: part.get("cost").and_then(Value::as_f64),
    });
    // A refused permission ends the run on `tool-calls` with exit code 0: only `stop` is an end.
    if str_of(part, "/reason") == Some("stop") {
        return vec![usage, AgentEvent::Done { text: None }];
    }
    vec![usage]
}

fn error(line: &Value) -> AgentEvent {
    let status = line.pointer("/error/data/statusCode").and_then(Value::as_u64);
    let message = str_of(line, "/error/data/message").or(str_of(line, "/error/name")).unwrap_or("unknown error");
    let unknown_model = message.contains("Unexpected server error") || message.contains("Model not found");
    let fault = match status {
        Some(status) => AgentFault::of_status(status),
        None if unknown_model => AgentFault::Model,
        None => AgentFault::Internal,
    };
    AgentEvent::Failed { fault, message: kept(message) }
}
