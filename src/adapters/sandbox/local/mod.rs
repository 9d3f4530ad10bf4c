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
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, BufReader};

use crate::ports::sandbox::{
    CommandSpec, CommandStatus, Output, OutputKind, Paths, Result, Sandbox, SandboxError, SandboxId, SandboxSpec,
};

pub use bubblewrap::Isolation;
pub use supervisor::supervise;

/// How often files are looked at for new output.
const POLL: Duration = Duration::from_millis(50);
const CHUNK_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub struct LocalSandbox {
    root: PathBuf,
    /// This program, started anew as the supervisor of a command.
    program: PathBuf,
    isolation: Isolation,
}

fn failed(what: &str) -> impl Fn(io::Error) -> SandboxError + '_ {
    move |error| SandboxError::Unavailable(format!("{what}: {error}"))
}

/// Names become file names: nothing that could lead elsewhere.
fn checked(name: &str) -> Result<&str> {
    let legal = !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if legal {
        Ok(name)
    } else {
        Err(SandboxError::Refused(format!("{name:?} is no name for a sandbox, command or file")))
    }
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
        Ok(self.root.join(checked(&id.0)?))
    }

    fn command_dir(&self, id: &SandboxId, command: &str) -> Result<PathBuf> {
        Ok(self.root.join(format!("{}.run", checked(&id.0)?)).join(checked(command)?))
    }

    fn order(&self, id: &SandboxId, spec: &CommandSpec) -> Result<supervisor::Order> {
        let dir = self.dir(id)?;
        let paths = self.paths(id);
        let mut env = vec![
            ("HOME".to_owned(), paths.home.clone()),
            ("PATH".to_owned(), format!("{}/.local/bin:{}", paths.home, bubblewrap::PATH)),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("TMPDIR".to_owned(), "/tmp".to_owned()),
        ];
        if self.isolation == Isolation::None {
            env.retain(|(name, _)| name != "TMPDIR");
            env.push(("TMPDIR".to_owned(), dir.join("tmp").display().to_string()));
        }
        env.extend(spec.env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())));
        let scratch = |name: &Option<String>| {
            name.as_deref().map(|name| Ok(dir.join("scratch").join(checked(name)?))).transpose()
        };
        Ok(supervisor::Order {
            run_dir: self.command_dir(id, &spec.name)?,
            argv: spec.argv.clone(),
            shut_in: self.isolation.options(&dir, &paths),
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

    fn create<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Result<SandboxId>> {
        Box::pin(async move {
            let id = SandboxId(checked(&spec.name)?.to_owned());
            let dir = self.dir(&id)?;
            for part in ["home", "project", "scratch", "tmp"] {
                tokio::fs::create_dir_all(dir.join(part)).await.map_err(failed("cannot make the sandbox's folder"))?;
            }
            tokio::fs::create_dir_all(self.root.join(format!("{}.run", id.0)))
                .await
                .map_err(failed("cannot make the sandbox's folder"))?;
            Ok(id)
        })
    }

    fn paths(&self, id: &SandboxId) -> Paths {
        match self.isolation {
            Isolation::Bubblewrap => bubblewrap::inner_paths(),
            Isolation::None => {
                let part = |name: &str| self.root.join(&id.0).join(name).display().to_string();
                Paths { home: part("home"), project: part("project"), scratch: part("scratch") }
            }
        }
    }

    fn start<'a>(&'a self, id: &'a SandboxId, command: &'a CommandSpec) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if !self.dir(id)?.is_dir() {
                return Err(SandboxError::Gone);
            }
            let order = self.order(id, command)?;
            if supervisor::was_begun(&order.run_dir) {
                return Ok(());
            }
            self.spawn(&order).await
        })
    }

    fn status<'a>(&'a self, id: &'a SandboxId, command: &'a str) -> BoxFuture<'a, Result<CommandStatus>> {
        Box::pin(async move {
            if !self.dir(id)?.is_dir() {
                return Err(SandboxError::Gone);
            }
            let dir = self.command_dir(id, command)?;
            // Asked before the exit is read: a command that ends in between is seen as ended.
            let alive = supervisor::is_alive(&dir);
            Ok(match supervisor::read_exit(&dir) {
                Some(exit) => CommandStatus::Ended(exit),
                None if alive => CommandStatus::Running,
                None => CommandStatus::Lost,
            })
        })
    }

    fn output<'a>(&'a self, id: &'a SandboxId, command: &'a str) -> BoxStream<'a, Result<Output>> {
        let state = Follow { sandbox: self, id, command, at: [0, 0], last_look: false };
        futures::stream::try_unfold(state, Follow::next).boxed()
    }

    fn kill<'a>(&'a self, id: &'a SandboxId, command: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let dir = self.command_dir(id, command)?;
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
            file.as_mut().map_err(|error| SandboxError::Unavailable(error.to_string()))?;
            let mut file = file.map_err(failed("cannot write a file"))?;
            file.write_all(bytes).await.map_err(failed("cannot write a file"))?;
            file.flush().await.map_err(failed("cannot write a file"))
        })
    }

    fn read_file<'a>(&'a self, id: &'a SandboxId, name: &'a str, limit: u64) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let path = self.dir(id)?.join("scratch").join(checked(name)?);
            let meta = tokio::fs::symlink_metadata(&path).await.map_err(|_| SandboxError::Gone)?;
            if !meta.is_file() {
                return Err(SandboxError::Refused(format!("{name} is not a file")));
            }
            let file = tokio::fs::File::open(&path).await.map_err(failed("cannot read a file"))?;
            let mut bytes = Vec::new();
            file.take(limit + 1).read_to_end(&mut bytes).await.map_err(failed("cannot read a file"))?;
            if bytes.len() as u64 > limit { Err(SandboxError::TooLarge { limit }) } else { Ok(bytes) }
        })
    }

    fn stop<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let run = self.root.join(format!("{}.run", checked(&id.0)?));
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
                    .map_err(|error| SandboxError::Unavailable(error.to_string()))?
                    .map_err(failed("cannot remove a sandbox"))?;
            }
            Ok(())
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<SandboxId>>> {
        Box::pin(async move {
            let mut found = Vec::new();
            let mut entries = tokio::fs::read_dir(&self.root).await.map_err(failed("cannot list sandboxes"))?;
            while let Some(entry) = entries.next_entry().await.map_err(failed("cannot list sandboxes"))? {
                let name = entry.file_name().to_string_lossy().into_owned();
                if let Some(id) = name.strip_suffix(".run") {
                    found.push(SandboxId(id.to_owned()));
                }
            }
            Ok(found)
        })
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

/// Reads the output files of a command as they grow.
struct Follow<'a> {
    sandbox: &'a LocalSandbox,
    id: &'a SandboxId,
    command: &'a str,
    at: [u64; 2],
    /// The command has ended: what is in the files now is all there will be.
    last_look: bool,
}

impl<'a> Follow<'a> {
    async fn next(mut self) -> Result<Option<(Output, Self)>> {
        let dir = self.sandbox.command_dir(self.id, self.command)?;
        loop {
            for (index, kind) in [OutputKind::Stdout, OutputKind::Stderr].into_iter().enumerate() {
                let bytes = read_from(&dir.join(supervisor::output_name(kind)), self.at[index]).await?;
                if !bytes.is_empty() {
                    self.at[index] += bytes.len() as u64;
                    return Ok(Some((Output { kind, bytes }, self)));
                }
            }
            if self.last_look {
                return Ok(None);
            }
            if self.sandbox.status(self.id, self.command).await? == CommandStatus::Running {
                tokio::time::sleep(POLL).await;
            } else {
                self.last_look = true;
            }
        }
    }
}

async fn read_from(path: &Path, at: u64) -> Result<Vec<u8>> {
    let mut file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("cannot read the output")(error)),
    };
    file.seek(io::SeekFrom::Start(at)).await.map_err(failed("cannot read the output"))?;
    let mut bytes = Vec::with_capacity(4096);
    file.take(CHUNK_BYTES as u64).read_to_end(&mut bytes).await.map_err(failed("cannot read the output"))?;
    Ok(bytes)
}
