//! What the tests stand on.

pub mod chromium;
pub mod clock;
pub mod front;
pub mod mcp;
pub mod model;
pub mod postgres;
pub mod process;
pub mod vendor;
pub mod vercel_signin;
pub mod visitor;
pub mod world;

/// Says what is not tested here and why. Written past the test harness, which keeps back what
/// passing tests print.
pub fn skipped(what: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}
