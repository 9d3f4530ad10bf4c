//! Figures that are read when somebody asks for them.

use std::time::Duration;

use super::App;
use crate::adapters::store::StoreError;

const READ_WITHIN: Duration = Duration::from_secs(3);

impl App {
    /// Reads what the database knows of now. Where it does not answer, the figures say that and not what was before.
    pub async fn gather_figures(&self) -> Result<(), StoreError> {
        // Prometheus waits ten seconds, and has to be told that the database does not answer.
        let read = tokio::time::timeout(READ_WITHIN, self.read_figures()).await.unwrap_or(Err(StoreError::Silent));
        metrics::gauge!("hireling_database_up").set(if read.is_ok() { 1.0 } else { 0.0 });
        if read.is_err() {
            for name in ["hireling_tasks_queued", "hireling_queue_age_seconds", "hireling_github_writes_hour"] {
                metrics::gauge!(name).set(f64::NAN);
            }
        }
        read
    }

    async fn read_figures(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let connections = self.store.connections();
        metrics::gauge!("hireling_database_connections", "state" => "open").set(f64::from(connections.open));
        metrics::gauge!("hireling_database_connections", "state" => "idle").set(f64::from(connections.idle));
        metrics::gauge!("hireling_tasks_queued").set(self.store.queued().await? as f64);
        let oldest = self.store.oldest_queued(now).await?;
        metrics::gauge!("hireling_queue_age_seconds").set(oldest.map_or(0.0, |at| now.since(at).as_secs_f64()));
        metrics::gauge!("hireling_github_writes_hour").set(self.store.most_writes_of_the_hour(now).await? as f64);
        Ok(())
    }
}
