//! Tidying up: sandboxes whose task is over (fault F11).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::App;

const EVERY: Duration = Duration::from_secs(600);

pub(super) async fn sweep_all(app: Arc<App>, stop: CancellationToken) {
    loop {
        app.sweep_sandboxes().await;
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

impl App {
    pub(crate) async fn sweep_sandboxes(&self) {
        // Listed first: a sandbox made in between is not on this list.
        let Ok(found) = self.sandbox.list().await else { return };
        let Ok(in_use) = self.store.sandboxes_in_use().await else { return };
        let in_use: HashSet<String> = in_use.into_iter().map(|id| id.0).collect();
        for left in found.into_iter().filter(|id| !in_use.contains(&id.0)) {
            match self.sandbox.stop(&left).await {
                Ok(()) => tracing::info!(sandbox = %left.0, "a sandbox that was left behind is gone"),
                Err(error) => tracing::warn!(sandbox = %left.0, error = %error, "a sandbox that was left behind stays"),
            }
        }
    }
}
