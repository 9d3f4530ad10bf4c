//! One process of the built program.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it. What it logs goes into the file.
    pub fn start(mut command: Command, log: PathBuf) -> Self {
        let file = std::fs::File::create(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).kill_on_drop(true).spawn().unwrap();
        Self { child, log }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where it listens, once it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.field("listening", "address")?.parse().ok()
    }

    /// A field of the first line with this message.
    pub fn field(&self, message: &str, field: &str) -> Option<String> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains(&format!("\"message\":\"{message}\"")))?;
        let json: serde_json::Value = serde_json::from_str(line).ok()?;
        json.pointer(&format!("/fields/{field}"))?.as_str().map(ToOwned::to_owned)
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id().expect("a running process")).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// It is gone at once, as after `kill -9` or a power cut.
    pub async fn crash(mut self) {
        self.child.start_kill().unwrap();
        self.child.wait().await.unwrap();
    }

    /// SIGTERM, as a deploy sends it. The process has to be gone within ten seconds.
    pub async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let ended = tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await;
        let status = ended.expect("the process ends within ten seconds").unwrap();
        assert!(status.success(), "the process ended with {status}:\n{}", self.log());
    }

    /// Whether it is over, and how.
    pub async fn over(mut self) -> (bool, String) {
        let ended = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        (ended.expect("the process ends by itself").unwrap().success(), self.log())
    }
}
