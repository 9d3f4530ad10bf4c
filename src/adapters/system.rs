//! The system's clock and randomness: the only place that reads either.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

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

/// The system's clock, set by one that others go by, too, as the database's is: what they claim and promise each other must
/// not depend on how well their own clocks agree (fault F42).
#[derive(Debug, Default)]
pub struct SharedClock {
    ahead_ms: AtomicI64,
}

/// When the shared clock was asked for the time: by the system's, and steadily.
#[derive(Debug)]
pub struct Asked(Millis, Instant);

impl SharedClock {
    pub fn ask(&self) -> Asked {
        Asked(SystemClock.now(), Instant::now())
    }

    /// `shown`: the answer of the shared clock. False: it took longer than `within`, and would set this one wrong. The process
    /// may have been frozen meanwhile, or its own clock been set.
    pub fn set(&self, shown: Millis, asked: &Asked, within: Duration) -> bool {
        let Asked(before, begun) = asked;
        let after = SystemClock.now();
        let is_late = begun.elapsed() > within || !(*before..=before.after(within)).contains(&after);
        if !is_late {
            let ahead = shown.0 - (before.0 + (after.0 - before.0) / 2);
            self.ahead_ms.store(ahead, Ordering::Relaxed);
        }
        !is_late
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

    const A_MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_clock_that_is_behind_shows_the_shared_time() {
        let (clock, now) = (SharedClock::default(), SystemClock.now());
        assert!(clock.set(Millis(now.0 + 300_000), &clock.ask(), A_MINUTE));
        let shown = clock.now();
        assert!((299_000..360_000).contains(&(shown.0 - now.0)), "{shown:?}");
    }

    #[test]
    fn a_late_answer_sets_no_clock() {
        let clock = SharedClock::default();
        let now = || SystemClock.now();
        let slow = Asked(now().before(2 * A_MINUTE), Instant::now().checked_sub(2 * A_MINUTE).unwrap());
        let frozen = Asked(now(), Instant::now().checked_sub(2 * A_MINUTE).unwrap());
        let set_back = Asked(now().after(2 * A_MINUTE), Instant::now());
        for asked in [slow, frozen, set_back] {
            assert!(!clock.set(Millis(7), &asked, A_MINUTE), "{asked:?}");
        }
        assert_eq!(clock.ahead_ms(), 0);
    }
}
