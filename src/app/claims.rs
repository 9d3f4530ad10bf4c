//! Rows that a loop has claimed, and the work on them. What a stop breaks off is given back, so that another process
//! need not wait until the claim is over.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{Id, JoinSet};

use crate::domain::ids::Millis;

/// Work is broken off so long before others may take its rows: GitHub may be doing it still.
const MARGIN: Duration = Duration::from_secs(15);

/// A claimed row: its number, and until when nobody else takes it.
pub(super) type Claim = (i64, Millis);

#[derive(Debug, Default)]
pub(super) struct Claims {
    under_way: JoinSet<()>,
    rows: HashMap<Id, Vec<Claim>>,
}

impl Claims {
    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// `claim`: how long nobody else takes the rows.
    pub(super) fn begin(&mut self, rows: Vec<Claim>, claim: Duration, work: impl Future<Output = ()> + Send + 'static) {
        let work = tokio::time::timeout(claim.saturating_sub(MARGIN), work);
        let bounded = async {
            if work.await.is_err() {
                tracing::warn!("what was claimed took too long, and is taken up again");
            }
        };
        let id = self.under_way.spawn(bounded).id();
        self.rows.insert(id, rows);
    }

    /// Waits until work on some rows is over. `None`: there is none.
    pub(super) async fn next_end(&mut self) -> Option<()> {
        let ended = self.under_way.join_next_with_id().await?;
        self.rows.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
        Some(())
    }

    /// Forgets what is over, without waiting.
    pub(super) fn forget_ended(&mut self) {
        while let Some(ended) = self.under_way.try_join_next_with_id() {
            self.rows.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
        }
    }

    /// Breaks off what is not over after a moment. Gives what may be claimed still.
    pub(super) async fn break_off(mut self, moment: Duration) -> Vec<Claim> {
        let _ = tokio::time::timeout(moment, async { while self.next_end().await.is_some() {} }).await;
        self.under_way.shutdown().await;
        self.rows.into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_ends_before_its_claim_does() {
        let mut claims = Claims::default();
        claims.begin(vec![(7, Millis(1))], MARGIN + Duration::from_millis(10), std::future::pending());
        assert_eq!(claims.next_end().await, Some(()));
        assert_eq!(claims.break_off(Duration::ZERO).await, []);
    }

    #[tokio::test]
    async fn what_is_broken_off_is_told() {
        let mut claims = Claims::default();
        claims.begin(vec![(7, Millis(1)), (8, Millis(1))], 2 * MARGIN, std::future::pending());
        claims.begin(vec![(9, Millis(1))], 2 * MARGIN, async {});
        let left = claims.break_off(Duration::from_millis(10)).await;
        assert_eq!(left, [(7, Millis(1)), (8, Millis(1))]);
    }
}
