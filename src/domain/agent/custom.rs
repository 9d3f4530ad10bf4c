//! Agents of one instance: the tables of `AGENTS_FILE`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::agent_stream::OutputFormat;
use super::super::command::{ALIASES, Verb};
use super::{Access, Agent, Install, KNOWN_NAMES, Provider};

/// One `[agents.NAME]` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomAgent {
    command: Vec<String>,
    install: Option<Vec<String>>,
    check: Option<Vec<String>>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    output: OutputFormat,
    #[serde(default)]
    gateway: Vec<Provider>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentsFile {
    #[serde(default)]
    agents: BTreeMap<String, CustomAgent>,
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
        || ALIASES.iter().any(|(alias, _)| *alias == name)
        || Verb::parse(&name).is_some();
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
    if let Some(provider) = agent.gateway.iter().find(|provider| !provider.has_gateway()) {
        return Err(format!("agents.{name}.gateway: the model gateway does not stand before {}", provider.name()));
    }
    Ok(Agent {
        name,
        install: agent.install.map(Install::Argv),
        check: agent.check,
        command: agent.command,
        model_flag: None,
        env: agent.env.into_iter().collect(),
        home_files: Vec::new(),
        access: agent.gateway.into_iter().map(gateway).collect(),
        sessions: None,
        mcp: None,
        takes_all_access: true,
        output: agent.output,
    })
}

/// The names that the vendors' own libraries read.
fn gateway(provider: Provider) -> Access {
    let (base_url, key) = match provider {
        Provider::Anthropic => ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
        Provider::Openai => ("OPENAI_BASE_URL", "OPENAI_API_KEY"),
        Provider::Gemini => ("GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY"),
        Provider::Aigateway | Provider::Cursor | Provider::Copilot => ("AI_GATEWAY_BASE_URL", "AI_GATEWAY_API_KEY"),
    };
    // OpenAI's libraries want the version in the address, the others add it.
    let value = if provider == Provider::Openai { "{base_url}/v1" } else { "{base_url}" };
    Access {
        provider,
        env: vec![(base_url.to_owned(), value.to_owned()), (key.to_owned(), "{key}".to_owned())],
        default_model: None,
        model_prefix: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_agent_is_a_table() {
        let agents = custom(
            "[agents.ours]\ncommand = [\"sh\", \"/opt/run.sh\"]\nenv = { MODE = \"batch\" }\ngateway = [\"anthropic\"]\n",
        )
        .unwrap();
        assert_eq!(agents[0].command, ["sh", "/opt/run.sh"]);
        assert_eq!(agents[0].output, OutputFormat::Text);
        assert_eq!(agents[0].access[0].env[1], ("ANTHROPIC_API_KEY".to_owned(), "{key}".to_owned()));
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
            ("[agents.ours]\ncommand = [\"x\"]\ngateway = [\"cursor\"]", "does not stand before cursor"),
        ] {
            let error = custom(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
