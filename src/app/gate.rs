//! What stands before each write to GitHub and into a sandbox: who has lost the right to a task or an effect writes nothing
//! any more, and who stops begins nothing at GitHub that is not over in a moment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::adapters::store::StoreError;

/// What is under way at a stop has so long to end. GitHub may go on with a call whose caller went away, and whoever looks
/// meanwhile does not see what comes of it.
pub(super) const TO_END: Duration = Duration::from_secs(3);

/// Of one run, or of one effect. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate {
    /// By this process's own steady clock.
    valid_until: Arc<Mutex<Instant>>,
    closed: CancellationToken,
    inside: TaskTracker,
}

impl Gate {
    /// Nobody else acts before this moment.
    pub(super) fn until(valid_until: Instant) -> Self {
        let valid_until = Arc::new(Mutex::new(valid_until));
        Self { valid_until, closed: CancellationToken::new(), inside: TaskTracker::new() }
    }

    pub(super) fn hold_until(&self, valid_until: Instant) {
        *self.valid_until.lock().unwrap_or_else(PoisonError::into_inner) = valid_until;
    }

    /// Whether nobody else acts yet; a closed gate says nothing about that. Asked right before a call of a sandbox, which
    /// another worker may use by now (fault F46).
    pub(super) fn is_held(&self) -> bool {
        Instant::now() < *self.valid_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asked right before a write: the gate may have been closed, and the process frozen, since it went through (fault F46).
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.is_held() && !self.closed.is_cancelled() { Ok(()) } else { Err(StoreError::LeaseLost) }
    }

    /// Goes through, for as long as the answer is kept; for ever outside where the gate is closed: whoever closed it breaks
    /// off what waits there.
    pub(super) async fn enter(&self) -> Result<TaskTrackerToken, StoreError> {
        let entered = self.inside.token();
        if self.closed.is_cancelled() {
            drop(entered);
            return std::future::pending().await;
        }
        self.check()?;
        Ok(entered)
    }

    /// Lets nobody in any more, and waits a moment for who is inside. False: somebody is inside still.
    pub(super) async fn close(&self) -> bool {
        self.closed.cancel();
        self.inside.close();
        tokio::time::timeout(TO_END, self.inside.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_inside_ends_and_nobody_else_begins() {
        let gate = Gate::until(Instant::now() + Duration::from_secs(60));
        let inside = gate.enter().await.unwrap();
        let mut closing = std::pin::pin!(gate.close());
        assert!(futures::poll!(&mut closing).is_pending(), "somebody is inside");
        assert!(futures::poll!(std::pin::pin!(gate.enter())).is_pending(), "it is closed");
        assert!(gate.check().is_err(), "nor does who is inside begin anything more");
        drop(inside);
        assert!(tokio::time::timeout(TO_END / 2, closing).await.unwrap());
    }

    #[tokio::test]
    async fn who_closes_it_has_the_right_still() {
        let gate = Gate::until(Instant::now() + Duration::from_secs(60));
        gate.close().await;
        assert!(gate.is_held() && gate.check().is_err());
        gate.hold_until(Instant::now());
        assert!(!gate.is_held());
    }

    #[tokio::test]
    async fn a_right_that_is_over_lets_nothing_through() {
        let gate = Gate::until(Instant::now());
        assert!(matches!(gate.check(), Err(StoreError::LeaseLost)));
        assert!(gate.enter().await.is_err());
        gate.hold_until(Instant::now() + Duration::from_secs(60));
        assert!(gate.enter().await.is_ok());
    }
}
