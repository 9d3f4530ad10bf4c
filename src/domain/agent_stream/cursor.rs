//! Cursor's `--output-format stream-json`, as its documentation has it: the program could not be had
//! to record it. A failure has no line of its own; it is read from the exit and standard error.

use serde_json::Value;

use super::{AgentEvent, AgentFault, Usage, kept, number_of, str_of, tool_title};

pub(super) fn events(line: &Value) -> Vec<AgentEvent> {
    match (str_of(line, "/type"), str_of(line, "/subtype")) {
        (Some("system"), Some("init")) => vec![AgentEvent::Started {
            session: str_of(line, "/session_id").map(ToOwned::to_owned),
            model: str_of(line, "/model").map(ToOwned::to_owned),
        }],
        (Some("assistant"), _) => {
            let parts = line.pointer("/message/content").and_then(Value::as_array);
            let texts = parts.into_iter().flatten().filter_map(|part| str_of(part, "/text"));
            texts.map(|text| AgentEvent::Text(kept(text))).collect()
        }
        (Some("tool_call"), Some("started")) => {
            let (name, call) = tool(line);
            let input = call.get("args").or(call.get("arguments")).unwrap_or(&Value::Null);
            vec![AgentEvent::ToolCall { title: tool_title(&name, input) }]
        }
        (Some("tool_call"), Some("completed")) => vec![result(&tool(line).1["result"])],
        (Some("result"), _) => end(line),
        _ => Vec::new(),
    }
}

/// `{"readToolCall": {…}}` or `{"function": {"name": …}}`.
fn tool(line: &Value) -> (String, Value) {
    let calls = line.get("tool_call").and_then(Value::as_object);
    let Some((key, call)) = calls.and_then(|calls| calls.iter().next()) else {
        return ("tool".to_owned(), Value::Null);
    };
    let name = str_of(call, "/name").unwrap_or(key.strip_suffix("ToolCall").unwrap_or(key));
    (name.to_owned(), call.clone())
}

fn result(result: &Value) -> AgentEvent {
    let success = result.get("success");
    let exit = result.pointer("/success/exitCode").and_then(Value::as_i64).unwrap_or(0);
    let telling = ["/success/stdout", "/success/content", "/error/message", "/error"];
    let output = telling.iter().find_map(|path| str_of(result, path)).unwrap_or("");
    AgentEvent::ToolResult { ok: success.is_some() && exit == 0, output: kept(output) }
}

/// Its text is all texts joined: the last one is better.
fn end(line: &Value) -> Vec<AgentEvent> {
    let usage = line.get("usage").map(|usage| {
        AgentEvent::Usage(Usage {
            // What was read from the cache is not counted as input there.
            input_tokens: number_of(usage, "/inputTokens")
                + number_of(usage, "/cacheReadTokens")
                + number_of(usage, "/cacheWriteTokens"),
            output_tokens: number_of(usage, "/outputTokens"),
            cost_usd: None,
        })
    });
    let last = if line.get("is_error").and_then(Value::as_bool) == Some(true) {
        let message = kept(str_of(line, "/result").unwrap_or("unknown error"));
        AgentEvent::Failed { fault: AgentFault::Internal, message }
    } else {
        AgentEvent::Done { text: None }
    };
    usage.into_iter().chain([last]).collect()
}
