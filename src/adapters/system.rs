//! The system's clock and randomness: the only place that reads either.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::domain::ids::Millis;
use crate::ports::clock::Clock;

#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Millis(since.map_or(0, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
    }

    fn new_id(&self) -> String {
        uuid::Uuid::now_v7().simple().to_string()
    }

    fn new_secret(&self) -> [u8; 32] {
        rand::random()
    }

    fn jitter(&self) -> f64 {
        rand::random()
    }
}

/// The system's clock, set by one that several machines share: what they claim and promise each other must not depend on
/// how well their own clocks agree (fault F42).
#[derive(Debug, Default)]
pub struct SharedClock {
    ahead_ms: AtomicI64,
}

impl SharedClock {
    /// `shown`: by the shared clock, between `before` and `after` by the system's.
    pub fn set(&self, shown: Millis, before: Millis, after: Millis) {
        let ahead = shown.0 - (before.0 + (after.0 - before.0) / 2);
        self.ahead_ms.store(ahead, Ordering::Relaxed);
    }

    /// By how many milliseconds the shared one is ahead of the system's.
    pub fn ahead_ms(&self) -> i64 {
        self.ahead_ms.load(Ordering::Relaxed)
    }
}

impl Clock for SharedClock {
    fn now(&self) -> Millis {
        Millis(SystemClock.now().0.saturating_add(self.ahead_ms()))
    }

    fn new_id(&self) -> String {
        SystemClock.new_id()
    }

    fn new_secret(&self) -> [u8; 32] {
        SystemClock.new_secret()
    }

    fn jitter(&self) -> f64 {
        SystemClock.jitter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_behind_shows_the_shared_time() {
        let (clock, now) = (SharedClock::default(), SystemClock.now());
        clock.set(Millis(now.0 + 300_050), now, Millis(now.0 + 100));
        assert_eq!(clock.ahead_ms(), 300_000);
        let shown = clock.now();
        assert!((299_000..360_000).contains(&(shown.0 - now.0)), "{shown:?}");
    }
}
