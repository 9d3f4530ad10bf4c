//! What became of a delivery, as recorded in the ledger and told by `/agent why`.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionCode {
    Accepted,
    Duplicate,
    NoCommand,
    Edited,
    BotSender,
    OwnComment,
    NoPermission,
    AccountNotAllowed,
    UnknownAgent,
    BadOption,
    NoKey,
    DailyLimit,
    QueueFull,
    NotForUs,
    EventNotUsed,
    InstallationSuspended,
    PolicyForbids,
}

impl DecisionCode {
    pub const ALL: [Self; 17] = [
        Self::Accepted,
        Self::Duplicate,
        Self::NoCommand,
        Self::Edited,
        Self::BotSender,
        Self::OwnComment,
        Self::NoPermission,
        Self::AccountNotAllowed,
        Self::UnknownAgent,
        Self::BadOption,
        Self::NoKey,
        Self::DailyLimit,
        Self::QueueFull,
        Self::NotForUs,
        Self::EventNotUsed,
        Self::InstallationSuspended,
        Self::PolicyForbids,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::NoCommand => "no_command",
            Self::Edited => "edited",
            Self::BotSender => "bot_sender",
            Self::OwnComment => "own_comment",
            Self::NoPermission => "no_permission",
            Self::AccountNotAllowed => "account_not_allowed",
            Self::UnknownAgent => "unknown_agent",
            Self::BadOption => "bad_option",
            Self::NoKey => "no_key",
            Self::DailyLimit => "daily_limit",
            Self::QueueFull => "queue_full",
            Self::NotForUs => "not_for_us",
            Self::EventNotUsed => "event_not_used",
            Self::InstallationSuspended => "installation_suspended",
            Self::PolicyForbids => "policy_forbids",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// For `/agent why`: what the code means to the person who wrote the comment.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Accepted => "the command was accepted",
            Self::Duplicate => "this comment had been received before",
            Self::NoCommand => "there was no command in it",
            Self::Edited => "editing a comment starts nothing; write a new one",
            Self::BotSender => "bots cannot give commands",
            Self::OwnComment => "the bot wrote it itself",
            Self::NoPermission => "the sender has no write access to this repository",
            Self::AccountNotAllowed => "this instance does not work for this account",
            Self::UnknownAgent => "the agent it names does not exist here",
            Self::BadOption => "an option was wrong",
            Self::NoKey => "there is no key for the agent",
            Self::DailyLimit => "the sender's commands for today were used up",
            Self::QueueFull => "too many tasks were waiting",
            Self::NotForUs => "somebody else was asked",
            Self::EventNotUsed => "this kind of event starts nothing",
            Self::InstallationSuspended => "the App is suspended for this account",
            Self::PolicyForbids => "this is not offered here",
        }
    }
}

/// One row of the ledger, as `why` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerLine {
    pub at: super::ids::Millis,
    pub sender: String,
    pub code: Option<DecisionCode>,
    pub facts: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back_from_their_names() {
        for code in DecisionCode::ALL {
            assert_eq!(DecisionCode::parse(code.name()), Some(code));
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
        }
    }
}
