//! A model that answers by script: npm's aimock, which speaks to every agent in its vendor's words.

use std::process::Stdio;

use super::vendor::{Reply, Vendor};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Ends when dropped.
pub struct Model {
    pub url: String,
    _server: Child,
    _dir: tempfile::TempDir,
}

/// What it says to a prompt with `marker`: first a call of a tool, then an answer.
pub fn tool_then_text(marker: &str, tool: &str, arguments: Value, text: &str) -> Vec<Value> {
    vec![
        json!({ "match": { "userMessage": marker, "hasToolResult": false },
            "response": { "content": "I will see to it.", "toolCalls": [{ "name": tool, "arguments": arguments }],
                "usage": { "input_tokens": 100, "output_tokens": 20 } } }),
        json!({ "match": { "userMessage": marker, "hasToolResult": true },
            "response": { "content": text, "usage": { "input_tokens": 200, "output_tokens": 7 } } }),
    ]
}

/// What it says to a prompt with `marker`, every time.
pub fn refusal(marker: &str, status: u16, message: &str, kind: &str) -> Value {
    json!({ "match": { "userMessage": marker },
        "response": { "error": { "message": message, "type": kind }, "status": status } })
}

impl Model {
    /// `fixtures` in their order; whatever else is asked gets a title. `None`: it is not installed,
    /// and that was said.
    pub async fn start(mut fixtures: Vec<Value>) -> Option<Self> {
        let cache = std::env::var("TEST_CACHE").ok()?;
        let program = format!("{cache}/node_modules/.bin/llmock");
        if !std::path::Path::new(&program).exists() {
            super::skipped("real agents, because the scripted model is not in TEST_CACHE (./tests/run fetches it)");
            return None;
        }
        fixtures.push(json!({ "match": {}, "response": { "content": "A title" } }));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fixtures.json");
        std::fs::write(&file, json!({ "fixtures": fixtures }).to_string()).unwrap();
        let mut server = Command::new(program)
            .args(["-p", "0", "-f", file.to_str().unwrap(), "--log-level", "info"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let url = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("the scripted model says where it listens");
                if let Some((_, url)) = line.split_once("listening on ") {
                    break url.trim().to_owned();
                }
            }
        };
        let url =
            tokio::time::timeout(std::time::Duration::from_secs(120), url).await.expect("the scripted model listens");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self { url, _server: server, _dir: dir })
    }

    /// Everything it was asked, with the headers.
    pub async fn journal(&self) -> Vec<Value> {
        let url = format!("{}/__aimock/journal", self.url);
        let journal: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let list =
            journal.as_array().or_else(|| journal["entries"].as_array()).or_else(|| journal["requests"].as_array());
        list.unwrap_or_else(|| panic!("{journal}")).clone()
    }
}

/// A model in OpenAI's words that has tools of two connectors called, which Codex keeps in namespaces
/// that aimock does not know.
pub async fn namespaced(marker: &'static str) -> Vendor {
    Vendor::start(move |asked| {
        let call = |number: u32, namespace: &str, name: &str| {
            json!({ "type": "function_call", "id": format!("fc_{number}"), "call_id": format!("call_{number}"),
                "namespace": namespace, "name": name, "arguments": "{}" })
        };
        let item = match (asked.body.contains(marker), asked.body.matches("\"function_call_output\"").count()) {
            (true, 0) => call(0, "mcp__loc", "echo"),
            (true, 1) => call(1, "mcp__rem", "ask"),
            _ => json!({ "type": "message", "role": "assistant", "id": "msg_1",
                "content": [{ "type": "output_text", "text": "They said pong." }] }),
        };
        let usage = json!({ "input_tokens": 10, "output_tokens": 5, "total_tokens": 15 });
        let events = [
            json!({ "type": "response.created", "response": { "id": "resp_1" } }),
            json!({ "type": "response.output_item.done", "item": item }),
            json!({ "type": "response.completed", "response": { "id": "resp_1", "usage": usage } }),
        ];
        let text = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
        Reply::sse(&events.iter().map(text).collect::<String>())
    })
    .await
}
