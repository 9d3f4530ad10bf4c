//! One writer per agent for the file in which it reads its MCP servers, outside the checkout. Secrets
//! are named there, and stand in the environment of the agent's command.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::secret::Secret;
use super::{Protocol, Secrets, Transport};

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Claude,
    Codex,
    Copilot,
    Cursor,
    Gemini,
    Opencode,
}

/// A server as a run uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub name: String,
    pub way: Way,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    Local { argv: Vec<Text>, env: Vec<(String, Text)> },
    Remote { url: Text, protocol: Protocol, headers: Vec<(String, Text)> },
}

/// A text of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    Plain(String),
    /// It holds a secret, and stands whole in this variable.
    Secret {
        variable: String,
        value: Secret,
    },
}

/// What the agent is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Below the home folder.
    pub path: &'static str,
    pub text: Secret,
    /// More arguments for the agent.
    pub args: Vec<String>,
}

/// Servers with their secrets filled in. `number` of the secret texts so far makes their variables.
pub fn server(name: &str, transport: &Transport, secrets: &Secrets, number: &mut usize) -> Server {
    let mut text = |text: &str| {
        let filled = fill(text, secrets);
        match filled == text {
            true => Text::Plain(filled),
            false => {
                *number += 1;
                Text::Secret { variable: format!("HIRELING_MCP_{number}"), value: Secret::new(filled) }
            }
        }
    };
    let way = match transport {
        Transport::Local { argv, .. } => Way::Local {
            argv: argv.iter().map(|word| text(word)).collect(),
            env: secrets.0.keys().map(|name| (name.clone(), text(&format!("${{{name}}}")))).collect(),
        },
        Transport::Remote { url, protocol, headers } => Way::Remote {
            url: text(url),
            protocol: *protocol,
            headers: headers.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        },
    };
    Server { name: name.to_owned(), way }
}

fn fill(text: &str, secrets: &Secrets) -> String {
    let fill = |text: String, (name, value): (&String, &Secret)| text.replace(&format!("${{{name}}}"), value.expose());
    secrets.0.iter().fold(text.to_owned(), fill)
}

impl Style {
    /// Whether a secret reaches the server as it is. Gemini fills in variables a second time; what Cursor
    /// does is not documented.
    pub fn can_carry(self, server: &Server) -> bool {
        let changes = matches!(self, Self::Gemini | Self::Cursor);
        let texts = environment(std::slice::from_ref(server));
        !changes || texts.iter().all(|(_, value)| !value.expose().contains('$'))
    }
}

/// What stands in the environment of the agent's command.
pub fn environment(servers: &[Server]) -> Vec<(String, Secret)> {
    let texts = servers.iter().flat_map(|server| match &server.way {
        Way::Local { argv, env } => argv.iter().chain(env.iter().map(|(_, text)| text)).collect::<Vec<_>>(),
        Way::Remote { url, headers, .. } => [url].into_iter().chain(headers.iter().map(|(_, text)| text)).collect(),
    });
    texts
        .filter_map(|text| match text {
            Text::Secret { variable, value } => Some((variable.clone(), value.clone())),
            Text::Plain(_) => None,
        })
        .collect()
}

impl Style {
    /// `base`: what the agent's file of this path holds already.
    pub fn write(self, servers: &[Server], base: Option<&str>) -> Written {
        let (path, args): (&str, &[&str]) = match self {
            Self::Claude => (".hireling/mcp.json", &["--mcp-config", "../home/.hireling/mcp.json"]),
            Self::Codex => (".codex/config.toml", &[]),
            Self::Copilot => (".copilot/mcp-config.json", &[]),
            Self::Cursor => (".cursor/mcp.json", &["--approve-mcps"]),
            Self::Gemini => (".gemini/settings.json", &[]),
            Self::Opencode => (".config/opencode/opencode.json", &[]),
        };
        let text = match self {
            Self::Codex => codex(servers),
            other => other.json(servers, base),
        };
        Written { path, text: Secret::new(text), args: args.iter().map(|word| (*word).to_owned()).collect() }
    }

    fn json(self, servers: &[Server], base: Option<&str>) -> String {
        let mut root: Map<String, Value> = base.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let entries: Map<String, Value> =
            servers.iter().map(|server| (server.name.clone(), self.entry(&server.way))).collect();
        let key = if self == Self::Opencode { "mcp" } else { "mcpServers" };
        root.insert(key.to_owned(), Value::Object(entries));
        serde_json::to_string_pretty(&root).unwrap_or_default() + "\n"
    }

    fn entry(self, way: &Way) -> Value {
        let map = |pairs: &[(String, Text)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, text)| (name.clone(), self.word(text))).collect()
        };
        match way {
            Way::Local { argv, env } => {
                let words: Vec<String> = argv.iter().map(|word| self.word(word)).collect();
                let (command, args) = words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
                match self {
                    Self::Opencode => {
                        json!({ "type": "local", "command": words, "environment": map(env), "enabled": true })
                    }
                    Self::Claude => json!({ "type": "stdio", "command": command, "args": args, "env": map(env) }),
                    Self::Copilot => {
                        json!({ "type": "local", "command": command, "args": args, "env": map(env), "tools": ["*"] })
                    }
                    Self::Gemini => json!({ "command": command, "args": args, "env": map(env), "trust": true }),
                    Self::Cursor | Self::Codex => json!({ "command": command, "args": args, "env": map(env) }),
                }
            }
            Way::Remote { url, protocol, headers } => self.remote(&self.word(url), *protocol, &map(headers)),
        }
    }

    fn remote(self, url: &str, protocol: Protocol, headers: &BTreeMap<String, String>) -> Value {
        let kind = if protocol == Protocol::Sse { "sse" } else { "http" };
        match self {
            // It finds out itself which of the two it is.
            Self::Opencode => {
                json!({ "type": "remote", "url": url, "headers": headers, "oauth": false, "enabled": true })
            }
            Self::Copilot => json!({ "type": kind, "url": url, "headers": headers, "tools": ["*"] }),
            Self::Gemini if protocol == Protocol::Sse => json!({ "url": url, "headers": headers, "trust": true }),
            Self::Gemini => json!({ "httpUrl": url, "headers": headers, "trust": true }),
            Self::Cursor => json!({ "url": url, "headers": headers }),
            Self::Claude | Self::Codex => json!({ "type": kind, "url": url, "headers": headers }),
        }
    }

    fn word(self, text: &Text) -> String {
        match (self, text) {
            (_, Text::Plain(text)) => text.clone(),
            (Self::Opencode, Text::Secret { variable, .. }) => format!("{{env:{variable}}}"),
            (Self::Cursor, Text::Secret { variable, .. }) => format!("${{env:{variable}}}"),
            (_, Text::Secret { variable, .. }) => format!("${{{variable}}}"),
        }
    }
}

/// Codex fills in nothing but headers: what else is secret stands in the file, which nobody else reads.
fn codex(servers: &[Server]) -> String {
    let plain = |text: &Text| match text {
        Text::Plain(text) => text.clone(),
        Text::Secret { value, .. } => value.expose().to_owned(),
    };
    let entry = |way: &Way| {
        let mut table = toml::Table::new();
        match way {
            Way::Local { argv, env } => {
                let words: Vec<String> = argv.iter().map(plain).collect();
                table.insert("command".into(), words.first().cloned().unwrap_or_default().into());
                table.insert("args".into(), words.get(1..).unwrap_or_default().to_vec().into());
                let env: toml::Table = env.iter().map(|(name, text)| (name.clone(), plain(text).into())).collect();
                table.insert("env".into(), env.into());
            }
            Way::Remote { url, headers, .. } => {
                table.insert("url".into(), plain(url).into());
                let (mut literal, mut named) = (toml::Table::new(), toml::Table::new());
                for (name, text) in headers {
                    match text {
                        Text::Plain(text) => literal.insert(name.clone(), text.clone().into()),
                        Text::Secret { variable, .. } => named.insert(name.clone(), variable.clone().into()),
                    };
                }
                table.insert("http_headers".into(), literal.into());
                table.insert("env_http_headers".into(), named.into());
            }
        }
        toml::Value::Table(table)
    };
    let entries: toml::Table = servers.iter().map(|server| (server.name.clone(), entry(&server.way))).collect();
    let root: toml::Table = [("mcp_servers".to_owned(), entries.into())].into_iter().collect();
    toml::to_string(&root).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Vec<Server> {
        let secrets = Secrets([("TOKEN".to_owned(), Secret::new("pa$s\"word"))].into());
        let local =
            Transport::Local { argv: ["npx", "-y", "--key=${TOKEN}"].map(str::to_owned).to_vec(), hosts: Vec::new() };
        let remote = Transport::Remote {
            url: "https://h.test/mcp".into(),
            protocol: Protocol::Http,
            headers: [("Authorization".into(), "Bearer ${TOKEN}".into()), ("X-Team".into(), "a".into())].into(),
        };
        let mut number = 0;
        vec![server("loc", &local, &secrets, &mut number), server("rem", &remote, &secrets, &mut number)]
    }

    #[test]
    fn secrets_are_named_in_the_file_and_stand_in_the_environment() {
        for style in [Style::Claude, Style::Copilot, Style::Cursor, Style::Gemini, Style::Opencode] {
            let written = style.write(&servers(), None);
            let text = written.text.expose();
            assert!(!text.contains("word"), "{text}");
            let value: Value = serde_json::from_str(text).unwrap();
            let key = if style == Style::Opencode { "/mcp" } else { "/mcpServers" };
            assert_eq!(value.pointer(key).unwrap().as_object().unwrap().len(), 2, "{text}");
        }
        let names: Vec<(String, String)> =
            environment(&servers()).into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect();
        let expected = [("1", "--key=pa$s\"word"), ("2", "pa$s\"word"), ("3", "Bearer pa$s\"word")];
        assert_eq!(names, expected.map(|(number, value)| (format!("HIRELING_MCP_{number}"), value.to_owned())));
    }

    #[test]
    fn each_agent_names_a_variable_in_its_own_way() {
        let header = |style: Style, path: &str| {
            let value: Value = serde_json::from_str(style.write(&servers(), None).text.expose()).unwrap();
            value.pointer(path).unwrap().as_str().unwrap().to_owned()
        };
        assert_eq!(header(Style::Claude, "/mcpServers/rem/headers/Authorization"), "${HIRELING_MCP_3}");
        assert_eq!(header(Style::Cursor, "/mcpServers/rem/headers/Authorization"), "${env:HIRELING_MCP_3}");
        assert_eq!(header(Style::Opencode, "/mcp/rem/headers/Authorization"), "{env:HIRELING_MCP_3}");
        assert_eq!(header(Style::Opencode, "/mcp/loc/environment/TOKEN"), "{env:HIRELING_MCP_2}");
    }

    #[test]
    fn what_an_agents_file_held_before_stays() {
        let written = Style::Gemini.write(&servers(), Some(r#"{"security":{"a":1}}"#));
        let value: Value = serde_json::from_str(written.text.expose()).unwrap();
        assert_eq!(value["security"]["a"], 1);
        assert_eq!(value["mcpServers"]["rem"]["httpUrl"], "https://h.test/mcp");
    }

    #[test]
    fn codex_reads_a_table() {
        let table: toml::Table = Style::Codex.write(&servers(), None).text.expose().parse().unwrap();
        let server = |name: &str| table["mcp_servers"][name].clone();
        assert_eq!(server("loc")["env"]["TOKEN"].as_str(), Some("pa$s\"word"));
        assert_eq!(server("rem")["env_http_headers"]["Authorization"].as_str(), Some("HIRELING_MCP_3"));
        assert_eq!(server("rem")["http_headers"]["X-Team"].as_str(), Some("a"));
    }
}
