//! What the tests stand on.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

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

/// An HTTP client that does not wait for ever. It keeps no connection, for each test has a runtime of its own.
pub fn http() -> reqwest::Client {
    static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
        let builder = reqwest::Client::builder().timeout(Duration::from_secs(60)).pool_max_idle_per_host(0);
        builder.build().unwrap()
    });
    HTTP.clone()
}

/// A library to be loaded before a program, made of C. `None`: there is no compiler.
pub fn compiled(dir: &Path, name: &str, text: &str) -> Option<PathBuf> {
    let (source, library) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.so")));
    std::fs::write(&source, text).unwrap();
    let done = std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output();
    done.is_ok_and(|output| output.status.success()).then_some(library)
}

/// Says what is not tested here and why. Written past the test harness, which keeps back what
/// passing tests print.
pub fn skipped(what: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}
