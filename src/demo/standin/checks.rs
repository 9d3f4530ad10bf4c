//! Check runs, files, labels and requests for reviews.

use http::Method;
use serde_json::{Value, json};

use super::api::{Inside, fields, need, violation};
use super::git;
use super::server::Answer;
use super::state::World;

/// A check run, as a reader of the pull request sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckView {
    pub id: i64,
    pub repo: String,
    pub name: String,
    pub commit: String,
    pub external_id: String,
    pub conclusion: Option<String>,
    pub title: String,
    pub summary: String,
}

fn check_json(check: &CheckView) -> Value {
    let status = if check.conclusion.is_some() { "completed" } else { "in_progress" };
    json!({
        "id": check.id, "name": check.name, "head_sha": check.commit, "external_id": check.external_id,
        "status": status, "conclusion": check.conclusion,
        "output": { "title": check.title, "summary": check.summary },
    })
}

/// `/check-runs…` and `/commits/…/check-runs`
pub(super) fn checks(world: &mut World, inside: &Inside<'_>) -> Answer {
    let level = if inside.asked.method == Method::GET { "read" } else { "write" };
    if let Err(answer) = need(world, inside, "checks", level) {
        return answer;
    }
    let words: Vec<&str> = inside.rest.iter().map(String::as_str).collect();
    match (&inside.asked.method, words.as_slice()) {
        (&Method::GET, ["commits", commit, "check-runs"]) => {
            let name = inside.asked.query("check_name");
            let of_commit = |check: &&CheckView| {
                check.repo == inside.repo && check.commit == *commit && name.is_none_or(|name| check.name == name)
            };
            let found: Vec<Value> = world.checks.values().filter(of_commit).map(check_json).collect();
            Answer::json(200, &json!({ "total_count": found.len(), "check_runs": found }))
        }
        (&Method::POST, ["check-runs"]) => {
            let id = world.fresh_id();
            write(world, inside, CheckView { id, repo: inside.repo.clone(), ..CheckView::default() }, 201)
        }
        (&Method::PATCH, ["check-runs", id]) => match id.parse().ok().and_then(|id: i64| world.checks.get(&id)) {
            Some(found) => {
                let found = CheckView { conclusion: None, ..found.clone() };
                write(world, inside, found, 200)
            }
            None => Answer::refused(404, "Not Found"),
        },
        _ => violation(world, inside.asked, 404, "an unknown route"),
    }
}

fn write(world: &mut World, inside: &Inside<'_>, mut check: CheckView, status: u16) -> Answer {
    let allowed = ["name", "head_sha", "external_id", "details_url", "status", "conclusion", "output"];
    let body = fields(world, inside.asked, &allowed);
    let text = |value: &Value, before: &str| value.as_str().unwrap_or(before).to_owned();
    check.name = text(&body["name"], &check.name);
    check.commit = text(&body["head_sha"], &check.commit);
    check.external_id = text(&body["external_id"], &check.external_id);
    check.conclusion = body["conclusion"].as_str().map(ToOwned::to_owned);
    check.title = text(&body["output"]["title"], &check.title);
    check.summary = text(&body["output"]["summary"], &check.summary);
    if check.conclusion.is_some() != (body["status"] == "completed") {
        return violation(world, inside.asked, 422, "a check run that is neither at work nor at its end");
    }
    let answer = Answer::json(status, &check_json(&check));
    world.checks.insert(check.id, check);
    answer
}

/// `/contents/…`
pub(super) async fn contents(world: &mut World, inside: &Inside<'_>) -> Answer {
    use base64::Engine as _;
    if let Err(answer) = need(world, inside, "contents", "read") {
        return answer;
    }
    let Some(repository) = world.repository(&inside.repo) else { return Answer::refused(404, "Not Found") };
    let path = inside.rest.get(1..).unwrap_or_default().join("/");
    let at = inside.asked.query("ref").unwrap_or("main");
    let sha = git::blob_id(&repository.dir, at, &path).await;
    let (Ok(text), Ok(sha)) = (git::show(&repository.dir, at, &path).await, sha) else {
        return Answer::refused(404, "Not Found");
    };
    let content = base64::engine::general_purpose::STANDARD.encode(text);
    Answer::json(200, &json!({ "type": "file", "path": path, "sha": sha, "encoding": "base64", "content": content }))
}
