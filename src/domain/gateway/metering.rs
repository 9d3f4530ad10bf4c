//! Counts the tokens of one call from its answer, streamed or plain, while the answer passes through.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a vendor writes its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Anthropic's messages.
    Messages,
    /// OpenAI's responses.
    Responses,
    /// OpenAI's chat completions.
    ChatCompletions,
    /// Gemini's generated content.
    GenerateContent,
    /// Vercel AI Gateway's own protocol.
    LanguageModel,
}

/// Tokens of a call. `input` is what was not read from a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    /// Written to a cache that is kept for an hour.
    pub cache_write_long: u64,
}

impl Tokens {
    /// What is more here than there.
    pub fn beyond(&self, counted: &Self) -> Self {
        Self {
            input: self.input.saturating_sub(counted.input),
            output: self.output.saturating_sub(counted.output),
            cache_read: self.cache_read.saturating_sub(counted.cache_read),
            cache_write: self.cache_write.saturating_sub(counted.cache_write),
            cache_write_long: self.cache_write_long.saturating_sub(counted.cache_write_long),
        }
    }

    /// Everything that was read, from a cache or not.
    pub fn all_input(&self) -> u64 {
        self.input + self.cache_read + self.cache_write + self.cache_write_long
    }
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    pub model: String,
    pub tokens: Tokens,
    /// The answer was cut off before it told its usage: counted by its size.
    pub is_estimate: bool,
}

/// A line or an answer without end is not kept.
const MAX_KEPT: usize = 16 * 1024 * 1024;
/// A token has about four bytes.
const BYTES_PER_TOKEN: u64 = 4;

#[derive(Debug, Clone)]
pub struct Meter {
    wire: Wire,
    is_stream: bool,
    request_bytes: u64,
    answer_bytes: u64,
    model: String,
    /// The line that is not over yet, or the whole plain answer.
    kept: Vec<u8>,
    tokens: Tokens,
    is_told: bool,
}

/// An unpacker writes into it.
impl std::io::Write for Meter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Meter {
    /// `model`: as the request names it, until the answer says which it is.
    pub fn new(wire: Wire, model: &str, request_bytes: usize) -> Self {
        Self {
            wire,
            is_stream: false,
            request_bytes: request_bytes as u64,
            answer_bytes: 0,
            model: model.to_owned(),
            kept: Vec::new(),
            tokens: Tokens::default(),
            is_told: false,
        }
    }

    /// Takes the next bytes of the answer, unpacked.
    pub fn take(&mut self, bytes: &[u8]) {
        self.answer_bytes += bytes.len() as u64;
        if !self.is_stream {
            self.keep(bytes);
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            // Most lines come whole and need no copy.
            if self.kept.is_empty() && piece.ends_with(b"\n") {
                self.line(piece);
                continue;
            }
            self.keep(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.kept);
                self.line(&line);
                self.kept = line;
                self.kept.clear();
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_KEPT.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn line(&mut self, line: &[u8]) {
        let Some(data) = line.strip_prefix(b"data:") else { return };
        // The pieces of text between are the most, and tell nothing here.
        if !contains(data, b"sage") && !contains(data, b"\"model") {
            return;
        }
        if let Ok(value) = serde_json::from_slice::<Value>(data) {
            self.read(&value);
        }
    }

    /// Whether the answer has told what it used: nothing that matters comes after.
    pub fn is_told(&self) -> bool {
        self.is_stream && self.is_told
    }

    pub fn knows_input(&self) -> bool {
        self.tokens.all_input() > 0
    }

    /// What the answer has told so far, before its end.
    pub fn so_far(&self) -> Measured {
        Measured { model: self.model.clone(), tokens: self.tokens, is_estimate: false }
    }

    /// The kind of answer, once its headers are there.
    pub fn begin(&mut self, content_type: &str) {
        self.is_stream = content_type.starts_with("text/event-stream");
    }

    /// Called once, after the last bytes.
    pub fn finish(mut self) -> Measured {
        let rest = std::mem::take(&mut self.kept);
        if self.is_stream {
            self.line(&rest);
        } else if let Ok(value) = serde_json::from_slice::<Value>(&rest) {
            match &value {
                Value::Array(parts) => parts.iter().for_each(|part| self.read(part)),
                whole => self.read(whole),
            }
            self.is_told |= self.tokens != Tokens::default();
        }
        if !self.is_told {
            self.tokens.input = self.tokens.input.max(self.guessed_input());
            self.tokens.output = self.tokens.output.max(self.answer_bytes / BYTES_PER_TOKEN);
        }
        Measured { model: self.model, tokens: self.tokens, is_estimate: !self.is_told }
    }

    fn guessed_input(&self) -> u64 {
        if self.tokens.all_input() > 0 { 0 } else { self.request_bytes / BYTES_PER_TOKEN }
    }

    fn read(&mut self, value: &Value) {
        match self.wire {
            Wire::Messages => self.read_messages(value),
            Wire::Responses => self.read_responses(value.get("response").unwrap_or(value)),
            Wire::ChatCompletions => self.read_chat(value),
            Wire::GenerateContent => self.read_content(value),
            Wire::LanguageModel => self.read_language_model(value),
        }
    }

    fn note_model(&mut self, model: Option<&Value>) {
        if let Some(model) = model.and_then(Value::as_str).filter(|model| !model.is_empty()) {
            model.clone_into(&mut self.model);
        }
    }

    /// `message_start` tells the input, `message_delta` the output so far; both in the same words.
    fn read_messages(&mut self, value: &Value) {
        let message = value.get("message").unwrap_or(value);
        self.note_model(message.get("model"));
        let Some(usage) = message.get("usage") else { return };
        let update = |field: &mut u64, name: &str| {
            if let Some(count) = usage.get(name).and_then(Value::as_u64) {
                *field = count;
            }
        };
        update(&mut self.tokens.input, "input_tokens");
        update(&mut self.tokens.output, "output_tokens");
        update(&mut self.tokens.cache_read, "cache_read_input_tokens");
        if let Some(all) = usage.get("cache_creation_input_tokens").and_then(Value::as_u64) {
            let long = number(usage, "/cache_creation/ephemeral_1h_input_tokens").unwrap_or(0).min(all);
            (self.tokens.cache_write, self.tokens.cache_write_long) = (all - long, long);
        }
        self.is_told |= value.pointer("/delta/stop_reason").is_some_and(Value::is_string);
    }

    fn read_responses(&mut self, response: &Value) {
        self.note_model(response.get("model"));
        let Some(usage) = response.get("usage").filter(|usage| usage.is_object()) else { return };
        let cached = number(usage, "/input_tokens_details/cached_tokens").unwrap_or(0);
        self.tokens = Tokens {
            input: number(usage, "/input_tokens").unwrap_or(0).saturating_sub(cached),
            output: number(usage, "/output_tokens").unwrap_or(0),
            cache_read: cached,
            ..Tokens::default()
        };
        self.is_told = true;
    }

    fn read_chat(&mut self, value: &Value) {
        self.note_model(value.get("model"));
        let Some(usage) = value.get("usage").filter(|usage| usage.is_object()) else { return };
        let cached = number(usage, "/prompt_tokens_details/cached_tokens").unwrap_or(0);
        self.tokens = Tokens {
            input: number(usage, "/prompt_tokens").unwrap_or(0).saturating_sub(cached),
            output: number(usage, "/completion_tokens").unwrap_or(0),
            cache_read: cached,
            ..Tokens::default()
        };
        self.is_told = true;
    }

    /// Each piece tells the sums so far; the one with a reason to finish is the last.
    fn read_content(&mut self, value: &Value) {
        self.note_model(value.get("modelVersion"));
        let Some(usage) = value.get("usageMetadata") else { return };
        let count = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
        let cached = count("cachedContentTokenCount");
        self.tokens = Tokens {
            input: (count("promptTokenCount") + count("toolUsePromptTokenCount")).saturating_sub(cached),
            output: count("candidatesTokenCount") + count("thoughtsTokenCount"),
            cache_read: cached,
            ..Tokens::default()
        };
        self.is_told |= value.pointer("/candidates/0/finishReason").is_some();
    }

    /// Version 2 of the protocol has numbers, version 3 groups of them.
    fn read_language_model(&mut self, value: &Value) {
        let Some(usage) = value.get("usage").filter(|usage| usage.is_object()) else { return };
        let count = |flat: &str, nested: &str| number(usage, flat).or_else(|| number(usage, nested)).unwrap_or(0);
        let cached = count("/cachedInputTokens", "/inputTokens/cacheRead");
        let written = number(usage, "/inputTokens/cacheWrite").unwrap_or(0);
        self.tokens = Tokens {
            input: count("/inputTokens", "/inputTokens/total").saturating_sub(cached + written),
            output: count("/outputTokens", "/outputTokens/total"),
            cache_read: cached,
            cache_write: written,
            cache_write_long: 0,
        };
        self.is_told = true;
    }
}

fn number(value: &Value, path: &str) -> Option<u64> {
    value.pointer(path).and_then(Value::as_u64)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = r#"event: message_start
data: {"type":"message_start","message":{"model":"claude-sonnet-4-5","usage":{"input_tokens":12,"cache_creation_input_tokens":30,"cache_read_input_tokens":40,"cache_creation":{"ephemeral_1h_input_tokens":10},"output_tokens":1}}}

event: content_block_delta
data: {"type":"content_block_delta","delta":{"text":"Hello"}}

data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":55}}
"#;

    fn measured(wire: Wire, kind: &str, text: &str, chunk: usize) -> Measured {
        let mut meter = Meter::new(wire, "asked", 400);
        meter.begin(kind);
        text.as_bytes().chunks(chunk).for_each(|part| meter.take(part));
        meter.finish()
    }

    #[test]
    fn a_stream_counts_the_same_wherever_its_pieces_end() {
        for chunk in [1, 7, 64, 10_000] {
            let measured = measured(Wire::Messages, "text/event-stream; charset=utf-8", MESSAGES, chunk);
            assert_eq!(measured.model, "claude-sonnet-4-5");
            let tokens = Tokens { input: 12, output: 55, cache_read: 40, cache_write: 20, cache_write_long: 10 };
            assert_eq!((measured.tokens, measured.is_estimate), (tokens, false));
        }
    }

    /// Wire, content type, answer, and what it comes to: model, input, output, read from a cache.
    type Case = (Wire, &'static str, &'static str, (&'static str, u64, u64, u64));

    const SSE: &str = "text/event-stream";
    const JSON: &str = "application/json";
    #[rustfmt::skip]
    const CASES: [Case; 8] = [
        (Wire::Responses, SSE, r#"data: {"type":"response.completed","response":{"model":"gpt-5.5","usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":60},"output_tokens":9}}}"#, ("gpt-5.5", 40, 9, 60)),
        (Wire::Responses, JSON, r#"{"model":"gpt-5.5","usage":{"input_tokens":100,"output_tokens":9}}"#, ("gpt-5.5", 100, 9, 0)),
        (Wire::ChatCompletions, SSE, "data: {\"model\":\"gpt-5.4\",\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":3}}\n\ndata: [DONE]\n", ("gpt-5.4", 8, 3, 0)),
        (Wire::GenerateContent, SSE, r#"data: {"candidates":[{"finishReason":"STOP"}],"modelVersion":"gemini-2.5-pro","usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":4,"thoughtsTokenCount":2,"cachedContentTokenCount":5}}"#, ("gemini-2.5-pro", 5, 6, 5)),
        (Wire::GenerateContent, JSON, r#"[{"usageMetadata":{"promptTokenCount":10}},{"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":4}}]"#, ("asked", 10, 4, 0)),
        (Wire::LanguageModel, SSE, r#"data: {"type":"finish","usage":{"inputTokens":10,"outputTokens":4,"cachedInputTokens":3}}"#, ("asked", 7, 4, 3)),
        (Wire::LanguageModel, JSON, r#"{"usage":{"inputTokens":{"total":10,"cacheRead":3},"outputTokens":{"total":4}}}"#, ("asked", 7, 4, 3)),
        (Wire::Messages, JSON, r#"{"model":"claude","usage":{"input_tokens":7,"output_tokens":2}}"#, ("claude", 7, 2, 0)),
    ];

    #[test]
    fn each_vendors_answer_is_understood() {
        for (wire, kind, text, (model, input, output, cache_read)) in CASES {
            let measured = measured(wire, kind, text, 10);
            let tokens = Tokens { input, output, cache_read, ..Tokens::default() };
            let found = (measured.model.as_str(), measured.tokens, measured.is_estimate);
            assert_eq!(found, (model, tokens, false), "{text}");
        }
    }

    #[test]
    fn an_answer_that_was_cut_off_is_counted_by_its_size() {
        let cut = &MESSAGES[..MESSAGES.find("data: {\"type\":\"message_delta\"").unwrap()];
        let known = measured(Wire::Messages, "text/event-stream", cut, 50);
        assert!(known.is_estimate && known.tokens.input == 12 && known.tokens.output > 50, "{known:?}");
        let silent = measured(Wire::Responses, "text/event-stream", "data: {\"delta\":\"x\"}\n", 50);
        assert!(silent.is_estimate && silent.tokens.input == 100, "{silent:?}");
    }
}
