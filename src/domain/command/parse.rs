//! From the text of a comment to commands.

use super::markdown::quoted_ranges;
use super::options::{OptionName, Options, is_name};
use super::{Command, CommandError, CommandErrorKind, Verb, Vocabulary, agent_name};
use crate::domain::text::{cut, nearest};

/// Commands are looked for in this much of a text; what follows belongs to the last request.
const SEARCHED_BYTES: usize = 64 * 1024;
/// English words that are one slip away from an agent's name and still mean themselves.
const PLAIN_WORDS: [&str; 8] = ["clause", "code", "codec", "codecs", "coded", "codes", "cursors", "cursory"];

/// A cheap look, without parsing: false means that `parse` would find nothing. An empty handle is
/// one that is not known yet: then any mention could be ours.
pub fn could_hold_a_command(text: &str, handle: &str) -> bool {
    let searched = cut(text, SEARCHED_BYTES).as_bytes();
    let holds = |word: &[u8]| searched.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word));
    holds(b"/agent") || holds(format!("@{handle}").as_bytes())
}

/// All commands of a text, in order; a faulty one is an error in its place.
pub fn parse(text: &str, words: &Vocabulary) -> Vec<Result<Command, CommandError>> {
    if !could_hold_a_command(text, &words.handle) {
        return Vec::new();
    }
    let searched = cut(text, SEARCHED_BYTES);
    let quoted = quoted_ranges(searched);
    let mut starts: Vec<(usize, usize)> = Vec::new();
    let mut offset = 0;
    for line in searched.split_inclusive('\n') {
        let blanks = line.len() - line.trim_start_matches(' ').len();
        let at = offset + blanks;
        if blanks <= 3
            && let Some(length) = call_length(line.get(blanks..).unwrap_or(""), &words.handle)
            && !quoted.iter().any(|range| range.contains(&at))
        {
            starts.push((at, length));
        }
        offset += line.len();
    }
    let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([text.len()]);
    starts
        .iter()
        .zip(ends)
        .filter_map(|((start, length), end)| Some((text.get(*start..end)?, *length)))
        .map(|(body, length)| Reader { words, body, at: length }.command())
        .collect()
}

/// Length of `/agent` or `@handle` at the start of `line`, if it stands there as a whole word.
fn call_length(line: &str, handle: &str) -> Option<usize> {
    let call = ["/agent".to_owned(), format!("@{handle}")]
        .into_iter()
        .filter(|call| call.len() > 1)
        .find(|call| line.get(..call.len()).is_some_and(|head| head.eq_ignore_ascii_case(call)))?;
    let next = line.get(call.len()..)?.chars().next();
    next.is_none_or(char::is_whitespace).then_some(call.len())
}

/// Walks over one command. `body` starts with the call and runs to the next one.
struct Reader<'a> {
    words: &'a Vocabulary,
    body: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn command(mut self) -> Result<Command, CommandError> {
        let agents = self.agents()?;
        let verb = match self.peek() {
            Some((_, word)) if Verb::parse(word).is_some() => {
                self.take();
                Verb::parse(word).unwrap_or(Verb::Work)
            }
            _ => Verb::Work,
        };
        let options = self.options()?;
        let request = self.body.get(self.at..).unwrap_or("").trim().to_owned();
        Ok(Command { agents, verb, options, request })
    }

    /// The next word of the command's line and where it starts.
    fn peek(&self) -> Option<(usize, &'a str)> {
        let line_end = self.body.find('\n').unwrap_or(self.body.len());
        let rest = self.body.get(self.at..line_end)?;
        let start = self.at + (rest.len() - rest.trim_start().len());
        let rest = self.body.get(start..line_end)?;
        let word = rest.split_whitespace().next()?;
        Some((start, word))
    }

    fn take(&mut self) {
        if let Some((start, word)) = self.peek() {
            self.at = start + word.len();
        }
    }

    fn agents(&mut self) -> Result<Vec<String>, CommandError> {
        let Some((start, written)) = self.peek() else { return Ok(Vec::new()) };
        // "/agent claude, fix this" and "/agent claude: fix this" mean the agent.
        let word = written.trim_end_matches([',', ':']);
        let names: Vec<String> = word.split(',').map(agent_name).collect();
        let known = |name: &String| self.words.agents.contains(name);
        if names.iter().all(known) {
            self.at = start + written.len();
            let mut distinct: Vec<String> = Vec::new();
            for name in names {
                if !distinct.contains(&name) {
                    distinct.push(name);
                }
            }
            return Ok(distinct);
        }
        let is_list = names.len() > 1 && names.iter().any(known);
        let mut column = start;
        for (written, name) in word.split(',').zip(&names) {
            if !known(name) && (is_list || self.looks_like_an_agent(name)) {
                return Err(self.unknown_agent(column, written));
            }
            column += written.len() + 1;
        }
        Ok(Vec::new())
    }

    /// A first word one slip away from an agent's name was meant as one.
    fn looks_like_an_agent(&self, word: &str) -> bool {
        is_name(word)
            && word.len() >= 4
            && Verb::parse(word).is_none()
            && !PLAIN_WORDS.contains(&word)
            && self.words.agents.iter().any(|agent| crate::domain::text::distance(word, agent) == 1)
    }

    fn unknown_agent(&self, at: usize, name: &str) -> CommandError {
        let known = self.words.agents.iter().map(String::as_str);
        let nearest = nearest(&name.to_ascii_lowercase(), known);
        self.error(
            CommandErrorKind::UnknownAgent,
            (at, name.len()),
            format!("There is no agent named {} here.", shown(name)),
            nearest.map(ToOwned::to_owned),
        )
    }

    fn options(&mut self) -> Result<Options, CommandError> {
        let mut options = Options::default();
        while let Some((start, word)) = self.peek() {
            let Some(written) = word.strip_prefix("--") else { break };
            self.at = start + word.len();
            if written.is_empty() {
                break;
            }
            self.option(&mut options, (start, word), written)?;
        }
        Ok(options)
    }

    fn option(
        &mut self,
        options: &mut Options,
        (start, word): (usize, &str),
        written: &str,
    ) -> Result<(), CommandError> {
        let bad = CommandErrorKind::BadOption;
        let (name, inline) = match written.split_once('=') {
            Some((name, _)) => (name, Some(start + 2 + name.len() + 1)),
            None => (written, None),
        };
        let Some(option) = OptionName::parse(name) else {
            let nearest = nearest(&name.to_ascii_lowercase(), OptionName::ALL.iter().map(|(known, _)| *known));
            let message = format!("There is no option {}.", shown(&format!("--{name}")));
            return Err(self.error(bad, (start, name.len() + 2), message, nearest.map(|n| format!("--{n}"))));
        };
        if !option.takes_value() {
            if inline.is_some() {
                let message = format!("--{name} takes no value.");
                return Err(self.error(bad, (start, word.len()), message, Some(format!("--{name}"))));
            }
            return options
                .set(option, "")
                .map_err(|_| self.error(bad, (start, word.len()), format!("--{name} is not possible."), None));
        }
        if let Some(value_at) = inline {
            self.at = value_at;
        }
        let Some((value_at, length, value)) = self.value(inline.is_some()) else {
            let message = format!("--{name} needs {}.", option.help());
            return Err(self.error(bad, (start, word.len()), message, None));
        };
        options.set(option, &value).map_err(|expected| {
            let message = format!("--{name} needs {expected}, not {}.", shown(&value));
            self.error(bad, (value_at, length), message, None)
        })
    }

    /// A bare or quoted value: where it starts, how long it is as written, what it says.
    fn value(&mut self, glued: bool) -> Option<(usize, usize, String)> {
        let (start, word) = self.peek()?;
        if glued && start != self.at {
            return None;
        }
        let quote = word.chars().next().filter(|c| matches!(c, '\'' | '"'));
        if let Some(quote) = quote {
            let line_end = self.body.find('\n').unwrap_or(self.body.len());
            let inner = self.body.get(start + 1..line_end)?;
            if let Some(length) = inner.find(quote) {
                self.at = start + length + 2;
                return Some((start, length + 2, inner.get(..length)?.to_owned()));
            }
        }
        if word.starts_with("--") {
            return None;
        }
        self.at = start + word.len();
        Some((start, word.len(), word.to_owned()))
    }

    fn error(
        &self,
        kind: CommandErrorKind,
        (at, length): (usize, usize),
        message: String,
        suggestion: Option<String>,
    ) -> CommandError {
        let line = self.body.lines().next().unwrap_or("");
        let chars = |range: std::ops::Range<usize>| line.get(range).map_or(0, |part| part.chars().count());
        let column = chars(0..at.min(line.len()));
        let width = chars(at.min(line.len())..(at + length).min(line.len()));
        // A long line is shown from a little before the fault.
        let skipped = column.saturating_sub(40);
        let shown: String = line.chars().skip(skipped).take(100).collect();
        let (lead, column) = if skipped > 0 { ("…", column - skipped + 1) } else { ("", column) };
        CommandError { kind, message, line: format!("{lead}{shown}"), column, width: width.min(60), suggestion }
    }
}

fn shown(text: &str) -> String {
    format!("“{}”", crate::domain::text::cut_marked(text, 60))
}

#[cfg(test)]
mod tests;
