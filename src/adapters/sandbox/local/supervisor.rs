//! The process that stands over one command: `hireling sandbox-command`. It takes its order from a
//! pipe, starts the command in a process group of its own, enforces the time limit, and records how
//! it ended. It goes on when the service that started it is gone.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use crate::domain::agent_stream::Exit;
use crate::ports::sandbox::OutputKind;

/// Between asking a command to stop and ending it hard.
const GRACE: Duration = Duration::from_secs(2);
/// Output beyond this ends the command: a disk is not endless.
const MAX_OUTPUT_BYTES: u64 = 512 * 1024 * 1024;

/// What to run. Holds secrets: it travels through a pipe and is never written down.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    pub run_dir: PathBuf,
    pub argv: Vec<String>,
    /// Options of bubblewrap, if the command is to be shut in.
    pub shut_in: Option<Vec<String>>,
    pub cwd: PathBuf,
    pub env: Vec<(String, String)>,
    pub stdin: Option<PathBuf>,
    pub stdout: Option<PathBuf>,
    pub timeout_ms: u64,
}

pub(super) fn output_name(kind: OutputKind) -> &'static str {
    match kind {
        OutputKind::Stdout => "stdout",
        OutputKind::Stderr => "stderr",
    }
}

/// Whether a supervisor has begun with the command, or has ended it already.
pub(super) fn was_begun(dir: &Path) -> bool {
    dir.join("pid").exists() || dir.join("exit").exists()
}

/// Whether its supervisor lives: it holds a lock as long as it does.
pub(super) fn is_alive(dir: &Path) -> bool {
    File::open(dir.join("lock")).is_ok_and(|lock| lock.try_lock().is_err())
}

pub(super) fn read_exit(dir: &Path) -> Option<Exit> {
    serde_json::from_slice(&std::fs::read(dir.join("exit")).ok()?).ok()
}

/// Runs as a process of its own until the command has ended. Answers one line on standard output:
/// `started`, `taken` (another supervisor has the command) or what went wrong.
pub fn supervise() -> std::io::Result<()> {
    let mut json = Vec::new();
    std::io::stdin().read_to_end(&mut json)?;
    let order: Order = serde_json::from_slice(&json).map_err(std::io::Error::other)?;
    let lock = File::create(order.run_dir.join("lock"))?;
    if lock.try_lock().is_err() || was_begun(&order.run_dir) {
        return answer("taken");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Listening comes first: a stop must not meet a supervisor that does not hear it.
        let stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        record(&order.run_dir, "pid", std::process::id().to_string().as_bytes())?;
        match spawn(&order) {
            Ok(child) => {
                // A service that died meanwhile does not listen; the command is watched all the same.
                let _ = answer("started");
                let exit = watch(&order, child, stop).await;
                record_exit(&order.run_dir, exit)
            }
            Err(error) => {
                record(&order.run_dir, "stderr", format!("{}: {error}\n", order.argv[0]).as_bytes())?;
                record_exit(&order.run_dir, Exit::Code(127))?;
                answer("started")
            }
        }
    })
}

fn answer(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Written aside and moved into place: a reader sees all of it or nothing.
fn record(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let aside = dir.join(format!("{name}.new"));
    std::fs::write(&aside, bytes)?;
    std::fs::rename(aside, dir.join(name))
}

fn record_exit(dir: &Path, exit: Exit) -> std::io::Result<()> {
    record(dir, "exit", &serde_json::to_vec(&exit).map_err(std::io::Error::other)?)
}

fn spawn(order: &Order) -> std::io::Result<Child> {
    let nothing = || std::io::Error::other("nothing to run");
    // Held open until the child has it.
    let options = order.shut_in.as_ref().map(|options| options_file(&order.run_dir, options)).transpose()?;
    let mut argv = order.argv.clone();
    if let Some(file) = &options {
        let lead = ["bwrap".to_owned(), "--args".to_owned(), file.as_raw_fd().to_string(), "--".to_owned()];
        argv.splice(0..0, lead);
    }
    let (program, arguments) = argv.split_first().ok_or_else(nothing)?;
    let stdin = match &order.stdin {
        Some(path) => Stdio::from(File::open(path)?),
        None => Stdio::null(),
    };
    let stdout = match &order.stdout {
        Some(path) => {
            // Never through a link that the agent has put there.
            let _ = std::fs::remove_file(path);
            Stdio::from(File::create_new(path)?)
        }
        None => Stdio::from(File::create(order.run_dir.join("stdout"))?),
    };
    Command::new(program)
        .args(arguments)
        .current_dir(&order.cwd)
        .env_clear()
        .envs(order.env.iter().map(|(name, value)| (name, value)))
        .stdin(stdin)
        .stdout(stdout)
        .stderr(File::create(order.run_dir.join("stderr"))?)
        .process_group(0)
        .spawn()
}

/// A file that the next child inherits, with one option after the other.
fn options_file(dir: &Path, options: &[String]) -> std::io::Result<File> {
    let path = dir.join("options");
    std::fs::write(&path, options.iter().flat_map(|option| [option.as_bytes(), b"\0"].concat()).collect::<Vec<u8>>())?;
    let file = File::open(path)?;
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(file)
}

/// Waits for the end of the command, of its time, or of our patience.
async fn watch(order: &Order, mut child: Child, mut stop: tokio::signal::unix::Signal) -> Exit {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let signal_group = |signal| group.map(|group| killpg(group, signal));
    let deadline = tokio::time::Instant::now() + Duration::from_millis(order.timeout_ms);
    let mut look = tokio::time::interval(Duration::from_secs(1));
    let mut ended_by: Option<Exit> = None;
    let mut hard_at = deadline;
    loop {
        tokio::select! {
            status = child.wait() => {
                // What the command left running ends with it.
                let _ = signal_group(Signal::SIGKILL);
                return ended_by.unwrap_or_else(|| status.map_or(Exit::Code(-1), exit_of));
            }
            () = tokio::time::sleep_until(hard_at), if ended_by.is_some() => {
                let _ = signal_group(Signal::SIGKILL);
                hard_at += GRACE;
            }
            () = tokio::time::sleep_until(deadline), if ended_by.is_none() => ended_by = Some(Exit::TimedOut),
            _ = stop.recv(), if ended_by.is_none() => ended_by = Some(Exit::Signal(Signal::SIGTERM as i32)),
            _ = look.tick(), if ended_by.is_none() => {
                if output_bytes(order) <= MAX_OUTPUT_BYTES {
                    continue;
                }
                ended_by = Some(Exit::Signal(Signal::SIGXFSZ as i32));
            }
        }
        if hard_at == deadline {
            let _ = signal_group(Signal::SIGTERM);
            hard_at = tokio::time::Instant::now() + GRACE;
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(-1),
    }
}

fn output_bytes(order: &Order) -> u64 {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
    let redirected = order.stdout.as_deref().map_or(0, size);
    redirected + size(&order.run_dir.join("stdout")) + size(&order.run_dir.join("stderr"))
}
