//! People who sign in on the page, and what they sign in with.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::{InstallationId, Millis, UserId};
use super::preferences::Preferences;

/// A session that nobody uses ends after this.
pub const IDLE: Duration = Duration::from_secs(12 * 3600);
/// Every session ends after this.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignInWith {
    GitHub,
    Vercel,
}

impl SignInWith {
    pub fn name(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::Vercel => "vercel",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::GitHub => "GitHub",
            Self::Vercel => "Vercel",
        }
    }

    /// The path the provider sends browsers back to.
    pub fn callback(self) -> &'static str {
        match self {
            Self::GitHub => "/api/auth/github/callback",
            Self::Vercel => "/api/auth/callback/vercel",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::GitHub, Self::Vercel].into_iter().find(|one| one.name() == name)
    }
}

/// Who somebody is at a provider, as the provider said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub with: SignInWith,
    /// The provider's own id, which never changes: GitHub's number as text, Vercel's `sub`.
    pub subject: String,
    pub login: String,
    /// Only one that the provider says is verified.
    pub email: Option<String>,
}

/// An installation of the App that a person can see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenInstallation {
    pub id: InstallationId,
    pub account: String,
    pub is_organization: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub id: UserId,
    /// The login at GitHub, or at Vercel where GitHub is not linked.
    pub login: String,
    pub preferences: Preferences,
    pub installations: Vec<SeenInstallation>,
}

impl Person {
    /// Whether comments on GitHub can be theirs.
    pub fn is_on_github(&self) -> bool {
        self.id.0 > 0
    }
}

/// A place where a person is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Hash of what the cookie holds.
    pub id: String,
    /// What the browser calls itself, cut.
    pub client: String,
    pub created_at: Millis,
    pub used_at: Millis,
}

impl Session {
    pub fn is_over(&self, now: Millis) -> bool {
        now.since(self.used_at) > IDLE || now.since(self.created_at) > LONGEST
    }
}

/// What becomes of two people when one links what the other signs in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// The first is taken into the second.
    Into(UserId, UserId),
    /// Both sign in with the same kind of account: they stay two.
    Refused,
}

/// `here` is signed in, `there` owns the account that is being linked. Both with what they sign in with.
pub fn merge((here, mine): (UserId, &[SignInWith]), (there, theirs): (UserId, &[SignInWith])) -> Merge {
    if mine.iter().any(|with| theirs.contains(with)) {
        return Merge::Refused;
    }
    // The one on GitHub stays: tasks are asked for in that name.
    if mine.contains(&SignInWith::GitHub) { Merge::Into(there, here) } else { Merge::Into(here, there) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_it_is_idle_or_old() {
        let hours = |hours: i64| Millis(hours * 3_600_000);
        let session = |created, used| Session {
            id: String::new(),
            client: String::new(),
            created_at: hours(created),
            used_at: hours(used),
        };
        assert!(!session(0, 0).is_over(hours(12)));
        assert!(session(0, 0).is_over(hours(13)));
        assert!(!session(0, 160).is_over(hours(167)));
        assert!(session(0, 168).is_over(hours(169)));
    }

    #[test]
    fn the_person_on_github_stays() {
        use SignInWith::{GitHub, Vercel};
        let (one, two) = (UserId(7), UserId(-3));
        assert_eq!(merge((one, &[GitHub]), (two, &[Vercel])), Merge::Into(two, one));
        assert_eq!(merge((two, &[Vercel]), (one, &[GitHub])), Merge::Into(two, one));
        assert_eq!(merge((one, &[GitHub]), (UserId(8), &[GitHub, Vercel])), Merge::Refused);
        assert_eq!(merge((one, &[GitHub, Vercel]), (two, &[Vercel])), Merge::Refused);
    }
}
