//! Log lines of all runs go into the database together: one commit for those that come within a
//! moment, whichever task they belong to.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::adapters::store::{Append, StoreError};

/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_millis(25);
/// The same when many runs write: fewer, larger rows cost less, and nobody reads a thousand logs live.
const GATHER_OF_MANY: Duration = Duration::from_millis(250);
const MANY: usize = 100;
/// So many lines are worth a commit of their own.
const LARGE: i64 = 500;
/// Runs that share one commit at most.
const BATCH: usize = 1024;

#[derive(Debug)]
struct Waiting {
    append: Append,
    since: Instant,
    answer: oneshot::Sender<Appended>,
}

/// What became of an append.
#[derive(Debug)]
pub enum Appended {
    /// The number of its first line.
    At(i64),
    LeaseLost,
    /// The database could not be used; nothing was stored.
    Failed,
}

#[derive(Debug)]
pub struct LogWriter {
    into: mpsc::Sender<Waiting>,
    out: Mutex<mpsc::Receiver<Waiting>>,
}

impl Default for LogWriter {
    fn default() -> Self {
        let (into, out) = mpsc::channel(BATCH);
        Self { into, out: Mutex::new(out) }
    }
}

impl LogWriter {
    /// Gives when the lines are stored, or known not to be. `since`: when they were read.
    pub async fn append(&self, append: Append, since: Instant) -> Appended {
        let (answer, stored) = oneshot::channel();
        if self.into.send(Waiting { append, since, answer }).await.is_err() {
            return Appended::Failed;
        }
        stored.await.unwrap_or(Appended::Failed)
    }
}

/// Writes until told to stop; what still waits then was not stored, and is read again later.
pub(super) async fn write_all(app: Arc<App>, stop: CancellationToken) {
    let mut out = app.log_writer.out.lock().await;
    let mut last_batch = 0;
    loop {
        let first = tokio::select! {
            first = out.recv() => first,
            () = stop.cancelled() => return,
        };
        let Some(first) = first else { return };
        let mut waiting = vec![first];
        if waiting[0].append.lines() < LARGE {
            tokio::time::sleep(if last_batch < MANY { GATHER } else { GATHER_OF_MANY }).await;
        }
        while waiting.len() < BATCH
            && let Ok(more) = out.try_recv()
        {
            waiting.push(more);
        }
        last_batch = waiting.len();
        let oldest = waiting.iter().map(|one| one.since).min().unwrap_or_else(Instant::now);
        let (batch, answers): (Vec<Append>, Vec<_>) = waiting.into_iter().map(|one| (one.append, one.answer)).unzip();
        let stored: Result<Vec<Option<i64>>, StoreError> = app.in_time(app.store.append(&batch)).await;
        match &stored {
            Ok(_) => metrics::histogram!("hireling_log_lag_seconds").record(oldest.elapsed().as_secs_f64()),
            Err(error) => {
                tracing::warn!(error = error as &dyn std::error::Error, "log lines could not be stored; trying again");
            }
        }
        let mut firsts = stored.ok().map(Vec::into_iter);
        for answer in answers {
            let became = match firsts.as_mut().map(Iterator::next) {
                Some(Some(Some(first))) => Appended::At(first),
                Some(_) => Appended::LeaseLost,
                None => Appended::Failed,
            };
            // Nobody waits for it when its run was stopped meanwhile.
            let _ = answer.send(became);
        }
    }
}
