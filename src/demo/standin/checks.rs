//! Check runs, files, labels and requests for reviews.

use http::Method;
use serde_json::{Value, json};

use super::api::{Inside, fields, need, violation};
use super::git;
use super::server::{Answer, Asked};
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
    /// Made by somebody else: what the job printed, if it was one of GitHub Actions.
    pub log_of_other: Option<String>,
}

/// GitHub Actions, in a check run.
const OTHER_APP: i64 = 15368;
const OUR_APP: i64 = 42;

fn check_json(check: &CheckView) -> Value {
    let status = if check.conclusion.is_some() { "completed" } else { "in_progress" };
    json!({
        "id": check.id, "name": check.name, "head_sha": check.commit, "external_id": check.external_id,
        "status": status, "conclusion": check.conclusion,
        "app": { "id": if check.log_of_other.is_some() { OTHER_APP } else { OUR_APP } },
        "details_url": format!("https://github.com/{}/actions/runs/7/job/{}", check.repo, check.id),
        "output": { "title": check.title, "summary": check.summary },
    })
}

/// `/actions/jobs/…/logs`: the address of the storage.
pub(super) fn job_log(world: &mut World, inside: &Inside<'_>) -> Answer {
    if let Err(answer) = need(world, inside, "actions", "read") {
        return answer;
    }
    match inside.rest.get(2).and_then(|id| world.checks.get(&id.parse().ok()?)) {
        Some(check) if check.log_of_other.is_some() => {
            Answer::redirect(&format!("{}/storage/logs/{}", world.url, check.id))
        }
        _ => Answer::refused(404, "Not Found"),
    }
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
            let number = |name: &str| inside.asked.query(name).and_then(|text| text.parse::<usize>().ok());
            let (size, page) = (number("per_page").unwrap_or(30).min(100), number("page").unwrap_or(1).max(1));
            let found: Vec<Value> = world.checks.values().filter(of_commit).map(check_json).collect();
            let shown: Vec<&Value> = found.iter().skip((page - 1) * size).take(size).collect();
            Answer::json(200, &json!({ "total_count": found.len(), "check_runs": shown }))
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

/// What a job printed. A token that comes here has gone too far.
pub(super) fn storage(world: &World, asked: &Asked, id: &str) -> Answer {
    let log = id.parse().ok().and_then(|id: i64| world.checks.get(&id)?.log_of_other.clone());
    match log {
        Some(log) if asked.headers.get("authorization").is_none() => Answer::html(200, log),
        _ => Answer::empty(400),
    }
}

/// A file of a comment: open to all for public repositories, else with a signature.
pub(super) fn attached(world: &World, asked: &Asked, name: &str) -> Answer {
    let is_open = world.repositories.values().all(|repository| !repository.private);
    let is_signed = asked.query("jwt") == Some("signed");
    match world.attached.get(name) {
        Some(bytes) if (is_open || is_signed) && asked.headers.get("authorization").is_none() => {
            Answer { status: 200, headers: Vec::new(), body: bytes.clone() }
        }
        _ => Answer::empty(404),
    }
}
