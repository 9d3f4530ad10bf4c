//! What the buttons of a task's page do. A retry becomes a delivery of its own, so that it is stored,
//! decided and told like a comment; only its sender is known from the session.

use serde::{Deserialize, Serialize};

use super::App;
use super::intake::cancelled_in_queue;
use crate::adapters::store::{Asked, KeptDelivery, LedgerRow, StoreError, Stored};
use crate::adapters::vault;
use crate::app::signals::Topic;
use crate::domain::ids::{DeliveryId, TaskId};
use crate::domain::person::Person;
use crate::domain::task::{Requester, Task};

/// GitHub sends no event of this name, and what comes from outside under it is not stored.
pub(super) const RETRY_EVENT: &str = "hireling.retry";

/// The body of such a delivery.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RetryAsked {
    pub task: TaskId,
    pub by: Requester,
}

impl App {
    /// Asks a task to stop. False: it is over.
    pub async fn cancel_task(&self, task: &Task, by: &Person) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let asked = Asked { by: &by.login, written_at: now, now };
        let stopped = self.stop_task(task, &asked, &cancelled_in_queue(task, &by.login)).await?;
        self.signals.announce(Topic::Sweep);
        Ok(stopped)
    }

    /// Asks for a finished task to be done again. `once`: of the page with the button; pressed twice, it is
    /// meant once. Gives the delivery that tells what became of it.
    pub async fn ask_for_retry(&self, task: &Task, by: &Person, once: &str) -> Result<DeliveryId, StoreError> {
        let requester = Requester { id: by.id, login: by.login.clone() };
        let asked = RetryAsked { task: task.id.clone(), by: requester };
        let body = serde_json::to_vec(&asked).unwrap_or_default();
        let once = vault::hash(once);
        let meaning = format!("{}:retry:{}:{}:{once}", task.thread.repository, task.id, by.id);
        let id = DeliveryId(format!("page-{}", vault::hash(&meaning)));
        let row = LedgerRow {
            id: id.clone(),
            event: RETRY_EVENT.to_owned(),
            action: String::new(),
            installation: Some(task.thread.installation.0),
            repository_id: Some(task.thread.repository.0),
            repository: task.thread.name.to_string(),
            issue: Some(task.thread.issue.0),
            object: None,
            sender: by.login.clone(),
            received_at: self.clock.now(),
            decision: None,
            facts: String::new(),
        };
        let kept = KeptDelivery { row, meaning: Some(meaning), packed_body: KeptDelivery::pack(&body) };
        let stored = self.store.keep_deliveries(&[kept]).await?;
        if stored.first() == Some(&Stored::Fresh) {
            self.signals.announce(Topic::Deliveries);
        }
        Ok(id)
    }
}
