//! NDJSON streams of the API: cut into lines, lines into events.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::{Answer, ApiError, lost};
use super::wire::Command;
use crate::ports::sandbox::OutputKind;

/// A longer line is passed over: nothing that we ask for has one.
const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;

/// One line of a stream.
#[derive(Debug)]
pub(super) enum Event {
    Command(Command),
    Output(OutputKind, String),
    /// The session is over, or the API gives the stream up.
    Closed(String),
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default)]
    command: Option<Command>,
    #[serde(borrow, default)]
    stream: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// What a line says; `None` for words that are not known.
fn event(line: &[u8]) -> Answer<Option<Event>> {
    let broken = |error: serde_json::Error| ApiError::Unclear(format!("a line of a stream is broken: {error}"));
    let line: Line<'_> = serde_json::from_slice(line).map_err(broken)?;
    if let Some(command) = line.command {
        return Ok(Some(Event::Command(command)));
    }
    let (Some(stream), Some(data)) = (line.stream, line.data) else { return Ok(None) };
    let kind = match &*stream {
        "stdout" => OutputKind::Stdout,
        "stderr" => OutputKind::Stderr,
        "error" => return Ok(Some(Event::Closed(data.get().to_owned()))),
        _ => return Ok(None),
    };
    Ok(Some(Event::Output(kind, serde_json::from_str(data.get()).map_err(broken)?)))
}

/// Events of one answer, in order.
pub(super) struct Events {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    buffer: BytesMut,
    /// How much of the buffer holds no line end.
    searched: usize,
    /// Inside a line that is too long.
    passing_over: bool,
    broken_lines_pass: bool,
}

impl Events {
    /// Refuses an answer that is not such a stream.
    pub(super) fn of(answer: reqwest::Response) -> Answer<Self> {
        let kind = answer.headers().get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("application/x-ndjson")) {
            return Err(ApiError::Unclear(format!("Vercel sent {} for a stream", kind.unwrap_or("nothing"))));
        }
        let body = answer.bytes_stream().boxed();
        Ok(Self { body, buffer: BytesMut::new(), searched: 0, passing_over: false, broken_lines_pass: false })
    }

    /// Lines that cannot be read are left out, instead of ending the stream.
    pub(super) fn pass_over_broken_lines(&mut self, pass: bool) {
        self.broken_lines_pass = pass;
    }

    /// The next event; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Answer<Option<Event>> {
        loop {
            while let Some(line) = self.buffered_line() {
                match event(&line) {
                    Ok(Some(event)) => return Ok(Some(event)),
                    Ok(None) => {}
                    Err(_) if self.broken_lines_pass => {}
                    Err(error) => return Err(error),
                }
            }
            match self.body.next().await {
                Some(piece) => self.buffer.extend_from_slice(&piece.map_err(lost)?),
                // A last line without its end was cut off.
                None => return Ok(None),
            }
        }
    }

    /// As `next`, but `Ok(Err(Idle))` when nothing comes for a while.
    pub(super) async fn next_within(&mut self, idle: Duration) -> Answer<Result<Option<Event>, Idle>> {
        match tokio::time::timeout(idle, self.next()).await {
            Ok(event) => event.map(Ok),
            Err(_) => Ok(Err(Idle)),
        }
    }

    /// The next whole line that is not blank.
    fn buffered_line(&mut self) -> Option<BytesMut> {
        loop {
            let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                if self.searched > MAX_LINE_BYTES {
                    self.passing_over = true;
                    self.buffer.clear();
                    self.searched = 0;
                }
                return None;
            };
            let mut line = self.buffer.split_to(self.searched + end + 1);
            self.searched = 0;
            line.truncate(line.len() - 1);
            let is_part = std::mem::take(&mut self.passing_over);
            if !is_part && !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }
}

/// Nothing came for a while.
#[derive(Debug)]
pub(super) struct Idle;

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let body: Vec<reqwest::Result<Bytes>> = pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let body = futures::stream::iter(body).boxed();
        let mut events =
            Events { body, buffer: BytesMut::new(), searched: 0, passing_over: false, broken_lines_pass: false };
        let mut found = Vec::new();
        futures::executor::block_on(async {
            loop {
                match events.next().await {
                    Ok(Some(Event::Output(kind, text))) => found.push(format!("{kind:?} {text:?}")),
                    Ok(Some(Event::Command(command))) => found.push(format!("command {:?}", command.exit_code)),
                    Ok(Some(Event::Closed(_))) => found.push("closed".to_owned()),
                    Ok(None) => break,
                    Err(_) => {
                        found.push("broken".to_owned());
                        break;
                    }
                }
            }
        });
        found
    }

    #[test]
    fn lines_are_whole_wherever_the_pieces_end() {
        let text = "{\"command\":{\"id\":\"c\",\"exitCode\":null}}\n\n{\"stream\":\"stdout\",\"data\":\"é\\n\"}\n \
                    {\"stream\":\"news\",\"data\":1}\n{\"new\":1}\n{\"stream\":\"stderr\",\"data\":\"x\"}\n\
                    {\"stream\":\"error\",\"data\":{\"code\":\"sandbox_stopped\",\"message\":\"m\"}}\n{\"stre";
        for size in [1, 2, 3, 7, text.len()] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(
                events(&pieces),
                ["command None", "Stdout \"é\\n\"", "Stderr \"x\"", "closed"],
                "pieces of {size}"
            );
        }
    }

    #[test]
    fn a_line_that_is_no_json_breaks_the_stream() {
        assert_eq!(events(&[b"{\"stream\":\"stdout\",\"data\":\"a\"}\n{\"str\n"]), ["Stdout \"a\"", "broken"]);
    }

    #[test]
    fn a_line_without_end_is_passed_over() {
        let long = vec![b'x'; MAX_LINE_BYTES + 1];
        assert_eq!(events(&[&long, b"yyy\n{\"stream\":\"stdout\",\"data\":\"a\"}\n"]), ["Stdout \"a\""]);
    }
}
