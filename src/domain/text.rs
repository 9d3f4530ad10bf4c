//! Cutting, cleaning and counting text that came from strangers.

use std::time::Duration;

/// The longest prefix of at most `max` bytes that ends between characters.
pub fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

/// `cut`, with a mark where something is missing. The result has at most `max` bytes.
pub fn cut_marked(text: &str, max: usize) -> String {
    const MARK: &str = " […]";
    if text.len() <= max {
        return text.to_owned();
    }
    format!("{}{MARK}", cut(text, max.saturating_sub(MARK.len())))
}

/// Characters that a person does not see but a model reads: controls, zero-width and
/// directional marks, variation selectors, tag characters (threat T02).
pub fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{00}'..='\u{08}' | '\u{0B}'..='\u{0C}' | '\u{0E}'..='\u{1F}' | '\u{7F}'..='\u{9F}'
        | '\u{AD}' | '\u{034F}' | '\u{061C}' | '\u{0600}'..='\u{0605}' | '\u{06DD}' | '\u{070F}'
        | '\u{0890}'..='\u{0891}' | '\u{08E2}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
        | '\u{FFF0}'..='\u{FFFB}' | '\u{110BD}' | '\u{110CD}' | '\u{13430}'..='\u{1345F}'
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Text with what is hidden taken out, and how many pieces that were.
#[derive(Debug, PartialEq, Eq)]
pub struct Cleaned {
    pub text: String,
    pub removed: usize,
}

/// Rounds of cleaning: taking characters out can join the two halves of a comment mark.
const MAX_ROUNDS: usize = 8;

/// Somebody else's name for something, as a word of ours: one line, nothing hidden, no longer than a name.
pub fn name_of(text: &str) -> String {
    let line = without_hidden(text).text;
    let plain: String =
        line.chars().map(|c| if c.is_control() || c.is_whitespace() || c == '`' { ' ' } else { c }).collect();
    let words: Vec<&str> = plain.split(' ').filter(|word| !word.is_empty()).collect();
    format!("`{}`", cut_marked(&words.join(" "), 200))
}

/// Drops HTML comments and invisible characters. Tabs and line ends stay; `\r\n` becomes `\n`.
pub fn without_hidden(text: &str) -> Cleaned {
    let mut removed = 0;
    let mut cleaned = text.to_owned();
    for _ in 0..MAX_ROUNDS {
        cleaned = one_round(&cleaned, &mut removed);
        if !cleaned.contains("<!--") {
            return Cleaned { text: cleaned, removed };
        }
    }
    // Whoever nests marks this deep hides something: nothing behind the first one is read.
    let start = cleaned.find("<!--").unwrap_or(cleaned.len());
    cleaned.truncate(start);
    Cleaned { text: cleaned, removed: removed + 1 }
}

fn one_round(text: &str, removed: &mut usize) -> String {
    let mut visible = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("<!--") {
        visible.push_str(rest.get(..start).unwrap_or(""));
        *removed += 1;
        let after = rest.get(start + 4..).unwrap_or("");
        rest = after.find("-->").and_then(|end| after.get(end + 3..)).unwrap_or("");
    }
    visible.push_str(rest);
    let before = visible.chars().filter(|c| *c != '\r').count();
    visible.retain(|c| c != '\r' && !is_hidden(c));
    *removed += before - visible.chars().count();
    visible
}

/// Lower-case words joined by `-`, at most `max` bytes: for branch names.
pub fn slug(title: &str, max: usize) -> String {
    let mut slug = String::new();
    for c in title.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= max {
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "change".to_owned() } else { slug.to_owned() }
}

/// `4 s`, `2 min 5 s`, `1 h 3 min`.
pub fn duration(value: Duration) -> String {
    let seconds = value.as_secs();
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3599 if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ if seconds % 3600 < 60 => format!("{} h", seconds / 3600),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `1 file`, `3 files`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Single-character edits between two words, swaps of neighbours counted as one.
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// The word of `known` closest to `word`, if it is close enough to be a slip of the hand.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(far, candidate)| *far <= 1 + candidate.len() / 5)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("añb", 2), "a");
        assert_eq!(cut_marked("abcdefghijkl", 10), "abcd […]");
        assert_eq!(cut_marked("short", 10), "short");
    }

    #[test]
    fn hidden_text_is_taken_out_and_counted() {
        let cleaned = without_hidden("a<!-- do evil -->b\u{200B}c\u{E0041}d\r\ne");
        assert_eq!(cleaned, Cleaned { text: "abcd\ne".into(), removed: 3 });
        assert_eq!(without_hidden("x<!-- never closed").text, "x");
        assert_eq!(without_hidden("<\u{200B}!-- joined -->y").text, "y");
        let deep = format!("seen{}{}", "<".repeat(10_000), "!---->".repeat(10_000));
        assert!(!without_hidden(&deep).text.contains("<!--"));
    }

    #[test]
    fn nothing_that_formats_or_controls_survives() {
        for c in (0..=0x10_FFFFu32).filter_map(char::from_u32).filter(|c| is_hidden(*c)) {
            assert_eq!(without_hidden(&format!("a{c}b")).text, "ab");
        }
    }

    #[test]
    fn a_slug_is_a_safe_piece_of_a_branch_name() {
        assert_eq!(slug("Checkout button: is (mis)aligned!", 20), "checkout-button-is-m");
        assert_eq!(slug("$(rm -rf /) `x` --upload-pack", 40), "rm-rf-x-upload-pack");
        assert_eq!(slug("日本語", 40), "change");
    }

    #[test]
    fn slips_of_the_hand_are_recognised() {
        assert_eq!(nearest("cladue", ["claude", "codex"]), Some("claude"));
        assert_eq!(nearest("modle", ["model", "mcp"]), Some("model"));
        assert_eq!(nearest("fix", ["claude", "codex"]), None);
    }

    #[test]
    fn durations_read_naturally() {
        assert_eq!(duration(Duration::from_secs(4)), "4 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(duration(Duration::from_secs(3800)), "1 h 3 min");
    }
}
