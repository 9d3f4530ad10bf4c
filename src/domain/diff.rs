//! A diff as Git prints it: which lines of the new side it shows, and what of it an agent is handed.

use std::collections::BTreeMap;

use super::text::cut_marked;

/// A parsed diff, by file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    files: BTreeMap<String, FileDiff>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct FileDiff {
    /// As Git printed it.
    text: String,
    /// Lines of the new side that are shown, by number.
    lines: BTreeMap<i64, String>,
}

/// As much of a diff as has room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    pub text: String,
    pub files: usize,
    /// Files that are cut or left out.
    pub cut: Vec<String>,
}

/// Where a hunk stands, and how many lines of it are still to come.
#[derive(Default)]
pub(super) struct Hunk {
    /// Of the old side: the first line, and how many.
    old: (i64, i64),
    old_left: i64,
    new_left: i64,
    at: i64,
}

impl Hunk {
    /// Of `@@ -a,b +c,d @@`.
    pub(super) fn begin(line: &str) -> Option<Self> {
        let (ranges, _) = line.strip_prefix("@@ -")?.split_once(" @@")?;
        let (old, new) = ranges.split_once(" +")?;
        let range = |text: &str| {
            let (start, length) = text.split_once(',').unwrap_or((text, "1"));
            Some((start.parse::<i64>().ok()?, length.parse::<i64>().ok()?))
        };
        let (old, (at, new_left)) = (range(old)?, range(new)?);
        Some(Self { old, old_left: old.1, new_left, at })
    }

    pub(super) fn old(&self) -> (i64, i64) {
        self.old
    }

    pub(super) fn is_open(&self) -> bool {
        self.old_left > 0 || self.new_left > 0
    }

    /// Takes a line of the hunk in. Gives its number, if the new side has it.
    pub(super) fn take(&mut self, line: &str) -> Option<i64> {
        match line.as_bytes().first() {
            Some(b'-') => {
                self.old_left -= 1;
                return None;
            }
            Some(b'\\') => return None,
            Some(b'+') => self.new_left -= 1,
            _ => (self.old_left, self.new_left) = (self.old_left - 1, self.new_left - 1),
        }
        self.at += 1;
        Some(self.at - 1)
    }
}

impl Diff {
    /// Reads what `git diff` prints with paths that are not quoted. Only a line outside of hunks begins a file,
    /// so the text of a file cannot pass for another.
    pub fn read(text: &str) -> Self {
        let mut files: BTreeMap<String, FileDiff> = BTreeMap::new();
        let (mut path, mut file, mut hunk, mut lines) = (String::new(), FileDiff::default(), Hunk::default(), 0);
        for line in text.split_inclusive('\n') {
            let bare = line.trim_end_matches('\n');
            if hunk.is_open() {
                if let Some(number) = hunk.take(bare).filter(|_| lines < MAX_LINES) {
                    lines += 1;
                    file.lines.insert(number, bare.get(1..).unwrap_or_default().to_owned());
                }
            } else if let Some(names) = bare.strip_prefix("diff --git ") {
                put(&mut files, &path, std::mem::take(&mut file));
                // Both names are the same but for a renamed file, which says so in a line of its own. What Git
                // quotes stays quoted: nobody can speak of its lines.
                path = match names.strip_prefix("a/").filter(|_| !names.contains('"')) {
                    Some(names) => names.get(names.len() / 2 + 2..).unwrap_or_default().to_owned(),
                    None => names.to_owned(),
                };
            } else if let Some(name) = bare.strip_prefix("+++ b/").or_else(|| bare.strip_prefix("rename to ")) {
                name.trim_end_matches('\t').clone_into(&mut path);
            } else if let Some(begun) = Hunk::begin(bare) {
                hunk = begun;
            }
            file.text.push_str(line);
        }
        put(&mut files, &path, file);
        Self { files }
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether all these lines of a file are shown: GitHub takes comments on no others.
    pub fn holds(&self, path: &str, from: i64, to: i64) -> bool {
        self.files.get(path).is_some_and(|file| (from..=to).all(|line| file.lines.contains_key(&line)))
    }

    /// A line of the new side, if it is shown.
    pub fn line(&self, path: &str, number: i64) -> Option<&str> {
        self.files.get(path)?.lines.get(&number).map(String::as_str)
    }

    /// Paths, each with its part of the text.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file.text.as_str()))
    }

    /// These lines of a file, without what reformatting changes.
    pub fn code(&self, path: &str, from: i64, to: i64) -> String {
        let Some(file) = self.files.get(path).filter(|_| from <= to) else { return String::new() };
        file.lines.range(from..=to).flat_map(|(_, line)| line.split_whitespace()).collect::<Vec<_>>().join(" ")
    }

    /// What has room, the same for each file before any gets more: `room` bytes in all, files that are made
    /// by tools last.
    pub fn within(&self, room: usize) -> Shown {
        let mut order: Vec<(&String, &FileDiff)> = self.files.iter().collect();
        order.sort_by_key(|(path, file)| (is_generated(path), file.text.len()));
        let (mut left, mut kept, mut cut) = (room, BTreeMap::new(), Vec::new());
        for (place, (path, file)) in order.iter().enumerate() {
            let share = left / (order.len() - place);
            let is_whole = file.text.len() <= share;
            let text = if is_whole {
                file.text.clone()
            } else {
                format!("{}\n", cut_marked(&file.text, share.saturating_sub(1)))
            };
            if !is_whole {
                cut.push((*path).clone());
            }
            // Less than a head and some lines says nothing.
            if is_whole || share >= MIN_SHARE {
                left -= text.len().min(left);
                kept.insert(*path, text);
            }
        }
        cut.sort();
        Shown { text: kept.into_values().collect(), files: self.files.len(), cut }
    }
}

const MIN_SHARE: usize = 300;
/// Lines that can be spoken of; of what is beyond nobody reads each.
const MAX_LINES: usize = 400_000;

fn put(files: &mut BTreeMap<String, FileDiff>, path: &str, file: FileDiff) {
    if !path.is_empty() {
        files.insert(path.to_owned(), file);
    }
}

/// Files that nobody writes by hand.
fn is_generated(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_lock = name.ends_with(".lock") || name.ends_with("-lock.json") || name.ends_with("-lock.yaml");
    let is_built = [".min.js", ".min.css", ".map", ".snap", ".pb.go"].iter().any(|end| name.ends_with(end));
    is_lock || is_built || name == "go.sum" || path.split('/').any(|part| part == "vendor" || part == "node_modules")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "diff --git a/src/a.rs b/src/a.rs\n--- a/src/a.rs\n+++ b/src/a.rs\n@@ -1,3 +1,4 @@\n one\n-two\n\
        +zwei\n+++ b/not/a/file\n three\n@@ -10 +11,2 @@ fn x\n ten\n+  eleven\n\\ No newline at end of file\n\
        diff --git a/gone b/gone\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\
        diff --git a/old name b/new\nrename from old name\nrename to new\n\
        diff --git a/p.png b/p.png\nBinary files a/p.png and b/p.png differ\n";

    #[test]
    fn the_lines_of_a_diff_are_those_that_github_shows() {
        let diff = Diff::read(DIFF);
        assert_eq!(diff.files.keys().collect::<Vec<_>>(), ["gone", "new", "p.png", "src/a.rs"]);
        let shown: Vec<i64> = diff.files["src/a.rs"].lines.keys().copied().collect();
        assert_eq!(shown, [1, 2, 3, 4, 11, 12]);
        assert!(diff.holds("src/a.rs", 1, 4) && !diff.holds("src/a.rs", 4, 11) && !diff.holds("gone", 1, 1));
        assert_eq!(diff.code("src/a.rs", 11, 12), "ten eleven");
        assert_eq!(diff.code("src/a.rs", 3, 3), "++ b/not/a/file");
    }

    /// Nobody can speak of the lines of a file whose name Git quotes; but they are not those of another one.
    #[test]
    fn quoted_names_begin_a_file_of_their_own() {
        let quoted = "diff --git \"a/we\\\"b.rs\" \"b/we\\\"b.rs\"\n--- \"a/we\\\"b.rs\"\n+++ \"b/we\\\"b.rs\"\n\
            @@ -40 +40 @@\n-x\n+y\n";
        let diff = Diff::read(&format!("{DIFF}{quoted}"));
        assert_eq!(diff.len(), 5);
        assert!(!diff.holds("p.png", 40, 40) && !diff.holds("src/a.rs", 40, 40), "{diff:?}");
    }

    #[test]
    fn every_file_gets_its_share_of_the_room() {
        let file = |name: &str, lines: usize| {
            let added = "+line\n".repeat(lines);
            format!("diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n@@ -0,0 +1,{lines} @@\n{added}")
        };
        let text = [file("a.rs", 2_000), file("b.rs", 3), file("Cargo.lock", 4), file("z.rs", 2_000)].concat();
        let diff = Diff::read(&text);
        let all = diff.within(1_000_000);
        assert_eq!((all.text.len(), all.cut.len(), all.files), (text.len(), 0, 4));
        let some = diff.within(8_000);
        assert!(some.text.len() <= 8_000, "{}", some.text.len());
        assert_eq!(some.cut, ["a.rs", "z.rs"]);
        assert!(some.text.contains(&file("b.rs", 3)) && some.text.contains(&file("Cargo.lock", 4)));
        let few = diff.within(1_000);
        assert!(few.text.contains("b/b.rs") && few.text.len() <= 1_000, "{few:?}");
        let none = diff.within(0);
        assert_eq!((none.text.as_str(), none.cut.len()), ("", 4));
    }
}
