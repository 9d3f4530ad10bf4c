//! Files of a sandbox: absolute paths of the machine, mapped into its temporary folder.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use flate2::read::GzDecoder;
use serde_json::json;

use super::Inner;
use super::validate::{self, bad};
use super::wire::{Answer, Asked, Outcome};

const CWD: &str = "/vercel/sandbox";

/// Where a path of the machine lies here. Nothing leads out of the root, links included.
pub fn mapped(root: &Path, cwd: Option<&str>, path: &str) -> Result<PathBuf, Answer> {
    let whole = Path::new(cwd.unwrap_or(CWD)).join(path);
    if !whole.is_absolute() || whole.components().any(|part| part == Component::ParentDir) {
        return Err(bad("the path is not absolute, or leads upwards"));
    }
    let mapped = root.join(whole.strip_prefix("/").unwrap());
    let mut known = mapped.as_path();
    while !known.exists() {
        known = known.parent().unwrap();
    }
    let real = known.canonicalize().unwrap();
    let is_inside = real.starts_with(root.canonicalize().unwrap());
    if is_inside { Ok(mapped) } else { Err(Answer::error(404, "not_found", "the path leads out")) }
}

/// Names and contents of an upload, for assertions.
pub fn describe(body: &[u8]) -> String {
    let mut text = String::new();
    let mut archive = tar::Archive::new(GzDecoder::new(body));
    let Ok(entries) = archive.entries() else { return "broken archive".to_owned() };
    for mut entry in entries.flatten() {
        let mut bytes = Vec::new();
        let _ = entry.read_to_end(&mut bytes);
        let path = entry.path().map(|path| path.display().to_string()).unwrap_or_default();
        text.push_str(&format!("{path}\n{}\n", String::from_utf8_lossy(&bytes)));
    }
    text
}

pub async fn write(inner: &Arc<Inner>, asked: &Asked, session: &str) -> Outcome {
    let kind = asked.headers.get("content-type").and_then(|kind| kind.to_str().ok());
    if kind != Some("application/gzip") {
        return Err(bad("files come as application/gzip"));
    }
    let cwd = asked.headers.get("x-cwd").and_then(|cwd| cwd.to_str().ok()).unwrap_or(CWD).to_owned();
    let mut state = inner.state.lock().await;
    let root = state.by_session(session)?.session.root.path().to_owned();
    drop(state);
    let mut archive = tar::Archive::new(GzDecoder::new(&asked.body[..]));
    let broken = |_| bad("the archive is broken");
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(bad("only files are taken"));
        }
        if entry.header().as_ustar().is_none() {
            return Err(bad("the archive is not ustar"));
        }
        let path = entry.path().map_err(broken)?.into_owned();
        if path.is_absolute() {
            return Err(bad("names in the archive are relative"));
        }
        let to = mapped(&root, Some(&cwd), path.to_str().ok_or_else(|| bad("a name is not text"))?)?;
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&to);
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(broken)?;
        std::fs::write(&to, bytes).unwrap();
        let mode = entry.header().mode().map_err(broken)?;
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    Ok(Answer::json(200, &json!({})))
}

pub async fn read(inner: &Arc<Inner>, asked: &Asked, session: &str) -> Outcome {
    let order: validate::Path = validate::body(asked)?;
    let root = inner.state.lock().await.by_session(session)?.session.root.path().to_owned();
    let path = mapped(&root, order.cwd.as_deref(), &order.path)?;
    if path.is_dir() {
        return Err(bad("this is a directory"));
    }
    match std::fs::read(path) {
        Ok(bytes) => Ok(Answer::bytes(bytes)),
        Err(_) => Err(Answer::error(404, "not_found", "there is no such file")),
    }
}

pub async fn mkdir(inner: &Arc<Inner>, asked: &Asked, session: &str) -> Outcome {
    let order: validate::Path = validate::body(asked)?;
    let root = inner.state.lock().await.by_session(session)?.session.root.path().to_owned();
    let path = mapped(&root, order.cwd.as_deref(), &order.path)?;
    let made = if order.recursive { std::fs::create_dir_all(path) } else { std::fs::create_dir(path) };
    match made {
        Ok(()) => Ok(Answer::json(200, &json!({}))),
        Err(_) => Err(bad("error creating directory")),
    }
}

pub fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
