//! One newtype per identity, so that an issue number cannot be passed as a comment id.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<String> for $name {
            fn from(value: String) -> Self {
                Self(value)
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

text_id!(
    /// The GUID of `X-GitHub-Delivery`; a redelivery carries the same one.
    DeliveryId
);
text_id!(
    /// 32 hex digits of a version 7 UUID: sorts by age, its random part is not guessable.
    TaskId
);
text_id!(
    /// Identity of one attempt at a task; also the name of its sandbox.
    RunId
);
number_id!(InstallationId);
number_id!(
    /// GitHub's number of a repository; survives renames, which names do not.
    RepositoryId
);
number_id!(UserId);
number_id!(
    /// The number after `#`; issues and pull requests of a repository share it.
    IssueNumber
);
number_id!(CommentId);

impl TaskId {
    /// The random end of the id: short enough for a branch name.
    pub fn short(&self) -> &str {
        short_end(&self.0)
    }
}

impl RunId {
    /// The random end of the id.
    pub fn short(&self) -> &str {
        short_end(&self.0)
    }
}

fn short_end(id: &str) -> &str {
    id.get(id.len().saturating_sub(7)..).unwrap_or(id)
}

/// `owner/name`, for display and for routes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RepoName {
    pub owner: String,
    pub name: String,
}

impl RepoName {
    /// Splits `owner/name`; anything that GitHub would not allow there is refused.
    pub fn parse(full: &str) -> Option<Self> {
        let (owner, name) = full.split_once('/')?;
        let legal = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part.len() <= 100
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        (legal(owner) && legal(name)).then(|| Self { owner: owner.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// A moment, as milliseconds since 1970 in UTC: what the database stores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl Millis {
    pub fn after(self, wait: std::time::Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    pub fn before(self, wait: std::time::Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long from `earlier` to this; zero when it is not later.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Days since 1970 in UTC, for limits per day.
    pub fn day(self) -> i64 {
        self.0.div_euclid(86_400_000)
    }

    /// Months since the year 0 in UTC, for limits per month.
    pub fn month(self) -> i64 {
        use chrono::Datelike as _;
        let date = chrono::DateTime::from_timestamp_millis(self.0).unwrap_or_default();
        i64::from(date.year()) * 12 + i64::from(date.month0())
    }

    /// The first moment of its month in UTC.
    pub fn start_of_month(self) -> Self {
        use chrono::Datelike as _;
        let date = chrono::DateTime::from_timestamp_millis(self.0).unwrap_or_default();
        let day = i64::from(date.day0());
        Self((self.day() - day) * 86_400_000)
    }

    /// GitHub's form, `2026-11-22T10:00:00Z`.
    pub fn rfc3339(self) -> String {
        chrono::DateTime::from_timestamp_millis(self.0)
            .unwrap_or_default()
            .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    }

    /// For people: `2026-11-22 10:00 UTC`.
    pub fn for_people(self) -> String {
        chrono::DateTime::from_timestamp_millis(self.0).unwrap_or_default().format("%Y-%m-%d %H:%M UTC").to_string()
    }

    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        chrono::DateTime::parse_from_rfc3339(text).ok().map(|at| Self(at.timestamp_millis()))
    }

    /// As in the header `Date`: whole seconds.
    pub fn parse_http_date(text: &str) -> Option<Self> {
        chrono::DateTime::parse_from_rfc2822(text).ok().map(|at| Self(at.timestamp_millis()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_name_is_refused_where_it_could_change_a_route() {
        for bad in ["acme", "acme/", "/shop", "acme/..", "acme/a b", "acme/a/b", "acme/a?b", "../shop"] {
            assert!(RepoName::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(RepoName::parse("acme/next.js").unwrap().to_string(), "acme/next.js");
    }

    #[test]
    fn times_read_and_write_as_github_does() {
        let at = Millis::parse_rfc3339("2026-11-22T10:00:00Z").unwrap();
        assert_eq!(Millis::parse_http_date("Sun, 22 Nov 2026 10:00:00 GMT"), Some(at));
        assert_eq!(at.rfc3339(), "2026-11-22T10:00:00Z");
        assert_eq!(at.for_people(), "2026-11-22 10:00 UTC");
        assert_eq!(at.day(), 20_779);
        assert_eq!(at.start_of_month().rfc3339(), "2026-11-01T00:00:00Z");
    }
}
