//! Whether the sender may, and what is said to who may not.

use std::time::Duration;

use super::{Case, Hindrance, place};
use crate::adapters::github::GitHubError;
use crate::adapters::store::PendingDelivery;
use crate::app::App;
use crate::domain::decision::DecisionCode;
use crate::domain::effect::{Effect, Reaction};
use crate::domain::ids::Millis;
use crate::domain::permission::Permission;
use crate::domain::reply;
use crate::domain::task::Thread;

/// Replies on one thread in an hour at most: two bots that answer each other end here (threat T12).
const MAX_REPLIES_PER_HOUR: i64 = 20;

/// How often GitHub is asked for a permission that it refuses to tell (fault F25).
const TRIES_OF_PERMISSION: i64 = 3;
/// … and for this long after the delivery at least.
const SETTLING: Duration = Duration::from_secs(15);

/// Whether GitHub had its time to know what it knows.
pub(super) fn is_settled(pending: &PendingDelivery, now: Millis) -> bool {
    pending.attempts >= TRIES_OF_PERMISSION && now.since(pending.received_at) > SETTLING
}

impl App {
    /// Records that the sender may not, and tells people who may read, where they asked.
    pub(super) async fn turn_away(
        &self,
        case: &Case<'_>,
        permission: Permission,
        is_told: bool,
    ) -> Result<(), Hindrance> {
        let effects = if is_told { self.refuse_sender(case, permission).await? } else { Vec::new() };
        let facts = serde_json::json!({ "permission": permission.name(), "needed": case.holding.policy.who().name() });
        self.record(case.pending, DecisionCode::NoPermission, facts, &effects).await
    }

    pub(super) async fn permission_of(&self, case: &Case<'_>) -> Result<Permission, Hindrance> {
        let asked = self.github.permission(&place(case.thread), &case.sender.login).await;
        self.settled_permission(case, asked)
    }

    pub(super) fn settled_permission(
        &self,
        case: &Case<'_>,
        asked: Result<Permission, GitHubError>,
    ) -> Result<Permission, Hindrance> {
        match asked {
            // GitHub keeps saying no to the question itself: then nobody is let in.
            Err(error) if !error.is_passing() && is_settled(case.pending, case.now) => Ok(Permission::None),
            answer => Ok(answer?),
        }
    }

    /// People who may read the repository are told why nothing happens.
    pub(super) async fn refuse_sender(
        &self,
        case: &Case<'_>,
        permission: Permission,
    ) -> Result<Vec<Effect>, Hindrance> {
        if permission < Permission::Read {
            return Ok(Vec::new());
        }
        let mut effects = vec![case.react(Reaction::Confused)];
        effects.push(self.reply(
            case,
            "permission",
            reply::no_permission(&case.sender.login, case.holding.policy.who()),
        ));
        self.without_flood(case.thread, effects, case.now).await
    }

    /// Drops replies where too many were given within the hour.
    pub(super) async fn without_flood(
        &self,
        thread: &Thread,
        effects: Vec<Effect>,
        now: Millis,
    ) -> Result<Vec<Effect>, Hindrance> {
        let hour_ago = Millis(now.0 - 3_600_000);
        let mut room =
            MAX_REPLIES_PER_HOUR - self.store.replies_since(thread.repository, thread.issue, hour_ago).await?;
        let mut kept = Vec::new();
        for effect in effects {
            if matches!(effect, Effect::Reply { .. }) {
                room -= 1;
                if room < 0 {
                    tracing::warn!(repo = %thread.name, issue = %thread.issue, "too many replies on one thread; one was left out");
                    continue;
                }
            }
            kept.push(effect);
        }
        Ok(kept)
    }
}
