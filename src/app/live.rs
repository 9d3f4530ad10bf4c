//! Live logs. However many look at a task, it is read once: one follower per task reads what is new and
//! hands it to all of them, ready for the wire.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::domain::ids::TaskId;
use crate::domain::log_entry::LogEntry;

/// Pieces that a slow reader may be behind before it reads from the database again.
const BEHIND: usize = 64;
const LINES: usize = 500;
/// The database is looked at this often: another process may have written.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// New lines of one task.
#[derive(Debug, Clone)]
pub struct Piece {
    pub first: i64,
    pub last: i64,
    /// As server-sent events.
    pub wire: Bytes,
}

/// What readers are told.
#[derive(Debug, Clone)]
pub enum News {
    Lines(Piece),
    /// The task is over, and all its lines were told.
    End,
}

#[derive(Debug, Default)]
pub struct Followers {
    by_task: Mutex<HashMap<TaskId, broadcast::Sender<News>>>,
}

/// Lines as server-sent events: the id is the line's place in the log.
pub fn wire(entries: &[LogEntry]) -> Bytes {
    let mut text = String::new();
    for entry in entries {
        let data = serde_json::json!({ "kind": entry.kind.name(), "text": entry.text });
        // JSON holds no line end.
        let _ = write!(text, "id: {}\ndata: {data}\n\n", entry.seq);
    }
    text.into()
}

impl App {
    /// What is new in the log of a task. `after`: how long it is now. `stop`: the service ends.
    pub fn follow(self: &Arc<Self>, task: &TaskId, after: i64, stop: &CancellationToken) -> broadcast::Receiver<News> {
        let mut by_task = self.followers.by_task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(news) = by_task.get(task) {
            return news.subscribe();
        }
        let (sender, news) = broadcast::channel(BEHIND);
        by_task.insert(task.clone(), sender.clone());
        let (app, task, stop) = (Arc::clone(self), task.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = app.read_on(&task, after, &sender) => {}
                () = stop.cancelled() => {}
            }
            let mut by_task = app.followers.by_task.lock().unwrap_or_else(PoisonError::into_inner);
            if by_task.get(&task).is_some_and(|known| known.same_channel(&sender)) {
                by_task.remove(&task);
            }
        });
        news
    }

    async fn read_on(&self, task: &TaskId, mut after: i64, readers: &broadcast::Sender<News>) {
        let mut news = self.signals.log.subscribe();
        loop {
            // Asked before the log is read: what a task wrote before its end is seen.
            let found = self.store.task(task).await;
            // A database that does not answer is no end.
            let is_over = found.is_ok_and(|task| task.is_none_or(|task| task.state.is_finished()));
            let entries = self.store.log_after(task, after, LINES).await.unwrap_or_default();
            if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
                after = last.seq;
                let piece = Piece { first: first.seq, last: last.seq, wire: wire(&entries) };
                let _ = readers.send(News::Lines(piece));
                if self.stop_following(task, readers) {
                    return;
                }
                continue;
            }
            if is_over {
                let _ = readers.send(News::End);
                return;
            }
            if self.stop_following(task, readers) {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = async { while news.recv().await.is_ok_and(|found| found.task != *task) {} } => {}
            }
        }
    }

    /// Under the lock that readers come by: nobody joins one that has just stopped.
    fn stop_following(&self, task: &TaskId, readers: &broadcast::Sender<News>) -> bool {
        let mut by_task = self.followers.by_task.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.receiver_count() > 0 {
            return false;
        }
        by_task.remove(task);
        true
    }
}
