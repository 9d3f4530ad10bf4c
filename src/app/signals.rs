//! Wake-ups, so that nothing waits for a poll. A lost one costs a moment, not a task: every loop also looks by itself
//! now and then.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{Mutex, Notify, broadcast, mpsc};

use crate::domain::ids::TaskId;
use crate::domain::log_entry::LogEntry;

/// Topics that wait to be told to other processes at most; more are dropped.
const WAITING: usize = 1024;
/// New lines of a task's log; none: other processes have some.
#[derive(Debug, Clone)]
pub struct LogNews {
    pub task: TaskId,
    pub entries: Arc<[LogEntry]>,
}

/// What there is to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Something to decide.
    Deliveries,
    /// Something to run.
    Tasks,
    /// Something to tell.
    Outbox,
    /// Somebody asked to stop something: every run looks whether it is meant.
    Cancels,
    /// A sandbox may be left behind.
    Sweep,
    Log(TaskId),
}

impl Topic {
    /// All but those of single tasks.
    pub(super) const ALL: [Self; 5] = [Self::Deliveries, Self::Tasks, Self::Outbox, Self::Cancels, Self::Sweep];
}

#[derive(Debug)]
pub struct Signals {
    pub deliveries: Notify,
    pub tasks: Notify,
    pub outbox: Notify,
    /// The snapshot is gone.
    pub snapshot: Notify,
    pub sweep: Notify,
    pub cancels: broadcast::Sender<()>,
    pub log: broadcast::Sender<LogNews>,
    /// To other processes.
    tell: mpsc::Sender<Topic>,
    pub(super) tell_out: Mutex<mpsc::Receiver<Topic>>,
    /// What other processes tell is heard.
    pub(super) hears: AtomicBool,
}

impl Default for Signals {
    fn default() -> Self {
        let (tell, tell_out) = mpsc::channel(WAITING);
        Self {
            deliveries: Notify::new(),
            tasks: Notify::new(),
            outbox: Notify::new(),
            snapshot: Notify::new(),
            sweep: Notify::new(),
            cancels: broadcast::Sender::new(16),
            log: broadcast::Sender::new(256),
            tell,
            tell_out: Mutex::new(tell_out),
            hears: AtomicBool::new(false),
        }
    }
}

impl Signals {
    /// Wakes who waits for this, in all processes.
    pub fn announce(&self, topic: Topic) {
        self.wake(&topic);
        // Full: the others look by themselves.
        let _ = self.tell.try_send(topic);
    }

    /// New lines, which other processes read from the database.
    pub fn announce_lines(&self, news: LogNews) {
        let topic = Topic::Log(news.task.clone());
        let _ = self.log.send(news);
        let _ = self.tell.try_send(topic);
    }

    pub(super) fn wake(&self, topic: &Topic) {
        match topic {
            Topic::Deliveries => self.deliveries.notify_one(),
            Topic::Tasks => self.tasks.notify_one(),
            Topic::Outbox => self.outbox.notify_one(),
            Topic::Sweep => self.sweep.notify_one(),
            // Nobody need be there to hear it.
            Topic::Cancels => _ = self.cancels.send(()),
            Topic::Log(task) => _ = self.log.send(LogNews { task: task.clone(), entries: Arc::new([]) }),
        }
    }

    pub(super) fn wake_all(&self) {
        for topic in Topic::ALL {
            self.wake(&topic);
        }
    }
}
