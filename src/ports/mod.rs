//! What comes in several kinds: clocks (the system's, a test's) and sandboxes (local, Vercel's).

pub mod clock;
pub mod sandbox;
