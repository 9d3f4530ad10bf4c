//! The real programs, offline: a scripted model on loopback tells them what to do through the model
//! gateway, and what they did becomes a pull request.

mod connectors;

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use hireling::domain::connector::{Protocol, Secrets, Transport};
use hireling::domain::key::KeyOwner;
use hireling::domain::secret::Secret;

use crate::support::model::{Model, refusal, tool_then_text};
use crate::support::world::{Builder, Engine, PERSON, REPO, World};

/// A program as these stories meet it.
struct Real {
    agent: &'static str,
    program: &'static str,
    version: &'static str,
    model: &'static str,
    /// Its tool for commands, and what it calls the command there.
    tool: &'static str,
    argument: &'static str,
    /// By the list price of its model.
    tokens_for_six_cents: u64,
    /// One that it has to pass on as it is.
    secret: &'static str,
    /// How it calls the tools `echo` of the connector `loc` and `ask` of `rem`.
    connectors_tools: [&'static str; 2],
}

const CLAUDE: Real = Real {
    agent: "claude",
    program: "claude",
    version: "2.1.330",
    model: "claude-sonnet-4-5",
    tool: "Bash",
    argument: "command",
    tokens_for_six_cents: 20_000,
    connectors_tools: ["mcp__loc__echo", "mcp__rem__ask"],
    secret: "local-secret-$HOME-17",
};
const CODEX: Real = Real {
    agent: "codex",
    program: "codex",
    version: "0.169.0",
    model: "gpt-5.5",
    tool: "exec_command",
    argument: "cmd",
    tokens_for_six_cents: 12_000,
    connectors_tools: ["mcp__loc__echo", "mcp__rem__ask"],
    secret: "local-secret-$HOME-17",
};
const COPILOT: Real = Real {
    agent: "copilot",
    program: "copilot-linux-x64",
    version: "1.0.102",
    model: "gpt-5.4",
    tool: "bash",
    argument: "command",
    tokens_for_six_cents: 24_000,
    connectors_tools: ["loc-echo", "rem-ask"],
    secret: "local-secret-$HOME-17",
};
const GEMINI: Real = Real {
    agent: "gemini",
    program: "gemini",
    version: "0.61.0",
    model: "gemini-2.5-flash",
    tool: "run_shell_command",
    argument: "command",
    tokens_for_six_cents: 200_000,
    connectors_tools: ["mcp_loc_echo", "mcp_rem_ask"],
    secret: "local-secret-17",
};
const OPENCODE: Real = Real {
    agent: "opencode",
    program: "opencode",
    version: "1.18.33",
    model: "anthropic/claude-sonnet-4-5",
    tool: "bash",
    argument: "command",
    tokens_for_six_cents: 20_000,
    connectors_tools: ["loc_echo", "rem_ask"],
    secret: "local-secret-$HOME-17",
};

/// Fixes the typo, and looks for keys wherever a command of an agent can look. What opens nothing but
/// the gateway is marked: whatever is redacted besides was worth stealing.
const EDIT_AND_STEAL: &str = "sed -i s/wrld/world/ README.md; (env; cat /proc/*/environ | tr '\\0' '\\n'; \
    cat /proc/*/cmdline | tr '\\0' '\\n'; find ~ -type f -size -300k -exec cat {} +) 2>/dev/null | \
    grep -aE 'KEY|TOKEN|sk-|hlg_' | cut -c1-200 | sed s/hlg_[0-9a-f]*/GRANT/g | sort -u | head -60";

impl Real {
    /// Whether it is where a sandbox sees it.
    async fn is_installed(&self) -> bool {
        let output = Command::new(self.program).arg("--version").stdin(Stdio::null()).output().await;
        let there = output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(self.version));
        if !there {
            crate::support::skipped(&format!(
                "the real {}, because version {} is not installed (./tests/run installs it)",
                self.agent, self.version
            ));
        }
        there
    }

    fn runs(&self, marker: &str, command: &str, text: &str) -> Vec<Value> {
        let arguments = json!({ self.argument: command, "description": "work" });
        tool_then_text(marker, self.tool, arguments, text)
    }

    /// `url`: of the model.
    async fn world(&self, url: &str, on_vercel: bool) -> World {
        let mut builder = Builder::new(Engine::Sqlite).setting("ANTHROPIC_BASE_URL", url);
        let key = builder.canary.clone();
        for name in ["OPENAI_BASE_URL", "GEMINI_BASE_URL"] {
            builder = builder.setting(name, url);
        }
        // Private addresses are no connectors, unless the operator names them.
        builder = builder.setting("SANDBOX_NETWORK", "127.0.0.1/32");
        for name in ["OPENAI_API_KEY", "GEMINI_API_KEY"] {
            builder = builder.setting(name, &key);
        }
        if on_vercel {
            builder = builder.on_vercel().await;
        }
        builder.file("README.md", "# Shop\n\nhello wrld\n").start().await.unwrap()
    }

    async fn ask(&self, world: &World, request: &str) -> i64 {
        world.comment(PERSON, &format!("/agent {} --model {} {request}", self.agent, self.model)).await
    }
}

async fn opens_a_pull_request(real: &Real, on_vercel: bool) {
    if !real.is_installed().await {
        return;
    }
    // The second command's prompt holds the first one, as an earlier comment.
    let mut fixtures = vec![refusal("SCRIPTED-401", 401, "invalid x-api-key", "authentication_error")];
    // The double of Vercel has no walls: a thief would find this test's own environment.
    let edit = if on_vercel { "sed -i s/wrld/world/ README.md" } else { EDIT_AND_STEAL };
    fixtures.extend(real.runs("SCRIPTED-EDIT", edit, "Fixed the typo in README.md."));
    let Some(model) = Model::start(fixtures).await else { return };
    let world = real.world(&model.url, on_vercel).await;
    let comment = real.ask(&world, "SCRIPTED-EDIT please").await;
    let reaction = world.ended(comment).await;
    let log = world.log_of(&world.last_task().await.id).await;
    assert_eq!(reaction, "rocket", "{}\n{log}", world.account().await);
    let pull = world.only_pull().await;
    let diff = world.github.diff(REPO, "main", &pull.head).await.unwrap();
    assert!(diff.contains("-hello wrld\n+hello world"), "{diff}");
    assert_eq!(diff.matches("diff --git").count(), 1, "nothing but the scripted edit: {diff}");
    assert!(pull.body.contains("> Fixed the typo in README.md."), "{}", pull.body);
    let answer = world.only_answer().await;
    assert!(answer.contains("by list price (") && answer.contains("tokens) · key of this instance"), "{answer}");

    // The thief looked and found nothing but the grant.
    assert!((on_vercel || log.contains("GRANT")) && !log.contains("[redacted]"), "{log}");
    for entry in &model.journal().await {
        assert!(!entry["body"].to_string().contains(&world.canary), "{} saw the key: {entry}", real.agent);
    }
    if on_vercel {
        assert!(world.vercel().calls().iter().all(|call| !call.body.contains(&world.canary)));
    }
    let comment = real.ask(&world, "SCRIPTED-401").await;
    assert_eq!(world.ended(comment).await, "confused");
    let answer = world.answer(1).await;
    assert!(answer.contains(&format!("{}'s key was refused by the model's vendor.", real.agent)), "{answer}");
    assert!(!answer.contains(&world.canary));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_opens_a_pull_request() {
    opens_a_pull_request(&CLAUDE, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_opens_a_pull_request_from_a_vercel_sandbox() {
    opens_a_pull_request(&CLAUDE, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opencode_opens_a_pull_request() {
    opens_a_pull_request(&OPENCODE, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_opens_a_pull_request() {
    opens_a_pull_request(&CODEX, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_opens_a_pull_request() {
    opens_a_pull_request(&GEMINI, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copilot_opens_a_pull_request_with_a_key_of_its_own() {
    opens_a_pull_request(&COPILOT, false).await;
}

/// A vendor that fails, one whose quota is spent, and our own limit: each its own sentence.
async fn tells_why_it_stopped(real: &Real) {
    if !real.is_installed().await {
        return;
    }
    let fixtures = vec![
        refusal("SCRIPTED-500", 500, "the vendor is on fire", "api_error"),
        refusal("SCRIPTED-QUOTA", 429, "the quota is spent", "rate_limit_error"),
        json!({ "match": { "userMessage": "SCRIPTED-SPEND" }, "response": { "content": "Still at it.",
            "toolCalls": [{ "name": real.tool, "arguments": { real.argument: "date >> spent.txt", "description": "work" } }],
            "usage": { "input_tokens": real.tokens_for_six_cents, "output_tokens": 0 } } }),
    ];
    let Some(model) = Model::start(fixtures).await else { return };
    let mut world = real.world(&model.url, false).await;
    let mut commands = Vec::new();
    for request in ["SCRIPTED-500", "SCRIPTED-QUOTA", "--max '$0.10' SCRIPTED-SPEND"] {
        if !commands.is_empty() {
            world.next_issue().await;
        }
        commands.push((world.issue, real.ask(&world, request).await));
    }
    let sentences = [
        format!("The model of {} did not answer.", real.agent),
        format!("{} was stopped by the limits of its key.", real.agent),
        format!("{} was stopped: $", real.agent),
    ];
    for ((issue, comment), sentence) in commands.into_iter().zip(sentences) {
        world.issue = issue;
        let reaction = world.ended(comment).await;
        let answer = world.only_answer().await;
        assert_eq!(reaction, "confused", "{answer}\n{}", world.log_of(&world.last_task().await.id).await);
        assert!(answer.contains(&sentence), "{answer}");
    }
    assert_eq!(world.branches().await.len(), 1, "what the spender did is saved");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_tells_why_it_stopped() {
    tells_why_it_stopped(&CLAUDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_tells_why_it_stopped() {
    tells_why_it_stopped(&CODEX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copilot_tells_why_it_stopped() {
    tells_why_it_stopped(&COPILOT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_tells_why_it_stopped() {
    tells_why_it_stopped(&GEMINI).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opencode_tells_why_it_stopped() {
    tells_why_it_stopped(&OPENCODE).await;
}

/// Leaves half of the work, and kills the agent that started it.
const CRASH: &str = "echo half > half.txt\n\
    p=$PPID\n\
    while [ \"$p\" -gt 1 ]; do\n\
    case \"$(cat /proc/$p/comm)\" in\n\
    claude*|codex*|copilot*|opencode*|node|gemini|MainThread) kill -9 \"$p\"; exit ;;\n\
    esac\n\
    p=$(sed -n 's/^PPid:[^0-9]*//p' /proc/$p/status)\n\
    done\n";

/// Killed in the middle of a call, it goes on in another sandbox, with its work and its memory.
async fn goes_on_after_it_was_killed(real: &Real) {
    if !real.is_installed().await {
        return;
    }
    let mut fixtures = real.runs("SCRIPTED-TWO", "cat half.txt; echo whole > whole.txt", "It is whole now.");
    // The call that was cut off counts as one with a result already: by number, then.
    fixtures[0]["match"] = json!({ "userMessage": "SCRIPTED-TWO", "sequenceIndex": 0 });
    fixtures[1]["match"] = json!({ "userMessage": "SCRIPTED-TWO" });
    fixtures.extend(real.runs("SCRIPTED-ONE", "sh crash.sh", "It did not crash."));
    let Some(model) = Model::start(fixtures).await else { return };
    let world = real.world(&model.url, false).await;
    world.github.push_file(REPO, "main", "crash.sh", CRASH).await.unwrap();
    let first = real.ask(&world, "SCRIPTED-ONE please").await;
    let reaction = world.ended(first).await;
    let answer = world.only_answer().await;
    assert_eq!(reaction, "confused", "{answer}");
    assert!(answer.contains(&format!("{} was interrupted.", real.agent)), "{answer}");
    assert!(answer.contains("The work so far is on the branch"), "{answer}");
    let second =
        world.comment(PERSON, &format!("/agent {} continue --model {} SCRIPTED-TWO", real.agent, real.model)).await;
    let reaction = world.ended(second).await;
    let log = world.log_of(&world.last_task().await.id).await;
    assert_eq!(reaction, "rocket", "{log}");
    if world.log().contains("\"isolation\":\"bubblewrap\"") {
        assert!(log.contains("in the same conversation"), "{log}");
        // What it said before the end came is part of what it sends now. Claude Code's requests are too
        // long for the journal; it refuses a conversation that it does not know.
        let remembers = |entry: &Value| {
            let body = entry["body"].to_string();
            body.contains("__aimock_truncated") || body.contains("SCRIPTED-TWO") && body.contains("I will see to it.")
        };
        assert!(model.journal().await.iter().any(remembers), "{} was not resumed", real.agent);
    }
    let diff = world.github.diff(REPO, "main", &world.only_pull().await.head).await.unwrap();
    assert!(diff.contains("+half") && diff.contains("+whole"), "{diff}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_goes_on_after_it_was_killed() {
    goes_on_after_it_was_killed(&CLAUDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_goes_on_after_it_was_killed() {
    goes_on_after_it_was_killed(&CODEX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copilot_goes_on_after_it_was_killed() {
    goes_on_after_it_was_killed(&COPILOT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_goes_on_after_it_was_killed() {
    goes_on_after_it_was_killed(&GEMINI).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opencode_goes_on_after_it_was_killed() {
    goes_on_after_it_was_killed(&OPENCODE).await;
}

/// Vercel's gateway is one more vendor: where it is the only key, agents that can go by it.
#[tokio::test(flavor = "multi_thread")]
async fn agents_go_by_vercels_gateway_where_that_is_the_key() {
    for (real, model) in [(&CLAUDE, "claude-sonnet-4"), (&CODEX, "openai/gpt-5.5")] {
        if !real.is_installed().await {
            continue;
        }
        let fixtures = real.runs("SCRIPTED-EDIT", "sed -i s/wrld/world/ README.md", "Fixed.");
        let Some(scripted) = Model::start(fixtures).await else { return };
        let builder = Builder::new(Engine::Sqlite).setting("ANTHROPIC_API_KEY", "");
        let key = builder.canary.clone();
        let builder = builder.setting("AI_GATEWAY_BASE_URL", &scripted.url).setting("AI_GATEWAY_API_KEY", &key);
        let world = builder.file("README.md", "hello wrld\n").start().await.unwrap();
        let comment = world.comment(PERSON, &format!("/agent {} SCRIPTED-EDIT", real.agent)).await;
        let reaction = world.ended(comment).await;
        assert_eq!(reaction, "rocket", "{}", world.log_of(&world.last_task().await.id).await);
        let answer = world.only_answer().await;
        assert!(answer.contains("by list price") && answer.contains(model), "{answer}");
        world.finish().await;
    }
}
