//! The real programs, offline: a scripted model on loopback tells them what to do, and what they did
//! becomes a pull request.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::world::{Builder, Engine, PERSON, REPO};

/// Whether a program of this version is where a sandbox sees it.
async fn is_installed(program: &str, version: &str) -> bool {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().await;
    let there = output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(version));
    if !there {
        crate::support::skipped(&format!(
            "the real {program}, because version {version} is not installed (./tests/run installs it)"
        ));
    }
    there
}

/// A model that answers by script. Ends when dropped.
struct Model {
    url: String,
    _server: Child,
    _dir: tempfile::TempDir,
}

impl Model {
    /// `tool`: how this agent's tool for commands is called; `argument`: what it calls the command.
    async fn start(tool: &str, argument: &str) -> Option<Self> {
        let cache = std::env::var("TEST_CACHE").ok()?;
        let program = format!("{cache}/node_modules/.bin/llmock");
        if !std::path::Path::new(&program).exists() {
            crate::support::skipped(
                "real agents, because the scripted model is not in TEST_CACHE (./tests/run fetches it)",
            );
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let command = "sed -i s/wrld/world/ README.md";
        let fixtures = serde_json::json!({ "fixtures": [
            { "match": { "userMessage": "SCRIPTED-401" },
              "response": { "error": { "message": "invalid x-api-key", "type": "authentication_error" }, "status": 401 } },
            { "match": { "userMessage": "SCRIPTED-EDIT", "hasToolResult": false },
              "response": { "content": "I will fix it.",
                            "toolCalls": [{ "name": tool, "arguments": { argument: command, "description": "fix" } }] } },
            { "match": { "userMessage": "SCRIPTED-EDIT", "hasToolResult": true },
              "response": { "content": "Fixed the typo in README.md.", "usage": { "input_tokens": 100, "output_tokens": 7 } } },
            { "match": {}, "response": { "content": "A title" } },
        ]});
        let file = dir.path().join("fixtures.json");
        std::fs::write(&file, fixtures.to_string()).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Command::new(program)
            .args(["-p", &port.to_string(), "-f", file.to_str().unwrap(), "--log-level", "info"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let waiting = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains(&port.to_string()) {
                    break;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), waiting).await.expect("the scripted model listens");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self { url: format!("http://127.0.0.1:{port}"), _server: server, _dir: dir })
    }

    /// Everything it was asked, with the headers.
    async fn journal(&self) -> String {
        reqwest::get(format!("{}/__aimock/journal", self.url)).await.unwrap().text().await.unwrap()
    }
}

async fn a_real_agent_opens_a_pull_request(agent: &str, version: &str, tool: &str, on_vercel: bool) {
    if !is_installed(agent, version).await {
        return;
    }
    let argument = if agent == "codex" { "cmd" } else { "command" };
    let Some(model) = Model::start(tool, argument).await else { return };
    let mut builder = Builder::new(Engine::Sqlite).setting("ANTHROPIC_BASE_URL", &model.url);
    let key = builder.canary.clone();
    builder = builder
        .setting("OPENAI_BASE_URL", &model.url)
        .setting("OPENAI_API_KEY", &key)
        .setting("GEMINI_BASE_URL", &model.url)
        .setting("GEMINI_API_KEY", &key);
    if on_vercel {
        builder = builder.on_vercel().await;
    }
    let world = builder.file("README.md", "# Shop\n\nhello wrld\n").start().await.unwrap();
    let comment =
        world.comment(PERSON, &format!("/agent {agent} --model {} SCRIPTED-EDIT please", model_of(agent))).await;
    assert_eq!(
        world.ended(comment).await,
        "rocket",
        "{}\n{}",
        world.account().await,
        world.log_of(&world.last_task().await.id).await
    );
    let pull = world.only_pull().await;
    let diff = world.github.diff(REPO, "main", &pull.head).await.unwrap();
    assert!(diff.contains("-hello wrld\n+hello world"), "{diff}");
    assert_eq!(diff.matches("diff --git").count(), 1, "nothing but the scripted edit: {diff}");
    assert!(pull.body.contains("> Fixed the typo in README.md."), "{}", pull.body);
    let answer = world.only_answer().await;
    assert!(answer.contains("key of this instance") && answer.contains("tokens)"), "{answer}");
    let journal = model.journal().await;
    assert!(journal.contains("SCRIPTED-EDIT"), "{journal}");

    if on_vercel {
        // The key goes into the environment of the agent's own command, and nowhere else.
        let calls = world.vercel().calls();
        let with_key: Vec<_> = calls.iter().filter(|call| call.body.contains(&world.canary)).collect();
        assert_eq!(with_key.len(), 1);
        let body: serde_json::Value = serde_json::from_str(&with_key[0].body).unwrap();
        assert_eq!((&body["args"][1], &body["env"]["ANTHROPIC_API_KEY"]), (&"agent".into(), &(*world.canary).into()));
        assert_eq!(with_key[0].body.matches(&world.canary).count(), 1);
    }
    let comment = world.comment(PERSON, &format!("/agent {agent} --model {} SCRIPTED-401", model_of(agent))).await;
    assert_eq!(world.ended(comment).await, "confused");
    let answer = world.answer(1).await;
    assert!(answer.contains(&format!("{agent}'s key was refused by the model's vendor.")), "{answer}");
    assert!(!answer.contains(&world.canary));
    world.finish().await;
}

fn model_of(agent: &str) -> &'static str {
    match agent {
        "opencode" => "anthropic/claude-sonnet-4-5",
        "codex" => "gpt-5.5",
        "gemini" => "gemini-2.5-flash",
        _ => "claude-sonnet-4-5",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_opens_a_pull_request() {
    a_real_agent_opens_a_pull_request("claude", "2.1.330", "Bash", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_opens_a_pull_request_from_a_vercel_sandbox() {
    a_real_agent_opens_a_pull_request("claude", "2.1.330", "Bash", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opencode_opens_a_pull_request() {
    a_real_agent_opens_a_pull_request("opencode", "1.18.33", "bash", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_opens_a_pull_request() {
    a_real_agent_opens_a_pull_request("codex", "0.169.0", "exec_command", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_opens_a_pull_request() {
    a_real_agent_opens_a_pull_request("gemini", "0.61.0", "run_shell_command", false).await;
}
