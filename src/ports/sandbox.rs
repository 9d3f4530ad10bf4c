//! A disposable machine for one run. Everything can be asked for twice: `create` finds the sandbox
//! of the same name, `start` finds the command of the same name, so a restarted service re-attaches.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::domain::agent_stream::Exit;
use crate::domain::secret::Secret;

/// Identity of a sandbox, enough to find it again after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxId(pub String);

#[derive(Debug, Clone)]
pub struct SandboxSpec {
    /// Unique; a second `create` with it gives the same sandbox.
    pub name: String,
    /// The sandbox ends by itself after this time.
    pub lifetime: Duration,
}

/// Folders inside the sandbox, as absolute paths there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    pub home: String,
    /// The checkout. Exists and is empty in a new sandbox.
    pub project: String,
    /// For prompts, lists and results: outside the checkout.
    pub scratch: String,
}

/// A program to run. No shell: the first element of `argv` is the program.
#[derive(Debug, Clone)]
pub struct CommandSpec {
    /// Unique in its sandbox; names the command for `start`, `status` and `output`.
    pub name: String,
    pub argv: Vec<String>,
    /// The whole environment, besides `HOME`, `PATH`, `TMPDIR` and `LANG`.
    pub env: Vec<(String, Secret)>,
    /// Name of a file in the scratch folder; absent: empty input.
    pub stdin: Option<String>,
    /// Name of a file in the scratch folder that takes the output, for bytes that are not lines.
    pub stdout: Option<String>,
    pub timeout: Duration,
}

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

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The service behind it cannot be used now; trying again can help.
    #[error("the sandbox cannot be reached: {0}")]
    Unavailable(String),
    #[error("the sandbox is gone")]
    Gone,
    #[error("the file has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("{0}")]
    Refused(String),
}

impl SandboxError {
    /// Trying again can help only when the service, not the work, was at fault.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

pub type Result<T> = std::result::Result<T, SandboxError>;

pub trait Sandbox: Send + Sync + std::fmt::Debug {
    /// One word for logs and the status comment.
    fn provider(&self) -> &'static str;

    fn create<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Result<SandboxId>>;

    fn paths(&self, id: &SandboxId) -> Paths;

    /// Starts a command in the project folder, or finds the one of this name. Does not wait for it.
    fn start<'a>(&'a self, id: &'a SandboxId, command: &'a CommandSpec) -> BoxFuture<'a, Result<()>>;

    fn status<'a>(&'a self, id: &'a SandboxId, command: &'a str) -> BoxFuture<'a, Result<CommandStatus>>;

    /// All output of a command from its first byte, until it has ended and everything was read.
    fn output<'a>(&'a self, id: &'a SandboxId, command: &'a str) -> BoxStream<'a, Result<Output>>;

    /// Ends a command and everything it started.
    fn kill<'a>(&'a self, id: &'a SandboxId, command: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Writes a file into the scratch folder, over one that is there.
    fn write_file<'a>(&'a self, id: &'a SandboxId, name: &'a str, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>>;

    /// Reads a file of the scratch folder of at most `limit` bytes.
    fn read_file<'a>(&'a self, id: &'a SandboxId, name: &'a str, limit: u64) -> BoxFuture<'a, Result<Vec<u8>>>;

    /// Ends the sandbox and everything in it. Fine to call for one that is gone.
    fn stop<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<()>>;

    /// Sandboxes that this instance left.
    fn list(&self) -> BoxFuture<'_, Result<Vec<SandboxId>>>;
}
