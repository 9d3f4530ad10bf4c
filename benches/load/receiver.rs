//! The webhook edge under load: the built program as a process of its own, raw connections on
//! loopback, deliveries of a realistic size.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hireling::adapters::system::SystemClock;
use hireling::demo::standin::Standin;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::database::Database;
use super::{CELL, ms, percentile};

/// Bytes of a usual `issue_comment` payload.
const BODY: usize = 12_000;

#[derive(Clone, Copy)]
pub enum Sort {
    /// No command in it: no write before the answer.
    Ignored,
    /// May hold a command: on disk before the answer. (It stands in code, so nothing comes of it.)
    Durable,
}

pub struct Server {
    pub child: Child,
    pub address: String,
    secret: String,
    started_in: Duration,
    pub github: Standin,
    _dir: tempfile::TempDir,
}

impl Server {
    pub async fn end(mut self) {
        self.child.start_kill().unwrap();
        self.child.wait().await.unwrap();
    }

    pub async fn start(database: &Database) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let github = Standin::start(&dir.path().join("github"), Arc::new(SystemClock)).await.unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let agents = dir.path().join("agents.toml");
        let script = "echo 'I look'; echo fixed > fixed.txt; echo 'Fixed.'";
        std::fs::write(&agents, format!("[agents.ours]\ncommand = [\"sh\", \"-c\", {script:?}]\n")).unwrap();
        let begin = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_hireling"))
            .arg("serve")
            .env_clear()
            .env("LISTEN_ADDR", &address)
            .env("DATABASE_URL", database.url())
            .env("ENCRYPTION_KEY", "5e".repeat(32))
            .env("GITHUB_APP_ID", github.app_id.to_string())
            .env("GITHUB_APP_PRIVATE_KEY", github.private_key.expose())
            .env("GITHUB_WEBHOOK_SECRET", github.webhook_secret.expose())
            .env("GITHUB_URL", &github.url)
            .env("GITHUB_API_URL", github.api_url())
            .env("SANDBOX_PROVIDER", "local")
            .env("METRICS_ADDR", "off")
            .env("RUST_LOG", "error")
            .env("AGENTS_FILE", &agents)
            .env("MAX_MESSAGES_PER_DAY", "100000")
            // As in the image.
            .env("MALLOC_MMAP_THRESHOLD_", "65536")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let secret = github.webhook_secret.expose().to_owned();
        let mut server = Self { child, address, secret, started_in: Duration::ZERO, github, _dir: dir };
        let mut number = 0;
        loop {
            number += 1;
            if let Ok(mut stream) = TcpStream::connect(&server.address).await
                && server.one(&mut stream, Sort::Ignored, number).await
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.started_in = begin.elapsed();
        server
    }

    /// One delivery on an open connection. True: it was taken.
    pub async fn one(&self, stream: &mut TcpStream, sort: Sort, number: u64) -> bool {
        let request = request(&self.secret, sort, number);
        if stream.write_all(&request).await.is_err() {
            return false;
        }
        let mut answer = [0u8; 2048];
        let read = stream.read(&mut answer).await.unwrap_or(0);
        answer[..read].starts_with(b"HTTP/1.1 202")
    }
}

/// Processor time and memory (in MiB) of a process.
pub fn stat(child: &Child) -> (Duration, u64) {
    let pid = child.id().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<u64> =
        stat.rsplit(')').next().unwrap().split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = rss.trim().trim_end_matches(" kB").parse().unwrap();
    // utime and stime, in hundredths of a second.
    (Duration::from_millis((fields[11] + fields[12]) * 10), kib / 1024)
}

fn request(secret: &str, sort: Sort, number: u64) -> Vec<u8> {
    let text = match sort {
        Sort::Ignored => "thanks, looks good to me",
        Sort::Durable => "`/agent claude fix this`",
    };
    let mut body = format!(
        "{{\"action\":\"created\",\"issue\":{{\"number\":7,\"user\":{{\"id\":1,\"login\":\"maria\"}}}},\
         \"comment\":{{\"id\":{number},\"body\":\"{text}\",\"user\":{{\"id\":1,\"login\":\"maria\"}},\"created_at\":\"2026-11-22T10:00:00Z\"}},\
         \"repository\":{{\"id\":11,\"full_name\":\"acme/shop\",\"owner\":{{\"id\":2,\"login\":\"acme\"}}}},\
         \"sender\":{{\"id\":1,\"login\":\"maria\",\"type\":\"User\"}},\"installation\":{{\"id\":5001}},\"links\":["
    );
    let mut link = number;
    while body.len() < BODY {
        link = link.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        body.push_str(&format!("\"https://api.github.com/repos/acme/shop/issues/{}/events\",", link >> 44));
    }
    body.push_str("\"\"]}");
    let mut signer = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    signer.update(body.as_bytes());
    let signature = hex::encode(signer.finalize().into_bytes());
    format!(
        "POST /webhooks/github HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         x-github-event: issue_comment\r\nx-github-delivery: bench-{number}\r\nx-hub-signature-256: sha256={signature}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub async fn measure(database: &Database) {
    let server = Arc::new(Server::start(database).await);
    println!("\n## Deliveries of {BODY} bytes, {}", database.name());
    println!("start to first accepted delivery: {} ms; idle: {} MB", ms(server.started_in), stat(&server.child).1);
    println!(
        "| kind | connections | per second | p50 ms | p99 ms | CPU µs each | RSS MB |\n|---|---|---|---|---|---|---|"
    );
    let next = Arc::new(AtomicU64::new(1_000_000));
    for (sort, name) in [(Sort::Ignored, "ignored"), (Sort::Durable, "durable")] {
        for connections in [1, 16, 64] {
            let (cpu_before, _) = stat(&server.child);
            let begin = Instant::now();
            let clients = (0..connections).map(|_| {
                let (server, next) = (Arc::clone(&server), Arc::clone(&next));
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    let mut stream = TcpStream::connect(&server.address).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    while begin.elapsed() < CELL {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let sent = Instant::now();
                        assert!(server.one(&mut stream, sort, number).await, "a delivery was refused");
                        times.push(sent.elapsed());
                    }
                    times
                })
            });
            let mut times: Vec<Duration> =
                futures::future::join_all(clients).await.into_iter().flat_map(|times| times.unwrap()).collect();
            let took = begin.elapsed();
            let (cpu_after, rss) = stat(&server.child);
            times.sort_unstable();
            println!(
                "| {name} | {connections} | {:.0} | {} | {} | {:.0} | {rss} |",
                times.len() as f64 / took.as_secs_f64(),
                ms(percentile(&times, 0.5)),
                ms(percentile(&times, 0.99)),
                (cpu_after - cpu_before).as_micros() as f64 / times.len() as f64
            );
        }
    }
}
