//! `--name value` and `--name=value`: what they are called and what they may hold.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::agent_name;
use crate::domain::ask::ReviewRequest;

/// The options of one command, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    pub model: Option<String>,
    pub base: Option<String>,
    pub branch: Option<String>,
    /// Seconds.
    pub timeout_s: Option<u64>,
    pub draft: Option<bool>,
    pub no_pr: bool,
    pub keep_alive: bool,
    pub install: bool,
    pub new: bool,
    pub full: bool,
    pub mcp: Option<Vec<String>>,
    pub no_mcp: bool,
    /// Cents of a US dollar.
    pub max_cents: Option<u64>,
    pub review_by: Option<String>,
    /// Not written: the task repeats another one, on a branch of its own.
    pub is_retry: bool,
    /// Not written: the verb `review`.
    pub is_review: bool,
    /// Not written: the request for a review that this answers.
    pub review_request: Option<ReviewRequest>,
    /// Not written: the head of the pull request when the command was given.
    pub head: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionName {
    Model,
    Base,
    Branch,
    Timeout,
    Draft,
    Ready,
    NoPr,
    KeepAlive,
    Install,
    New,
    Full,
    Mcp,
    NoMcp,
    Max,
    ReviewBy,
}

impl OptionName {
    pub const ALL: [(&str, Self); 15] = [
        ("model", Self::Model),
        ("base", Self::Base),
        ("branch", Self::Branch),
        ("timeout", Self::Timeout),
        ("draft", Self::Draft),
        ("ready", Self::Ready),
        ("no-pr", Self::NoPr),
        ("keep-alive", Self::KeepAlive),
        ("install", Self::Install),
        ("new", Self::New),
        ("full", Self::Full),
        ("mcp", Self::Mcp),
        ("no-mcp", Self::NoMcp),
        ("max", Self::Max),
        ("review-by", Self::ReviewBy),
    ];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, option)| *option)
    }

    pub fn takes_value(self) -> bool {
        match self {
            Self::Model | Self::Base | Self::Branch | Self::Timeout | Self::Mcp | Self::Max | Self::ReviewBy => true,
            Self::Draft
            | Self::Ready
            | Self::NoPr
            | Self::KeepAlive
            | Self::Install
            | Self::New
            | Self::Full
            | Self::NoMcp => false,
        }
    }

    /// What the value may look like, or what the switch does: for help and for error replies.
    pub fn help(self) -> &'static str {
        match self {
            Self::Model => "a model name of the agent, such as `claude-sonnet-4-5`",
            Self::Base => "the branch to start from and to merge into",
            Self::Branch => "the name of the branch to make",
            Self::Timeout => "a time such as `90s`, `30m` or `2h`",
            Self::Draft => "open the pull request as a draft",
            Self::Ready => "open the pull request ready for review",
            Self::NoPr => "push the branch, open no pull request",
            Self::KeepAlive => "leave the sandbox running afterwards",
            Self::Install => "install the project's dependencies first",
            Self::New => "do not continue the last task of this thread",
            Self::Full => "review everything, not only what is new",
            Self::Mcp => "names of connectors, separated by commas",
            Self::NoMcp => "run without connectors",
            Self::Max => "a sum such as `'$3'`",
            Self::ReviewBy => "the name of an agent",
        }
    }
}

impl Options {
    /// Whether a task with these options begins its own work instead of going on with earlier work.
    pub fn starts_anew(&self) -> bool {
        self.new || self.is_retry || self.is_review || self.base.is_some() || self.branch.is_some()
    }

    /// Whether they say nothing that a review does not heed.
    pub fn are_of_a_review(&self) -> bool {
        let heeded = Self {
            model: self.model.clone(),
            timeout_s: self.timeout_s,
            max_cents: self.max_cents,
            mcp: self.mcp.clone(),
            no_mcp: self.no_mcp,
            install: self.install,
            full: self.full,
            review_request: self.review_request.clone(),
            ..Self::default()
        };
        *self == heeded
    }

    /// Takes one option in. `Err` says what its value has to be.
    pub(super) fn set(&mut self, name: OptionName, value: &str) -> Result<(), &'static str> {
        let expected = Err(name.help());
        match name {
            OptionName::Model if is_model(value) => self.model = Some(value.to_owned()),
            OptionName::Base if is_branch(value) => self.base = Some(value.to_owned()),
            OptionName::Branch if is_branch(value) => self.branch = Some(value.to_owned()),
            OptionName::Timeout => match duration(value) {
                Some(time) => self.timeout_s = Some(time.as_secs()),
                None => return expected,
            },
            OptionName::Max => match cents(value) {
                Some(sum) => self.max_cents = Some(sum),
                None => return expected,
            },
            OptionName::Mcp => match names(value) {
                Some(list) => self.mcp = Some(list),
                None => return expected,
            },
            OptionName::ReviewBy if is_name(value) => {
                self.review_by = Some(agent_name(value));
            }
            OptionName::Draft => self.draft = Some(true),
            OptionName::Ready => self.draft = Some(false),
            OptionName::NoPr => self.no_pr = true,
            OptionName::KeepAlive => self.keep_alive = true,
            OptionName::Install => self.install = true,
            OptionName::New => self.new = true,
            OptionName::Full => self.full = true,
            OptionName::NoMcp => self.no_mcp = true,
            OptionName::Model | OptionName::Base | OptionName::Branch | OptionName::ReviewBy => return expected,
        }
        Ok(())
    }
}

fn is_model(value: &str) -> bool {
    value.len() <= 128
        && value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@-[]".contains(&b))
}

pub(super) fn is_name(value: &str) -> bool {
    !value.is_empty()
        && value.len() <= 64
        && value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// A branch name by Git's rules, narrowed to characters that need no quoting anywhere (threat T21).
pub fn is_branch(value: &str) -> bool {
    !value.is_empty()
        && value.len() <= 200
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/+#".contains(&b))
        && value.split('/').all(|part| {
            !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with('.') && !part.ends_with(".lock")
        })
        && !value.contains("..")
        && !value.starts_with("refs/")
        && value != "HEAD"
}

fn names(value: &str) -> Option<Vec<String>> {
    value.split(',').map(|name| is_name(name).then(|| name.to_ascii_lowercase())).collect()
}

/// `90s`, `30m`, `2h`; nothing shorter than a second or longer than a day.
pub fn duration(value: &str) -> Option<Duration> {
    let unit = value.chars().last()?;
    let number: u64 = value.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit.to_ascii_lowercase() {
        's' => number,
        'm' => number.checked_mul(60)?,
        'h' => number.checked_mul(3600)?,
        _ => return None,
    };
    (1..=86_400).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// `$3`, `3`, `2.50` as cents.
pub fn cents(value: &str) -> Option<u64> {
    let number = value.strip_prefix('$').unwrap_or(value);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let part = match part.len() {
        0 => 0,
        1 => part.parse::<u64>().ok()? * 10,
        2 => part.parse().ok()?,
        _ => return None,
    };
    let sum = whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(part)?;
    (1..=1_000_000).contains(&sum).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_branch_names_are_refused() {
        for bad in [
            "",
            "-x",
            "a..b",
            "a b",
            "a~b",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a.",
            "HEAD",
            "refs/heads/x",
            "@{u}",
            "$(id)",
            "`id`",
            "a;b",
            "a|b",
            "a\nb",
            "--upload-pack=x",
            "x/--y",
            "a&b",
            "a'b",
            "a\"b",
            "é",
        ] {
            assert!(!is_branch(bad), "{bad:?}");
        }
        for good in ["main", "release/1.2", "feature/a_b-c", "fix#12"] {
            assert!(is_branch(good), "{good}");
        }
    }

    #[test]
    fn times_and_sums_are_read_strictly() {
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Some(Duration::from_secs(7200)));
        for bad in ["", "90", "m", "0s", "-5m", "25h", "1.5h", "99999999999999999999h", "5é"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(cents("$3"), Some(300));
        assert_eq!(cents("2.5"), Some(250));
        for bad in ["", "$", "0", "-1", "1.234", "3€", "99999999999"] {
            assert_eq!(cents(bad), None, "{bad}");
        }
    }
}
