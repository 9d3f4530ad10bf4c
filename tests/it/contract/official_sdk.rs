//! The double of Vercel against Vercel's own SDK: what the client is tested with has to be real.

use tokio::process::Command;

use crate::double::{self, Double};

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_takes_the_double_for_vercel() {
    let cache = std::env::var("TEST_CACHE").unwrap_or_default();
    if !std::path::Path::new(&cache).join("node_modules/@vercel/sandbox").is_dir() {
        crate::support::skipped("the official SDK, because it is not in TEST_CACHE (./tests/run fetches it)");
        return;
    }
    let double = Double::start().await;
    // Modules are found from the script's own folder.
    let script = std::path::Path::new(&cache).join("official.mjs");
    std::fs::write(&script, include_str!("../../double/official.mjs")).unwrap();
    let run = Command::new("node")
        .arg(&script)
        .env("FAKE_URL", double.url.trim_end_matches("/api"))
        .env("FAKE_TOKEN", double::TOKEN)
        .env("FAKE_TEAM", double::TEAM)
        .env("FAKE_PROJECT", double::PROJECT)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(120), run).await.unwrap().unwrap();
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    let calls: Vec<String> = double.calls().into_iter().map(|call| call.route).collect();
    assert!(output.status.success() && said.contains("the official SDK is content"), "{said}\n{}", calls.join("\n"));
    assert_eq!(double.violations(), Vec::<String>::new(), "the SDK is honest by definition");
    assert!(double.resumes() > 0, "the SDK wakes what is stopped, and the double lets it");
}
