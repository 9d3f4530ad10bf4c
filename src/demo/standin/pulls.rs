//! Pull requests.

use http::Method;
use serde_json::{Value, json};

use super::api::{Inside, fields, need, violation};
use super::issues;
use super::payloads;
use super::review_comments;
use super::server::Answer;
use super::state::{PullBranches, ReviewView, World};
use super::{forks, git};
use crate::domain::diff::Diff;
use crate::domain::review::LineComment;

pub(super) async fn answer(world: &mut World, inside: &Inside<'_>) -> Answer {
    let level = if inside.asked.method == Method::GET { "read" } else { "write" };
    if let Err(answer) = need(world, inside, "pull_requests", level) {
        return answer;
    }
    let words: Vec<&str> = inside.rest.iter().map(String::as_str).collect();
    match (&inside.asked.method, words.as_slice()) {
        (_, ["pulls", "comments", id, "reactions", rest @ ..]) => {
            issues::reactions(world, inside, &format!("review:{id}"), rest)
        }
        (_, ["pulls", number, "comments", rest @ ..]) => review_comments::answer(world, inside, number, rest),
        (&Method::GET, ["pulls"]) => {
            let wanted = inside.asked.query("head").and_then(|head| head.split_once(':')).map(|(_, branch)| branch);
            let found: Vec<Value> = world
                .pulls_of(&inside.repo)
                .into_iter()
                .filter(|pull| !pull.closed && wanted.is_none_or(|wanted| pull.head == wanted))
                .map(|pull| pull_json(world, &inside.repo, pull.number))
                .collect();
            Answer::json(200, &Value::Array(found))
        }
        (&Method::POST, ["pulls"]) => create(world, inside).await,
        (&Method::GET, ["pulls", number]) => one(world, inside, number.parse().unwrap_or_default()).await,
        (&Method::DELETE, ["pulls", number, "requested_reviewers"]) => {
            let body = fields(world, inside.asked, &["reviewers", "team_reviewers"]);
            let both =
                ["reviewers", "team_reviewers"].into_iter().flat_map(|key| body[key].as_array().into_iter().flatten());
            let number = number.parse().unwrap_or_default();
            let ended = both.filter_map(Value::as_str).map(|name| (number, name.to_owned())).collect::<Vec<_>>();
            world.ended_requests.extend(ended);
            Answer::json(200, &json!({ "number": number }))
        }
        (&Method::GET, ["pulls", number, "reviews"]) => {
            let found = world.reviews.iter().filter(|review| review.is_of(&inside.repo, number));
            Answer::json(200, &Value::Array(found.map(|review| review_json(world, review)).collect()))
        }
        (&Method::POST, ["pulls", number, "reviews"]) => review(world, inside, number).await,
        _ => violation(world, inside.asked, 404, "an unknown route"),
    }
}

fn pull_json(world: &World, repo: &str, number: i64) -> Value {
    let draft = world.pulls_of(repo).iter().any(|pull| pull.number == number && pull.draft);
    json!({
        "number": number, "node_id": format!("PR_{number}"), "draft": draft, "state": "open",
        "html_url": format!("{}/{repo}/pull/{number}", world.url),
    })
}

/// One pull request, with where its ends are.
async fn one(world: &World, inside: &Inside<'_>, number: i64) -> Answer {
    let found = world.pulls_of(&inside.repo).into_iter().find(|pull| pull.number == number);
    let (Some(pull), Some(repository)) = (found, world.repository(&inside.repo)) else {
        return Answer::refused(404, "Not Found");
    };
    let mut value = pull_json(world, &inside.repo, number);
    let (head, base) = (forks::head_of(repository, number).await, git::head(&repository.dir, &pull.base).await);
    let branches = repository.issues.get(&number).and_then(|issue| issue.pull.as_ref());
    let Some(branches) = branches else { return Answer::refused(404, "Not Found") };
    let is_open = branches.fork.as_ref().is_some_and(|fork| fork.view.is_open_to_maintainers);
    value["state"] = json!(if pull.closed { "closed" } else { "open" });
    value["maintainer_can_modify"] = json!(is_open);
    value["head"] = forks::head_json(repository, branches, &head.unwrap_or_default());
    value["base"] = json!({ "ref": pull.base, "sha": base.unwrap_or_default(), "repo": { "id": repository.id } });
    Answer::json(200, &value)
}

fn review_json(world: &World, review: &ReviewView) -> Value {
    let user = payloads::user(world, &world.bot());
    json!({ "id": review.id, "body": review.body, "state": "COMMENTED", "commit_id": review.commit, "user": user })
}

/// Anything but a comment would count as the bot's approval.
async fn review(world: &mut World, inside: &Inside<'_>, number: &str) -> Answer {
    let body = fields(world, inside.asked, &["commit_id", "event", "body", "comments"]);
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    if text("event") != "COMMENT" {
        return violation(world, inside.asked, 422, "a review that is no comment");
    }
    let pull: i64 = number.parse().unwrap_or_default();
    let comments: Vec<LineComment> = serde_json::from_value(body["comments"].clone()).unwrap_or_default();
    if !comments.is_empty() && !are_on_diff(world, inside, (pull, &text("commit_id")), &comments).await {
        return Answer::refused(422, "Validation Failed: Pull request review thread line must be part of the diff");
    }
    let id = world.fresh_id();
    let (repo, commit) = (inside.repo.clone(), text("commit_id"));
    for comment in &comments {
        review_comments::say_in_review(world, (&repo, pull, id), comment);
    }
    let made = ReviewView { id, repo, pull, commit, body: text("body"), comments };
    let answer = review_json(world, &made);
    world.reviews.push(made);
    Answer::json(200, &answer)
}

/// GitHub takes comments only on lines that it shows.
async fn are_on_diff(world: &World, inside: &Inside<'_>, at: (i64, &str), comments: &[LineComment]) -> bool {
    let pull = world.pulls_of(&inside.repo).into_iter().find(|pull| pull.number == at.0);
    let (Some(pull), Some(repository)) = (pull, world.repository(&inside.repo)) else { return false };
    let diff = git::diff(&repository.dir, &pull.base, at.1).await.unwrap_or_default();
    let lines = Diff::read(&diff);
    comments.iter().all(|one| lines.holds(&one.path, one.start_line.unwrap_or(one.line), one.line))
}

async fn create(world: &mut World, inside: &Inside<'_>) -> Answer {
    let body = fields(world, inside.asked, &["title", "head", "base", "body", "draft"]);
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let (head, base) = (text("head"), text("base"));
    let Some(repository) = world.repository(&inside.repo) else { return Answer::refused(404, "Not Found") };
    let (Some(head_sha), Some(base_sha)) =
        (git::head(&repository.dir, &head).await, git::head(&repository.dir, &base).await)
    else {
        return Answer::refused(422, "Validation Failed: head or base is invalid");
    };
    if head_sha == base_sha {
        return Answer::refused(422, "Validation Failed: No commits between base and head");
    }
    if world.pulls_of(&inside.repo).iter().any(|pull| !pull.closed && pull.head == head) {
        return Answer::refused(422, "Validation Failed: A pull request already exists for this branch");
    }
    let draft = body["draft"].as_bool() == Some(true);
    let bot = world.bot();
    let branches = PullBranches { head, base, draft, closed: false, fork: None };
    let number = world.open(&inside.repo, &bot, (&text("title"), &text("body")), Some(branches));
    Answer::json(201, &pull_json(world, &inside.repo, number))
}
