//! Failing on demand: the k-th call, before or after its effect.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// When a fault strikes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The call has no effect.
    Before,
    /// The effect is there, the answer is not.
    After,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An answer of this status, with headers and a body.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// The connection ends without an answer.
    Reset,
    /// No answer ever comes; `Standin::held` tells when the call is there.
    Hold,
    /// The effect and the answer come so much later, whoever still waits for them; `Standin::held` tells when the call is
    /// there.
    Late(Duration),
    /// A 502 comes at once, and the effect so much later.
    Behind(Duration),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 0.
    pub call: usize,
    /// How many calls in a row.
    pub times: usize,
    pub when: When,
    pub kind: Kind,
}

/// A fault of the first call of this method whose path ends so, however many are before it.
#[derive(Debug, Clone)]
pub struct FaultOf {
    pub method: &'static str,
    pub path_end: &'static str,
    pub kind: Kind,
}

/// A call that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub call: usize,
}

/// The list of deliveries is read whenever the service likes: its calls are counted apart.
#[derive(Debug, Default)]
pub(super) struct Plans {
    pub of_calls: Faults,
    pub of_deliveries: Faults,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    planned: Mutex<Vec<Fault>>,
    planned_of: Mutex<Option<FaultOf>>,
    count: AtomicUsize,
    held: Mutex<Option<usize>>,
    arrived: Notify,
    /// Calls whose effect is still to come.
    late: TaskTracker,
}

impl Faults {
    pub(super) fn set(&self, faults: Vec<Fault>) {
        if let Ok(mut planned) = self.planned.lock() {
            *planned = faults;
        }
        if let Ok(mut held) = self.held.lock() {
            *held = None;
        }
        self.count.store(0, Ordering::SeqCst);
    }

    pub(super) fn set_of(&self, fault: FaultOf) {
        self.set(Vec::new());
        if let Ok(mut planned) = self.planned_of.lock() {
            *planned = Some(fault);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Counts a call and gives the fault that is planned for it.
    pub(super) fn next(&self, method: &str, path: &str) -> (usize, Option<Fault>) {
        let call = self.count.fetch_add(1, Ordering::SeqCst);
        let is_meant = |of: &mut FaultOf| of.method == method && path.ends_with(of.path_end);
        if let Some(of) = self.planned_of.lock().ok().and_then(|mut of| of.take_if(is_meant)) {
            return (call, Some(Fault { call, times: 1, when: When::Before, kind: of.kind }));
        }
        let planned = self.planned.lock().ok();
        let found = planned.and_then(|planned| {
            planned.iter().find(|fault| (fault.call..fault.call + fault.times).contains(&call)).cloned()
        });
        (call, found)
    }

    /// Has the effect of a call come late.
    pub(super) fn delay(&self, call: usize) -> TaskTrackerToken {
        self.hold(call);
        self.late.token()
    }

    /// Waits until what was to come late is there.
    pub(super) async fn caught_up(&self) {
        self.late.close();
        self.late.wait().await;
        self.late.reopen();
    }

    /// Tells that a call is there which waits.
    pub(super) fn hold(&self, call: usize) {
        if let Ok(mut held) = self.held.lock() {
            *held = Some(call);
        }
        self.arrived.notify_waiters();
    }

    pub(super) async fn held(&self) -> Held {
        loop {
            let arrived = self.arrived.notified();
            if let Some(call) = self.held.lock().ok().and_then(|held| *held) {
                return Held { call };
            }
            arrived.await;
        }
    }
}
