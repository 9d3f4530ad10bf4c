//! The parsers of agents' output on the recorded streams of the real programs.

use std::collections::BTreeMap;

use hireling::domain::agent_stream::{AgentEnd, AgentEvent, Exit, OutputFormat, Transcript};
use serde_json::Value;

fn name_of(event: &AgentEvent) -> Option<&'static str> {
    match event {
        AgentEvent::Started { .. } => Some("started"),
        AgentEvent::Text(_) => Some("text"),
        AgentEvent::Reasoning(_) => Some("reasoning"),
        AgentEvent::ToolCall { .. } => Some("tool_call"),
        AgentEvent::ToolResult { .. } => Some("tool_result"),
        AgentEvent::Retry(_) => Some("retry"),
        AgentEvent::Warning(_) => Some("warning"),
        _ => None,
    }
}

fn exit_of(case: &Value) -> Exit {
    match (case.pointer("/exit/code").and_then(Value::as_i64), case.pointer("/exit/signal").and_then(Value::as_str)) {
        (Some(code), _) => Exit::Code(i32::try_from(code).unwrap()),
        (None, _) => Exit::Signal(15),
    }
}

fn check(folder: &str, format: OutputFormat) {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/agents").join(folder);
    let index: Value = serde_json::from_slice(&std::fs::read(dir.join("index.json")).unwrap()).unwrap();
    let cases = index["cases"].as_array().unwrap();
    assert!(cases.len() >= 10);
    for case in cases {
        let name = case["case"].as_str().unwrap();
        let what = format!("{folder}/{name}");
        let mut transcript = Transcript::new(format);
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for line in std::fs::read_to_string(dir.join(format!("{name}.jsonl"))).unwrap().lines() {
            for event in transcript.stdout(line) {
                if let Some(name) = name_of(&event) {
                    *counts.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
        let expect = &case["expect"];
        let mut wanted: BTreeMap<String, u64> = serde_json::from_value(expect["events"].clone()).unwrap();
        wanted.retain(|name, _| name != "usage" && name != "error");
        assert_eq!(counts, wanted, "{what}");
        let end = transcript.end(exit_of(case));
        assert_eq!(end == AgentEnd::Done, expect["success"].as_bool().unwrap(), "{what}: {end:?}");
        if let Some(text) = expect["final_text"].as_str() {
            assert_eq!(transcript.text.as_deref(), Some(text), "{what}");
        }
        assert_eq!(
            transcript.session.is_some(),
            expect["conversation_id_seen"].as_bool().unwrap() && !counts.is_empty(),
            "{what}"
        );
    }
}

#[test]
fn claude_code_is_understood() {
    check("claude", OutputFormat::Claude);
}

#[test]
fn codex_is_understood() {
    check("codex", OutputFormat::Codex);
}

#[test]
fn gemini_is_understood() {
    check("gemini", OutputFormat::Gemini);
}

#[test]
fn copilot_is_understood() {
    check("copilot", OutputFormat::Copilot);
}

/// Its streams are made by hand, after the documentation.
#[test]
fn cursor_is_understood() {
    let read = |case: &str| {
        let file = format!("{}/tests/fixtures/agents/cursor/{case}.synthetic.jsonl", env!("CARGO_MANIFEST_DIR"));
        let mut transcript = Transcript::new(OutputFormat::Cursor);
        let text = std::fs::read_to_string(file).unwrap();
        let events: Vec<_> = text.lines().flat_map(|line| transcript.stdout(line)).collect();
        (transcript, events.iter().filter_map(name_of).collect::<Vec<_>>())
    };
    let (transcript, events) = read("edit");
    let call = ["tool_call", "tool_result"];
    let wanted = [&["started", "text"][..], &call, &["text"], &call, &call, &["text"]].concat();
    assert_eq!(events, wanted);
    assert_eq!(transcript.end(Exit::Code(0)), AgentEnd::Done);
    assert_eq!(transcript.text.as_deref(), Some("Done: fixed the typo in README.md."));
    assert_eq!(transcript.usage.unwrap().input_tokens, 514);
    let (transcript, _) = read("truncated");
    assert!(matches!(transcript.end(Exit::Code(0)), AgentEnd::Failed { .. }), "an end without a result is none");
    let (mut transcript, _) = read("auth-failed");
    transcript.stderr("Error: Authentication required.");
    let AgentEnd::Failed { message, .. } = transcript.end(Exit::Code(1)) else { panic!("it failed") };
    assert!(message.contains("Authentication required"), "{message}");
}

#[test]
fn opencode_is_understood() {
    check("opencode", OutputFormat::Opencode);
}

#[test]
fn a_refused_key_is_told_from_other_trouble() {
    use hireling::domain::agent_stream::AgentFault;
    for (folder, case, fault) in [
        ("claude", "auth-failed", AgentFault::Auth),
        ("claude", "model-not-found", AgentFault::Model),
        ("claude", "server-error", AgentFault::Overloaded),
        ("opencode", "auth-failed", AgentFault::Auth),
        ("opencode", "model-not-found", AgentFault::Model),
        ("opencode", "server-error", AgentFault::Overloaded),
        ("codex", "auth-failed", AgentFault::Auth),
        ("codex", "no-credentials", AgentFault::Auth),
        ("codex", "rate-limited", AgentFault::RateLimit),
        ("codex", "server-error", AgentFault::Overloaded),
        ("codex", "stream-dropped", AgentFault::Overloaded),
        ("codex", "network-unreachable", AgentFault::Overloaded),
        ("copilot", "auth-failed", AgentFault::Auth),
        ("copilot", "model-not-found", AgentFault::Model),
        ("copilot", "server-error", AgentFault::Overloaded),
        ("gemini", "auth-failed", AgentFault::Auth),
        ("gemini", "model-not-found", AgentFault::Model),
        ("gemini", "rate-limited", AgentFault::RateLimit),
        ("gemini", "server-error", AgentFault::Overloaded),
        ("gemini", "max-turns", AgentFault::Limit),
    ] {
        let format = match folder {
            "claude" => OutputFormat::Claude,
            "codex" => OutputFormat::Codex,
            "copilot" => OutputFormat::Copilot,
            "gemini" => OutputFormat::Gemini,
            _ => OutputFormat::Opencode,
        };
        let file = format!("{}/tests/fixtures/agents/{folder}/{case}.jsonl", env!("CARGO_MANIFEST_DIR"));
        let mut transcript = Transcript::new(format);
        std::fs::read_to_string(file).unwrap().lines().for_each(|line| drop(transcript.stdout(line)));
        let AgentEnd::Failed { fault: found, .. } = transcript.end(Exit::Code(1)) else { panic!("{folder}/{case}") };
        assert_eq!(found, fault, "{folder}/{case}");
    }
}
