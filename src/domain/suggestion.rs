//! A change as suggestions on the lines of a pull request: how work gets to a branch that only its author
//! can push to.

use super::diff::{Diff, Hunk};
use super::markdown::suggestion;
use super::review::LineComment;

/// More would be a burden to accept one by one.
pub const MAX_SUGGESTIONS: usize = 30;
/// Of one comment.
const MAX_BYTES: usize = 16 * 1024;
/// What a header says of a file that is not merely edited.
const NOT_EDITED: [&str; 6] = ["new file", "deleted file", "old mode", "rename ", "similarity ", "Binary files"];

/// Lines of a file and what shall stand in their place. `count` 0: it stands behind the line `from`.
#[derive(Debug, PartialEq, Eq)]
struct Edit {
    from: i64,
    count: i64,
    lines: Vec<String>,
}

/// Suggestions that together make `change`, a diff without context on top of the head of what `shown`
/// shows. `None`: some of it is not about lines that are shown there, or is no matter of lines.
pub fn suggestions(change: &Diff, shown: &Diff) -> Option<Vec<LineComment>> {
    let mut comments = Vec::new();
    for (path, text) in change.files() {
        let mut free_from = 0;
        for edit in edits(text)? {
            let (from, to, lines) = edit.on(path, shown)?;
            let body = suggestion(&lines.concat());
            if from <= free_from || body.len() > MAX_BYTES {
                return None;
            }
            free_from = to;
            comments.push(LineComment {
                path: path.to_owned(),
                line: to,
                start_line: (to > from).then_some(from),
                body,
            });
        }
    }
    (!comments.is_empty() && comments.len() <= MAX_SUGGESTIONS).then_some(comments)
}

/// The edits of one file's part of a diff.
fn edits(text: &str) -> Option<Vec<Edit>> {
    let (mut edits, mut hunk): (Vec<Edit>, Hunk) = (Vec::new(), Hunk::default());
    for line in text.split_terminator('\n') {
        // Neither a line without an end nor bytes that are no text survive a comment.
        if line.starts_with('\\') || line.ends_with('\r') || line.contains('\u{FFFD}') {
            return None;
        }
        if hunk.is_open() {
            hunk.take(line);
            if let Some(added) = line.strip_prefix('+') {
                edits.last_mut()?.lines.push(format!("{added}\n"));
            }
        } else if let Some(begun) = Hunk::begin(line) {
            let (from, count) = begun.old();
            edits.push(Edit { from, count, lines: Vec::new() });
            hunk = begun;
        } else if NOT_EDITED.iter().any(|start| line.starts_with(start)) {
            return None;
        }
    }
    Some(edits)
}

impl Edit {
    /// The lines that the suggestion is about and its own: where lines only come in, a neighbour stays with
    /// them.
    fn on(self, path: &str, shown: &Diff) -> Option<(i64, i64, Vec<String>)> {
        if self.count > 0 {
            let to = self.from + self.count - 1;
            return shown.holds(path, self.from, to).then_some((self.from, to, self.lines));
        }
        if let Some(before) = shown.line(path, self.from) {
            let lines = std::iter::once(format!("{before}\n")).chain(self.lines);
            return Some((self.from, self.from, lines.collect()));
        }
        let after = shown.line(path, self.from + 1)?;
        let lines = self.lines.into_iter().chain(std::iter::once(format!("{after}\n")));
        Some((self.from + 1, self.from + 1, lines.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,3 +1,4 @@\n one\n-two\n+zwei\n+drei\n four\n";

    fn suggested(hunks: &str) -> Option<Vec<(Option<i64>, i64, String)>> {
        let change = format!("diff --git a/a b/a\nindex 1..2 100644\n--- a/a\n+++ b/a\n{hunks}");
        let found = suggestions(&Diff::read(&change), &Diff::read(SHOWN))?;
        Some(found.into_iter().map(|one| (one.start_line, one.line, one.body)).collect())
    }

    #[test]
    fn changed_lines_become_suggestions_on_them() {
        let block = |text: &str| format!("```suggestion\n{text}```");
        let replaced = suggested("@@ -2,2 +2 @@\n-zwei\n-drei\n+two\n@@ -4 +3,0 @@\n-four\n").unwrap();
        assert_eq!(replaced, [(Some(2), 3, block("two\n")), (None, 4, block(""))]);
        let added = suggested("@@ -1,0 +2 @@\n+new\n").unwrap();
        assert_eq!(added, [(None, 1, block("one\nnew\n"))]);
        let at_the_top = suggested("@@ -0,0 +1 @@\n+new\n").unwrap();
        assert_eq!(at_the_top, [(None, 1, block("new\none\n"))]);
        let fenced = suggested("@@ -2 +2 @@\n-zwei\n+```\n").unwrap();
        assert_eq!(fenced, [(None, 2, "````suggestion\n```\n````".to_owned())]);
    }

    #[test]
    fn what_no_suggestion_can_carry_is_none_at_all() {
        for hunks in [
            "",
            // Below and beside what is shown.
            "@@ -4,2 +4 @@\n-four\n-five\n+x\n",
            "@@ -2 +2 @@\n-zwei\n+x\n@@ -9,0 +10 @@\n+y\n",
            // Two on the same line.
            "@@ -0,0 +1 @@\n+x\n@@ -1,0 +3 @@\n+y\n",
            "@@ -2 +2 @@\n-zwei\n+x\n\\ No newline at end of file\n",
            "@@ -2 +2 @@\n-zwei\n+x\r\n",
            "@@ -2 +2 @@\n-zwei\n+\u{FFFD}\n",
        ] {
            assert_eq!(suggested(hunks), None, "{hunks}");
        }
        for header in NOT_EDITED {
            let change = format!("diff --git a/a b/a\n{header}\n@@ -2 +2 @@\n-zwei\n+x\n");
            assert_eq!(suggestions(&Diff::read(&change), &Diff::read(SHOWN)), None, "{header}");
        }
        let elsewhere = "diff --git a/b b/b\n--- a/b\n+++ b/b\n@@ -1 +1 @@\n-x\n+y\n";
        assert_eq!(suggestions(&Diff::read(elsewhere), &Diff::read(SHOWN)), None);
    }
}
