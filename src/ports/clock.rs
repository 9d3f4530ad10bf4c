//! Time and identity, handed in so that a test can choose them.

use crate::domain::ids::Millis;

pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Wall-clock time in UTC.
    fn now(&self) -> Millis;

    /// 32 hex digits that sort by age and cannot be guessed.
    fn new_id(&self) -> String;

    /// 32 bytes that nobody can guess: the stuff of grants and nonces.
    fn new_secret(&self) -> [u8; 32];

    /// A number in `0.0..1.0`, for waits that should not fall together.
    fn jitter(&self) -> f64;
}
