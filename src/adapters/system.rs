//! The system's clock and randomness: the only place that reads either.

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
