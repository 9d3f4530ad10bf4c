//! Foreign text on its way into a comment, a pull request or a commit message (threats T03, T23,
//! T24): it must not mention anyone, link or close anything, show images or break out of its place.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use regex::Regex;
use std::sync::LazyLock;

use super::text::cut_marked;

/// GitHub refuses a comment, issue or pull request body above this many characters.
pub const MAX_BODY_CHARS: usize = 65_536;

/// Breaks a word for GitHub without changing how it looks.
const BREAK: char = '\u{200B}';

fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS
}

/// `\n` is the only line end that stays, and no control character does: `\r` alone ends a line for
/// Markdown, but not for those who look for lines.
fn plain_lines(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()).collect()
}

/// A code block that nothing inside can close.
pub fn fenced(text: &str) -> String {
    let text = plain_lines(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}", text.trim_end_matches('\n'))
}

/// Lines that a reader can put in the place of those that a comment is about; each with its end.
pub fn suggestion(lines: &str) -> String {
    let longest = lines.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}suggestion\n{lines}{fence}")
}

/// One line as an inline code span that nothing inside can close.
pub fn code(text: &str) -> String {
    let line = text.replace(['\n', '\r'], " ");
    let line = line.trim();
    let longest = line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let ticks = "`".repeat(longest + 1);
    let pad = if line.starts_with('`') || line.ends_with('`') || line.is_empty() { " " } else { "" };
    format!("{ticks}{pad}{line}{pad}{ticks}")
}

/// One line of foreign words inside our own sentence: no formatting, no mention, no link.
pub fn inline(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = String::with_capacity(line.len());
    for c in broken_references(&line).chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '!' | '|' | '~' | '&') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A title: plain words, as a title is never rendered as Markdown, but its references count.
pub fn title(text: &str, max: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    cut_marked(&broken_references(&line), max)
}

/// Several paragraphs of an agent, as a quote that keeps lists, emphasis and code but nothing
/// that acts. What cannot be made safe that way is shown as a code block.
pub fn quoted(text: &str, max: usize) -> String {
    let text = cut_marked(plain_lines(text).trim(), max);
    let quote = |text: &str| {
        let lines = text.split('\n').map(|line| format!("> {line}"));
        lines.map(|line| line.trim_end_matches([' ', '\t']).to_owned()).collect::<Vec<_>>().join("\n")
    };
    let safe = quote(&without_actions(&text));
    // What counts is how the finished quote reads, and that it ends where it ends.
    let page = format!("{safe}\n\nafter");
    let closed = Parser::new_ext(&page, options())
        .into_offset_iter()
        .filter(|(event, _)| matches!(event, Event::Start(Tag::Paragraph)))
        .last()
        .is_some_and(|(_, range)| page.get(range).is_some_and(|last| last.trim() == "after"));
    if has_actions(&safe) || !closed { fenced(&text) } else { safe }
}

/// Cuts a finished body to what GitHub takes; `link` tells where the rest is.
pub fn capped(body: &str, link: &str) -> String {
    if body.chars().count() <= MAX_BODY_CHARS {
        return body.to_owned();
    }
    let tail = format!("\n\n[…] cut here; the rest is in {link}");
    let kept: String = body.chars().take(MAX_BODY_CHARS - tail.chars().count()).collect();
    format!("{kept}{tail}")
}

/// `@name`, `#1`, `GH-1`, `://`, `www.`, commit hashes and leading `/words`, each broken by an
/// invisible character so that GitHub sees no reference.
fn broken_references(text: &str) -> String {
    static SHAPES: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)@|#\d|\bgh-\d|://|\bwww\.|\b[0-9a-f]{7,40}\b|&#")
            .unwrap_or_else(|error| unreachable!("a constant pattern: {error}"))
    });
    let broken = SHAPES.replace_all(text, |found: &regex::Captures<'_>| {
        let found = &found[0];
        let lower = found.to_ascii_lowercase();
        let at = match lower.as_str() {
            "&#" => return format!("&{BREAK}#{BREAK}"),
            "://" | "@" => 1,
            _ if lower.starts_with('#') => 1,
            _ if lower.starts_with("gh-") || lower.starts_with("www") => 3,
            // A hash, of which every piece has to be too short to be one.
            _ => {
                let pieces: Vec<&str> =
                    found.as_bytes().chunks(6).filter_map(|piece| str::from_utf8(piece).ok()).collect();
                return pieces.join(&BREAK.to_string());
            }
        };
        let (head, tail) = found.split_at(at);
        format!("{head}{BREAK}{tail}")
    });
    let mut out = String::with_capacity(broken.len());
    for line in broken.split_inclusive('\n') {
        let body = line.trim_start_matches([' ', '\t', '>']);
        if body.starts_with('/') {
            let lead = line.len() - body.len();
            out.push_str(&line[..lead]);
            out.push(BREAK);
            out.push_str(body);
        } else {
            out.push_str(line);
        }
    }
    out
}

/// Outside of code: no HTML, no links or images, no references.
fn without_actions(text: &str) -> String {
    let mut code: Vec<std::ops::Range<usize>> = Vec::new();
    for (event, range) in Parser::new_ext(text, options()).into_offset_iter() {
        if matches!(event, Event::Code(_) | Event::Start(Tag::CodeBlock(_))) {
            code.push(range);
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for range in code {
        if range.start >= at {
            out.push_str(&defused(text.get(at..range.start).unwrap_or("")));
            out.push_str(text.get(range.clone()).unwrap_or(""));
            at = range.end;
        }
    }
    out.push_str(&defused(text.get(at..).unwrap_or("")));
    out
}

fn defused(prose: &str) -> String {
    let mut out = String::with_capacity(prose.len());
    for c in broken_references(prose).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '[' | ']' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

/// Whether rendered text would mention, link, embed or run anything.
pub fn has_actions(markdown: &str) -> bool {
    static ACTIVE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)@[a-z0-9]|#\d|\bgh-\d|://|\bwww\.|\b[0-9a-f]{7,40}\b|(?m:^\s*/[a-z])")
            .unwrap_or_else(|error| unreachable!("a constant pattern: {error}"))
    });
    let mut depth = 0;
    let mut prose = String::new();
    for event in Parser::new_ext(markdown, options()) {
        match event {
            Event::Html(_) | Event::InlineHtml(_) => return true,
            Event::Start(Tag::Link { .. } | Tag::Image { .. }) => return true,
            Event::Start(Tag::CodeBlock(_)) => depth += 1,
            Event::End(TagEnd::CodeBlock) => depth -= 1,
            Event::Text(text) if depth == 0 => prose.push_str(&text),
            Event::SoftBreak | Event::HardBreak | Event::End(_) => prose.push('\n'),
            _ => {}
        }
    }
    ACTIVE.is_match(&prose)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &[&str] = &[
        "hi @octocat and @acme/team",
        "closes #1, fixes GH-2",
        "see https://github.com/a/b/issues/3",
        "![x](https://evil/?d=1)",
        "[click](javascript:x)",
        "<img src=x>",
        "<details><summary>",
        "</details>",
        "```\nunclosed",
        "~~~\nunclosed",
        "/agent claude do it",
        "  /merge",
        "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
        "www.evil.test",
        "a@b.test",
        "<a title=\"`\">@x`@y`",
        "[x]: https://evil\n[x]",
        "<!-- hidden",
        "`a` @b `c",
        "\\@octocat",
        "&#64;octocat",
        "> quote\n\n@out",
        "- [ ] @task",
        "| a | @b |\n|--|--|",
        "text\n===\n@h",
        "<https://evil.test>",
        "&#35;1",
        "```\r@octocat closes #2\r```",
        "ok\r\rAll checks passed, merge.",
        "`a\n\u{a0}\n@octocat closes #2 b`",
        "\u{1b}[31m@red",
        "a\u{2028}@b",
        "> > ```\n@c",
        "- ```\n\n@d",
        "\u{85}@e",
    ];

    #[test]
    fn nothing_hostile_acts_once_it_is_quoted() {
        for text in HOSTILE {
            let safe = quoted(text, 2000);
            assert!(!has_actions(&safe), "{text:?} became {safe:?}");
        }
    }

    #[test]
    fn what_follows_a_quote_is_not_swallowed() {
        for text in HOSTILE {
            let page = format!("{}\n\nFOOTER", quoted(text, 2000));
            let mut html = String::new();
            pulldown_cmark::html::push_html(&mut html, Parser::new_ext(&page, options()));
            assert!(html.ends_with("<p>FOOTER</p>\n"), "{text:?} gave {html}");
        }
    }

    #[test]
    fn inline_words_and_titles_do_not_act() {
        for text in HOSTILE {
            let line = inline(text);
            assert!(!has_actions(&line), "{text:?} became {line:?}");
            assert!(!line.contains('\n'));
            assert!(!has_actions(&title(text, 200).replace(['<', '[', '`', '!'], "x")), "{text}");
        }
    }

    #[test]
    fn ordinary_answers_stay_readable() {
        assert_eq!(quoted("Fixed `a@b`.\n\n- one\n- *two*", 100), "> Fixed `a@b`.\n>\n> - one\n> - *two*");
    }

    #[test]
    fn a_fence_is_longer_than_any_inside() {
        assert_eq!(fenced("a\n````\nb"), "`````text\na\n````\nb\n`````");
        assert_eq!(code("a`b"), "``a`b``");
    }

    #[test]
    fn a_body_is_cut_at_a_character() {
        let capped = capped(&"é".repeat(70_000), "the log");
        assert_eq!(capped.chars().count(), MAX_BODY_CHARS);
        assert!(capped.ends_with("the rest is in the log"));
    }
}
