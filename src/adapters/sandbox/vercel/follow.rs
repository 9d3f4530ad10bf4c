//! The output of a command. The API cuts long streams after minutes and begins each at the first
//! byte, so a stream is opened again and again and what was seen already is passed over.

use std::time::Duration;

use super::Vercel;
use super::stream::{Event, Events};
use crate::domain::run::SandboxId;
use crate::ports::sandbox::{CommandId, Output, OutputKind, Result, SandboxError};

/// So many silent times in a row, and the stream may be dead: it is opened anew.
const IDLE_TIMES: u32 = 5;
/// An ended command's output is complete when so many streams in a row bring nothing new, even if
/// none of them repeats everything.
const ENOUGH: u32 = 10;
/// Trouble of this length ends the following.
const PATIENCE: Duration = Duration::from_secs(3600);

pub(super) struct Follow<'a> {
    vercel: &'a Vercel,
    id: &'a SandboxId,
    command: &'a CommandId,
    /// Bytes given out, of each kind.
    seen: [u64; 2],
    stream: Option<Open>,
    /// Streams opened in a row that brought nothing new.
    fruitless: u32,
    /// Streams that broke in a row without bringing anything new: a line that breaks each of them is
    /// passed over.
    breaks: u32,
    has_ended: bool,
    good_at: tokio::time::Instant,
}

struct Open {
    events: Events,
    /// Bytes of this stream that were given out before.
    skip: [u64; 2],
    /// The command had ended before the stream was opened.
    is_last: bool,
    was_fruitful: bool,
    idle: u32,
}

fn index(kind: OutputKind) -> usize {
    match kind {
        OutputKind::Stdout => 0,
        OutputKind::Stderr => 1,
    }
}

impl<'a> Follow<'a> {
    pub(super) fn new(vercel: &'a Vercel, id: &'a SandboxId, command: &'a CommandId) -> Self {
        let good_at = tokio::time::Instant::now();
        Self { vercel, id, command, seen: [0, 0], stream: None, fruitless: 0, breaks: 0, has_ended: false, good_at }
    }

    pub(super) async fn next(mut self) -> Result<Option<(Output, Self)>> {
        loop {
            if self.fruitless >= ENOUGH && self.has_ended {
                tracing::warn!("the end of a command's output could not be made sure of");
                return Ok(None);
            }
            let Some(open) = &mut self.stream else {
                self.open().await?;
                continue;
            };
            match open.events.next_within(self.vercel.waits.idle).await {
                Ok(Ok(Some(Event::Output(kind, text)))) => {
                    open.idle = 0;
                    if let Some(bytes) = open.unseen(kind, text) {
                        self.seen[index(kind)] += bytes.len() as u64;
                        open.was_fruitful = true;
                        self.fruitless = 0;
                        self.breaks = 0;
                        return Ok(Some((Output { kind, bytes }, self)));
                    }
                }
                Ok(Ok(Some(Event::Command(_)))) => {}
                // One that was cut off ends like one that is complete: only a stream that repeats
                // everything and brings nothing new is the last.
                Ok(Ok(None)) if open.is_last && !open.was_fruitful && open.skip == [0, 0] => return Ok(None),
                Ok(Ok(None)) => self.close(),
                Ok(Ok(Some(Event::Closed(why)))) => {
                    tracing::debug!(why = %why, "Vercel closed a stream");
                    self.close();
                }
                Ok(Err(_)) => {
                    open.idle += 1;
                    let is_dead = open.is_last || open.idle >= IDLE_TIMES;
                    // An answer that does not come says nothing about the stream.
                    if is_dead || has_ended(self.vercel, self.id, self.command).await.unwrap_or(true) {
                        self.close();
                    }
                }
                Err(error) => {
                    tracing::debug!(error = %error, "a stream broke");
                    self.breaks += 1;
                    self.close();
                }
            }
        }
    }

    fn close(&mut self) {
        if self.stream.take().is_some_and(|open| !open.was_fruitful) {
            self.fruitless += 1;
        }
    }

    /// Asks first whether the command has ended: only then can the stream's end be the output's.
    async fn open(&mut self) -> Result<()> {
        if self.fruitless > 0 {
            let pause = Duration::from_millis(100 << self.fruitless.min(6));
            tokio::time::sleep(pause).await;
        }
        let is_last = match has_ended(self.vercel, self.id, self.command).await {
            Ok(has_ended) => has_ended,
            Err(error) => return self.bear(error),
        };
        self.good_at = tokio::time::Instant::now();
        // What was fruitless while it ran says nothing about its end.
        if is_last && !self.has_ended {
            self.fruitless = 0;
        }
        self.has_ended = is_last;
        match self.vercel.log_stream(self.id, self.command).await {
            Ok(mut events) => {
                events.pass_over_broken_lines(self.breaks > 1);
                self.stream = Some(Open { events, skip: self.seen, is_last, was_fruitful: false, idle: 0 });
                Ok(())
            }
            Err(error) => self.bear(error.into()),
        }
    }

    /// Passing trouble is waited out, for a while.
    fn bear(&mut self, error: SandboxError) -> Result<()> {
        // Refusals, too: a token can be replaced while an agent works on.
        let is_passing =
            matches!(error, SandboxError::Unavailable(_) | SandboxError::Busy { .. } | SandboxError::Denied(_));
        if !is_passing || self.good_at.elapsed() > PATIENCE {
            return Err(error);
        }
        tracing::warn!(error = %error, "the output of a command cannot be read; trying again");
        self.fruitless += 1;
        Ok(())
    }
}

async fn has_ended(vercel: &Vercel, id: &SandboxId, command: &CommandId) -> Result<bool> {
    Ok(vercel.command(id, command).await?.exit_code.is_some())
}

impl Open {
    /// The part of a piece that was not given out by an earlier stream.
    fn unseen(&mut self, kind: OutputKind, text: String) -> Option<Vec<u8>> {
        let skip = &mut self.skip[index(kind)];
        let mut bytes = text.into_bytes();
        let passed = (*skip).min(bytes.len() as u64);
        *skip -= passed;
        bytes.drain(..usize::try_from(passed).unwrap_or(bytes.len()));
        (!bytes.is_empty()).then_some(bytes)
    }
}
