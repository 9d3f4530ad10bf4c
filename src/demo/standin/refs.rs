//! The repository itself: what it is, who may write, and the Git data API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::json;

use super::api::{Inside, fields, need, violation};
use super::git::{self, TreeEdit};
use super::payloads;
use super::server::Answer;
use super::state::World;

pub(super) async fn answer(world: &mut World, inside: &Inside<'_>) -> Answer {
    let words: Vec<&str> = inside.rest.iter().map(String::as_str).collect();
    let (permission, level) = match (&inside.asked.method, words.first()) {
        (_, None | Some(&"collaborators")) => ("metadata", "read"),
        (&Method::GET, _) => ("contents", "read"),
        _ => ("contents", "write"),
    };
    if let Err(answer) = need(world, inside, permission, level) {
        return answer;
    }
    let Some(repository) = world.repository(&inside.repo) else { return Answer::refused(404, "Not Found") };
    let dir = repository.dir.clone();
    match (&inside.asked.method, words.as_slice()) {
        (&Method::GET, []) => Answer::json(200, &payloads::repository(world, repository)),
        (&Method::GET, ["collaborators", login, "permission"]) => {
            let default = if repository.private { "none" } else { "read" };
            let role = repository.permissions.get(*login).map_or(default, String::as_str);
            let permission = match role {
                "maintain" => "write",
                "triage" => "read",
                other => other,
            };
            Answer::json(
                200,
                &json!({ "permission": permission, "role_name": role, "user": payloads::user(world, login) }),
            )
        }
        (&Method::GET, ["compare", ends]) => compare(&dir, ends).await,
        (&Method::GET, ["git", "ref", "heads", branch @ ..]) => match git::head(&dir, &branch.join("/")).await {
            Some(sha) => Answer::json(200, &ref_json(&branch.join("/"), &sha)),
            None => Answer::refused(404, "Not Found"),
        },
        (&Method::GET, ["git", "commits", sha]) => match git::commit_parts(&dir, sha).await {
            Some((tree, parents)) => {
                let message = git::message(&dir, sha).await.unwrap_or_default();
                let parents: Vec<_> = parents.iter().map(|parent| json!({ "sha": parent })).collect();
                Answer::json(
                    200,
                    &json!({ "sha": sha, "message": message, "tree": { "sha": tree }, "parents": parents }),
                )
            }
            None => Answer::refused(404, "Not Found"),
        },
        (&Method::POST, ["git", "refs"]) => create_ref(world, inside, &dir).await,
        (&Method::PATCH, ["git", "refs", "heads", branch @ ..]) => {
            update_ref(world, inside, &dir, &branch.join("/")).await
        }
        (&Method::POST, ["git", "blobs"]) => {
            let body = fields(world, inside.asked, &["content", "encoding"]);
            let bytes = STANDARD.decode(body["content"].as_str().unwrap_or_default()).unwrap_or_default();
            made(git::blob(&dir, &bytes).await)
        }
        (&Method::POST, ["git", "trees"]) => create_tree(world, inside, &dir).await,
        (&Method::POST, ["git", "commits"]) => create_commit(world, inside, &dir).await,
        _ => violation(world, inside.asked, 404, "an unknown route"),
    }
}

fn ref_json(branch: &str, sha: &str) -> serde_json::Value {
    json!({ "ref": format!("refs/heads/{branch}"), "object": { "type": "commit", "sha": sha } })
}

fn made(result: std::io::Result<String>) -> Answer {
    match result {
        Ok(sha) => Answer::json(201, &json!({ "sha": sha })),
        Err(error) => Answer::refused(422, &error.to_string()),
    }
}

async fn compare(dir: &std::path::Path, ends: &str) -> Answer {
    let (old, new) = ends.split_once("...").unwrap_or_default();
    match git::between(dir, old, new).await {
        Ok((is_on_top, files)) => {
            let files: Vec<_> = files.into_iter().map(|name| json!({ "filename": name })).collect();
            let status = if is_on_top { "ahead" } else { "diverged" };
            let merge_base = git::merge_base(dir, old, new).await.unwrap_or_default();
            Answer::json(200, &json!({ "status": status, "files": files, "merge_base_commit": { "sha": merge_base } }))
        }
        Err(error) => Answer::refused(404, &error.to_string()),
    }
}

async fn create_ref(world: &mut World, inside: &Inside<'_>, dir: &std::path::Path) -> Answer {
    let body = fields(world, inside.asked, &["ref", "sha"]);
    let (name, sha) = (body["ref"].as_str().unwrap_or_default(), body["sha"].as_str().unwrap_or_default());
    let Some(branch) = name.strip_prefix("refs/heads/") else {
        return violation(world, inside.asked, 422, "a reference that is no branch");
    };
    if git::head(dir, branch).await.is_some() {
        return Answer::refused(422, "Reference already exists");
    }
    match git::move_branch(dir, branch, sha, "").await {
        Ok(()) => Answer::json(201, &ref_json(branch, sha)),
        Err(error) => Answer::refused(422, &error.to_string()),
    }
}

async fn update_ref(world: &mut World, inside: &Inside<'_>, dir: &std::path::Path, branch: &str) -> Answer {
    let body = fields(world, inside.asked, &["sha", "force"]);
    if body["force"].as_bool() == Some(true) {
        return violation(world, inside.asked, 422, "a forced push");
    }
    let sha = body["sha"].as_str().unwrap_or_default();
    let Some(old) = git::head(dir, branch).await else { return Answer::refused(422, "Reference does not exist") };
    if !git::is_ancestor(dir, &old, sha).await {
        return Answer::refused(422, "Update is not a fast forward");
    }
    match git::move_branch(dir, branch, sha, &old).await {
        Ok(()) => Answer::json(200, &ref_json(branch, sha)),
        Err(error) => Answer::refused(422, &error.to_string()),
    }
}

async fn create_tree(world: &mut World, inside: &Inside<'_>, dir: &std::path::Path) -> Answer {
    let body = fields(world, inside.asked, &["base_tree", "tree"]);
    let edits: Vec<TreeEdit> = body["tree"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| TreeEdit {
            path: entry["path"].as_str().unwrap_or_default().to_owned(),
            entry: entry["sha"]
                .as_str()
                .map(|sha| (entry["mode"].as_str().unwrap_or("100644").to_owned(), sha.to_owned())),
        })
        .collect();
    made(git::tree(dir, body["base_tree"].as_str(), &edits).await)
}

async fn create_commit(world: &mut World, inside: &Inside<'_>, dir: &std::path::Path) -> Answer {
    let body = fields(world, inside.asked, &["message", "tree", "parents"]);
    let parents: Vec<&str> =
        body["parents"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
    let (tree, message) = (body["tree"].as_str().unwrap_or_default(), body["message"].as_str().unwrap_or_default());
    made(git::commit(dir, tree, &parents, message).await)
}
