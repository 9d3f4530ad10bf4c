//! Real processes, without a shell, each in a process group of its own.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;

use super::state::new_id;
use super::validate::{self, bad};
use super::wire::{Answer, Asked, Lines, Outcome};
use super::{Inner, Knobs, files};

/// A command of a session.
pub struct Process {
    pub id: String,
    name: String,
    args: Vec<String>,
    cwd: String,
    session: String,
    started_at: i64,
    group: Option<Pid>,
    output: Mutex<Vec<(&'static str, String)>>,
    streams: AtomicUsize,
    /// Output made up when it is read, for load: no process, and nothing to remember.
    made_up: Option<MadeUp>,
    /// How many pieces of output there are, and how it ended: exit code and milliseconds.
    progress: watch::Sender<Progress>,
}

#[derive(Clone, Copy, Default)]
struct Progress {
    pieces: usize,
    ended: Option<(i32, u64)>,
}

impl Process {
    pub fn kill(&self, signal: i32) {
        let is_running = self.progress.borrow().ended.is_none();
        if let (true, Some(group), Ok(signal)) = (is_running, self.group, Signal::try_from(signal)) {
            let _ = killpg(group, signal);
        }
    }

    fn json(&self) -> Value {
        let ended = self.progress.borrow().ended;
        let mut value = json!({
            "id": self.id, "name": self.name, "args": self.args, "cwd": self.cwd, "sessionId": self.session,
            "exitCode": ended.map(|(code, _)| code), "startedAt": self.started_at, "aFieldOfTomorrow": "x",
        });
        if let Some((_, took)) = ended {
            value["durationMs"] = took.into();
        }
        value
    }

    fn piece(&self, at: usize) -> Option<(&'static str, String)> {
        match &self.made_up {
            Some(made_up) if at < self.progress.borrow().pieces => Some(("stdout", made_up.piece(at, self.started_at))),
            Some(_) => None,
            None => self.output.lock().unwrap().get(at).cloned(),
        }
    }

    fn push(&self, kind: &'static str, text: String) {
        self.output.lock().unwrap().push((kind, text));
        self.progress.send_modify(|progress| progress.pieces += 1);
    }
}

pub async fn run(inner: &Arc<Inner>, asked: &Asked, session: &str) -> Outcome {
    let order: validate::Run = validate::body(asked)?;
    if order.timeout.is_some_and(|timeout| !(100..=18_000_000).contains(&timeout)) {
        return Err(bad("timeout is out of range"));
    }
    let knobs = inner.knobs();
    let now = inner.now();
    let mut state = inner.state.lock().await;
    let sandbox = state.by_session(session)?;
    // One of this name runs or has run: its work would be done twice.
    let name = order.args.get(..2).filter(|args| args[0].ends_with("/.hireling/run"));
    if name.is_some_and(|name| sandbox.session.commands.iter().any(|one| one.args.get(..2) == Some(name))) {
        return Err(bad(&format!("{name:?} was started before")));
    }
    let process = start(&order, sandbox, now, &knobs)?;
    let over = sandbox.session.over.clone();
    sandbox.session.commands.push(Arc::clone(&process));
    drop(state);
    if !order.wait {
        return Ok(Answer::json(200, &json!({ "command": process.json() })));
    }
    let first = line(&json!({ "command": process.json() }));
    let output: Lines = if order.logs {
        follow(Arc::clone(&process), over.clone(), knobs, false)
    } else {
        let waiting = Arc::clone(&process);
        Box::pin(futures::stream::once(async move { wait(&waiting).await }).filter_map(|()| async { None }))
    };
    let last = futures::stream::once(async move {
        tokio::select! {
            biased;
            () = wait(&process) => Ok(line(&json!({ "command": process.json() }))),
            () = over.cancelled() => Err(std::io::Error::other("the session is over")),
        }
    });
    Ok(Answer::lines(Box::pin(futures::stream::iter([Ok(first)]).chain(output).chain(last))))
}

/// A command whose program is `made-up`, with so many pieces of so many lines, at so many pieces a
/// second; 0: all at once.
#[derive(Clone, Copy)]
struct MadeUp {
    pieces: usize,
    lines: usize,
    per_second: usize,
}

impl MadeUp {
    fn of(args: &[String]) -> Option<Self> {
        let at = args.iter().position(|arg| arg == "made-up")?;
        let number = |n: usize| args.get(at + n)?.parse().ok();
        Some(Self { pieces: number(1)?, lines: number(2)?, per_second: number(3)? })
    }

    /// Each line of 100 bytes tells when it was written.
    fn piece(self, at: usize, started_at: i64) -> String {
        let wait = (at * 1000).checked_div(self.per_second).unwrap_or(0);
        let written_at = started_at + i64::try_from(wait).unwrap();
        (0..self.lines).map(|n| format!("{written_at} {n:>85}\n", n = at * self.lines + n)).collect()
    }

    fn start(self, order: &validate::Run, session: &str, now: i64) -> Arc<Process> {
        let process = Arc::new(Process {
            id: new_id("cmd_", 40),
            name: order.command.clone(),
            args: order.args.clone(),
            cwd: "/vercel/sandbox/project".to_owned(),
            session: session.to_owned(),
            started_at: now,
            group: None,
            output: Mutex::default(),
            streams: AtomicUsize::new(0),
            made_up: Some(self),
            progress: watch::Sender::default(),
        });
        let writing = Arc::clone(&process);
        tokio::spawn(async move {
            if self.per_second == 0 {
                writing.progress.send_modify(|progress| progress.pieces = self.pieces);
            }
            let mut tick = tokio::time::interval(Duration::from_millis(1000 / self.per_second.max(1) as u64));
            while writing.progress.borrow().pieces < self.pieces {
                tick.tick().await;
                writing.progress.send_modify(|progress| progress.pieces += 1);
            }
            writing.progress.send_modify(|progress| progress.ended = Some((0, 1)));
        });
        process
    }
}

fn start(
    order: &validate::Run,
    sandbox: &super::state::Sandbox,
    now: i64,
    knobs: &Knobs,
) -> Result<Arc<Process>, Answer> {
    if let Some(made_up) = MadeUp::of(&order.args) {
        return Ok(made_up.start(order, &sandbox.session.id, now));
    }
    let root = sandbox.session.root.path();
    let cwd = order.cwd.clone().unwrap_or_else(|| "/vercel/sandbox".to_owned());
    let dir = files::mapped(root, None, &cwd)?;
    if !dir.is_dir() {
        return Err(bad("cwd is not there"));
    }
    let own = knobs.programs.as_deref().map(|dir| format!("{dir}:")).unwrap_or_default();
    let path = format!("{own}/usr/local/bin:/usr/bin:/bin");
    let mut command = tokio::process::Command::new(&order.command);
    command
        .args(&order.args)
        .current_dir(&dir)
        .env_clear()
        .env("PATH", path)
        .env("HOME", root.join(if order.sudo { "root" } else { "vercel" }))
        .env("USER", "ubuntu")
        .envs(knobs.authority.iter().map(|file| ("GIT_SSL_CAINFO", file)))
        .envs(&sandbox.env)
        .envs(&order.env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = command
        .spawn()
        .map_err(|_| Answer::error(400, "executable_not_found", &format!("{} is not there", order.command)))?;
    let process = Arc::new(Process {
        id: new_id("cmd_", 40),
        name: order.command.clone(),
        args: order.args.clone(),
        cwd,
        session: sandbox.session.id.clone(),
        started_at: now,
        group: child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw),
        output: Mutex::default(),
        streams: AtomicUsize::new(0),
        made_up: None,
        progress: watch::Sender::default(),
    });
    let out = tokio::spawn(drain(Arc::clone(&process), "stdout", child.stdout.take().unwrap(), knobs.clone()));
    let err = tokio::spawn(drain(Arc::clone(&process), "stderr", child.stderr.take().unwrap(), knobs.clone()));
    tokio::spawn(see_to_the_end(Arc::clone(&process), child, [out, err], order.timeout));
    Ok(process)
}

/// Waits for the end of a process, or of its time, and for all it wrote.
async fn see_to_the_end(
    process: Arc<Process>,
    mut child: tokio::process::Child,
    pipes: [tokio::task::JoinHandle<()>; 2],
    timeout: Option<u64>,
) {
    let started = tokio::time::Instant::now();
    let limit = timeout.map_or(Duration::from_secs(86_400), Duration::from_millis);
    let status = match tokio::time::timeout(limit, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            process.kill(9);
            child.wait().await
        }
    };
    // What the command left running holds no pipe open for ever.
    if tokio::time::timeout(Duration::from_secs(2), futures::future::join_all(pipes)).await.is_err() {
        process.kill(9);
    }
    let code = status.map_or(-1, |status| status.code().unwrap_or(128 + status.signal().unwrap_or(0)));
    let took = u64::try_from(started.elapsed().as_millis()).unwrap();
    process.progress.send_modify(|progress| progress.ended = Some((code, took)));
}

/// Reads a pipe to its end. Bytes of a character that is not whole yet are held back.
async fn drain(process: Arc<Process>, kind: &'static str, mut pipe: impl AsyncRead + Unpin, knobs: Knobs) {
    let mut held = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let read = pipe.read(&mut buffer).await.unwrap_or(0);
        held.extend_from_slice(&buffer[..read]);
        let whole = match std::str::from_utf8(&held) {
            Ok(_) => held.len(),
            Err(error) if error.error_len().is_none() && read > 0 => error.valid_up_to(),
            Err(_) => held.len(),
        };
        let text = String::from_utf8_lossy(&held[..whole]).into_owned();
        held.drain(..whole);
        match knobs.chunk_bytes {
            _ if text.is_empty() => {}
            None => process.push(kind, text),
            Some(size) => {
                let mut rest = text.as_str();
                while !rest.is_empty() {
                    let end = rest.ceil_char_boundary(size.min(rest.len()));
                    process.push(kind, rest[..end].to_owned());
                    rest = &rest[end..];
                }
            }
        }
        if read == 0 {
            return;
        }
    }
}

fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}

async fn wait(process: &Process) {
    let mut progress = process.progress.subscribe();
    let _ = progress.wait_for(|progress| progress.ended.is_some()).await;
}

struct Following {
    process: Arc<Process>,
    progress: watch::Receiver<Progress>,
    over: tokio_util::sync::CancellationToken,
    knobs: Knobs,
    at: usize,
    sent: usize,
    /// Nothing comes any more.
    is_closed: bool,
}

/// All output from the first byte on, until the command or its session ends.
fn follow(process: Arc<Process>, over: tokio_util::sync::CancellationToken, knobs: Knobs, may_cut: bool) -> Lines {
    let progress = process.progress.subscribe();
    // Each stream gets a little further than the one before it.
    let opened = process.streams.fetch_add(1, Ordering::SeqCst) + 1;
    let knobs = Knobs { cut_after: knobs.cut_after.filter(|_| may_cut).map(|bytes| bytes * opened), ..knobs };
    let state = Following { process, progress, over, knobs, at: 0, sent: 0, is_closed: false };
    Box::pin(futures::stream::unfold(state, next_line))
}

async fn next_line(mut state: Following) -> Option<(Result<Bytes, std::io::Error>, Following)> {
    loop {
        if state.is_closed || state.knobs.cut_after.is_some_and(|most| state.sent >= most) {
            return None;
        }
        let piece = state.process.piece(state.at);
        if let Some((kind, mut text)) = piece {
            state.at += 1;
            if let Some(most) = state.knobs.cut_after {
                // In the middle of a piece, if need be; then no more.
                state.is_closed = text.len() > most - state.sent;
                text.truncate(text.floor_char_boundary(most - state.sent));
                if text.is_empty() {
                    return None;
                }
            }
            state.sent += text.len();
            let mut bytes = line(&json!({ "stream": kind, "data": text })).to_vec();
            if state.knobs.noise {
                bytes.extend_from_slice(b"\n{\"stream\":\"weather\",\"data\":{\"sun\":true}}\n\n");
            }
            return Some((Ok(bytes.into()), state));
        }
        if state.progress.borrow().ended.is_some() && !state.over.is_cancelled() {
            return None;
        }
        if state.over.is_cancelled() {
            if state.knobs.silent_stop {
                return None;
            }
            state.is_closed = true;
            let error = json!({ "code": "sandbox_stopped", "message": "the session is over" });
            return Some((Ok(line(&json!({ "stream": "error", "data": error }))), state));
        }
        let over = state.over.clone();
        tokio::select! {
            changed = state.progress.changed() => if changed.is_err() {
                return None;
            },
            () = over.cancelled() => {}
        }
    }
}

fn find(sandbox: &super::state::Sandbox, id: &str) -> Result<Arc<Process>, Answer> {
    let found = sandbox.session.commands.iter().find(|one| one.id == id);
    found.cloned().ok_or_else(|| Answer::error(404, "not_found", "there is no such command"))
}

pub async fn list(inner: &Arc<Inner>, session: &str) -> Outcome {
    let mut state = inner.state.lock().await;
    let commands = &state.by_session(session)?.session.commands;
    let newest_first: Vec<Value> = commands.iter().rev().map(|one| one.json()).collect();
    Ok(Answer::json(200, &json!({ "commands": newest_first })))
}

pub async fn get(inner: &Arc<Inner>, asked: &Asked, session: &str, id: &str) -> Outcome {
    let process = find(inner.state.lock().await.by_session(session)?, id)?;
    if asked.query("wait") == Some("true") {
        wait(&process).await;
    }
    Ok(Answer::json(200, &json!({ "command": process.json() })))
}

pub async fn logs(inner: &Arc<Inner>, session: &str, id: &str) -> Outcome {
    let mut state = inner.state.lock().await;
    let sandbox = state.by_session(session)?;
    let process = find(sandbox, id)?;
    Ok(Answer::lines(follow(process, sandbox.session.over.clone(), inner.knobs(), true)))
}

pub async fn kill(inner: &Arc<Inner>, asked: &Asked, session: &str, id: &str) -> Outcome {
    let order: validate::Kill = validate::body(asked)?;
    let process = find(inner.state.lock().await.by_session(session)?, id)?;
    if process.progress.borrow().ended.is_some() {
        return Err(Answer::error(400, "bad_request", "the command has ended"));
    }
    process.kill(order.signal);
    Ok(Answer::json(200, &json!({ "command": process.json() })))
}
