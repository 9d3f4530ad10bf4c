//! The two mutations in use: `createCommitOnBranch`, with its compare-and-swap, and the one that takes a
//! pull request out of draft.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::git::{self, TreeEdit};
use super::review_comments;
use super::server::{Answer, Asked};
use super::state::World;
use super::tokens::Token;

pub(super) fn error(kind: &str, message: &str) -> Answer {
    let errors = json!([{ "type": kind, "path": ["createCommitOnBranch"], "message": message }]);
    Answer::json(200, &json!({ "data": { "createCommitOnBranch": null }, "errors": errors }))
}

pub(super) async fn answer(world: &mut World, asked: &Asked, token: &Token) -> Answer {
    let body = asked.json();
    if body["query"].as_str().unwrap_or_default().contains("markPullRequestReadyForReview") {
        return ready(world, &body, token);
    }
    if body["query"].as_str().unwrap_or_default().contains("reviewThreads(first:") {
        return review_comments::threads(world, &body);
    }
    if body["query"].as_str().unwrap_or_default().contains("closingIssuesReferences(") {
        return closing(world, &body);
    }
    if body["query"].as_str().unwrap_or_default().contains("resolveReviewThread(") {
        if !token.allows("pull_requests", "write") {
            return error("FORBIDDEN", "Resource not accessible by integration");
        }
        return review_comments::settle(world, &body);
    }
    if !body["query"].as_str().unwrap_or_default().contains("createCommitOnBranch(input: $input)") {
        world.violations.push("an unknown GraphQL query".to_owned());
        return error("BAD", "unknown query");
    }
    let input = &body["variables"]["input"];
    let name = input["branch"]["repositoryNameWithOwner"].as_str().unwrap_or_default();
    let Some(repository) = world.repository(name) else { return error("NOT_FOUND", "no such repository") };
    if !token.repositories.contains(&repository.id) || !token.allows("contents", "write") {
        world.violations.push(format!("a commit without the right to: {name}"));
        return error("FORBIDDEN", "Resource not accessible by integration");
    }
    let dir = repository.dir.clone();
    match commit(&dir, input).await {
        Ok(oid) => committed(&oid),
        Err(answer) => answer,
    }
}

/// Issues that a pull request's text says it closes.
fn closing(world: &World, body: &Value) -> Answer {
    let variables = &body["variables"];
    let text = |key: &str| variables[key].as_str().unwrap_or_default().to_owned();
    let found = world.repository(&format!("{}/{}", text("owner"), text("name")));
    let issues =
        found.and_then(|repository| {
            let pull = repository.issues.get(&variables["number"].as_i64()?)?;
            let closes = |number: i64| pull.body.contains(&format!("Closes #{number}."));
            let issues = repository.issues.values().filter(|issue| closes(issue.number));
            Some(issues.map(|issue| json!({
            "number": issue.number, "title": issue.title, "body": issue.body, "createdAt": issue.created_at,
            "lastEditedAt": null, "authorAssociation": "NONE", "author": { "login": issue.author },
            "repository": { "databaseId": repository.id },
        })).collect::<Vec<_>>())
        });
    let nodes = json!({ "closingIssuesReferences": { "nodes": issues.unwrap_or_default() } });
    Answer::json(200, &json!({ "data": { "repository": { "pullRequest": nodes } } }))
}

pub(super) fn committed(oid: &str) -> Answer {
    Answer::json(200, &json!({ "data": { "createCommitOnBranch": { "commit": { "oid": oid } } } }))
}

fn ready(world: &mut World, body: &Value, token: &Token) -> Answer {
    let id = body["variables"]["id"].as_str().unwrap_or_default();
    let number: i64 = id.strip_prefix("PR_").and_then(|number| number.parse().ok()).unwrap_or_default();
    let may = |id: i64| token.repositories.contains(&id) && token.allows("pull_requests", "write");
    let repository = world.repositories.values_mut().find(|repository| may(repository.id));
    let pull = repository.and_then(|repository| repository.issues.get_mut(&number)?.pull.as_mut());
    let Some(pull) = pull else { return error("NOT_FOUND", "Could not resolve to a node") };
    pull.draft = false;
    let data = json!({ "markPullRequestReadyForReview": { "pullRequest": { "isDraft": false } } });
    Answer::json(200, &json!({ "data": data }))
}

pub(super) async fn commit(dir: &std::path::Path, input: &Value) -> Result<String, Answer> {
    let failed = |failure: std::io::Error| error("UNPROCESSABLE", &failure.to_string());
    let branch = input["branch"]["branchName"].as_str().unwrap_or_default();
    let expected = input["expectedHeadOid"].as_str().unwrap_or_default();
    let Some(head) = git::head(dir, branch).await else {
        return Err(error("NOT_FOUND", &format!("Could not resolve to a Ref with the name {branch}")));
    };
    if head != expected {
        let text = format!("Expected branch to point to \"{expected}\" but it did not. Pull and try again.");
        return Err(error("STALE_DATA", &text));
    }
    let mut edits = Vec::new();
    for added in input["fileChanges"]["additions"].as_array().into_iter().flatten() {
        let bytes = STANDARD
            .decode(added["contents"].as_str().unwrap_or_default())
            .map_err(std::io::Error::other)
            .map_err(failed)?;
        let id = git::blob(dir, &bytes).await.map_err(failed)?;
        edits.push(TreeEdit {
            path: added["path"].as_str().unwrap_or_default().to_owned(),
            entry: Some(("100644".to_owned(), id)),
        });
    }
    for deleted in input["fileChanges"]["deletions"].as_array().into_iter().flatten() {
        edits.push(TreeEdit { path: deleted["path"].as_str().unwrap_or_default().to_owned(), entry: None });
    }
    let tree = git::tree(dir, Some(&head), &edits).await.map_err(failed)?;
    let message = &input["message"];
    let text = format!(
        "{}\n\n{}",
        message["headline"].as_str().unwrap_or_default(),
        message["body"].as_str().unwrap_or_default()
    );
    let made = git::commit(dir, &tree, &[&head], &text).await.map_err(failed)?;
    git::move_branch(dir, branch, &made, &head).await.map_err(failed)?;
    Ok(made)
}
