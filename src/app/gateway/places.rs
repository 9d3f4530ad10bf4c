//! Calls under way, by task: how many there may be, and what they may come to. A limit of money would
//! not hold against many calls at once otherwise. Each web process keeps its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::ids::TaskId;
use crate::domain::money::Usd;

/// Calls of one task at once: agents have a few helpers, not hundreds.
const AT_ONCE: u32 = 8;

#[derive(Debug, Default)]
pub struct Places {
    by_task: Mutex<HashMap<TaskId, UnderWay>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct UnderWay {
    calls: u32,
    reserved: Usd,
}

/// A call's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    task: TaskId,
    reserved: Usd,
}

impl Places {
    /// What the calls of a task that are under way may come to.
    pub(super) fn reserved(&self, task: &TaskId) -> Usd {
        let by_task = self.by_task.lock().unwrap_or_else(PoisonError::into_inner);
        by_task.get(task).map_or(Usd::default(), |under_way| under_way.reserved)
    }

    /// `None`: there are as many as there may be.
    pub(super) fn take(self: &Arc<Self>, task: &TaskId, reserve: Usd) -> Option<Place> {
        let mut by_task = self.by_task.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = by_task.entry(task.clone()).or_default();
        if under_way.calls >= AT_ONCE {
            return None;
        }
        under_way.calls += 1;
        under_way.reserved = Usd(under_way.reserved.0.saturating_add(reserve.0));
        Some(Place { places: Arc::clone(self), task: task.clone(), reserved: reserve })
    }
}

impl Place {
    /// What was reserved is counted now.
    pub(super) fn release(&mut self) {
        let mut by_task = self.places.by_task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = by_task.get_mut(&self.task) {
            under_way.reserved = Usd(under_way.reserved.0.saturating_sub(self.reserved.0));
        }
        self.reserved = Usd::default();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_task = self.places.by_task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = by_task.get_mut(&self.task) {
            under_way.calls = under_way.calls.saturating_sub(1);
            under_way.reserved = Usd(under_way.reserved.0.saturating_sub(self.reserved.0));
            if under_way.calls == 0 {
                by_task.remove(&self.task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_so_many_places_and_gets_them_back() {
        let (places, task) = (Arc::new(Places::default()), TaskId("t".into()));
        let taken: Vec<Place> = (0..AT_ONCE).map(|_| places.take(&task, Usd(10)).unwrap()).collect();
        assert!(places.take(&task, Usd(10)).is_none());
        assert!(places.take(&TaskId("other".into()), Usd(10)).is_some());
        assert_eq!(places.reserved(&task), Usd(80));
        drop(taken);
        assert_eq!(places.reserved(&task), Usd(0));
        assert!(places.by_task.lock().unwrap().is_empty());
    }
}
