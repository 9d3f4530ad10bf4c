//! Sandboxes on this machine: a folder and processes, for development, tests and the demo.
//!
//! ```text
//! <root>/<name>/home project scratch tmp     what the agent sees
//! <root>/<name>.run/<command>/               what it does not: pid, output, exit of each command
//! ```
//!
//! Each command has a supervisor process of its own (`hireling sandbox-command`) that outlives the
//! service, writes output to files and records the exit. A restarted service reads the files on.

mod bubblewrap;
mod output;
mod supervisor;

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::domain::ids::Millis;
use crate::domain::network::{Injection, Network};
use crate::domain::run::SandboxId;
use crate::ports::sandbox::{
    CommandId, CommandSpec, CommandStatus, Created, Fate, Finished, Output, Result, Sandbox, SandboxError, SandboxSpec,
    checked_name as checked, follow,
};

pub use bubblewrap::Isolation;
pub use supervisor::supervise;

/// How often files are looked at for new output.
const POLL: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct LocalSandbox {
    root: PathBuf,
    /// This program, started anew as the supervisor of a command.
    program: PathBuf,
    isolation: Isolation,
}

fn failed(what: &str) -> impl Fn(io::Error) -> SandboxError + '_ {
    move |error| SandboxError::Faulty(format!("{what}: {error}"))
}

impl LocalSandbox {
    /// `root` is made if it is not there. Finds out once how well commands can be shut in.
    pub fn new(root: &Path, program: PathBuf) -> io::Result<Self> {
        Self::with_isolation(root, program, Isolation::probe())
    }

    pub fn with_isolation(root: &Path, program: PathBuf, isolation: Isolation) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        Ok(Self { root: root.canonicalize()?, program, isolation })
    }

    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    fn dir(&self, id: &SandboxId) -> Result<PathBuf> {
        Ok(self.root.join(checked(&id.name)?))
    }

    fn command_dir(&self, id: &SandboxId, command: &str) -> Result<PathBuf> {
        Ok(self.root.join(format!("{}.run", checked(&id.name)?)).join(checked(command)?))
    }

    fn order(&self, id: &SandboxId, spec: &CommandSpec) -> Result<supervisor::Order> {
        let dir = self.dir(id)?;
        let (home, tmp) = match self.isolation {
            Isolation::Bubblewrap => (format!("{}/home", bubblewrap::INSIDE), "/tmp".to_owned()),
            Isolation::None => (dir.join("home").display().to_string(), dir.join("tmp").display().to_string()),
        };
        let path = format!("{home}/.local/bin:{}", bubblewrap::PATH);
        let mut env: Vec<(String, String)> =
            [("HOME", home), ("PATH", path), ("LANG", "C.UTF-8".into()), ("TMPDIR", tmp)]
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec();
        env.extend(spec.env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())));
        let scratch = |name: &Option<String>| {
            name.as_deref().map(|name| Ok::<_, SandboxError>(dir.join("scratch").join(checked(name)?))).transpose()
        };
        Ok(supervisor::Order {
            run_dir: self.command_dir(id, &spec.name)?,
            argv: spec.argv.clone(),
            shut_in: self.isolation.options(&dir),
            cwd: dir.join("project"),
            env,
            stdin: scratch(&spec.stdin)?,
            stdout: scratch(&spec.stdout)?,
            timeout_ms: u64::try_from(spec.timeout.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Starts the supervisor and waits until it holds the command's lock. The order goes through a
    /// pipe: it holds secrets, which neither arguments nor files may show.
    async fn spawn(&self, order: &supervisor::Order) -> Result<()> {
        tokio::fs::create_dir_all(&order.run_dir).await.map_err(failed("cannot make the command's folder"))?;
        let mut child = tokio::process::Command::new(&self.program)
            .arg("sandbox-command")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed("cannot start a supervisor"))?;
        let json = serde_json::to_vec(order).map_err(|error| SandboxError::Refused(error.to_string()))?;
        if let Some(mut input) = child.stdin.take() {
            // A supervisor that finds the command supervised already goes away without reading.
            let _ = input.write_all(&json).await;
        }
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line).await.map_err(failed("the supervisor did not answer"))?;
        }
        // Reaped when it ends; it lives on if this process dies.
        tokio::spawn(async move { child.wait().await });
        match line.trim() {
            "started" | "taken" => Ok(()),
            other => Err(SandboxError::Refused(format!("the command could not be started: {other}"))),
        }
    }

    async fn signal_supervisor(dir: &Path, signal: Signal) {
        if !supervisor::is_alive(dir) {
            return;
        }
        let pid = tokio::fs::read_to_string(dir.join("pid")).await.ok();
        if let Some(pid) = pid.and_then(|text| text.trim().parse::<i32>().ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Sandbox for LocalSandbox {
    fn provider(&self) -> &'static str {
        "local"
    }

    fn check(&self) -> BoxFuture<'_, Result<String>> {
        Box::pin(async { Ok(format!("local, isolation: {}", self.isolation.name())) })
    }

    fn create<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Result<Created>> {
        Box::pin(async move {
            let id = SandboxId::named(checked(&spec.name)?);
            let dir = self.dir(&id)?;
            for part in ["home", "project", "scratch", "tmp"] {
                tokio::fs::create_dir_all(dir.join(part)).await.map_err(failed("cannot make the sandbox's folder"))?;
            }
            tokio::fs::create_dir_all(self.root.join(format!("{}.run", id.name)))
                .await
                .map_err(failed("cannot make the sandbox's folder"))?;
            Ok(Created { id, ends_at: None, shortened_to: None })
        })
    }

    /// Everything is in files.
    fn forget<'a>(&'a self, _: &'a SandboxId) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn find<'a>(&'a self, id: &'a SandboxId, name: &'a str) -> BoxFuture<'a, Result<Option<CommandId>>> {
        Box::pin(async move {
            if !self.dir(id)?.is_dir() {
                return Err(SandboxError::Gone);
            }
            let was_begun = supervisor::was_begun(&self.command_dir(id, name)?);
            Ok(was_begun.then(|| CommandId(name.to_owned())))
        })
    }

    fn start<'a>(&'a self, id: &'a SandboxId, command: &'a CommandSpec) -> BoxFuture<'a, Result<CommandId>> {
        Box::pin(async move {
            if let Some(found) = self.find(id, &command.name).await? {
                return Ok(found);
            }
            self.spawn(&self.order(id, command)?).await?;
            Ok(CommandId(command.name.clone()))
        })
    }

    fn run<'a>(&'a self, id: &'a SandboxId, command: &'a CommandSpec) -> BoxFuture<'a, Result<Finished>> {
        Box::pin(async move {
            let started = self.start(id, command).await?;
            follow(self, id, &started).await
        })
    }

    fn status<'a>(&'a self, id: &'a SandboxId, command: &'a CommandId) -> BoxFuture<'a, Result<CommandStatus>> {
        Box::pin(async move {
            if !self.dir(id)?.is_dir() {
                return Err(SandboxError::Gone);
            }
            let dir = self.command_dir(id, &command.0)?;
            // Asked before the exit is read: a command that ends in between is seen as ended.
            let alive = supervisor::is_alive(&dir);
            Ok(match supervisor::read_exit(&dir) {
                Some(exit) => CommandStatus::Ended(exit),
                None if alive => CommandStatus::Running,
                None => CommandStatus::Lost,
            })
        })
    }

    fn output<'a>(&'a self, id: &'a SandboxId, command: &'a CommandId) -> BoxStream<'a, Result<Output>> {
        let state = output::Follow::new(self, id, command);
        futures::stream::try_unfold(state, output::Follow::next).boxed()
    }

    fn kill<'a>(&'a self, id: &'a SandboxId, command: &'a CommandId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let dir = self.command_dir(id, &command.0)?;
            Self::signal_supervisor(&dir, Signal::SIGTERM).await;
            Ok(())
        })
    }

    fn write_file<'a>(&'a self, id: &'a SandboxId, name: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let path = self.dir(id)?.join("scratch").join(checked(name)?);
            // The agent may have put a link there: never write through one.
            let _ = tokio::fs::remove_file(&path).await;
            let mut file = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).await;
            if matches!(&file, Err(error) if error.kind() == io::ErrorKind::NotFound) {
                return Err(SandboxError::Gone);
            }
            file.as_mut().map_err(|error| SandboxError::Faulty(error.to_string()))?;
            let mut file = file.map_err(failed("cannot write a file"))?;
            file.write_all(bytes).await.map_err(failed("cannot write a file"))?;
            file.flush().await.map_err(failed("cannot write a file"))
        })
    }

    fn read_file<'a>(&'a self, id: &'a SandboxId, name: &'a str, limit: u64) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let path = self.dir(id)?.join("scratch").join(checked(name)?);
            if !self.dir(id)?.is_dir() {
                return Err(SandboxError::Gone);
            }
            if !tokio::fs::symlink_metadata(&path).await.is_ok_and(|meta| meta.is_file()) {
                return Err(SandboxError::Refused(format!("{name} is not a file")));
            }
            let file = tokio::fs::File::open(&path).await.map_err(failed("cannot read a file"))?;
            let mut bytes = Vec::new();
            file.take(limit + 1).read_to_end(&mut bytes).await.map_err(failed("cannot read a file"))?;
            if bytes.len() as u64 > limit { Err(SandboxError::TooLarge { limit }) } else { Ok(bytes) }
        })
    }

    fn extend<'a>(&'a self, _: &'a SandboxId, _: Duration) -> BoxFuture<'a, Result<Option<Millis>>> {
        Box::pin(async { Ok(None) })
    }

    fn can_inject(&self) -> bool {
        false
    }

    /// Nothing: commands share this machine's network.
    fn set_network<'a>(&'a self, _: &'a SandboxId, _: &'a Network, _: &'a [Injection]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn address<'a>(&'a self, _: &'a SandboxId, _: u16) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(async { Ok(None) })
    }

    fn fate<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<Fate>> {
        Box::pin(async move { Ok(if self.dir(id)?.is_dir() { Fate::Running } else { Fate::Lost }) })
    }

    fn stop<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let run = self.root.join(format!("{}.run", checked(&id.name)?));
            let mut commands = Vec::new();
            if let Ok(mut entries) = tokio::fs::read_dir(&run).await {
                while let Ok(Some(entry)) = entries.next_entry().await {
                    commands.push(entry.path());
                }
            }
            for command in &commands {
                Self::signal_supervisor(command, Signal::SIGTERM).await;
            }
            for command in &commands {
                // A supervisor takes at most its grace time; it is ended hard if it hangs.
                for _ in 0..100 {
                    if !supervisor::is_alive(command) {
                        break;
                    }
                    tokio::time::sleep(POLL).await;
                }
                Self::signal_supervisor(command, Signal::SIGKILL).await;
            }
            // The folder by which the sandbox is listed goes last: what stays behind stays visible.
            for dir in [self.dir(id)?, run] {
                let removed = tokio::task::spawn_blocking(move || remove_tree(&dir)).await;
                removed
                    .map_err(|error| SandboxError::Faulty(error.to_string()))?
                    .map_err(failed("cannot remove a sandbox"))?;
            }
            Ok(())
        })
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn has_fixed_paths(&self) -> bool {
        self.isolation == Isolation::Bubblewrap
    }

    fn can_snapshot(&self) -> bool {
        false
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<SandboxId>>> {
        Box::pin(async move {
            let mut found = Vec::new();
            let mut entries = tokio::fs::read_dir(&self.root).await.map_err(failed("cannot list sandboxes"))?;
            while let Some(entry) = entries.next_entry().await.map_err(failed("cannot list sandboxes"))? {
                let name = entry.file_name().to_string_lossy().into_owned();
                if let Some(id) = name.strip_suffix(".run") {
                    found.push(SandboxId::named(id));
                }
            }
            Ok(found)
        })
    }

    fn snapshot<'a>(&'a self, _: &'a SandboxId) -> BoxFuture<'a, Result<String>> {
        Box::pin(async { Err(SandboxError::Refused("local sandboxes have no snapshots".to_owned())) })
    }

    fn forget_snapshot<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// Removes a folder, also one in which an agent has taken the right to write away.
fn remove_tree(dir: &Path) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    match gone(std::fs::remove_dir_all(dir)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(dir)?;
            gone(std::fs::remove_dir_all(dir))
        }
        other => other,
    }
}

fn make_writable(dir: &Path) -> io::Result<()> {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}
