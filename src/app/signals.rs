//! Wake-ups within the process, so that nothing waits for a poll. A lost one costs a moment, not a
//! task: every loop also looks by itself now and then.

use std::sync::Arc;

use tokio::sync::{Notify, broadcast};

use crate::domain::ids::TaskId;
use crate::domain::log_entry::LogEntry;

/// New lines of a task's log.
#[derive(Debug, Clone)]
pub struct LogNews {
    pub task: TaskId,
    pub entries: Arc<[LogEntry]>,
}

#[derive(Debug)]
pub struct Signals {
    pub deliveries: Notify,
    pub tasks: Notify,
    pub outbox: Notify,
    /// The snapshot is gone.
    pub snapshot: Notify,
    /// A sandbox may be left behind.
    pub sweep: Notify,
    /// Somebody asked to stop something: every run looks whether it is meant.
    pub cancels: broadcast::Sender<()>,
    pub log: broadcast::Sender<LogNews>,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            deliveries: Notify::new(),
            tasks: Notify::new(),
            outbox: Notify::new(),
            snapshot: Notify::new(),
            sweep: Notify::new(),
            cancels: broadcast::Sender::new(16),
            log: broadcast::Sender::new(256),
        }
    }
}
