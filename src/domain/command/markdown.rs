//! Where in a comment a command cannot stand: code, quotes, HTML comments.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag};

/// Byte ranges of `text` that are code, block quote or HTML comment, in order of their start.
pub(super) fn quoted_ranges(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(_) | Tag::BlockQuote(_)) | Event::Code(_) => ranges.push(range),
            _ => {}
        }
    }
    let code = ranges.clone();
    ranges.extend(html_comments(text, &code));
    ranges.sort_by_key(|range| range.start);
    ranges
}

/// HTML comments that are not themselves inside code. An unclosed one reaches to the end.
fn html_comments(text: &str, code: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = text.get(from..).and_then(|rest| rest.find("<!--")).map(|at| at + from) {
        if let Some(inside) = code.iter().find(|range| range.contains(&start)) {
            from = inside.end.max(start + 4);
            continue;
        }
        let end = text.get(start + 4..).and_then(|rest| rest.find("-->")).map_or(text.len(), |at| start + 4 + at + 3);
        found.push(start..end);
        from = end;
    }
    found
}
