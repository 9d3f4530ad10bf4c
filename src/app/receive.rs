//! Store, then answer (design D1). What may start something is on disk before the answer; those
//! that arrive together share one commit. What nobody acts on costs no write before the answer:
//! its small row follows lazily.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};

use super::App;
use crate::adapters::github::decode;
use crate::adapters::store::{KeptDelivery, LedgerRow, StoreError, Stored};
use crate::domain::decision::DecisionCode;
use crate::domain::delivery::{Delivery, Notice, Sorted, sort};
use crate::domain::ids::Millis;

/// Deliveries that share one commit at most.
const BATCH: usize = 64;
/// Rows of the ledger that wait for their lazy write at most; more make deliveries wait.
const NOTES: usize = 10_000;
const NOTE_BATCH: usize = 256;
/// GitHub waits ten seconds for its answer, and the door five for this one.
const KEPT_WITHIN: Duration = Duration::from_secs(4);
const NOTE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Waiting {
    delivery: KeptDelivery,
    answer: oneshot::Sender<Result<Stored, Arc<StoreError>>>,
}

/// The way into the two writers.
#[derive(Debug)]
pub struct Receiver {
    keep: mpsc::Sender<Waiting>,
    note: mpsc::Sender<LedgerRow>,
    keep_out: Mutex<mpsc::Receiver<Waiting>>,
    note_out: Mutex<mpsc::Receiver<LedgerRow>>,
    /// Deliveries could not be stored last.
    is_failing: AtomicBool,
}

impl Default for Receiver {
    fn default() -> Self {
        let (keep, keep_out) = mpsc::channel(1024);
        let (note, note_out) = mpsc::channel(NOTES);
        Self {
            keep,
            note,
            keep_out: Mutex::new(keep_out),
            note_out: Mutex::new(note_out),
            is_failing: AtomicBool::new(false),
        }
    }
}

/// How a verified delivery was taken.
#[derive(Debug, Clone)]
pub enum Received {
    /// Answer 202. The code is what is known so far, for logs and counters.
    Taken(Option<DecisionCode>),
    NotJson,
    /// Nothing was stored: answer 503, so that GitHub shows the delivery as failed. `None`: the service is stopping.
    Unavailable(Option<Arc<StoreError>>),
}

impl App {
    /// Whether a delivery could be stored now. After a failure it is tried: a full disk can still be read.
    pub async fn can_store(&self) -> Result<(), StoreError> {
        self.store.ping().await?;
        if self.receiver.is_failing.load(Ordering::Relaxed) {
            self.store.try_to_write(self.clock.now()).await?;
            self.receiver.is_failing.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    pub async fn receive(&self, delivery: &Delivery) -> Received {
        let received = self.sort_and_keep(delivery).await;
        if let Received::Taken(Some(code)) = received {
            metrics::counter!("hireling_deliveries_total", "decision" => code.name()).increment(1);
        }
        received
    }

    async fn sort_and_keep(&self, delivery: &Delivery) -> Received {
        let Some(notice) = decode(&delivery.event, &delivery.body) else { return Received::NotJson };
        let now = self.clock.now();
        match sort(&notice, &self.identity_so_far()) {
            Sorted::Ignored(code) => {
                let row = ledger_row(delivery, &notice, now, Some(code));
                match self.receiver.note.send(row).await {
                    Ok(()) => Received::Taken(Some(code)),
                    Err(_) => Received::Unavailable(None),
                }
            }
            Sorted::Kept { meaning } => self.keep(delivery, &notice, meaning, now).await,
        }
    }

    async fn keep(&self, delivery: &Delivery, notice: &Notice, meaning: Option<String>, now: Millis) -> Received {
        let row = ledger_row(delivery, notice, now, None);
        let kept = KeptDelivery { row: row.clone(), meaning, packed_body: KeptDelivery::pack(&delivery.body) };
        let (answer, stored) = oneshot::channel();
        if self.receiver.keep.send(Waiting { delivery: kept, answer }).await.is_err() {
            return Received::Unavailable(None);
        }
        match stored.await {
            Ok(Ok(Stored::Fresh)) => {
                self.signals.deliveries.notify_one();
                Received::Taken(None)
            }
            Ok(Ok(Stored::SameId)) => Received::Taken(Some(DecisionCode::Duplicate)),
            Ok(Ok(Stored::SameMeaning)) => {
                let facts = "{\"why\":\"the same event under another delivery id\"}".to_owned();
                let row = LedgerRow { decision: Some(DecisionCode::Duplicate), facts, ..row };
                // The event itself is stored; only this note about its copy may be lost.
                let _ = self.receiver.note.send(row).await;
                Received::Taken(Some(DecisionCode::Duplicate))
            }
            Ok(Err(error)) => Received::Unavailable(Some(error)),
            Err(_) => Received::Unavailable(None),
        }
    }
}

fn ledger_row(delivery: &Delivery, notice: &Notice, now: Millis, decision: Option<DecisionCode>) -> LedgerRow {
    LedgerRow {
        id: delivery.id.clone(),
        event: delivery.event.clone(),
        action: notice.action.chars().take(64).collect(),
        installation: notice.installation.map(|id| id.0),
        repository_id: notice.thread.as_ref().map(|thread| thread.repository.0),
        repository: notice.thread.as_ref().map(|thread| thread.name.to_string()).unwrap_or_default(),
        issue: notice.thread.as_ref().map(|thread| thread.issue.0),
        object: notice
            .writing
            .as_ref()
            .zip(notice.thread.as_ref())
            .map(|(writing, thread)| writing.subject.number(thread)),
        sender: notice.sender.as_ref().map(|sender| sender.login.clone()).unwrap_or_default(),
        received_at: now,
        decision,
        facts: String::new(),
    }
}

/// Stores deliveries, as many at once as are waiting, until there are no more requests.
pub(super) async fn keep(app: Arc<App>) {
    let mut queue = app.receiver.keep_out.lock().await;
    loop {
        let first = tokio::select! {
            biased;
            waiting = queue.recv() => waiting,
            () = app.requests_over.cancelled() => None,
        };
        let Some(first) = first else { break };
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        let (deliveries, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.delivery, waiting.answer)).unzip();
        let kept = tokio::time::timeout(KEPT_WITHIN, app.store.keep_deliveries(&deliveries)).await;
        let kept = kept.unwrap_or(Err(StoreError::Silent));
        app.receiver.is_failing.store(kept.is_err(), Ordering::Relaxed);
        match kept {
            Ok(stored) => {
                for (answer, stored) in answers.into_iter().zip(stored) {
                    let _ = answer.send(Ok(stored));
                }
            }
            Err(error) => {
                // Each is logged where it is answered.
                let error = Arc::new(error);
                for answer in answers {
                    let _ = answer.send(Err(Arc::clone(&error)));
                }
            }
        }
    }
}

/// Writes the lazy rows of the ledger, after a moment or when many wait, until there are no more requests.
pub(super) async fn note(app: Arc<App>) {
    let mut queue = app.receiver.note_out.lock().await;
    loop {
        let first = tokio::select! {
            biased;
            row = queue.recv() => row,
            () = app.requests_over.cancelled() => None,
        };
        let Some(first) = first else { break };
        let mut batch = vec![first];
        let until = tokio::time::Instant::now() + NOTE_EVERY;
        while batch.len() < NOTE_BATCH {
            tokio::select! {
                biased;
                row = queue.recv() => match row {
                    Some(row) => batch.push(row),
                    None => break,
                },
                () = tokio::time::sleep_until(until) => break,
                () = app.requests_over.cancelled() => break,
            }
        }
        if let Err(error) = app.in_time(app.store.note_deliveries(&batch)).await {
            let rows = batch.len();
            tracing::warn!(error = &error as &dyn std::error::Error, rows, "rows of the ledger were lost");
        }
    }
}
