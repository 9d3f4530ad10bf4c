//! What an agent changed, as Git lists it in the sandbox, and what of that may be published.

use serde::{Deserialize, Serialize};

use super::text;

/// More than this is not a change that a person reviews.
pub const MAX_FILES: usize = 1_000;
pub const MAX_FILE_BYTES: u64 = 5 * 1024 * 1024;
pub const MAX_TOTAL_BYTES: u64 = 20 * 1024 * 1024;
const MAX_PATH_BYTES: usize = 1_000;

/// Git's file modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Plain,
    Executable,
    Link,
    Submodule,
}

impl Mode {
    fn parse(octal: &str) -> Option<Self> {
        match octal {
            "100644" => Some(Self::Plain),
            "100755" => Some(Self::Executable),
            "120000" => Some(Self::Link),
            "160000" => Some(Self::Submodule),
            _ => None,
        }
    }

    pub fn octal(self) -> &'static str {
        match self {
            Self::Plain => "100644",
            Self::Executable => "100755",
            Self::Link => "120000",
            Self::Submodule => "160000",
        }
    }
}

/// One path that differs from the base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub path: String,
    pub before: Option<Mode>,
    /// Mode and object id after the change; `None`: deleted.
    pub after: Option<(Mode, String)>,
}

impl Change {
    /// Whether GraphQL's `createCommitOnBranch` can carry it: it knows plain files only.
    pub fn is_plain(&self) -> bool {
        match (&self.after, self.before) {
            (None, _) => true,
            (Some((Mode::Plain, _)), before) => before.is_none_or(|mode| mode == Mode::Plain),
            (Some(_), _) => false,
        }
    }
}

/// A path that is not published, and why: said to the requester.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBack {
    pub path: String,
    pub reason: String,
}

/// The changes to publish and those that are not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    pub changes: Vec<Change>,
    pub held_back: Vec<HeldBack>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the list of changed files could not be read")]
pub struct UnreadableList;

/// Reads `git diff-index --cached --raw -z --no-renames` and sorts out what may be published.
pub fn select(raw: &[u8]) -> Result<Selection, UnreadableList> {
    let mut selection = Selection::default();
    let mut fields = raw.split(|byte| *byte == 0);
    while let Some(meta) = fields.next() {
        if meta.is_empty() {
            continue;
        }
        let path = fields.next().ok_or(UnreadableList)?;
        let meta = std::str::from_utf8(meta).map_err(|_| UnreadableList)?;
        match read_change(meta, path) {
            Ok(change) => selection.changes.push(change),
            Err(Unpublishable::Held(reason)) => selection.held_back.push(HeldBack {
                path: text::cut_marked(&String::from_utf8_lossy(path), 200),
                reason: reason.to_owned(),
            }),
            Err(Unpublishable::Unreadable) => return Err(UnreadableList),
        }
    }
    Ok(selection)
}

enum Unpublishable {
    Held(&'static str),
    Unreadable,
}

fn read_change(meta: &str, path: &[u8]) -> Result<Change, Unpublishable> {
    let mut parts = meta.strip_prefix(':').ok_or(Unpublishable::Unreadable)?.split(' ');
    let mut next = || parts.next().ok_or(Unpublishable::Unreadable);
    let (old_mode, new_mode, _old, new_id, status) = (next()?, next()?, next()?, next()?, next()?);
    let path = std::str::from_utf8(path).map_err(|_| Unpublishable::Held("its name is not valid UTF-8"))?;
    if let Some(reason) = refused_path(path) {
        return Err(Unpublishable::Held(reason));
    }
    let before = Mode::parse(old_mode);
    if status.starts_with('D') {
        return Ok(Change { path: path.to_owned(), before, after: None });
    }
    let mode = Mode::parse(new_mode).ok_or(Unpublishable::Held("it is not a regular file"))?;
    if mode == Mode::Submodule && before != Some(Mode::Submodule) {
        return Err(Unpublishable::Held("it is a Git repository of its own"));
    }
    let is_id = matches!(new_id.len(), 40 | 64) && new_id.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_id {
        return Err(Unpublishable::Unreadable);
    }
    Ok(Change { path: path.to_owned(), before, after: Some((mode, new_id.to_owned())) })
}

/// Why a path may not be written, if it may not (design D4, threats T07, T09).
pub fn refused_path(path: &str) -> Option<&'static str> {
    if path.is_empty() || path.len() > MAX_PATH_BYTES || path.starts_with('/') {
        return Some("its path is not one inside the repository");
    }
    if path.chars().any(|c| c.is_control() || text::is_hidden(c) || c == '\\') {
        return Some("its name holds invisible or control characters");
    }
    for part in path.split('/') {
        if part.is_empty() || part == "." || part == ".." {
            return Some("its path is not one inside the repository");
        }
        let folded = part.to_ascii_lowercase();
        let folded = folded.split(':').next().unwrap_or("").trim_end_matches(['.', ' ']);
        if folded == ".git" || folded.starts_with("git~") {
            return Some("it would reach into Git's own folder");
        }
    }
    let lower = path.to_ascii_lowercase();
    if lower.starts_with(".github/workflows/") || lower.starts_with(".github/actions/") {
        return Some("workflow files are changed by people only");
    }
    if matches!(lower.as_str(), "codeowners" | ".github/codeowners" | "docs/codeowners") {
        return Some("code owners are changed by people only");
    }
    None
}

/// Whether a symbolic link at `path` leads out of the tree.
pub fn link_leaves_tree(path: &str, target: &[u8]) -> bool {
    let Ok(target) = std::str::from_utf8(target) else { return true };
    if target.is_empty() || target.starts_with('/') || target.chars().any(|c| c.is_control() || c == '\\') {
        return true;
    }
    let mut depth = path.split('/').count() - 1;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            part if part.eq_ignore_ascii_case(".git") => return true,
            _ => depth += 1,
        }
    }
    false
}

/// What `git cat-file --batch` prints: id, kind, size, bytes, for each id asked for.
/// `None` where the output is not of that form or does not answer `ids` in order.
pub fn read_blobs<'a>(mut output: &'a [u8], ids: &[&str]) -> Option<Vec<&'a [u8]>> {
    let mut blobs = Vec::with_capacity(ids.len());
    for id in ids {
        let end = output.iter().position(|byte| *byte == b'\n')?;
        let header = std::str::from_utf8(output.get(..end)?).ok()?;
        let mut words = header.split(' ');
        if words.next()? != *id || words.next()? != "blob" {
            return None;
        }
        let size: usize = words.next()?.parse().ok()?;
        let start = end + 1;
        blobs.push(output.get(start..start.checked_add(size)?)?);
        output = output.get(start + size + 1..)?;
    }
    Some(blobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(old: &str, new: &str, status: &str, path: &str) -> Vec<u8> {
        let id = if new == "000000" { "0".repeat(40) } else { "a".repeat(40) };
        format!(":{old} {new} {} {id} {status}\0{path}\0", "0".repeat(40)).into_bytes()
    }

    #[test]
    fn additions_changes_and_deletions_are_read() {
        let raw = [
            row("000000", "100644", "A", "new.txt"),
            row("100644", "000000", "D", "old.txt"),
            row("100644", "100755", "M", "run.sh"),
        ]
        .concat();
        let selection = select(&raw).unwrap();
        assert_eq!(selection.held_back, []);
        let plain: Vec<_> = selection.changes.iter().map(|c| (c.path.as_str(), c.is_plain())).collect();
        assert_eq!(plain, [("new.txt", true), ("old.txt", true), ("run.sh", false)]);
    }

    #[test]
    fn dangerous_paths_are_held_back_with_a_reason() {
        for path in [
            ".git/config",
            "a/.GIT/hooks/x",
            "git~1/x",
            "a/../b",
            "../b",
            "/etc/passwd",
            ".github/workflows/ci.yml",
            ".GitHub/Workflows/x.yml",
            ".github/actions/a/action.yml",
            "CODEOWNERS",
            "a\nb",
            "a\u{202E}b",
            "a\\b",
            ".git./x",
            ".git::$INDEX/x",
        ] {
            let selection = select(&row("000000", "100644", "A", path)).unwrap();
            assert_eq!((selection.changes.len(), selection.held_back.len()), (0, 1), "{path:?}");
        }
        let nested = select(&row("000000", "160000", "A", "vendored")).unwrap();
        assert_eq!(nested.held_back[0].reason, "it is a Git repository of its own");
        let mut latin = row("000000", "100644", "A", "x");
        latin.splice(latin.len() - 2..latin.len() - 1, [0xff]);
        assert_eq!(select(&latin).unwrap().held_back[0].reason, "its name is not valid UTF-8");
    }

    #[test]
    fn a_list_of_another_form_is_an_error() {
        for raw in [&b":100644 100644 a b"[..], b"nonsense\0x\0", b":100644 100644 0 zz M\0x\0"] {
            assert_eq!(select(raw), Err(UnreadableList));
        }
    }

    #[test]
    fn links_out_of_the_tree_are_seen() {
        for (path, target, leaves) in [
            ("a", "b", false),
            ("a/b", "../c", false),
            ("a", "../c", true),
            ("a/b", "../../c", true),
            ("a", "/etc/passwd", true),
            ("a", ".git/config", true),
            ("a/b/c", "../../d/../e", false),
            ("a", "", true),
        ] {
            assert_eq!(link_leaves_tree(path, target.as_bytes()), leaves, "{path} -> {target}");
        }
    }

    #[test]
    fn blobs_are_read_by_their_size() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let output = format!("{a} blob 3\nx\ny\n{b} blob 0\n\n");
        assert_eq!(read_blobs(output.as_bytes(), &[&a, &b]).unwrap(), [&b"x\ny"[..], b""]);
        assert_eq!(read_blobs(output.as_bytes(), &[&b, &a]), None);
        assert_eq!(read_blobs(b"x blob 99999999999999999999\n", &["x"]), None);
        assert_eq!(read_blobs(format!("{a} blob 18446744073709551615\n").as_bytes(), &[&a]), None);
    }
}
