//! Connectors: MCP servers that an agent may use, started in the sandbox (`Local`) or called from it
//! (`Remote`). Their secrets are kept apart from what is shown.

pub mod address;
pub mod config;
pub mod presets;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ids::Millis;
use super::key::KeyOwner;
use super::secret::Secret;

const MAX_NAME: usize = 40;
const MAX_TEXT: usize = 4_000;
const MAX_PARTS: usize = 50;

/// How the agent reaches it. Texts may hold `${NAME}` of a secret of the same connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Transport {
    /// Started in the sandbox.
    Local {
        argv: Vec<String>,
        /// Hosts it has to reach, besides the usual ones.
        #[serde(default)]
        hosts: Vec<String>,
    },
    Remote {
        url: String,
        #[serde(default)]
        protocol: Protocol,
        /// Names, and values with `${NAME}` where they are secret.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Http,
    Sse,
}

/// By name. Of a local connector they are also the environment of its process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets(pub BTreeMap<String, Secret>);

impl Secrets {
    /// For sealing.
    pub fn to_json(&self) -> Secret {
        let plain: BTreeMap<&str, &str> = self.0.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        Secret::new(serde_json::to_string(&plain).unwrap_or_default())
    }

    pub fn from_json(text: &Secret) -> Option<Self> {
        let plain: BTreeMap<String, String> = serde_json::from_str(text.expose()).ok()?;
        Some(Self(plain.into_iter().map(|(name, value)| (name, Secret::new(value))).collect()))
    }

    /// Takes over those that are not given anew: editing loses none.
    pub fn completed_by(mut self, old: &Self, wanted: &BTreeSet<String>) -> Self {
        for (name, value) in &old.0 {
            if wanted.contains(name) && !self.0.contains_key(name) {
                self.0.insert(name.clone(), value.clone());
            }
        }
        self
    }
}

/// A stored connector as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connector {
    pub id: String,
    pub owner: KeyOwner,
    pub name: String,
    pub transport: Transport,
    pub sealed: String,
    pub is_enabled: bool,
    pub saved_at: Millis,
}

impl Connector {
    /// What its sealed secrets are bound to.
    pub fn bound_to(&self) -> String {
        sealed_for(&self.id, self.owner, &self.transport)
    }
}

impl Transport {
    /// Who gets the secrets: a program, or a host.
    pub fn target(&self) -> String {
        match self {
            Self::Local { argv, .. } => format!("local {}", argv.first().map_or("", String::as_str)),
            Self::Remote { url, .. } => {
                let parsed = url::Url::parse(url).ok();
                format!("remote {}", parsed.map(|url| url.origin().ascii_serialization()).unwrap_or_default())
            }
        }
    }
}

/// What a sealed value of this row is bound to: whoever changes where the row leads gets nothing.
pub fn sealed_for(id: &str, owner: KeyOwner, transport: &Transport) -> String {
    let transport = serde_json::to_string(transport).unwrap_or_default();
    format!("connectors/{id}/{}-{}/secrets/{transport}", owner.kind(), owner.id())
}

/// Names of the secrets that the texts mention. `Err`: one sentence for the visitor.
pub fn check(name: &str, transport: &Transport, is_allowed: impl Fn(&str) -> bool) -> Result<BTreeSet<String>, String> {
    let legal = (1..=MAX_NAME).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !legal {
        return Err("a connector's name has lower-case letters, digits and dashes".to_owned());
    }
    let mut mentioned = BTreeSet::new();
    let mut text = |text: &str| -> Result<(), String> {
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            return Err("a value is too long or holds control characters".to_owned());
        }
        mentioned.extend(mentions(text)?);
        Ok(())
    };
    match transport {
        Transport::Local { argv, hosts } => {
            if argv.first().is_none_or(String::is_empty) || argv.len() > MAX_PARTS || hosts.len() > MAX_PARTS {
                return Err("a local connector needs a program and its arguments".to_owned());
            }
            argv.iter().try_for_each(|word| text(word))?;
            if let Some(host) = hosts.iter().find(|host| address::check(&format!("https://{host}/")).is_err()) {
                return Err(format!("{host:?} is no public host"));
            }
        }
        Transport::Remote { url, headers, .. } => {
            text(url)?;
            if !is_allowed(url) {
                address::check(url)?;
            }
            if headers.len() > MAX_PARTS {
                return Err("these are too many headers".to_owned());
            }
            for (header, value) in headers {
                let token =
                    !header.is_empty() && header.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
                if !token {
                    return Err(format!("{header:?} is no name of a header"));
                }
                text(value)?;
            }
        }
    }
    Ok(mentioned)
}

/// The names in `${NAME}`. Whatever else an agent could take for a variable is refused: it would be
/// filled from the agent's own environment, and that is not the connector's.
fn mentions(text: &str) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let tail = rest.get(at + 1..).unwrap_or("");
        let name = tail.strip_prefix('{').and_then(|tail| tail.split_once('}')).map(|(name, _)| name);
        match name.filter(|name| is_variable(name)) {
            Some(name) => names.insert(name.to_owned()),
            None => return Err("a $ stands only before {NAME}, with the name of a secret of this connector".to_owned()),
        };
        rest = tail;
    }
    if text.contains("{env:") || text.contains("{file:") {
        return Err("{env:…} and {file:…} are not filled in; write ${NAME}".to_owned());
    }
    Ok(names)
}

pub fn is_variable(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The connectors of a task, and the names of those that it asks for and that are not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selected {
    pub connectors: Vec<Connector>,
    pub missing: Vec<String>,
}

/// Those that a task uses. Of two with one name the person's counts.
pub fn select(all: Vec<Connector>, wanted: Option<&[String]>) -> Selected {
    let mut by_name: BTreeMap<String, Connector> = BTreeMap::new();
    for connector in all.into_iter().filter(|connector| connector.is_enabled) {
        let is_personal = matches!(connector.owner, KeyOwner::Person(_));
        if is_personal || !by_name.contains_key(&connector.name) {
            by_name.insert(connector.name.clone(), connector);
        }
    }
    let Some(wanted) = wanted else {
        return Selected { connectors: by_name.into_values().collect(), missing: Vec::new() };
    };
    let mut selected = Selected::default();
    for name in wanted {
        match by_name.remove(name) {
            Some(connector) => selected.connectors.push(connector),
            None => selected.missing.push(name.clone()),
        }
    }
    selected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{InstallationId, UserId};

    fn local(argv: &[&str]) -> Transport {
        Transport::Local { argv: argv.iter().map(|word| (*word).to_owned()).collect(), hosts: Vec::new() }
    }

    #[test]
    fn texts_mention_secrets_of_their_own_connector_and_nothing_else() {
        let names = check("x", &local(&["npx", "--key=${A_KEY}", "${B}${A_KEY}"]), |_| false).unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["A_KEY", "B"]);
        for bad in ["$HOME", "${HOME", "${a b}", "$$", "{env:ANTHROPIC_API_KEY}", "{file:/etc/passwd}", "a\nb"] {
            assert!(check("x", &local(&["npx", bad]), |_| false).is_err(), "{bad}");
        }
        for bad in ["", "A", "a b", "../x", "a.b"] {
            assert!(check(bad, &local(&["npx"]), |_| false).is_err(), "{bad}");
        }
        assert!(check("x", &local(&[]), |_| false).is_err());
    }

    #[test]
    fn the_persons_own_comes_first_and_the_task_may_choose() {
        let connector = |owner, name: &str, is_enabled| Connector {
            id: name.into(),
            owner,
            name: name.into(),
            transport: local(&["x"]),
            sealed: String::new(),
            is_enabled,
            saved_at: Millis(0),
        };
        let (me, org) = (KeyOwner::Person(UserId(1)), KeyOwner::Installation(InstallationId(2)));
        let all = || {
            vec![
                connector(me, "linear", true),
                connector(org, "linear", true),
                connector(org, "figma", true),
                connector(me, "off", false),
            ]
        };
        let chosen = select(all(), None);
        let names: Vec<(&str, KeyOwner)> = chosen.connectors.iter().map(|one| (one.name.as_str(), one.owner)).collect();
        assert_eq!(names, [("figma", org), ("linear", me)]);
        let asked = select(all(), Some(&["figma".to_owned(), "off".to_owned()]));
        assert_eq!(asked.connectors.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["figma"]);
        assert_eq!(asked.missing, ["off"]);
    }

    #[test]
    fn editing_loses_no_secret_that_is_still_wanted() {
        let secrets = |pairs: &[(&str, &str)]| {
            Secrets(pairs.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect())
        };
        let old = secrets(&[("A", "1"), ("B", "2")]);
        let wanted = ["A".to_owned(), "C".to_owned()].into();
        assert_eq!(secrets(&[("C", "3")]).completed_by(&old, &wanted), secrets(&[("A", "1"), ("C", "3")]));
        assert_eq!(Secrets::from_json(&old.to_json()), Some(old));
    }
}
