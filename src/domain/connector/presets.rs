//! Connectors that people need only a key for, if that.

use super::{Protocol, Transport};

/// A connector that is known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    pub name: &'static str,
    pub title: &'static str,
    /// Started in the sandbox, with the hosts it needs.
    argv: &'static [&'static str],
    hosts: &'static [&'static str],
    /// Called from the sandbox.
    url: &'static str,
    protocol: Protocol,
    /// A secret that goes as a bearer, if one is given.
    pub bearer: Option<&'static str>,
    /// Secrets of the environment.
    pub secrets: &'static [&'static str],
}

const fn local(name: &'static str, title: &'static str, argv: &'static [&'static str]) -> Preset {
    Preset { name, title, argv, hosts: &[], url: "", protocol: Protocol::Http, bearer: None, secrets: &[] }
}

const fn remote(name: &'static str, title: &'static str, url: &'static str, bearer: &'static str) -> Preset {
    Preset { url, bearer: Some(bearer), ..local(name, title, &[]) }
}

/// The nine of the original system.
pub const PRESETS: [Preset; 9] = [
    Preset {
        hosts: &["api.browserbase.com", "*.browserbase.com"],
        secrets: &["BROWSERBASE_API_KEY", "BROWSERBASE_PROJECT_ID"],
        ..local("browserbase", "Browserbase", &["npx", "-y", "@browserbasehq/mcp"])
    },
    remote("context7", "Context7", "https://mcp.context7.com/mcp", "CONTEXT7_API_KEY"),
    Preset {
        hosts: &["*.convex.cloud", "api.convex.dev"],
        secrets: &["CONVEX_DEPLOY_KEY"],
        ..local("convex", "Convex", &["npx", "-y", "convex@latest", "mcp", "start"])
    },
    remote("figma", "Figma", "https://mcp.figma.com/mcp", "FIGMA_TOKEN"),
    remote("huggingface", "Hugging Face", "https://huggingface.co/mcp", "HF_TOKEN"),
    Preset { protocol: Protocol::Sse, ..remote("linear", "Linear", "https://mcp.linear.app/sse", "LINEAR_API_KEY") },
    remote("notion", "Notion", "https://mcp.notion.com/mcp", "NOTION_TOKEN"),
    local("playwright", "Playwright", &["npx", "-y", "@playwright/mcp@latest", "--headless", "--isolated"]),
    remote("supabase", "Supabase", "https://mcp.supabase.com/mcp", "SUPABASE_ACCESS_TOKEN"),
];

impl Preset {
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// `with_bearer`: its secret is given.
    pub fn transport(&self, with_bearer: bool) -> Transport {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        if self.url.is_empty() {
            return Transport::Local { argv: owned(self.argv), hosts: owned(self.hosts) };
        }
        let header = |secret: &str| ("Authorization".to_owned(), format!("Bearer ${{{secret}}}"));
        Transport::Remote {
            url: self.url.to_owned(),
            protocol: self.protocol,
            headers: self.bearer.filter(|_| with_bearer).map(header).into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_preset_is_a_connector_by_its_name() {
        for preset in &PRESETS {
            let mentioned = super::super::check(preset.name, &preset.transport(true), |_| false).unwrap();
            let wanted = preset.bearer.into_iter().map(str::to_owned).collect();
            assert_eq!(mentioned, wanted, "{}", preset.name);
            assert_eq!(Preset::find(preset.name), Some(preset));
        }
    }
}
