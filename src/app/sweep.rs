//! Tidying up: sandboxes whose task is over (faults F11, F38).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use tokio_util::sync::CancellationToken;

use super::App;
use super::signals::Topic;
use crate::adapters::store::Standing;
use crate::domain::run::SandboxId;

const EVERY: Duration = Duration::from_secs(60);
/// Sessions that are over open nothing; their rows may wait.
const SESSIONS_EVERY: Duration = Duration::from_secs(3600);
/// After a sandbox could not be stopped.
const AGAIN: Duration = Duration::from_secs(15);
/// Times that stopping one may fail before somebody has to look: it costs money as long as it runs.
const TRIES: u32 = 3;
const AT_ONCE: usize = 8;

pub(super) async fn sweep_all(app: Arc<App>, stop: CancellationToken) {
    let mut failed: HashMap<String, u32> = HashMap::new();
    let mut sessions_at = None;
    loop {
        tokio::select! {
            () = app.sweep_sandboxes(&mut failed) => {}
            () = stop.cancelled() => return,
        }
        let now = app.clock.now();
        if sessions_at.is_none_or(|at| now.since(at) >= SESSIONS_EVERY) {
            sessions_at = Some(now);
            if let Err(error) = app.store.sweep_sessions(now).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "sessions that are over were not removed");
            }
        }
        let wait = if failed.is_empty() { EVERY } else { AGAIN };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = app.signals.sweep.notified() => {}
            () = stop.cancelled() => return,
        }
    }
}

impl App {
    /// Ends what may be ended. `failed`: how often that failed, by name; those that are gone leave it.
    async fn sweep_sandboxes(&self, failed: &mut HashMap<String, u32>) {
        let found = match self.sandbox.list().await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(error = %error, "sandboxes cannot be listed");
                return;
            }
        };
        failed.retain(|name, _| found.iter().any(|id| id.name == *name));
        let mut over = Vec::new();
        for id in found {
            if self.may_end(&id).await {
                over.push(id);
            }
        }
        // Several at once: one that hangs must not hold up the others.
        let stops = over.into_iter().map(|id| {
            let sandbox = Arc::clone(&self.sandbox);
            async move { (sandbox.stop(&id).await, id) }.boxed()
        });
        let mut ended = futures::stream::iter(stops).buffer_unordered(AT_ONCE);
        while let Some((result, id)) = ended.next().await {
            let Err(error) = result else {
                failed.remove(&id.name);
                tracing::info!(sandbox = %id.name, "a sandbox that was left behind is gone");
                continue;
            };
            let times = failed.entry(id.name.clone()).or_default();
            *times += 1;
            let error = self.redactor.redact(&error.to_string());
            if *times == TRIES {
                tracing::error!(sandbox = %id.name, error = %error, "a sandbox cannot be stopped; it costs money until its time is over");
            } else {
                tracing::warn!(sandbox = %id.name, error = %error, "a sandbox that was left behind stays");
            }
        }
    }

    /// Ends every sandbox that a run of this database made.
    pub async fn end_all_sandboxes(&self) {
        for id in self.sandbox.list().await.unwrap_or_default() {
            let is_ours = match self.store.standing(&id.name, self.clock.now()).await {
                Ok(Standing::InUse | Standing::Over) => true,
                Ok(Standing::Unknown) | Err(_) => !self.sandbox.is_shared(),
            };
            if is_ours && let Err(error) = self.sandbox.stop(&id).await {
                tracing::warn!(sandbox = %id.name, error = %error, "a sandbox stays behind");
            }
        }
    }

    /// One we know nothing of may belong to another instance, where several share an account.
    async fn may_end(&self, id: &SandboxId) -> bool {
        match self.store.standing(&id.name, self.clock.now()).await {
            Ok(Standing::Over) => true,
            Ok(Standing::Unknown) => !self.sandbox.is_shared(),
            Ok(Standing::InUse) | Err(_) => false,
        }
    }

    /// Ends a sandbox whose run is over. What fails is tried again by the sweeper.
    pub(crate) async fn end_sandbox(&self, id: &SandboxId) {
        if let Err(error) = self.sandbox.stop(id).await {
            tracing::warn!(sandbox = %id.name, error = %error, "a sandbox was not stopped");
            self.signals.announce(Topic::Sweep);
        }
    }
}
