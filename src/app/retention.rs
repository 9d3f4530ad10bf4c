//! Forgetting what was kept long enough, and what belongs to accounts that took the App away (threat T36).

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::App;
use crate::adapters::store::{Old, StoreError};

const EVERY: Duration = Duration::from_secs(6 * 3600);
const AFTER_TROUBLE: Duration = Duration::from_secs(300);
/// Small rows that nobody needs but to count.
const TRACES: Duration = Duration::from_secs(62 * 24 * 3600);

/// Forgets at the start and every few hours, until told to stop.
pub(super) async fn forget_all(app: Arc<App>, stop: CancellationToken) {
    loop {
        let done = tokio::select! {
            done = app.forget() => done,
            () = stop.cancelled() => return,
        };
        let next = match done {
            Ok(()) => EVERY,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "what is old was not forgotten");
                AFTER_TROUBLE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = stop.cancelled() => return,
        }
    }
}

impl App {
    async fn forget(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let keep = self.settings.retention;
        for (what, time) in [(Old::Payloads, keep.payloads), (Old::Deliveries, keep.deliveries), (Old::Logs, keep.logs)]
        {
            let Some(time) = time else { continue };
            let (mut after, mut rows) = (0, 0);
            while let Some((last, forgotten)) = self.store.forget_old(what, after, now.before(time)).await? {
                (after, rows) = (last, rows + forgotten);
            }
            if rows > 0 {
                metrics::counter!("hireling_rows_forgotten_total", "what" => what.name()).increment(rows);
                tracing::info!(what = what.name(), rows, "old rows were forgotten");
            }
        }
        self.store.forget_traces(now.before(TRACES)).await?;
        self.look_after_accounts().await?;
        let Some(time) = keep.after_uninstall else { return Ok(()) };
        for (id, account) in self.store.gone_since_before(now.before(time)).await? {
            match self.has_left(id, &account).await {
                Ok(false) => {}
                Ok(true) => {
                    self.store.erase_installation(id).await?;
                    tracing::info!(installation = id.0, "what an account left was erased");
                }
                Err(error) => {
                    tracing::warn!(
                        installation = id.0,
                        error = &error as &dyn std::error::Error,
                        "an account is not erased yet"
                    );
                }
            }
        }
        Ok(())
    }
}
