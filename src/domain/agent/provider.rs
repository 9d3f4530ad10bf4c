//! Whose API a key opens.

use serde::{Deserialize, Serialize};

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
    pub const ALL: [Self; 6] =
        [Self::Anthropic, Self::Openai, Self::Gemini, Self::Aigateway, Self::Cursor, Self::Copilot];

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

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }

    /// As people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Anthropic => "Anthropic",
            Self::Openai => "OpenAI",
            Self::Gemini => "Gemini",
            Self::Aigateway => "Vercel AI Gateway",
            Self::Cursor => "Cursor",
            Self::Copilot => "GitHub Copilot",
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
    /// `None`: the model gateway cannot stand before it, so its key goes to the agent itself.
    pub fn default_base_url(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::Openai => Some("https://api.openai.com"),
            Self::Gemini => Some("https://generativelanguage.googleapis.com"),
            Self::Aigateway => Some("https://ai-gateway.vercel.sh"),
            Self::Cursor | Self::Copilot => None,
        }
    }

    pub fn has_gateway(self) -> bool {
        self.default_base_url().is_some()
    }

    /// What its own client talks to, where the gateway cannot stand before it.
    pub fn hosts(self) -> &'static [&'static str] {
        match self {
            Self::Cursor => &["*.cursor.sh", "*.cursor.com", "cursor.com"],
            Self::Copilot => &["api.github.com", "api.githubcopilot.com", "*.githubcopilot.com"],
            Self::Anthropic | Self::Openai | Self::Gemini | Self::Aigateway => &[],
        }
    }
}
