//! What a person wants of every task, unless the command says otherwise.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::command::Options;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preferences {
    /// The agent of a command that names none.
    pub agent: Option<String>,
    /// By agent.
    pub models: BTreeMap<String, String>,
    /// Below the operator's limit.
    pub max_messages_per_day: Option<i64>,
    /// Seconds, below the operator's limit.
    pub max_sandbox_duration: Option<u64>,
    pub draft: bool,
    pub keep_alive: bool,
}

impl Preferences {
    /// What a command leaves open.
    pub fn complete(&self, options: Options, agent: &str) -> Options {
        let most = self.max_sandbox_duration;
        let timeout_s = match (options.timeout_s, most) {
            (Some(asked), Some(most)) => Some(asked.min(most)),
            (asked, most) => asked.or(most),
        };
        Options {
            model: options.model.or_else(|| self.models.get(agent).cloned()),
            draft: options.draft.or(self.draft.then_some(true)),
            keep_alive: options.keep_alive || self.keep_alive,
            timeout_s,
            ..options
        }
    }

    /// Commands per day, of the operator's limit.
    pub fn per_day(&self, most: i64) -> i64 {
        self.max_messages_per_day.map_or(most, |own| own.clamp(0, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_goes_before_the_preferences_but_not_over_their_limits() {
        let preferences = Preferences {
            models: [("claude".to_owned(), "opus".to_owned())].into(),
            max_sandbox_duration: Some(600),
            draft: true,
            ..Preferences::default()
        };
        let open = preferences.complete(Options::default(), "claude");
        assert_eq!((open.model.as_deref(), open.draft, open.timeout_s), (Some("opus"), Some(true), Some(600)));
        let said =
            Options { model: Some("haiku".into()), draft: Some(false), timeout_s: Some(900), ..Options::default() };
        let said = preferences.complete(said, "claude");
        assert_eq!((said.model.as_deref(), said.draft, said.timeout_s), (Some("haiku"), Some(false), Some(600)));
        assert_eq!(preferences.complete(Options::default(), "codex").model, None);
        assert_eq!(preferences.per_day(50), 50);
        assert_eq!(Preferences { max_messages_per_day: Some(80), ..Preferences::default() }.per_day(50), 50);
    }
}
