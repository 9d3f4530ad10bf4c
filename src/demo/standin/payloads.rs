//! Webhook payloads, in the shape of GitHub's published examples, with the fields that matter.

use serde_json::{Value, json};

use super::state::{Comment, Issue, Repository, World};

pub(super) fn user(world: &World, login: &str) -> Value {
    let kind = if login.ends_with("[bot]") { "Bot" } else { "User" };
    json!({ "login": login, "id": world.users.get(login).copied().unwrap_or(1), "type": kind, "site_admin": false })
}

pub(super) fn association(repository: &Repository, login: &str) -> &'static str {
    match repository.permissions.get(login).map(String::as_str) {
        Some("admin") => "OWNER",
        Some("write" | "maintain") => "COLLABORATOR",
        _ => "NONE",
    }
}

pub(super) fn issue(world: &World, repository: &Repository, issue: &Issue) -> Value {
    let mut value = json!({
        "id": issue.id,
        "number": issue.number,
        "title": issue.title,
        "body": issue.body,
        "state": "open",
        "locked": issue.locked,
        "user": user(world, &issue.author),
        "author_association": association(repository, &issue.author),
        "created_at": issue.created_at,
        "updated_at": issue.created_at,
        "html_url": format!("{}/{}/issues/{}", world.url, repository.name, issue.number),
        "performed_via_github_app": null,
    });
    if issue.pull.is_some() {
        value["pull_request"] =
            json!({ "html_url": format!("{}/{}/pull/{}", world.url, repository.name, issue.number) });
    }
    value
}

pub(super) fn comment(world: &World, repository: &Repository, comment: &Comment) -> Value {
    json!({
        "id": comment.id,
        "body": comment.body,
        "user": user(world, &comment.author),
        "author_association": association(repository, &comment.author),
        "created_at": comment.created_at,
        "updated_at": comment.updated_at,
        "html_url": format!("{}/{}/issues/{}#issuecomment-{}", world.url, repository.name, comment.issue, comment.id),
        "performed_via_github_app": null,
    })
}

pub(super) fn repository(world: &World, repository: &Repository) -> Value {
    let owner = repository.name.split('/').next().unwrap_or_default();
    json!({
        "id": repository.id,
        "name": repository.name.split('/').nth(1).unwrap_or_default(),
        "full_name": repository.name,
        "private": repository.private,
        "visibility": if repository.private { "private" } else { "public" },
        "owner": user(world, owner),
        "default_branch": "main",
        "html_url": format!("{}/{}", world.url, repository.name),
    })
}

pub(super) fn comment_created(world: &World, id: i64) -> Value {
    let Some(found) = world.comments.get(&id) else { return Value::Null };
    let Some(place) = world.repository(&found.repo) else { return Value::Null };
    let Some(about) = place.issues.get(&found.issue) else { return Value::Null };
    json!({
        "action": "created",
        "issue": issue(world, place, about),
        "comment": comment(world, place, found),
        "repository": repository(world, place),
        "sender": user(world, &found.author),
        "installation": { "id": world.installation, "node_id": "MDIz" },
    })
}

/// A pull request, as its own events show it.
pub(super) fn pull(world: &World, repository: &Repository, issue: &Issue) -> Value {
    json!({
        "number": issue.number, "title": issue.title, "body": issue.body, "state": "open",
        "user": user(world, &issue.author), "author_association": association(repository, &issue.author),
        "created_at": issue.created_at,
    })
}

pub(super) fn review_comment_created(world: &World, id: i64) -> Value {
    let Some(found) = world.review_comments.get(&id) else { return Value::Null };
    let Some(place) = world.repository(&found.repo) else { return Value::Null };
    let Some(about) = place.issues.get(&found.pull) else { return Value::Null };
    json!({
        "action": "created",
        "comment": super::review_comments::comment_json(world, found),
        "pull_request": pull(world, place, about),
        "repository": repository(world, place),
        "sender": user(world, &found.author),
        "installation": { "id": world.installation, "node_id": "MDIz" },
    })
}

pub(super) fn review_submitted(world: &World, repo: &str, number: i64, login: &str, review: (i64, &str)) -> Value {
    let Some(place) = world.repository(repo) else { return Value::Null };
    let Some(about) = place.issues.get(&number) else { return Value::Null };
    json!({
        "action": "submitted",
        "review": { "id": review.0, "body": review.1, "user": user(world, login), "submitted_at": world.now(), "state": "commented" },
        "pull_request": pull(world, place, about),
        "repository": repository(world, place),
        "sender": user(world, login),
        "installation": { "id": world.installation, "node_id": "MDIz" },
    })
}

/// An event about an issue or a pull request by itself. `more`: fields of this kind of event.
pub(super) fn about(world: &World, repo: &str, number: i64, event: (&str, &str, &str), more: &Value) -> Value {
    let Some(place) = world.repository(repo) else { return Value::Null };
    let Some(found) = place.issues.get(&number) else { return Value::Null };
    let (action, login, head) = event;
    let mut payload = json!({
        "action": action, "repository": repository(world, place), "sender": user(world, login),
        "installation": { "id": world.installation, "node_id": "MDIz" },
    });
    let (name, mut about) = match &found.pull {
        None => ("issue", issue(world, place, found)),
        Some(branches) => {
            let mut about = pull(world, place, found);
            (about["draft"], about["head"]) = (json!(branches.draft), json!({ "sha": head }));
            ("pull_request", about)
        }
    };
    about["updated_at"] = json!(world.now());
    for (key, value) in more.as_object().into_iter().flatten() {
        match key.as_str() {
            "requested_reviewers" | "requested_teams" => about[key] = value.clone(),
            _ => payload[key] = value.clone(),
        }
    }
    payload[name] = about;
    payload
}

pub(super) fn issue_opened(world: &World, repo: &str, number: i64) -> Value {
    let Some(place) = world.repository(repo) else { return Value::Null };
    let Some(about) = place.issues.get(&number) else { return Value::Null };
    json!({
        "action": "opened",
        "issue": issue(world, place, about),
        "repository": repository(world, place),
        "sender": user(world, &about.author),
        "installation": { "id": world.installation, "node_id": "MDIz" },
    })
}
