//! Issues, comments, reactions.

use http::Method;
use serde_json::{Value, json};

use super::api::{Inside, fields, need, violation};
use super::payloads;
use super::server::Answer;
use super::state::{Comment, Reaction, World};
use crate::domain::ids::Millis;
use crate::domain::markdown::MAX_BODY_CHARS;

pub(super) fn answer(world: &mut World, inside: &Inside<'_>) -> Answer {
    let answer = plain_answer(world, inside);
    let accepted = inside.asked.headers.get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.contains("full+json") { rendered(world, answer) } else { answer }
}

/// Texts as people see them, too: there, addresses of attached files are signed.
fn rendered(world: &World, mut answer: Answer) -> Answer {
    let Ok(mut value) = serde_json::from_slice::<Value>(&answer.body) else { return answer };
    let texts = match &mut value {
        Value::Array(texts) => texts.iter_mut().collect::<Vec<_>>(),
        one => vec![one],
    };
    for text in texts {
        let mut html = text["body"].as_str().unwrap_or_default().to_owned();
        for name in world.attached.keys() {
            let address = format!("{}/user-attachments/assets/{name}", world.url);
            html = html.replace(&address, &format!("<img src=\"{address}?x=1&amp;jwt=signed\">"));
        }
        text["body_html"] = json!(html);
    }
    answer.body = value.to_string().into_bytes();
    answer
}

fn plain_answer(world: &mut World, inside: &Inside<'_>) -> Answer {
    let level = if inside.asked.method == Method::GET { "read" } else { "write" };
    if let Err(answer) = need(world, inside, "issues", level) {
        return answer;
    }
    let words: Vec<&str> = inside.rest.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["issues", "comments", id] => one_comment(world, inside, id),
        ["issues", "comments", id, "reactions", rest @ ..] => reactions(world, inside, &format!("comment:{id}"), rest),
        ["issues", number, "reactions", rest @ ..] => {
            let subject = format!("issue:{}#{number}", inside.repo.to_ascii_lowercase());
            reactions(world, inside, &subject, rest)
        }
        ["issues", number, "labels"] if inside.asked.method == Method::POST => {
            let body = fields(world, inside.asked, &["labels"]);
            let names = body["labels"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let labels: Vec<String> = names.map(|name| format!("{}#{number} {name}", inside.repo)).collect();
            world.labels.extend(labels);
            Answer::json(200, &json!([]))
        }
        ["issues", number, "comments"] => comments(world, inside, number),
        ["issues", number] if inside.asked.method == Method::GET => {
            let found = world.repository(&inside.repo).and_then(|repository| {
                let issue = repository.issues.get(&number.parse().ok()?)?;
                Some(payloads::issue(world, repository, issue))
            });
            found.map_or_else(|| Answer::refused(404, "Not Found"), |issue| Answer::json(200, &issue))
        }
        _ => violation(world, inside.asked, 404, "an unknown route"),
    }
}

fn one_comment(world: &mut World, inside: &Inside<'_>, id: &str) -> Answer {
    let Some(comment) = id.parse().ok().and_then(|id: i64| world.comments.get(&id)).cloned() else {
        return Answer::refused(404, "Not Found");
    };
    match inside.asked.method {
        Method::PATCH => {
            if comment.author != world.bot() {
                return violation(world, inside.asked, 403, "somebody else's comment edited");
            }
            match text_of(world, inside) {
                Ok(body) => {
                    world.edit_comment(comment.id, &body);
                    shown(world, inside, comment.id, 200)
                }
                Err(answer) => answer,
            }
        }
        Method::GET => shown(world, inside, comment.id, 200),
        _ => violation(world, inside.asked, 405, "an unknown method"),
    }
}

fn text_of(world: &mut World, inside: &Inside<'_>) -> Result<String, Answer> {
    let body = fields(world, inside.asked, &["body"]);
    let text = body["body"].as_str().unwrap_or_default().to_owned();
    if text.is_empty() || text.chars().count() > MAX_BODY_CHARS {
        return Err(Answer::refused(422, "Validation Failed: body is too long (maximum is 65536 characters)"));
    }
    Ok(text)
}

fn shown(world: &World, inside: &Inside<'_>, id: i64, status: u16) -> Answer {
    let found = world
        .repository(&inside.repo)
        .and_then(|repository| Some(payloads::comment(world, repository, world.comments.get(&id)?)));
    found.map_or_else(|| Answer::refused(404, "Not Found"), |comment| Answer::json(status, &comment))
}

fn comments(world: &mut World, inside: &Inside<'_>, number: &str) -> Answer {
    let issue = world.repository(&inside.repo).and_then(|repository| repository.issues.get(&number.parse().ok()?));
    let Some(issue) = issue.cloned() else { return Answer::refused(404, "Not Found") };
    match inside.asked.method {
        Method::GET => list_comments(world, inside, issue.number),
        Method::POST => {
            if issue.locked {
                return Answer::refused(403, "Unable to create comment because issue is locked.");
            }
            match text_of(world, inside) {
                Ok(body) => {
                    let bot = world.bot();
                    let id = world.add_comment(&inside.repo, issue.number, &bot, &body);
                    shown(world, inside, id, 201)
                }
                Err(answer) => answer,
            }
        }
        _ => violation(world, inside.asked, 405, "an unknown method"),
    }
}

/// Pages of GitHub's size, with a link to the next.
fn list_comments(world: &World, inside: &Inside<'_>, issue: i64) -> Answer {
    let asked = inside.asked;
    let since = asked.query("since").and_then(Millis::parse_rfc3339);
    let is_asked_for = |comment: &&Comment| {
        comment.repo.eq_ignore_ascii_case(&inside.repo)
            && comment.issue == issue
            && since.is_none_or(|since| Millis::parse_rfc3339(&comment.updated_at).is_some_and(|at| at >= since))
    };
    let all: Vec<&Comment> = world.comments.values().filter(is_asked_for).collect();
    let number = |name: &str, default: usize| asked.query(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (size, page) = (number("per_page", 30).min(100), number("page", 1).max(1));
    let Some(repository) = world.repository(&inside.repo) else { return Answer::refused(404, "Not Found") };
    let shown: Vec<Value> = all
        .iter()
        .skip((page - 1) * size)
        .take(size)
        .map(|comment| payloads::comment(world, repository, comment))
        .collect();
    let mut answer = Answer::json(200, &Value::Array(shown));
    if all.len() > page * size {
        let since = asked.query("since").map(|since| format!("&since={since}")).unwrap_or_default();
        let next = format!("{}/api/v3{}?per_page={size}{since}&page={}", world.url, asked.path, page + 1);
        answer.headers.push(("link", format!("<{next}>; rel=\"next\"")));
    }
    answer
}

pub(super) fn reactions(world: &mut World, inside: &Inside<'_>, subject: &str, rest: &[&str]) -> Answer {
    let bot = world.bot();
    match (&inside.asked.method, rest) {
        (&Method::GET, []) => {
            let content = inside.asked.query("content");
            let found: Vec<Value> = world
                .reactions
                .iter()
                .filter(|(_, one)| one.subject == subject && content.is_none_or(|content| one.content == content))
                .map(
                    |(id, one)| json!({ "id": id, "user": payloads::user(world, &one.author), "content": one.content }),
                )
                .collect();
            Answer::json(200, &Value::Array(found))
        }
        (&Method::POST, []) => {
            let content = fields(world, inside.asked, &["content"])["content"].as_str().unwrap_or_default().to_owned();
            if !["+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"].contains(&content.as_str()) {
                return violation(world, inside.asked, 422, "an unknown reaction");
            }
            let same = |one: &Reaction| one.subject == subject && one.author == bot && one.content == content;
            if let Some((id, _)) = world.reactions.iter().find(|(_, one)| same(one)) {
                return Answer::json(200, &json!({ "id": id, "content": content }));
            }
            let id = world.fresh_id();
            world.reactions.insert(id, Reaction { subject: subject.to_owned(), author: bot, content: content.clone() });
            Answer::json(201, &json!({ "id": id, "content": content }))
        }
        (&Method::DELETE, [id]) => match id.parse().ok().and_then(|id: i64| world.reactions.remove(&id)) {
            Some(_) => Answer::empty(204),
            None => Answer::refused(404, "Not Found"),
        },
        _ => violation(world, inside.asked, 404, "an unknown route"),
    }
}
