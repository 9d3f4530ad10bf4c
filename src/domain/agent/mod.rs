//! Agents are data: how to install one, how to start it, which keys it can use, how its output reads.
//! A new agent is one more entry in `built_in` and, if its output is new, a parser in `agent_stream`.

mod built_in;
mod custom;
mod provider;

use super::agent_stream::OutputFormat;
use super::connector::config::Style;
use super::secret::Secret;

pub use built_in::built_in;
pub use custom::custom;
pub use provider::Provider;

/// The six names of the grammar.
pub const KNOWN_NAMES: [&str; 6] = ["claude", "codex", "copilot", "cursor", "gemini", "opencode"];

/// How a missing agent gets onto the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Install {
    /// `npm install --global package@version`
    Npm {
        package: &'static str,
        version: &'static str,
    },
    /// A packed folder from the vendor's own host, with the program in it.
    Archive {
        url: &'static str,
        version: &'static str,
        program: &'static str,
    },
    Argv(Vec<String>),
}

/// One way to a model: whose key it takes, and how the agent is told.
///
/// In all values `{base_url}` stands for the address of the provider's calls, without a slash at its
/// end, and `{key}` for what opens them: the run's grant at the model gateway, or the key itself where
/// the gateway cannot stand before the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    pub provider: Provider,
    pub env: Vec<(String, String)>,
    pub default_model: Option<&'static str>,
    /// How names of its models begin, for agents that choose the vendor by the model's name.
    pub model_prefix: Option<&'static str>,
}

/// How an agent goes on with an earlier conversation. In all words `{session}` stands for its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sessions {
    /// Arguments that give a new conversation its id beforehand, for agents that tell it too late.
    pub begin: &'static [&'static str],
    /// Arguments that resume one.
    pub resume: &'static [&'static str],
    /// Where it keeps them, below its home folder.
    pub files: &'static [&'static str],
}

/// One agent, as the service needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub name: String,
    pub install: Option<Install>,
    /// Exits 0 when the agent is there. Where a version is pinned its output must hold it, too.
    pub check: Option<Vec<String>>,
    /// Program and arguments; the prompt is its standard input.
    pub command: Vec<String>,
    /// Put before the model's name. `None`: the agent has no choice of model.
    pub model_flag: Option<&'static str>,
    pub env: Vec<(String, String)>,
    /// Files in its home folder: path below it, and text.
    pub home_files: Vec<(&'static str, &'static str)>,
    /// Ways to a model, the preferred first. Empty: it needs no key.
    pub access: Vec<Access>,
    pub sessions: Option<Sessions>,
    /// How it is told of connectors. `None`: it cannot have any.
    pub mcp: Option<Style>,
    /// All of `access` is given to it, not the first there is a key for.
    pub takes_all_access: bool,
    pub output: OutputFormat,
}

/// Which conversation a run has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Session<'a> {
    #[default]
    Unnamed,
    /// A new one, of this id where the agent can be told.
    New(&'a str),
    Resumed(&'a str),
}

/// Everything that depends on the run.
#[derive(Debug, Clone, Copy, Default)]
pub struct LaunchFor<'a> {
    pub model: Option<&'a str>,
    pub session: Session<'a>,
    /// The ways that were chosen, each with its address and what opens it.
    pub access: &'a [Granted<'a>],
    /// More arguments, for its connectors.
    pub args: &'a [String],
}

/// An access with what fills its templates.
#[derive(Debug, Clone, Copy)]
pub struct Granted<'a> {
    pub access: &'a Access,
    pub base_url: &'a str,
    pub key: &'a Secret,
}

/// How an agent is started. The environment holds what opens its model.
#[derive(Debug, PartialEq, Eq)]
pub struct Launch {
    pub argv: Vec<String>,
    pub env: Vec<(String, Secret)>,
}

impl Agent {
    /// Whether the agent is there, by what its `check` said.
    pub fn is_there(&self, check_succeeded: bool, stdout: &str) -> bool {
        match &self.install {
            Some(Install::Npm { version, .. } | Install::Archive { version, .. }) => {
                check_succeeded && stdout.contains(version)
            }
            Some(Install::Argv(_)) | None => check_succeeded,
        }
    }

    /// The commands that install it, in order. `prefix`: a folder of the agent's for programs, with
    /// `bin` on the path; `scratch`: one for files that are needed for a moment.
    pub fn installation(&self, prefix: &str, scratch: &str) -> Vec<Vec<String>> {
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        match self.install.as_ref() {
            None => Vec::new(),
            Some(Install::Argv(argv)) => vec![argv.clone()],
            Some(Install::Npm { package, version }) => vec![argv(&[
                "npm",
                "install",
                "--global",
                "--no-fund",
                "--no-audit",
                "--prefix",
                prefix,
                &format!("{package}@{version}"),
            ])],
            Some(Install::Archive { url, version, program }) => {
                let (name, packed) = (&self.name, format!("{scratch}/{}.tar.gz", self.name));
                let folder = format!("{prefix}/share/{name}/{version}");
                let (target, link) =
                    (format!("../share/{name}/{version}/{program}"), format!("{prefix}/bin/{program}"));
                vec![
                    argv(&["mkdir", "-p", &folder, &format!("{prefix}/bin")]),
                    argv(&["curl", "-fsSL", "--proto", "=https", "--retry", "3", "--output", &packed, url]),
                    argv(&["tar", "-xzf", &packed, "--strip-components=1", "-C", &folder]),
                    argv(&["ln", "-sfn", &target, &link]),
                ]
            }
        }
    }

    /// Hosts that its installation needs, besides npm's registry.
    pub fn install_hosts(&self) -> Option<&'static str> {
        match self.install {
            Some(Install::Archive { url, .. }) => Some(url),
            _ => None,
        }
    }

    /// What is wrong with a model's name, as one sentence. Which models there are, the vendor decides.
    pub fn check_model(&self, model: &str) -> Result<(), String> {
        let prefixes: Vec<&str> = self.access.iter().filter_map(|access| access.model_prefix).collect();
        if self.model_flag.is_none() {
            return Err(format!("{} has no choice of model", self.name));
        }
        if !prefixes.is_empty() && !prefixes.iter().any(|prefix| model.starts_with(prefix)) {
            return Err(format!("models of {} begin with {}", self.name, prefixes.join(", ")));
        }
        Ok(())
    }

    /// The ways that can lead to a model: all, or those whose models are called so.
    pub fn access_for(&self, model: Option<&str>) -> impl Iterator<Item = (usize, &Access)> {
        let fits = move |access: &Access| match (access.model_prefix, model) {
            (Some(prefix), Some(model)) => model.starts_with(prefix),
            _ => true,
        };
        self.access.iter().enumerate().filter(move |(_, access)| fits(access))
    }

    fn session_words(&self, session: Session<'_>) -> Vec<String> {
        let (words, id): (&[&str], &str) = match (&self.sessions, session) {
            (Some(sessions), Session::New(id)) => (sessions.begin, id),
            (Some(sessions), Session::Resumed(id)) => (sessions.resume, id),
            (None, _) | (_, Session::Unnamed) => (&[], ""),
        };
        words.iter().map(|word| word.replace("{session}", id)).collect()
    }

    pub fn launch(&self, run: LaunchFor<'_>) -> Launch {
        // Arguments can be seen by others: no key goes there.
        let base_url = run.access.first().map_or("", |granted| granted.base_url);
        let mut argv: Vec<String> = self.command.iter().map(|word| word.replace("{base_url}", base_url)).collect();
        if let (Some(flag), Some(model)) = (self.model_flag, run.model) {
            argv.extend([flag.to_owned(), model.to_owned()]);
        }
        argv.extend_from_slice(run.args);
        argv.extend(self.session_words(run.session));
        let mut env: Vec<(String, Secret)> =
            self.env.iter().map(|(name, value)| (name.clone(), Secret::new(value))).collect();
        for Granted { access, base_url, key } in run.access {
            let filled = |text: &str| Secret::new(text.replace("{base_url}", base_url).replace("{key}", key.expose()));
            env.extend(access.env.iter().map(|(name, value)| (name.clone(), filled(value))));
        }
        Launch { argv, env }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> Agent {
        built_in().into_iter().find(|agent| agent.name == name).unwrap()
    }

    fn launch(name: &str, access: usize, model: Option<&str>) -> Launch {
        let agent = agent(name);
        let key = Secret::new("grant");
        let granted = Granted { access: &agent.access[access], base_url: "https://m", key: &key };
        agent.launch(LaunchFor { model, access: &[granted], ..LaunchFor::default() })
    }

    #[test]
    fn an_agent_is_started_with_an_argument_vector() {
        let claude = launch("claude", 0, Some("opus"));
        assert_eq!(claude.argv[..2], ["claude", "-p"]);
        assert_eq!(claude.argv[claude.argv.len() - 2..], ["--model", "opus"]);
        assert!(claude.env.contains(&("ANTHROPIC_BASE_URL".into(), Secret::new("https://m"))));
        let codex = launch("codex", 0, None);
        assert!(codex.argv.iter().any(|word| word.contains(r#"base_url="https://m/v1""#)), "{codex:?}");
    }

    #[test]
    fn a_key_is_in_the_environment_only() {
        for agent in built_in() {
            for number in 0..agent.access.len() {
                let launch = launch(&agent.name, number, Some("some/model"));
                assert!(!launch.argv.concat().contains("grant"), "{}", agent.name);
                let env: Vec<&str> = launch.env.iter().map(|(_, value)| value.expose()).collect();
                assert!(env.iter().any(|value| value.contains("grant")), "{}", agent.name);
                let all = format!("{:?} {env:?}", launch.argv);
                assert!(!all.contains("{key}") && !all.contains("{base_url}"), "{all}");
                assert!(!format!("{launch:?}").contains("grant"));
            }
        }
    }

    #[test]
    fn the_six_agents_of_the_grammar_are_there() {
        let names: Vec<String> = built_in().into_iter().map(|agent| agent.name).collect();
        assert_eq!(names, KNOWN_NAMES);
    }

    #[test]
    fn the_models_name_chooses_the_vendor_where_the_agent_has_several() {
        let opencode = agent("opencode");
        let ways = |model| opencode.access_for(model).map(|(_, access)| access.provider).collect::<Vec<_>>();
        assert_eq!(ways(Some("openai/gpt-5.5")), [Provider::Openai]);
        assert_eq!(ways(None).len(), 4);
        assert!(opencode.check_model("gpt-5.5").unwrap_err().contains("anthropic/"));
        assert!(opencode.check_model("openai/gpt-5.5").is_ok());
    }

    #[test]
    fn a_conversation_is_resumed_by_its_id() {
        let words = |name: &str, session| {
            let argv = agent(name).launch(LaunchFor { session, ..LaunchFor::default() }).argv;
            argv[argv.len() - 3..].join(" ")
        };
        assert!(words("claude", Session::Resumed("s1")).ends_with("--resume s1"));
        assert!(words("codex", Session::Resumed("s1")).ends_with("resume s1 -"));
        assert!(words("copilot", Session::New("s1")).ends_with("--session-id s1"));
        assert!(!words("claude", Session::New("s1")).contains("s1"), "it makes its own");
    }

    #[test]
    fn cursor_comes_as_an_archive_of_its_vendor() {
        let steps = agent("cursor").installation("../home/.local", "../scratch");
        assert_eq!(steps[1][0], "curl");
        assert!(steps[1].last().unwrap().starts_with("https://downloads.cursor.com/"));
        assert_eq!(steps[3].last().unwrap(), "../home/.local/bin/cursor-agent");
    }
}
