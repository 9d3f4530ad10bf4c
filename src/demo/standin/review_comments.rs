//! What is said on the lines of pull requests.

use http::Method;
use serde_json::{Value, json};

use super::api::{Inside, fields, violation};
use super::payloads;
use super::server::Answer;
use super::state::World;
use crate::domain::review::LineComment;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewCommentView {
    pub id: i64,
    pub repo: String,
    pub pull: i64,
    pub author: String,
    pub body: String,
    pub path: String,
    pub line: i64,
    pub in_reply_to: Option<i64>,
    /// The review that it came with.
    pub review: Option<i64>,
    pub is_resolved: bool,
    pub created_at: String,
}

/// A person speaks of a line. Gives the comment's id.
pub(super) fn say(world: &mut World, mut comment: ReviewCommentView) -> i64 {
    world.user(&comment.author);
    (comment.id, comment.created_at) = (world.fresh_id(), world.now());
    let id = comment.id;
    world.review_comments.insert(id, comment);
    id
}

/// What a review of the bot says of a line.
pub(super) fn say_in_review(world: &mut World, (repo, pull, review): (&str, i64, i64), comment: &LineComment) {
    let said = ReviewCommentView {
        id: 0,
        repo: repo.to_owned(),
        pull,
        author: world.bot(),
        body: comment.body.clone(),
        path: comment.path.clone(),
        line: comment.line,
        in_reply_to: None,
        review: Some(review),
        is_resolved: false,
        created_at: String::new(),
    };
    say(world, said);
}

pub(super) fn comment_json(world: &World, comment: &ReviewCommentView) -> Value {
    let association =
        world.repository(&comment.repo).map_or("NONE", |place| payloads::association(place, &comment.author));
    json!({
        "id": comment.id, "body": comment.body, "path": comment.path, "line": comment.line,
        "diff_hunk": format!("@@ -1,1 +1,1 @@\n+line {}", comment.line), "in_reply_to_id": comment.in_reply_to,
        "pull_request_review_id": comment.review, "user": payloads::user(world, &comment.author),
        "author_association": association, "created_at": comment.created_at, "updated_at": comment.created_at,
        "html_url": format!("{}/{}/pull/{}#discussion_r{}", world.url, comment.repo, comment.pull, comment.id),
    })
}

/// `/pulls/N/comments…`
pub(super) fn answer(world: &mut World, inside: &Inside<'_>, number: &str, rest: &[&str]) -> Answer {
    let number: i64 = number.parse().unwrap_or_default();
    match (&inside.asked.method, rest) {
        (&Method::GET, []) => {
            let of_pull = |comment: &&ReviewCommentView| comment.repo == inside.repo && comment.pull == number;
            let list: Vec<Value> =
                world.review_comments.values().filter(of_pull).map(|comment| comment_json(world, comment)).collect();
            Answer::json(200, &Value::Array(list))
        }
        (&Method::POST, [id, "replies"]) => {
            let body = fields(world, inside.asked, &["body"]);
            let Some(first) = id.parse().ok().and_then(|id: i64| world.review_comments.get(&id)).cloned() else {
                return Answer::refused(404, "Not Found");
            };
            if first.in_reply_to.is_some() {
                return violation(world, inside.asked, 422, "a reply to a reply");
            }
            let text = body["body"].as_str().unwrap_or_default().to_owned();
            let author = world.bot();
            let reply = ReviewCommentView { author, body: text, in_reply_to: Some(first.id), review: None, ..first };
            let id = say(world, reply);
            let made = world.review_comments.get(&id).map(|made| comment_json(world, made));
            Answer::json(201, &made.unwrap_or_default())
        }
        _ => violation(world, inside.asked, 404, "an unknown route"),
    }
}

/// The answer to the query for conversations.
pub(super) fn threads(world: &World, body: &Value) -> Answer {
    let variables = &body["variables"];
    let text = |name: &str| variables[name].as_str().unwrap_or_default();
    let repo = format!("{}/{}", text("owner"), text("name"));
    let number = variables["number"].as_i64().unwrap_or_default();
    let firsts = world.review_comments.values().filter(|comment| {
        comment.repo.eq_ignore_ascii_case(&repo) && comment.pull == number && comment.in_reply_to.is_none()
    });
    let nodes: Vec<Value> = firsts.map(|first| thread_json(world, first)).collect();
    let threads = json!({ "pageInfo": { "hasNextPage": false, "endCursor": null }, "nodes": nodes });
    let data = json!({ "repository": { "pullRequest": { "reviewThreads": threads } } });
    Answer::json(200, &json!({ "data": data }))
}

/// GraphQL names an App without `[bot]`.
fn thread_json(world: &World, first: &ReviewCommentView) -> Value {
    let of_thread =
        world.review_comments.values().filter(|one| one.id == first.id || one.in_reply_to == Some(first.id));
    let comments: Vec<Value> = of_thread
        .map(|one| {
            let kind = if one.author.ends_with("[bot]") { "Bot" } else { "User" };
            let down = world.reactions_on(&format!("review:{}", one.id));
            let down = down.iter().filter(|one| one.content == "-1");
            let down: Vec<Value> = down.map(|one| json!({ "user": { "login": one.author } })).collect();
            let is_member = world.repository(&one.repo).is_some_and(|here| here.permissions.contains_key(&one.author));
            let association = if is_member { "MEMBER" } else { "NONE" };
            json!({
                "databaseId": one.id, "body": one.body, "reactions": { "nodes": down },
                "authorAssociation": association,
                "author": { "__typename": kind, "login": one.author.trim_end_matches("[bot]") },
            })
        })
        .collect();
    json!({ "id": format!("PRRT_{}", first.id), "isResolved": first.is_resolved, "comments": { "nodes": comments } })
}

/// The answer to the mutation that settles a conversation.
pub(super) fn settle(world: &mut World, body: &Value) -> Answer {
    let id = body["variables"]["id"].as_str().and_then(|id| id.strip_prefix("PRRT_")?.parse::<i64>().ok());
    let Some(first) = id.and_then(|id| world.review_comments.get_mut(&id)) else {
        let errors = json!([{ "type": "NOT_FOUND", "message": "Could not resolve to a node" }]);
        return Answer::json(200, &json!({ "data": null, "errors": errors }));
    };
    first.is_resolved = true;
    Answer::json(200, &json!({ "data": { "resolveReviewThread": { "thread": { "isResolved": true } } } }))
}
