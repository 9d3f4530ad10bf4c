//! Git on the stand-in's own bare repositories, by plumbing commands.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Everybody waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs Git in `dir` with an input. The error is what it said.
pub(super) async fn git(dir: &Path, args: &[&str], env: &[(&str, &str)], input: &[u8]) -> io::Result<Vec<u8>> {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .args(args)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs([("GIT_AUTHOR_NAME", "stand-in"), ("GIT_AUTHOR_EMAIL", "stand-in@localhost")])
        .envs([("GIT_COMMITTER_NAME", "stand-in"), ("GIT_COMMITTER_EMAIL", "stand-in@localhost")])
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A command that does not read its input is fine.
            let _ = stdin.write_all(input).await;
        }
    };
    let (output, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(child.wait_with_output(), feed) }).await?;
    let output = output?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

async fn git_line(dir: &Path, args: &[&str], env: &[(&str, &str)], input: &[u8]) -> io::Result<String> {
    let output = git(dir, args, env, input).await?;
    Ok(String::from_utf8_lossy(&output).trim().to_owned())
}

pub(super) async fn init(dir: &Path) -> io::Result<()> {
    tokio::fs::create_dir_all(dir).await?;
    git(dir, &["init", "--quiet", "--bare", "--initial-branch=main", "."], &[], b"").await?;
    // GitHub serves any commit by its id.
    git(dir, &["config", "uploadpack.allowAnySHA1InWant", "true"], &[], b"").await?;
    Ok(())
}

/// A change of a tree: mode and object, or nothing for a deletion.
pub(super) struct TreeEdit {
    pub path: String,
    pub entry: Option<(String, String)>,
}

/// Writes a blob and gives its id.
pub(super) async fn blob(dir: &Path, bytes: &[u8]) -> io::Result<String> {
    git_line(dir, &["hash-object", "-w", "--stdin"], &[], bytes).await
}

/// A tree made from another by edits. Gives its id.
pub(super) async fn tree(dir: &Path, base: Option<&str>, edits: &[TreeEdit]) -> io::Result<String> {
    let index = dir.join(format!("index-{:x}", rand::random::<u64>()));
    let index_name = index.display().to_string();
    let env = [("GIT_INDEX_FILE", index_name.as_str())];
    if let Some(base) = base {
        git(dir, &["read-tree", base], &env, b"").await?;
    }
    let mut lines = Vec::new();
    for edit in edits {
        let (mode, id) = match &edit.entry {
            Some((mode, id)) => (mode.as_str(), id.as_str()),
            None => ("0", "0000000000000000000000000000000000000000"),
        };
        lines.extend_from_slice(format!("{mode} {id}\t{}\0", edit.path).as_bytes());
    }
    git(dir, &["update-index", "-z", "--index-info"], &env, &lines).await?;
    let tree = git_line(dir, &["write-tree"], &env, b"").await;
    let _ = tokio::fs::remove_file(index).await;
    tree
}

pub(super) async fn commit(dir: &Path, tree: &str, parents: &[&str], message: &str) -> io::Result<String> {
    let mut args = vec!["commit-tree", tree];
    for parent in parents {
        args.extend(["-p", parent]);
    }
    git_line(dir, &args, &[], message.as_bytes()).await
}

/// Points a branch at a commit, if it is at `old` (empty: if it is not there).
pub(super) async fn move_branch(dir: &Path, branch: &str, new: &str, old: &str) -> io::Result<()> {
    let name = format!("refs/heads/{branch}");
    let old = if old.is_empty() { "0000000000000000000000000000000000000000" } else { old };
    git(dir, &["update-ref", &name, new, old], &[], b"").await.map(|_| ())
}

pub(super) async fn head(dir: &Path, branch: &str) -> Option<String> {
    commit_at(dir, &format!("refs/heads/{branch}")).await
}

pub(super) async fn commit_at(dir: &Path, reference: &str) -> Option<String> {
    let name = format!("{reference}^{{commit}}");
    git_line(dir, &["rev-parse", "--verify", "--quiet", "--end-of-options", &name], &[], b"").await.ok()
}

pub(super) async fn is_ancestor(dir: &Path, old: &str, new: &str) -> bool {
    git(dir, &["merge-base", "--is-ancestor", old, new], &[], b"").await.is_ok()
}

pub(super) async fn first_commit(dir: &Path, files: &[(&str, &str)]) -> io::Result<()> {
    let mut edits = Vec::new();
    for (path, text) in files {
        let id = blob(dir, text.as_bytes()).await?;
        edits.push(TreeEdit { path: (*path).to_owned(), entry: Some(("100644".to_owned(), id)) });
    }
    let tree = tree(dir, None, &edits).await?;
    let made = commit(dir, &tree, &[], "First commit").await?;
    move_branch(dir, "main", &made, "").await
}

pub(super) async fn push_files(dir: &Path, branch: &str, files: &[(&str, &str)]) -> io::Result<String> {
    let old = head(dir, branch).await.unwrap_or_default();
    let mut edits = Vec::new();
    for (path, text) in files {
        let id = blob(dir, text.as_bytes()).await?;
        edits.push(TreeEdit { path: (*path).to_owned(), entry: Some(("100644".to_owned(), id)) });
    }
    let names: Vec<&str> = files.iter().map(|(path, _)| *path).take(3).collect();
    let base = Some(old.as_str()).filter(|old| !old.is_empty());
    let tree = tree(dir, base, &edits).await?;
    let made =
        commit(dir, &tree, &base.into_iter().collect::<Vec<_>>(), &format!("Change {}", names.join(", "))).await?;
    move_branch(dir, branch, &made, &old).await?;
    Ok(made)
}

/// Takes over the current commit of a local repository as `main`.
pub(super) async fn import(dir: &Path, from: &Path) -> io::Result<()> {
    import_branch(dir, &from.canonicalize()?, "HEAD:refs/heads/main").await
}

pub(super) async fn import_branch(dir: &Path, from: &Path, what: &str) -> io::Result<()> {
    let from = from.display().to_string();
    git(dir, &["fetch", "--quiet", "--no-tags", "--", &from, what], &[], b"").await.map(|_| ())
}

pub(super) async fn branches(dir: &Path) -> io::Result<Vec<(String, String)>> {
    let text =
        git_line(dir, &["for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads"], &[], b"").await?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, id)| (name.to_owned(), id.to_owned()))
        .collect())
}

pub(super) async fn diff(dir: &Path, from: &str, to: &str) -> io::Result<String> {
    let range = format!("{from}...{to}");
    git(dir, &["diff", "--no-color", "--end-of-options", &range], &[], b"")
        .await
        .map(|text| String::from_utf8_lossy(&text).into_owned())
}

pub(super) async fn message(dir: &Path, revision: &str) -> io::Result<String> {
    git_line(dir, &["log", "-1", "--format=%B", "--end-of-options", revision], &[], b"").await
}

/// Tree and parents of a commit.
pub(super) async fn commit_parts(dir: &Path, id: &str) -> Option<(String, Vec<String>)> {
    let text = git_line(dir, &["log", "-1", "--format=%T %P", "--end-of-options", id], &[], b"").await.ok()?;
    let mut words = text.split(' ').filter(|word| !word.is_empty()).map(ToOwned::to_owned);
    Some((words.next()?, words.collect()))
}

pub(super) async fn show(dir: &Path, revision: &str, path: &str) -> io::Result<String> {
    let bytes = git(dir, &["show", &format!("{revision}:{path}")], &[], b"").await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) async fn blob_id(dir: &Path, revision: &str, path: &str) -> io::Result<String> {
    git_line(dir, &["rev-parse", "--verify", &format!("{revision}:{path}")], &[], b"").await
}

pub(super) async fn merge_base(dir: &Path, one: &str, other: &str) -> io::Result<String> {
    git_line(dir, &["merge-base", one, other], &[], b"").await
}

/// Whether a commit is on top of an older one, and the files that differ.
pub(super) async fn between(dir: &Path, old: &str, new: &str) -> io::Result<(bool, Vec<String>)> {
    let names = git_line(dir, &["diff", "--name-only", "--end-of-options", old, new], &[], b"").await?;
    Ok((is_ancestor(dir, old, new).await, names.lines().map(ToOwned::to_owned).collect()))
}
