//! Agents are data: how to install one, how to start it, which key it needs, how its output reads.
//! A new agent is one more entry here and, if its output is new, a parser in `agent_stream`.

use serde::{Deserialize, Serialize};

use super::agent_stream::OutputFormat;

/// Whose API a key opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    Anthropic,
    Openai,
    Gemini,
    Aigateway,
    Cursor,
    Copilot,
}

impl Provider {
    pub fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Openai => "openai",
            Self::Gemini => "gemini",
            Self::Aigateway => "aigateway",
            Self::Cursor => "cursor",
            Self::Copilot => "copilot",
        }
    }

    /// The operator's setting that holds a key for it.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Anthropic => "ANTHROPIC_API_KEY",
            Self::Openai => "OPENAI_API_KEY",
            Self::Gemini => "GEMINI_API_KEY",
            Self::Aigateway => "AI_GATEWAY_API_KEY",
            Self::Cursor => "CURSOR_API_KEY",
            Self::Copilot => "COPILOT_GITHUB_TOKEN",
        }
    }

    /// The vendor's own address, where the settings name no other. No trailing slash, no version.
    pub fn default_base_url(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::Openai => Some("https://api.openai.com"),
            Self::Gemini => Some("https://generativelanguage.googleapis.com"),
            Self::Aigateway => Some("https://ai-gateway.vercel.sh"),
            Self::Cursor | Self::Copilot => None,
        }
    }
}

/// How a missing agent gets onto the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Install {
    /// `npm install --global package@version`
    Npm {
        package: &'static str,
        version: &'static str,
    },
    Argv(Vec<String>),
}

/// One agent, as the service needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub name: String,
    pub install: Option<Install>,
    /// Exits 0 when the agent is there. With `Install::Npm` its output must hold the version, too.
    pub check: Option<Vec<String>>,
    /// Program and arguments; the prompt is its standard input. `{base_url}` stands for the provider's
    /// address.
    pub command: Vec<String>,
    /// Put before the model's name. `None`: the agent has no choice of model.
    pub model_flag: Option<&'static str>,
    pub default_model: Option<&'static str>,
    /// Names and values; `{base_url}` stands for the provider's address.
    pub env: Vec<(String, String)>,
    /// Files in its home folder: path below it, and text.
    pub home_files: Vec<(&'static str, &'static str)>,
    /// The key it needs, and the variable that carries it.
    pub key: Option<(Provider, &'static str)>,
    pub output: OutputFormat,
}

/// Everything needed to start an agent, except the key's value.
#[derive(Debug, PartialEq, Eq)]
pub struct Launch {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
}

impl Agent {
    /// Whether the agent is there, by what its `check` said.
    pub fn is_there(&self, check_succeeded: bool, stdout: &str) -> bool {
        match &self.install {
            Some(Install::Npm { version, .. }) => check_succeeded && stdout.contains(version),
            Some(Install::Argv(_)) | None => check_succeeded,
        }
    }

    /// The command that installs it. `prefix`: a folder of the agent's, for programs from npm.
    pub fn installation(&self, prefix: &str) -> Option<Vec<String>> {
        match self.install.as_ref()? {
            Install::Argv(argv) => Some(argv.clone()),
            Install::Npm { package, version } => Some(
                ["npm", "install", "--global", "--no-fund", "--no-audit", "--prefix", prefix]
                    .map(ToOwned::to_owned)
                    .into_iter()
                    .chain([format!("{package}@{version}")])
                    .collect(),
            ),
        }
    }

    pub fn launch(&self, model: Option<&str>, base_url: &str) -> Launch {
        let mut argv: Vec<String> = self.command.iter().map(|word| word.replace("{base_url}", base_url)).collect();
        if let (Some(flag), Some(model)) = (self.model_flag, model.or(self.default_model)) {
            argv.extend([flag.to_owned(), model.to_owned()]);
        }
        let env = self.env.iter().map(|(name, value)| (name.clone(), value.replace("{base_url}", base_url))).collect();
        Launch { argv, env }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(ToOwned::to_owned).collect()
}

fn vars(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The agents that every instance knows.
pub fn built_in() -> Vec<Agent> {
    vec![claude(), codex(), gemini(), opencode()]
}

/// The six names of the grammar; those without an entry in `built_in` are refused by name.
pub const KNOWN_NAMES: [&str; 6] = ["claude", "codex", "copilot", "cursor", "gemini", "opencode"];

/// Flags tried with 2.1.330: `--setting-sources user` and `--strict-mcp-config` keep a repository's
/// hooks, servers and base URLs out (CVE-2025-59536, CVE-2026-21852).
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
        default_model: Some("sonnet"),
        env: vars(&[
            ("ANTHROPIC_BASE_URL", "{base_url}"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            ("CLAUDE_CODE_MAX_RETRIES", "3"),
            ("DISABLE_AUTOUPDATER", "1"),
            // Without it the CLI refuses to run as uid 0, which it may be in a sandbox.
            ("IS_SANDBOX", "1"),
        ]),
        home_files: Vec::new(),
        key: Some((Provider::Anthropic, "ANTHROPIC_API_KEY")),
        output: OutputFormat::Claude,
    }
}

/// Tried with 0.169.0: a provider of our own keeps it from WebSockets and from reading another key,
/// and its shells do not see ours. Its own sandbox needs a kernel that is not there.
fn codex() -> Agent {
    let settings = [
        "model_providers.hireling={name=\"hireling\",base_url=\"{base_url}/v1\",env_key=\"OPENAI_API_KEY\",\
         wire_api=\"responses\",request_max_retries=2,stream_max_retries=3}",
        "model_provider=hireling",
        "analytics.enabled=false",
        "check_for_update_on_startup=false",
        "shell_environment_policy.exclude=[\"*_KEY\",\"*TOKEN*\",\"*SECRET*\"]",
    ];
    let mut command = words("codex exec --json --dangerously-bypass-approvals-and-sandbox");
    command.extend(settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
    Agent {
        name: "codex".into(),
        install: Some(Install::Npm { package: "@openai/codex", version: "0.169.0" }),
        check: Some(words("codex --version")),
        command,
        model_flag: Some("-m"),
        default_model: None,
        env: Vec::new(),
        home_files: Vec::new(),
        key: Some((Provider::Openai, "OPENAI_API_KEY")),
        output: OutputFormat::Codex,
    }
}

/// Tried with 0.61.0: without the settings it refuses another base address, without the address the
/// repository's `.env` could set one; `--skip-trust` leaves the project's hooks and servers unread.
fn gemini() -> Agent {
    Agent {
        name: "gemini".into(),
        install: Some(Install::Npm { package: "@google/gemini-cli", version: "0.61.0" }),
        check: Some(words("gemini --version")),
        command: words("gemini --approval-mode yolo --output-format stream-json --skip-trust"),
        model_flag: Some("-m"),
        default_model: Some("gemini-2.5-pro"),
        env: vars(&[("GEMINI_CLI_NO_RELAUNCH", "true"), ("GOOGLE_GEMINI_BASE_URL", "{base_url}")]),
        home_files: vec![(
            ".gemini/settings.json",
            r#"{"security":{"auth":{"selectedType":"gemini-api-key"}},
"general":{"enableAutoUpdate":false,"enableAutoUpdateNotification":false,"maxAttempts":3},
"privacy":{"usageStatisticsEnabled":false},"telemetry":{"enabled":false}}
"#,
        )],
        key: Some((Provider::Gemini, "GEMINI_API_KEY")),
        output: OutputFormat::Gemini,
    }
}

/// Tried with 1.18.33. `OPENCODE_CONFIG_CONTENT` beats any file of the repository, and project
/// configuration is off: it could send the key to another host.
fn opencode() -> Agent {
    Agent {
        name: "opencode".into(),
        install: Some(Install::Npm { package: "opencode-ai", version: "1.18.33" }),
        check: Some(words("opencode --version")),
        command: words("opencode run --auto --format json"),
        model_flag: Some("-m"),
        default_model: Some("anthropic/claude-sonnet-4-5"),
        env: vars(&[
            (
                "OPENCODE_CONFIG_CONTENT",
                r#"{"autoupdate":false,"share":"disabled","provider":{"anthropic":{"options":{"baseURL":"{base_url}/v1","apiKey":"{env:ANTHROPIC_API_KEY}"}}}}"#,
            ),
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
            ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
            ("OPENCODE_DISABLE_DEFAULT_PLUGINS", "1"),
            ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1"),
            ("OPENCODE_DISABLE_PROJECT_CONFIG", "1"),
        ]),
        home_files: Vec::new(),
        key: Some((Provider::Anthropic, "ANTHROPIC_API_KEY")),
        output: OutputFormat::Opencode,
    }
}

/// One `[agents.NAME]` table of `AGENTS_FILE`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomAgent {
    command: Vec<String>,
    install: Option<Vec<String>>,
    check: Option<Vec<String>>,
    #[serde(default)]
    env: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    output: OutputFormat,
    #[serde(default)]
    gateway: Vec<Provider>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentsFile {
    #[serde(default)]
    agents: std::collections::BTreeMap<String, CustomAgent>,
}

/// Reads the text of `AGENTS_FILE`. The error is one sentence for the operator.
pub fn custom(text: &str) -> Result<Vec<Agent>, String> {
    let file: AgentsFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    file.agents.into_iter().map(|(name, agent)| custom_agent(name, agent)).collect()
}

fn custom_agent(name: String, agent: CustomAgent) -> Result<Agent, String> {
    let legal = name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let taken = KNOWN_NAMES.contains(&name.as_str())
        || super::command::ALIASES.iter().any(|(alias, _)| *alias == name)
        || super::command::Verb::parse(&name).is_some();
    if !legal || taken {
        return Err(format!(
            "agents.{name}: choose another name (lower-case letters, digits, dashes; no word of the grammar)"
        ));
    }
    let argv = |what: &str, argv: &[String]| {
        if argv.first().is_none_or(String::is_empty) {
            return Err(format!("agents.{name}.{what} must name a program"));
        }
        Ok(())
    };
    argv("command", &agent.command)?;
    agent.install.as_deref().map_or(Ok(()), |list| argv("install", list))?;
    agent.check.as_deref().map_or(Ok(()), |list| argv("check", list))?;
    if agent.install.is_some() && agent.check.is_none() {
        return Err(format!("agents.{name}.install needs a check that tells whether to run it"));
    }
    if !agent.gateway.is_empty() {
        return Err(format!("agents.{name}.gateway: this version has no model gateway yet"));
    }
    Ok(Agent {
        name,
        install: agent.install.map(Install::Argv),
        check: agent.check,
        command: agent.command,
        model_flag: None,
        default_model: None,
        env: agent.env.into_iter().collect(),
        home_files: Vec::new(),
        key: None,
        output: agent.output,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_started_with_an_argument_vector() {
        let launch = claude().launch(Some("opus"), "https://models.test");
        assert_eq!(launch.argv[..2], ["claude", "-p"]);
        assert_eq!(launch.argv[launch.argv.len() - 2..], ["--model", "opus"]);
        assert!(launch.env.contains(&("ANTHROPIC_BASE_URL".into(), "https://models.test".into())));
        let codex = codex().launch(None, "https://m").argv;
        assert!(codex.iter().any(|word| word.contains(r#"base_url="https://m/v1""#)), "{codex:?}");
        assert!(opencode().launch(None, "https://m").env[0].1.contains(r#""baseURL":"https://m/v1""#));
    }

    #[test]
    fn a_custom_agent_is_a_table() {
        let agents =
            custom("[agents.ours]\ncommand = [\"sh\", \"/opt/run.sh\"]\nenv = { MODE = \"batch\" }\n").unwrap();
        assert_eq!(agents[0].command, ["sh", "/opt/run.sh"]);
        assert_eq!(agents[0].output, OutputFormat::Text);
    }

    #[test]
    fn faults_in_the_file_are_named() {
        for (text, part) in [
            ("[agents.ours]\n", "command"),
            ("[agents.ours]\ncommand = []", "must name a program"),
            ("[agents.claude]\ncommand = [\"x\"]", "choose another name"),
            ("[agents.help]\ncommand = [\"x\"]", "choose another name"),
            ("[agents.\"a b\"]\ncommand = [\"x\"]", "choose another name"),
            ("[agents.ours]\ncommand = [\"x\"]\nkey = 1", "unknown field"),
            ("[agents.ours]\ncommand = [\"x\"]\ninstall = [\"y\"]", "needs a check"),
            ("[agents.ours]\ncommand = [\"x\"]\noutput = \"yaml\"", "unknown variant"),
        ] {
            let error = custom(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
