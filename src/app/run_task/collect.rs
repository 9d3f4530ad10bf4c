//! Sixth step: what the agent changed, listed by Git in the sandbox and sorted out here. The
//! service itself never runs Git on foreign content (design D4).

use std::time::Duration;

use super::RunContext;
use super::commands::{Ended, run_spec};
use super::patience::Stop;
use super::prepare::{git_env, safe_git};
use crate::adapters::github::FileContent;
use crate::domain::change::{
    HeldBack, MAX_FILE_BYTES, MAX_FILES, MAX_TOTAL_BYTES, Mode, Selection, link_leaves_tree, read_blobs, select,
};
use crate::domain::failure::Failure;
use crate::domain::project::NEVER_COMMITTED;
use crate::domain::secret::Secret;
use crate::ports::sandbox::{CommandSpec, SCRATCH, SandboxError};

const TIMEOUT: Duration = Duration::from_secs(600);
const MAX_LIST_BYTES: u64 = 16 * 1024 * 1024;

const LIST_FILE: &str = "changes";
const IDS_FILE: &str = "blob-ids";
const SIZES_FILE: &str = "blob-sizes";
const EXCLUDES_FILE: &str = "excludes";
const BLOBS_FILE: &str = "blobs";

pub(super) async fn collect(ctx: &mut RunContext) -> Result<(), Stop> {
    let base = ctx.inputs()?.base_sha.clone();
    git(ctx, "collect-base", &["read-tree", &base], None, None).await?;
    let excludes = NEVER_COMMITTED.map(|line| format!("{line}\n")).concat();
    write(ctx, EXCLUDES_FILE, excludes.as_bytes()).await?;
    let excludes = format!("core.excludesFile={SCRATCH}/{EXCLUDES_FILE}");
    // A file that Git cannot take must not hold up the others.
    let added =
        try_git(ctx, "collect-add", &["-c", &excludes, "add", "--all", "--ignore-errors", "."], None, None).await?;
    let list = ["diff-index", "--cached", "--raw", "-z", "--no-renames", "--no-abbrev", &base, "--", "."];
    let put_back = ctx.run.facts.put_back.iter().map(|path| path.replace(":(literal)", ":(exclude,literal)"));
    let put_back: Vec<String> = put_back.collect();
    let list: Vec<&str> = list.into_iter().chain(put_back.iter().map(String::as_str)).collect();
    git(ctx, "collect-list", &list, None, Some(LIST_FILE)).await?;
    let raw = read(ctx, LIST_FILE, MAX_LIST_BYTES).await?;
    let mut selection =
        select(&raw).map_err(|error| Stop::Failed(Failure::ListUnreadable { tail: error.to_string() }))?;
    if !added.is_ok() {
        let reason = added.tail.lines().next().unwrap_or("Git could not add it").to_owned();
        selection.held_back.push(HeldBack { path: "(not added)".to_owned(), reason });
    }
    if selection.changes.len() > MAX_FILES {
        return Err(Stop::Failed(Failure::TooManyFiles { files: selection.changes.len() }));
    }
    hold_back_large(ctx, &mut selection).await?;
    if !blob_ids(&selection).is_empty() {
        let content = fetch_content(ctx, &selection).await?;
        hold_back_by_content(ctx, &mut selection, &content);
    }
    for held in &mut selection.held_back {
        held.path = ctx.redacted(&held.path);
    }
    let facts = &mut ctx.run.facts;
    facts.files_changed = selection.changes.len();
    facts.held_back.clone_from(&selection.held_back);
    facts.selection = Some(selection);
    Ok(())
}

/// Bytes of the changed files, for the commit.
pub(super) async fn content(ctx: &RunContext, selection: &Selection) -> Result<FileContent, Stop> {
    if blob_ids(selection).is_empty() {
        return Ok(FileContent::new());
    }
    // The list is written anew from what may be published; the file of the sandbox is not trusted.
    let ids: Vec<String> = blob_ids(selection).iter().map(|id| (*id).to_owned()).collect();
    write_ids(ctx, "publish-ids", &ids).await?;
    git(ctx, "publish-blobs", &["cat-file", "--batch"], Some("publish-ids"), Some("publish-blobs")).await?;
    parse_content(ctx, "publish-blobs", &ids).await
}

async fn fetch_content(ctx: &RunContext, selection: &Selection) -> Result<FileContent, Stop> {
    let ids: Vec<String> = blob_ids(selection).iter().map(|id| (*id).to_owned()).collect();
    write_ids(ctx, IDS_FILE, &ids).await?;
    git(ctx, "collect-blobs", &["cat-file", "--batch"], Some(IDS_FILE), Some(BLOBS_FILE)).await?;
    parse_content(ctx, BLOBS_FILE, &ids).await
}

async fn parse_content(ctx: &RunContext, file: &str, ids: &[String]) -> Result<FileContent, Stop> {
    let headers = u64::try_from(ids.len()).unwrap_or(u64::MAX).saturating_mul(100);
    let bytes = read(ctx, file, MAX_TOTAL_BYTES + headers).await?;
    let wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
    let blobs = read_blobs(&bytes, &wanted)
        .ok_or_else(|| Stop::Failed(Failure::ListUnreadable { tail: "a changed file could not be read".to_owned() }))?;
    Ok(ids.iter().cloned().zip(blobs.into_iter().map(<[u8]>::to_vec)).collect())
}

/// Ids of the blobs to read, each once. A submodule's id names a commit elsewhere.
fn blob_ids(selection: &Selection) -> Vec<&str> {
    let mut ids: Vec<&str> = selection
        .changes
        .iter()
        .filter_map(|change| match &change.after {
            Some((Mode::Submodule, _)) | None => None,
            Some((_, id)) => Some(id.as_str()),
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

async fn write_ids(ctx: &RunContext, file: &str, ids: &[String]) -> Result<(), Stop> {
    let list = ids.iter().map(|id| format!("{id}\n")).collect::<String>();
    write(ctx, file, list.as_bytes()).await
}

async fn write(ctx: &RunContext, file: &str, bytes: &[u8]) -> Result<(), Stop> {
    let sandbox = ctx.sandbox()?;
    let sandbox = &sandbox;
    ctx.patiently_in_sandbox(|| async move { Ok(ctx.app.sandbox.write_file(sandbox, file, bytes).await?) }).await
}

/// Sizes first: what is too large is never read.
async fn hold_back_large(ctx: &RunContext, selection: &mut Selection) -> Result<(), Stop> {
    let ids: Vec<String> = blob_ids(selection).iter().map(|id| (*id).to_owned()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    write_ids(ctx, "size-ids", &ids).await?;
    git(ctx, "collect-sizes", &["cat-file", "--batch-check"], Some("size-ids"), Some(SIZES_FILE)).await?;
    let text = String::from_utf8_lossy(&read(ctx, SIZES_FILE, MAX_LIST_BYTES).await?).into_owned();
    let size_of = |id: &str| {
        let line = text.lines().find(|line| line.starts_with(id))?;
        line.rsplit(' ').next()?.parse::<u64>().ok()
    };
    let mut total = 0u64;
    let mut kept = Vec::new();
    for change in std::mem::take(&mut selection.changes) {
        let size = match &change.after {
            Some((Mode::Submodule, _)) | None => 0,
            Some((_, id)) => size_of(id).ok_or_else(|| {
                Stop::Failed(Failure::ListUnreadable {
                    tail: "the size of a changed file could not be read".to_owned(),
                })
            })?,
        };
        if size > MAX_FILE_BYTES {
            let reason = format!("it has {} MB, more than {}", size / 1_048_576, MAX_FILE_BYTES / 1_048_576);
            selection.held_back.push(HeldBack { path: change.path, reason });
        } else {
            total = total.saturating_add(size);
            kept.push(change);
        }
    }
    selection.changes = kept;
    if total > MAX_TOTAL_BYTES {
        return Err(Stop::Failed(Failure::TooMuch { bytes: total }));
    }
    Ok(())
}

/// Links out of the tree stay out, and files that hold one of our secrets.
fn hold_back_by_content(ctx: &RunContext, selection: &mut Selection, content: &FileContent) {
    let mut kept = Vec::new();
    for change in std::mem::take(&mut selection.changes) {
        let bytes = change.after.as_ref().and_then(|(_, id)| content.get(id)).map_or(&[][..], Vec::as_slice);
        let leaves = matches!(&change.after, Some((Mode::Link, _))) && link_leaves_tree(&change.path, bytes);
        let secret =
            ctx.redactor.finds_exact_secret_in(bytes) || ctx.redactor.finds_exact_secret_in(change.path.as_bytes());
        let reason = match (leaves, secret) {
            (true, _) => "it is a link that leads out of the repository",
            (false, true) => "it holds a secret of this service",
            (false, false) => {
                kept.push(change);
                continue;
            }
        };
        selection.held_back.push(HeldBack { path: change.path, reason: reason.to_owned() });
    }
    selection.changes = kept;
}

pub(super) async fn read(ctx: &RunContext, file: &str, limit: u64) -> Result<Vec<u8>, Stop> {
    let sandbox = ctx.sandbox()?;
    let sandbox = &sandbox;
    ctx.patiently_in_sandbox(|| async move {
        match ctx.app.sandbox.read_file(sandbox, file, limit).await {
            Err(SandboxError::TooLarge { limit }) => Err(Failure::TooMuch { bytes: limit }.into()),
            answer => Ok(answer?),
        }
    })
    .await
}

/// One Git command that has to succeed.
pub(super) async fn git(
    ctx: &RunContext,
    name: &str,
    args: &[&str],
    stdin: Option<&str>,
    stdout: Option<&str>,
) -> Result<(), Stop> {
    let ended = try_git(ctx, name, args, stdin, stdout).await?;
    if ended.is_ok() { Ok(()) } else { Err(Stop::Failed(Failure::ListUnreadable { tail: ended.tail })) }
}

/// One Git command on an index of our own: the agent's staging does not matter.
async fn try_git(
    ctx: &RunContext,
    name: &str,
    args: &[&str],
    stdin: Option<&str>,
    stdout: Option<&str>,
) -> Result<Ended, Stop> {
    let mut env = git_env();
    env.push(("GIT_INDEX_FILE".to_owned(), Secret::new(format!("{SCRATCH}/index"))));
    let spec = CommandSpec {
        name: name.to_owned(),
        argv: safe_git(args),
        env,
        stdin: stdin.map(ToOwned::to_owned),
        stdout: stdout.map(ToOwned::to_owned),
        timeout: TIMEOUT,
    };
    run_spec(ctx, &spec).await
}
