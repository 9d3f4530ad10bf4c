//! The six agents that every instance knows, each tried with the version named (but Cursor and
//! Copilot on a GitHub token: their vendors' hosts are needed for that).

use super::super::agent_stream::OutputFormat;
use super::super::connector::config::Style;
use super::{Access, Agent, Install, Provider, Sessions};

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(ToOwned::to_owned).collect()
}

fn vars(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn access(provider: Provider, default_model: Option<&'static str>, env: &[(&str, &str)]) -> Access {
    Access { provider, env: vars(env), default_model, model_prefix: None }
}

pub fn built_in() -> Vec<Agent> {
    vec![claude(), codex(), copilot(), cursor(), gemini(), opencode()]
}

/// `--setting-sources user` and `--strict-mcp-config` keep a repository's hooks, servers and base
/// URLs out (CVE-2025-59536, CVE-2026-21852).
fn claude() -> Agent {
    Agent {
        name: "claude".into(),
        install: Some(Install::Npm { package: "@anthropic-ai/claude-code", version: "2.1.330" }),
        check: Some(words("claude --version")),
        command: words(
            "claude -p --output-format stream-json --verbose --dangerously-skip-permissions \
             --setting-sources user --strict-mcp-config",
        ),
        model_flag: Some("--model"),
        env: vars(&[
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            ("CLAUDE_CODE_MAX_RETRIES", "3"),
            ("DISABLE_AUTOUPDATER", "1"),
            // Without it the CLI refuses to run as uid 0, which it may be in a sandbox.
            ("IS_SANDBOX", "1"),
        ]),
        home_files: Vec::new(),
        access: vec![
            access(
                Provider::Anthropic,
                Some("sonnet"),
                &[("ANTHROPIC_BASE_URL", "{base_url}"), ("ANTHROPIC_API_KEY", "{key}")],
            ),
            // With both set it would send both headers.
            access(
                Provider::Aigateway,
                Some("anthropic/claude-sonnet-4.5"),
                &[("ANTHROPIC_BASE_URL", "{base_url}"), ("ANTHROPIC_AUTH_TOKEN", "{key}"), ("ANTHROPIC_API_KEY", "")],
            ),
        ],
        sessions: Some(Sessions { begin: &[], resume: &["--resume", "{session}"], files: &[".claude/projects"] }),
        mcp: Some(Style::Claude),
        takes_all_access: false,
        output: OutputFormat::Claude,
    }
}

/// A provider of our own keeps it from WebSockets and from reading another key, and its shells do
/// not see ours. Its own sandbox needs a kernel that is not there.
fn codex() -> Agent {
    let settings = [
        "model_providers.hireling={name=\"hireling\",base_url=\"{base_url}/v1\",env_key=\"HIRELING_MODEL_KEY\",\
         wire_api=\"responses\",request_max_retries=2,stream_max_retries=3}",
        "model_provider=hireling",
        "analytics.enabled=false",
        "check_for_update_on_startup=false",
        "shell_environment_policy.exclude=[\"*_KEY\",\"*TOKEN*\",\"*SECRET*\",\"HIRELING_*\"]",
    ];
    let mut command = words("codex exec --json --dangerously-bypass-approvals-and-sandbox");
    command.extend(settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
    let key = [("HIRELING_MODEL_KEY", "{key}")];
    Agent {
        name: "codex".into(),
        install: Some(Install::Npm { package: "@openai/codex", version: "0.169.0" }),
        check: Some(words("codex --version")),
        command,
        model_flag: Some("-m"),
        env: Vec::new(),
        home_files: Vec::new(),
        access: vec![access(Provider::Openai, None, &key), access(Provider::Aigateway, Some("openai/gpt-5.5"), &key)],
        sessions: Some(Sessions { begin: &[], resume: &["resume", "{session}", "-"], files: &[".codex/sessions"] }),
        mcp: Some(Style::Codex),
        takes_all_access: false,
        output: OutputFormat::Codex,
    }
}

/// The program of the platform's own package: the launcher of `@github/copilot` passes no signal on.
/// With a GitHub token it asks GitHub for models; with a key of another vendor it needs no GitHub
/// account. Its own GitHub server stays off: publishing is the service's work.
fn copilot() -> Agent {
    let own_key = |provider, model, base_url, kind| {
        access(
            provider,
            Some(model),
            &[
                ("COPILOT_OFFLINE", "true"),
                ("COPILOT_PROVIDER_BASE_URL", base_url),
                ("COPILOT_PROVIDER_API_KEY", "{key}"),
                ("COPILOT_PROVIDER_TYPE", kind),
            ],
        )
    };
    Agent {
        name: "copilot".into(),
        install: Some(Install::Npm { package: "@github/copilot-linux-x64", version: "1.0.102" }),
        check: Some(words("copilot-linux-x64 --version")),
        command: words(
            "copilot-linux-x64 --allow-all --no-ask-user --output-format json --no-color --stream off \
             --no-auto-update --disable-builtin-mcps",
        ),
        model_flag: Some("--model"),
        env: vars(&[("COPILOT_AUTO_UPDATE", "false")]),
        home_files: Vec::new(),
        access: vec![
            access(Provider::Copilot, None, &[("COPILOT_GITHUB_TOKEN", "{key}")]),
            own_key(Provider::Openai, "gpt-5.4", "{base_url}/v1", "openai"),
            own_key(Provider::Anthropic, "claude-sonnet-4.5", "{base_url}", "anthropic"),
        ],
        sessions: Some(Sessions {
            begin: &["--session-id", "{session}"],
            // Unlike `--resume`, it also finds one that was cut off before it was listed.
            resume: &["--session-id", "{session}"],
            files: &[".copilot/session-state"],
        }),
        mcp: Some(Style::Copilot),
        takes_all_access: false,
        output: OutputFormat::Copilot,
    }
}

/// As documented; its servers are needed to run it. It has no switch for another model host.
fn cursor() -> Agent {
    Agent {
        name: "cursor".into(),
        install: Some(Install::Archive {
            url: "https://downloads.cursor.com/lab/2026.09.10-fd3934a/linux/x64/agent-cli-package.tar.gz",
            version: "2026.09.10-fd3934a",
            program: "cursor-agent",
        }),
        check: Some(words("cursor-agent --version")),
        command: words("cursor-agent -p --force --trust --output-format stream-json"),
        model_flag: Some("--model"),
        env: Vec::new(),
        home_files: Vec::new(),
        access: vec![access(Provider::Cursor, None, &[("CURSOR_API_KEY", "{key}")])],
        // Where it keeps its conversations is not documented: it gets a summary instead.
        sessions: None,
        mcp: Some(Style::Cursor),
        takes_all_access: false,
        output: OutputFormat::Cursor,
    }
}

/// Without the settings it refuses another base address, without the address the repository's `.env`
/// could set one; `--skip-trust` leaves the project's hooks and servers unread.
fn gemini() -> Agent {
    Agent {
        name: "gemini".into(),
        install: Some(Install::Npm { package: "@google/gemini-cli", version: "0.61.0" }),
        check: Some(words("gemini --version")),
        command: words("gemini --approval-mode yolo --output-format stream-json --skip-trust"),
        model_flag: Some("-m"),
        env: vars(&[("GEMINI_CLI_NO_RELAUNCH", "true")]),
        home_files: vec![(
            ".gemini/settings.json",
            r#"{"security":{"auth":{"selectedType":"gemini-api-key"}},
"general":{"enableAutoUpdate":false,"enableAutoUpdateNotification":false,"maxAttempts":3},
"privacy":{"usageStatisticsEnabled":false},"telemetry":{"enabled":false}}
"#,
        )],
        access: vec![access(
            Provider::Gemini,
            Some("gemini-2.5-pro"),
            &[("GOOGLE_GEMINI_BASE_URL", "{base_url}"), ("GEMINI_API_KEY", "{key}")],
        )],
        sessions: Some(Sessions {
            begin: &[],
            resume: &["--resume", "{session}"],
            files: &[".gemini/tmp", ".gemini/projects.json"],
        }),
        mcp: Some(Style::Gemini),
        takes_all_access: false,
        output: OutputFormat::Gemini,
    }
}

/// `OPENCODE_CONFIG_CONTENT` beats any file of the repository, and project configuration is off: it
/// could send the key to another host.
fn opencode() -> Agent {
    Agent {
        name: "opencode".into(),
        install: Some(Install::Npm { package: "opencode-ai", version: "1.18.33" }),
        check: Some(words("opencode --version")),
        command: words("opencode run --auto --format json"),
        model_flag: Some("-m"),
        env: vars(&[
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
            ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
            ("OPENCODE_DISABLE_DEFAULT_PLUGINS", "1"),
            ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1"),
            ("OPENCODE_DISABLE_PROJECT_CONFIG", "1"),
        ]),
        home_files: Vec::new(),
        access: vec![
            opencode_access(Provider::Anthropic, "anthropic/", "anthropic/claude-sonnet-4-5", "/v1"),
            opencode_access(Provider::Openai, "openai/", "openai/gpt-5.5", "/v1"),
            opencode_access(Provider::Gemini, "google/", "google/gemini-2.5-pro", "/v1beta"),
            opencode_access(Provider::Aigateway, "vercel/", "vercel/anthropic/claude-sonnet-4.5", "/v1/ai"),
        ],
        sessions: Some(Sessions {
            begin: &[],
            resume: &["--session", "{session}"],
            files: &[
                ".local/share/opencode/opencode.db",
                ".local/share/opencode/opencode.db-wal",
                ".local/share/opencode/opencode.db-shm",
            ],
        }),
        mcp: Some(Style::Opencode),
        takes_all_access: false,
        output: OutputFormat::Opencode,
    }
}

/// The key is named, not written: tools that show the configuration do not show it.
fn opencode_access(provider: Provider, prefix: &'static str, model: &'static str, version: &str) -> Access {
    let config = format!(
        r#"{{"autoupdate":false,"share":"disabled","provider":{{"{}":{{"options":{{"baseURL":"{{base_url}}{version}","apiKey":"{{env:HIRELING_MODEL_KEY}}"}}}}}}}}"#,
        prefix.trim_end_matches('/')
    );
    Access {
        provider,
        env: vars(&[("HIRELING_MODEL_KEY", "{key}"), ("OPENCODE_CONFIG_CONTENT", &config)]),
        default_model: Some(model),
        model_prefix: Some(prefix),
    }
}
