//! A review of a large pull request, from the webhook until the agent holds its prompt, in a sandbox on this machine:
//! time and the service's peak of memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hireling::adapters::system::SystemClock;
use hireling::demo::standin::Standin;

use super::running::{REPO, serve};

/// The agent tells how much it was given, and is done.
const AGENTS: &str =
    "[agents.ours]\ncommand = [\"sh\", \"-c\", \"wc -c > ../scratch/told; sleep 5; echo '{\\\"findings\\\": []}'\"]\n";
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure() {
    println!("\n## Review of a large pull request: from the webhook to the prompt, SQLite, local sandbox");
    println!("| files x lines | diff MB | ms to the prompt | prompt KB | peak RSS MB |\n|---|---|---|---|---|");
    for (files, lines) in [(1, 10), (400, 75), (1, 30_000), (400, 750)] {
        one(files, lines).await;
    }
}

fn line(file: usize, number: usize) -> String {
    format!("    let value_{number} = compute(input_{file}, {number}); // one more line of the change\n")
}

async fn one(files: usize, lines: usize) {
    let dir = tempfile::tempdir().unwrap();
    let github = Standin::start(&dir.path().join("github"), Arc::new(SystemClock)).await.unwrap();
    github.add_repository(REPO, &[("a", "b")]).await.unwrap();
    github.set_permission(REPO, "maria", "write").await;
    github.branch_off(REPO, "feature").await.unwrap();
    let texts: Vec<(String, String)> = (0..files)
        .map(|file| (format!("src/file_{file}.rs"), (0..lines).map(|number| line(file, number)).collect()))
        .collect();
    let pushed: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    github.push_files(REPO, "feature", &pushed).await.unwrap();
    let pull = github.open_pull(REPO, "maria", "Much", "feature").await;
    let agents = dir.path().join("agents.toml");
    std::fs::write(&agents, AGENTS).unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut command = serve(&github, dir.path(), "bench.db");
    command.env("LISTEN_ADDR", &address).env("SANDBOX_PROVIDER", "local").env("AGENTS_FILE", &agents);
    let mut service = command.env("PATH", std::env::var("PATH").unwrap_or_default()).spawn().unwrap();
    let ready = format!("http://{address}/readyz");
    let begin = Instant::now();
    while !reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success()) {
        assert!(begin.elapsed() < PATIENCE, "the service does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begin = Instant::now();
    github.say(&format!("http://{address}"), REPO, pull, "maria", "/agent ours review").await;
    let told = loop {
        if let Some(told) = told(dir.path()) {
            break told;
        }
        assert!(begin.elapsed() < PATIENCE, "the agent is not given its prompt");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let took = begin.elapsed();
    let diff: usize = texts.iter().map(|(_, text)| text.len() + lines).sum();
    println!(
        "| {files} x {lines} | {:.1} | {} | {} | {} |",
        diff as f64 / 1e6,
        took.as_millis(),
        told / 1024,
        peak(&service)
    );
    service.start_kill().unwrap();
    service.wait().await.unwrap();
}

/// Bytes that the agent was told.
fn told(dir: &std::path::Path) -> Option<usize> {
    let data = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path().join("sandboxes"));
    let sandboxes =
        data.chain([dir.join("sandboxes")]).filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    sandboxes.into_iter().find_map(|entry| {
        std::fs::read_to_string(entry.path().join("scratch/told")).ok().and_then(|text| text.trim().parse().ok())
    })
}

/// The most memory that a process ever had, in MB.
fn peak(child: &tokio::process::Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
