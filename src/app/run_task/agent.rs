//! Fifth step: the agent works, and its output becomes the log as it comes.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::watch;

use super::RunContext;
use super::launch::start;
use super::patience::Stop;
use crate::domain::agent_stream::{AgentEnd, Exit, OutputFormat, Transcript};
use crate::domain::failure::Failure;
use crate::domain::gateway::errors::Reached;
use crate::domain::log_entry::{Line, lines_of, visible};
use crate::domain::redact::Redactor;
use crate::domain::review;
use crate::domain::run::{LogPosition, SandboxId, Spent};
use crate::domain::text::cut_marked;
use crate::ports::sandbox::{CommandId, CommandStatus, Output, OutputKind, SandboxError};

/// Lines wait this long for others to be stored with them.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
const FLUSH_LINES: usize = 2_000;
const FLUSH_BYTES: usize = 512 * 1024;
/// A line without end is cut here.
const MAX_LINE: usize = 1024 * 1024;
/// The checklist shows the passing time this often, slower the more tasks run.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);
const FIRST_PROGRESS: Duration = Duration::from_secs(15);
/// Of a review, which is read by us.
const MAX_REVIEW_BYTES: usize = 512 * 1024;
pub(super) const MAX_ANSWER_BYTES: usize = 32 * 1024;

pub(super) async fn work(ctx: &mut RunContext) -> Result<(), Stop> {
    let sandbox = ctx.sandbox()?;
    let command = match ctx.run.facts.command.clone() {
        Some(command) => CommandId(command),
        None => start(ctx, &sandbox).await?,
    };
    let mut reader = Reader::new(ctx, ctx.agent()?.output);
    let exit = follow(ctx, &sandbox, &command, &mut reader).await?;
    let end = reader.transcript.end(exit);
    reader.learn(ctx);
    let (stopped_by, spent) = close_account(ctx).await?;
    let facts = &mut ctx.run.facts;
    facts.spent = spent;
    // One that was refused a call and did its work all the same has done its work.
    facts.stopped_by = stopped_by.filter(|_| end != AgentEnd::Done);
    facts.agent_end = Some(end);
    Ok(())
}

/// From here on nothing of this run can be spent any more.
pub(super) async fn close_account(ctx: &RunContext) -> Result<(Option<Reached>, Option<Spent>), Stop> {
    ctx.patiently_in_store(|_| async move {
        let store = &ctx.app.store;
        let stopped_by = store.end_grants(&ctx.run.id, &ctx.task.id, ctx.app.clock.now()).await?;
        Ok((stopped_by, store.spent_by(&ctx.task.id).await?))
    })
    .await
}

/// Reads the output to its end. After a restart it is read from its first byte again, for what the
/// transcript remembers, but only lines beyond the stored position are logged.
pub(super) async fn follow(
    ctx: &mut RunContext,
    sandbox: &SandboxId,
    command: &CommandId,
    reader: &mut Reader,
) -> Result<Exit, Stop> {
    let app = std::sync::Arc::clone(&ctx.app);
    let mut output = app.sandbox.output(sandbox, command);
    let mut cancelled = ctx.cancelled.clone();
    let mut flush = tokio::time::interval(FLUSH_EVERY);
    flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first look comes early, for those who wait for it.
    let mut shown_at = tokio::time::Instant::now() + FIRST_PROGRESS - PROGRESS_EVERY;
    loop {
        tokio::select! {
            piece = output.next() => match piece {
                Some(Ok(piece)) => {
                    reader.take(&piece);
                    if reader.gives_up() {
                        stop(ctx, sandbox, command).await?;
                    }
                    if reader.is_full() {
                        reader.flush(ctx).await?;
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(error = %ctx.redacted(&error.to_string()), "the agent's output cannot be read");
                    // What was read so far stays in the log.
                    reader.finish();
                    reader.flush(ctx).await?;
                    return Err(after_unreadable_output(&error));
                }
                None => break,
            },
            Ok(by) = wanted_by(&mut cancelled), if ctx.run.facts.cancelled_by.is_none() => {
                ctx.run.facts.cancelled_by = Some(by);
                ctx.record(&[]).await?;
                stop(ctx, sandbox, command).await?;
            }
            _ = flush.tick(), if !reader.is_idle(ctx) => {
                reader.flush(ctx).await?;
                // Storing takes time, too: what has come meanwhile is read before the next.
                flush.reset();
            }
            () = tokio::time::sleep_until(shown_at + PROGRESS_EVERY) => {
                let every = look_in(ctx, reader).await;
                shown_at = tokio::time::Instant::now() + every - PROGRESS_EVERY;
            }
        }
    }
    reader.finish();
    // One that came in the last moment counts, too.
    let by = cancelled.borrow().clone();
    ctx.run.facts.cancelled_by = ctx.run.facts.cancelled_by.take().or(by);
    reader.flush(ctx).await?;
    exit_of(ctx, sandbox, command).await
}

/// How a command ended whose output is over.
async fn exit_of(ctx: &RunContext, sandbox: &SandboxId, command: &CommandId) -> Result<Exit, Stop> {
    ctx.patiently_in_sandbox(|| async move {
        match ctx.app.sandbox.status(sandbox, command).await? {
            CommandStatus::Ended(exit) => Ok(exit),
            CommandStatus::Running | CommandStatus::Lost => Err(Stop::SandboxLost.into()),
        }
    })
    .await
}

/// Shows where the agent is, and hears the requester. Gives how long it is until the next time: many at work share what
/// GitHub lets an installation write.
async fn look_in(ctx: &mut RunContext, reader: &Reader) -> Duration {
    let running = ctx.app.store.running(Some(ctx.task.thread.installation)).await.unwrap_or(1);
    reader.show(ctx).await;
    ctx.app.mind_thumb(&ctx.task).await;
    PROGRESS_EVERY.saturating_mul(u32::try_from(running).unwrap_or(1).max(1))
}

/// Who wants the agent stopped.
async fn wanted_by(cancelled: &mut watch::Receiver<Option<String>>) -> Result<String, watch::error::RecvError> {
    let by = cancelled.wait_for(Option::is_some).await?;
    Ok(by.clone().unwrap_or_default())
}

/// The stream has waited passing trouble out already: what is left is final.
fn after_unreadable_output(error: &SandboxError) -> Stop {
    match error {
        SandboxError::Gone => Stop::SandboxLost,
        SandboxError::Denied(_) => Stop::Failed(Failure::SandboxDenied),
        _ => Stop::Failed(Failure::SandboxFailed),
    }
}

/// Ends an agent that waits in vain, or that somebody stops. Where that fails, its time limit ends it.
async fn stop(ctx: &RunContext, sandbox: &SandboxId, command: &CommandId) -> Result<(), Stop> {
    ctx.still_held()?;
    tracing::info!("the agent is stopped");
    if let Err(error) = ctx.app.sandbox.kill(sandbox, command).await {
        tracing::warn!(error = %ctx.redacted(&error.to_string()), "the agent was not stopped");
    }
    Ok(())
}

/// Cuts bytes into lines, lines into events, events into log lines.
pub(super) struct Reader {
    pub transcript: Transcript,
    stdout: Cutter,
    stderr: Cutter,
    /// Lines that are not stored yet.
    lines: Vec<Line>,
    /// Their size.
    bytes: usize,
    /// The agent was ended because it waited in vain.
    is_stopped: bool,
    /// How far the log reached when this worker took the run.
    logged: LogPosition,
    redactor: Redactor,
}

/// Collects the bytes of one stream until a line is whole.
#[derive(Default)]
struct Cutter {
    partial: Vec<u8>,
    /// Bytes of whole lines so far.
    at: i64,
}

impl Cutter {
    /// Whole lines with the position behind each.
    fn cut(&mut self, bytes: &[u8]) -> Vec<(String, i64)> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() >= MAX_LINE {
                lines.extend(self.rest());
            }
        }
        lines
    }

    /// What is left without a line end.
    fn rest(&mut self) -> Option<(String, i64)> {
        if self.partial.is_empty() {
            return None;
        }
        self.at += i64::try_from(self.partial.len()).unwrap_or(i64::MAX);
        let line = String::from_utf8_lossy(&self.partial).trim_end_matches(['\n', '\r']).to_owned();
        self.partial.clear();
        Some((line, self.at))
    }
}

impl Reader {
    pub(super) fn new(ctx: &RunContext, format: OutputFormat) -> Self {
        Self {
            transcript: Transcript::new(format),
            stdout: Cutter::default(),
            stderr: Cutter::default(),
            lines: Vec::new(),
            bytes: 0,
            is_stopped: false,
            logged: ctx.run.log_at,
            redactor: ctx.redactor.clone(),
        }
    }

    fn take(&mut self, piece: &Output) {
        let lines = match piece.kind {
            OutputKind::Stdout => self.stdout.cut(&piece.bytes),
            OutputKind::Stderr => self.stderr.cut(&piece.bytes),
        };
        for (line, at) in lines {
            self.line(piece.kind, &line, at);
        }
    }

    /// Redacted before anything else looks at it: nothing later can cut a secret in two.
    fn line(&mut self, kind: OutputKind, line: &str, at: i64) {
        let is_painted = line.contains('\u{1b}') || line.contains("\\u001b") || line.contains("\\u001B");
        let line = &self.redactor.redact(line);
        let (events, logged) = match kind {
            OutputKind::Stdout => (self.transcript.stdout(line), self.logged.stdout),
            OutputKind::Stderr => (vec![self.transcript.stderr(line)], self.logged.stderr),
        };
        for event in events {
            if at > logged {
                let before = self.lines.len();
                // What is put together by taking sequences out is looked at again.
                let again = |line| if is_painted { self.redacted(line) } else { line };
                let lines: Vec<Line> = lines_of(&event).into_iter().map(again).collect();
                self.lines.extend(lines);
                self.bytes += self.lines[before..].iter().map(|line| line.text.len()).sum::<usize>();
            }
        }
    }

    fn redacted(&self, line: Line) -> Line {
        Line { text: self.redactor.redact(&line.text), ..line }
    }

    fn finish(&mut self) {
        for (kind, rest) in [(OutputKind::Stdout, self.stdout.rest()), (OutputKind::Stderr, self.stderr.rest())] {
            if let Some((line, at)) = rest {
                self.line(kind, &line, at);
            }
        }
    }

    fn position(&self) -> LogPosition {
        LogPosition { stdout: self.stdout.at.max(self.logged.stdout), stderr: self.stderr.at.max(self.logged.stderr) }
    }

    /// Whether nothing good can come of the agent any more; true once.
    fn gives_up(&mut self) -> bool {
        let is_new = self.transcript.is_hopeless() && !self.is_stopped;
        self.is_stopped |= is_new;
        is_new
    }

    /// Whether enough waits to be stored now.
    fn is_full(&self) -> bool {
        self.lines.len() >= FLUSH_LINES || self.bytes >= FLUSH_BYTES
    }

    /// Whether there is nothing new to store.
    fn is_idle(&self, ctx: &RunContext) -> bool {
        self.lines.is_empty() && self.position() == ctx.run.log_at
    }

    async fn flush(&mut self, ctx: &mut RunContext) -> Result<(), Stop> {
        if self.is_idle(ctx) {
            return Ok(());
        }
        self.bytes = 0;
        ctx.append(std::mem::take(&mut self.lines), self.position()).await
    }

    /// Shows in the status comment what the agent is at, and what it has spent.
    async fn show(&self, ctx: &mut RunContext) {
        let spent = ctx.app.store.spent_by(&ctx.task.id).await.ok().flatten();
        let facts = &mut ctx.run.facts;
        facts.spent = spent;
        facts.plan.clone_from(&self.transcript.plan);
        facts.calls = self.transcript.calls;
        facts.last_call.clone_from(&self.transcript.last_call);
        ctx.app.show_progress((&ctx.task, &ctx.run), ctx.inputs.as_ref(), &ctx.gate).await;
    }

    /// Keeps what the agent said of itself for the status comment and the pull request.
    fn learn(&self, ctx: &mut RunContext) {
        let text =
            self.transcript.text.as_deref().map(|text| cut_marked(&ctx.redacted(&visible(text)), MAX_ANSWER_BYTES));
        let whole = self.transcript.text.as_deref().filter(|_| ctx.task.options.is_review);
        let found = whole.and_then(|text| review::read(&cut_marked(&ctx.redacted(&visible(text)), MAX_REVIEW_BYTES)));
        let model = self.transcript.model.as_deref().map(|model| ctx.redacted(model));
        let facts = &mut ctx.run.facts;
        facts.agent_text = text;
        facts.found = found;
        facts.model = model.or(facts.model.take());
        facts.session = self.transcript.session.clone().or(facts.session.take());
        facts.usage = self.transcript.usage;
        facts.plan.clone_from(&self.transcript.plan);
        facts.calls = self.transcript.calls;
        facts.last_call = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_the_chunks_end() {
        let text = "one\ntwo é\r\n\nlast";
        for size in 1..text.len() {
            let mut cutter = Cutter::default();
            let mut lines: Vec<(String, i64)> =
                text.as_bytes().chunks(size).flat_map(|part| cutter.cut(part)).collect();
            lines.extend(cutter.rest());
            let expected = [("one", 4), ("two é", 12), ("", 13), ("last", 17)];
            assert_eq!(lines, expected.map(|(line, at)| (line.to_owned(), at)), "chunks of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut cutter = Cutter::default();
        let lines = cutter.cut(&vec![b'x'; MAX_LINE * 2 + 5]);
        assert!(!lines.is_empty());
        assert!(cutter.partial.len() <= MAX_LINE);
    }
}
