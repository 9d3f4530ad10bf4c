//! A disposable machine for one run. Everything can be asked for twice: `create` finds the sandbox
//! of the same name, `start` finds the command of the same name, so a restarted service re-attaches.
//!
//! Every sandbox has the same three folders beside each other. Commands start in `project`, so the
//! `home` and `scratch` are named from there, whatever lies above them.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::domain::agent_stream::Exit;
use crate::domain::ids::{Millis, TaskId};
use crate::domain::network::{Injection, Network};
use crate::domain::run::SandboxId;
use crate::domain::secret::Secret;

/// The agent's home folder, from where a command starts.
pub const HOME: &str = "../home";
/// No provider lets one command run longer (Vercel's bound, section 4.3 of its API).
pub const LONGEST_COMMAND: Duration = Duration::from_secs(5 * 3600);
/// Where npm puts programs: the `bin` below it is on the path.
pub const NPM_PREFIX: &str = "../home/.local";
/// For prompts, lists and results, outside the checkout; from where a command starts.
pub const SCRATCH: &str = "../scratch";

#[derive(Debug, Clone)]
pub struct SandboxSpec {
    /// Unique; a second `create` with it gives the same sandbox.
    pub name: String,
    /// For people who look at a list of sandboxes.
    pub task: TaskId,
    /// The sandbox ends by itself after this time.
    pub lifetime: Duration,
    pub network: Network,
    /// Ports that shall be reachable from outside.
    pub ports: Vec<u16>,
    /// A disk image to start from.
    pub snapshot: Option<String>,
}

/// A sandbox that runs, its `project` folder empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub id: SandboxId,
    /// When it ends by itself. `None`: it does not.
    pub ends_at: Option<Millis>,
    /// The longest life that its provider grants, where that is shorter than what was asked for.
    pub shortened_to: Option<Duration>,
}

/// A program to run. No shell: the first element of `argv` is the program.
#[derive(Debug, Clone)]
pub struct CommandSpec {
    /// Unique in its sandbox: by it a command is found again.
    pub name: String,
    pub argv: Vec<String>,
    /// The whole environment, besides what the machine itself sets (`HOME`, `PATH`, `TMPDIR`, `LANG`).
    pub env: Vec<(String, Secret)>,
    /// Name of a file in the scratch folder; absent: empty input.
    pub stdin: Option<String>,
    /// Name of a file in the scratch folder that takes the output, for bytes that are not lines.
    pub stdout: Option<String>,
    pub timeout: Duration,
}

/// A started command, as its provider calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandId(pub String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandStatus {
    Running,
    Ended(Exit),
    /// The machine or its supervisor is gone; how the command ended is not known.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    Stdout,
    Stderr,
}

/// Bytes a command wrote, in order within their kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub kind: OutputKind,
    pub bytes: Vec<u8>,
}

/// How a short command ended, with what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub exit: Exit,
    /// The first [`KEPT_BYTES`] of its standard output.
    pub stdout: Vec<u8>,
    /// The last [`KEPT_BYTES`] of everything it wrote.
    pub tail: Vec<u8>,
}

pub const KEPT_BYTES: usize = 64 * 1024;

/// What became of a sandbox that does not answer any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Running,
    /// Its time was over.
    TimedOut,
    /// Somebody stopped it: not this service, which asks about none it stopped.
    Stopped,
    Lost,
}

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// This machine does not do what it should; a few more tries can help.
    #[error("the sandbox cannot be used: {0}")]
    Faulty(String),
    /// The provider cannot be reached or has trouble; waiting can help.
    #[error("the sandbox cannot be reached: {0}")]
    Unavailable(String),
    /// The provider's limits are reached, of sandboxes or of calls.
    #[error("the provider of sandboxes has no place free: {message}")]
    Busy { wait: Duration, message: String },
    /// The provider refuses this instance: its token, its plan or its quota. The operator must act.
    #[error("{0}")]
    Denied(String),
    #[error("the sandbox is gone")]
    Gone,
    /// The disk image to start from is gone.
    #[error("the snapshot is gone")]
    SnapshotGone,
    #[error("the file has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("{0}")]
    Refused(String),
}

pub type Result<T> = std::result::Result<T, SandboxError>;

pub trait Sandbox: Send + Sync + std::fmt::Debug {
    /// One word for logs and the status comment.
    fn provider(&self) -> &'static str;

    /// Whether sandboxes can be had; a few words about how.
    fn check(&self) -> BoxFuture<'_, Result<String>>;

    fn create<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Result<Created>>;

    /// Another process may have used the sandbox: what is remembered of it is asked for anew.
    fn forget<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, ()>;

    /// The command of this name, if one was started.
    fn find<'a>(&'a self, id: &'a SandboxId, name: &'a str) -> BoxFuture<'a, Result<Option<CommandId>>>;

    /// Starts a command in the project folder, or finds the one of this name. Does not wait for it.
    fn start<'a>(&'a self, id: &'a SandboxId, command: &'a CommandSpec) -> BoxFuture<'a, Result<CommandId>>;

    /// Starts a short command, or finds the one of this name, and waits for its end.
    fn run<'a>(&'a self, id: &'a SandboxId, command: &'a CommandSpec) -> BoxFuture<'a, Result<Finished>>;

    fn status<'a>(&'a self, id: &'a SandboxId, command: &'a CommandId) -> BoxFuture<'a, Result<CommandStatus>>;

    /// All output of a command from its first byte, until it has ended and everything was read.
    fn output<'a>(&'a self, id: &'a SandboxId, command: &'a CommandId) -> BoxStream<'a, Result<Output>>;

    /// Ends a command and everything it started.
    fn kill<'a>(&'a self, id: &'a SandboxId, command: &'a CommandId) -> BoxFuture<'a, Result<()>>;

    /// Writes a file into the scratch folder, over one that is there.
    fn write_file<'a>(&'a self, id: &'a SandboxId, name: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>>;

    /// Reads a file of the scratch folder of at most `limit` bytes.
    fn read_file<'a>(&'a self, id: &'a SandboxId, name: &'a str, limit: u64) -> BoxFuture<'a, Result<Vec<u8>>>;

    /// Lengthens the sandbox's life. Gives its new end; `Refused`: its provider grants no more.
    fn extend<'a>(&'a self, id: &'a SandboxId, by: Duration) -> BoxFuture<'a, Result<Option<Millis>>>;

    /// Whether the provider can put headers on a sandbox's requests without the sandbox seeing them.
    fn can_inject(&self) -> bool;

    /// Replaces what the sandbox may reach, and the headers put on its requests.
    fn set_network<'a>(
        &'a self,
        id: &'a SandboxId,
        network: &'a Network,
        headers: &'a [Injection],
    ) -> BoxFuture<'a, Result<()>>;

    /// Where a port given at `create` is reached from outside.
    fn address<'a>(&'a self, id: &'a SandboxId, port: u16) -> BoxFuture<'a, Result<Option<String>>>;

    fn fate<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<Fate>>;

    /// Ends the sandbox and everything in it. Fine to call for one that is gone.
    fn stop<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<()>>;

    /// Whether other instances of this service may have sandboxes in the same place.
    fn is_shared(&self) -> bool;

    /// Whether the folders have the same paths in every sandbox: agents file what they remember by path.
    fn has_fixed_paths(&self) -> bool;

    /// Whether disk images can be made.
    fn can_snapshot(&self) -> bool;

    /// All sandboxes of this service there, those of other instances included.
    fn list(&self) -> BoxFuture<'_, Result<Vec<SandboxId>>>;

    /// Makes a disk image of a sandbox, which ends by it. Gives the image's id.
    fn snapshot<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<String>>;

    /// Removes a disk image. Fine to call for one that is gone.
    fn forget_snapshot<'a>(&'a self, snapshot: &'a str) -> BoxFuture<'a, Result<()>>;
}

/// What a short command wrote, as far as it is kept.
#[derive(Debug, Default)]
pub struct Kept {
    stdout: Vec<u8>,
    tail: Vec<u8>,
}

impl Kept {
    pub fn take(&mut self, kind: OutputKind, bytes: &[u8]) {
        if kind == OutputKind::Stdout {
            let room = KEPT_BYTES.saturating_sub(self.stdout.len()).min(bytes.len());
            self.stdout.extend_from_slice(&bytes[..room]);
        }
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT_BYTES)..]);
        if self.tail.len() > 2 * KEPT_BYTES {
            self.tail.drain(..self.tail.len() - KEPT_BYTES);
        }
    }

    pub fn finish(mut self, exit: Exit) -> Finished {
        self.tail.drain(..self.tail.len().saturating_sub(KEPT_BYTES));
        Finished { exit, stdout: self.stdout, tail: self.tail }
    }
}

/// Waits for a started command: `run` for a sandbox that knows no shorter way.
pub async fn follow(sandbox: &dyn Sandbox, id: &SandboxId, command: &CommandId) -> Result<Finished> {
    let mut kept = Kept::default();
    let mut output = sandbox.output(id, command);
    while let Some(piece) = output.next().await {
        let piece = piece?;
        kept.take(piece.kind, &piece.bytes);
    }
    match sandbox.status(id, command).await? {
        CommandStatus::Ended(exit) => Ok(kept.finish(exit)),
        CommandStatus::Running | CommandStatus::Lost => Err(SandboxError::Gone),
    }
}

/// Names become file names and arguments: nothing that could lead elsewhere.
pub fn checked_name(name: &str) -> Result<&str> {
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
