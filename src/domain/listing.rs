//! What people page through, and how they ask for it.

use super::decision::DecisionCode;
use super::ids::{DeliveryId, InstallationId, Millis, UserId};
use super::money::Usd;

/// Which tasks are wanted; empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    pub state: Option<&'static str>,
    pub agent: Option<String>,
    /// `owner/name`
    pub repository: Option<String>,
    /// A login.
    pub requester: Option<String>,
    /// Words of the request.
    pub words: Option<String>,
}

impl TaskFilter {
    /// Whether rows have to be looked at to tell: an index serves one wish at a time.
    pub fn needs_search(&self) -> bool {
        let wishes = [self.state.is_some(), self.agent.is_some(), self.repository.is_some(), self.requester.is_some()];
        self.words.is_some() || wishes.into_iter().filter(|is_given| *is_given).count() > 1
    }
}

/// Which deliveries are wanted; empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    pub code: Option<&'static str>,
    /// `owner/name`
    pub repository: Option<String>,
    pub issue: Option<i64>,
    /// A comment or review.
    pub object: Option<i64>,
}

/// A page, and where the next one begins.
#[derive(Debug, Clone)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<i64>,
}

/// What a person's tasks came to since a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub tasks: i64,
    pub tokens_in: i64,
    pub tokens_out: i64,
    pub sum: Usd,
    /// Calls whose price is not known are not in the sum.
    pub unpriced: i64,
}

/// What was done, for the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deed<'a> {
    /// `None`: the service itself.
    pub by: Option<UserId>,
    /// Whose key or connector it was, if an account's.
    pub account: Option<InstallationId>,
    pub action: &'static str,
    /// Holds no secret.
    pub about: &'a str,
}

/// Which lines of the audit log are read: what tasks used of keys would push everything else out of sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deeds {
    Changes,
    Uses,
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    pub at: Millis,
    /// Of an account's lines: the login of who is still known.
    pub by: Option<String>,
    pub action: String,
    pub about: String,
}

/// A delivery that GitHub could not bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissedLine {
    pub id: DeliveryId,
    pub event: String,
    /// Of the answer, as GitHub noted it.
    pub status: i64,
    pub sent_at: Millis,
    /// How often it was asked for.
    pub asks: i64,
    /// When it is asked for next.
    pub ask_at: Option<Millis>,
    pub arrived_at: Option<Millis>,
}

impl MissedLine {
    /// What became of it, for people.
    pub fn outcome(&self) -> String {
        match (self.arrived_at, self.ask_at) {
            (Some(at), _) => format!("came at {}", at.for_people()),
            (None, Some(at)) => format!("asked for {} times, next at {}", self.asks, at.for_people()),
            (None, None) => format!("given up after {} times", self.asks),
        }
    }
}

/// One delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryLine {
    pub seq: i64,
    pub id: DeliveryId,
    pub event: String,
    pub action: String,
    pub repository: String,
    pub issue: Option<i64>,
    pub sender: String,
    pub received_at: Millis,
    pub decided_at: Option<Millis>,
    pub code: Option<DecisionCode>,
    pub facts: String,
    pub attempts: i64,
    /// It can be decided again.
    pub has_body: bool,
}

impl DeliveryLine {
    /// The decision, for people.
    pub fn decided(&self) -> &'static str {
        self.code.map_or("not decided yet", DecisionCode::name)
    }
}

impl InstallationLine {
    /// The App is installed, and not suspended.
    pub fn is_active(&self) -> bool {
        self.deleted_at.is_none() && self.suspended_at.is_none()
    }
}

/// One account that has the App, or had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallationLine {
    pub id: InstallationId,
    pub account: String,
    pub suspended_at: Option<Millis>,
    pub deleted_at: Option<Millis>,
    pub updated_at: Millis,
}
