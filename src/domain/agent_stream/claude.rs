//! Claude Code's `stream-json`, as recorded from 2.1.330.

use serde_json::Value;

use super::{AgentEvent, AgentFault, Usage, kept, number_of, plan_items, str_of, tool_title};

pub(super) fn events(line: &Value) -> Vec<AgentEvent> {
    match (str_of(line, "/type"), str_of(line, "/subtype")) {
        (Some("system"), Some("init")) => vec![AgentEvent::Started {
            session: str_of(line, "/session_id").map(ToOwned::to_owned),
            model: str_of(line, "/model").map(ToOwned::to_owned),
        }],
        (Some("system"), Some("api_retry")) => vec![AgentEvent::Retry(format!(
            "The model did not answer ({}), trying again",
            str_of(line, "/error").unwrap_or("unknown")
        ))],
        (Some("system"), Some("permission_denied")) => {
            vec![AgentEvent::Warning(kept(str_of(line, "/message").unwrap_or("a tool was refused")))]
        }
        (Some("assistant"), _) if line.get("error").is_none_or(Value::is_null) => {
            blocks(line).flat_map(assistant).collect()
        }
        (Some("user"), _) => blocks(line).filter_map(tool_result).collect(),
        (Some("result"), _) => result(line),
        _ => Vec::new(),
    }
}

fn blocks(line: &Value) -> impl Iterator<Item = &Value> {
    line.pointer("/message/content").and_then(Value::as_array).into_iter().flatten()
}

fn assistant(block: &Value) -> Option<AgentEvent> {
    match str_of(block, "/type")? {
        "text" => Some(AgentEvent::Text(kept(str_of(block, "/text")?))),
        "thinking" => Some(AgentEvent::Reasoning(kept(str_of(block, "/thinking")?))),
        "tool_use" if str_of(block, "/name") == Some("TodoWrite") => {
            Some(AgentEvent::Plan { items: plan_items(block.pointer("/input/todos")?) })
        }
        "tool_use" => Some(AgentEvent::ToolCall {
            title: tool_title(str_of(block, "/name")?, block.get("input").unwrap_or(&Value::Null)),
        }),
        _ => None,
    }
}

fn tool_result(block: &Value) -> Option<AgentEvent> {
    if str_of(block, "/type") != Some("tool_result") {
        return None;
    }
    let output = match block.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| str_of(part, "/text")).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    };
    let ok = block.get("is_error").and_then(Value::as_bool) != Some(true);
    Some(AgentEvent::ToolResult { ok, output: kept(&output) })
}

/// `subtype` says `success` even where the call failed; only `is_error` counts.
fn result(line: &Value) -> Vec<AgentEvent> {
    let costs = line.get("model_usage_since_last_result").and_then(Value::as_object);
    let cost_usd = costs
        .map(|models| models.values().filter_map(|model| model.get("costUSD").and_then(Value::as_f64)).sum::<f64>());
    let usage = AgentEvent::Usage(Usage {
        input_tokens: number_of(line, "/usage/input_tokens")
            + number_of(line, "/usage/cache_creation_input_tokens")
            + number_of(line, "/usage/cache_read_input_tokens"),
        output_tokens: number_of(line, "/usage/output_tokens"),
        cost_usd,
    });
    let failed = line.get("is_error").and_then(Value::as_bool).unwrap_or(true);
    let end = if failed {
        AgentEvent::Failed { fault: fault(line), message: failure_text(line) }
    } else {
        AgentEvent::Done { text: str_of(line, "/result").filter(|text| !text.is_empty()).map(kept) }
    };
    vec![usage, end]
}

fn fault(line: &Value) -> AgentFault {
    if let Some(status) = line.get("api_error_status").and_then(Value::as_u64) {
        return AgentFault::of_status(status);
    }
    match str_of(line, "/subtype") {
        Some("error_max_turns" | "error_max_budget_usd") => AgentFault::Limit,
        Some("error_during_execution") => AgentFault::Interrupted,
        _ if str_of(line, "/result").is_some_and(|text| text.contains("Not logged in")) => AgentFault::Auth,
        _ => AgentFault::Internal,
    }
}

fn failure_text(line: &Value) -> String {
    let errors = line.get("errors").and_then(Value::as_array);
    let joined = errors.map(|list| list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; "));
    let text = str_of(line, "/result").map(ToOwned::to_owned).or(joined).filter(|text| !text.is_empty());
    kept(&text.unwrap_or_else(|| str_of(line, "/subtype").unwrap_or("unknown error").to_owned()))
}
