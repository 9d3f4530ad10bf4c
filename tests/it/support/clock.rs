//! A clock that stands still until a test moves it.

use std::sync::atomic::{AtomicI64, Ordering};

use hireling::domain::ids::Millis;
use hireling::ports::clock::Clock;

#[derive(Debug)]
pub struct TestClock {
    now: AtomicI64,
    ids: AtomicI64,
}

impl TestClock {
    /// Noon of some day.
    pub fn new() -> Self {
        Self { now: AtomicI64::new(1_795_348_800_000), ids: AtomicI64::new(0) }
    }

    pub fn advance(&self, time: std::time::Duration) {
        self.now.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Millis {
        Millis(self.now.load(Ordering::SeqCst))
    }

    fn new_id(&self) -> String {
        format!("{:032x}", self.ids.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn new_secret(&self) -> [u8; 32] {
        let mut bytes = [7; 32];
        let number = self.ids.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        bytes[..8].copy_from_slice(&number);
        bytes
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}
